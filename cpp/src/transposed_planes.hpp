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

/// Rows of results of a vector of channels that are worked on with their pixels transposed, such that they and the rows
/// they read stay in the L2 cache; 0 where that would read most rows more than twice.
inline std::int64_t rows_of_transposed_piece(const Conv2dGeometry& g, std::int64_t in_lanes, std::int64_t out_lanes,
                                             std::int64_t element_bytes) {
  const std::int64_t most_bytes = block_sizes().transposed_planes;
  const auto bytes = [&](std::int64_t rows) {
    return size_product(transposed_rows(g, rows), g.w.in, in_lanes, element_bytes) +
           size_product(rows, g.w.out, out_lanes, element_bytes);
  };
  std::int64_t rows = g.h.out;
  const std::int64_t least = std::min(rows, std::max<std::int64_t>(2, g.h.effective_kernel() / g.h.stride));
  while (rows > least && bytes(rows) > most_bytes) rows = std::max(least, rows - ceil_div(rows, 8));
  return bytes(rows) <= most_bytes ? rows : 0;
}

}  // namespace convpool
