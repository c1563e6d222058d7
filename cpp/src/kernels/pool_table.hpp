#pragma once

// What an instruction set offers to the pooling algorithms. The same rules as for kernel_table.hpp.

#include <cstddef>

#include "row_arguments.hpp"

namespace convpool::kernels {

/// Whether a vector has room for a position in the plane beside each element of T.
template <class T>
inline constexpr bool has_index = sizeof(T) >= 4;

template <class T>
inline constexpr bool is_floating = T(0.5) != T(0);

/// What nothing is smaller than: padding counts as this in a maximum.
template <class T>
inline constexpr T lowest = [] {
  if constexpr (is_floating<T>) {
    return -T(__builtin_inf());
  } else if constexpr (T(-1) > T(0)) {
    return T(0);
  } else {
    return static_cast<T>(std::uint64_t{1} << (8 * sizeof(T) - 1));
  }
}();

/// Positions in a plane, as many to a vector as there are elements of T.
template <class T>
struct IndexOf {
  using type = std::int32_t;
};
template <>
struct IndexOf<double> {
  using type = std::int64_t;
};
template <>
struct IndexOf<std::int64_t> {
  using type = std::int64_t;
};

/// What the sum of a window is divided by: column_count[x] * row_count, where column_count is the same in all of
/// [uniform_begin, uniform_end). Null: a maximum, or a sum that stays one.
template <class T>
struct DivisorArguments {
  const T* column_count;
  T row_count;
  ptrdiff_t uniform_begin, uniform_end;
};

/// out[r][x] = reduction over t, in order, of in[offset[t] + r * in_row + x], for taps >= 1; a sum is then divided.
/// Touches nothing outside columns.
///
/// Where positions are kept, in_at and out_at lie as in and out do, and `at_add` is added to those that are stored; to
/// out_wide instead of out_at where that isn't null; and at_add_row more for each row.
template <class T>
struct ReduceArguments {
  using Index = typename IndexOf<T>::type;
  const T* in;
  const Index* in_at;
  ptrdiff_t in_row;
  const ptrdiff_t* offset;
  ptrdiff_t taps;
  T* out;
  Index* out_at;
  std::int64_t* out_wide;
  ptrdiff_t out_row;
  ptrdiff_t rows, columns;
  std::int64_t at_add, at_add_row;
  DivisorArguments<T> divisor;
  bool stream;  ///< vectors of rows that start with a cache line go past the caches; see finish_streaming
};

/// out[x] = reduction of line[x] to line[x + taps - 1], for 1 <= taps <= lanes, where line[x] is in[x - lead] for
/// lead <= x < lead + in_columns, and elsewhere padding, which changes nothing; for `rows` rows. Positions as in
/// ReduceArguments, with one in_at beside all lines. Stores whole vectors; reads of in_at up to max_slide_levels
/// vectors after the last one that it stores.
template <class T>
struct SlideArguments {
  using Index = typename IndexOf<T>::type;
  const T* in;
  ptrdiff_t in_row, rows;
  ptrdiff_t lead, in_columns;
  const Index* in_at;
  ptrdiff_t taps;
  T* out;
  Index* out_at;
  ptrdiff_t out_row, columns;
  std::int64_t at_add, at_add_row;
};

inline constexpr int max_slide_levels = 4;

/// rows[i] = reduction of rows[i] to rows[count - 1], in place. Touches whole vectors.
template <class T>
struct SuffixArguments {
  using Index = typename IndexOf<T>::type;
  T* rows;
  Index* at;
  ptrdiff_t pitch;
  ptrdiff_t count, columns;
};

/// out[i] = reduction of suffix[i + 1], of what comes before rows[0], and of rows[0] to rows[i], for 0 <= i < count,
/// count >= 1, wherever out[i] isn't null; without suffix where i + 1 >= suffix_count. Where prefix isn't null, it
/// takes the reduction of all rows; what comes before them is what it held, if it `continues`, else nothing. Reads
/// whole vectors, divides and stores as in ReduceArguments, with a row_count for each row.
template <class T>
struct PrefixArguments {
  using Index = typename IndexOf<T>::type;
  const T* rows;
  const Index* at;
  const T* suffix;
  const Index* suffix_at;
  ptrdiff_t suffix_count;
  ptrdiff_t pitch;
  ptrdiff_t count, columns;
  T* prefix;
  Index* prefix_at;
  bool continues;
  T* const* out;
  std::int64_t* const* out_wide;
  ptrdiff_t out_row;  ///< from one of them to the next, where those after them are to be fetched ahead; or 0
  DivisorArguments<T> divisor;
  const T* row_count;
  bool stream;  ///< as in ReduceArguments
};

/// One spatial axis of a sliding window, as Axis in geometry.hpp.
struct WindowAxis {
  ptrdiff_t in, out, kernel, stride, dilation, pad;
};

/// Scratch in which rows of results stand one after another, reduced down their columns.
inline constexpr ptrdiff_t lines_elements = 2048;

/// Whole cache lines in scratch that are to go past the caches. A kernel may store of them while its input is on its
/// way, a few after each of its own vectors, and takes off those that it stored.
struct WaitingLines {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  ptrdiff_t count = 0;
};

/// Whole windows over planes whose pixels are neighbours: rows [row_begin, row_end) of results of each plane.
/// row_count is for each row of results. scratch: as many elements as the windows of a row cover, at least
/// lines_elements, and 12 * lanes after them. out_at: for positions, which lie as the results do. past_caches: what is
/// read comes from memory, and results are to go there; only window_planes with positions stores some past the caches
/// itself, where waiting is null. waiting: results that were made before, and positions, or null. fetches_results:
/// kernels that reduce rows from registers, and those with positions, fetch lines of results before they write them.
template <class T>
struct WindowRowsArguments {
  const T* in;
  ptrdiff_t in_plane, in_row;
  T* out;
  ptrdiff_t out_plane, out_row;
  ptrdiff_t planes, row_begin, row_end;
  WindowAxis h, w;
  DivisorArguments<T> divisor;
  const T* row_count;
  T* scratch;
  std::int64_t* out_at;
  bool past_caches, fetches_results;
  WaitingLines *waiting, *waiting_at;
};

/// Whole windows over an image whose channels are neighbours, at least a vector of them. With past_caches,
/// results go past the caches where the kernel can; see PoolTable::streamed_channels.
template <class T>
struct WindowPixelsArguments {
  const T* in;
  ptrdiff_t in_row, in_pixel;
  T* out;
  ptrdiff_t out_row, out_pixel;
  ptrdiff_t channels, row_begin, row_end;
  WindowAxis h, w;
  DivisorArguments<T> divisor;
  const T* row_count;
  std::int64_t* out_at;
  bool past_caches;
};

/// out[r * out_step] = reduction of the count >= 1 elements from in + r * in_row on, a sum divided by divisor.
template <class T>
struct ReduceRunArguments {
  const T* in;
  ptrdiff_t in_row;
  ptrdiff_t count;
  T* out;
  ptrdiff_t out_step;
  ptrdiff_t rows;
  T divisor;
};

template <class T>
using WindowRowsKernel = void (*)(const WindowRowsArguments<T>&);
template <class T>
using WindowPixelsKernel = void (*)(const WindowPixelsArguments<T>&);

/// A reduction's kernels; null where T has none.
template <class T>
struct ReductionKernels {
  void (*reduce)(const ReduceArguments<T>&);
  /// Null where shifting vectors by a number known at run time is slow.
  void (*slide)(const SlideArguments<T>&);
  void (*suffix_rows)(const SuffixArguments<T>&);
  void (*prefix_rows)(const PrefixArguments<T>&);
  /// Null unless the window is one of those that have a kernel of their own.
  WindowRowsKernel<T> (*window_rows)(const WindowAxis& h, const WindowAxis& w);
  /// Faster than window_rows, for planes and results without gaps (in_row is w.in, out_row is w.out) and one divisor
  /// for all of a plane's results. Null unless the window has such a kernel, and the rows are narrow where it wants
  /// that.
  WindowRowsKernel<T> (*window_planes)(const WindowAxis& h, const WindowAxis& w);
  WindowPixelsKernel<T> (*window_pixels)(const WindowAxis& h, const WindowAxis& w);
  /// The one of these that planes should be transposed for, as many as a vector has lanes; or null.
  WindowPixelsKernel<T> (*transposed_windows)(const WindowAxis& h, const WindowAxis& w);
  void (*reduce_run)(const ReduceRunArguments<T>&);
};

template <class T>
struct PoolTable {
  int lanes;
  ReductionKernels<T> max, sum;
  ReductionKernels<T> max_at;  ///< with positions
  void (*split_phases)(const SplitArguments<T>&);
  void (*pad_rows)(const PadArguments<T>&);
  void (*store_lines)(WaitingLines&);  ///< all that wait; null where no store passes the caches
  /// window_pixels stores results past the caches where each pixel has a multiple of so many channels, on cache lines
  /// throughout; with positions, or 0 where it doesn't.
  int streamed_channels, streamed_positions;
  void (*finish_streaming)();  ///< what was streamed before is seen by other threads before what comes after
  /// to[c * to_row + r] = from[r * from_row + c]; the same of positions. Both null for integers.
  void (*transpose)(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, T* to, ptrdiff_t to_row);
  void (*transpose_positions)(const std::int64_t* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns,
                              std::int64_t* to, ptrdiff_t to_row);
};

/// One for each element type that can be pooled.
struct PoolTables : PoolTable<float>,
                    PoolTable<double>,
                    PoolTable<std::int8_t>,
                    PoolTable<std::uint8_t>,
                    PoolTable<std::int16_t>,
                    PoolTable<std::int32_t>,
                    PoolTable<std::int64_t> {};

}  // namespace convpool::kernels
