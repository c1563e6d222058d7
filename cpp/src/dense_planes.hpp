#pragma once

#include "conv2d_algorithm.hpp"

namespace convpool {

/// The depthwise kernel that takes planes as runs of pixels, null where it can't: see DepthwisePlaneTable.
template <class T>
kernels::DepthwisePlaneKernel<T> kernel_for_dense_planes(const Conv2dGeometry& g, const TensorView<const T>& input,
                                                         const TensorView<T>& output,
                                                         const kernels::Table<T>& kernels) {
  const auto dense = [](const auto& view) { return pixels_contiguous(view) && view.stride(2) == view.size(3); };
  const bool square = g.h.kernel == g.w.kernel && g.h.dilation == g.w.dilation && g.h.stride == 1 && g.w.stride == 1;
  const bool zeros = g.padding_mode == PaddingMode::zeros || (!g.h.padded() && !g.w.padded());
  if (g.group_channels() > 1 || !square || !zeros || !dense(input) || !dense(output)) return nullptr;
  const std::int64_t before = size_product((g.w.kernel - 1) / 2, g.w.dilation), skipped = before - g.w.pad_begin;
  if (before > g.w.in || skipped < 0 || skipped + g.w.out > g.w.in) return nullptr;
  if (g.h.pad_begin >= g.h.effective_kernel()) return nullptr;  // rows of results that see padding alone
  const Range inside = g.h.outputs_all_inside();
  return kernels.depthwise_planes->run(g.h.kernel, g.h.dilation, g.w.in, g.w.out,
                                       g.h.out - (inside.end - inside.begin));
}

}  // namespace convpool
