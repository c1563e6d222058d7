#pragma once

// What is done to results that were stored: a second array added, and the activations that are more than a clamp.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  using Integer = std::int32_t;
  static constexpr float low = -87.0f, high = 88.0f;
  static constexpr float log2e = 1.44269504088896341f;
  // ln 2 = ln2_high + ln2_low, the first with trailing zeros so that n * ln2_high is exact.
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr int mantissa_bits = 23, bias = 127, degree = 7;
};
template <>
struct ExpConstants<double> {
  using Integer = std::int64_t;
  static constexpr double low = -708.0, high = 709.0;
  static constexpr double log2e = 1.4426950408889634074;
  static constexpr double ln2_high = 0.693147180369123816490, ln2_low = 1.90821492927058770002e-10;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa_bits = 52, bias = 1023, degree = 13;
};

/// e^x = 2^n * e^r with |r| <= ln(2) / 2 and the Taylor polynomial of e^r, whose remainder is below the rounding error
/// at the degree chosen. x is held inside the range of normal results, which is all that a sigmoid needs.
template <class T>
CONVPOOL_INLINE Vec<T> exponential(Vec<T> x) {
  using E = ExpConstants<T>;
  typedef typename E::Integer IntegerVec __attribute__((vector_size(CONVPOOL_VECTOR_BYTES)));
  const auto too_large = x > broadcast(E::high);
  x = clamp<T>(x, broadcast(E::low), broadcast(E::high));
  const Vec<T> shifted = x * E::log2e + E::round;
  const Vec<T> n = shifted - E::round;
  const Vec<T> r = (x - n * E::ln2_high) - n * E::ln2_low;
  Vec<T> sum = broadcast(T(1));
  // Horner of 1 + r (1 + r/2 (1 + r/3 (...))): one multiply and one FMA a step, coefficients folded by the compiler.
  unroll<E::degree>([&](auto i) { sum = sum * (r * (T(1) / T(E::degree - i))) + T(1); });
  const IntegerVec exponent = ((IntegerVec)shifted + E::bias) << E::mantissa_bits;
  return too_large ? broadcast(T(__builtin_inf())) : sum * (Vec<T>)exponent;
}

template <class T>
CONVPOOL_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> y = T(1) / (T(1) + exponential<T>(-x));
  return x != x ? x : y;
}

template <class T>
CONVPOOL_INLINE Vec<T> apply(Curve curve, Vec<T> x) {
  switch (curve) {
    case Curve::sigmoid:
      return sigmoid<T>(x);
    case Curve::silu:
      return x * sigmoid<T>(x);
    case Curve::hardswish:
      return x * clamp<T>(x + T(3), broadcast(T(0)), broadcast(T(6))) / T(6);
  }
  return x;
}

template <class T>
CONVPOOL_KERNEL void apply_curve(Curve curve, T* data, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t columns) {
  constexpr int L = lanes<T>;
  for (ptrdiff_t r = 0; r < rows; ++r) {
    T* p = data + r * row;
    ptrdiff_t x = 0;
    for (; x + L <= columns; x += L) store(p + x, apply<T>(curve, load(p + x)));
    if (x < columns) store_first<T>(p + x, apply<T>(curve, load_first(p + x, columns - x)), columns - x);
  }
}

template <class T>
CONVPOOL_KERNEL void add_rows(const AddArguments<T>& a) {
  constexpr int L = lanes<T>;
  const Vec<T> low = broadcast(a.low), high = broadcast(a.high);
  for (ptrdiff_t r = 0; r < a.rows; ++r) {
    T* const p = a.data + r * a.data_row;
    const T* const q = a.add + r * a.add_row;
    for (ptrdiff_t x = 0; x < a.columns; x += L) {
      const ptrdiff_t left = a.columns - x;
      Vec<T> v;
      if (a.add_column == 1) {
        v = left >= L ? load(q + x) : load_first(q + x, left);
      } else {
        T gathered[L] = {};
        for (ptrdiff_t l = 0; l < L && l < left; ++l) gathered[l] = q[(x + l) * a.add_column];
        v = load(gathered);
      }
      if (left >= L) {
        store(p + x, clamp<T>(load(p + x) + v, low, high));
      } else {
        store_first<T>(p + x, clamp<T>(load_first(p + x, left) + v, low, high), left);
      }
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
