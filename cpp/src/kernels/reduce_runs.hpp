#pragma once

// Windows that are whole planes: reductions of contiguous runs.

#include "pool_items.hpp"

namespace convpool::kernels {
namespace {

template <class T, int Half, int... I>
CONVPOOL_INLINE Vec<T> every_half_of(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int L = lanes<T>;
  return __builtin_shufflevector(a, b, (I / 2 + Half * (L / 2) + (I % 2) * L)...);
}

/// Lane i of the result is all lanes of acc[i] reduced: pairs of vectors are folded into one until one is left.
template <class Op, int Count>
CONVPOOL_INLINE Vec<typename Op::Element> fold(Vec<typename Op::Element>* acc) {
  using T = typename Op::Element;
  if constexpr (Count > 1) {
    using All = typename MakeIndices<lanes<T>>::type;
    constexpr int half = Count / 2;
    unroll<half>([&](auto i) {
      const Vec<T> a = acc[i], b = acc[i + half];
      acc[i] = Op::combine(every_half_of<T, 0>(a, b, All{}), every_half_of<T, 1>(a, b, All{}));
    });
    return fold<Op, half>(acc);
  } else {
    return acc[0];
  }
}

template <class Op>
CONVPOOL_KERNEL void reduce_run(const ReduceRunArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  // As many planes at once as keep their accumulators in registers.
  constexpr int at_once = lanes<T> < 16 ? lanes<T> : 16;
  const ptrdiff_t whole = a.count / L * L, left = a.count - whole;
  ptrdiff_t r = 0;
  if constexpr (at_once == lanes<T>) {
    for (; r + at_once <= a.rows; r += at_once) {
      const T* const in = a.in + r * a.in_row;
      Vec<T> acc[at_once];
      unroll<at_once>([&](auto i) {
        const T* const run = in + i * a.in_row;
        Vec<T> sum = whole > 0 ? load(run) : Op::identity();
        for (ptrdiff_t x = L; x < whole; x += L) sum = Op::combine(sum, load(run + x));
        if (left > 0) sum = Op::combine(sum, load_between(run + whole, 0, left, Op::identity()));
        acc[i] = sum;
      });
      Vec<T> result = fold<Op, at_once>(acc);
      if constexpr (Op::divided) result = result / a.divisor;
      if (a.out_step == 1) {
        store(a.out + r, result);
      } else {
        for (ptrdiff_t i = 0; i < at_once; ++i) a.out[(r + i) * a.out_step] = result[i];
      }
    }
  }
  for (; r < a.rows; ++r) {
    const T* const run = a.in + r * a.in_row;
    Vec<T> acc = Op::identity();
    for (ptrdiff_t x = 0; x < whole; x += L) acc = Op::combine(acc, load(run + x));
    if (left > 0) acc = Op::combine(acc, load_between(run + whole, 0, left, Op::identity()));
    T result = acc[0];
    for (ptrdiff_t i = 1; i < L; ++i) {
      if constexpr (Op::divided) {
        result += acc[i];
      } else {
        result = acc[i] > result || acc[i] != acc[i] ? acc[i] : result;
      }
    }
    if constexpr (Op::divided) result /= a.divisor;
    a.out[r * a.out_step] = result;
  }
}

}  // namespace
}  // namespace convpool::kernels
