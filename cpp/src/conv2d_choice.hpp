#pragma once

#include "conv2d_algorithm.hpp"

namespace convpool {

enum class WeightsAre { packed_once, packed_each_call };

/// Which algorithm runs, in which orientation, on which form of the weights. For Algorithm::automatic by a cost model,
/// for a named one as named, or std::invalid_argument with the reason.
template <class T>
Conv2dChoice choose_conv2d(Algorithm algorithm, const Conv2dGeometry& geometry, const TensorView<const T>& input,
                           const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights);

const char* algorithm_name(Algorithm algorithm);

/// Whether the algorithm can write to such strides.
template <class T>
bool writes_in_place(Algorithm algorithm, const TensorView<T>& output) {
  if (algorithm == Algorithm::naive) return true;
  const bool patches = algorithm == Algorithm::im2col || algorithm == Algorithm::implicit_gemm;
  return (pixels_contiguous(output) || channels_last(output)) && (!patches || rows_contiguous(output));
}

}  // namespace convpool
