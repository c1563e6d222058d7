#pragma once

// What tiles of planes are told, and the columns that their results see: with a column stride of 2, vectors of a row
// are taken apart.

#include "depthwise_windows.hpp"

namespace convpool::kernels {
namespace {

/// What `count` tiles beside each other, of so many rows and one vector of columns of one output, work on. `row` and
/// `column` are where the window of their first result starts in the input, which is `in`. Rows from `next` on are to
/// be fetched, see fetched_rows, null for none. Of interleaved channels `weight` is that of `phase`.
template <class T>
struct PlaneTiles {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t row, column, left, count;
  const T* next;
  ptrdiff_t phase;
  T* waiting;  ///< null where results aren't streamed, see store_lines()
  Written written;
};

/// Vectors that wait at most, where they are half a line.
inline constexpr int most_waiting = 16;

/// How many tap columns are taken at once, see TapColumns: a third one comes before or after the two.
enum class Taken { one, two, two_after_one, two_before_one };

/// Whether blocks of 16 bytes are shuffled apart, each by itself: that takes a cheaper instruction than a whole vector
/// does, or one where that takes two. Results are put in order once, at their end.
template <class T>
#if defined(CONVPOOL_ISA_AVX2) || defined(CONVPOOL_ISA_AVX512)
inline constexpr bool shuffles_blocks = true;
#else
inline constexpr bool shuffles_blocks = false;
#endif

/// The result that stands at position p of a vector until then, and the other way round.
template <class T>
constexpr int result_at(int p) {
  constexpr int block = 16 / int(sizeof(T)), half = block / 2;
  return shuffles_blocks<T> ? p % block / half * (lanes<T> / 2) + p / block * half + p % half : p;
}
template <class T>
constexpr int position_of(int result) {
  int p = 0;
  while (result_at<T>(p) != result) ++p;
  return p;
}

/// Every other element of a and b.
template <class T, int Odd, int... I>
CONVPOOL_INLINE Vec<T> alternate(Vec<T> a, Vec<T> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * result_at<T>(I) + Odd)...);
}
template <class T, int... I>
CONVPOOL_INLINE Vec<T> in_order(Vec<T> v, Indices<I...>) {
  return __builtin_shufflevector(v, v, position_of<T>(I)...);
}
/// Each result's element becomes the next one's, or the one's before; what is missing then comes from another vector.
template <class T, int... I>
CONVPOOL_INLINE Vec<T> shifted_up(Vec<T> v, Vec<T> first, Indices<I...>) {
  return __builtin_shufflevector(
      v, first, (result_at<T>(I) == 0 ? lanes<T> : position_of<T>((result_at<T>(I) + lanes<T> - 1) % lanes<T>))...);
}
template <class T, int... I>
CONVPOOL_INLINE Vec<T> shifted_down(Vec<T> v, Vec<T> last, Indices<I...>) {
  return __builtin_shufflevector(
      v, last, (result_at<T>(I) == lanes<T> - 1 ? lanes<T> : position_of<T>((result_at<T>(I) + 1) % lanes<T>))...);
}

/// The most tap columns that are taken at once: their weights want registers, too.
inline constexpr int columns_together = CONVPOOL_VECTOR_REGISTERS < 32 ? 2 : CONVPOOL_MASKS_LOADS ? 3 : 2;

/// The columns of a row that a vector of results sees through each of the tap columns taken. With a column stride of 2,
/// what the third sees is what one of the others saw, a result further, and one more element: that costs less than the
/// two loads that it would take.
template <Taken taken, int ColumnStride, class T, class W>
CONVPOOL_INLINE void load_columns(const T* p, const W& window, bool third_inside, Vec<T> (&x)[3]) {
  using V = Vec<T>;
  if constexpr (ColumnStride == 1) {
    x[0] = pinned(window.template load<0>(p));
  } else {
    using All = typename MakeIndices<lanes<T>>::type;
    const V a = window.template load<0>(p), b = window.template load<1>(p);
    x[0] = alternate<T, 0>(a, b, All{});
    if constexpr (taken != Taken::one) x[1] = alternate<T, 1>(a, b, All{});
    if constexpr (taken == Taken::two_after_one) {
      x[2] = shifted_up<T>(x[1], where_inside(p - 1, third_inside) - V{}, All{});
    } else if constexpr (taken == Taken::two_before_one) {
      x[2] = shifted_down<T>(x[0], where_inside(p + 2 * lanes<T>, third_inside) - V{}, All{});
    }
  }
}

/// The columns of results, whole vectors, whose tiles see columns inside the plane only; and the last column where one
/// more could start.
struct InsideColumns {
  ptrdiff_t begin, end, last;
};
template <class T>
InsideColumns inside_columns(const DepthwisePlaneArguments<T>& d) {
  constexpr ptrdiff_t L = lanes<T>;
  const bool strided = d.column_stride == 2;
  const ptrdiff_t outside = d.first_column < 0 ? -d.first_column : 0;
  // Strided rows are loaded to the end of their last pair, or of that which a third column is part of.
  const TapColumns& last_tap = d.taps[d.tap_count - 1];
  const ptrdiff_t read = last_tap.in + (!strided ? L : last_tap.third > last_tap.first ? 2 * (L + 1) : 2 * L);
  const ptrdiff_t room = d.in_columns - read - d.first_column;
  if (room < 0) return {0, 0, -1};
  const ptrdiff_t last = strided ? room / 2 : room;
  const ptrdiff_t begin = (strided ? (outside + 2 * L - 1) / (2 * L) : (outside + L - 1) / L) * L;
  const ptrdiff_t end = (last + L < d.columns ? last + L : d.columns) / L * L;
  return begin < end ? InsideColumns{begin, end, last} : InsideColumns{0, 0, -1};
}

}  // namespace
}  // namespace convpool::kernels
