#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace convpool {

/// A four-dimensional array that somebody else owns.
///
/// Axes are always counted (N, C, H, W), whatever the layout in memory: the layout is what the strides say. A
/// channels-last array is the same view with other strides. Strides count elements, not bytes, and may be negative or
/// zero (zero not for a result). `data` points at element (0, 0, 0, 0) and is aligned for T.
///
///     float pixels[2 * 3 * 5 * 7];
///     auto a = convpool::TensorView<float>::nchw(pixels, 2, 3, 5, 7);   // strides 105, 35, 7, 1
///     auto b = convpool::TensorView<float>::nhwc(pixels, 2, 3, 5, 7);   // strides 105, 1, 21, 3
template <class T>
struct TensorView {
  T* data = nullptr;
  std::array<std::int64_t, 4> shape{};
  std::array<std::int64_t, 4> strides{};

  /// A contiguous array in the order N, C, H, W.
  static constexpr TensorView nchw(T* data, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) noexcept {
    return {data, {n, c, h, w}, {c * h * w, h * w, w, 1}};
  }

  /// A contiguous array in the order N, H, W, C.
  static constexpr TensorView nhwc(T* data, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) noexcept {
    return {data, {n, c, h, w}, {h * w * c, 1, w * c, c}};
  }

  /// The same array, promised not to be written.
  constexpr operator TensorView<const T>() const noexcept { return {data, shape, strides}; }

  constexpr std::int64_t size(int axis) const noexcept { return shape[static_cast<std::size_t>(axis)]; }
  constexpr std::int64_t stride(int axis) const noexcept { return strides[static_cast<std::size_t>(axis)]; }

  constexpr T& operator()(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const noexcept {
    return data[n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3]];
  }
};

}  // namespace convpool
