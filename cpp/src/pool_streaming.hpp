#pragma once

#include "block_sizes.hpp"
#include "pool2d_algorithm.hpp"

namespace convpool {

/// Whether input and results would push each other out of the last cache, and whole lines of results are worth it.
/// Measured with 32 MB of it: 3x3 windows with stride 1 gain a third at 25 MB and a factor of two beyond.
template <class T>
bool streams(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  const std::int64_t planes = size_product(g.batch, g.channels),
                     bytes = sizeof(T) + (run.positions ? sizeof(std::int64_t) : 0);
  const std::int64_t result = size_product(planes, g.h.out, g.w.out, bytes);
  return result >= block_sizes().streamed_pool_result &&
         result + size_product(planes, g.h.in, g.w.in, std::int64_t{sizeof(T)}) >= block_sizes().streamed_pool_total;
}

}  // namespace convpool
