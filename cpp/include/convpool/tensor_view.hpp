#pragma once

#include <array>
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
  static TensorView nchw(T* data, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    return {data, {n, c, h, w}, {c * h * w, h * w, w, 1}};
  }

  /// A contiguous array in the order N, H, W, C.
  static TensorView nhwc(T* data, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    return {data, {n, c, h, w}, {h * w * c, 1, w * c, c}};
  }

  /// The same array, promised not to be written.
  operator TensorView<const T>() const { return {data, shape, strides}; }

  std::int64_t size(int axis) const { return shape[static_cast<std::size_t>(axis)]; }
  std::int64_t stride(int axis) const { return strides[static_cast<std::size_t>(axis)]; }

  T& operator()(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    return data[n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3]];
  }
};

}  // namespace convpool
