#pragma once

// The vector type and the few operations that depend on the ISA. CONVPOOL_ISA_<NAME> is set by the build, together with
// the flags.

#include "kernel_table.hpp"

#if defined(__x86_64__)
#include <immintrin.h>  // only functions that are always inlined
#endif

#if defined(CONVPOOL_ISA_AVX512)
#if !defined(__AVX512F__) || !defined(__AVX512VL__) || !defined(__AVX512DQ__) || !defined(__AVX512BW__) || \
    !defined(__FMA__)
#error "the avx512 kernels need -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma"
#endif
#define CONVPOOL_VECTOR_BYTES 64
#define CONVPOOL_VECTOR_REGISTERS 32
#elif defined(CONVPOOL_ISA_AVX2)
#if !defined(__AVX2__) || !defined(__FMA__) || defined(__AVX512F__)
#error "the avx2 kernels need -mavx2 -mfma and nothing above"
#endif
#define CONVPOOL_VECTOR_BYTES 32
#define CONVPOOL_VECTOR_REGISTERS 16
#elif defined(CONVPOOL_ISA_SSE2)
#if defined(__AVX__)
#error "the sse2 kernels are for every x86-64: nothing above SSE2"
#endif
#define CONVPOOL_VECTOR_BYTES 16
#define CONVPOOL_VECTOR_REGISTERS 16
#elif defined(CONVPOOL_ISA_NEON)
#define CONVPOOL_VECTOR_BYTES 16
#define CONVPOOL_VECTOR_REGISTERS 32
#else
#error "no ISA chosen"
#endif

#define CONVPOOL_INLINE inline __attribute__((always_inline))
// For lambdas: CONVPOOL_KERNEL's flattening gives up on some of those that are called twice.
#define CONVPOOL_INLINED __attribute__((always_inline))
// Inlines everything called, lambdas among it: one that stays a call keeps its accumulators in memory.
#define CONVPOOL_KERNEL __attribute__((flatten, noinline))

namespace convpool::kernels {
namespace {

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(CONVPOOL_VECTOR_BYTES)));
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
inline constexpr int lanes = CONVPOOL_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
CONVPOOL_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
CONVPOOL_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

/// Past the caches, to an address that is a multiple of the vector. For whole cache lines, their parts one right after
/// the other: where other stores come between, a line leaves in parts, which takes 2 to 4 times as long (AVX2, Zen 3).
template <class T>
CONVPOOL_INLINE void store_streaming(T* p, Vec<T> v) {
#if defined(CONVPOOL_ISA_AVX512)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(CONVPOOL_ISA_AVX2)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(CONVPOOL_ISA_SSE2)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store(p, v);
#endif
}

CONVPOOL_INLINE void streaming_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}
inline void finish_streaming() { streaming_fence(); }

/// n elements, 0 < n < Piece, in two pieces that overlap.
template <class T, int Piece>
CONVPOOL_INLINE void copy_short(const T* from, ptrdiff_t n, T* to) {
  if constexpr (Piece == 1) {
    *to = *from;
  } else if (n >= Piece / 2 && n < Piece) {
    const char* const last = reinterpret_cast<const char*>(from + n - Piece / 2);
    typedef char Chunk __attribute__((vector_size(Piece / 2 * sizeof(T))));
    Chunk a, b;
    __builtin_memcpy(&a, from, sizeof a);
    __builtin_memcpy(&b, last, sizeof b);
    __builtin_memcpy(to, &a, sizeof a);
    __builtin_memcpy(to + n - Piece / 2, &b, sizeof b);
  } else {
    copy_short<T, Piece / 2>(from, n, to);
  }
}

/// n elements that don't overlap the target; touches nothing else.
template <class T>
CONVPOOL_INLINE void copy_run(const T* from, ptrdiff_t n, T* to) {
  constexpr int L = lanes<T>;
  if (n >= L) {
    for (ptrdiff_t x = 0; x + L <= n; x += L) store(to + x, load(from + x));
    store(to + n - L, load(from + n - L));
  } else if (n > 0) {
    copy_short<T, L>(from, n, to);
  }
}

template <class T>
[[gnu::noinline]] void copy_rows(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, T* to,
                                 ptrdiff_t to_row) {
  for (ptrdiff_t r = 0; r < rows; ++r) copy_run(from + r * from_row, columns, to + r * to_row);
}

#if defined(CONVPOOL_ISA_AVX512)
/// Bits begin .. end - 1, 0 <= begin <= end <= 64.
CONVPOOL_INLINE unsigned long long lane_bits(ptrdiff_t begin, ptrdiff_t end) {
  const auto below = [](ptrdiff_t n) { return (n >= 64 ? 0 : 1ull << n) - 1; };
  return below(end) & ~below(begin);
}

template <class T>
CONVPOOL_INLINE Vec<T> load_masked(const T* p, unsigned long long mask, Vec<T> other) {
  if constexpr (sizeof(T) == 8) {
    return (Vec<T>)_mm512_mask_loadu_epi64((__m512i)other, static_cast<__mmask8>(mask), p);
  } else if constexpr (sizeof(T) == 4) {
    return (Vec<T>)_mm512_mask_loadu_epi32((__m512i)other, static_cast<__mmask16>(mask), p);
  } else if constexpr (sizeof(T) == 2) {
    return (Vec<T>)_mm512_mask_loadu_epi16((__m512i)other, static_cast<__mmask32>(mask), p);
  } else {
    return (Vec<T>)_mm512_mask_loadu_epi8((__m512i)other, mask, p);
  }
}
#endif

/// The first n elements, 0 < n < lanes; the rest is zero. Touches nothing past them.
template <class T>
CONVPOOL_INLINE Vec<T> load_first(const T* p, ptrdiff_t n) {
#if defined(CONVPOOL_ISA_AVX512)
  return load_masked<T>(p, lane_bits(0, n), Vec<T>{});
#else
#if defined(CONVPOOL_ISA_AVX2)
  if constexpr (sizeof(T) >= 4) {
    static constexpr int mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    __m256i m;
    __builtin_memcpy(&m, mask + 8 - n * ptrdiff_t(sizeof(T) / 4), sizeof m);
    return (Vec<T>)_mm256_maskload_epi32(reinterpret_cast<const int*>(p), m);
  }
#endif
  T stage[lanes<T>] = {};
  copy_short<T, lanes<T>>(p, n, stage);
  return load(stage);
#endif
}

/// Whether code for special cases is worth what it adds to the library: not for double and integers, of which there is
/// little, nor for SSE2, which only machines without AVX2 run.
template <class T>
#if defined(CONVPOOL_ISA_SSE2)
inline constexpr bool specialised = false;
#else
inline constexpr bool specialised = is_floating<T> && sizeof(T) == 4;
#endif

/// Whether the first lanes load and store as fast as all of them.
#if defined(CONVPOOL_ISA_AVX512)
inline constexpr bool masks_are_cheap = true;
#else
inline constexpr bool masks_are_cheap = false;
#endif

/// Lane i is p[i] where begin <= i < end, else from `other`. Touches nothing else.
template <class T>
CONVPOOL_INLINE Vec<T> load_between(const T* p, ptrdiff_t begin, ptrdiff_t end, Vec<T> other) {
#if defined(CONVPOOL_ISA_AVX512)
  return load_masked<T>(p, lane_bits(begin, end), other);
#else
#if defined(CONVPOOL_ISA_AVX2)
  if constexpr (sizeof(T) >= 4) {
    constexpr int n = sizeof(T) / 4;
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i inside = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin) * n), lane),
                                               _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end) * n), lane));
    const __m256i loaded = _mm256_maskload_epi32(reinterpret_cast<const int*>(p), inside);
    return (Vec<T>)_mm256_blendv_epi8((__m256i)other, loaded, inside);
  }
#endif
  alignas(vector_alignment) T stage[lanes<T>];
  store(stage, other);
  for (ptrdiff_t i = begin; i < end; ++i) stage[i] = p[i];
  return load(stage);
#endif
}

/// Whether two vectors are shuffled fast by indices known at run time.
template <class T>
inline constexpr bool shuffles_by_index =
#if defined(CONVPOOL_ISA_AVX512)
    is_floating<T>;
#elif defined(CONVPOOL_ISA_AVX2)
    is_floating<T> && sizeof(T) == 4;
#else
    false;
#endif

/// A set of lanes, kept in memory until it is used.
template <class T>
class LaneSet {
  static_assert(lanes<T> <= 16);

 public:
  LaneSet() = default;
  /// Lane i where bit i is set.
  explicit CONVPOOL_INLINE LaneSet(std::uint32_t bits) {
#if defined(CONVPOOL_ISA_AVX512)
    mask_ = static_cast<Mask>(bits);
#else
    for (int i = 0; i < lanes<T>; ++i) mask_[i] = (bits >> i & 1) != 0 ? Index(-1) : Index(0);
#endif
  }

  /// Lane i is a[i] where it is in the set, else b[i]; of any vectors with as many lanes.
  template <class V>
  CONVPOOL_INLINE V select(V a, V b) const {
#if defined(CONVPOOL_ISA_AVX512)
    if constexpr (sizeof(T) == 4) {
      return (V)_mm512_mask_mov_epi32((__m512i)b, mask_, (__m512i)a);
    } else {
      return (V)_mm512_mask_mov_epi64((__m512i)b, static_cast<__mmask8>(mask_), (__m512i)a);
    }
#else
    return mask_ != Index(0) ? a : b;
#endif
  }

  /// sum + x in the lanes of the set, `sum` in the others.
  CONVPOOL_INLINE Vec<T> add(Vec<T> sum, Vec<T> x) const {
#if defined(CONVPOOL_ISA_AVX512)
    if constexpr (sizeof(T) == 4) {
      return (Vec<T>)_mm512_mask_add_ps((__m512)sum, mask_, (__m512)sum, (__m512)x);
    } else {
      return (Vec<T>)_mm512_mask_add_pd((__m512d)sum, static_cast<__mmask8>(mask_), (__m512d)sum, (__m512d)x);
    }
#else
    return select(sum + x, sum);
#endif
  }

#if defined(CONVPOOL_ISA_AVX512)
  int count() const { return __builtin_popcount(mask_); }

  /// The lanes of the set side by side, first in the vector; zeros follow.
  CONVPOOL_INLINE Vec<T> together(Vec<T> v) const {
    if constexpr (sizeof(T) == 4) {
      return (Vec<T>)_mm512_maskz_compress_epi32(mask_, (__m512i)v);
    } else {
      return (Vec<T>)_mm512_maskz_compress_epi64(static_cast<__mmask8>(mask_), (__m512i)v);
    }
  }
#endif

  /// Lane i is p[i] where it is in the set, else from `other`. Touches nothing else.
  CONVPOOL_INLINE Vec<T> load_or(const T* p, Vec<T> other) const {
#if defined(CONVPOOL_ISA_AVX512)
    return load_masked<T>(p, mask_, other);
#elif defined(CONVPOOL_ISA_AVX2)
    return select((Vec<T>)_mm256_maskload_epi32(reinterpret_cast<const int*>(p), (__m256i)mask_), other);
#else
    alignas(vector_alignment) T stage[lanes<T>];
    store(stage, other);
    for (int i = 0; i < lanes<T>; ++i) {
      if (mask_[i] != 0) stage[i] = p[i];
    }
    return load(stage);
#endif
  }

 private:
#if defined(CONVPOOL_ISA_AVX512)
  using Mask = __mmask16;
  Mask mask_;
#else
  using Index = typename IndexOf<T>::type;
  Vec<Index> mask_;
#endif
};

/// Bits of the lanes begin .. end - 1; any order and any bounds.
template <class T>
CONVPOOL_INLINE std::uint32_t bits_between(ptrdiff_t begin, ptrdiff_t end) {
  const auto below = [](ptrdiff_t n) { return (std::uint32_t{1} << (n <= 0 ? 0 : n < lanes<T> ? n : lanes<T>)) - 1; };
  return below(end) & ~below(begin);
}

/// Stores the first n elements, 0 < n < lanes; with AVX-512 none or all of them, too.
template <class T>
CONVPOOL_INLINE void store_first(T* p, Vec<T> v, ptrdiff_t n) {
#if defined(CONVPOOL_ISA_AVX512)
  const unsigned long long mask = lane_bits(0, n);
  if constexpr (sizeof(T) == 8) {
    _mm512_mask_storeu_epi64(p, static_cast<__mmask8>(mask), (__m512i)v);
  } else if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>(mask), (__m512i)v);
  } else if constexpr (sizeof(T) == 2) {
    _mm512_mask_storeu_epi16(p, static_cast<__mmask32>(mask), (__m512i)v);
  } else {
    _mm512_mask_storeu_epi8(p, mask, (__m512i)v);
  }
#else
  // Through memory: a masked store costs dozens of cycles on some AVX2 machines.
  alignas(vector_alignment) T stage[lanes<T>];
  store(stage, v);
  copy_short<T, lanes<T>>(stage, n, p);
#endif
}

// GCC 12 makes `Vec<T>{} + x` an addition, which loses the sign of a zero; a subtraction of +0 is exact.
template <class T>
CONVPOOL_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

/// Keeps a vector in a register: GCC otherwise folds a load that is used a few times into each of its uses (measured on
/// AVX-512: 40 % of the FMA peak instead of 95 %).
template <class V>
CONVPOOL_INLINE V pinned(V v) {
#if defined(__x86_64__)
  __asm__("" : "+v"(v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(v));
#endif
  return v;
}

/// Keeps a pointer or a counter in a general register, step by step: GCC otherwise works out where a loop of few rounds
/// leaves it, and unrolls the loop.
template <class P>
CONVPOOL_INLINE P step_by_step(P p) {
  __asm__("" : "+r"(p));
  return p;
}

// NaN in `v` stays NaN.
template <class T>
CONVPOOL_INLINE Vec<T> clamp(Vec<T> v, Vec<T> low, Vec<T> high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};
template <int I>
struct Constant {
  static constexpr int value = I;
  constexpr operator int() const { return I; }
};

/// 16 bytes each from at(Constant<0>), at(Constant<1>) and so on.
template <class T, class At>
CONVPOOL_INLINE Vec<T> load_pieces(At&& at) {
#if defined(CONVPOOL_ISA_AVX512) || defined(CONVPOOL_ISA_AVX2)
  const auto bytes = [&](auto i) CONVPOOL_INLINED {
    __m128 v;
    __builtin_memcpy(&v, at(i), sizeof v);
    return v;
  };
#if defined(CONVPOOL_ISA_AVX512)
  __m512 v = _mm512_castps128_ps512(bytes(Constant<0>{}));
  v = _mm512_insertf32x4(v, bytes(Constant<1>{}), 1);
  v = _mm512_insertf32x4(v, bytes(Constant<2>{}), 2);
  return (Vec<T>)_mm512_insertf32x4(v, bytes(Constant<3>{}), 3);
#else
  return (Vec<T>)_mm256_insertf128_ps(_mm256_castps128_ps256(bytes(Constant<0>{})), bytes(Constant<1>{}), 1);
#endif
#else
  return load(at(Constant<0>{}));
#endif
}

template <class F, int... I>
constexpr CONVPOOL_INLINE void unroll_over(F&& f, Indices<I...>) {
  (f(Constant<I>{}), ...);
}

/// f(0), f(1), ... f(N - 1), each index a constant, so that arrays indexed by it stay in registers.
template <int N, class F>
constexpr CONVPOOL_INLINE void unroll(F&& f) {
  unroll_over(f, typename MakeIndices<N>::type{});
}

}  // namespace
}  // namespace convpool::kernels
