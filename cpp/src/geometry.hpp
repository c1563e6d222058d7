#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "convpool/conv2d.hpp"
#include "convpool/pool2d.hpp"

namespace convpool {

using Shape4 = std::array<std::int64_t, 4>;

struct Range {
  std::int64_t begin, end;
  bool empty() const { return begin >= end; }
};

/// One spatial axis of a sliding window: output o, tap t reads position o * stride + t * dilation - pad_begin.
struct Axis {
  std::int64_t in = 1, out = 1;
  std::int64_t kernel = 1, stride = 1, dilation = 1;
  std::int64_t pad_begin = 0, pad_end = 0;

  std::int64_t effective_kernel() const { return dilation * (kernel - 1) + 1; }
  /// Where tap 0 of an output lies, counted in the unpadded input; negative in the padding.
  std::int64_t start(std::int64_t output) const { return output * stride - pad_begin; }
  /// The positions from the first tap of one output to the last tap of the outputs-th after it, both counted; at most
  /// `unaffordable_span`, which is more than any memory has.
  std::int64_t covered_span(std::int64_t outputs) const {
    std::int64_t span;
    if (__builtin_mul_overflow(outputs - 1, stride, &span) || __builtin_add_overflow(span, effective_kernel(), &span)) {
      return unaffordable_span;
    }
    return span < unaffordable_span ? span : unaffordable_span;
  }
  static constexpr std::int64_t unaffordable_span = std::int64_t{1} << 58;
  bool padded() const { return pad_begin > 0 || start(out - 1) + effective_kernel() > in; }
  /// The outputs whose tap lies inside the input.
  Range outputs_inside(std::int64_t tap) const;
  /// The taps of an output that lie inside the input.
  Range taps_inside(std::int64_t output) const;
  /// The outputs all of whose taps lie inside the input.
  Range outputs_all_inside() const;
};

/// The position inside [0, size) that a position of the padded axis shows, -1 where it shows a zero.
/// Reflection and wrapping reach once over the axis, which the argument checks guarantee.
inline std::int64_t source_index(std::int64_t position, std::int64_t size, PaddingMode mode) {
  if (position >= 0 && position < size) return position;
  switch (mode) {
    case PaddingMode::zeros:
      return -1;
    case PaddingMode::reflect:
      return position < 0 ? -position : 2 * (size - 1) - position;
    case PaddingMode::replicate:
      return position < 0 ? 0 : size - 1;
    case PaddingMode::circular:
      return position < 0 ? position + size : position - size;
  }
  return -1;
}

struct Conv2dGeometry {
  std::int64_t batch = 0, channels = 0, out_channels = 0, groups = 1;
  Axis h, w;
  PaddingMode padding_mode = PaddingMode::zeros;

  std::int64_t group_channels() const { return channels / groups; }
  std::int64_t group_out_channels() const { return out_channels / groups; }
  std::int64_t taps() const { return h.kernel * w.kernel; }
  /// Products summed for one output.
  std::int64_t reduction() const { return group_channels() * taps(); }
  std::int64_t out_pixels() const { return h.out * w.out; }
  Shape4 output_shape() const { return {batch, out_channels, h.out, w.out}; }
  bool empty() const { return batch == 0 || out_channels == 0 || out_pixels() == 0; }
  /// Nominal multiply-adds, as a double since only estimates need it.
  double multiply_adds() const {
    return static_cast<double>(batch) * static_cast<double>(out_channels) * static_cast<double>(out_pixels()) *
           static_cast<double>(reduction());
  }
};

struct Pool2dGeometry {
  std::int64_t batch = 0, channels = 0;
  Axis h, w;

  Shape4 output_shape() const { return {batch, channels, h.out, w.out}; }
  bool empty() const { return batch == 0 || channels == 0; }
};

/// Checks every argument and works out all sizes; the only places that do. std::invalid_argument says what is wrong.
void check_conv2d_weight(const Shape4& weight, const Conv2dParams& params);
Conv2dGeometry conv2d_geometry(const Shape4& input, const Shape4& weight, const Conv2dParams& params);
Pool2dGeometry pool2d_geometry(const Shape4& input, const Pool2dParams& params);

/// For error messages: "(1, 2, 3, 4)".
std::string shape_text(const Shape4& shape);
void require_shape(const char* name, const Shape4& got, const Shape4& expected);

/// The number of elements of such an array; std::invalid_argument where it, counted in bytes, passes 2^63 - 1.
std::int64_t checked_element_count(const Shape4& shape, std::int64_t element_bytes);

/// Whether distinct elements have distinct addresses, as far as strides tell: what a result needs.
bool strides_are_injective(const Shape4& shape, const Shape4& strides);

}  // namespace convpool
