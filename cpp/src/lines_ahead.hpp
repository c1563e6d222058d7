#pragma once

#include <algorithm>
#include <cstdint>

#include "conv2d_weights.hpp"
#include "kernels/kernel_table.hpp"
#include "tiling.hpp"

namespace convpool {

/// The fetches of a tile that runs through these segments.
inline std::int64_t fetches_of(const kernels::Segment* segments, std::int64_t count) {
  std::int64_t fetches = 0;
  for (std::int64_t i = 0; i < count; ++i) fetches += kernels::fetches_of(segments[i].count);
  return fetches;
}

/// Of one whose segments are the blocks of a reduction.
inline std::int64_t fetches_of_blocks(std::int64_t steps) {
  const std::int64_t rest = steps % reduction_block;
  return steps / reduction_block * kernels::fetches_of(reduction_block) + (rest > 0 ? kernels::fetches_of(rest) : 0);
}

/// Memory that is read soon: rows far apart, which nothing else foresees. The tiles that run meanwhile fetch it to the
/// L2 cache, a few lines at once, so that what they read doesn't queue behind it.
template <class T>
class LinesAhead {
 public:
  LinesAhead() = default;

  /// `rows` rows of `count` elements, `row` apart, one after another, with so many fetches. The line in which a row
  /// begins counts with what lies before it. Nothing is fetched where that would be more than `most` lines with one.
  LinesAhead(const T* first, std::int64_t row, std::int64_t rows, std::int64_t count, std::int64_t fetches,
             std::int64_t most = 4)
      : row_pieces_(ceil_div(count, line)), left_in_row_(row_pieces_), left_(rows * row_pieces_) {
    gap_ = row - row_pieces_ * line;
    data_ = first + count - 1 - (row_pieces_ - 1) * line;
    each_ = ceil_div(left_, std::max<std::int64_t>(1, fetches));
    if (each_ > most) left_ = 0;
  }

  /// The same of few long rows, a piece of each in turn: by the time that a row comes round again, the prefetcher has
  /// its next lines on their way (four rows in turn 1.1 times as fast as one after another, Emerald Rapids).
  static LinesAhead in_turn(const T* first, std::int64_t row, std::int64_t rows, std::int64_t count,
                            std::int64_t fetches, std::int64_t most) {
    if (rows == 1) return {first, row, rows, count, fetches, most};
    if (fetches < rows) return {};
    const std::int64_t row_lines = ceil_div(count, line);
    LinesAhead ahead;
    ahead.lines_ = std::max<std::int64_t>(2, ceil_div(row_lines, fetches / rows));
    if (ahead.lines_ > most) return {};
    ahead.data_ = first;
    ahead.step_ = row;
    ahead.row_pieces_ = ahead.left_in_row_ = rows;
    ahead.left_ = rows * ceil_div(row_lines, ahead.lines_);
    ahead.gap_ = ahead.lines_ * line - rows * row;
    ahead.each_ = 1;
    return ahead;
  }

  /// Has a tile fetch the next lines.
  void take(kernels::TileArguments<T>& tile) {
    tile.ahead_pieces = 0;
    if (left_ == 0) return;
    const std::int64_t fetches = fetches_of(tile.segments, tile.segment_count);
    const std::int64_t pieces = std::min(left_, each_ * fetches * std::max<std::int64_t>(1, tile.tiles));
    tile.ahead = data_;
    tile.ahead_pieces = pieces;
    tile.ahead_each = each_;
    tile.ahead_lines = lines_;
    tile.ahead_step = step_;
    tile.ahead_row_pieces = row_pieces_;
    tile.ahead_left_in_row = left_in_row_;
    tile.ahead_gap = gap_;
    left_ -= pieces;
    if (left_ == 0) return;
    const std::int64_t passed = row_pieces_ - left_in_row_ + pieces;
    data_ += pieces * step_ + passed / row_pieces_ * gap_;
    left_in_row_ = row_pieces_ - passed % row_pieces_;
  }

 private:
  static constexpr std::int64_t line = kernels::cache_line / std::int64_t{sizeof(T)};

  const T* data_ = nullptr;
  std::int64_t lines_ = 1, step_ = line, row_pieces_ = 0, gap_ = 0, left_in_row_ = 0, left_ = 0, each_ = 0;
};

}  // namespace convpool
