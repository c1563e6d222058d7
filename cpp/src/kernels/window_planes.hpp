#pragma once

// Small windows with stride 1 over planes without gaps, whose results lie as the input does: a plane is one run of
// pixels, and a vector may hold the end of one row and the beginning of the next. Row by row, 17 columns would fill two
// vectors of 16 by half, and every row would start anew.

#include "plane_runs.hpp"
#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// Wider rows are faster one by one: several share the rows of the input then, and maxima what they have in common.
/// Measured on Zen 4: planes gain 30 to 130 % on 14 to 28 columns of float, and lose a tenth on twice the width that is
/// given here; sums and dilated windows, of which rows share less, gain a tenth or more up to there.
template <class Op, int K, int D>
constexpr ptrdiff_t widest_of_planes() {
  constexpr bool wide = masks_are_cheap && (Op::divided || D > 1);
  return (K <= 3 ? wide ? 1024 : 256 : wide ? 512 : 128) / ptrdiff_t{sizeof(typename Op::Element)};
}

/// How many vectors of a plane can lack a row of a square window, D apart.
template <class Op, int K, int D>
constexpr ptrdiff_t most_edge_vectors =
    2 * (K - 1) * D * widest_of_planes<Op, K, D>() / lanes<typename Op::Element> + 8;

/// As window_rows, for one divisor; rows and columns of a window are D apart.
template <class Op, int K, int D>
CONVPOOL_KERNEL void window_planes(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int side = (K - 1) * D / 2;
  static_assert(K % 2 == 1 && side <= L);
  const ptrdiff_t width = a.w.in;
  const ptrdiff_t begin = a.row_begin * width, end = a.row_end * width;
  DivisorArguments<T> one_divisor = a.divisor;
  one_divisor.uniform_end = end;
  const RowDivisor<Op> divisor(one_divisor, Op::divided ? a.row_count[0] : T(1));
  // For each tap of a row, in which lanes the row has it.
  LaneSet<T> has_column[K][widest_of_planes<Op, K, D>()];
  const ptrdiff_t period = for_each_first_column<T>(width, [&](ptrdiff_t vector, ptrdiff_t column) {
    unroll<K>([&](auto j) {
      has_column[j][vector] = LaneSet<T>(lanes_with_neighbour<T>(column, width, decltype(j)::value * D - side));
    });
  });
  const RunOfRows r = run_of_rows<T>(a.row_begin - a.h.pad, a.row_end - a.row_begin, K, D, a.h.in, width);
  const ptrdiff_t vectors = r.vectors, whole_begin = r.whole_begin, whole_end = r.whole_end;
  LaneSet<T> has_row[K][most_edge_vectors<Op, K, D>];
  for (ptrdiff_t v = 0, edge = 0; v < vectors; ++v) {
    if (v == whole_begin) v = whole_end;
    if (v == vectors) break;
    unroll<K>([&](auto i) { has_row[i][edge] = LaneSet<T>(lanes_with_row<T>(r, v, i, D, a.h.in, width)); });
    ++edge;
  }
  WaitingLines waiting = waiting_lines(a.waiting);
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const top = a.in + p * a.in_plane + r.first;
    T* const out = a.out + p * a.out_plane + begin;
    ptrdiff_t v = 0, edge = 0, column_set = 0;
    const auto reduce_down = [&](auto whole) CONVPOOL_INLINED {
      const auto load_row = [&](auto i) CONVPOOL_INLINED {
        const T* const from = top + decltype(i)::value * D * width + v * L;
        return decltype(whole)::value != 0 ? load(from) : has_row[i][edge].load_or(from, Op::identity());
      };
      Vec<T> acc = load_row(Constant<0>{});
      unroll<K - 1>([&](auto i) { acc = Op::combine(acc, load_row(Constant<decltype(i)::value + 1>{})); });
      if (decltype(whole)::value == 0) ++edge;
      ++v;
      return acc;
    };
    Vec<T> previous = Op::identity();
    Vec<T> current = whole_begin == 0 && whole_end > 0 ? reduce_down(Constant<1>{}) : reduce_down(Constant<0>{});
    const auto reduce_until = [&](ptrdiff_t stop, auto whole) CONVPOOL_INLINED {
      while (v < stop) {
        const ptrdiff_t x = (v - 1) * L;
        const Vec<T> next = decltype(whole)::value != 0 || v < vectors ? reduce_down(whole) : current;
        // From left to right, as window_rows does: which of the two is taken may depend on the batch.
        Vec<T> result;
        unroll<K>([&](auto j) {
          constexpr int distance = decltype(j)::value * D - side;
          Vec<T> taps = current;
          if constexpr (distance != 0) {
            taps = has_column[j][column_set].select(neighbours<T, distance>(previous, current, next, All{}),
                                                    Op::identity());
          }
          if constexpr (decltype(j)::value == 0) {
            result = taps;
          } else {
            result = Op::combine(result, taps);
          }
        });
        store_waiting_lines<T, 1>(waiting);
        if (decltype(whole)::value != 0) {
          store(out + x, divisor.apply(result, 0, L));
        } else {
          store_result<Op>(result, divisor, out, static_cast<T*>(nullptr), nullptr, 0, x, end - begin - x);
        }
        previous = current;
        current = next;
        if (++column_set == period) column_set = 0;
        if (decltype(whole)::value == 0 && x + L >= end - begin) break;
      }
    };
    reduce_until(whole_begin, Constant<0>{});
    reduce_until(whole_end, Constant<1>{});
    reduce_until(vectors + 1, Constant<0>{});
  }
  put_back(waiting, a.waiting);
}

template <class Op>
WindowRowsKernel<typename Op::Element> choose_window_planes(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  const auto fits = [&](auto kernel, auto dilation) {
    constexpr int K = kernel, D = dilation;
    return is_window(h, K, 1, D) && is_window(w, K, 1, D) && w.in == w.out && 2 * w.pad == (K - 1) * D &&
           w.in <= widest_of_planes<Op, K, D>();
  };
  if (fits(Constant<3>{}, Constant<1>{})) return window_planes<Op, 3, 1>;
  if constexpr (lanes<T> >= 4) {
    if (fits(Constant<3>{}, Constant<2>{})) return window_planes<Op, 3, 2>;
    if (fits(Constant<5>{}, Constant<1>{})) return window_planes<Op, 5, 1>;
  }
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
