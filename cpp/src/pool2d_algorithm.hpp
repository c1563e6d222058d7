#pragma once

#include <optional>

#include "convpool/pool2d.hpp"
#include "geometry.hpp"
#include "kernels/kernel_table.hpp"

namespace convpool {

/// How an average counts its divisor.
struct DivisorRule {
  bool count_include_pad = true;
  std::optional<std::int64_t> divisor_override{};
};

/// One run. Input and output lie alike: both with contiguous pixels, or both channels-last with pixels `channels`
/// apart.
template <class T>
struct Pool2dRun {
  const Pool2dGeometry& geometry;
  TensorView<const T> input;
  TensorView<T> output;
  bool channels_last;
  int threads;
  const kernels::Table<T>& kernels;
};

/// Rows first, then columns, through a few rows of scratch.
template <class T>
void run_separable_pool(const Pool2dRun<T>& run, kernels::Reduction reduction, const DivisorRule& divisor);

/// Every tap of every window, carrying the index along. `indices` lies as the output does.
template <class T>
void run_max_pool_with_indices(const Pool2dRun<T>& run, TensorView<std::int64_t> indices);

}  // namespace convpool
