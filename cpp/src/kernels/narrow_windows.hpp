#pragma once

// Windows over planes that are at most two vectors wide, without gaps: down the columns, and then along them by
// shuffles whose indices the call makes once, so that stride, dilation and padding are all alike to them. Where a
// vector holds a whole row of the input, two rows of results are taken at once and stored as a run. Windows of 2x2 that
// lie inside take one such shuffle instead of one for each tap.

#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// A shuffle for each tap of a row.
inline constexpr int widest_narrow = 8;

/// Whether a vector holds a row of the input, with a lane to spare for padding, and two rows of results.
template <class T>
constexpr bool rows_come_in_pairs(const WindowAxis& w) {
  return w.in < lanes<T> && 2 * w.out <= lanes<T>;
}

/// The lanes that hold the columns of windows, tap by tap; in pairs, the second row's are in the second vector.
template <class T, bool Pairs>
struct ColumnShuffles {
  using Index = typename IndexOf<T>::type;
  Vec<Index> tap[widest_narrow];

  CONVPOOL_INLINE explicit ColumnShuffles(const WindowAxis& w) {
    for (ptrdiff_t j = 0; j < w.kernel; ++j) {
      for (ptrdiff_t i = 0; i < lanes<T>; ++i) {
        const ptrdiff_t row = Pairs && i >= w.out ? 1 : 0, result = i - row * w.out;
        // Lanes without a result may be anything, but not overflow.
        const ptrdiff_t column = (result < w.out ? result * w.stride : 0) + j * w.dilation - w.pad;
        // The lane after the last column holds the identity.
        const ptrdiff_t lane = column >= 0 && column < w.in ? column : w.in;
        tap[j][i] = static_cast<Index>(row * lanes<T> + lane);
      }
    }
  }
};

/// As window_rows, for one divisor; rows of results follow one another without gaps, and what lies after one of them in
/// [row_begin, row_end) may be overwritten before it is done. K: the rows and columns of a window, S of either from one
/// to the next; or 0 for any.
template <class Op, int K, int S, bool Pairs>
CONVPOOL_KERNEL void narrow_window_rows(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int V = Pairs ? 1 : 2;
  struct Line {
    Vec<T> part[V];
  };
  const ColumnShuffles<T, Pairs> columns(a.w);
  const LaneSet<T> inside[2] = {LaneSet<T>(bits_between<T>(0, a.w.in)), LaneSet<T>(bits_between<T>(0, a.w.in - L))};
  const RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[0] : T(1));
  const auto load_part = [&](const T* row, auto v) CONVPOOL_INLINED {
    return inside[v].load_or(row + decltype(v)::value * L, Op::identity());
  };
  const auto load_line = [&](const T* row) CONVPOOL_INLINED {
    Line line;
    unroll<V>([&](auto v) { line.part[v] = load_part(row, v); });
    return line;
  };
  const auto combine = [](Line x, const Line& y) CONVPOOL_INLINED {
    unroll<V>([&](auto v) { x.part[v] = Op::combine(x.part[v], y.part[v]); });
    return x;
  };
  const auto along = [&](Vec<T> first, Vec<T> second) CONVPOOL_INLINED {
    Vec<T> result = __builtin_shuffle(first, second, columns.tap[0]);
    const auto tap = [&](ptrdiff_t j) CONVPOOL_INLINED {
      result = Op::combine(result, __builtin_shuffle(first, second, columns.tap[j]));
    };
    if constexpr (K > 0) {
      unroll<K - 1>([&](auto j) { tap(j + 1); });
    } else {
      for (ptrdiff_t j = 1; j < a.w.kernel; ++j) tap(j);
    }
    return divisor.apply_usual(result);
  };
  // Rows of results whose windows lie inside the plane from top to bottom.
  const ptrdiff_t room = a.h.in + a.h.pad - (a.h.kernel - 1) * a.h.dilation;
  const auto within = [&](ptrdiff_t o) { return o < a.row_begin ? a.row_begin : o < a.row_end ? o : a.row_end; };
  const ptrdiff_t whole_begin = within(a.h.pad == 0 ? 0 : (a.h.pad - 1) / a.h.stride + 1);
  const ptrdiff_t whole_end = within(room <= 0 ? 0 : (room - 1) / a.h.stride + 1);
  if constexpr (Pairs && K <= S) {
    // Rows that share nothing are taken in pairs wherever their planes end, which low planes gain a lot from.
    const ptrdiff_t rows = a.row_end - a.row_begin;
    if (a.h.kernel <= a.h.stride && whole_end - whole_begin == rows && a.out_plane == rows * a.w.out) {
      const T* plane = a.in + (a.row_begin * a.h.stride - a.h.pad) * a.in_row;
      const T* top = plane;
      T* out = a.out + a.row_begin * a.w.out;
      ptrdiff_t o = 0;
      const auto reduce_next = [&]() CONVPOOL_INLINED {
        Vec<T> down = load_part(top, Constant<0>{});
        const auto tap = [&](ptrdiff_t i) CONVPOOL_INLINED {
          down = Op::combine(down, load_part(top + i * a.h.dilation * a.in_row, Constant<0>{}));
        };
        if constexpr (K > 0) {
          unroll<K - 1>([&](auto i) { tap(i + 1); });
        } else {
          for (ptrdiff_t i = 1; i < a.h.kernel; ++i) tap(i);
        }
        top += a.h.stride * a.in_row;
        if (++o == rows) {
          o = 0;
          top = plane += a.in_plane;
        }
        return down;
      };
      ptrdiff_t left = a.planes * rows * a.w.out;
      for (; left >= 2 * a.w.out; left -= 2 * a.w.out, out += 2 * a.w.out) {
        const Vec<T> upper = reduce_next(), lower = reduce_next(), result = along(upper, lower);
        if (left >= L) {
          store(out, result);
        } else {
          store_first<T>(out, result, 2 * a.w.out);
        }
      }
      if (left > 0) {
        const Vec<T> last = reduce_next();
        store_first<T>(out, along(last, last), left);
      }
      return;
    }
  }
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const plane = a.in + p * a.in_plane;
    T* const out = a.out + p * a.out_plane;
    // What a whole vector holds beyond its rows is overwritten by the next ones.
    const auto put = [&](Vec<T> result, ptrdiff_t o, ptrdiff_t rows) CONVPOOL_INLINED {
      if ((a.row_end - o) * a.w.out >= L) {
        store(out + o * a.w.out, result);
      } else if (const ptrdiff_t count = rows * a.w.out; count == L) {
        store(out + o * a.w.out, result);
      } else {
        store_first<T>(out + o * a.w.out, result, count);
      }
    };
    const auto put_two = [&](const Line& upper, const Line& lower, ptrdiff_t o) CONVPOOL_INLINED {
      if constexpr (Pairs) {
        put(along(upper.part[0], lower.part[0]), o, 2);
      } else {
        put(along(upper.part[0], upper.part[1]), o, 1);
        put(along(lower.part[0], lower.part[1]), o + 1, 1);
      }
    };
    const auto reduce_one = [&](ptrdiff_t o) CONVPOOL_INLINED {
      const CoveredRows<T> rows = covered_rows(plane, a.in_row, a.h, a.w.in, o);
      Line down;
      unroll<V>([&](auto v) { down.part[v] = Op::identity(); });
      if (rows.count > 0) down = load_line(rows.first);
      for (ptrdiff_t t = 1; t < rows.count; ++t) down = combine(down, load_line(rows.first + t * rows.step));
      return down;
    };
    const auto put_one = [&](ptrdiff_t o) CONVPOOL_INLINED {
      const Line down = reduce_one(o);
      put(along(down.part[0], down.part[V - 1]), o, 1);
    };
    ptrdiff_t o = a.row_begin;
    for (; o < whole_begin; ++o) put_one(o);
    if (whole_end - whole_begin >= 2) {
      for (; o < whole_end; o += 2) {
        if (o + 1 == whole_end) --o;  // one row once more, rather than one alone
        const T* const top = plane + (o * a.h.stride - a.h.pad) * a.in_row;
        if constexpr (K > 0) {
          Line upper, lower;
          unroll<V>([&](auto v) {
            reduce_rows<Op, K, S, 1, 2>([&](auto i) CONVPOOL_INLINED { return load_part(top + i * a.in_row, v); },
                                        [&](int r)
                                            CONVPOOL_INLINED -> Vec<T>& { return (r == 0 ? upper : lower).part[v]; });
          });
          put_two(upper, lower, o);
        } else {
          const ptrdiff_t step = a.h.dilation * a.in_row, next = a.h.stride * a.in_row;
          Line upper = load_line(top), lower = load_line(top + next);
          for (ptrdiff_t t = 1; t < a.h.kernel; ++t) {
            upper = combine(upper, load_line(top + t * step));
            lower = combine(lower, load_line(top + next + t * step));
          }
          put_two(upper, lower, o);
        }
      }
    }
    for (; o < a.row_end; ++o) put_one(o);
  }
}

/// Windows of 2x2 that don't overlap and lie inside, with results without gaps: a row of results, or in Pairs two, come
/// from two vectors, whose even and odd lanes are combined and then put in order by one shuffle. Without Pairs the
/// second vector ends with the row's last window, so that no load needs a mask: such rows are at least a vector wide.
template <class Op, bool Pairs>
CONVPOOL_KERNEL void narrow_halving_rows(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  using All = typename MakeIndices<lanes<T>>::type;
  using Index = typename IndexOf<T>::type;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t width = a.w.out, second = 2 * width - L, at_once = Pairs ? 2 * width : width;
  Vec<Index> place{};
  for (ptrdiff_t i = 0; i < at_once; ++i) {
    const ptrdiff_t from_second = Pairs ? width : L / 2;
    const ptrdiff_t pair = i < from_second ? i : L / 2 + i - (Pairs ? width : width - L / 2);
    place[i] = static_cast<Index>(shuffles_within_halves<T> ? place_of_quarter<T>(static_cast<int>(pair)) : pair);
  }
  const RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[0] : T(1));
  const T* const in_end = a.in + (a.planes - 1) * a.in_plane + a.h.in * a.in_row;
  const auto down = [&](const T* top) CONVPOOL_INLINED { return Op::combine(load(top), load(top + a.in_row)); };
  const auto along = [&](Vec<T> x, Vec<T> y) CONVPOOL_INLINED {
    const Vec<T> pairs =
        Op::combine(every_second_unordered<T, 0>(x, y, All{}), every_second_unordered<T, 1>(x, y, All{}));
    return divisor.apply_usual(__builtin_shuffle(pairs, place));
  };
  const ptrdiff_t rows = a.row_end - a.row_begin;
  const bool joined = a.out_plane == rows * width;
  const T* plane = a.in + a.row_begin * 2 * a.in_row;
  const T* top = plane;
  ptrdiff_t o = 0;
  const auto next_row = [&]() CONVPOOL_INLINED {
    top += 2 * a.in_row;
    if (++o == rows) {
      o = 0;
      top = plane += a.in_plane;
    }
  };
  for (ptrdiff_t p = 0; p < (joined ? 1 : a.planes); ++p) {
    T* out = a.out + p * a.out_plane + a.row_begin * width;
    ptrdiff_t left = (joined ? a.planes : 1) * rows * width;
    while (left > 0) {
      Vec<T> result;
      if constexpr (Pairs) {
        const auto reduce_next = [&]() CONVPOOL_INLINED {
          Vec<T> row;
          if (top + a.in_row + L <= in_end) [[likely]] {
            row = down(top);
          } else {
            row = Op::combine(load_between(top, 0, a.w.in, Op::identity()),
                              load_between(top + a.in_row, 0, a.w.in, Op::identity()));
          }
          next_row();
          return row;
        };
        const Vec<T> upper = reduce_next();
        result = along(upper, left > width ? reduce_next() : upper);
      } else {
        result = along(down(top), down(top + second));
        next_row();
      }
      // What a whole vector holds beyond its rows is overwritten by the next ones.
      if (left >= L) {
        store(out, result);
      } else {
        store_first<T>(out, result, left < at_once ? left : at_once);
      }
      out += at_once;
      left -= at_once;
    }
  }
}

/// Whether an axis' windows halve it.
constexpr bool is_halved(const WindowAxis& axis) {
  return is_window(axis, 2, 2, 1) && axis.pad == 0 && 2 * axis.out <= axis.in;
}

template <class Op, bool Pairs>
WindowRowsKernel<typename Op::Element> narrow_window_rows_for(const WindowAxis& h, const WindowAxis& w) {
  if (is_halved(h) && is_halved(w)) return narrow_halving_rows<Op, Pairs>;
  if (is_window(h, 2, 2, 1) && is_window(w, 2, 2, 1)) return narrow_window_rows<Op, 2, 2, Pairs>;
  if (is_window(h, 3, 2, 1) && is_window(w, 3, 2, 1)) return narrow_window_rows<Op, 3, 2, Pairs>;
  return narrow_window_rows<Op, 0, 0, Pairs>;
}

template <class Op>
WindowRowsKernel<typename Op::Element> choose_narrow_windows(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  if constexpr (shuffles_by_index<T>) {
    if (is_tall(h) || w.kernel > widest_narrow) return nullptr;
    // Windows of 7 and more a column apart that leave planes as wide slide in less time: 7x7 on 13x13 .82 of it.
    if (w.stride == 1 && w.kernel >= 7 && w.out >= w.in) return nullptr;
    if (rows_come_in_pairs<T>(w)) return narrow_window_rows_for<Op, true>(h, w);
    // Wider rows a column apart are better taken vector by vector, where that has a kernel for them.
    if (w.stride == 1 && 3 * w.in > 2 * lanes<T> && choose_window_rows<Op>(h, w) != nullptr) return nullptr;
    // Joined lines are better where vectors of results would be half empty.
    const bool half_empty = w.stride > 2 && w.dilation == 1 && 2 * w.out <= lanes<T>;
    if (w.in < 2 * lanes<T> && w.out <= lanes<T> && !half_empty) return narrow_window_rows_for<Op, false>(h, w);
  }
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
