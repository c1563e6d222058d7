#pragma once

// Small windows over rows of pixels, in registers from the input to the result: the window's rows are combined vector
// by vector, then the lanes of neighbouring vectors. Rows between the two steps in memory, even in the L1 cache, cost
// twice the time (loads that reach over two recent stores wait for them).

#include "pool_items.hpp"
#include "row_layout.hpp"

namespace convpool::kernels {
namespace {

/// How far ahead of its use memory is fetched at least: from the caches, and from beyond them. Measured on Zen 4 with
/// planes of 512x512 beyond the last cache: half of it and twice as much cost 5 to 15 %, a third for 3x3 windows with
/// stride 1; where the caches hold the input, the longer distance costs 3 to 8 %.
inline constexpr ptrdiff_t prefetch_bytes = 4096, far_prefetch_bytes = 12288;

/// Whether the results of every line_channels channels of a pixel are whole cache lines.
template <class T>
CONVPOOL_INLINE bool pixels_are_lines(const WindowPixelsArguments<T>& a, ptrdiff_t line_channels) {
  constexpr ptrdiff_t line = cache_line / ptrdiff_t{sizeof(T)};
  return a.channels % line_channels == 0 && reinterpret_cast<std::uintptr_t>(a.out) % cache_line == 0 &&
         a.out_pixel % line == 0 && a.out_row % line == 0;
}

/// A copy: for all that is known of vectors they may be stores to what it points to.
CONVPOOL_INLINE WaitingLines waiting_lines(const WaitingLines* given) {
  return given == nullptr ? WaitingLines{} : *given;
}
CONVPOOL_INLINE void put_back(const WaitingLines& left, WaitingLines* given) {
  if (given != nullptr) *given = left;
}

/// Stores as much of what waits as `Vectors` results take, at least a line, if there is as much.
template <class T, int Vectors>
CONVPOOL_INLINE void store_waiting_lines(WaitingLines& waiting) {
  constexpr ptrdiff_t vectors_of_line = cache_line / ptrdiff_t{sizeof(Vec<T>)}, L = lanes<T>;
  constexpr ptrdiff_t lines = (Vectors + vectors_of_line - 1) / vectors_of_line;
  if (waiting.count < lines) return;
  const T* const from = reinterpret_cast<const T*>(waiting.from);
  T* const to = reinterpret_cast<T*>(waiting.to);
#pragma GCC unroll 1
  for (ptrdiff_t x = 0; x < lines * vectors_of_line * L; x += L) store_streaming(to + x, load(from + x));
  waiting.from += lines * cache_line;
  waiting.to += lines * cache_line;
  waiting.count -= lines;
}

/// Fetches the rows that come after a group of new ones, in the order of memory: the hardware follows one long stream
/// better than a few short ones.
template <class T>
class FetchAhead {
 public:
  CONVPOOL_INLINE FetchAhead(const T* first_row, ptrdiff_t group, bool far) {
    const ptrdiff_t nearest = (far ? far_prefetch_bytes : prefetch_bytes) / ptrdiff_t{sizeof(T)};
    ahead_ = first_row + (group > nearest ? group : nearest);
  }
  template <int Vectors>
  CONVPOOL_INLINE void fetch() {
    unroll<Vectors>([&](auto v) { __builtin_prefetch(ahead_ + v * lanes<T>); });
    ahead_ += Vectors * lanes<T>;
  }

 private:
  const T* ahead_;
};

/// Lane i is element i + Distance of a followed by b.
template <class T, int Distance, int... I>
CONVPOOL_INLINE Vec<T> shifted(Vec<T> a, Vec<T> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (I + Distance)...);
}

/// The rows of one plane that a row of results covers.
template <class T>
struct CoveredRows {
  const T* first;  ///< the topmost inside the plane
  ptrdiff_t step;  ///< from one to the next
  ptrdiff_t count;
  ptrdiff_t columns;
  ptrdiff_t top;  ///< the first's number in the plane
};

template <class T>
CONVPOOL_INLINE CoveredRows<T> covered_rows(const T* plane, ptrdiff_t in_row, const WindowAxis& h, ptrdiff_t columns,
                                            ptrdiff_t output) {
  const ptrdiff_t start = output * h.stride - h.pad;
  const ptrdiff_t room = h.in - start;
  ptrdiff_t begin = start >= 0 ? 0 : -start, taps = room <= 0 ? 0 : room;
  if (h.dilation > 1) {  // divisions are slow, and rows short
    const auto steps = [&](ptrdiff_t distance) { return distance == 0 ? 0 : (distance - 1) / h.dilation + 1; };
    begin = steps(begin);
    taps = steps(taps);
  }
  const ptrdiff_t end = taps < h.kernel ? taps : h.kernel;
  if (end <= begin) return {plane, 0, 0, columns, 0};
  const ptrdiff_t top = start + begin * h.dilation, count = end - begin;
  return {plane + top * in_row, count > 1 ? in_row * h.dilation : 0, count, columns, top};
}

/// Whether any of R windows, S rows apart, has a tap in row `row`: KH taps, D apart.
template <int KH, int S, int D, int R>
constexpr bool row_is_used(int row) {
  for (int r = 0; r < R; ++r) {
    const int tap = row - r * S;
    if (tap >= 0 && tap % D == 0 && tap / D < KH) return true;
  }
  return false;
}

/// acc(r) = reduction down the KH rows, D apart, of R windows that are S apart. take(row) is called once for each row
/// that is in any of them.
template <class Op, int KH, int S, int D, int R, class Take, class Acc>
CONVPOOL_INLINE void reduce_rows(Take&& take, Acc&& acc) {
  if constexpr (!Op::divided && KH == 3 && S == 1 && D == 1 && R % 2 == 0) {
    // Two windows share the reduction of their two common rows. A sum would depend on which of the two it is.
    typename Op::Item row[R + 2];
    unroll<R + 2>([&](auto i) { row[i] = take(i); });
    unroll<R / 2>([&](auto i) {
      constexpr int first = 2 * decltype(i)::value;
      const auto common = Op::combine(row[first + 1], row[first + 2]);
      acc(first) = Op::combine(row[first], common);
      acc(first + 1) = Op::combine(common, row[first + 3]);
    });
  } else {
    unroll<(R - 1) * S + (KH - 1) * D + 1>([&](auto i) {
      constexpr int I = decltype(i)::value;
      if constexpr (row_is_used<KH, S, D, R>(I)) {
        const auto item = take(i);
        unroll<R>([&](auto r) {
          constexpr int tap = I - decltype(r)::value * S;
          if constexpr (tap == 0) {
            acc(r) = item;
          } else if constexpr (tap > 0 && tap % D == 0 && tap / D < KH) {
            acc(r) = Op::combine(acc(r), item);
          }
        });
      }
    });
  }
}

/// Whether `count` rows of results from `output` on, below `end`, can be taken at once: their windows lie inside the
/// plane from top to bottom, and so have one divisor.
template <int KH, int D, class T>
CONVPOOL_INLINE bool fit_at_once(const CoveredRows<T>& rows, const WindowAxis& h, ptrdiff_t output, ptrdiff_t end,
                                 ptrdiff_t count) {
  const ptrdiff_t last = output + count - 1;
  return KH > 0 && rows.count == KH && last < end && last * h.stride - h.pad + (KH - 1) * D < h.in;
}

/// Where a group of `count` rows of results, S apart, starts for `output` to be done next: further up, over rows that
/// are done already, where it would leave the plane or pass `end`, and at least half of it is still to be done.
/// `output` where the group fits nowhere from `begin` on.
template <int KH, int S, int D>
CONVPOOL_INLINE ptrdiff_t group_start(const WindowAxis& h, ptrdiff_t output, ptrdiff_t begin, ptrdiff_t end,
                                      ptrdiff_t count) {
  if (end - output >= count && (output + count - 1) * S - h.pad + (KH - 1) * D < h.in) [[likely]]
    return output;
  const ptrdiff_t room = h.in + h.pad - (KH - 1) * D;  // windows that start there or below end outside
  [[maybe_unused]] const ptrdiff_t inside_end = room <= 0 ? 0 : (room - 1) / S + 1;
  const ptrdiff_t start = (inside_end < end ? inside_end : end) - count;
  return start + count - output >= count / 2 && start >= begin && start * S >= h.pad ? start : output;
}

/// R vectors of columns, one for each of R rows of results.
template <class T, int R>
struct Columns {
  Vec<T> row[R];
};

/// The reduction down the columns [x, x + lanes) for R rows of results, S rows of the input apart; columns outside the
/// input, of which there are none where Inside, give the identity. KH rows a window, D apart, or `rows.count` of them
/// where KH is 0.
template <class Op, int KH, int S, int D, int R, bool Inside = false>
CONVPOOL_INLINE Columns<typename Op::Element, R> reduce_columns(const CoveredRows<typename Op::Element>& rows,
                                                                ptrdiff_t in_row, ptrdiff_t x) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  const auto down = [&](auto&& load_row) CONVPOOL_INLINED {
    Columns<T, R> acc;
    if constexpr (KH > 0) {
      reduce_rows<Op, KH, S, D, R>([&](auto i) CONVPOOL_INLINED { return load_row(rows.first + i * in_row); },
                                   [&](int r) CONVPOOL_INLINED -> Vec<T>& { return acc.row[r]; });
    } else {
      static_assert(R == 1);
      acc.row[0] = load_row(rows.first);
      for (ptrdiff_t t = 1; t < rows.count; ++t) {
        acc.row[0] = Op::combine(acc.row[0], load_row(rows.first + t * rows.step));
      }
    }
    return acc;
  };
  if (Inside || (x >= 0 && x + L <= rows.columns)) [[likely]] {
    return down([&](const T* row) { return load(row + x); });
  }
  const ptrdiff_t begin = x >= 0 ? 0 : -x, end = rows.columns - x < L ? rows.columns - x : L;
  if (begin >= end) {
    Columns<T, R> none;
    unroll<R>([&](auto r) { none.row[r] = Op::identity(); });
    return none;
  }
  return down([&](const T* row) { return load_between(row + x, begin, end, Op::identity()); });
}

/// What lies behind some rows of results and those of the input that they read: elements of results that are to be
/// written later, and of the input.
struct Behind {
  ptrdiff_t results, input;
};

/// Whether vectors that lie inside go without checks, which would be half of all instructions where a check is no mask.
template <class T>
inline constexpr bool skips_checks = specialised<T> && !masks_are_cheap;

/// The results of a row that go without checks: whole vectors of columns that lie inside, with one divisor. So does a
/// row's last vector that reads and writes on into the rows behind it, if nothing of that is used, and all of it is
/// written after it, by later groups of R rows, or put back, in the group's next row. Zen 3 takes 12 cycles for a part
/// of a vector.
template <class Op, int KW, int S, int D, int R, bool Centred>
class UncheckedResults {
 public:
  CONVPOOL_INLINE UncheckedResults(const WindowAxis& w, const RowDivisor<Op>& divisor, ptrdiff_t out_row) {
    constexpr ptrdiff_t ahead = !Centred && (S == 1 || KW >= 3) ? S * L : 0;  // what a step loads for the next
    const ptrdiff_t lead = Centred ? 0 : w.pad;                               // of the first load
    begin = (lead + S * L - 1) / (S * L) * L;
    if (Centred && divisor.usual_columns(0, 1) == 0) begin = L;
    const ptrdiff_t loads = (w.in + lead - begin * S - ahead) / (S * L);
    const ptrdiff_t same = divisor.usual_columns(begin, w.out - begin) / L;
    end_ = begin + (loads < same ? loads : same) * L;
    row_end_ = (w.out + L - 1) / L * L;
    read_on_ = row_end_ * S + ahead - lead - w.in;
    written_on_ = row_end_ - w.out;
    runs_on_ = lead == 0 && (w.out - 1) * S + (KW - 1) * D - w.pad < w.in && divisor.usual_columns(0, w.out) == w.out &&
               out_row == w.out;
  }
  CONVPOOL_INLINE ptrdiff_t end(const Behind& behind) const {
    return runs_on_ && written_on_ <= behind.results && read_on_ <= behind.input ? row_end_ : end_;
  }
  ptrdiff_t begin;

 private:
  static constexpr ptrdiff_t L = lanes<typename Op::Element>;
  ptrdiff_t end_, row_end_, read_on_, written_on_;
  bool runs_on_;
};

/// Groups of R rows of results: KW columns a window, D apart, windows S apart. `rows` are the first group's. Centred:
/// windows of three columns, two apart, with one column of padding: the first column of each is the last one of the
/// window before it, so that loads start with the row, and nothing is loaded ahead.
template <class Op, int KH, int KW, int S, int D, int R, bool Centred>
CONVPOOL_INLINE void reduce_window_rows(CoveredRows<typename Op::Element> rows, ptrdiff_t in_row, const WindowAxis& w,
                                        const RowDivisor<Op>& divisor, typename Op::Element* out, ptrdiff_t out_row,
                                        bool far, ptrdiff_t groups, const Behind& behind, WaitingLines& waiting,
                                        bool fetches) {
  using T = typename Op::Element;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t results = w.out;
  ptrdiff_t x = 0;
  // Rows that a group is the first to read, at least, where the height isn't known.
  constexpr int new_rows = KH == 0 ? 1 : S * R;
  FetchAhead<T> next_rows(rows.first, new_rows * in_row, far);
  const auto load_columns = [&](auto inside) CONVPOOL_INLINED {
    next_rows.template fetch<new_rows>();
    const Columns<T, R> columns = reduce_columns<Op, KH, S, D, R, decltype(inside)::value != 0>(rows, in_row, x);
    x += L;
    return columns;
  };
  const auto finish = [&](auto inside, Vec<T> result, int r, ptrdiff_t o) CONVPOOL_INLINED {
    if constexpr (decltype(inside)::value != 0) {
      store(out + r * out_row + o, divisor.apply_usual(result));
    } else {
      store_result<Op>(result, divisor, out + r * out_row, static_cast<T*>(nullptr), nullptr, 0, o, results - o);
    }
  };
  // The columns that the next step loads serve its windows, or those and the windows of the step after it.
  Columns<T, R> next, even, odd;
  const auto load_pair = [&](auto inside) CONVPOOL_INLINED {
    const Columns<T, R> a = load_columns(inside);
    const Columns<T, R> b = load_columns(inside);
    unroll<R>([&](auto r) {
      if constexpr (KW == 2) {
        even.row[r] = every_second_unordered<T, 0>(a.row[r], b.row[r], All{});
        odd.row[r] = every_second_unordered<T, 1>(a.row[r], b.row[r], All{});
      } else {
        even.row[r] = every_second<T, 0>(a.row[r], b.row[r], All{});
        odd.row[r] = every_second<T, 1>(a.row[r], b.row[r], All{});
      }
    });
  };
  const auto step = [&](auto inside, ptrdiff_t o) CONVPOOL_INLINED {
    Columns<T, R> result;
    if constexpr (S == 1) {
      static_assert((KW - 1) * D <= lanes<T>);
      const Columns<T, R> current = next;
      next = load_columns(inside);
      unroll<R>([&](auto r) {
        result.row[r] = current.row[r];
        unroll<KW - 1>([&](auto j) {
          constexpr int distance = (decltype(j)::value + 1) * D;
          result.row[r] = Op::combine(result.row[r], shifted<T, distance>(current.row[r], next.row[r], All{}));
        });
      });
    } else {
      static_assert(S == 2 && D == 1 && KW >= 2 && (KW - 1) / 2 <= lanes<T>);
      if constexpr (Centred) {
        const Columns<T, R> last = odd;
        load_pair(inside);
        unroll<R>([&](auto r) {
          result.row[r] = Op::combine(shifted<T, lanes<T> - 1>(last.row[r], odd.row[r], All{}), even.row[r]);
          result.row[r] = Op::combine(result.row[r], odd.row[r]);
        });
      } else if constexpr (KW == 2) {
        load_pair(inside);
        unroll<R>([&](auto r) { result.row[r] = in_order<T>(Op::combine(even.row[r], odd.row[r]), All{}); });
      } else {
        unroll<R>([&](auto r) { result.row[r] = Op::combine(even.row[r], odd.row[r]); });
        const Columns<T, R> last_even = even, last_odd = odd;
        load_pair(inside);
        unroll<R>([&](auto r) {
          unroll<KW - 2>([&](auto j) {
            constexpr int tap = decltype(j)::value + 2;
            const Vec<T> taps = tap % 2 == 0 ? shifted<T, tap / 2>(last_even.row[r], even.row[r], All{})
                                             : shifted<T, tap / 2>(last_odd.row[r], odd.row[r], All{});
            result.row[r] = Op::combine(result.row[r], taps);
          });
        });
      }
    }
    if (fetches) unroll<R>([&](auto r) { __builtin_prefetch(out + (r + R) * out_row + o); });
    unroll<R>([&](auto r) { finish(inside, result.row[r], r, o); });
    store_waiting_lines<T, R>(waiting);
  };
  [[maybe_unused]] const UncheckedResults<Op, KW, S, D, R, Centred> unchecked(w, divisor, out_row);
  for (; groups > 0; --groups) {
    x = Centred ? 0 : -w.pad;
    next_rows = FetchAhead<T>(rows.first, new_rows * in_row, far);
    if constexpr (S == 1) next = load_columns(Constant<0>{});
    if constexpr (Centred) {
      unroll<R>([&](auto r) { odd.row[r] = Op::identity(); });
    } else if constexpr (S == 2 && KW >= 3) {
      load_pair(Constant<0>{});
    }
    ptrdiff_t o = 0;
    if constexpr (skips_checks<T>) {
      for (; o < unchecked.begin && o < results; o += L) step(Constant<0>{}, o);
      const ptrdiff_t end = unchecked.end(groups > 1 ? Behind{R * out_row, R * S * in_row} : behind);
      // The last of several vectors writes on over the next row's first one, which is done already.
      const ptrdiff_t last_vector = R > 1 && end > results && end > L ? end - L : -1;
      Columns<T, R> overwritten{};
      for (; o < end; o += L) {
        if (R > 1 && o == last_vector) [[unlikely]] {
          unroll<R - 1>([&](auto r) { overwritten.row[r] = load(out + (r + 1) * out_row); });
        }
        step(Constant<1>{}, o);
      }
      if (R > 1 && last_vector >= 0) {
        unroll<R - 1>([&](auto r) { store(out + (r + 1) * out_row, overwritten.row[r]); });
      }
    }
    for (; o < results; o += L) step(Constant<0>{}, o);
    rows.first += R * S * in_row;
    out += R * out_row;
  }
}

template <class T>
CONVPOOL_INLINE void fill_missing_row(T value, const WindowAxis& w, T* out) {
  for (ptrdiff_t x = 0; x < w.out; ++x) out[x] = value;
}

/// S: the stride of the columns and, unless KH is 0, of the rows; D the dilation of both.
template <class Op, int KH, int KW, int S, int D, bool Centred = false>
CONVPOOL_KERNEL void window_rows(const WindowRowsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  // Rows of results that share rows of the input, and what is to be done for each group of them: that alone makes 14x14
  // planes a third faster with windows of 2x2. On wide rows such windows lose a tenth by reading eight rows at once.
  constexpr int most_at_once = CONVPOOL_VECTOR_REGISTERS >= 32 ? 4 : 2;
  constexpr ptrdiff_t narrow = 2 * lanes<T>;
  RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[a.row_begin] : T(1));
  WaitingLines waiting = waiting_lines(a.waiting);
  const auto reduce_plane = [&](const T* plane, T* plane_out, const Behind& planes_behind,
                                auto at_once) CONVPOOL_INLINED {
    constexpr int R = decltype(at_once)::value;
    for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
      if constexpr (KH > 0 && R > 1) o = group_start<KH, S, D>(a.h, o, a.row_begin, a.row_end, R);
      T* const out = plane_out + o * a.out_row;
      const CoveredRows<T> rows = covered_rows(plane, a.in_row, a.h, a.w.in, o);
      if (Op::divided && a.row_count[o] != divisor.a.row_count) divisor = RowDivisor<Op>(a.divisor, a.row_count[o]);
      if (rows.count == 0) {
        fill_missing_row(Op::divided ? T(0) : lowest<T>, a.w, out);
        ++o;
        continue;
      }
      if constexpr (KH > 0) {
        if (fit_at_once<KH, D>(rows, a.h, o, a.row_end, R)) [[likely]] {
          const ptrdiff_t inside = (a.h.in + a.h.pad - (KH - 1) * D - 1) / S + 1;
          const ptrdiff_t groups = ((inside < a.row_end ? inside : a.row_end) - o) / R;
          const ptrdiff_t end = o + groups * R, bottom = (end - 1) * S - a.h.pad + (KH - 1) * D;
          const Behind behind{(a.row_end - end) * a.out_row + planes_behind.results,
                              (a.h.in - 1 - bottom) * a.in_row + planes_behind.input};
          reduce_window_rows<Op, KH, KW, S, D, R, Centred>(rows, a.in_row, a.w, divisor, out, a.out_row, a.past_caches,
                                                           groups, behind, waiting, a.fetches_results);
          o = end;
          continue;
        }
      }
      reduce_window_rows<Op, 0, KW, S, D, 1, Centred>(rows, a.in_row, a.w, divisor, out, a.out_row, a.past_caches, 1,
                                                      {}, waiting, a.fetches_results);
      ++o;
    }
  };
  const ptrdiff_t plane_results = (a.row_end - a.row_begin) * a.out_row;
  const bool without_gaps = a.out_plane == plane_results && a.in_plane >= a.h.in * a.in_row;
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const plane = a.in + p * a.in_plane;
    T* const out = a.out + p * a.out_plane;
    const Behind behind = p + 1 < a.planes && without_gaps ? Behind{plane_results, a.h.in * a.in_row} : Behind{};
    if constexpr (KH > 0 && KH <= S) {
      if (a.w.out > narrow) {
        reduce_plane(plane, out, behind, Constant<1>{});
        continue;
      }
    }
    reduce_plane(plane, out, behind, Constant<most_at_once>{});
  }
  put_back(waiting, a.waiting);
}

/// As window_rows, for windows of one row that halve rows without gaps, with one divisor: the rows of a plane are one.
template <class Op>
void joined_halving_rows(const WindowRowsArguments<typename Op::Element>& a) {
  WindowRowsArguments<typename Op::Element> joined = a;
  const ptrdiff_t rows = a.row_end - a.row_begin;
  joined.in += a.row_begin * a.in_row;
  joined.out += a.row_begin * a.out_row;
  joined.w.in = joined.in_row = rows * a.w.in;
  joined.w.out = joined.out_row = rows * a.w.out;
  joined.h.in = joined.h.out = joined.row_end = 1;
  joined.row_begin = 0;
  joined.divisor.uniform_end = joined.w.out;
  window_rows<Op, 0, 2, 2, 1>(joined);
}

/// For these heights there are steps that don't grow with the window.
constexpr bool is_tall(const WindowAxis& h) {
  constexpr ptrdiff_t tallest = 12;
  return h.kernel > tallest && (h.kernel - 1) / 4 >= h.stride;
}

constexpr bool is_window(const WindowAxis& axis, ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t dilation) {
  return axis.kernel == kernel && axis.stride == stride && axis.dilation == dilation;
}

/// A height that is known takes several rows of results at once. Integers do without, and vectors of two elements:
/// their code would be more than half of all.
template <class Op>
constexpr int known_height(int height) {
  using T = typename Op::Element;
  return is_floating<T> && lanes<T> >= 4 ? height : 0;
}

/// The kernel for windows of KW columns, S and D apart, and for those as high as wide the one that knows it.
template <class Op, int KW, int S, int D>
WindowRowsKernel<typename Op::Element> window_rows_for(const WindowAxis& h) {
  return is_window(h, KW, S, D) ? window_rows<Op, known_height<Op>(KW), KW, S, D> : window_rows<Op, 0, KW, S, D>;
}

/// Whether windows of five columns, two apart, are taken row by row, and not line by line. Measured on Zen 5: 1.2
/// to 2.2 times as fast with AVX-512; with AVX2 .6 to 2.5 times, with SSE2 .4 to 1.2.
template <class T>
inline constexpr bool takes_five_columns = is_floating<T> && masks_are_cheap;

template <class Op>
WindowRowsKernel<typename Op::Element> choose_joined_rows(const WindowAxis& h, const WindowAxis& w) {
  const bool halves = is_window(w, 2, 2, 1) && w.pad == 0 && w.in == 2 * w.out;
  return halves && is_window(h, 1, 1, 1) && h.pad == 0 && h.in == h.out ? joined_halving_rows<Op> : nullptr;
}

template <class Op>
WindowRowsKernel<typename Op::Element> choose_window_rows(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  if (is_tall(h)) return nullptr;
  if (is_window(w, 2, 1, 1)) return window_rows_for<Op, 2, 1, 1>(h);
  if (is_window(w, 3, 1, 1)) return window_rows_for<Op, 3, 1, 1>(h);
  if (is_window(w, 2, 2, 1)) return window_rows_for<Op, 2, 2, 1>(h);
  if constexpr (skips_checks<T>) {
    if (is_window(w, 3, 2, 1) && is_window(h, 3, 2, 1) && w.pad == 1) return window_rows<Op, 3, 3, 2, 1, true>;
  }
  if (is_window(w, 3, 2, 1)) return window_rows_for<Op, 3, 2, 1>(h);
  if constexpr (takes_five_columns<T>) {
    if (is_window(w, 5, 2, 1)) return window_rows<Op, 0, 5, 2, 1>;
  }
  if constexpr (lanes<T> >= 4) {
    if (is_window(w, 3, 1, 2)) return window_rows_for<Op, 3, 1, 2>(h);
    if (is_window(w, 5, 1, 1)) return window_rows_for<Op, 5, 1, 1>(h);
  }
  if (w.kernel == 1 && w.stride == 1) return window_rows<Op, 0, 1, 1, 1>;
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
