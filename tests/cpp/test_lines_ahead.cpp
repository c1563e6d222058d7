#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "lines_ahead.hpp"

using namespace convpool;

namespace {

constexpr std::int64_t line = kernels::cache_line / std::int64_t{sizeof(float)};

/// How often each line is fetched, by its distance from the first in elements, as tiles of `counts` fetches do it.
std::map<std::int64_t, int> fetched_by_tiles(LinesAhead<float> ahead, const float* first,
                                             const std::vector<int>& counts) {
  std::map<std::int64_t, int> seen;
  const kernels::Segment segment{0, 0, 8};  // one fetch
  for (const int count : counts) {
    kernels::TileArguments<float> t{};
    t.segments = &segment;
    t.segment_count = 1;
    t.tiles = count;
    ahead.take(t);
    if (t.ahead_pieces == 0) continue;
    CHECK(t.ahead_pieces <= count * t.ahead_each);
    std::int64_t at = t.ahead - first;
    for (std::ptrdiff_t piece = 0; piece < t.ahead_pieces; ++piece, at += t.ahead_step) {
      CHECK((t.ahead_lines > 1 || t.ahead_step == line));
      if (t.ahead_left_in_row == 0) {
        at += t.ahead_gap;
        t.ahead_left_in_row = t.ahead_row_pieces;
      }
      --t.ahead_left_in_row;
      for (std::ptrdiff_t l = 0; l < t.ahead_lines; ++l) ++seen[at + l * line];
    }
  }
  return seen;
}

}  // namespace

TEST_CASE("rows ahead are fetched once, whatever tiles do it") {
  const std::vector<float> data(1 << 16);
  const std::int64_t row = 1000, rows = 3, count = 5 * line;
  for (const std::vector<int>& counts :
       {std::vector<int>{15}, {4, 4, 7}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}) {
    const auto seen = fetched_by_tiles({data.data(), row, rows, count, 15}, data.data(), counts);
    CHECK(seen.size() == 15);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t l = 0; l < 5; ++l) CHECK(seen.at(r * row + l * line + line - 1) == 1);
    }
  }
  CHECK(fetched_by_tiles({data.data(), row, rows, count, 3}, data.data(), {3}).empty());  // five lines with each
}

TEST_CASE("long rows are fetched in turn") {
  const std::vector<float> data(1 << 16);
  const std::int64_t row = 4000, rows = 4, lines = 37;
  for (const std::int64_t fetches : {12, 13, 40, 148, 1000}) {
    const auto ahead = LinesAhead<float>::in_turn(data.data(), row, rows, lines * line, fetches, 16);
    const int each = static_cast<int>(fetches) / 3;
    const auto seen = fetched_by_tiles(ahead, data.data(), {each, each, static_cast<int>(fetches) - 2 * each});
    CAPTURE(fetches);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t l = 0; l < lines; ++l) CHECK(seen.at(r * row + l * line) == 1);
    }
    const std::int64_t piece = std::max<std::int64_t>(2, (lines + fetches / rows - 1) / (fetches / rows));
    CHECK(static_cast<std::int64_t>(seen.size()) <= rows * (lines + piece - 1));
  }
  CHECK(fetched_by_tiles(LinesAhead<float>::in_turn(data.data(), row, rows, lines * line, 9, 16), data.data(), {9})
            .empty());
  CHECK(fetched_by_tiles(LinesAhead<float>::in_turn(data.data(), row, rows, line, 3, 16), data.data(), {3}).empty());
  const auto one =
      fetched_by_tiles(LinesAhead<float>::in_turn(data.data(), row, 1, lines * line, 10, 16), data.data(), {10});
  CHECK(one.size() == static_cast<std::size_t>(lines));
}
