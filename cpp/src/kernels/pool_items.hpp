#pragma once

// What a sliding window reduces: vectors of values, of sums, or of values with their positions. In combine(first,
// second), `first` stands before `second` in the plane; that settles ties.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

#if !defined(CONVPOOL_ISA_AVX512)
/// The larger of the two, the second where either is NaN.
CONVPOOL_INLINE Vec<float> hardware_maximum(Vec<float> first, Vec<float> second) {
#if defined(CONVPOOL_ISA_AVX2)
  return (Vec<float>)_mm256_max_ps((__m256)first, (__m256)second);
#elif defined(CONVPOOL_ISA_SSE2)
  return (Vec<float>)_mm_max_ps((__m128)first, (__m128)second);
#else
  return first > second ? first : second;
#endif
}
CONVPOOL_INLINE Vec<double> hardware_maximum(Vec<double> first, Vec<double> second) {
#if defined(CONVPOOL_ISA_AVX2)
  return (Vec<double>)_mm256_max_pd((__m256d)first, (__m256d)second);
#elif defined(CONVPOOL_ISA_SSE2)
  return (Vec<double>)_mm_max_pd((__m128d)first, (__m128d)second);
#else
  return first > second ? first : second;
#endif
}
#endif

/// The larger of the two; a NaN in either wins.
template <class T>
CONVPOOL_INLINE Vec<T> maximum(Vec<T> first, Vec<T> second) {
  if constexpr (!is_floating<T>) {
    return second > first ? second : first;
  } else {
#if defined(CONVPOOL_ISA_AVX512)
    // The hardware's maximum is its last operand where either is NaN. The table puts `second` back where it is NaN.
    if constexpr (sizeof(T) == 4) {
      const __m512 larger = _mm512_maskz_max_ps(0xffff, (__m512)second, (__m512)first);
      return (Vec<T>)_mm512_fixupimm_ps(larger, (__m512)second, _mm512_set1_epi32(0x11), 0);
    } else {
      const __m512d larger = _mm512_maskz_max_pd(0xff, (__m512d)second, (__m512d)first);
      return (Vec<T>)_mm512_fixupimm_pd(larger, (__m512d)second, _mm512_set1_epi64(0x11), 0);
    }
#else
    const Vec<T> larger = hardware_maximum(second, first);  // the last operand where either is NaN
    return second != second ? second : larger;
#endif
  }
}

/// x / divisor. A division takes 10 to 24 cycles; with a fused multiply-add, one correction of x * reciprocal rounds as
/// it does wherever nothing over- or underflows. What isn't finite needs no correction.
template <class T>
struct Quotient {
  Vec<T> divisor, reciprocal;
#if defined(CONVPOOL_ISA_AVX512)
  // The table takes the quotient where it is NaN or infinite. Pinned: GCC makes it anew for each use otherwise.
  Vec<T> table;
#endif

  CONVPOOL_INLINE explicit Quotient(T by) : divisor(broadcast(by)), reciprocal(broadcast(static_cast<T>(T(1) / by))) {
#if defined(CONVPOOL_ISA_AVX512)
    table = (Vec<T>)pinned(Vec<std::int64_t>{} + (sizeof(T) == 4 ? 0x110011'00110011 : 0x110011));
#endif
  }

  CONVPOOL_INLINE Vec<T> of(Vec<T> x) const {
#if defined(__FMA__) || defined(CONVPOOL_ISA_NEON)
    const Vec<T> quotient = x * reciprocal;
    const Vec<T> remainder = x - quotient * divisor;
    const Vec<T> corrected = quotient + remainder * reciprocal;
#if defined(CONVPOOL_ISA_AVX512)
    if constexpr (sizeof(T) == 4) {
      return (Vec<T>)_mm512_fixupimm_ps((__m512)corrected, (__m512)quotient, (__m512i)table, 0);
    } else {
      return (Vec<T>)_mm512_fixupimm_pd((__m512d)corrected, (__m512d)quotient, (__m512i)table, 0);
    }
#else
    return remainder == remainder ? corrected : quotient;
#endif
#else
    return x / divisor;
#endif
  }
};

/// Whether x * (1 / divisor) is x / divisor for every x: the divisor is a power of two.
template <class T>
CONVPOOL_INLINE bool reciprocal_is_exact(T divisor) {
  if constexpr (sizeof(T) == 4) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &divisor, sizeof bits);
    return (bits & 0x7fffff) == 0;
  } else {
    std::uint64_t bits;
    __builtin_memcpy(&bits, &divisor, sizeof bits);
    return (bits & 0xfffffffffffff) == 0;
  }
}

template <class T>
struct MaxOf {
  using Element = T;
  using Item = Vec<T>;
  static constexpr bool indexed = false, divided = false;
  static CONVPOOL_INLINE Item combine(Item first, Item second) { return maximum<T>(first, second); }
  static CONVPOOL_INLINE Item identity() { return broadcast(lowest<T>); }
};

template <class T>
struct SumOf {
  using Element = T;
  using Item = Vec<T>;
  static constexpr bool indexed = false, divided = true;
  static CONVPOOL_INLINE Item combine(Item first, Item second) { return first + second; }
  static CONVPOOL_INLINE Item identity() { return Item{}; }
};

template <class T>
struct MaxAtOf {
  using Element = T;
  using Index = typename IndexOf<T>::type;
  struct Item {
    Vec<T> value;
    Vec<Index> at;
  };
  static constexpr bool indexed = true, divided = false;
  /// Of equal values the first, of NaNs the last.
  static CONVPOOL_INLINE Item combine(Item first, Item second) {
#if defined(CONVPOOL_ISA_AVX512)
    // A comparison under the mask of another saves the step that would join them.
    if constexpr (is_floating<T> && sizeof(T) == 4) {
      const __m512 a = (__m512)first.value, b = (__m512)second.value;
      const __mmask16 keep = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(b, b, _CMP_ORD_Q), b, a, _CMP_NGT_UQ);
      return {(Vec<T>)_mm512_mask_mov_ps(b, keep, a),
              (Vec<Index>)_mm512_mask_mov_epi32((__m512i)second.at, keep, (__m512i)first.at)};
    } else if constexpr (is_floating<T>) {
      const __m512d a = (__m512d)first.value, b = (__m512d)second.value;
      const __mmask8 keep = _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(b, b, _CMP_ORD_Q), b, a, _CMP_NGT_UQ);
      return {(Vec<T>)_mm512_mask_mov_pd(b, keep, a),
              (Vec<Index>)_mm512_mask_mov_epi64((__m512i)second.at, keep, (__m512i)first.at)};
    } else  // NOLINT(readability-else-after-return)
#endif
        if constexpr (is_floating<T>) {
      const auto better = (second.value > first.value) | (second.value != second.value);
      return {better ? second.value : first.value, better ? second.at : first.at};
    } else {
      const auto better = second.value > first.value;
      return {better ? second.value : first.value, better ? second.at : first.at};
    }
  }
};

template <class Op>
CONVPOOL_INLINE typename Op::Item load_item(const typename Op::Element* values,
                                            [[maybe_unused]] const typename IndexOf<typename Op::Element>::type* at,
                                            ptrdiff_t x) {
  if constexpr (Op::indexed) {
    return {load(values + x), load(at + x)};
  } else {
    return load(values + x);
  }
}

template <class Op>
CONVPOOL_INLINE typename Op::Item load_first_of_item(
    const typename Op::Element* values, [[maybe_unused]] const typename IndexOf<typename Op::Element>::type* at,
    ptrdiff_t x, ptrdiff_t left) {
  if constexpr (Op::indexed) {
    return {load_first(values + x, left), load_first(at + x, left)};
  } else {
    return load_first(values + x, left);
  }
}

template <class Op>
CONVPOOL_INLINE void store_item(const typename Op::Item& item, typename Op::Element* values,
                                [[maybe_unused]] typename IndexOf<typename Op::Element>::type* at, ptrdiff_t x) {
  if constexpr (Op::indexed) {
    store(values + x, item.value);
    store(at + x, item.at);
  } else {
    store(values + x, item);
  }
}

/// The divisors of a row of results, with what is the same for most of them at hand.
template <class Op>
struct RowDivisor {
  using T = typename Op::Element;
  DivisorArguments<T> a;
  Quotient<T> usual{T(1)};
  bool exact = true;

  CONVPOOL_INLINE RowDivisor(const DivisorArguments<T>& arguments, T row_count) : a(arguments) {
    a.row_count = row_count;
    if constexpr (Op::divided) {
      if (a.column_count == nullptr) return;
      const T divisor = a.uniform_begin < a.uniform_end ? a.column_count[a.uniform_begin] * row_count : T(1);
      usual = Quotient<T>(divisor);
      exact = reciprocal_is_exact(divisor);
    }
  }

  /// For columns that have the usual divisor.
  CONVPOOL_INLINE Vec<T> apply_usual(Vec<T> sum) const {
    if constexpr (Op::divided) {
      return exact ? sum * usual.reciprocal : usual.of(sum);
    } else {
      return sum;
    }
  }

  /// How many columns from x on have it, `left` at most.
  CONVPOOL_INLINE ptrdiff_t usual_columns(ptrdiff_t x, ptrdiff_t left) const {
    if (!Op::divided || a.column_count == nullptr) return left;
    if (x < a.uniform_begin) return 0;
    return a.uniform_end - x < left ? a.uniform_end - x : left;
  }

  /// `left` columns from x on, at most a vector of them.
  CONVPOOL_INLINE Vec<T> apply(Vec<T> sum, ptrdiff_t x, ptrdiff_t left) const {
    if constexpr (Op::divided) {
      if (a.column_count == nullptr) return sum;
      constexpr ptrdiff_t L = lanes<T>;
      const ptrdiff_t columns = left < L ? left : L;
      if (x >= a.uniform_begin && x + columns <= a.uniform_end) return apply_usual(sum);
      const Vec<T> counts = columns == L ? load(a.column_count + x) : load_first(a.column_count + x, columns);
      return sum / (counts * a.row_count);
    } else {
      return sum;
    }
  }

  /// One column of results, with channels in the vector.
  CONVPOOL_INLINE Vec<T> apply_to_pixel(Vec<T> sum, ptrdiff_t x) const {
    if constexpr (Op::divided) {
      if (x < a.uniform_begin || x >= a.uniform_end) return sum / (a.column_count[x] * a.row_count);
      return apply_usual(sum);
    } else {
      return sum;
    }
  }
};

/// Positions of 64 bits, the lower or upper half of a vector's. GCC converts a whole one to two through memory.
template <int Half, int... I>
CONVPOOL_INLINE Vec<std::int64_t> widened(Vec<std::int32_t> at, Indices<I...>) {
#if defined(CONVPOOL_ISA_AVX512)
  return (Vec<std::int64_t>)_mm512_maskz_cvtepi32_epi64(0xff, _mm512_maskz_extracti64x4_epi64(0xf, (__m512i)at, Half));
#else
  return __builtin_convertvector(__builtin_shufflevector(at, at, (I + Half * lanes<std::int64_t>)...),
                                 Vec<std::int64_t>);
#endif
}

/// Stores the first n positions, 0 < n <= lanes.
CONVPOOL_INLINE void store_first_wide(std::int64_t* to, Vec<std::int32_t> at, ptrdiff_t n) {
  constexpr ptrdiff_t half = lanes<std::int64_t>;
  using All = typename MakeIndices<half>::type;
  const Vec<std::int64_t> low = widened<0>(at, All{});
  if (n < half) {
    store_first<std::int64_t>(to, low, n);
    return;
  }
  store(to, low);
  const Vec<std::int64_t> high = widened<1>(at, All{});
  if (n == 2 * half) {
    store(to + half, high);
  } else if (n > half) {
    store_first<std::int64_t>(to + half, high, n - half);
  }
}
CONVPOOL_INLINE void store_first_wide(std::int64_t* to, Vec<std::int64_t> at, ptrdiff_t n) {
  if (n == lanes<std::int64_t>) {
    store(to, at);
  } else {
    store_first<std::int64_t>(to, at, n);
  }
}

/// A vector of positions past the caches, to an address that is a multiple of the vector.
CONVPOOL_INLINE void stream_wide(std::int64_t* to, Vec<std::int32_t> at) {
  constexpr ptrdiff_t half = lanes<std::int64_t>;
  using All = typename MakeIndices<half>::type;
  store_streaming(to, widened<0>(at, All{}));
  store_streaming(to + half, widened<1>(at, All{}));
}
CONVPOOL_INLINE void stream_wide(std::int64_t* to, Vec<std::int64_t> at) { store_streaming(to, at); }

/// Whether vectors of results may pass the caches; others' code would be most of what that takes.
template <class Op>
inline constexpr bool passes_caches = is_floating<typename Op::Element> && lanes<typename Op::Element> >= 4;

/// Whether a row of results, and of their positions where there are any, starts with a cache line.
template <class Op>
CONVPOOL_INLINE bool starts_line(const typename Op::Element* out, [[maybe_unused]] const std::int64_t* out_wide) {
  const auto is_line = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % cache_line == 0; };
  return is_line(out) && (!Op::indexed || (out_wide != nullptr && is_line(out_wide)));
}

/// Stores up to a vector of final results; with stream a whole one past the caches, where that begins a line.
template <class Op, class At>
CONVPOOL_INLINE void store_result(typename Op::Item item, const RowDivisor<Op>& divisor, typename Op::Element* out,
                                  [[maybe_unused]] At* out_at, [[maybe_unused]] std::int64_t* out_wide,
                                  [[maybe_unused]] std::int64_t at_add, ptrdiff_t x, ptrdiff_t left,
                                  bool stream = false) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  if constexpr (Op::indexed) {
    const Vec<At> at = item.at + static_cast<At>(at_add);
    if (stream && left >= L) {
      store_streaming(out + x, item.value);
      stream_wide(out_wide + x, at);
      return;
    }
    if (left >= L) {
      store(out + x, item.value);
    } else {
      store_first<T>(out + x, item.value, left);
    }
    if (out_wide == nullptr) {
      if (left >= L) {
        store(out_at + x, at);
      } else {
        store_first<At>(out_at + x, at, left);
      }
      return;
    }
    store_first_wide(out_wide + x, at, left < L ? left : L);
  } else {
    const Vec<T> result = divisor.apply(item, x, left);
    if (stream && left >= L) {
      store_streaming(out + x, result);
    } else if (left >= L) {
      store(out + x, result);
    } else {
      store_first<T>(out + x, result, left);
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
