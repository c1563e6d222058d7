#pragma once

// A plane without gaps as one run of pixels: a vector may hold the end of one row and the beginning of the next, and
// what windows reach beyond their row's ends is left out by sets of lanes, which come back after a few vectors.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// The lanes whose pixels have one `distance` columns on in their own row; lane 0's is in `column`.
template <class T>
CONVPOOL_INLINE std::uint32_t lanes_with_neighbour(ptrdiff_t column, ptrdiff_t width, ptrdiff_t distance) {
  std::uint32_t bits = 0;
  for (ptrdiff_t row = -column; row < lanes<T>; row += width) {
    bits |= bits_between<T>(row - (distance < 0 ? distance : 0), row + width - (distance > 0 ? distance : 0));
  }
  return bits;
}

/// The lanes whose pixels lie in columns [begin, end) of their own row; lane 0's is in `column`.
template <class T>
CONVPOOL_INLINE std::uint32_t lanes_in_columns(ptrdiff_t column, ptrdiff_t width, ptrdiff_t begin, ptrdiff_t end) {
  std::uint32_t bits = 0;
  for (ptrdiff_t row = -column; row < lanes<T>; row += width) bits |= bits_between<T>(row + begin, row + end);
  return bits;
}

/// Calls set(vector, the column of its first lane) for the vectors of a run of rows, until one would start with a row's
/// first column again. Returns how many they are, at most `width`.
template <class T, class Set>
CONVPOOL_INLINE ptrdiff_t for_each_first_column(ptrdiff_t width, Set&& set) {
  ptrdiff_t vector = 0, column = 0;
  do {
    set(vector++, column);
    column = (column + lanes<T>) % width;
  } while (column != 0);
  return vector;
}

/// Lane i is element i + Distance of `current`, which stands between the other two.
template <class T, int Distance, int... I>
CONVPOOL_INLINE Vec<T> neighbours(Vec<T> previous, Vec<T> current, Vec<T> next, Indices<I...>) {
  const Vec<T> first = Distance < 0 ? previous : current, second = Distance < 0 ? current : next;
  constexpr int from = Distance < 0 ? Distance + lanes<T> : Distance;
#if defined(CONVPOOL_ISA_AVX512)
  // GCC takes a shuffle that overwrites one of the two.
  if constexpr (sizeof(T) == 4) {
    return (Vec<T>)_mm512_maskz_alignr_epi32(0xffff, (__m512i)second, (__m512i)first, from);
  } else {
    return (Vec<T>)_mm512_maskz_alignr_epi64(0xff, (__m512i)second, (__m512i)first, from);
  }
#else
  return __builtin_shufflevector(first, second, (I + from)...);
#endif
}

/// The vectors of results of a call, of which those in [whole_begin, whole_end) hold nothing else and have all rows of
/// their windows in all lanes.
struct RunOfRows {
  ptrdiff_t first;  ///< where the topmost row of the first result's window starts, from the plane's start
  ptrdiff_t results, vectors, whole_begin, whole_end;
};

/// For `rows` rows of results, whose windows of `kernel` rows, `dilation` apart, start at row `first_row` of a plane of
/// plane_rows x width.
template <class T>
CONVPOOL_INLINE RunOfRows run_of_rows(ptrdiff_t first_row, ptrdiff_t rows, ptrdiff_t kernel, ptrdiff_t dilation,
                                      ptrdiff_t plane_rows, ptrdiff_t width) {
  constexpr ptrdiff_t L = lanes<T>;
  RunOfRows r{};
  r.first = first_row * width;
  r.results = rows * width;
  r.vectors = (r.results + L - 1) / L;
  const auto clamped = [&](ptrdiff_t v) { return v < 0 ? 0 : v < r.vectors ? v : r.vectors; };
  const ptrdiff_t room = (plane_rows - (kernel - 1) * dilation) * width - r.first;
  const ptrdiff_t last_whole = room < r.results ? room : r.results;
  r.whole_begin = clamped(r.first >= 0 ? 0 : (-r.first + L - 1) / L);
  r.whole_end = last_whole < r.whole_begin * L ? r.whole_begin : clamped(last_whole / L);
  return r;
}

/// The lanes of vector v whose window has row i of its rows, `dilation` apart.
template <class T>
CONVPOOL_INLINE std::uint32_t lanes_with_row(const RunOfRows& r, ptrdiff_t v, ptrdiff_t i, ptrdiff_t dilation,
                                             ptrdiff_t plane_rows, ptrdiff_t width) {
  const ptrdiff_t from = r.first + i * dilation * width + v * lanes<T>;
  return bits_between<T>(-from, plane_rows * width - from);
}

}  // namespace
}  // namespace convpool::kernels
