#pragma once

#include <algorithm>

#include "block_sizes.hpp"
#include "geometry.hpp"
#include "tiling.hpp"

namespace convpool {

/// Rows of the input that `rows` of results reach over, at most.
inline std::int64_t transposed_rows(const Conv2dGeometry& g, std::int64_t rows) {
  return std::min(g.h.in, g.h.covered_span(rows));
}

/// What so many rows of results of a vector of channels take, and the rows that they read, with their pixels
/// transposed.
inline std::int64_t transposed_bytes(const Conv2dGeometry& g, std::int64_t rows, std::int64_t in_lanes,
                                     std::int64_t out_lanes, std::int64_t element_bytes) {
  return size_product(transposed_rows(g, rows), g.w.in, in_lanes, element_bytes) +
         size_product(rows, g.w.out, out_lanes, element_bytes);
}

/// Fewer rows of results would read most rows more than twice.
inline std::int64_t least_transposed_results(const Conv2dGeometry& g) {
  return std::min(g.h.out, std::max<std::int64_t>(2, g.h.effective_kernel() / g.h.stride));
}

/// Rows of results that are worked on together, such that what they take stays in the L2 cache, if they can.
inline std::int64_t rows_of_transposed_piece(const Conv2dGeometry& g, std::int64_t in_lanes, std::int64_t out_lanes,
                                             std::int64_t element_bytes) {
  const std::int64_t least = least_transposed_results(g);
  std::int64_t rows = g.h.out;
  while (rows > least &&
         transposed_bytes(g, rows, in_lanes, out_lanes, element_bytes) > block_sizes().transposed_planes) {
    rows = std::max(least, rows - ceil_div(rows, 8));
  }
  return rows;
}

}  // namespace convpool
