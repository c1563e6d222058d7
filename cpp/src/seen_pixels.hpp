#pragma once

#include <algorithm>
#include <numeric>

#include "convpool/tensor_view.hpp"
#include "geometry.hpp"
#include "winograd_axes.hpp"

namespace convpool {

/// Every `step`-th position of an axis, from `first` on.
struct SeenPositions {
  std::int64_t first = 0, step = 1;
};

/// Windows whose stride and dilation have a common factor see one phase of an axis alone: the axis becomes that phase,
/// with what is left of stride and dilation. Both, and so the form of the weights, follow from the arguments alone,
/// whatever the image.
inline SeenPositions keep_seen_phase(Axis& axis) {
  const std::int64_t step = axis.kernel == 1 ? 1 : std::gcd(axis.stride, axis.dilation);
  if (step == 1) return {};
  axis.stride /= step;
  axis.dilation /= step;
  const std::int64_t first = (step - axis.pad_begin % step) % step;
  if (first < axis.in) {
    axis.in = (axis.in - first - 1) / step + 1;
    axis.pad_begin = (axis.pad_begin + first) / step;
    axis.pad_end = std::max<std::int64_t>(0, axis.start(axis.out - 1) + axis.effective_kernel() - axis.in);
    return {first, step};
  }
  // The phase lies in the padding wholly: one position that no window reaches.
  axis.in = 1;
  axis.pad_begin = (axis.out - 1) * axis.stride + axis.effective_kernel();
  axis.pad_end = 0;
  return {0, step};
}

/// Whether that pays: not where single channels or whole pixels are read as runs. By the arguments alone, as above.
inline bool reads_pixels_apart(const Conv2dGeometry& g) {
  constexpr std::int64_t few_channels = 8;
  return g.padding_mode == PaddingMode::zeros && g.group_channels() > 1 && (g.groups > 1 || g.channels >= few_channels);
}

/// Leaves of the input and the geometry what windows see. A view of every second pixel serves all algorithms: 3x3 with
/// stride and dilation 2 is a 3x3 with neither then, which Winograd's takes (2.5 times as fast, 64 channels on 56x56).
template <class T>
void keep_seen_pixels(Conv2dGeometry& g, TensorView<const T>& input) {
  for (const std::size_t i : {2, 3}) {
    Axis& axis = i == 2 ? g.h : g.w;
    if (reads_pixels_apart(g)) {
      const SeenPositions seen = keep_seen_phase(axis);
      if (input.data != nullptr) input.data += seen.first * input.strides[i];
      input.shape[i] = axis.in;
      if (axis.in > 1) input.strides[i] *= seen.step;
    }
    // A step that is never taken: a huge one must not reach the arithmetic of offsets. Weights for Winograd's algorithm
    // have one form for each stride up to its limit and another beyond, which other images through the layer share.
    if (axis.out == 1) axis.stride = axis.kernel == 1 ? 1 : std::min(axis.stride, most_winograd_step + 1);
  }
}

}  // namespace convpool
