#pragma once

#include <cstdint>
#include <limits>

#include "block_sizes.hpp"
#include "conv2d_algorithm.hpp"
#include "kernels/kernel_table.hpp"
#include "tiling.hpp"

namespace convpool {

/// What becomes of a sum: another array is added, and the activation applied.
///
/// A kernel clamps as it stores. What a clamp can't say, a curve or an array to add, is done to what was stored, while
/// it is in the cache; where an array is added, the clamp comes after it and waits, too.
template <class T>
class Epilogue {
 public:
  explicit Epilogue(const Conv2dRun<T>& run) : kernels_(&run.kernels), add_(run.add), width_(run.geometry.w.out) {
    switch (run.activation) {
      case Activation::none:
        break;
      case Activation::relu:
        low_ = 0;
        break;
      case Activation::relu6:
        low_ = 0, high_ = 6;
        break;
      case Activation::sigmoid:
        has_curve_ = true, curve_ = kernels::Curve::sigmoid;
        break;
      case Activation::hardswish:
        has_curve_ = true, curve_ = kernels::Curve::hardswish;
        break;
      case Activation::silu:
        has_curve_ = true, curve_ = kernels::Curve::silu;
        break;
    }
  }

  /// The clamp for the kernel that stores a result (`last`), or a part of its sum.
  T low(bool last = true) const { return last && !adds() ? low_ : -std::numeric_limits<T>::infinity(); }
  T high(bool last = true) const { return last && !adds() ? high_ : std::numeric_limits<T>::infinity(); }

  /// Whether results that were stored aren't finished.
  bool remains() const { return has_curve_ || adds(); }

  /// Whether results go past the caches: they would push everything else out, or together with `others`, in bytes, what
  /// is read.
  bool streams(const Conv2dRun<T>& run, std::int64_t out_pixels, std::int64_t others = 0) const {
    return !adds() && streams_unless_added_to(run, out_pixels, others);
  }
  /// The same for what decides about scratch, which an array to add must not change.
  bool streams_unless_added_to(const Conv2dRun<T>& run, std::int64_t out_pixels, std::int64_t others = 0) const {
    return !has_curve_ && others + size_product(run.geometry.batch, run.geometry.out_channels, out_pixels, sizeof(T)) >=
                              block_sizes().streamed_conv_result;
  }

  /// Finishes data[channel][pixel], channels `row` apart, from channel k and pixel `pixel` of the plane (counted row by
  /// row) on.
  void finish_channels(T* data, std::int64_t row, std::int64_t channels, std::int64_t pixels, std::int64_t n,
                       std::int64_t k, std::int64_t pixel) const {
    if (adds()) {
      for_each_row(pixel, pixels, [&](std::int64_t from, std::int64_t oh, std::int64_t ow, std::int64_t count) {
        add(data + from, row, channels, count, n, k, oh, ow, add_.stride(1), add_.stride(3));
      });
    }
    if (has_curve_) kernels_->apply_curve(curve_, data, row, channels, pixels);
  }

  /// The same for data[pixel][channel], pixels `row` apart.
  void finish_pixels(T* data, std::int64_t row, std::int64_t pixels, std::int64_t channels, std::int64_t n,
                     std::int64_t k, std::int64_t pixel) const {
    if (adds()) {
      for_each_row(pixel, pixels, [&](std::int64_t from, std::int64_t oh, std::int64_t ow, std::int64_t count) {
        add(data + from * row, row, count, channels, n, k, oh, ow, add_.stride(3), add_.stride(1));
      });
    }
    if (has_curve_) kernels_->apply_curve(curve_, data, row, pixels, channels);
  }

  /// The same for whole rows of a plane, data[y][x] from row oh on.
  void finish_rows(T* data, std::int64_t row, std::int64_t rows, std::int64_t columns, std::int64_t n, std::int64_t k,
                   std::int64_t oh) const {
    if (adds()) add(data, row, rows, columns, n, k, oh, 0, add_.stride(2), add_.stride(3));
    if (has_curve_) kernels_->apply_curve(curve_, data, row, rows, columns);
  }

  /// A sum that no kernel has stored.
  T finished(T sum, std::int64_t n, std::int64_t k, std::int64_t oh, std::int64_t ow) const {
    if (adds()) sum += add_(n, k, oh, ow);
    sum = sum < low_ ? low_ : sum;
    sum = sum > high_ ? high_ : sum;
    if (has_curve_) kernels_->apply_curve(curve_, &sum, 1, 1, 1);
    return sum;
  }

 private:
  bool adds() const { return add_.data != nullptr; }

  /// f(where, oh, ow, count) for the parts of neighbouring pixels that are neighbours in the array to add.
  template <class F>
  void for_each_row(std::int64_t pixel, std::int64_t pixels, F&& f) const {
    if (rows_contiguous(add_)) return f(0, pixel / width_, pixel % width_, pixels);
    for (std::int64_t done = 0; done < pixels;) {
      const std::int64_t ow = (pixel + done) % width_, left = pixels - done;
      const std::int64_t count = left < width_ - ow ? left : width_ - ow;
      f(done, (pixel + done) / width_, ow, count);
      done += count;
    }
  }

  void add(T* data, std::int64_t data_row, std::int64_t rows, std::int64_t columns, std::int64_t n, std::int64_t k,
           std::int64_t oh, std::int64_t ow, std::int64_t add_row, std::int64_t add_column) const {
    kernels_->add_rows({data, data_row, &add_(n, k, oh, ow), add_row, add_column, rows, columns, low_, high_});
  }

  const kernels::Table<T>* kernels_;
  TensorView<const T> add_;
  std::int64_t width_;
  T low_ = -std::numeric_limits<T>::infinity();
  T high_ = std::numeric_limits<T>::infinity();
  bool has_curve_ = false;
  kernels::Curve curve_{};
};

}  // namespace convpool
