#pragma once

// Convolution of few channels, pixels in the vectors: depthwise, small groups, image filters. Nothing is shared between
// output channels, or too little to make a matrix product of it, so rows of results share the rows they read,
// neighbouring pixels the weights.

#include "depthwise_windows.hpp"

namespace convpool::kernels {
namespace {

/// What `count` tiles beside each other, of R rows and one vector of columns of one output, work on. `row` and `column`
/// are where the window of their first result starts in the input, which is `in`. R rows from `next` on are to be
/// fetched, null for none. Of interleaved channels `weight` is that of `phase`.
template <class T>
struct PlaneTiles {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t row, column, left, count;
  const T* next;
  ptrdiff_t whole_chunks;
  ptrdiff_t phase;
};

/// How many tap columns are taken at once, see TapColumns: a third one comes before or after the two.
enum class Taken { one, two, two_after_one, two_before_one };

/// Whether blocks of 16 bytes are shuffled apart, each by itself: that takes a cheaper instruction than a whole vector
/// does, or one where that takes two. Results are put in order once, at their end.
template <class T, int N>
#if defined(CONVPOOL_ISA_AVX2) || defined(CONVPOOL_ISA_AVX512)
inline constexpr bool shuffles_blocks = N == lanes<T>;
#else
inline constexpr bool shuffles_blocks = false;
#endif

/// The result that stands at position p of a vector until then, and the other way round.
template <class T, int N>
constexpr int result_at(int p) {
  constexpr int block = 16 / int(sizeof(T)), half = block / 2;
  return shuffles_blocks<T, N> ? p % block / half * (N / 2) + p / block * half + p % half : p;
}
template <class T, int N>
constexpr int position_of(int result) {
  int p = 0;
  while (result_at<T, N>(p) != result) ++p;
  return p;
}

/// Every other element of a and b.
template <class T, int N, int Odd, int... I>
CONVPOOL_INLINE VecN<T, N> alternate(VecN<T, N> a, VecN<T, N> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * result_at<T, N>(I) + Odd)...);
}
template <class T, int N, int... I>
CONVPOOL_INLINE VecN<T, N> in_order(VecN<T, N> v, Indices<I...>) {
  return __builtin_shufflevector(v, v, position_of<T, N>(I)...);
}
/// Each result's element becomes the next one's, or the one's before; what is missing then comes from another vector.
template <class T, int N, int... I>
CONVPOOL_INLINE VecN<T, N> shifted_up(VecN<T, N> v, VecN<T, N> first, Indices<I...>) {
  return __builtin_shufflevector(
      v, first, (result_at<T, N>(I) == 0 ? N : position_of<T, N>((result_at<T, N>(I) + N - 1) % N))...);
}
template <class T, int N, int... I>
CONVPOOL_INLINE VecN<T, N> shifted_down(VecN<T, N> v, VecN<T, N> last, Indices<I...>) {
  return __builtin_shufflevector(
      v, last, (result_at<T, N>(I) == N - 1 ? N : position_of<T, N>((result_at<T, N>(I) + 1) % N))...);
}

/// The most tap columns that are taken at once: their weights want registers, too.
inline constexpr int columns_together = CONVPOOL_VECTOR_REGISTERS < 32 ? 2 : CONVPOOL_MASKS_LOADS ? 3 : 2;

/// The columns of a row that a vector of results sees through each of the tap columns taken. With a column stride of 2,
/// what the third sees is what one of the others saw, a result further, and one more element: that costs less than the
/// two loads that it would take.
template <Taken taken, int ColumnStride, class T, int N, class W>
CONVPOOL_INLINE void load_columns(const T* p, const W& window, bool third_inside, VecN<T, N> (&x)[3]) {
  using V = VecN<T, N>;
  if constexpr (ColumnStride == 1) {
    x[0] = pinned(window.template load<0>(p));
  } else {
    using All = typename MakeIndices<N>::type;
    const V a = window.template load<0>(p), b = window.template load<1>(p);
    x[0] = alternate<T, N, 0>(a, b, All{});
    if constexpr (taken != Taken::one) x[1] = alternate<T, N, 1>(a, b, All{});
    if constexpr (taken == Taken::two_after_one) {
      x[2] = shifted_up<T, N>(x[1], where_inside(p - 1, third_inside) - V{}, All{});
    } else if constexpr (taken == Taken::two_before_one) {
      x[2] = shifted_down<T, N>(x[0], where_inside(p + 2 * N, third_inside) - V{}, All{});
    }
  }
}

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
template <class T, int N, Weighted weighted>
CONVPOOL_INLINE VecN<T, N> load_weight(const T* weight, ptrdiff_t i) {
  VecN<T, N> w;
  if constexpr (weighted == Weighted::by_column) {
    __builtin_memcpy(&w, weight + i * lanes<T>, sizeof w);
  } else {
    w = weight[i] - VecN<T, N>{};
  }
  return w;
}

/// Tap rows [i, i + Chunk) of a column of the kernel: the weights stay in registers, each row of the input is loaded
/// once for all rows of results that it serves. Stride is that of the rows, 0 where they don't share. Row `row` is at
/// `in`. Inside: nothing that is read lies outside the plane. RowsInside: no row of it.
template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, Taken taken, bool Inside,
          bool RowsInside = Inside>
CONVPOOL_INLINE void plane_tap_rows(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t row, ptrdiff_t i,
                                    const T* const (&weight)[3], const WindowOf<Inside, T, N, ColumnStride>& window,
                                    bool third_inside, VecN<T, N> (&acc)[outputs_of<weighted>][R]) {
  using V = VecN<T, N>;
  constexpr int columns = taken == Taken::one ? 1 : taken == Taken::two ? 2 : 3;
  const auto load_weights = [&](V(&w)[columns][Chunk]) CONVPOOL_INLINE_LAMBDA {
    unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        w[t][m] = pinned(load_weight<T, N, weighted>(weight[t], (i + m) * d.kernel_columns));
      });
    });
  };
  V w[columns][Chunk];
  if constexpr (Stride == 0) {
    static_assert(Chunk == 1);
    load_weights(w);
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      const ptrdiff_t y = r * d.row_stride;
      const unsigned live = Inside ? 1 : inside_bits(row + y, d.in_rows, 1);
      if (live == 0) return;
      read_pieces<1>(window, in + y * d.in_row, 0, live, [&](auto, const T* p) CONVPOOL_INLINE_LAMBDA {
        V x[3];
        load_columns<taken, ColumnStride, T, N>(p, window, third_inside, x);
        unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { acc[0][r] += w[t][0] * x[t]; });
      });
    });
  } else {
    constexpr int reads = Stride * (R - 1) + Chunk;
    const unsigned live = RowsInside ? (std::uint64_t{1} << reads) - 1 : inside_bits(row, d.in_rows, reads);
    if (live == 0) return;
    constexpr int O = outputs_of<weighted>;
    [[maybe_unused]] const T* of_row[columns];
    if constexpr (weighted == Weighted::outputs) {
      unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { of_row[t] = weight[t] + i * O; });
    } else {
      load_weights(w);
    }
    read_pieces<reads>(window, in, d.in_row, live, [&](auto y, const T* p) CONVPOOL_INLINE_LAMBDA {
      V x[3];
      load_columns<taken, ColumnStride, T, N>(p, window, third_inside, x);
      // Or else GCC keeps the weights of all rows, for which there are no registers.
      if constexpr (weighted == Weighted::outputs) {
        unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { advance(of_row[t], 0); });
      }
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        constexpr int distance = y - m, r = distance / Stride;
        if constexpr (distance >= 0 && distance % Stride == 0 && r < R) {
          unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
            if constexpr (weighted == Weighted::outputs) {
              unroll<O>([&](auto o) CONVPOOL_INLINE_LAMBDA { acc[o][r] += of_row[t][m * O + o] * x[t]; });
            } else {
              acc[0][r] += w[t][m] * x[t];
            }
          });
        }
      });
    });
  }
}

/// All taps of a square kernel of one channel, no row outside the plane: without loops and most of what they decide.
template <class T, int N, int R, int Square, int Stride, Weighted weighted, bool Inside>
CONVPOOL_INLINE void plane_square(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& t,
                                  VecN<T, N> (&acc)[1][R]) {
  constexpr ptrdiff_t next_column = weighted == Weighted::by_column ? lanes<T> : 1;
  const auto run = [&](auto taken, ptrdiff_t in, const T* const(&weight)[3]) CONVPOOL_INLINE_LAMBDA {
    constexpr Taken taken_ = static_cast<Taken>(decltype(taken)::value);
    const ptrdiff_t column = t.column + in;
    // As without squares: which path a result takes must not show where a weight isn't finite.
    if (!Inside && (column - 1 >= d.in_columns || column + (t.left < N ? t.left : N) * Stride < 0)) return;
    const WindowOf<Inside, T, N, Stride> window(column, d.in_columns);
    const ptrdiff_t third = taken_ == Taken::two_after_one ? column - 1 : column + 2 * N;
    plane_tap_rows<T, N, R, Square, Stride, Stride, weighted, taken_, Inside, true>(
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

/// The square kernel that tiles of such a kind serve without loops, 0 for none. For double they would only be code.
template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted>
inline constexpr int square_of = sizeof(T) > 4 || weighted == Weighted::outputs                      ? 0
                                 : Stride != ColumnStride || R == 1                                  ? 0
                                 : Chunk == (Stride == 1 && CONVPOOL_VECTOR_REGISTERS >= 32 ? 4 : 3) ? 3
                                 : Chunk == 5 && Stride == 1                                         ? 5
                                                                                                     : 0;

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, bool Inside, int Square>
CONVPOOL_INLINE void plane_tile(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& t) {
  static_assert(weighted != Weighted::by_column || ColumnStride == 1);
  constexpr int O = outputs_of<weighted>;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns;
  VecN<T, N> acc[O][R];
  const auto for_all = [&](auto f) CONVPOOL_INLINE_LAMBDA {
    unroll<O>([&](auto o)
                  CONVPOOL_INLINE_LAMBDA { unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { f(acc[o][r], o); }); });
  };
  for_all([&](VecN<T, N>& sum, auto o) CONVPOOL_INLINE_LAMBDA {
    if constexpr (weighted == Weighted::one_output) {
      sum = t.bias - VecN<T, N>{};
    } else {
      sum = load_weight<T, N, weighted>(t.weight,
                                        weighted == Weighted::outputs ? d.channels_per_group * taps * O + o : taps);
    }
  });
  const ptrdiff_t whole = t.whole_chunks;
  const ptrdiff_t width = (t.left < N ? t.left : N) * ColumnStride;
  if constexpr (Square > 0) plane_square<T, N, R, Square, Stride, weighted, Inside>(d, t, acc);
  for (ptrdiff_t c = 0; c < (Square > 0 ? 0 : d.channels_per_group); ++c) {
    const T* const weight = t.weight + c * taps * O;
    const ptrdiff_t next_column = weighted == Weighted::outputs     ? d.kernel_rows * O
                                  : weighted == Weighted::by_column ? lanes<T>
                                                                    : 1;
    for (const TapColumns *tap = d.taps, *end = tap + d.tap_count; tap != end; ++tap) {
      const auto run = [&](auto taken, ptrdiff_t column, const T* const(&tap_weight)[3]) CONVPOOL_INLINE_LAMBDA {
        constexpr Taken taken_ = static_cast<Taken>(decltype(taken)::value);
        if (!Inside && (column - 1 >= d.in_columns || column + width < 0)) return;
        const WindowOf<Inside, T, N, ColumnStride> window(column, d.in_columns);
        const ptrdiff_t third = taken_ == Taken::two_after_one ? column - 1 : column + 2 * N;
        const bool third_inside = Inside || (third >= 0 && third < d.in_columns);
        const T* in = t.in + c * d.in_channel + (column - t.column);
        ptrdiff_t row = t.row, i = 0;
        const auto run_rows = [&](auto count) CONVPOOL_INLINE_LAMBDA {
          plane_tap_rows<T, N, R, count, Stride, ColumnStride, weighted, taken_, Inside>(d, in, row, i, tap_weight,
                                                                                         window, third_inside, acc);
          i += count;
          row += count * d.row_dilation;
          in += count * d.row_dilation * d.in_row;
        };
        while (i < whole) run_rows(Constant<Chunk>{});
        if constexpr (Chunk > 1) {
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
  if constexpr (ColumnStride == 2 && shuffles_blocks<T, N>) {
    for_all([&](VecN<T, N>& sum, auto)
                CONVPOOL_INLINE_LAMBDA { sum = in_order<T, N>(sum, typename MakeIndices<N>::type{}); });
  }
  if (bounded(d.low, d.high)) {
    for_all([&](VecN<T, N>& sum, auto) CONVPOOL_INLINE_LAMBDA { sum = clamp_to(sum, d.low, d.high); });
  }
  T* out = t.out;
  unroll<O>([&](auto o) CONVPOOL_INLINE_LAMBDA {
    if (N == lanes<T> && d.stream && t.left >= N && streams_whole<T>(out, d.out_row)) {
      if constexpr (N == lanes<T>) {
        unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { store_streaming(out + r * d.out_row, acc[o][r]); });
      }
    } else {
      store_columns<T, N>(acc[o], t.left, out, d.out_row);
    }
    out += d.out_channel;
  });
}

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted, bool Inside, int Square>
CONVPOOL_KERNEL void plane_tiles(const DepthwisePlaneArguments<T>& d, PlaneTiles<T> t) {
  for (;;) {
    if (t.next != nullptr) {
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        const T* p = t.next + c * d.in_channel;
        for (int r = 0; r < R; ++r, p += d.in_row) __builtin_prefetch(p);
      }
      t.next += N;
    }
    plane_tile<T, N, R, Chunk, Stride, ColumnStride, weighted, Inside, Square>(d, t);
    if (--t.count == 0) return;
    if constexpr (weighted == Weighted::by_column) {
      const ptrdiff_t weights = (d.kernel_rows * d.kernel_columns + 1) * lanes<T>;
      t.weight += weights;
      if (++t.phase == d.phases) {
        t.weight -= d.phases * weights;
        t.phase = 0;
      }
    }
    t.in += N * ColumnStride;
    t.out += N;
    t.column += N * ColumnStride;
    t.left -= N;
  }
}

template <class T, int R, int Chunk, int Stride, int ColumnStride, Weighted weighted>
void plane_tile_row(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out,
                    ptrdiff_t row) {
  constexpr int L = lanes<T>, S = shortest_vector<T>;
  constexpr ptrdiff_t most_together = 8;
  // Not of the largest: they would be half as large again.
  constexpr bool has_inside = !(columns_together == 3 && ColumnStride == 2);
  const ptrdiff_t weights = d.channels_per_group * d.kernel_rows * d.kernel_columns;
  const ptrdiff_t first_row = d.first_row + row * d.row_stride;
  const bool rows_inside =
      first_row >= 0 && first_row + (R - 1) * d.row_stride + (d.kernel_rows - 1) * d.row_dilation < d.in_rows;
  // Strided rows are loaded to the end of their last pair.
  const ptrdiff_t columns_read = d.taps[d.tap_count - 1].in + (L + 1) * ColumnStride;
  const auto inside = [&](ptrdiff_t x) CONVPOOL_INLINE_LAMBDA {
    const ptrdiff_t column = d.first_column + x * ColumnStride;
    return rows_inside && d.columns - x >= L && column >= 0 && column + columns_read <= d.in_columns;
  };
  constexpr int square_size = square_of<T, R, Chunk, Stride, ColumnStride, weighted>;
  const bool square = square_size > 0 && rows_inside && d.channels_per_group == 1 && d.kernel_rows == square_size &&
                      d.kernel_columns == square_size && (ColumnStride == 1 || d.tap_count == 1);
  // What the next row of tiles reads first. Measured on planes beyond the last cache: 2.1 to 1.5 ms; slower with
  // stride 2.
  const T* const next =
      Stride == 1 ? in + d.first_column + (d.first_row + row + R + d.kernel_rows - 1) * d.in_row : nullptr;
  for (ptrdiff_t x = 0; x < d.columns;) {
    const bool whole = (has_inside || square) && inside(x);
    ptrdiff_t count = 1;
    while (count < most_together && x + (count + 1) * L <= d.columns &&
           ((has_inside || square) && inside(x + count * L)) == whole)
      ++count;
    PlaneTiles<T> tiles{in + first_row * d.in_row + d.first_column + x * ColumnStride,
                        weight,
                        T(0),
                        out + row * d.out_row + x,
                        first_row,
                        d.first_column + x * ColumnStride,
                        d.columns - x,
                        count,
                        next == nullptr ? nullptr : next + x,
                        taps_in_whole_chunks<Chunk>(d.kernel_rows),
                        0};
    if constexpr (weighted == Weighted::by_column) {
      tiles.phase = x / L % d.phases;
      tiles.weight += tiles.phase * (d.kernel_rows * d.kernel_columns + 1) * L;
    }
    for (ptrdiff_t k = 0; k < (weighted == Weighted::outputs ? 1 : d.outputs_per_group); ++k) {
      tiles.bias = bias == nullptr ? T(0) : bias[k];
      const auto run = [&](auto square_size) CONVPOOL_INLINE_LAMBDA {
        constexpr int Square = square_size;
        constexpr bool has_whole = has_inside || Square > 0;
        if (S < L && tiles.left <= S) {
          plane_tiles<T, S, R, Chunk, Stride, ColumnStride, weighted, false, Square>(d, tiles);
        } else if (has_whole && whole) {
          plane_tiles<T, L, R, Chunk, Stride, ColumnStride, weighted, has_whole, Square>(d, tiles);
        } else {
          plane_tiles<T, L, R, Chunk, Stride, ColumnStride, weighted, false, Square>(d, tiles);
        }
      };
      square ? run(Constant<square_size>{}) : run(Constant<0>{});
      tiles.weight += weights;
      tiles.out += d.out_channel;
      tiles.next = nullptr;
    }
    x += count * L;
  }
}

/// Rows in the tallest tiles that fit. The last ones go back over rows that are done already rather than stop short.
template <class T, int Chunk, int Stride, int ColumnStride, Weighted weighted>
void plane_rows(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out) {
  for (ptrdiff_t row = 0; row < d.rows;) {
    const ptrdiff_t left = d.rows - row;
    const auto run = [&](auto height) CONVPOOL_INLINE_LAMBDA {
      constexpr int R = height;
      const ptrdiff_t at = left < R ? d.rows - R : row;
      plane_tile_row<T, R, Chunk, Stride, ColumnStride, weighted>(d, in, weight, bias, out, at);
      row = at + R;
    };
    if constexpr (Stride == 0) {
      if (d.rows >= 4 && left > 1) {
        run(Constant<4>{});
        continue;
      }
    } else if constexpr (weighted == Weighted::outputs) {
      constexpr int R = CONVPOOL_VECTOR_REGISTERS < 32 ? 3 : 7;
      if (d.rows >= R && (R == 3 || left > 2)) {
        run(Constant<R>{});
        continue;
      }
    } else {
      // The weights of a chunk, three columns of them with a column stride of 2, need registers too.
      if constexpr (CONVPOOL_VECTOR_REGISTERS >= 32 && (ColumnStride == 1 || Chunk < 5)) {
        if (d.rows >= 14 && left > 7) {
          run(Constant<14>{});
          continue;
        }
      }
      if (d.rows >= 7 && left > 2) {
        run(Constant<7>{});
        continue;
      }
    }
    run(Constant<1>{});
  }
}

/// The most weights of outputs that are taken together.
inline constexpr ptrdiff_t most_weights_together = 2048;

/// Groups whose outputs are taken `outputs_together` at a time.
template <class T, int Stride>
void plane_groups(const DepthwisePlaneArguments<T>& d) {
  constexpr int O = outputs_together;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns, weights = d.channels_per_group * taps;
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
      plane_rows<T, 3, Stride, Stride, Weighted::outputs>(d, d.in + g * d.in_group, weight, nullptr,
                                                          d.out + first * d.out_channel);
    }
  }
}

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  if constexpr (outputs_together > 1) {
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
  const ptrdiff_t weights = d.outputs_per_group * d.channels_per_group * d.kernel_rows * d.kernel_columns;
  const auto run = [&](auto chunk, auto stride, auto column_stride) CONVPOOL_INLINE_LAMBDA {
    const T* in = d.in;
    const T* weight = d.weight;
    const T* bias = d.bias;
    T* out = d.out;
    for (ptrdiff_t g = 0; g < d.groups; ++g) {
      plane_rows<T, chunk, stride, column_stride, Weighted::one_output>(d, in, weight, bias, out);
      in += d.in_group;
      weight += weights;
      if (bias != nullptr) bias += d.outputs_per_group;
      out += d.outputs_per_group * d.out_channel;
    }
  };
  if (d.row_dilation == 1 && d.row_stride == d.column_stride) {
    if (d.row_stride == 1) {
      return with_tap_chunk<5>(d.kernel_rows,
                               [&](auto chunk) CONVPOOL_INLINE_LAMBDA { run(chunk, Constant<1>{}, Constant<1>{}); });
    }
    // The largest tiles of all: small chunks leave them half as large, and serve all but 5 taps as well.
    const auto strided = [&](auto chunk) CONVPOOL_INLINE_LAMBDA { run(chunk, Constant<2>{}, Constant<2>{}); };
    if constexpr (double_chunk == 5) {
      if (d.kernel_rows == 5) return strided(Constant<5>{});
    }
    if (d.kernel_rows > 1) return strided(Constant<3>{});
  }
  d.column_stride == 1 ? run(Constant<1>{}, Constant<0>{}, Constant<1>{})
                       : run(Constant<1>{}, Constant<0>{}, Constant<2>{});
}

template <class T>
void depthwise_interleaved(const DepthwisePlaneArguments<T>& d) {
  if (d.row_dilation == 1 && d.row_stride == 1) {
    return with_tap_chunk<5>(d.kernel_rows, [&](auto chunk) CONVPOOL_INLINE_LAMBDA {
      plane_rows<T, chunk, 1, 1, Weighted::by_column>(d, d.in, d.weight, nullptr, d.out);
    });
  }
  plane_rows<T, 1, 0, 1, Weighted::by_column>(d, d.in, d.weight, nullptr, d.out);
}

}  // namespace
}  // namespace convpool::kernels
