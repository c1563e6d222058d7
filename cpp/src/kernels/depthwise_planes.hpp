#pragma once

// Convolution of few channels, pixels in the vectors: depthwise, small groups, image filters. Nothing is shared between
// output channels, or too little to make a matrix product of it, so rows of results share the rows they read,
// neighbouring pixels the weights.

#include "depthwise_blocks.hpp"
#include "depthwise_columns.hpp"
#include "depthwise_rows.hpp"

namespace convpool::kernels {
namespace {

/// What a tile's weights are.
enum class Weighted {
  one_output,  ///< those of an output, for all of its columns: a few stay in registers
  outputs,     ///< those of `outputs_together` outputs: [channel][tap column][tap row][output], then bias[output]
  by_column,   ///< interleaved channels', as DepthwisePlaneArguments says
};

/// Outputs of a group that are taken together, so that they share what they read. Their weights are broadcast for each
/// product, which costs no instruction or a cheap one.
#if defined(CONVPOOL_ISA_SSE2)
inline constexpr int outputs_together = 1;
#else
inline constexpr int outputs_together = 4;
#endif
template <Weighted weighted>
inline constexpr int outputs_of = weighted == Weighted::outputs ? outputs_together : 1;

/// Weight i of those that results have in common, or of interleaved channels' vectors.
template <class T, Weighted weighted>
CONVPOOL_INLINE Vec<T> load_weight(const T* weight, ptrdiff_t i) {
  Vec<T> w;
  if constexpr (weighted == Weighted::by_column) {
    __builtin_memcpy(&w, weight + i * lanes<T>, sizeof w);
  } else {
    w = weight[i] - Vec<T>{};
  }
  return w;
}

/// Whether tiles that lie wholly inside the plane have code of their own. Not the largest ones, that of three tap
/// columns: they would be half as large again.
template <class T, int ColumnStride>
inline constexpr bool has_inside = specialised<T> && !(columns_together == 3 && ColumnStride == 2);

/// Tap rows [i, i + Chunk) of a column of the kernel: the weights stay in registers, each row of the input is loaded
/// once for all rows of results that it serves. Stride is that of the rows, 0 where they don't share. Row `row` is at
/// `in`. Inside: nothing that is read lies outside the plane. RowsInside: no row of it.
template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, Taken taken, bool Inside,
          bool RowsInside = Inside>
CONVPOOL_INLINE void plane_tap_rows(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t row, ptrdiff_t i,
                                    const T* const (&weight)[3], const WindowOf<Inside, T, ColumnStride>& window,
                                    bool third_inside, Vec<T> (&acc)[outputs_of<weighted>][R]) {
  using V = Vec<T>;
  constexpr int columns = taken == Taken::one ? 1 : taken == Taken::two ? 2 : 3;
  const auto load_weights = [&](V(&w)[columns][Chunk]) CONVPOOL_INLINE_LAMBDA {
    unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        w[t][m] = pinned(load_weight<T, weighted>(weight[t], (i + m) * d.kernel_columns));
      });
    });
  };
  constexpr int O = outputs_of<weighted>;
  [[maybe_unused]] V w[columns][Chunk];
  [[maybe_unused]] const T* of_row[columns];
  if constexpr (weighted == Weighted::outputs) {
    unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { of_row[t] = weight[t] + i * O; });
  }
  const auto multiply = [&](auto r, auto m, const V(&x)[3]) CONVPOOL_INLINE_LAMBDA {
    unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
      if constexpr (weighted == Weighted::outputs) {
        unroll<O>([&](auto o) CONVPOOL_INLINE_LAMBDA { acc[o][r] += of_row[t][m * O + o] * x[t]; });
      } else {
        acc[0][r] += w[t][m] * x[t];
      }
    });
  };
  if constexpr (Stride == 0) {
    static_assert(Chunk == 1);
    if constexpr (weighted != Weighted::outputs) load_weights(w);
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      const ptrdiff_t y = r * d.row_stride;
      const unsigned live = Inside ? 1 : inside_bits(row + y, d.in_rows, 1);
      if (live == 0) return;
      read_pieces<1, Live::all>(window, in + y * d.in_row, 0, live, [&](auto, const T* p) CONVPOOL_INLINE_LAMBDA {
        V x[3];
        load_columns<taken, ColumnStride, T>(p, window, third_inside, x);
        multiply(r, Constant<0>{}, x);
      });
    });
  } else {
    constexpr int reads = Stride * (R - 1) + Chunk;
    const unsigned live = RowsInside ? (std::uint64_t{1} << reads) - 1 : inside_bits(row, d.in_rows, reads);
    if (live == 0) return;
    if constexpr (weighted != Weighted::outputs) load_weights(w);
    constexpr Live expected = RowsInside ? Live::all : has_inside<T, ColumnStride> ? Live::some : Live::any;
    read_pieces<reads, expected>(window, in, d.in_row, live, [&](auto y, const T* p) CONVPOOL_INLINE_LAMBDA {
      V x[3];
      load_columns<taken, ColumnStride, T>(p, window, third_inside, x);
      // Or else GCC keeps the weights of all rows, for which there are no registers.
      if constexpr (weighted == Weighted::outputs) {
        unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { advance(of_row[t], 0); });
      }
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        constexpr int distance = y - m, r = distance / Stride;
        if constexpr (distance >= 0 && distance % Stride == 0 && r < R) multiply(Constant<r>{}, m, x);
      });
    });
  }
}

/// All taps of a square kernel of one channel: without loops and most of what they decide.
template <class T, int R, int Square, int Stride, Weighted weighted, bool Inside, bool RowsInside>
CONVPOOL_INLINE void plane_square(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& t, Vec<T> (&acc)[1][R]) {
  constexpr ptrdiff_t L = lanes<T>, next_column = weighted == Weighted::by_column ? L : 1;
  const auto run = [&](auto taken, ptrdiff_t in, const T* const(&weight)[3]) CONVPOOL_INLINE_LAMBDA {
    constexpr Taken taken_ = static_cast<Taken>(decltype(taken)::value);
    const ptrdiff_t column = t.column + in;
    // As without squares: which path a result takes must not show where a weight isn't finite.
    if (!Inside && (column - 1 >= d.in_columns || column + (t.left < L ? t.left : L) * Stride < 0)) return;
    const WindowOf<Inside, T, Stride> window(column, d.in_columns);
    const ptrdiff_t third = taken_ == Taken::two_after_one ? column - 1 : column + 2 * L;
    plane_tap_rows<T, R, Square, Stride, Stride, weighted, taken_, Inside, RowsInside>(
        d, t.in + in, t.row, 0, weight, window, Inside || (third >= 0 && third < d.in_columns), acc);
  };
  if constexpr (Stride == 1) {
    unroll<Square>([&](auto j) CONVPOOL_INLINE_LAMBDA {
      run(Constant<int(Taken::one)>{}, d.taps[j].in, {t.weight + j * next_column});
    });
  } else {
    static_assert(Square == 3);
    const TapColumns tap = d.taps[0];
    const T* const weight[3] = {t.weight + tap.first, t.weight + tap.second, t.weight + tap.third};
    if constexpr (columns_together == 3) {
      tap.third < tap.first ? run(Constant<int(Taken::two_after_one)>{}, tap.in, weight)
                            : run(Constant<int(Taken::two_before_one)>{}, tap.in, weight);
    } else {
      run(Constant<int(Taken::two)>{}, tap.in, weight);
      run(Constant<int(Taken::one)>{}, tap.in + tap.third - tap.first, {weight[2]});
    }
  }
}

/// The square kernel that tiles of such a kind serve without loops, 0 for none.
template <class T, int Chunk, int Stride, int ColumnStride, Weighted weighted>
inline constexpr int square_of = !specialised<T> || weighted == Weighted::outputs                    ? 0
                                 : Stride != ColumnStride                                            ? 0
                                 : Chunk == (Stride == 1 && CONVPOOL_VECTOR_REGISTERS >= 32 ? 4 : 3) ? 3
                                 : Chunk == 5 && Stride == 1                                         ? 5
                                                                                                     : 0;

template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, bool Inside, int Square,
          bool RowsInside>
CONVPOOL_INLINE void plane_tile(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& t, ptrdiff_t whole) {
  static_assert(weighted != Weighted::by_column || ColumnStride == 1);
  constexpr int O = outputs_of<weighted>;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns;
  Vec<T> acc[O][R];
  const auto for_all = [&](auto f) CONVPOOL_INLINE_LAMBDA {
    unroll<O>([&](auto o)
                  CONVPOOL_INLINE_LAMBDA { unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { f(acc[o][r], o); }); });
  };
  for_all([&](Vec<T>& sum, auto o) CONVPOOL_INLINE_LAMBDA {
    if constexpr (weighted == Weighted::one_output) {
      sum = t.bias - Vec<T>{};
    } else {
      sum = load_weight<T, weighted>(t.weight,
                                     weighted == Weighted::outputs ? d.channels_per_group * taps * O + o : taps);
    }
  });
  const ptrdiff_t width = (t.left < L ? t.left : L) * ColumnStride;
  if constexpr (Square > 0) plane_square<T, R, Square, Stride, weighted, Inside, RowsInside>(d, t, acc);
  for (ptrdiff_t c = 0; c < (Square > 0 ? 0 : d.channels_per_group); ++c) {
    const T* const weight = t.weight + c * taps * O;
    const ptrdiff_t next_column = weighted == Weighted::outputs     ? d.kernel_rows * O
                                  : weighted == Weighted::by_column ? lanes<T>
                                                                    : 1;
    for (const TapColumns *tap = d.taps, *end = tap + d.tap_count; tap != end; ++tap) {
      const auto run = [&](auto taken, ptrdiff_t column, const T* const(&tap_weight)[3]) CONVPOOL_INLINE_LAMBDA {
        constexpr Taken taken_ = static_cast<Taken>(decltype(taken)::value);
        if (!Inside && (column - 1 >= d.in_columns || column + width < 0)) return;
        const WindowOf<Inside, T, ColumnStride> window(column, d.in_columns);
        const ptrdiff_t third = taken_ == Taken::two_after_one ? column - 1 : column + 2 * L;
        const bool third_inside = Inside || (third >= 0 && third < d.in_columns);
        const T* in = t.in + c * d.in_channel + (column - t.column);
        ptrdiff_t row = t.row, i = 0;
        const auto run_rows = [&](auto count) CONVPOOL_INLINE_LAMBDA {
          plane_tap_rows<T, R, count, Stride, ColumnStride, weighted, taken_, Inside>(d, in, row, i, tap_weight, window,
                                                                                      third_inside, acc);
          i += count;
          row += count * d.row_dilation;
          in += count * d.row_dilation * d.in_row;
        };
        while (i < whole) run_rows(Constant<Chunk>{});
        // Chunks of 5 with a stride are for 5 taps alone.
        if constexpr (Chunk > 1 && !(Chunk == 5 && Stride == 2)) {
          while (i < d.kernel_rows) run_rows(Constant<Chunk - 1>{});
        }
      };
      const ptrdiff_t column = t.column + tap->in;
      if constexpr (ColumnStride == 1) {
        run(Constant<int(Taken::one)>{}, column, {weight + tap->first * next_column});
      } else {
        const T* const tap_weight[3] = {weight + tap->first * next_column, weight + tap->second * next_column,
                                        weight + tap->third * next_column};
        if (columns_together == 3 && tap->third >= 0) {
          if constexpr (columns_together == 3) {
            tap->third < tap->first ? run(Constant<int(Taken::two_after_one)>{}, column, tap_weight)
                                    : run(Constant<int(Taken::two_before_one)>{}, column, tap_weight);
          }
          continue;
        }
        if (tap->second >= 0) run(Constant<int(Taken::two)>{}, column, tap_weight);
        const ptrdiff_t alone = tap->second < 0 ? tap->first : tap->third;
        if (alone >= 0) run(Constant<int(Taken::one)>{}, column + alone - tap->first, {weight + alone * next_column});
      }
    }
  }
  if constexpr (ColumnStride == 2 && shuffles_blocks<T>) {
    for_all([&](Vec<T>& sum, auto)
                CONVPOOL_INLINE_LAMBDA { sum = in_order<T>(sum, typename MakeIndices<lanes<T>>::type{}); });
  }
  if (bounded(d.low, d.high)) {
    for_all([&](Vec<T>& sum, auto) CONVPOOL_INLINE_LAMBDA { sum = clamp_to(sum, d.low, d.high); });
  }
  T* out = t.out;
  unroll<O>([&](auto o) CONVPOOL_INLINE_LAMBDA {
    if (t.written == Written::alone) {
      store_columns<T>(acc[o], t.left, out, d.out_row);
    } else if constexpr (writes_lines<T>) {
      static_assert(sizeof(Vec<T>) == cache_line || O * R <= most_waiting);
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        store_lines<T>(out + r * d.out_row, acc[o][r], t.written, t.waiting + (o * R + r) * L);
      });
    }
    out += d.out_channel;
  });
}

/// Rows of the input that are fetched for each row of results. With 32 registers, whose tiles are twice as tall, that
/// is slower with stride 2 (Zen 4).
template <int Stride>
inline constexpr int fetched_rows = Stride == 0                                      ? 1
                                    : Stride == 2 && CONVPOOL_VECTOR_REGISTERS >= 32 ? 0
                                                                                     : Stride;

/// The line at the start of each row. Not inlined: every kind of tile would hold it.
template <class T>
[[gnu::noinline]] void fetch_rows(const T* row, ptrdiff_t next, int rows) {
  __asm__ volatile("");  // GCC otherwise leaves the call out, as one without effect
  for (int r = 0; r < rows; ++r, row += next) __builtin_prefetch(row, 1);
}

/// Inside: nothing that is read lies outside the plane. RowsInside matters to Square kernels alone: where it isn't,
/// rows may lie outside nevertheless, of all tiles.
template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, bool Inside, int Square,
          bool RowsInside>
CONVPOOL_KERNEL void plane_tiles(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& tiles) {
  constexpr ptrdiff_t L = lanes<T>;
  PlaneTiles<T> t = tiles;
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_rows);
  for (;;) {
    if (fetched_rows<Stride> > 0 && t.next != nullptr) {
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        const T* p = t.next + c * d.in_channel;
        for (int r = 0; r < fetched_rows<Stride> * R; ++r, p += d.in_row) __builtin_prefetch(p);
      }
      t.next += L * ColumnStride;
    }
    if (R > 1 && d.fetch_results) fetch_rows(t.out + R * d.out_row, d.out_row, R);
    if (t.waiting != nullptr) {
      t.written = t.left >= L ? streamed(t.out, t.written, t.count > 1 && t.left >= 2 * L) : Written::alone;
    }
    plane_tile<T, R, Chunk, Stride, ColumnStride, weighted, Inside, Square, RowsInside>(d, t, whole);
    if (--t.count == 0) return;
    if constexpr (weighted == Weighted::by_column) {
      const ptrdiff_t weights = (d.kernel_rows * d.kernel_columns + 1) * lanes<T>;
      t.weight += weights;
      if (++t.phase == d.phases) {
        t.weight -= d.phases * weights;
        t.phase = 0;
      }
    }
    t.in += L * ColumnStride;
    t.out += L;
    t.column += L * ColumnStride;
    t.left -= L;
  }
}

template <class T>
using PlaneTilesKernel = void (*)(const DepthwisePlaneArguments<T>&, const PlaneTiles<T>&);

/// Tiles of as many rows, by where they lie: at the edge of the plane, wholly inside it.
template <class T>
struct PlaneTilesByPlace {
  PlaneTilesKernel<T> edge, inside;
};

/// Tiles of one height: they are taken where a plane has `rows` and `least` are left of them.
template <class T>
struct PlaneTileHeight {
  int rows, least;
  PlaneTilesByPlace<T> any, square;     ///< every kernel; one of square_size, 0 for none
  PlaneTilesByPlace<T> square_at_edge;  ///< the same where it reaches over the top or the bottom of the plane, or null
  int square_size;
};

/// The tiles of a kind of kernel, the tallest first.
template <class T>
struct PlaneTileKind {
  PlaneTileHeight<T> heights[3];
  Weighted weighted;
  bool fetches_next;
};

template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, int Square,
          bool RowsInside = true>
inline constexpr PlaneTilesByPlace<T> plane_tiles_by_place{
    plane_tiles<T, R, Chunk, Stride, ColumnStride, weighted, false, Square, RowsInside>,
    plane_tiles<T, R, Chunk, Stride, ColumnStride, weighted, (has_inside<T, ColumnStride> || Square > 0), Square,
                RowsInside>};

template <class T, int R, int Least, int Chunk, int Stride, int ColumnStride, Weighted weighted>
constexpr PlaneTileHeight<T> plane_tile_height() {
  constexpr int square = R == 1 ? 0 : square_of<T, Chunk, Stride, ColumnStride, weighted>;
  PlaneTileHeight<T> height{R,
                            Least,
                            plane_tiles_by_place<T, R, Chunk, Stride, ColumnStride, weighted, 0>,
                            plane_tiles_by_place<T, R, Chunk, Stride, ColumnStride, weighted, square>,
                            {},
                            square};
  // Taller tiles have less of an edge, and would be half as large again.
  if constexpr (square > 0 && CONVPOOL_VECTOR_REGISTERS < 32) {
    height.square_at_edge = plane_tiles_by_place<T, R, Chunk, Stride, ColumnStride, weighted, square, false>;
  }
  return height;
}

template <class T, int Chunk, int Stride, int ColumnStride, Weighted weighted>
constexpr PlaneTileKind<T> make_plane_tile_kind() {
  PlaneTileKind<T> kind{{}, weighted, Stride > 0 && fetched_rows<Stride> > 0};
  PlaneTileHeight<T>* height = kind.heights;
  if constexpr (Stride == 0) {
    // What goes by rows leaves few to others.
    if constexpr (!specialised<T> || weighted == Weighted::by_column) {
      *height++ = plane_tile_height<T, 4, 2, Chunk, Stride, ColumnStride, weighted>();
    }
  } else if constexpr (weighted == Weighted::outputs) {
    constexpr int R = CONVPOOL_VECTOR_REGISTERS < 32 ? 3 : 7;
    *height++ = plane_tile_height<T, R, (R == 3 ? 1 : 3), Chunk, Stride, ColumnStride, weighted>();
  } else {
    // The weights of a chunk, three columns of them with a column stride of 2, need registers too.
    if constexpr (specialised<T> && CONVPOOL_VECTOR_REGISTERS >= 32 && (ColumnStride == 1 || Chunk < 5)) {
      *height++ = plane_tile_height<T, 14, 8, Chunk, Stride, ColumnStride, weighted>();
    }
    *height++ = plane_tile_height<T, 7, 3, Chunk, Stride, ColumnStride, weighted>();
  }
  // A single row shares nothing: one serves every chunk and stride.
  *height = plane_tile_height<T, 1, 1, 1, 0, ColumnStride, weighted>();
  return kind;
}
template <class T, int Chunk, int Stride, int ColumnStride, Weighted weighted>
inline constexpr PlaneTileKind<T> plane_tile_kind = make_plane_tile_kind<T, Chunk, Stride, ColumnStride, weighted>();

/// Rows in the tallest tiles that fit. The last ones go back over rows that are done already rather than stop short.
template <class T>
[[gnu::noinline]] void plane_rows(const PlaneTileKind<T>& kind, const DepthwisePlaneArguments<T>& d,
                                  const InsideColumns& inside_plane, const T* in, const T* weight, const T* bias,
                                  T* out) {
  constexpr int L = lanes<T>;
  constexpr ptrdiff_t most_together = 8;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns, weights = d.channels_per_group * taps;
  const ptrdiff_t outputs = kind.weighted == Weighted::outputs ? 1 : d.outputs_per_group;
  alignas(vector_alignment) T waiting[most_waiting * L];
  const bool streams =
      d.stream && streams_lines(out, d.out_row) && (d.outputs_per_group == 1 || streams_lines(out, d.out_channel));
  for (ptrdiff_t row = 0; row < d.rows;) {
    const ptrdiff_t left = d.rows - row;
    const PlaneTileHeight<T>* height = kind.heights;
    while (d.rows < height->rows || left < height->least) ++height;
    if (left < height->rows) row = d.rows - height->rows;
    const ptrdiff_t first_row = d.first_row + row * d.row_stride;
    const bool rows_inside =
        first_row >= 0 &&
        first_row + (height->rows - 1) * d.row_stride + (d.kernel_rows - 1) * d.row_dilation < d.in_rows;
    const bool square = height->square_size > 0 && (rows_inside || height->square_at_edge.edge != nullptr) &&
                        d.channels_per_group == 1 && d.kernel_rows == height->square_size &&
                        d.kernel_columns == height->square_size && (d.column_stride == 1 || d.tap_count == 1);
    const PlaneTilesByPlace<T>& tiles_by_place = !square       ? height->any
                                                 : rows_inside ? height->square
                                                               : height->square_at_edge;
    InsideColumns inside = (rows_inside || square) && tiles_by_place.inside != tiles_by_place.edge
                               ? inside_plane
                               : InsideColumns{0, 0, -1};
    if (streams && sizeof(Vec<T>) < cache_line) {  // lines aren't cut between two kernels
      inside.begin = (inside.begin + 2 * L - 1) / (2 * L) * (2 * L);
      inside.end = inside.end / (2 * L) * (2 * L);
      inside.last = inside.end - L;
      if (inside.begin >= inside.end) inside = {0, 0, -1};
    }
    // What the next row of tiles reads first. Measured on planes beyond the last cache: 2.1 to 1.5 ms, with stride 2 on
    // Zen 3 16.1 to 11.2 ms (16 images of 96x112x112).
    const T* const next =
        kind.fetches_next
            ? in + d.first_column + (first_row + (height->rows - 1) * d.row_stride + d.kernel_rows) * d.in_row
            : nullptr;
    PlaneTiles<T> tiles{in + first_row * d.in_row + d.first_column,
                        weight,
                        bias == nullptr ? T(0) : bias[0],
                        out + row * d.out_row,
                        first_row,
                        d.first_column,
                        d.columns,
                        1,
                        next,
                        0,
                        streams ? waiting : nullptr,
                        Written::alone};
    for (ptrdiff_t x = 0;;) {
      const bool whole = x >= inside.begin && x <= inside.last && tiles.left >= L;
      const ptrdiff_t until = whole ? inside.end : x < inside.begin ? inside.begin : d.columns;
      const ptrdiff_t count = (until - x) / L;
      tiles.count = count < 1 ? 1 : count > most_together ? most_together : count;
      const PlaneTilesKernel<T> run = whole ? tiles_by_place.inside : tiles_by_place.edge;
      if (kind.weighted == Weighted::by_column) {
        tiles.phase = x / L % d.phases;
        tiles.weight = weight + tiles.phase * (taps + 1) * L;
      }
      run(d, tiles);
      if (outputs > 1) {
        PlaneTiles<T> others = tiles;
        others.next = nullptr;
        for (ptrdiff_t k = 1; k < outputs; ++k) {
          if (bias != nullptr) others.bias = bias[k];
          others.weight += weights;
          others.out += d.out_channel;
          run(d, others);
        }
      }
      ptrdiff_t done = tiles.count * L;
      if (x + done >= d.columns) break;
      // Results that are there already, again, rather than a part of a vector.
      const ptrdiff_t rest = d.columns - x - done;
      if (kind.weighted != Weighted::by_column && !streams && rest < L) done -= L - rest;
      x += done;
      tiles.in += done * d.column_stride;
      tiles.column += done * d.column_stride;
      tiles.out += done;
      tiles.left -= done;
      if (next != nullptr) tiles.next += done * d.column_stride;
    }
    row += height->rows;
  }
}

/// The same with the inside in blocks: bands of rows, so that what lies beside the blocks finds them in the cache.
template <class T>
[[gnu::noinline]] void plane_in_blocks(const PlaneTileKind<T>& kind, const DepthwisePlaneArguments<T>& d, const T* in,
                                       const T* weight, const T* bias, T* out) {
  constexpr ptrdiff_t L = lanes<T>, width = block_vectors * L, tile = 7, band = 4 * tile;
  const auto part = [&](ptrdiff_t row, ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns) {
    if (rows <= 0 || columns <= 0) return;
    DepthwisePlaneArguments<T> some = d;
    some.first_row += row;
    some.first_column += column;
    some.rows = rows;
    some.columns = columns;
    plane_rows(kind, some, inside_columns(some), in, weight, bias, out + row * d.out_row + column);
  };
  const bool streams =
      d.stream && streams_lines(out, d.out_row) && (d.outputs_per_group == 1 || streams_lines(out, d.out_channel));
  // Rows at an edge make a whole tile.
  const ptrdiff_t above = -d.first_row, below = d.first_row + d.rows - 1 + d.kernel_rows - d.in_rows;
  const ptrdiff_t top = above <= 0 ? 0 : above < tile ? tile : above;
  const ptrdiff_t bottom = d.rows - (below <= 0 ? 0 : below < tile ? tile : below);
  const ptrdiff_t unit = streams ? width : L;
  const ptrdiff_t left = d.first_column < 0 ? (unit - 1 - d.first_column) / unit * unit : 0;
  const ptrdiff_t room = d.in_columns - d.first_column - d.taps[d.tap_count - 1].in;
  const ptrdiff_t end = room < d.columns ? room : d.columns;
  const ptrdiff_t blocks = (end - left) / width;
  if (bottom - top < tall_block || end - left < width) return part(0, d.rows, 0, d.columns);
  // Less than half a block is left to tiles.
  const ptrdiff_t rest = (end - left) % width;
  const bool overlaps = rest > L && !streams;
  // At a whole vector: the columns that a tile takes together decide which taps it leaves out.
  const ptrdiff_t right = overlaps ? end / L * L : end - rest;
  const ptrdiff_t weights = d.channels_per_group * d.kernel_rows * d.kernel_columns;
  const BlockKernels<T> kernels = block_kernels<T>(d.kernel_rows);
  const auto run = [&](BlockKernel<T> kernel, ptrdiff_t row, ptrdiff_t rows) {
    const T* const first = in + (d.first_row + row) * d.in_row + d.first_column;
    BlockTiles<T> tiles{
        first + left, weight,
        T(0),         out + row * d.out_row + left,
        blocks,       kind.fetches_next ? first + left + (rows + d.kernel_rows - 1) * d.in_row : nullptr,
        streams};
    for (ptrdiff_t k = 0; k < d.outputs_per_group; ++k) {
      tiles.bias = bias == nullptr ? T(0) : bias[k];
      kernel(d, tiles);
      if (overlaps) {
        BlockTiles<T> last = tiles;
        last.in = first + end - width;
        last.out += end - width - left;
        last.count = 1;
        last.next = nullptr;
        kernel(d, last);
      }
      tiles.weight += weights;
      tiles.out += d.out_channel;
      tiles.next = nullptr;
    }
  };
  part(0, top, 0, d.columns);
  for (ptrdiff_t row = top; row < bottom;) {
    const ptrdiff_t begin = row, until = bottom - row < band + tall_block ? bottom : row + band;
    while (kernels.tall != nullptr && (until - row) % low_block != 0 && until - row >= tall_block) {
      run(kernels.tall, row, tall_block);
      row += tall_block;
    }
    for (; row < until; row += low_block) {
      if (until - row < low_block) row = until - low_block;
      run(kernels.low, row, low_block);
    }
    part(begin, until - begin, 0, left);
    part(begin, until - begin, right, d.columns - right);
  }
  part(bottom, d.rows - bottom, 0, d.columns);
}

/// The most weights of outputs that are taken together.
inline constexpr ptrdiff_t most_weights_together = 2048;

/// Groups whose outputs are taken `outputs_together` at a time.
template <class T, int Stride>
void plane_groups(const DepthwisePlaneArguments<T>& d) {
  constexpr int O = outputs_together;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns, weights = d.channels_per_group * taps;
  const InsideColumns inside = inside_columns(d);
  alignas(vector_alignment) T weight[most_weights_together + O];
  for (ptrdiff_t g = 0; g < d.groups; ++g) {
    for (ptrdiff_t k = 0; k < d.outputs_per_group; k += O) {
      const ptrdiff_t first = g * d.outputs_per_group + k;
      const T* const from = d.weight + first * weights;
      T* to = weight;
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        for (ptrdiff_t j = 0; j < d.kernel_columns; ++j) {
          for (ptrdiff_t i = 0; i < d.kernel_rows; ++i, to += O) {
            for (int o = 0; o < O; ++o) to[o] = from[o * weights + c * taps + i * d.kernel_columns + j];
          }
        }
      }
      for (int o = 0; o < O; ++o) to[o] = d.bias == nullptr ? T(0) : d.bias[first + o];
      plane_rows<T>(plane_tile_kind<T, 3, Stride, Stride, Weighted::outputs>, d, inside, d.in + g * d.in_group, weight,
                    nullptr, d.out + first * d.out_channel);
    }
  }
}

/// Tiles whose rows share what they read, for kernels of some rows, or of any number where there are special cases.
template <class T, Weighted weighted>
const PlaneTileKind<T>& rows_together(ptrdiff_t kernel_rows) {
  if constexpr (specialised<T>) {
    // Interleaved channels' two rows share what they read, too, and with 32 registers all: 2x3 on 48x48 was 1.28 times
    // as fast as in tiles that don't, 2x2 1.08 times.
    constexpr int least = CONVPOOL_VECTOR_REGISTERS >= 32 ? 2 : weighted == Weighted::by_column ? 1 : 3;
    return *with_tap_chunk<5, least>(kernel_rows,
                                     [](auto chunk) { return &plane_tile_kind<T, chunk, 1, 1, weighted>; });
  } else {
    return plane_tile_kind<T, 3, 1, 1, weighted>;
  }
}

/// Planes row by row; where marks aren't enough, the ends of rows in tiles of `kind`, and those whose windows reach
/// over the top or the bottom.
template <class T, int ColumnStride>
class PlaneByRows {
 public:
  PlaneByRows(const PlaneTileKind<T>& kind, const DepthwisePlaneArguments<T>& d)
      : kind_(kind), d_(d), steps_(d), inside_(inside_columns(d)), has_marks_(ColumnMarks<T>::enough(d)) {
    if (has_marks_) marks_.set(d);
    const ptrdiff_t room = d.in_rows - 1 - (d.kernel_rows - 1) * d.row_dilation - d.first_row;
    begin_ = d.first_row >= 0 ? 0 : (-d.first_row - 1) / d.row_stride + 1;
    end_ = room < 0 ? 0 : room / d.row_stride + 1;
    if (end_ > d.rows) end_ = d.rows;
    if (begin_ >= end_ || (d.columns < lanes<T> && !has_marks_)) begin_ = end_ = 0;
  }

  /// Of one output.
  [[gnu::noinline]] void run(const T* in, const T* weight, const T* bias, T* out) const {
    constexpr ptrdiff_t L = lanes<T>;
    const auto part = [&](ptrdiff_t row, ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns) {
      if (rows <= 0 || columns <= 0) return;
      DepthwisePlaneArguments<T> some = d_;
      some.first_row += row * d_.row_stride;
      some.first_column += column * ColumnStride;
      some.outputs_per_group = 1;
      some.rows = rows;
      some.columns = columns;
      plane_rows(kind_, some, inside_columns(some), in, weight, bias, out + row * d_.out_row + column);
    };
    const bool streams = d_.stream && streams_lines(out, d_.out_row);
    // Lines aren't cut between two kernels.
    const ptrdiff_t unit = streams && ptrdiff_t{sizeof(Vec<T>)} < cache_line ? 2 * L : L;
    const ptrdiff_t first = (inside_.begin + unit - 1) / unit * unit, until = inside_.end / unit * unit;
    RowColumns<T> columns{0, 0, d_.columns, has_marks_ ? marks_.begin() : nullptr};
    if (until > first) columns = {first, until, d_.columns, columns.marks};
    const auto band = [&](ptrdiff_t row, ptrdiff_t end) {
      const ptrdiff_t first_row = d_.first_row + row * d_.row_stride;
      return RowBand<T>{in + first_row * d_.in_row + d_.first_column,
                        weight,
                        out + row * d_.out_row,
                        end - row,
                        first_row,
                        bias == nullptr ? T(0) : *bias,
                        streams,
                        d_.row_stride > d_.kernel_rows && d_.rows > 1};
    };
    if (begin_ < end_) row_bands<T, ColumnStride>(d_, steps_, columns, band(begin_, end_));
    if (has_marks_) {
      row_band<T, ColumnStride, 1>(d_, steps_, columns, band(0, begin_));
      row_band<T, ColumnStride, 1>(d_, steps_, columns, band(end_, d_.rows));
    } else {
      part(0, begin_, 0, d_.columns);
      part(begin_, end_ - begin_, 0, columns.begin);
      part(begin_, end_ - begin_, columns.end, d_.columns - columns.end);
      part(end_, d_.rows - end_, 0, d_.columns);
    }
  }

 private:
  const PlaneTileKind<T>& kind_;
  const DepthwisePlaneArguments<T>& d_;
  RowSteps steps_;
  InsideColumns inside_;
  ptrdiff_t begin_, end_;  ///< rows whose windows lie inside
  bool has_marks_;
  ColumnMarks<T> marks_;
};

/// See DepthwisePlaneTable. With few registers, stride 1 and Zen 3: 2x1 to 2x5 1.4 to 1.8 times as fast as in tiles
/// whose rows share what they read, 3x1, 3x2 and 4x1 1.2 to 1.3 times, 5x2 1.2 times, 5x1 and 3x5 level.
template <class T>
bool goes_by_rows(ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t row_stride, ptrdiff_t column_stride) {
  if (!specialised<T>) return false;
  if (row_stride != column_stride || row_stride >= kernel_rows) return true;
  return CONVPOOL_VECTOR_REGISTERS < 32 && row_stride == 1 &&
         (kernel_rows <= 2 || (kernel_rows <= 4 && kernel_columns <= 2));
}

template <class T, int ColumnStride>
void planes_by_rows(const DepthwisePlaneArguments<T>& d) {
  const PlaneByRows<T, ColumnStride> planes(plane_tile_kind<T, 1, 0, ColumnStride, Weighted::one_output>, d);
  const ptrdiff_t weights = d.channels_per_group * d.kernel_rows * d.kernel_columns;
  for (ptrdiff_t g = 0; g < d.groups; ++g) {
    for (ptrdiff_t k = g * d.outputs_per_group; k < (g + 1) * d.outputs_per_group; ++k) {
      planes.run(d.in + g * d.in_group, d.weight + k * weights, d.bias == nullptr ? nullptr : d.bias + k,
                 d.out + k * d.out_channel);
    }
  }
}

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  if constexpr (specialised<T>) {
    constexpr int least_rows = CONVPOOL_VECTOR_REGISTERS < 32 ? 3 : 7;
    const ptrdiff_t weights_together = d.channels_per_group * d.kernel_rows * d.kernel_columns * outputs_together;
    // Measured: with stride 1 and 16 registers 2 % slower.
    if (d.outputs_per_group % outputs_together == 0 && (CONVPOOL_VECTOR_REGISTERS >= 32 || d.row_stride == 2) &&
        d.row_dilation == 1 && d.row_stride == d.column_stride && d.row_stride <= 2 && d.kernel_rows > 1 &&
        d.rows >= least_rows && weights_together <= most_weights_together) {
      if constexpr (CONVPOOL_VECTOR_REGISTERS >= 32) {
        if (d.row_stride == 1) return plane_groups<T, 1>(d);
      }
      return plane_groups<T, 2>(d);
    }
  }
  // Shorter kernels are as fast in tiles of one vector, whose rows serve more results.
  const bool in_blocks = takes_blocks && d.row_dilation == 1 && d.row_stride == 1 && d.column_stride == 1 &&
                         d.kernel_rows >= least_block_kernel && d.kernel_columns >= least_block_kernel;
  const auto run = [&](const PlaneTileKind<T>& kind) {
    const InsideColumns inside = inside_columns(d);
    const ptrdiff_t weights = d.outputs_per_group * d.channels_per_group * d.kernel_rows * d.kernel_columns;
    for (ptrdiff_t g = 0; g < d.groups; ++g) {
      const ptrdiff_t k = g * d.outputs_per_group;
      const T* const in = d.in + g * d.in_group;
      const T* const bias = d.bias == nullptr ? nullptr : d.bias + k;
      T* const out = d.out + k * d.out_channel;
      if constexpr (takes_blocks) {
        if (in_blocks) {
          plane_in_blocks(kind, d, in, d.weight + g * weights, bias, out);
          continue;
        }
      }
      plane_rows(kind, d, inside, in, d.weight + g * weights, bias, out);
    }
  };
  constexpr Weighted one = Weighted::one_output;
  if constexpr (specialised<T>) {
    if (goes_by_rows<T>(d.kernel_rows, d.kernel_columns, d.row_dilation == 1 ? d.row_stride : d.kernel_rows,
                        d.column_stride) &&
        RowSteps::can_list(d)) {
      return d.column_stride == 1 ? planes_by_rows<T, 1>(d) : planes_by_rows<T, 2>(d);
    }
  }
  if (d.row_dilation == 1 && d.row_stride == d.column_stride && d.row_stride < d.kernel_rows) {
    if (d.row_stride == 1) return run(rows_together<T, one>(d.kernel_rows));
    // The largest tiles of all: small chunks leave them half as large, and serve all but 5 taps as well.
    if constexpr (double_chunk<T> == 5) {
      if (d.kernel_rows == 5) return run(plane_tile_kind<T, 5, 2, 2, one>);
    }
    if (d.kernel_rows > 1) return run(plane_tile_kind<T, 3, 2, 2, one>);
  }
  run(d.column_stride == 1 ? plane_tile_kind<T, 1, 0, 1, one> : plane_tile_kind<T, 1, 0, 2, one>);
}

template <class T>
void depthwise_interleaved(const DepthwisePlaneArguments<T>& d) {
  constexpr Weighted by_column = Weighted::by_column;
  // Each line is read once and left again where tiles of many rows would push it out before its next vector (2x1 to
  // 4x1 1.3 to 1.5 times as fast, otherwise .8, Zen 3).
  const bool crowded = d.in_row * ptrdiff_t{sizeof(T)} % same_set_bytes == 0 && d.kernel_rows <= most_crowded_rows;
  const bool together = d.row_dilation == 1 && d.row_stride == 1 && (specialised<T> || d.kernel_rows > 1) && !crowded;
  plane_rows<T>(together ? rows_together<T, by_column>(d.kernel_rows) : plane_tile_kind<T, 1, 0, 1, by_column>, d,
                inside_columns(d), d.in, d.weight, nullptr, d.out);
}

}  // namespace
}  // namespace convpool::kernels
