#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernel_table.hpp"

namespace convpool {

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }
inline std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

/// More elements than any memory has, and yet a few of them can be added up.
inline constexpr std::int64_t unaffordable = std::int64_t{1} << 58;

/// A product of sizes, none negative, that stops at `unaffordable`: a workspace of that size is refused.
template <class... Sizes>
std::int64_t size_product(Sizes... sizes) {
  std::int64_t result = 1;
  bool overflow = false, zero = false;
  const auto multiply = [&](std::int64_t size) {
    zero = zero || size == 0;
    overflow = overflow || __builtin_mul_overflow(result, size, &result) || result > unaffordable;
    if (overflow) result = 1;
  };
  (multiply(static_cast<std::int64_t>(sizes)), ...);
  return zero ? 0 : overflow ? unaffordable : result;
}

/// `total` things cut into the fewest pieces of at most `largest`, as even as can be, the larger ones first: no small
/// last piece.
struct EvenSplit {
  std::int64_t total, pieces;
  std::int64_t size, larger;  ///< of the smaller pieces, and how many have one more
  EvenSplit(std::int64_t total_, std::int64_t largest_)
      : total(total_),
        pieces(std::max<std::int64_t>(1, ceil_div(total_, largest_))),
        size(total / pieces),
        larger(total % pieces) {}
  static EvenSplit in_pieces(std::int64_t total, std::int64_t pieces) {
    EvenSplit split(total, total);
    split.pieces = pieces;
    split.size = total / pieces;
    split.larger = total % pieces;
    return split;
  }
  std::int64_t begin(std::int64_t piece) const { return size * piece + std::min(piece, larger); }
  std::int64_t end(std::int64_t piece) const { return begin(piece + 1); }
  std::int64_t size_of(std::int64_t piece) const { return size + (piece < larger ? 1 : 0); }
  /// Such a piece where the larger ones lie among the others, so that neighbouring ones, which a thread begins with,
  /// are as much as any others.
  std::int64_t spread_begin(std::int64_t piece) const { return size * piece + larger * piece / pieces; }
  std::int64_t largest() const { return size_of(0); }
};

/// f(begin, size, how many) for the neighbouring pieces of one size.
template <class F>
void for_each_equal_pieces(const EvenSplit& split, F&& f) {
  if (split.larger > 0) f(std::int64_t{0}, split.size + 1, split.larger);
  if (split.size > 0) f(split.begin(split.larger), split.size, split.pieces - split.larger);
}

/// Whether tiles are low: 16 registers hold 6 x 2 or 4 x 3 vectors of sums, 32 of them 14 x 2.
template <class T>
bool has_few_registers(const kernels::Table<T>& kernels) {
  constexpr int rows_of_many_registers = 14;
  return kernels.tile_rows[2] < rows_of_many_registers;
}

/// Vectors in a cache line.
template <class T>
int vectors_of_a_line(const kernels::Table<T>& kernels) {
  return std::max(1, kernels::cache_line / (kernels.lanes * int{sizeof(T)}));
}

/// At least so many elements, in an odd number of cache lines: rows so far apart that are worked on together don't
/// share the sets of the L1 cache, as rows of 2^n bytes do.
template <class T>
std::int64_t odd_lines(std::int64_t elements) {
  constexpr std::int64_t line = kernels::cache_line / std::int64_t{sizeof(T)};
  return (ceil_div(elements, line) | 1) * line;
}

/// The shape of a register tile.
struct TileShape {
  int rows, vectors;
};

/// Cycles for each vector FMA, relative to the peak of two a cycle: a tile loads rows + vectors for rows * vectors
/// FMAs, two loads a cycle, and needs 8 independent sums (4 cycles of latency, two a cycle). The vectors' loads count
/// nearly twice: they are lines, often from the L2 cache (8x8 with stride 8 on 56x56, 64 channels: 4 x 4 tiles 148 us,
/// 7 x 2 109).
inline double tile_cost(TileShape tile) {
  const double sums = static_cast<double>(tile.rows) * tile.vectors;
  const double loads = (tile.rows + tile.vectors) / sums;
  return std::max({1.0, loads, 8 / sums}) + 0.1 * loads + 0.08 * tile.vectors / sums;
}

/// The same for tiles of as even heights and widths as can be, and `per_load` and `per_vector` for each load and each
/// column vector of one.
inline double tiling_cost(const EvenSplit& rows, const EvenSplit& vectors, double per_load, double per_vector) {
  double cost = 0;
  for_each_equal_pieces(rows, [&](std::int64_t, std::int64_t height, std::int64_t across) {
    for_each_equal_pieces(vectors, [&](std::int64_t, std::int64_t width, std::int64_t along) {
      const TileShape tile{static_cast<int>(height), static_cast<int>(width)};
      cost += static_cast<double>(across * along) *
              (static_cast<double>(height * width) * tile_cost(tile) + per_load * static_cast<double>(height + width) +
               per_vector * static_cast<double>(width));
    });
  });
  return cost / static_cast<double>(rows.total) / static_cast<double>(vectors.total);
}

/// What each load of a tile costs besides, for tiling_cost(). Where the core's other thread is busy, low tiles wait for
/// the instructions around their FMAs (6 x 2 vectors of AVX2 up to 1.15 times as long as 4 x 3, Zen 3).
template <class T>
double cost_of_load(const kernels::Table<T>& kernels) {
  return has_few_registers(kernels) ? 0.4 : 0;
}

/// The cheapest tile for `rows` broadcast rows and `vectors` column vectors, as both split evenly; of vectors the
/// widest takes a multiple of `step`, if there are so many. `per_vector` is what each vector of a tile costs once, in
/// vector FMAs for each step of the reduction.
template <class T>
TileShape choose_tile(const kernels::Table<T>& kernels, std::int64_t rows, std::int64_t vectors, int step = 1,
                      double per_vector = 0) {
  TileShape best{1, 1};
  double best_cost = 1e30;
  if (step > kernels::max_tile_vectors || step > vectors) step = 1;
  for (int v = step; v <= kernels::max_tile_vectors && v <= vectors; v += step) {
    const EvenSplit split(rows, kernels.tile_rows[v]);
    if (const double cost = tiling_cost(split, EvenSplit(vectors, v), cost_of_load(kernels), per_vector);
        cost < best_cost) {
      best_cost = cost;
      best = {static_cast<int>(split.largest()), v};
    }
  }
  return best;
}

}  // namespace convpool
