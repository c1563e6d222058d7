#pragma once

#include <array>
#include <cstddef>

#include "conv2d_algorithm.hpp"

namespace convpool {

enum class WeightsAre { packed_once, packed_each_call };

/// Which algorithm runs, in which orientation, on which form of the weights. For Algorithm::automatic by a cost model,
/// for a named one as named, or std::invalid_argument with the reason.
template <class T>
Conv2dChoice choose_conv2d(Algorithm algorithm, const Conv2dGeometry& geometry, const TensorView<const T>& input,
                           const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights);

/// What Algorithm::benchmark weighs against each other: auto's choice first, then those of its other algorithms and
/// orientations that can do the case, are as accurate, and need no more memory.
struct Conv2dCandidates {
  std::array<Conv2dChoice, 5> choices;
  std::size_t count = 0;
};

template <class T>
Conv2dCandidates conv2d_candidates(const Conv2dGeometry& geometry, const TensorView<const T>& input,
                                   const TensorView<T>& output, const kernels::Table<T>& kernels);

/// Whether the algorithm can be given the weights as they lie, see packed_where_used.
inline bool packs_itself(const Conv2dChoice& choice) {
  return choice.algorithm == Algorithm::winograd ||
         (choice.algorithm == Algorithm::direct && choice.form == WeightForm::channel_vectors);
}

/// Whether the algorithm can write to such strides.
template <class T>
bool writes_in_place(Algorithm algorithm, const TensorView<T>& output) {
  if (algorithm == Algorithm::naive) return true;
  const bool patches = algorithm == Algorithm::im2col || algorithm == Algorithm::implicit_gemm;
  return (pixels_contiguous(output) || channels_last(output)) && (!patches || rows_contiguous(output));
}

}  // namespace convpool
