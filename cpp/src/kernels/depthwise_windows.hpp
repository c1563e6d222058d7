#pragma once

// What both orientations of the depthwise kernels read and store: vectors of a row, zeros beside it, parts of it at its
// ends; and the taps of a kernel in chunks whose weights fit the registers.

#include "vector.hpp"

// A lambda that the inliner takes late leaves what it captured in memory: accumulators, for one.
#define CONVPOOL_INLINE_LAMBDA __attribute__((always_inline))

namespace convpool::kernels {
namespace {

#if defined(CONVPOOL_ISA_AVX512) || defined(CONVPOOL_ISA_AVX2)
#define CONVPOOL_MASKS_LOADS 1

/// The lanes of a vector from `column` on that lie inside a row of `columns`. A load gives zeros for the others and
/// doesn't touch them. Measured on Zen 4, where a mask leaves nothing out: as fast as plain loads with AVX-512, up to a
/// tenth slower with AVX2.
template <class T>
class InsideRow {
 public:
  CONVPOOL_INLINE InsideRow(ptrdiff_t column, ptrdiff_t columns) {
    constexpr ptrdiff_t L = lanes<T>;
    const ptrdiff_t first = column >= 0 ? 0 : column > -L ? -column : L;
    const ptrdiff_t left = columns - column;
    const ptrdiff_t last = left >= L ? L : left > first ? left : first;
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

  /// Where the marks of the lanes are -1, not 0.
  CONVPOOL_INLINE explicit InsideRow(const typename IndexOf<T>::type* marks) {
#if defined(CONVPOOL_ISA_AVX512)
    const __m512i m = _mm512_loadu_si512(marks);
    mask_ = sizeof(T) == 4 ? _mm512_test_epi32_mask(m, m) : static_cast<__mmask16>(_mm512_test_epi64_mask(m, m));
#else
    __builtin_memcpy(&mask_, marks, sizeof mask_);
#endif
  }

  CONVPOOL_INLINE Vec<T> load(const T* p) const {
    if constexpr (sizeof(T) == 4) {
#if defined(CONVPOOL_ISA_AVX512)
      return (Vec<T>)_mm512_maskz_loadu_ps(mask_, p);
#else
      return (Vec<T>)_mm256_maskload_ps(p, (__m256i)mask_);
#endif
    } else {
#if defined(CONVPOOL_ISA_AVX512)
      return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask_), p);
#else
      return (Vec<T>)_mm256_maskload_pd(p, (__m256i)mask_);
#endif
    }
  }

 private:
#if defined(CONVPOOL_ISA_AVX512)
  __mmask16 mask_;
#else
  typedef int Mask __attribute__((vector_size(sizeof(Vec<T>))));
  Mask mask_;
#endif
};

/// Loads neighbouring vectors, zeros where they lie outside a row. read_pieces says where from.
template <class T, int Vectors>
class Window {
 public:
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns)
      : Window(column, columns, typename MakeIndices<Vectors>::type{}) {}
  template <int I>
  CONVPOOL_INLINE Vec<T> load(const T* p) const {
    return inside_[I].load(p + I * lanes<T>);
  }

 private:
  template <int... I>
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns, Indices<I...>)
      : inside_{{column + I * lanes<T>, columns}...} {}
  InsideRow<T> inside_[Vectors];
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

/// Loads neighbouring vectors, from where read_pieces says: what lies outside a row is zeros there.
template <class T, int Vectors>
class Window {
 public:
  static constexpr int width = Vectors * lanes<T>;
  CONVPOOL_INLINE Window(ptrdiff_t column, ptrdiff_t columns) {
    first_ = column >= 0 ? 0 : column > -width ? -column : width;
    const ptrdiff_t left = columns - column;
    last_ = left >= width ? width : left > first_ ? left : first_;
  }
  template <int I>
  CONVPOOL_INLINE Vec<T> load(const T* p) const {
    Vec<T> x;
    __builtin_memcpy(&x, p + I * lanes<T>, sizeof x);
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
template <class T>
[[gnu::noinline, gnu::cold]] void store_short(const T* stage, ptrdiff_t count, ptrdiff_t columns, T* out,
                                              ptrdiff_t row) {
  for (ptrdiff_t r = 0; r < count; ++r) copy_short<T, lanes<T>>(stage + r * lanes<T>, columns, out + r * row);
}
#endif

/// Stores the first `left` elements of each vector, all of them where there are more.
template <class T, int R>
CONVPOOL_INLINE void store_columns(const Vec<T> (&v)[R], ptrdiff_t left, T* out, ptrdiff_t row) {
  constexpr int L = lanes<T>;
#if defined(CONVPOOL_ISA_AVX512)
  auto mask = static_cast<__mmask16>(left >= L ? (1u << L) - 1 : (1u << left) - 1);
  __asm__("" : "+Yk"(mask));
  unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
    T* const p = out + r * row;
    if constexpr (sizeof(T) == 4) {
      _mm512_mask_storeu_ps(p, mask, (__m512)v[r]);
    } else {
      _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v[r]);
    }
  });
#else
  if (left >= L) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { store(out + r * row, v[r]); });
  } else {
    alignas(vector_alignment) Vec<T> stage[R];
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { stage[r] = v[r]; });
    store_short(reinterpret_cast<const T*>(stage), R, left, out, row);
  }
#endif
}

/// How a vector of results is written: by itself, or as a cache line together with the vector before it, which waits
/// until then.
enum class Written { alone, waits, with_waiting };

/// Whether a line is one vector or two.
template <class T>
inline constexpr bool writes_lines = 2 * sizeof(Vec<T>) >= cache_line;

/// What becomes of the next vector, which starts at `out`; `more` says whether a whole one follows it.
template <class T>
CONVPOOL_INLINE Written streamed(const T* out, Written before, bool more) {
  if constexpr (!writes_lines<T>) return Written::alone;
  if constexpr (sizeof(Vec<T>) == cache_line) return Written::with_waiting;
  if (before == Written::waits) return Written::with_waiting;
  return more && reinterpret_cast<std::uintptr_t>(out) % cache_line == 0 ? Written::waits : Written::alone;
}

/// Whether `out`, and what lies `pitch` from it, starts a line.
template <class T>
CONVPOOL_INLINE bool streams_lines(const T* out, ptrdiff_t pitch) {
  return reinterpret_cast<std::uintptr_t>(out) % cache_line == 0 && pitch % (cache_line / ptrdiff_t{sizeof(T)}) == 0;
}

/// `waiting` has a place for each of the vectors that a tile writes.
template <class T>
CONVPOOL_INLINE void store_lines(T* out, Vec<T> v, Written written, T* waiting) {
  if (written == Written::waits) return store(waiting, v);
  if constexpr (sizeof(Vec<T>) < cache_line) store_streaming(out - lanes<T>, load(waiting));
  store_streaming(out, v);
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
/// count, `Least` up to two taps.
template <int Most, int Least = 1, class F>
CONVPOOL_INLINE auto with_tap_chunk(ptrdiff_t taps, F f) {
  if constexpr (Most == 3) {
    return taps == 1 ? f(Constant<1>{}) : f(Constant<3>{});
  } else if (CONVPOOL_VECTOR_REGISTERS < 32 && (taps == 2 || taps == 3)) {
    return f(Constant<3>{});
  } else if (taps <= 2) {
    return f(Constant<Least>{});
  } else {
    return taps <= 4 || taps == 6 || taps == 7 || taps == 11 ? f(Constant<4>{}) : f(Constant<5>{});
  }
}
/// The most where tap columns are taken together, or rows of results, whose weights want registers, too.
template <class T>
inline constexpr int double_chunk = CONVPOOL_VECTOR_REGISTERS < 32 || !specialised<T> ? 3 : 5;
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

/// Loads neighbouring vectors that lie inside.
template <class T, int Vectors>
class WholeWindow {
 public:
  CONVPOOL_INLINE WholeWindow(ptrdiff_t, ptrdiff_t) {}
  template <int I>
  CONVPOOL_INLINE Vec<T> load(const T* p) const {
    Vec<T> x;
    __builtin_memcpy(&x, p + I * lanes<T>, sizeof x);
    return x;
  }
};
template <bool Inside, class T, int Vectors>
struct ChooseWindow {
  typedef Window<T, Vectors> type;
};
template <class T, int Vectors>
struct ChooseWindow<true, T, Vectors> {
  typedef WholeWindow<T, Vectors> type;
};
template <bool Inside, class T, int Vectors>
using WindowOf = typename ChooseWindow<Inside, T, Vectors>::type;

/// f(0, p), f(1, p + step), ... Four at a time share an address: so few additions that it shows, and few registers.
template <int Count, class T, class F>
CONVPOOL_INLINE void unroll_steps(const T* p, ptrdiff_t step, F f) {
  unroll<Count>([&](auto i) CONVPOOL_INLINE_LAMBDA {
    f(i, p + i % 4 * step);
    if constexpr (i % 4 == 3 && i + 1 < Count) advance(p, 4 * step);
  });
}

/// Which pieces a tile expects to read: code for each of two cases is twice the code.
enum class Live { all, some, any };

template <int Count, Live expected, class T, int Vectors, class Read>
CONVPOOL_INLINE void read_pieces(const WholeWindow<T, Vectors>&, const T* p, ptrdiff_t step,
                                 [[maybe_unused]] unsigned live, Read read) {
  if constexpr (expected == Live::all) {
    unroll_steps<Count>(p, step, read);
  } else {
    unroll<Count>([&](auto i) CONVPOOL_INLINE_LAMBDA {
      if (live & (1u << i)) read(i, p);
      advance(p, step);
    });
  }
}

/// read(i, p) for those of Count pieces of a window, `step` apart from p on, whose bit is set in `live`; p is where to
/// load piece i.
template <int Count, Live expected, class T, int Vectors, class Read>
CONVPOOL_INLINE void read_pieces([[maybe_unused]] const Window<T, Vectors>& window, const T* p, ptrdiff_t step,
                                 unsigned live, Read read) {
  constexpr unsigned all = (std::uint64_t{1} << Count) - 1;
#if !CONVPOOL_MASKS_LOADS
  alignas(vector_alignment) T stage[Count * Vectors * lanes<T>];
  if (!window.whole()) {
    window.stage(p, step, live, Count, stage);
    p = stage;
    step = Vectors * lanes<T>;
  }
#endif
  if (expected == Live::all || (expected == Live::any && live == all)) {
    unroll_steps<Count>(p, step, read);
  } else {
    unroll<Count>([&](auto i) CONVPOOL_INLINE_LAMBDA {
      if (live & (1u << i)) read(i, p);
      advance(p, step);
    });
  }
}

}  // namespace
}  // namespace convpool::kernels
