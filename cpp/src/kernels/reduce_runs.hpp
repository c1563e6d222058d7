#pragma once

// Windows that are whole planes: reductions of contiguous runs.

#include "fold.hpp"
#include "pool_items.hpp"

namespace convpool::kernels {
namespace {

/// One run, lane by lane: `whole` elements in whole vectors, and `left` after them.
template <class Op>
CONVPOOL_INLINE Vec<typename Op::Element> reduce_lanes(const typename Op::Element* run, ptrdiff_t whole,
                                                       ptrdiff_t left) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  Vec<T> acc = whole > 0 ? load(run) : Op::identity();
  for (ptrdiff_t x = L; x < whole; x += L) acc = Op::combine(acc, load(run + x));
  return left > 0 ? Op::combine(acc, load_between(run + whole, 0, left, Op::identity())) : acc;
}

template <class Op>
CONVPOOL_KERNEL void reduce_run(const ReduceRunArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t whole = a.count / L * L, left = a.count - whole;
  if constexpr (L <= 16) {
    // As many runs at once as a vector has lanes. Where fewer are left the first of them stands for the missing ones,
    // so that every run is reduced in the same order.
    const auto reduce_group = [&](ptrdiff_t r, auto run_number) CONVPOOL_INLINED {
      const T* const in = a.in + r * a.in_row;
      Vec<T> acc[L];
      unroll<L>([&](auto i) { acc[i] = reduce_lanes<Op>(in + run_number(i) * a.in_row, whole, left); });
      Vec<T> result = fold<T, static_cast<int>(L)>(acc, Op::combine);
      if constexpr (Op::divided) result = result / a.divisor;
      return result;
    };
    ptrdiff_t r = 0;
    const auto store_group = [&](Vec<T> result, ptrdiff_t rows) CONVPOOL_INLINED {
      for (ptrdiff_t i = 0; i < rows; ++i) a.out[(r + i) * a.out_step] = result[i];
    };
    for (; r + L <= a.rows; r += L) {
      const Vec<T> result = reduce_group(r, [](ptrdiff_t i) { return i; });
      if (a.out_step == 1) {
        store(a.out + r, result);
      } else {
        store_group(result, L);
      }
    }
    if (const ptrdiff_t rows = a.rows - r; rows > 0) {
      store_group(reduce_group(r, [&](ptrdiff_t i) { return i < rows ? i : 0; }), rows);
    }
  } else {
    static_assert(!Op::divided);
    for (ptrdiff_t r = 0; r < a.rows; ++r) {
      const Vec<T> acc = reduce_lanes<Op>(a.in + r * a.in_row, whole, left);
      T result = acc[0];
      for (ptrdiff_t i = 1; i < L; ++i) result = acc[i] > result ? acc[i] : result;
      a.out[r * a.out_step] = result;
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
