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

#if defined(CONVPOOL_ISA_AVX512) || defined(CONVPOOL_ISA_AVX2)
#define CONVPOOL_MASKS_LOADS 1

/// The lanes of N elements from `column` on that lie inside a row of `columns`. A load gives zeros for the others and
/// doesn't touch them. Measured on Zen 4, where a mask leaves nothing out: as fast as plain loads with AVX-512, up to a
/// tenth slower with AVX2.
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
#else
    static constexpr int edge[24] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    constexpr ptrdiff_t words = sizeof(T) / 4;
    Mask from, until;
    __builtin_memcpy(&from, edge + 8 - first * words, sizeof from);
    __builtin_memcpy(&until, edge + 16 - last * words, sizeof until);
    mask_ = from & until;
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
#else
    if constexpr (sizeof(T) == 4 && N == 8) {
      return (V)_mm256_maskload_ps(p, (__m256i)mask_);
    } else if constexpr (sizeof(T) == 4) {
      return (V)_mm_maskload_ps(p, (__m128i)mask_);
    } else if constexpr (N == 4) {
      return (V)_mm256_maskload_pd(p, (__m256i)mask_);
    } else {
      return (V)_mm_maskload_pd(p, (__m128i)mask_);
    }
#endif
  }

 private:
#if defined(CONVPOOL_ISA_AVX512)
  __mmask16 mask_;
#else
  typedef int Mask __attribute__((vector_size(N * sizeof(T))));
  Mask mask_;
#endif
};

/// Loads neighbouring vectors of N elements, zeros where they lie outside a row. read_pieces says where from.
template <class T, int N, int Vectors>
class Window {
 public:
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns)
      : Window(column, columns, typename MakeIndices<Vectors>::type{}) {}
  template <int I>
  CONVPOOL_INLINE VecN<T, N> load(const T* p) const {
    return inside_[I].load(p + I * N);
  }

 private:
  template <int... I>
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns, Indices<I...>) : inside_{{column + I * N, columns}...} {}
  InsideRow<T, N> inside_[Vectors];
};

#else
#define CONVPOOL_MASKS_LOADS 0

/// Pieces of a window, `step` apart, to a stage without gaps: zeros for pieces whose bit isn't set and for elements
/// outside [first, last), which are not touched.
template <class T, int Width>
[[gnu::noinline]] void stage_pieces(const T* p, ptrdiff_t step, unsigned live, int count, ptrdiff_t first,
                                    ptrdiff_t last, T* stage) {
  for (int i = 0; i < count; ++i, p += step, stage += Width) {
    const ptrdiff_t end = live & (1u << i) ? last : first;
    for (ptrdiff_t x = 0; x < Width; ++x) stage[x] = x >= first && x < end ? p[x] : T(0);
  }
}

/// Loads neighbouring vectors of N elements, from where read_pieces says: what lies outside a row is zeros there.
template <class T, int N, int Vectors>
class Window {
 public:
  static constexpr int width = N * Vectors;
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns) {
    first_ = column >= 0 ? 0 : column > -width ? -column : width;
    const ptrdiff_t left = columns - column;
    last_ = left >= width ? width : left > first_ ? left : first_;
  }
  template <int I>
  CONVPOOL_INLINE VecN<T, N> load(const T* p) const {
    VecN<T, N> x;
    __builtin_memcpy(&x, p + I * N, sizeof x);
    return x;
  }
  CONVPOOL_INLINE bool whole() const { return last_ - first_ == width; }
  CONVPOOL_INLINE void stage(const T* p, ptrdiff_t step, unsigned live, int count, T* to) const {
    stage_pieces<T, width>(p, step, live, count, first_, last_, to);
  }

 private:
  ptrdiff_t first_, last_;
};
#endif

#if !defined(CONVPOOL_ISA_AVX512)
/// The tile's part of a store that is cut short. A function of its own: GCC takes the vector apart in general
/// registers, and a vector that ends so it keeps in memory all through the tile.
template <class T, int N>
[[gnu::noinline, gnu::cold]] void store_short(const T* stage, ptrdiff_t count, ptrdiff_t columns, T* out,
                                              ptrdiff_t row) {
  for (ptrdiff_t r = 0; r < count; ++r) copy_short<T, N>(stage + r * N, columns, out + r * row);
}
#endif

/// Stores the first `left` of the N elements of each vector, all of them where there are more.
template <class T, int N, int R>
CONVPOOL_INLINE void store_columns(const VecN<T, N> (&v)[R], ptrdiff_t left, T* out, ptrdiff_t row) {
#if defined(CONVPOOL_ISA_AVX512)
  auto mask = static_cast<__mmask16>(left >= N ? (1u << N) - 1 : (1u << left) - 1);
  __asm__("" : "+Yk"(mask));
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
    T* const p = out + r * row;
    if constexpr (sizeof(T) == 4 && N == 16) {
      _mm512_mask_storeu_ps(p, mask, (__m512)v[r]);
    } else if constexpr (sizeof(T) == 4) {
      _mm256_mask_storeu_ps(p, static_cast<__mmask8>(mask), (__m256)v[r]);
    } else if constexpr (N == 8) {
      _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v[r]);
    } else {
      _mm256_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m256d)v[r]);
    }
  });
#else
  if (left >= N) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { __builtin_memcpy(out + r * row, &v[r], sizeof v[r]); });
  } else {
    alignas(vector_alignment) VecN<T, N> stage[R];
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { stage[r] = v[r]; });
    store_short<T, N>(reinterpret_cast<const T*>(stage), R, left, out, row);
  }
#endif
}

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

/// Taps of one axis go in chunks of Chunk and Chunk - 1, at most `Most`: f(Chunk), which is one of a few that serve any
/// count.
template <int Most, class F>
CONVPOOL_INLINE void with_tap_chunk(ptrdiff_t taps, F f) {
  if constexpr (Most == 3) {
    taps == 1 ? f(Constant<1>{}) : f(Constant<3>{});
  } else if (CONVPOOL_VECTOR_REGISTERS < 32 && (taps == 2 || taps == 3)) {
    f(Constant<3>{});
  } else if (taps <= 2) {
    f(Constant<1>{});
  } else {
    taps <= 4 || taps == 6 || taps == 7 || taps == 11 ? f(Constant<4>{}) : f(Constant<5>{});
  }
}
/// The most where tap columns are taken together, or rows of results, whose weights want registers, too.
inline constexpr int double_chunk = CONVPOOL_VECTOR_REGISTERS < 32 ? 3 : 5;
/// The first so many taps go in whole chunks, the rest in chunks that are one shorter.
template <int Chunk>
CONVPOOL_INLINE ptrdiff_t taps_in_whole_chunks(ptrdiff_t taps) {
  return taps - (Chunk - taps % Chunk) % Chunk * (Chunk - 1);
}

/// *p, zero where that isn't inside. Not a branch: those cost vector registers where they meet again.
template <class T>
CONVPOOL_INLINE T where_inside(const T* p, bool inside) {
  static constexpr T zero = 0;
  return *(inside ? p : &zero);
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

/// Loads neighbouring vectors of N elements that lie inside.
template <class T, int N, int Vectors>
class WholeWindow {
 public:
  CONVPOOL_INLINE WholeWindow(ptrdiff_t, ptrdiff_t) {}
  template <int I>
  CONVPOOL_INLINE VecN<T, N> load(const T* p) const {
    VecN<T, N> x;
    __builtin_memcpy(&x, p + I * N, sizeof x);
    return x;
  }
};
template <bool Inside, class T, int N, int Vectors>
struct ChooseWindow {
  typedef Window<T, N, Vectors> type;
};
template <class T, int N, int Vectors>
struct ChooseWindow<true, T, N, Vectors> {
  typedef WholeWindow<T, N, Vectors> type;
};
template <bool Inside, class T, int N, int Vectors>
using WindowOf = typename ChooseWindow<Inside, T, N, Vectors>::type;

/// f(0, p), f(1, p + step), ... Four at a time share an address: so few additions that it shows, and few registers.
template <int Count, class T, class F>
CONVPOOL_INLINE void unroll_steps(const T* p, ptrdiff_t step, F f) {
  unroll<Count>([&](auto i) CONVPOOL_INLINE_LAMBDA {
    f(i, p + i % 4 * step);
    if constexpr (i % 4 == 3 && i + 1 < Count) advance(p, 4 * step);
  });
}

template <int Count, class T, int N, int Vectors, class Read>
CONVPOOL_INLINE void read_pieces(const WholeWindow<T, N, Vectors>&, const T* p, ptrdiff_t step, unsigned, Read read) {
  unroll_steps<Count>(p, step, read);
}

/// read(i, p) for those of Count pieces of a window, `step` apart from p on, whose bit is set in `live`; p is where to
/// load piece i.
template <int Count, class T, int N, int Vectors, class Read>
CONVPOOL_INLINE void read_pieces([[maybe_unused]] const Window<T, N, Vectors>& window, const T* p, ptrdiff_t step,
                                 unsigned live, Read read) {
  constexpr unsigned all = (std::uint64_t{1} << Count) - 1;
#if !CONVPOOL_MASKS_LOADS
  alignas(vector_alignment) T stage[Count * N * Vectors];
  if (!window.whole()) {
    window.stage(p, step, live, Count, stage);
    p = stage;
    step = N * Vectors;
    live = all;
  }
#endif
  if (live == all) {
    unroll_steps<Count>(p, step, read);
  } else {
    unroll<Count>([&](auto i) CONVPOOL_INLINE_LAMBDA {
      if (live & (1u << i)) read(i, p);
      advance(p, step);
    });
  }
}

// Pixels in the vectors

/// What `count` tiles beside each other, of R rows and one vector of columns of one output, work on. `row` and `column`
/// are where the window of their first result starts in the input, which is `in`. R rows from `next` on are to be
/// fetched, null for none.
template <class T>
struct PlaneTiles {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t row, column, left, count;
  const T* next;
  ptrdiff_t whole_chunks;
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

/// Whether halves of a vector are shuffled apart, each by itself: that takes one instruction where a whole one takes
/// two. Results are put in order once, at their end.
template <class T, int N>
#if defined(CONVPOOL_ISA_AVX2)
inline constexpr bool shuffles_halves = N == lanes<T>;
#else
inline constexpr bool shuffles_halves = false;
#endif

/// Every other element of a and b.
template <class T, int N, int Odd, int... I>
CONVPOOL_INLINE VecN<T, N> alternate(VecN<T, N> a, VecN<T, N> b, Indices<I...>) {
  if constexpr (shuffles_halves<T, N>) {
    constexpr int h = N / 2, q = N / 4;
    return __builtin_shufflevector(a, b, (I / h * h + I % h / q * N + I % q * 2 + Odd)...);
  } else {
    return __builtin_shufflevector(a, b, (2 * I + Odd)...);
  }
}
template <class V, int... I>
CONVPOOL_INLINE V in_order(V v, Indices<I...>) {
  constexpr int q = sizeof...(I) / 4;
  return __builtin_shufflevector(v, v, (I / q == 1 ? I + q : I / q == 2 ? I - q : I)...);
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
      x[2] = shifted_up<V>(x[1], where_inside(p - 1, third_inside) - V{}, All{});
    } else if constexpr (taken == Taken::two_before_one) {
      x[2] = shifted_down<V>(x[0], where_inside(p + 2 * N, third_inside) - V{}, All{});
    }
  }
}

/// Tap rows [i, i + Chunk) of a column of the kernel: the weights stay in registers, each row of the input is loaded
/// once for all rows of results that it serves. Stride is that of the rows, 0 where they don't share. Row `row` is at
/// `in`. Inside: nothing that is read lies outside the plane.
template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, Taken taken, bool Inside>
CONVPOOL_INLINE void plane_tap_rows(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t row, ptrdiff_t i,
                                    const T* const (&weight)[3], const WindowOf<Inside, T, N, ColumnStride>& window,
                                    bool third_inside, VecN<T, N> (&acc)[R]) {
  using V = VecN<T, N>;
  constexpr int columns = taken == Taken::one ? 1 : taken == Taken::two ? 2 : 3;
  const auto load_weights = [&](V(&w)[columns][Chunk]) CONVPOOL_INLINE_LAMBDA {
    unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA {
      unroll<Chunk>([&](auto m)
                        CONVPOOL_INLINE_LAMBDA { w[t][m] = pinned(weight[t][(i + m) * d.kernel_columns] - V{}); });
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
        unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { acc[r] += w[t][0] * x[t]; });
      });
    });
  } else {
    constexpr int reads = Stride * (R - 1) + Chunk;
    const unsigned live = Inside ? (std::uint64_t{1} << reads) - 1 : inside_bits(row, d.in_rows, reads);
    if (live == 0) return;
    load_weights(w);
    read_pieces<reads>(window, in, d.in_row, live, [&](auto y, const T* p) CONVPOOL_INLINE_LAMBDA {
      V x[3];
      load_columns<taken, ColumnStride, T, N>(p, window, third_inside, x);
      unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
        constexpr int distance = y - m, r = distance / Stride;
        if constexpr (distance >= 0 && distance % Stride == 0 && r < R) {
          unroll<columns>([&](auto t) CONVPOOL_INLINE_LAMBDA { acc[r] += w[t][m] * x[t]; });
        }
      });
    });
  }
}

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, bool Inside>
CONVPOOL_INLINE void plane_tile(const DepthwisePlaneArguments<T>& d, const PlaneTiles<T>& t) {
  VecN<T, N> acc[R];
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[r] = t.bias - VecN<T, N>{}; });
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns;
  const ptrdiff_t whole = t.whole_chunks;
  const ptrdiff_t width = (t.left < N ? t.left : N) * ColumnStride;
  for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
    const T* const weight = t.weight + c * taps;
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
          plane_tap_rows<T, N, R, count, Stride, ColumnStride, taken_, Inside>(d, in, row, i, tap_weight, window,
                                                                               third_inside, acc);
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
        run(Constant<int(Taken::one)>{}, column, {weight + tap->first});
      } else {
        const T* const tap_weight[3] = {weight + tap->first, weight + tap->second, weight + tap->third};
        if (columns_together == 3 && tap->third >= 0) {
          if constexpr (columns_together == 3) {
            tap->third < tap->first ? run(Constant<int(Taken::two_after_one)>{}, column, tap_weight)
                                    : run(Constant<int(Taken::two_before_one)>{}, column, tap_weight);
          }
          continue;
        }
        if (tap->second >= 0) run(Constant<int(Taken::two)>{}, column, tap_weight);
        const ptrdiff_t alone = tap->second < 0 ? tap->first : tap->third;
        if (alone >= 0) run(Constant<int(Taken::one)>{}, column + alone - tap->first, {weight + alone});
      }
    }
  }
  if constexpr (ColumnStride == 2 && shuffles_halves<T, N>) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[r] = in_order(acc[r], typename MakeIndices<N>::type{}); });
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
  store_columns<T, N>(acc, t.left, t.out, d.out_row);
}

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride, bool Inside>
CONVPOOL_KERNEL void plane_tiles(const DepthwisePlaneArguments<T>& d, PlaneTiles<T> t) {
  for (;;) {
    if (t.next != nullptr) {
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        const T* p = t.next + c * d.in_channel;
        for (int r = 0; r < R; ++r, p += d.in_row) __builtin_prefetch(p);
      }
      t.next += N;
    }
    plane_tile<T, N, R, Chunk, Stride, ColumnStride, Inside>(d, t);
    if (--t.count == 0) return;
    t.in += N * ColumnStride;
    t.out += N;
    t.column += N * ColumnStride;
    t.left -= N;
  }
}

template <class T, int R, int Chunk, int Stride, int ColumnStride>
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
  // What the next row of tiles reads first. Measured on planes beyond the last cache: 2.1 to 1.5 ms; slower with
  // stride 2.
  const T* const next =
      Stride == 1 ? in + d.first_column + (d.first_row + row + R + d.kernel_rows - 1) * d.in_row : nullptr;
  for (ptrdiff_t x = 0; x < d.columns;) {
    const bool whole = has_inside && inside(x);
    ptrdiff_t count = 1;
    while (count < most_together && x + (count + 1) * L <= d.columns && (has_inside && inside(x + count * L)) == whole)
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
                        taps_in_whole_chunks<Chunk>(d.kernel_rows)};
    for (ptrdiff_t k = 0; k < d.outputs_per_group; ++k) {
      tiles.bias = bias == nullptr ? T(0) : bias[k];
      if (S < L && tiles.left <= S) {
        plane_tiles<T, S, R, Chunk, Stride, ColumnStride, false>(d, tiles);
      } else if (has_inside && whole) {
        plane_tiles<T, L, R, Chunk, Stride, ColumnStride, has_inside>(d, tiles);
      } else {
        plane_tiles<T, L, R, Chunk, Stride, ColumnStride, false>(d, tiles);
      }
      tiles.weight += weights;
      tiles.out += d.out_channel;
      tiles.next = nullptr;
    }
    x += count * L;
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
template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted, bool Inside>
CONVPOOL_KERNEL void channels_tile(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][P];
  const Vec<T> bias = load(t.bias);
  unroll<R>([&](auto r)
                CONVPOOL_INLINE_LAMBDA { unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = bias; }); });
  const WindowOf<Inside, T, L, 1> window(0, t.in_left);
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
        constexpr int pixels = (P - 1) * S + J;
        const T* pixel = in + column * d.in_pixel;
        const ptrdiff_t next_pixel = (ColumnStride == 0 ? column_stride : 1) * d.in_pixel;
        unsigned live = (1u << pixels) - 1;
        if constexpr (!Inside) {
          if constexpr (ColumnStride == 0) {
            live = 0;
            for (int p = 0; p < P; ++p) live |= inside_bits(column + p * column_stride, d.in_columns, 1) << p;
          } else {
            live = inside_bits(column, d.in_columns, pixels);
          }
          if (live == 0) return;
        }
        Vec<T> w[Count][J];
        unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA {
          unroll<J>([&](auto m)
                        CONVPOOL_INLINE_LAMBDA { w[r][m] = pinned(load(row_weight - r * next_row + (j + m) * L)); });
        });
        read_pieces<pixels>(window, pixel, next_pixel, live, [&](auto at, const T* from) CONVPOOL_INLINE_LAMBDA {
          Vec<T> x = pinned(window.template load<0>(from));
          if constexpr (Permuted) x = permuted<T>(x, d.permutation + c * L * ptrdiff_t(sizeof(T) / 4));
          unroll<J>([&](auto m) CONVPOOL_INLINE_LAMBDA {
            constexpr int distance = at - m, p = distance / S;
            if constexpr (distance >= 0 && distance % S == 0 && p < P) {
              unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[First + r][p] += w[r][m] * x; });
            }
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
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
    store_columns<T, L>(acc[r], t.out_left, t.out + r * d.out_row, d.out_pixel);
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
  const bool columns_inside =
      tile.column >= 0 &&
      tile.column + (P - 1) * d.column_stride + (d.kernel_columns - 1) * d.column_dilation < d.in_columns;
  for (; tile.out_left > 0; tile.out_left -= L) {
    if (P > 1 && columns_inside && tile.in_left >= L) {
      channels_tile<T, R, P, Chunk, ColumnStride, Permuted, (P > 1)>(d, tile);
    } else {
      channels_tile<T, R, P, Chunk, ColumnStride, Permuted, false>(d, tile);
    }
    tile.in += d.in_vector;
    tile.in_left -= d.in_vector;
    tile.weight += d.channels_per_output * d.kernel_rows * d.kernel_columns * L;
    tile.bias += L;
    tile.out += L;
  }
}

template <class T, int R, int Chunk, int ColumnStride, bool Permuted>
void channels_row(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row) {
  constexpr int widest = 7;
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
    if constexpr (CONVPOOL_VECTOR_REGISTERS >= 32) {
      if (d.row_dilation == 1 && d.row_stride < d.kernel_rows) {
        for (; row + 2 <= d.rows; row += 2) channels_row<T, 2, chunk, column_stride, Permuted>(d, row);
      }
    }
    for (; row < d.rows; ++row) channels_row<T, 1, chunk, column_stride, Permuted>(d, row);
  };
  const auto shares_pixels = [&](auto is_permuted) CONVPOOL_INLINE_LAMBDA {
    constexpr bool Permuted = is_permuted;
    const bool neighbours = d.column_dilation == 1 && d.column_stride <= (Permuted ? 1 : 2);
    with_tap_chunk<double_chunk>(d.kernel_columns, [&](auto chunk) CONVPOOL_INLINE_LAMBDA {
      if constexpr (chunk > 1) {
        if (neighbours && d.column_stride == 1) return run(chunk, Constant<1>{}, Constant<Permuted>{});
        if constexpr (!Permuted) {
          if (neighbours) return run(chunk, Constant<2>{}, Constant<Permuted>{});
        }
      }
      run(Constant<1>{}, Constant<0>{}, Constant<Permuted>{});
    });
  };
  d.permutation != nullptr ? shares_pixels(Constant<1>{}) : shares_pixels(Constant<0>{});
}

}  // namespace
}  // namespace convpool::kernels
