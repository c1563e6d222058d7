#pragma once

// Convolution of few channels: depthwise, small groups, image filters. Nothing is shared between output channels, or
// too little to make a matrix product of it, so results share what lies beside them: rows of results the rows they
// read, neighbouring pixels the weights.

#include "vector.hpp"

// A lambda that the inliner takes late leaves what it captured in memory: accumulators, for one.
#define CONVPOOL_INLINE_LAMBDA __attribute__((always_inline))

namespace convpool::kernels {
namespace {

/// N lanes: a whole vector, or half of one for narrow maps and the ends of rows.
template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using VecN = typename VectorOf<T, N>::type;

// Of float alone: the code for half vectors of double would be a seventh of the ISA's.
#if defined(CONVPOOL_ISA_AVX512) || defined(CONVPOOL_ISA_AVX2)
template <class T>
inline constexpr int shortest_vector = sizeof(T) == 4 ? lanes<T> / 2 : lanes<T>;
#else
template <class T>
inline constexpr int shortest_vector = lanes<T>;
#endif

/// The lanes of N elements from `column` on that lie inside a row of `columns`. A load gives zeros for the others and
/// doesn't touch them. Measured on Zen 4: as fast as plain loads, also where a mask leaves nothing out.
template <class T, int N>
class InsideRow {
 public:
  CONVPOOL_INLINE InsideRow(ptrdiff_t column, ptrdiff_t columns) {
    const ptrdiff_t first = column >= 0 ? 0 : column > -N ? -column : N;
    const ptrdiff_t left = columns - column;
    const ptrdiff_t last = left >= N ? N : left > first ? left : first;
#if defined(CONVPOOL_ISA_AVX512)
    mask_ = static_cast<__mmask16>((1u << last) - (1u << first));
    __asm__("" : "+Yk"(mask_));  // GCC 12 otherwise moves it there for every load
#elif defined(CONVPOOL_ISA_AVX2)
    static constexpr int edge[24] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    constexpr ptrdiff_t words = sizeof(T) / 4;
    Mask from, until;
    __builtin_memcpy(&from, edge + 8 - first * words, sizeof from);
    __builtin_memcpy(&until, edge + 16 - last * words, sizeof until);
    mask_ = from & until;
#else
    first_ = first;
    last_ = last;
#endif
  }

  CONVPOOL_INLINE VecN<T, N> load(const T* p) const {
    using V = VecN<T, N>;
#if defined(CONVPOOL_ISA_AVX512)
    if constexpr (sizeof(T) == 4 && N == 16) {
      return (V)_mm512_maskz_loadu_ps(mask_, p);
    } else if constexpr (sizeof(T) == 4) {
      return (V)_mm256_maskz_loadu_ps(static_cast<__mmask8>(mask_), p);
    } else if constexpr (N == 8) {
      return (V)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask_), p);
    } else {
      return (V)_mm256_maskz_loadu_pd(static_cast<__mmask8>(mask_), p);
    }
#elif defined(CONVPOOL_ISA_AVX2)
    if constexpr (sizeof(T) == 4 && N == 8) {
      return (V)_mm256_maskload_ps(p, (__m256i)mask_);
    } else if constexpr (sizeof(T) == 4) {
      return (V)_mm_maskload_ps(p, (__m128i)mask_);
    } else if constexpr (N == 4) {
      return (V)_mm256_maskload_pd(p, (__m256i)mask_);
    } else {
      return (V)_mm_maskload_pd(p, (__m128i)mask_);
    }
#else
    V x;
    if (last_ - first_ == N) {
      __builtin_memcpy(&x, p, sizeof x);
    } else {
      load_piece(p, first_, last_, &x);
    }
    return pinned(x);
#endif
  }

 private:
#if defined(CONVPOOL_ISA_AVX512)
  __mmask16 mask_;
#elif defined(CONVPOOL_ISA_AVX2)
  typedef int Mask __attribute__((vector_size(N * sizeof(T))));
  Mask mask_;
#else
  [[gnu::noinline]] static void load_piece(const T* p, ptrdiff_t first, ptrdiff_t last, VecN<T, N>* x) {
    T stage[N] = {};
    for (ptrdiff_t i = first; i < last; ++i) stage[i] = p[i];
    __builtin_memcpy(x, stage, sizeof *x);
  }
  ptrdiff_t first_, last_;
#endif
};

/// Stores the first `left` of N elements, all of them where there are more.
template <class T, int N>
class StoreColumns {
 public:
#if defined(CONVPOOL_ISA_AVX512)
  CONVPOOL_INLINE explicit StoreColumns(ptrdiff_t left)
      : mask_(static_cast<__mmask16>(left >= N ? (1u << N) - 1 : (1u << left) - 1)) {
    __asm__("" : "+Yk"(mask_));
  }
  CONVPOOL_INLINE void operator()(T* p, VecN<T, N> v) const {
    if constexpr (sizeof(T) == 4 && N == 16) {
      _mm512_mask_storeu_ps(p, mask_, (__m512)v);
    } else if constexpr (sizeof(T) == 4) {
      _mm256_mask_storeu_ps(p, static_cast<__mmask8>(mask_), (__m256)v);
    } else if constexpr (N == 8) {
      _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask_), (__m512d)v);
    } else {
      _mm256_mask_storeu_pd(p, static_cast<__mmask8>(mask_), (__m256d)v);
    }
  }

 private:
  __mmask16 mask_;
#else
  CONVPOOL_INLINE explicit StoreColumns(ptrdiff_t left) : left_(left) {}
  CONVPOOL_INLINE void operator()(T* p, VecN<T, N> v) const {
    if (left_ >= N) {
      __builtin_memcpy(p, &v, sizeof v);
    } else {
      alignas(vector_alignment) T stage[N];
      __builtin_memcpy(stage, &v, sizeof v);
      copy_short<T, N>(stage, left_, p);
    }
  }

 private:
  ptrdiff_t left_;
#endif
};

/// Whether vectors stored to rows `row` apart are aligned.
template <class T>
CONVPOOL_INLINE bool streams_whole(const T* out, ptrdiff_t row) {
  return reinterpret_cast<std::uintptr_t>(out) % sizeof(Vec<T>) == 0 && row % ptrdiff_t(lanes<T>) == 0;
}

template <class T, class V>
CONVPOOL_INLINE V clamp_to(V v, T low, T high) {
  const V l = low - V{}, h = high - V{};
  v = v < l ? l : v;
  return v > h ? h : v;
}

/// Whether clamping changes anything.
template <class T>
CONVPOOL_INLINE bool bounded(T low, T high) {
  return low > -__builtin_inf() || high < __builtin_inf();
}

template <class V, int Odd, int... I>
CONVPOOL_INLINE V alternate(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + Odd)...);
}

/// Taps of one axis go in chunks of Chunk and Chunk - 1, compiled for a few sizes of Chunk that serve any count.
constexpr int tap_chunk(ptrdiff_t taps) {
  if (taps <= 2) return 1;
  return taps <= 4 || taps == 6 || taps == 7 || taps == 11 ? 4 : 5;
}
/// The first so many taps go in whole chunks, the rest in chunks that are one shorter.
template <int Chunk>
CONVPOOL_INLINE ptrdiff_t taps_in_whole_chunks(ptrdiff_t taps) {
  return taps - (Chunk - taps % Chunk) % Chunk * (Chunk - 1);
}

template <class T>
inline constexpr T zeros[4 * lanes<T>] __attribute__((aligned(vector_alignment))) = {};

/// p where the bit is set, else zeros to read, from a vector before it to two behind. Not a branch: those cost vector
/// registers where they meet again.
template <class T>
CONVPOOL_INLINE const T* where_inside(const T* p, unsigned bits, int bit) {
  return bits & (1u << bit) ? p : zeros<T> + lanes<T>;
}

/// Bit i tells whether first + i lies in [0, size), for i < count <= 32.
CONVPOOL_INLINE unsigned inside_bits(ptrdiff_t first, ptrdiff_t size, int count) {
  const ptrdiff_t begin = first >= 0 ? 0 : first > -count ? -first : count;
  const ptrdiff_t left = size - first;
  const ptrdiff_t end = left >= count ? count : left > begin ? left : begin;
  return static_cast<unsigned>((std::uint64_t{1} << end) - (std::uint64_t{1} << begin));
}

/// Moves on, in a register of its own: GCC otherwise keeps the addresses of all steps on the stack.
template <class T>
CONVPOOL_INLINE void advance(const T*& p, ptrdiff_t step) {
  p += step;
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
}

// Pixels in the vectors

/// What a tile of R rows and one vector of columns of one output works on. `row` and `column` are where the window of
/// its first result starts in the input.
template <class T>
struct PlaneTile {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t row, column, left;
};

/// How many tap columns are taken at once, see TapColumns: a third one comes before or after the two.
enum class Taken { one, two, two_after_one, two_before_one };

template <class V, int... I>
CONVPOOL_INLINE V shifted_up(V v, V first, Indices<I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(v, first, (I == 0 ? n : I - 1)...);
}
template <class V, int... I>
CONVPOOL_INLINE V shifted_down(V v, V last, Indices<I...>) {
  return __builtin_shufflevector(v, last, (I + 1)...);
}

/// The columns of a row that a vector of results sees through each of the tap columns taken. With a column stride of 2,
/// what the third sees is what one of the others saw, a result further, and one more element: that costs less than the
/// two loads that it would take.
template <Taken taken, int ColumnStride, class T, int N>
CONVPOOL_INLINE void load_columns(const T* p, InsideRow<T, N> inside, InsideRow<T, N> inside_next, bool third_inside,
                                  VecN<T, N> (&x)[3]) {
  using V = VecN<T, N>;
  if constexpr (ColumnStride == 1) {
    x[0] = inside.load(p);
  } else {
    using All = typename MakeIndices<N>::type;
    const V a = inside.load(p), b = inside_next.load(p + N);
    x[0] = alternate<V, 0>(a, b, All{});
    if constexpr (taken != Taken::one) x[1] = alternate<V, 1>(a, b, All{});
    if constexpr (taken == Taken::two_after_one) {
      x[2] = shifted_up<V>(x[1], *where_inside(p - 1, third_inside, 0) - V{}, All{});
    } else if constexpr (taken == Taken::two_before_one) {
      x[2] = shifted_down<V>(x[0], *where_inside(p + 2 * N, third_inside, 0) - V{}, All{});
    }
  }
}

/// Tap rows [i, i + Chunk) of a column of the kernel: the weights stay in registers, each row of the input is loaded
/// once for all rows of results that it serves. Stride is that of the rows, 0 where they don't share.
template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, Taken taken>
CONVPOOL_INLINE void plane_tap_rows(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t row, ptrdiff_t i,
                                    const T* const (&weight)[3], InsideRow<T, N> inside, InsideRow<T, N> inside_next,
                                    bool third_inside, VecN<T, N> (&acc)[R]) {
  using V = VecN<T, N>;
  constexpr int columns = taken == Taken::one ? 1 : taken == Taken::two ? 2 : 3;
  V w[columns][Chunk];
  unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
    unroll<Chunk>([&](auto m)
                      CONVPOOL_INLINE_LAMBDA { w[t][m] = pinned(weight[t][(i + m) * d.kernel_columns] - V{}); });
  });
  if constexpr (Stride == 0) {
    static_assert(Chunk == 1);
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      const ptrdiff_t y = row + r * d.row_stride + i * d.row_dilation;
      V x[3];
      load_columns<taken, ColumnStride>(where_inside(in + y * d.in_row, inside_bits(y, d.in_rows, 1), 0), inside,
                                        inside_next, third_inside, x);
      unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { acc[r] += w[t][0] * x[t]; });
    });
  } else {
    row += i;
    const T* p = in + row * d.in_row;
    const unsigned live = inside_bits(row, d.in_rows, Stride * (R - 1) + Chunk);
    if (live == 0) return;
    const auto add = [&](auto y) CONVPOOL_INLINE_LAMBDA {
      V x[3];
      load_columns<taken, ColumnStride>(p, inside, inside_next, third_inside, x);
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        constexpr int distance = y - m, r = distance / Stride;
        if constexpr (distance >= 0 && distance % Stride == 0 && r < R) {
          unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { acc[r] += w[t][m] * x[t]; });
        }
      });
    };
    constexpr int reads = Stride * (R - 1) + Chunk;
    if (live == (1u << reads) - 1) {
      unroll<reads>([&](auto y) CONVPOOL_INLINE_LAMBDA {
        add(y);
        advance(p, d.in_row);
      });
    } else {
      unroll<reads>([&](auto y) CONVPOOL_INLINE_LAMBDA {
        if (live & (1u << y)) add(y);
        advance(p, d.in_row);
      });
    }
  }
}

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride>
CONVPOOL_KERNEL void plane_tile(const DepthwisePlaneArguments<T>& d, const PlaneTile<T>& t) {
  VecN<T, N> acc[R];
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[r] = t.bias - VecN<T, N>{}; });
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns;
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_rows);
  const ptrdiff_t width = (t.left < N ? t.left : N) * ColumnStride;
  for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
    const T* const weight = t.weight + c * taps;
    for (const TapColumns *tap = d.taps, *end = tap + d.tap_count; tap != end; ++tap) {
      const ptrdiff_t column = t.column + tap->in;
      if (column - 1 >= d.in_columns || column + width < 0) continue;
      const T* const in = t.in + c * d.in_channel + column;
      const auto run = [&](auto taken) CONVPOOL_INLINE_LAMBDA {
        constexpr Taken taken_ = static_cast<Taken>(decltype(taken)::value);
        const InsideRow<T, N> inside(column, d.in_columns), inside_next(column + N, d.in_columns);
        const ptrdiff_t third = taken_ == Taken::two_after_one ? column - 1 : column + 2 * N;
        const bool third_inside = third >= 0 && third < d.in_columns;
        const T* const tap_weight[3] = {weight + tap->first, weight + tap->second, weight + tap->third};
        ptrdiff_t i = 0;
        for (; i < whole; i += Chunk) {
          plane_tap_rows<T, N, R, Chunk, Stride, ColumnStride, taken_>(d, in, t.row, i, tap_weight, inside, inside_next,
                                                                       third_inside, acc);
        }
        if constexpr (Chunk > 1) {
          for (; i < d.kernel_rows; i += Chunk - 1) {
            plane_tap_rows<T, N, R, Chunk - 1, Stride, ColumnStride, taken_>(d, in, t.row, i, tap_weight, inside,
                                                                             inside_next, third_inside, acc);
          }
        }
      };
      if constexpr (ColumnStride == 2) {
        if (tap->third >= 0) {
          tap->third < tap->first ? run(Constant<int(Taken::two_after_one)>{})
                                  : run(Constant<int(Taken::two_before_one)>{});
          continue;
        }
        if (tap->second >= 0) {
          run(Constant<int(Taken::two)>{});
          continue;
        }
      }
      run(Constant<int(Taken::one)>{});
    }
  }
  if (bounded(d.low, d.high)) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[r] = clamp_to(acc[r], d.low, d.high); });
  }
  if constexpr (N == lanes<T>) {
    if (d.stream && t.left >= N && streams_whole<T>(t.out, d.out_row)) {
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { store_streaming(t.out + r * d.out_row, acc[r]); });
      return;
    }
  }
  const StoreColumns<T, N> store_columns(t.left);
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { store_columns(t.out + r * d.out_row, acc[r]); });
}

template <class T, int R, int Chunk, int Stride, int ColumnStride>
void plane_tile_row(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out,
                    ptrdiff_t row) {
  constexpr int L = lanes<T>, S = shortest_vector<T>;
  const ptrdiff_t weights = d.channels_per_group * d.kernel_rows * d.kernel_columns;
  // What the next row of tiles reads first. Measured on planes beyond the last cache: 2.1 to 1.5 ms; slower with
  // stride 2.
  const T* const next = in + d.first_column + (d.first_row + row + R + d.kernel_rows - 1) * d.in_row;
  for (ptrdiff_t x = 0; x < d.columns; x += L) {
    if constexpr (Stride == 1) {
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        const T* p = next + x + c * d.in_channel;
        for (int r = 0; r < R; ++r, p += d.in_row) __builtin_prefetch(p);
      }
    }
    PlaneTile<T> tile{in,
                      weight,
                      T(0),
                      out + row * d.out_row + x,
                      d.first_row + row * d.row_stride,
                      d.first_column + x * ColumnStride,
                      d.columns - x};
    for (ptrdiff_t k = 0; k < d.outputs_per_group; ++k) {
      tile.bias = bias == nullptr ? T(0) : bias[k];
      if (S < L && tile.left <= S) {
        plane_tile<T, S, R, Chunk, Stride, ColumnStride>(d, tile);
      } else {
        plane_tile<T, L, R, Chunk, Stride, ColumnStride>(d, tile);
      }
      tile.weight += weights;
      tile.out += d.out_channel;
    }
  }
}

/// Rows in the tallest tiles that fit. The last ones go back over rows that are done already rather than stop short.
template <class T, int Chunk, int Stride, int ColumnStride>
void plane_rows(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out) {
  for (ptrdiff_t row = 0; row < d.rows;) {
    const ptrdiff_t left = d.rows - row;
    const auto run = [&](auto height) CONVPOOL_INLINE_LAMBDA {
      constexpr int R = height;
      const ptrdiff_t at = left < R ? d.rows - R : row;
      plane_tile_row<T, R, Chunk, Stride, ColumnStride>(d, in, weight, bias, out, at);
      row = at + R;
    };
    if constexpr (Stride == 0) {
      if (d.rows >= 4 && left > 1) {
        run(Constant<4>{});
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

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  const ptrdiff_t weights = d.outputs_per_group * d.channels_per_group * d.kernel_rows * d.kernel_columns;
  const auto run = [&](auto chunk, auto stride, auto column_stride) CONVPOOL_INLINE_LAMBDA {
    const T* in = d.in;
    const T* weight = d.weight;
    const T* bias = d.bias;
    T* out = d.out;
    for (ptrdiff_t g = 0; g < d.groups; ++g) {
      plane_rows<T, chunk, stride, column_stride>(d, in, weight, bias, out);
      in += d.in_group;
      weight += weights;
      if (bias != nullptr) bias += d.outputs_per_group;
      out += d.outputs_per_group * d.out_channel;
    }
  };
  const int chunk = tap_chunk(d.kernel_rows);
  if (d.row_dilation == 1 && d.row_stride == d.column_stride && (chunk > 1 || d.row_stride == 1)) {
    if (d.row_stride == 2) {
      return chunk == 4 ? run(Constant<4>{}, Constant<2>{}, Constant<2>{})
                        : run(Constant<5>{}, Constant<2>{}, Constant<2>{});
    }
    if (chunk == 1) return run(Constant<1>{}, Constant<1>{}, Constant<1>{});
    return chunk == 4 ? run(Constant<4>{}, Constant<1>{}, Constant<1>{})
                      : run(Constant<5>{}, Constant<1>{}, Constant<1>{});
  }
  if (d.column_stride == 1) return run(Constant<1>{}, Constant<0>{}, Constant<1>{});
  run(Constant<1>{}, Constant<0>{}, Constant<2>{});
}

// Channels in the vectors

template <class T>
CONVPOOL_INLINE Vec<T> permuted(Vec<T> x, const std::int32_t* words) {
#if defined(CONVPOOL_ISA_AVX512)
  // The unmasked form warns in GCC 12: bug 105593.
  return (Vec<T>)_mm512_maskz_permutexvar_ps(0xffff, _mm512_loadu_si512(words), (__m512)x);
#elif defined(CONVPOOL_ISA_AVX2)
  return (Vec<T>)_mm256_permutevar8x32_ps((__m256)x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
#else
  constexpr int words_each = sizeof(T) / 4;
  Vec<T> y{};
  for (int l = 0; l < lanes<T>; ++l) y[l] = x[words[l * words_each] / words_each];
  return y;
#endif
}

template <class T>
struct ChannelsTile {
  const T* in;
  const T* weight;
  const T* bias;
  T* out;
  ptrdiff_t row, column;
  ptrdiff_t in_left, out_left;
};

/// R rows x P pixels of one vector of channels. An input pixel is loaded once for all tap columns of a chunk and all
/// rows of results that it serves; ColumnStride 0 stands for any, where each tap column loads its own.
template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted>
CONVPOOL_KERNEL void channels_tile(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][P];
  const Vec<T> bias = load(t.bias);
  unroll<R>([&](auto r)
                CONVPOOL_INLINE_LAMBDA { unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = bias; }); });
  const InsideRow<T, L> inside(0, t.in_left);
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_columns);
  const ptrdiff_t column_stride = ColumnStride == 0 ? d.column_stride : ColumnStride;
  const ptrdiff_t column_dilation = ColumnStride == 0 ? d.column_dilation : 1;
  for (ptrdiff_t c = 0; c < d.channels_per_output; ++c) {
    const T* const weight = t.weight + c * d.kernel_rows * d.kernel_columns * L;
    // Row y of those that the tile reads, for the results [First, First + Count).
    const auto row = [&](ptrdiff_t y, ptrdiff_t source, auto first_row, auto row_count) CONVPOOL_INLINE_LAMBDA {
      constexpr int First = first_row, Count = row_count;
      const T* const in = t.in + source * d.in_row;
      const T* const row_weight = weight + (y - First * d.row_stride) * d.kernel_columns * L;
      const ptrdiff_t next_row = d.row_stride * d.kernel_columns * L;
      const auto chunk = [&](ptrdiff_t j, auto columns) CONVPOOL_INLINE_LAMBDA {
        constexpr int J = columns, S = ColumnStride == 0 ? 1 : ColumnStride;
        const ptrdiff_t column = t.column + j * column_dilation;
        if (column >= d.in_columns || column + (P - 1) * column_stride + J <= 0) return;
        constexpr int pixels = (P - 1) * S + J;
        Vec<T> x[pixels];
        const T* pixel = in + column * d.in_pixel;
        const ptrdiff_t next_pixel = (ColumnStride == 0 ? column_stride : 1) * d.in_pixel;
        unsigned live = 0;
        if constexpr (ColumnStride == 0) {
          for (int p = 0; p < P; ++p) live |= inside_bits(column + p * column_stride, d.in_columns, 1) << p;
        } else {
          live = inside_bits(column, d.in_columns, pixels);
        }
        unroll<pixels>([&](auto at) CONVPOOL_INLINE_LAMBDA {
          x[at] = inside.load(where_inside(pixel, live, at));
          if constexpr (Permuted) x[at] = permuted<T>(x[at], d.permutation + c * L * ptrdiff_t(sizeof(T) / 4));
          advance(pixel, next_pixel);
        });
        unroll<J>([&](auto m) CONVPOOL_INLINE_LAMBDA {
          unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA {
            const Vec<T> w = pinned(load(row_weight - r * next_row + (j + m) * L));
            unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[First + r][p] += w * x[p * S + m]; });
          });
        });
      };
      ptrdiff_t j = 0;
      for (; j < whole; j += Chunk) chunk(j, Constant<Chunk>{});
      if constexpr (Chunk > 1) {
        for (; j < d.kernel_columns; j += Chunk - 1) chunk(j, Constant<Chunk - 1>{});
      }
    };
    const auto rows = [&](ptrdiff_t begin, ptrdiff_t end, auto first_row, auto row_count) CONVPOOL_INLINE_LAMBDA {
      for (ptrdiff_t y = begin; y < end; ++y) {
        const ptrdiff_t source = t.row + y * d.row_dilation;
        if (static_cast<std::size_t>(source) < static_cast<std::size_t>(d.in_rows))
          row(y, source, first_row, row_count);
      }
    };
    if constexpr (R == 1) {
      rows(0, d.kernel_rows, Constant<0>{}, Constant<1>{});
    } else {
      static_assert(R == 2);
      rows(0, d.row_stride, Constant<0>{}, Constant<1>{});
      rows(d.row_stride, d.kernel_rows, Constant<0>{}, Constant<2>{});
      rows(d.kernel_rows, d.kernel_rows + d.row_stride, Constant<1>{}, Constant<1>{});
    }
  }
  if (bounded(d.low, d.high)) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = clamp_to(acc[r][p], d.low, d.high); });
    });
  }
  if (d.stream && t.out_left >= L && streams_whole<T>(t.out, d.out_row) && d.out_pixel % L == 0) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      unroll<P>([&](auto p)
                    CONVPOOL_INLINE_LAMBDA { store_streaming(t.out + r * d.out_row + p * d.out_pixel, acc[r][p]); });
    });
    return;
  }
  const StoreColumns<T, L> store_columns(t.out_left);
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
    unroll<P>([&](auto p)
                  CONVPOOL_INLINE_LAMBDA { store_columns(t.out + r * d.out_row + p * d.out_pixel, acc[r][p]); });
  });
}

template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted>
void channels_pixels(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row, ptrdiff_t column) {
  constexpr int L = lanes<T>;
  ChannelsTile<T> tile{d.in,
                       d.weight,
                       d.bias,
                       d.out + row * d.out_row + column * d.out_pixel,
                       d.first_row + row * d.row_stride,
                       d.first_column + column * d.column_stride,
                       d.in_channels,
                       d.out_channels};
  for (; tile.out_left > 0; tile.out_left -= L) {
    channels_tile<T, R, P, Chunk, ColumnStride, Permuted>(d, tile);
    tile.in += d.in_vector;
    tile.in_left -= d.in_vector;
    tile.weight += d.channels_per_output * d.kernel_rows * d.kernel_columns * L;
    tile.bias += L;
    tile.out += L;
  }
}

template <class T, int R, int Chunk, int ColumnStride, bool Permuted>
void channels_row(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row) {
  constexpr int widest = CONVPOOL_VECTOR_REGISTERS >= 32 ? 7 : 4;
  for (ptrdiff_t x = 0; x < d.columns;) {
    const ptrdiff_t left = d.columns - x;
    const auto run = [&](auto pixels) CONVPOOL_INLINE_LAMBDA {
      constexpr int P = pixels;
      const ptrdiff_t at = left < P ? d.columns - P : x;
      channels_pixels<T, R, P, Chunk, ColumnStride, Permuted>(d, row, at);
      x = at + P;
    };
    if (d.columns >= widest && left > 2) {
      run(Constant<widest>{});
    } else {
      run(Constant<1>{});
    }
  }
}

template <class T>
void depthwise_channels(const DepthwiseChannelsArguments<T>& d) {
  const auto run = [&](auto chunk, auto column_stride, auto is_permuted) CONVPOOL_INLINE_LAMBDA {
    constexpr bool Permuted = is_permuted;
    ptrdiff_t row = 0;
    if (d.row_dilation == 1 && d.row_stride < d.kernel_rows) {
      for (; row + 2 <= d.rows; row += 2) channels_row<T, 2, chunk, column_stride, Permuted>(d, row);
    }
    for (; row < d.rows; ++row) channels_row<T, 1, chunk, column_stride, Permuted>(d, row);
  };
  const int chunk = tap_chunk(d.kernel_columns);
  const int column_stride = d.column_dilation == 1 && chunk > 1 && d.column_stride <= 2 ? int(d.column_stride) : 0;
  if (d.permutation != nullptr) {
    if (column_stride == 1 && chunk == 4) return run(Constant<4>{}, Constant<1>{}, Constant<1>{});
    if (column_stride == 1) return run(Constant<5>{}, Constant<1>{}, Constant<1>{});
    return run(Constant<1>{}, Constant<0>{}, Constant<1>{});
  }
  if (column_stride == 1 && chunk == 4) return run(Constant<4>{}, Constant<1>{}, Constant<0>{});
  if (column_stride == 1) return run(Constant<5>{}, Constant<1>{}, Constant<0>{});
  if (column_stride == 2 && chunk == 4) return run(Constant<4>{}, Constant<2>{}, Constant<0>{});
  if (column_stride == 2) return run(Constant<5>{}, Constant<2>{}, Constant<0>{});
  run(Constant<1>{}, Constant<0>{}, Constant<0>{});
}

}  // namespace
}  // namespace convpool::kernels
