#pragma once

// Windows that are more than two columns apart, as in poolings that don't overlap: down the columns into a line, and
// then along it, with neighbouring results in a vector.

#include "transpose.hpp"
#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// Columns are combined one by one.
inline constexpr ptrdiff_t widest_sparse = 32;

/// Up to this stride, the elements that a vector of results needs are collected by shuffles.
inline constexpr int most_collected = 8;

/// Lane i is element i * S + Phase of S vectors in turn.
template <class T, int S, int Phase, int... I>
CONVPOOL_INLINE Vec<T> every_nth(const Vec<T> (&in)[S], Indices<I...>) {
  constexpr int L = lanes<T>;
  Vec<T> result = in[0];
  unroll<S - 1>([&](auto v) {
    constexpr int vector = decltype(v)::value + 1;
    // Lanes of the vectors before stand in place already, but for those of the first.
    result = __builtin_shufflevector(result, in[vector],
                                     ((I * S + Phase) / L == vector ? L + (I * S + Phase) % L
                                      : vector == 1                 ? (I * S + Phase) % L
                                                                    : I)...);
  });
  return result;
}

/// The reduction of rows down the columns [-pad, needed - pad), with the identity where there is none. The rows that
/// are `next_rows` further on are fetched ahead.
template <class Op>
CONVPOOL_INLINE void reduce_line(const CoveredRows<typename Op::Element>& rows, ptrdiff_t pad, ptrdiff_t needed,
                                 ptrdiff_t next_rows, typename Op::Element* line) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int V = 4;
  for (ptrdiff_t x = 0; x < needed;) {
    const ptrdiff_t from = x - pad;
    if (from >= 0 && from + V * L <= rows.columns) {
      Vec<T> acc[V];
      const T* row = rows.first + from;
      unroll<V>([&](auto v) {
        __builtin_prefetch(row + next_rows + v * L);
        acc[v] = load(row + v * L);
      });
      for (ptrdiff_t t = 1; t < rows.count; ++t) {
        row += rows.step;
        unroll<V>([&](auto v) {
          __builtin_prefetch(row + next_rows + v * L);
          acc[v] = Op::combine(acc[v], load(row + v * L));
        });
      }
      unroll<V>([&](auto v) { store(line + x + v * L, acc[v]); });
      x += V * L;
    } else {
      store(line + x, reduce_columns<Op, 0, 1, 1, 1>(rows, rows.step, from).row[0]);
      x += L;
    }
  }
}

/// A vector of results: its first window starts with line[0]. Reads at most S vectors after the last window's start and
/// taps.
template <class Op, int S>
CONVPOOL_INLINE Vec<typename Op::Element> reduce_collected(const typename Op::Element* line, ptrdiff_t taps) {
  using T = typename Op::Element;
  using All = typename MakeIndices<lanes<T>>::type;
  Vec<T> result = Op::identity();
  for (ptrdiff_t tap = 0; tap < taps; tap += S) {
    Vec<T> in[S];
    unroll<S>([&](auto v) { in[v] = load(line + tap + v * lanes<T>); });
    unroll<S>([&](auto phase) {
      if (tap + phase < taps) result = Op::combine(result, every_nth<T, S, decltype(phase)::value>(in, All{}));
    });
  }
  return result;
}

/// As above, for any stride and dilation.
template <class Op>
CONVPOOL_INLINE Vec<typename Op::Element> reduce_transposed(const typename Op::Element* line, ptrdiff_t results,
                                                            const WindowAxis& w, typename Op::Element* square) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  Vec<T> result = Op::identity();
  for (ptrdiff_t tap = 0; tap < w.kernel; ++tap) {
    if (w.dilation > 1 || tap % L == 0) {
      const ptrdiff_t columns = w.dilation > 1 ? 1 : w.kernel - tap < L ? w.kernel - tap : L;
      if constexpr (L <= 16) {
        transpose<T>(line + tap * w.dilation, w.stride, results, columns, square, L);
      } else {
        for (ptrdiff_t i = 0; i < results * columns; ++i) {
          square[i % columns * L + i / columns] = line[tap * w.dilation + i / columns * w.stride + i % columns];
        }
      }
    }
    result = Op::combine(result, load(square + (w.dilation > 1 ? 0 : tap % L) * L));
  }
  return result;
}

/// S: the stride of the columns, or 0 for any.
template <class Op, int S>
CONVPOOL_KERNEL void sparse_window_rows(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t needed = (a.w.out - 1) * a.w.stride + (a.w.kernel - 1) * a.w.dilation + 1;
  alignas(vector_alignment) T square[S > 0 ? 1 : L * L] = {};
  RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[a.row_begin] : T(1));
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    for (ptrdiff_t o = a.row_begin; o < a.row_end; ++o) {
      T* const out = a.out + p * a.out_plane + o * a.out_row;
      const CoveredRows<T> rows = covered_rows(a.in + p * a.in_plane, a.in_row, a.h, a.w.in, o);
      if (rows.count == 0) {
        fill_missing_row(Op::divided ? T(0) : lowest<T>, a.w, out);
        continue;
      }
      if (Op::divided && a.row_count[o] != divisor.a.row_count) divisor = RowDivisor<Op>(a.divisor, a.row_count[o]);
      reduce_line<Op>(rows, a.w.pad, needed, a.h.stride * a.in_row, a.scratch);
      for (ptrdiff_t x = 0; x < a.w.out; x += L) {
        const T* const line = a.scratch + x * a.w.stride;
        const ptrdiff_t left = a.w.out - x;
        Vec<T> result;
        if constexpr (S > 0) {
          result = reduce_collected<Op, S>(line, a.w.kernel);
        } else {
          result = reduce_transposed<Op>(line, left < L ? left : L, a.w, square);
        }
        store_result<Op>(result, divisor, out, static_cast<T*>(nullptr), nullptr, 0, x, left);
      }
    }
  }
}

template <class Op>
WindowRowsKernel<typename Op::Element> choose_sparse_rows(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  if (is_tall(h) || w.stride <= 2 || w.kernel > widest_sparse) return nullptr;
  WindowRowsKernel<T> kernel = sparse_window_rows<Op, 0>;
  unroll<most_collected - 2>([&](auto i) {
    constexpr int stride = decltype(i)::value + 3;
    if constexpr (sizeof(T) >= 4) {
      if (w.stride == stride && w.dilation == 1) kernel = sparse_window_rows<Op, stride>;
    }
  });
  return kernel;
}

}  // namespace
}  // namespace convpool::kernels
