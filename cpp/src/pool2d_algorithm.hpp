#pragma once

#include <optional>

#include "convpool/pool2d.hpp"
#include "geometry.hpp"
#include "kernels/kernel_table.hpp"

namespace convpool {

enum class Reduction { max, sum };

/// How an average counts its divisor.
struct DivisorRule {
  bool count_include_pad = true;
  std::optional<std::int64_t> divisor_override{};
};

/// One run. Input and output lie alike: both with neighbouring pixels, or both with neighbouring channels; then the
/// output's pixels follow one another without a gap.
template <class T>
struct Pool2dRun {
  const Pool2dGeometry& geometry;
  TensorView<const T> input;
  TensorView<T> output;
  TensorView<std::int64_t> indices;  ///< lies as the output does, where positions are wanted
  bool positions;
  bool channels_last;
  Reduction reduction;
  DivisorRule divisor;
  int threads;
  const kernels::PoolTable<T>& kernels;

  bool averages() const { return reduction == Reduction::sum; }
  const kernels::ReductionKernels<T>& reduction_kernels() const {
    return positions ? kernels.max_at : averages() ? kernels.sum : kernels.max;
  }
};

#define CONVPOOL_FOR_INDEXED_POOL_TYPES(f) f(float) f(double) f(std::int32_t) f(std::int64_t)
#define CONVPOOL_FOR_POOL_TYPES(f) CONVPOOL_FOR_INDEXED_POOL_TYPES(f) f(std::int8_t) f(std::uint8_t) f(std::int16_t)

// Each returns false, having done nothing, where the case isn't one of its own.

/// Windows that are whole planes.
template <class T>
bool run_whole_plane_pool(const Pool2dRun<T>& run);

/// Small windows, from registers.
template <class T>
bool run_window_pool(const Pool2dRun<T>& run);

/// Every window: along the rows first, then down the columns. Small planes, or strips of larger ones, are transposed
/// before, as many as a vector has lanes.
template <class T>
void run_sliding_pool(const Pool2dRun<T>& run);

/// Whether run_sliding_pool transposes: short rows waste vectors, and time between them.
template <class T>
bool transposes_planes(const Pool2dRun<T>& run);

/// Plain loops with positions of 64 bits, for planes that a vector's positions can't count.
template <class T>
void run_plain_max_pool(const Pool2dRun<T>& run);

}  // namespace convpool
