#pragma once

// Windows that are whole planes: reductions of contiguous runs.

#include "fold.hpp"
#include "pool_items.hpp"

namespace convpool::kernels {
namespace {

/// Count runs, lane by lane: `whole` elements in whole vectors, and `left` after them. Their sums take turns, so that
/// none waits for its last addition (64 runs of 3136 on AVX2 24 to 12 us), and share what loops cost.
template <class Op, int Count>
CONVPOOL_INLINE void reduce_lanes(const typename Op::Element* const (&run)[Count], ptrdiff_t whole, ptrdiff_t left,
                                  Vec<typename Op::Element>* acc) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  unroll<Count>([&](auto i) { acc[i] = whole > 0 ? load(run[i]) : Op::identity(); });
  for (ptrdiff_t x = L; x < whole; x += L) {
    unroll<Count>([&](auto i) { acc[i] = Op::combine(acc[i], load(run[i] + x)); });
  }
  if (left == 0) return;
  unroll<Count>([&](auto i) {
    const T* const p = run[i] + whole;
    acc[i] = Op::combine(acc[i], Op::divided ? load_first(p, left) : load_between(p, 0, left, Op::identity()));
  });
}

template <class Op>
CONVPOOL_KERNEL void reduce_run(const ReduceRunArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t whole = a.count / L * L, left = a.count - whole;
  if constexpr (L <= 16) {
    constexpr int together = L < 8 ? L : 8;
    // As many runs at once as a vector has lanes. Where fewer are left the first of them stands for the missing ones,
    // so that every run is reduced in the same order.
    const auto reduce_group = [&](ptrdiff_t r, auto run_number) CONVPOOL_INLINED {
      const T* const in = a.in + r * a.in_row;
      Vec<T> acc[L];
      unroll<L / together>([&](auto g) CONVPOOL_INLINED {
        const T* run[together];
        unroll<together>([&](auto i) { run[i] = in + run_number(g * together + i) * a.in_row; });
        reduce_lanes<Op, together>(run, whole, left, acc + g * together);
      });
      Vec<T> result = fold<T>(acc, Op::combine);
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
      Vec<T> acc;
      reduce_lanes<Op, 1>({a.in + r * a.in_row}, whole, left, &acc);
      T result = acc[0];
      for (ptrdiff_t i = 1; i < L; ++i) result = acc[i] > result ? acc[i] : result;
      a.out[r * a.out_step] = result;
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
