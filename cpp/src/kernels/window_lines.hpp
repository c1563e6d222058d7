#pragma once

// Small windows some columns apart, as in poolings that don't overlap, and others for which window_rows has no code or
// narrow rows leave much of it idle: down the columns into lines, and then along those, with neighbouring results in a
// vector.

#include "transpose.hpp"
#include "window_planes.hpp"

namespace convpool::kernels {
namespace {

/// A line's columns are combined one by one: wider windows slide.
inline constexpr ptrdiff_t widest_in_lines = 32;

/// Up to this stride, the elements that a vector of results needs are collected by shuffles.
inline constexpr int most_collected = 8;

/// Rows of more results fill vectors by themselves.
inline constexpr ptrdiff_t most_joined = 64;

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

/// How the lines of a call's rows of results lie: `slots` times the stride apart, of which the first w.out are results.
struct LineShape {
  WindowAxis w;
  ptrdiff_t columns;  ///< that windows read, from the plane's first one on
  ptrdiff_t needed;   ///< with their padding
  ptrdiff_t slots, pitch;
  bool joined;                       ///< results of all lines are stored as one run
  ptrdiff_t at_once;                 ///< lines
  ptrdiff_t whole_begin, whole_end;  ///< rows of results whose windows lie inside the plane from top to bottom
};

/// Lines stand one after another, so that no load waits for stores that have only just happened; those of narrow rows
/// are joined: vectors of results then reach over the ends of rows.
template <class Op>
CONVPOOL_INLINE LineShape line_shape(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  LineShape s{};
  s.w = a.w;
  const ptrdiff_t span = (a.w.kernel - 1) * a.w.dilation + 1;
  s.needed = (a.w.out - 1) * a.w.stride + span;
  s.columns = s.needed - a.w.pad < a.w.in ? s.needed - a.w.pad : a.w.in;
  if (a.w.out == 1 && a.w.stride > most_collected) s.w.stride = span;
  const ptrdiff_t rows = a.row_end - a.row_begin;
  s.slots = a.w.out + (span > s.w.stride ? (span - 1) / s.w.stride : 0);
  const ptrdiff_t room = a.h.in + a.h.pad - (a.h.kernel - 1) * a.h.dilation;
  s.whole_begin = a.h.pad == 0 ? 0 : (a.h.pad - 1) / a.h.stride + 1;
  s.whole_end = room <= 0 ? 0 : (room - 1) / a.h.stride + 1;
  s.at_once = 1;
  if (s.w.stride > lines_elements / s.slots) return s;
  s.pitch = s.slots * s.w.stride;
  s.at_once = lines_elements / s.pitch;
  if (s.slots > a.w.out && (!shuffles_by_index<T> || s.slots > most_joined)) return s;
  if (a.out_row != a.w.out || (a.planes > 1 && a.out_plane != rows * a.out_row)) return s;
  if (Op::divided) {
    if (a.divisor.uniform_begin > 0 || a.divisor.uniform_end < a.w.out) return s;
    for (ptrdiff_t o = a.row_begin; o < a.row_end; ++o) {
      if (a.row_count[o] != a.row_count[a.row_begin]) return s;
    }
  }
  s.joined = true;
  return s;
}

/// Reduces down the columns for one row of results, with the identity in the padding; `end`: whole vectors may be read
/// up to there. What lies behind the line may be overwritten.
template <class Op>
CONVPOOL_INLINE void fill_line(const CoveredRows<typename Op::Element>& rows, const LineShape& s, ptrdiff_t next_rows,
                               const typename Op::Element* end, typename Op::Element* line) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int V = 4;
  for (ptrdiff_t x = 0; x < s.w.pad; x += L) store(line + x, Op::identity());
  T* const to = line + s.w.pad;
  const T* const last = rows.first + (rows.count - 1) * rows.step;
  for (ptrdiff_t x = 0; x < s.columns;) {
    if (rows.count > 0 && x + (V - 1) * L < s.columns && end - last >= x + V * L) {
      const T* row = rows.first + x;
      Vec<T> acc[V];
      const auto next = [&](auto v) CONVPOOL_INLINED {
        __builtin_prefetch(row + next_rows + v * L);
        return load(row + v * L);
      };
      unroll<V>([&](auto v) { acc[v] = next(v); });
      for (ptrdiff_t t = 1; t < rows.count; ++t) {
        row += rows.step;
        unroll<V>([&](auto v) { acc[v] = Op::combine(acc[v], next(v)); });
      }
      unroll<V>([&](auto v) { store(to + x + v * L, acc[v]); });
      x += V * L;
    } else {
      store(to + x, rows.count == 0 ? Op::identity() : reduce_columns<Op, 0, 1, 1, 1>(rows, rows.step, x).row[0]);
      x += L;
    }
  }
  for (ptrdiff_t x = s.w.pad + s.columns; x < s.needed; x += L) store(line + x, Op::identity());
}

/// As above for `count` rows of results, whose windows lie inside the plane from top to bottom, of V vectors each.
/// Returns how many it did: those that need no masks.
template <class Op, int V>
CONVPOOL_INLINE ptrdiff_t fill_whole_lines(const WindowRowsArguments<typename Op::Element>& a, const LineShape& s,
                                           const typename Op::Element* top, ptrdiff_t count,
                                           const typename Op::Element* end, typename Op::Element* line) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t step = a.h.dilation * a.in_row, next = a.h.stride * a.in_row, taps = a.h.kernel;
  const ptrdiff_t reach = (taps - 1) * step + V * L;
  ptrdiff_t done = 0;
  for (; done < count && end - top >= reach; ++done, top += next, line += s.pitch) {
    Vec<T> acc[V];
    const T* row = top;
    unroll<V>([&](auto v) { acc[v] = load(row + v * L); });
    for (ptrdiff_t t = 1; t < taps; ++t) {
      row += step;
      unroll<V>([&](auto v) { acc[v] = Op::combine(acc[v], load(row + v * L)); });
    }
    if (s.w.pad > 0) {
      for (ptrdiff_t x = 0; x < s.w.pad; x += L) store(line + x, Op::identity());
    }
    unroll<V>([&](auto v) { store(line + s.w.pad + v * L, acc[v]); });
    for (ptrdiff_t x = s.w.pad + s.columns; x < s.needed; x += L) store(line + x, Op::identity());
  }
  return done;
}

/// Lines for `count` rows of results from the task's number `first` on.
template <class Op>
CONVPOOL_KERNEL void fill_lines(const WindowRowsArguments<typename Op::Element>& a, const LineShape& s, ptrdiff_t first,
                                ptrdiff_t count) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t rows_of_task = a.row_end - a.row_begin, plane_size = (a.h.in - 1) * a.in_row + a.w.in;
  ptrdiff_t o = a.row_begin + first % rows_of_task;
  const T* plane = a.in + first / rows_of_task * a.in_plane;
  const bool dense = a.in_row == a.w.in && a.in_plane == plane_size;
  const T* end = dense ? a.in + a.planes * plane_size : plane + plane_size;
  const ptrdiff_t vectors = (s.columns + L - 1) / L;
  for (T* line = a.scratch; count > 0;) {
    const ptrdiff_t left = a.row_end - o < count ? a.row_end - o : count;
    ptrdiff_t done = 0;
    if (vectors <= 4 && o >= s.whole_begin && o < s.whole_end) {
      const ptrdiff_t whole = o + left < s.whole_end ? left : s.whole_end - o;
      const T* const top = plane + (o * a.h.stride - a.h.pad) * a.in_row;
      unroll<4>([&](auto i) {
        constexpr int V = decltype(i)::value + 1;
        if (vectors == V) done = fill_whole_lines<Op, V>(a, s, top, whole, end, line);
      });
    }
    if (done == 0) {
      fill_line<Op>(covered_rows(plane, a.in_row, a.h, a.w.in, o), s, a.h.stride * a.in_row, end, line);
      done = 1;
    }
    line += done * s.pitch;
    count -= done;
    o += done;
    if (o == a.row_end) {
      o = a.row_begin;
      plane += a.in_plane;
      if (!dense) end = plane + plane_size;
    }
  }
}

/// V vectors of results, a column apart: the first window starts with line[0].
template <class Op, int V>
CONVPOOL_INLINE void reduce_shifted(const typename Op::Element* line, ptrdiff_t taps, ptrdiff_t dilation,
                                    Vec<typename Op::Element> (&result)[V]) {
  constexpr ptrdiff_t L = lanes<typename Op::Element>;
  unroll<V>([&](auto v) { result[v] = load(line + v * L); });
  for (ptrdiff_t tap = 1; tap < taps; ++tap) {
    line += dilation;
    unroll<V>([&](auto v) { result[v] = Op::combine(result[v], load(line + v * L)); });
  }
}

/// A vector of results: its first window starts with line[0]. Reads at most S vectors after the last window's start and
/// taps.
template <class Op, int S>
CONVPOOL_INLINE Vec<typename Op::Element> reduce_collected(const typename Op::Element* line, ptrdiff_t taps,
                                                           ptrdiff_t dilation) {
  using T = typename Op::Element;
  using All = typename MakeIndices<lanes<T>>::type;
  Vec<T> result = Op::identity();
  // Taps of S vectors next to one another, or dilated ones with S vectors for each.
  const auto load_all = [&](const T* from, Vec<T>(&in)[S])
                            CONVPOOL_INLINED { unroll<S>([&](auto v) { in[v] = load(from + v * lanes<T>); }); };
  Vec<T> in[S];
  if (dilation > 1) {
    for (ptrdiff_t tap = 0; tap < taps; ++tap) {
      load_all(line + tap * dilation, in);
      result = Op::combine(result, every_nth<T, S, 0>(in, All{}));
    }
    return result;
  }
  for (ptrdiff_t tap = 0; tap < taps; tap += S) {
    load_all(line + tap, in);
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

/// Moves the results among a vector's slots to its beginning.
template <class T, bool = shuffles_by_index<T>>
class SlotShuffles {};
template <class T>
class SlotShuffles<T, true> {
 public:
  CONVPOOL_INLINE void prepare(const LineShape& s) {
    period_ = for_each_first_column<T>(s.slots, [&](ptrdiff_t vector, ptrdiff_t column) {
      ptrdiff_t results = 0;
      for (ptrdiff_t i = 0; i < lanes<T>; ++i, column = column + 1 < s.slots ? column + 1 : 0) {
        lane_[vector][i] = 0;
        if (column < s.w.out) lane_[vector][results++] = static_cast<Index>(i);
      }
      count_[vector] = results;
    });
  }
  CONVPOOL_INLINE void start() { vector_ = 0; }
  /// Returns how many they are.
  CONVPOOL_INLINE ptrdiff_t gather_next(Vec<T>& slots) {
    slots = __builtin_shuffle(slots, lane_[vector_]);
    const ptrdiff_t count = count_[vector_];
    if (++vector_ == period_) vector_ = 0;
    return count;
  }

 private:
  using Index = typename IndexOf<T>::type;
  Vec<Index> lane_[most_joined];
  ptrdiff_t count_[most_joined];
  ptrdiff_t period_ = 0, vector_ = 0;
};

/// line[x] = reduction of the window of slot x, in place: no window starts before its slot. S: the stride of the
/// columns, or 0 for any.
template <class Op, int S>
CONVPOOL_KERNEL void reduce_slots(const WindowAxis& w, ptrdiff_t slots, typename Op::Element* line) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  alignas(vector_alignment) T square[S > 0 ? 1 : L * L] = {};
  // Copies: for all that is known of vectors they may be stores to w.
  const ptrdiff_t taps = w.kernel, dilation = w.dilation;
  ptrdiff_t x = 0;
  if constexpr (S == 1) {
    const auto run = [&](auto vectors) CONVPOOL_INLINED {
      constexpr int V = decltype(vectors)::value;
      Vec<T> result[V];
      reduce_shifted<Op>(line + x, taps, dilation, result);
      unroll<V>([&](auto v) { store(line + x + v * L, result[v]); });
      x += V * L;
    };
    while (x + 4 * L <= slots) run(Constant<4>{});
    while (x < slots) run(Constant<1>{});
  } else {
    for (; x < slots; x += L) {
      const T* const first = line + x * w.stride;
      if constexpr (S > 0) {
        store(line + x, reduce_collected<Op, S>(first, taps, dilation));
      } else {
        store(line + x, reduce_transposed<Op>(first, slots - x < L ? slots - x : L, w, square));
      }
    }
  }
}

template <class Op>
CONVPOOL_KERNEL void reduce_lines(const WindowRowsArguments<typename Op::Element>& a,
                                  void (*reduce)(const WindowAxis& w, ptrdiff_t slots, typename Op::Element* line)) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const LineShape s = line_shape<Op>(a);
  const bool joined = s.joined;
  [[maybe_unused]] const bool has_gaps = joined && s.slots > a.w.out;
  [[maybe_unused]] SlotShuffles<T> shuffles;
  if constexpr (shuffles_by_index<T>) {
    if (has_gaps) shuffles.prepare(s);
  }
  RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[a.row_begin] : T(1));
  const ptrdiff_t rows = a.row_end - a.row_begin, lines = a.planes * rows;
  T* out = a.out + a.row_begin * a.out_row;
  T* const end = out + lines * a.w.out;
  for (ptrdiff_t i = 0; i < lines; i += s.at_once) {
    const ptrdiff_t count = lines - i < s.at_once ? lines - i : s.at_once;
    const ptrdiff_t slots = (count - 1) * s.slots + a.w.out;  // to the last result: the gap after it has no line behind
    fill_lines<Op>(a, s, i, count);
    reduce(s.w, slots, a.scratch);
    if (!joined) {
      for (ptrdiff_t line = 0; line < count; ++line) {
        const ptrdiff_t o = a.row_begin + (i + line) % rows;
        out = a.out + (i + line) / rows * a.out_plane + o * a.out_row;
        if (Op::divided && a.row_count[o] != divisor.a.row_count) divisor = RowDivisor<Op>(a.divisor, a.row_count[o]);
        for (ptrdiff_t x = 0; x < a.w.out; x += L) {
          store_result<Op>(load(a.scratch + line * s.slots + x), divisor, out, static_cast<T*>(nullptr), nullptr, 0, x,
                           a.w.out - x);
        }
      }
      continue;
    }
    if constexpr (shuffles_by_index<T>) shuffles.start();
    ptrdiff_t left = count * a.w.out;
    for (ptrdiff_t x = 0; x < slots; x += L) {
      Vec<T> result = load(a.scratch + x);
      ptrdiff_t results = left < L ? left : L;
      if constexpr (shuffles_by_index<T>) {
        if (has_gaps) {
          const ptrdiff_t gathered = shuffles.gather_next(result);
          results = gathered < left ? gathered : left;
        }
      }
      // What a whole vector holds beyond its results is overwritten by the next one.
      result = divisor.apply_usual(result);
      if (end - out >= L) {
        store(out, result);
      } else if (results > 0) {
        store_first<T>(out, result, results);
      }
      out += results;
      left -= results;
    }
  }
}

template <class Op, int S>
void window_lines(const WindowRowsArguments<typename Op::Element>& a) {
  reduce_lines<Op>(a, reduce_slots<Op, S>);
}

/// For these heights it takes too long to combine all rows of a window for each row of results. Steps that don't grow
/// with the window are faster for 15 rows a row apart and for 25 that are two apart, and slower for 15 that are two
/// apart (by a third) or 17 that are three apart (3.4 times, 224x224), as they are taken for all rows.
constexpr bool is_too_high_for_lines(const WindowAxis& h) {
  return h.stride == 1 ? h.kernel > 12 : (h.kernel - 1) / 10 >= h.stride;
}

/// Whether windows a column apart are taken line by line. Measured on Zen 5, in us: 4x4 on 96 columns 51, sliding 95,
/// 9x9 on 224 columns 146, sliding 114; 1x3 on 13 columns 12, in rows 20, on 224 columns 65, in rows 36.
template <class Op>
bool slides_in_lines(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  constexpr ptrdiff_t most_taps = 7;
  if (!is_floating<T>) return false;
  if (w.kernel == 1) return w.out <= most_joined;
  if (choose_window_rows<Op>(h, w) == nullptr) return w.out > most_joined && w.kernel <= most_taps;
  return h.kernel != w.kernel && w.out <= 2 * lanes<T>;
}

template <class Op>
WindowRowsKernel<typename Op::Element> choose_window_lines(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  if (is_too_high_for_lines(h) || w.kernel > widest_in_lines) return nullptr;
  if (w.stride == 1 && !slides_in_lines<Op>(h, w)) return nullptr;
  // Two columns apart row by row, unless that leaves much of the vectors empty.
  const ptrdiff_t filled = (w.out + lanes<T> - 1) / lanes<T> * lanes<T>;
  const bool in_rows = w.dilation == 1 && (w.kernel == 3 || (w.kernel == 5 && takes_five_columns<T>) ||
                                           (w.kernel == 2 && (w.out > most_joined || 3 * w.out > 2 * filled)));
  if (w.stride == 2 && (!is_floating<T> || in_rows)) return nullptr;
  WindowRowsKernel<T> kernel = window_lines<Op, 0>;
  unroll<most_collected>([&](auto i) {
    constexpr int stride = decltype(i)::value + 1;
    // Small integers, and vectors of two elements, do without: the latters' would be 7 KB of the wheel.
    constexpr bool has_shuffles = sizeof(T) >= 4 && (lanes<T> >= 4 || stride <= 2);
    if constexpr (has_shuffles && (is_floating<T> || stride > 2)) {
      if (w.stride == stride) kernel = window_lines<Op, stride>;
    }
  });
  return kernel;
}

}  // namespace
}  // namespace convpool::kernels
