#include "geometry.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>

namespace convpool {
namespace {

using std::int64_t;

const char* const axis_names[2] = {"height", "width"};

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

std::string pair_text(const std::array<int64_t, 2>& pair) {
  return "(" + std::to_string(pair[0]) + ", " + std::to_string(pair[1]) + ")";
}

std::string padding_text(const Padding& p) {
  switch (p.kind) {
    case Padding::Kind::valid:
      return "\"valid\"";
    case Padding::Kind::same:
      return "\"same\"";
    case Padding::Kind::same_lower:
      return "\"same_lower\"";
    case Padding::Kind::full:
      return "\"full\"";
    case Padding::Kind::symmetric:
      return pair_text({p.top, p.left});
    case Padding::Kind::sides:
      return "(" + pair_text({p.top, p.bottom}) + ", " + pair_text({p.left, p.right}) + ")";
  }
  return {};
}

int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) {
    fail(std::string(what) + ": " + std::to_string(a) + " + " + std::to_string(b) +
         " doesn't fit 64 bits; use a smaller value");
  }
  return r;
}

int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) {
    fail(std::string(what) + ": " + std::to_string(a) + " * " + std::to_string(b) +
         " doesn't fit 64 bits; use a smaller value");
  }
  return r;
}

void require_positive(const char* name, const std::array<int64_t, 2>& value) {
  if (value[0] < 1 || value[1] < 1) {
    fail(std::string(name) + " must be at least 1 along both axes, got " + pair_text(value));
  }
}

struct Window {
  std::array<int64_t, 2> kernel, stride, dilation;
  Padding padding;
  bool ceil_mode;
};

Axis make_axis(int axis, int64_t in, const Window& window) {
  const auto a = static_cast<std::size_t>(axis);
  Axis r;
  r.in = in;
  r.kernel = window.kernel[a];
  r.stride = window.stride[a];
  r.dilation = window.dilation[a];
  const int64_t effective =
      checked_add(checked_mul(r.dilation, r.kernel - 1, "dilation times kernel size"), 1, "effective kernel size");
  switch (window.padding.kind) {
    case Padding::Kind::symmetric:
    case Padding::Kind::sides:
      r.pad_begin = axis == 0 ? window.padding.top : window.padding.left;
      r.pad_end = axis == 0 ? window.padding.bottom : window.padding.right;
      break;
    case Padding::Kind::valid:
      break;
    case Padding::Kind::same:
    case Padding::Kind::same_lower: {
      const int64_t steps = in == 0 ? 0 : (in - 1) / r.stride;
      const int64_t total = std::max<int64_t>(0, checked_add(steps * r.stride, effective, "padding=\"same\"") - in);
      r.pad_begin = window.padding.kind == Padding::Kind::same ? total / 2 : total - total / 2;
      r.pad_end = total - r.pad_begin;
      break;
    }
    case Padding::Kind::full:
      r.pad_begin = r.pad_end = effective - 1;
      break;
  }
  if (r.pad_begin < 0 || r.pad_end < 0) {
    fail("padding must not be negative, got " + padding_text(window.padding) + "; crop the input instead");
  }
  const int64_t padded =
      checked_add(checked_add(in, r.pad_begin, "input size plus padding"), r.pad_end, "input size plus padding");
  const int64_t room = padded - effective;
  // Rounding up leaves one window, cut short, where less than a stride is missing.
  if (room < 0 && !(window.ceil_mode && room > -r.stride)) {
    fail("kernel_size " + pair_text(window.kernel) + " with dilation " + pair_text(window.dilation) + " covers " +
         std::to_string(effective) + " positions, more than the padded input's " + axis_names[a] + " of " +
         std::to_string(padded) + " (" + std::to_string(in) + " + padding " + std::to_string(r.pad_begin) + " + " +
         std::to_string(r.pad_end) + "); use a smaller kernel or dilation, or more padding");
  }
  r.out = room < 0 ? 1 : room / r.stride + 1;
  if (room > 0 && window.ceil_mode && room % r.stride != 0) {
    // The extra window counts only if it starts inside the input or the padding before it.
    const int64_t start = checked_mul(r.out, r.stride, "stride");
    if (start < in + r.pad_begin) ++r.out;
  }
  if (r.kernel == 1) r.dilation = 1;
  return r;
}

void check_padding_mode(const Axis& axis, int which, PaddingMode mode) {
  const int64_t pad = std::max(axis.pad_begin, axis.pad_end);
  const char* name = nullptr;
  int64_t limit = 0;
  if (mode == PaddingMode::reflect) name = "reflect", limit = axis.in - 1;
  if (mode == PaddingMode::circular) name = "circular", limit = axis.in;
  if (mode == PaddingMode::replicate && axis.in == 0) name = "replicate", limit = 0;
  if (name != nullptr && pad > limit) {
    fail("padding " + std::to_string(pad) + " is too large for padding_mode \"" + std::string(name) +
         "\": the input's " + axis_names[which] + " of " + std::to_string(axis.in) + " allows at most " +
         std::to_string(std::max<int64_t>(limit, 0)));
  }
}

void check_pool_padding(const Axis& axis, const Window& window) {
  const int64_t effective = axis.effective_kernel();
  if (window.padding.kind == Padding::Kind::symmetric && axis.pad_begin > effective / 2) {
    fail("padding " + padding_text(window.padding) + " must be at most half the effective kernel size: kernel_size " +
         pair_text(window.kernel) + " with dilation " + pair_text(window.dilation) + " covers " +
         std::to_string(effective) + ", so at most " + std::to_string(effective / 2) +
         "; more padding takes the nested form ((top, bottom), (left, right))");
  }
  if (axis.pad_begin >= effective || axis.pad_end >= effective) {
    fail("padding " + padding_text(window.padding) + " must be smaller than the effective kernel size: kernel_size " +
         pair_text(window.kernel) + " with dilation " + pair_text(window.dilation) + " covers " +
         std::to_string(effective) + ", so at most " + std::to_string(effective - 1) + " on each side");
  }
}

}  // namespace

Range Axis::outputs_inside(int64_t tap) const {
  const int64_t offset = tap * dilation - pad_begin;  // position = output * stride + offset
  const int64_t first = offset >= 0 ? 0 : (-offset - 1) / stride + 1;
  const int64_t last = offset >= in ? 0 : (in - 1 - offset) / stride + 1;
  return {std::min(first, out), std::clamp<int64_t>(last, 0, out)};
}

Range Axis::taps_inside(int64_t output) const {
  const int64_t offset = start(output);
  const int64_t first = offset >= 0 ? 0 : (-offset - 1) / dilation + 1;
  const int64_t last = offset >= in ? 0 : (in - 1 - offset) / dilation + 1;
  return {std::min(first, kernel), std::clamp<int64_t>(last, 0, kernel)};
}

Range Axis::outputs_all_inside() const {
  const Range first = outputs_inside(0);
  const Range last = outputs_inside(kernel - 1);
  return {first.begin, std::max(first.begin, last.end)};
}

std::string shape_text(const Shape4& s) {
  return "(" + std::to_string(s[0]) + ", " + std::to_string(s[1]) + ", " + std::to_string(s[2]) + ", " +
         std::to_string(s[3]) + ")";
}

void require_shape(const char* name, const Shape4& got, const Shape4& expected) {
  if (got != expected) {
    fail(std::string(name) + " has shape " + shape_text(got) + " (N, C, H, W), but the result has " +
         shape_text(expected));
  }
}

int64_t checked_element_count(const Shape4& shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      fail("an array of shape " + shape_text(shape) +
           " would pass 2^63 - 1 bytes; use a smaller input or less padding");
    }
  }
  return bytes / element_bytes;
}

bool strides_are_injective(const Shape4& shape, const Shape4& strides) {
  struct Extent {
    int64_t stride, size;
  };
  std::array<Extent, 4> axes;  // by their strides' sizes, ascending
  std::size_t count = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    if (strides[i] == std::numeric_limits<int64_t>::min()) return false;
    const int64_t stride = std::abs(strides[i]);
    std::size_t place = count++;
    for (; place > 0 && axes[place - 1].stride > stride; --place) axes[place] = axes[place - 1];
    axes[place] = {stride, shape[i]};
  }
  int64_t reach = 0;  // the farthest offset that the axes so far can make
  for (std::size_t i = 0; i < count; ++i) {
    int64_t span;
    if (axes[i].stride <= reach || __builtin_mul_overflow(axes[i].stride, axes[i].size - 1, &span) ||
        __builtin_add_overflow(reach, span, &reach)) {
      return false;
    }
  }
  return true;
}

void check_conv2d_weight(const Shape4& weight, const Conv2dParams& params) {
  require_positive("stride", params.stride);
  require_positive("dilation", params.dilation);
  if (params.groups < 1) fail("groups must be at least 1, got " + std::to_string(params.groups));
  for (const int64_t size : weight) {
    if (size < 0) fail("weight has a negative size: " + shape_text(weight));
  }
  if (weight[2] < 1 || weight[3] < 1) {
    fail("weight of shape " + shape_text(weight) +
         " (K, C/groups, kH, kW) has an empty kernel; kH and kW must be at least 1");
  }
  if (weight[0] % params.groups != 0) {
    fail("groups=" + std::to_string(params.groups) + " must divide the output channels: weight of shape " +
         shape_text(weight) + " (K, C/groups, kH, kW) has K=" + std::to_string(weight[0]));
  }
}

Conv2dGeometry conv2d_geometry(const Shape4& input, const Shape4& weight, const Conv2dParams& params) {
  check_conv2d_weight(weight, params);
  for (const int64_t size : input) {
    if (size < 0) fail("input has a negative size: " + shape_text(input));
  }
  Conv2dGeometry g;
  g.batch = input[0];
  g.channels = input[1];
  g.out_channels = weight[0];
  g.groups = params.groups;
  g.padding_mode = params.padding_mode;
  if (g.channels % g.groups != 0) {
    fail("groups=" + std::to_string(g.groups) + " must divide the input channels, got input of shape " +
         shape_text(input) + " (N, C, H, W) with C=" + std::to_string(g.channels));
  }
  if (weight[1] != g.group_channels()) {
    fail("weight of shape " + shape_text(weight) + " (K, C/groups, kH, kW) expects C=" +
         std::to_string(checked_mul(weight[1], g.groups, "C/groups times groups")) +
         " input channels with groups=" + std::to_string(g.groups) + ", got input of shape " + shape_text(input) +
         " (N, C, H, W) with C=" + std::to_string(g.channels));
  }
  if (g.channels == 0)
    fail("input of shape " + shape_text(input) + " (N, C, H, W) has no channels; C must be at least 1");
  if (input[2] == 0 || input[3] == 0) {
    fail("input of shape " + shape_text(input) + " (N, C, H, W) has an empty image; only N may be 0");
  }
  if (g.out_channels == 0) {
    fail("weight of shape " + shape_text(weight) +
         " (K, C/groups, kH, kW) has no output channels; K must be at least 1");
  }
  const Window window{{weight[2], weight[3]}, params.stride, params.dilation, params.padding, false};
  g.h = make_axis(0, input[2], window);
  g.w = make_axis(1, input[3], window);
  check_padding_mode(g.h, 0, g.padding_mode);
  check_padding_mode(g.w, 1, g.padding_mode);
  checked_element_count(input, sizeof(double));
  checked_element_count(g.output_shape(), sizeof(double));
  checked_element_count(weight, sizeof(double));
  return g;
}

Pool2dGeometry pool2d_geometry(const Shape4& input, const Pool2dParams& params) {
  const Window window{params.kernel, params.stride.value_or(params.kernel), params.dilation, params.padding,
                      params.ceil_mode};
  require_positive("kernel_size", window.kernel);
  require_positive("stride", window.stride);
  require_positive("dilation", window.dilation);
  for (const int64_t size : input) {
    if (size < 0) fail("input has a negative size: " + shape_text(input));
  }
  if (input[1] == 0 || input[2] == 0 || input[3] == 0) {
    fail("input of shape " + shape_text(input) + " (N, C, H, W) has an axis of size 0; only N may be 0");
  }
  Pool2dGeometry g;
  g.batch = input[0];
  g.channels = input[1];
  g.h = make_axis(0, input[2], window);
  g.w = make_axis(1, input[3], window);
  // A step that is never taken has no size; a huge one must not reach the arithmetic of offsets.
  for (Axis* const axis : {&g.h, &g.w}) {
    if (axis->out == 1) axis->stride = 1;
  }
  check_pool_padding(g.h, window);
  check_pool_padding(g.w, window);
  checked_element_count(input, sizeof(double));
  checked_element_count(g.output_shape(), sizeof(double));
  return g;
}

}  // namespace convpool
