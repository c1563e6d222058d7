#pragma once

// Maxima of small windows with their positions, in registers from the input to the result. A window's columns come
// first and then its rows, so that everything is compared in the order of the plane; rows of results share the rows of
// the input that they both cover. Without dilation every window has a row and a column inside the plane, since padding
// is narrower than a window.

#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// R rows of results: load_taps(row, items) gives the items of a row's KW columns, their positions counted from the
/// window's first column; rows are counted from `rows.first`, `row_positions` apart.
template <class T, int KH, int KW, int S, int R, class LoadTaps>
CONVPOOL_INLINE void reduce_positions(const CoveredRows<T>& rows, ptrdiff_t in_row, ptrdiff_t row_positions,
                                      typename MaxAtOf<T>::Item (&acc)[R], LoadTaps&& load_taps) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  const auto along = [&](ptrdiff_t row) CONVPOOL_INLINED {
    Item taps[KW];
    load_taps(rows.first + row * in_row, taps);
    Item item = taps[0];
    unroll<KW - 1>([&](auto j) { item = Op::combine(item, taps[j + 1]); });
    item.at += static_cast<Index>(row * row_positions);
    return item;
  };
  if constexpr (KH > 0) {
    reduce_rows<Op, KH, S, 1, R>(along, [&](int r) CONVPOOL_INLINED -> Item& { return acc[r]; });
  } else {
    static_assert(R == 1);
    acc[0] = along(0);
    for (ptrdiff_t t = 1; t < rows.count; ++t) acc[0] = Op::combine(acc[0], along(t));
  }
}

/// The lanes [begin, end) of vectors that are loaded from several rows.
template <class T>
class PartOfVector {
 public:
  PartOfVector() = default;
  CONVPOOL_INLINE PartOfVector(ptrdiff_t begin, ptrdiff_t end)
#if defined(CONVPOOL_ISA_AVX512)
      : lanes_(bits_between<T>(begin, end)) {
  }
  CONVPOOL_INLINE Vec<T> load_or(const T* p, Vec<T> other) const { return lanes_.load_or(p, other); }

 private:
  // Made once for all rows: 3x3 with stride 2 on 112x112 150 us to 104, with whole vectors at the ends.
  LaneSet<T> lanes_;
#else
      : begin_(begin), end_(end) {
  }
  CONVPOOL_INLINE Vec<T> load_or(const T* p, Vec<T> other) const { return load_between(p, begin_, end_, other); }

 private:
  ptrdiff_t begin_, end_;
#endif
};

/// R rows of results along the rows of a plane.
template <class T, int KH, int KW, int S, int R>
CONVPOOL_INLINE void reduce_row_positions(const CoveredRows<T>& rows, const WindowRowsArguments<T>& a, T* out,
                                          std::int64_t* out_at, WaitingLines& waiting, WaitingLines& waiting_at) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int wide_vectors = lanes<T> / lanes<std::int64_t>;
  const bool fetches = a.fetches_results;
  Vec<Index> lane;
  for (int i = 0; i < L; ++i) lane[i] = static_cast<Index>(i * S);
  // The columns that are loaded whole, from a vector's first window on.
  constexpr ptrdiff_t reach = S == 1 ? KW - 1 + L : 2 * (KW - 2) + 2 * L;
  // The taps' values from vectors of neighbouring columns: load_columns(c) loads those from the window's column c on.
  const auto take_apart = [&](auto&& load_columns, auto&& put) CONVPOOL_INLINED {
    if constexpr (S == 1) {
      unroll<KW>([&](auto j) { put(j, load_columns(j)); });
    } else {
      const Vec<T> low = load_columns(Constant<0>{}), high = load_columns(Constant<L>{});
      put(Constant<0>{}, every_second<T, 0>(low, high, All{}));
      put(Constant<1>{}, every_second<T, 1>(low, high, All{}));
      if constexpr (KW == 3) {
        put(Constant<2>{}, every_second<T, 0>(load_columns(Constant<2>{}), load_columns(Constant<L + 2>{}), All{}));
      }
    }
  };
  // Copies: for all that is known of vectors they may be stores to the arguments.
  const ptrdiff_t in_row = a.in_row, out_row = a.out_row, columns = a.w.in, results = a.w.out, pad = a.w.pad;
  FetchAhead<T> next_rows(rows.first, S * R * in_row, a.past_caches);
  for (ptrdiff_t o = 0; o < results; o += L) {
    // The last results overlap what is done already rather than fill a part of a vector.
    if (results - o < L && results > L) o = results - L;
    const ptrdiff_t x = o * S - pad, left = results - o;
    next_rows.template fetch<S * S * R>();
    if (fetches) {
      unroll<R>([&](auto r) {
        __builtin_prefetch(out + (r + R) * out_row + o);
        unroll<wide_vectors>(
            [&](auto v) { __builtin_prefetch(out_at + (r + R) * out_row + o + v * lanes<std::int64_t>); });
      });
    }
    Item acc[R];
    if (x >= 0 && x + reach <= columns) [[likely]] {
      reduce_positions<T, KH, KW, S, R>(
          rows, in_row, columns, acc, [&](const T* row, Item(&taps)[KW]) CONVPOOL_INLINED {
            take_apart([&](auto c) { return load(row + x + c); },
                       [&](auto j, Vec<T> values) { taps[j] = {values, broadcast(Index(decltype(j)::value))}; });
          });
    } else {
      // A column outside counts as the least value at the window's first position inside: where nothing is larger, that
      // is the answer. What lies inside is the same for every row.
      const Vec<Index> first = lane + static_cast<Index>(x);
      const Vec<Index> first_inside = first < Index(0) ? -first : Vec<Index>{};
      Vec<Index> at[KW];
      unroll<KW>([&](auto j) {
        const Vec<Index> column = first + Index(decltype(j)::value);
        at[j] = ((column >= Index(0)) & (column < static_cast<Index>(columns))) ? broadcast(Index(decltype(j)::value))
                                                                                : first_inside;
      });
      const auto part_from = [&](ptrdiff_t c) CONVPOOL_INLINED {
        const ptrdiff_t from = x + c;
        return PartOfVector<T>(from >= 0   ? 0
                               : -from < L ? -from
                                           : L,
                               columns - from < 0   ? 0
                               : columns - from < L ? columns - from
                                                    : L);
      };
      // From the window's first columns on, and with stride 2 from a vector further.
      PartOfVector<T> near[KW], far[KW];
      unroll<KW>([&](auto c) {
        near[c] = part_from(c);
        if constexpr (S == 2) far[c] = part_from(L + c);
      });
      reduce_positions<T, KH, KW, S, R>(
          rows, in_row, columns, acc, [&](const T* row, Item(&taps)[KW]) CONVPOOL_INLINED {
            take_apart(
                [&](auto c) {
                  constexpr ptrdiff_t column = decltype(c)::value;
                  const auto& part = column < KW ? near[column < KW ? column : 0] : far[column < KW ? 0 : column - L];
                  return part.load_or(row + x + column, broadcast(lowest<T>));
                },
                [&](auto j, Vec<T> values) { taps[j] = {values, at[j]}; });
          });
    }
    const Index base = static_cast<Index>(rows.top * columns + x);
    unroll<R>([&](auto r) {
      acc[r].at += lane;
      store_result<Op>(acc[r], RowDivisor<Op>({}, T(1)), out + r * out_row, static_cast<Index*>(nullptr),
                       out_at + r * out_row, base, o, left);
    });
    store_waiting_lines<T, R>(waiting);
    store_waiting_lines<std::int64_t, R * wide_vectors>(waiting_at);
  }
}

/// As window_rows; positions go where the results go, `out_at` for the first plane.
template <class T, int K, int S>
CONVPOOL_KERNEL void window_row_positions(const WindowRowsArguments<T>& a) {
  constexpr int at_once = CONVPOOL_VECTOR_REGISTERS >= 32 && K > S ? 4 : 2;
  WaitingLines waiting = waiting_lines(a.waiting), waiting_at = waiting_lines(a.waiting_at);
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const plane = a.in + p * a.in_plane;
    for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
      o = group_start<K, S, 1>(a.h, o, a.row_begin, a.row_end, at_once);
      T* const out = a.out + p * a.out_plane + o * a.out_row;
      std::int64_t* const out_at = a.out_at + p * a.out_plane + o * a.out_row;
      const CoveredRows<T> rows = covered_rows(plane, a.in_row, a.h, a.w.in, o);
      if (fit_at_once<K, 1>(rows, a.h, o, a.row_end, at_once)) {
        reduce_row_positions<T, K, K, S, at_once>(rows, a, out, out_at, waiting, waiting_at);
        o += at_once;
      } else {
        reduce_row_positions<T, 0, K, S, 1>(rows, a, out, out_at, waiting, waiting_at);
        ++o;
      }
    }
  }
  put_back(waiting, a.waiting);
  put_back(waiting_at, a.waiting_at);
}

/// R rows of one column of results, all channels.
template <class T, int KH, int KW, int S, int R>
CONVPOOL_INLINE void reduce_pixel_positions(const CoveredRows<T>& rows, const WindowPixelsArguments<T>& a,
                                            ptrdiff_t output, T* out, std::int64_t* out_at, bool stream) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t x = output * S - a.w.pad;
  const Index base = static_cast<Index>(rows.top * a.w.in + x);
  const bool inside = x >= 0 && x + KW <= a.w.in;
  const ptrdiff_t first = x < 0 ? 0 : x;
  for (ptrdiff_t c = 0; c < a.channels; c += L) {
    const ptrdiff_t from = c + L <= a.channels ? c : a.channels - L;  // the last ones overlap what is done already
    Item acc[R];
    reduce_positions<T, KH, KW, S, R>(rows, a.in_row, a.w.in, acc, [&](const T* row, Item(&taps)[KW]) CONVPOOL_INLINED {
      unroll<KW>([&](auto j) {
        // A column outside counts as the least value at the window's first position inside: where nothing is larger,
        // that is the answer.
        const bool shown = inside || (x + j >= 0 && x + j < a.w.in);
        const ptrdiff_t at = shown ? x + j : first;
        taps[j] = {shown ? load(row + at * a.in_pixel + from) : broadcast(lowest<T>),
                   broadcast(static_cast<Index>(at - x))};
      });
    });
    unroll<R>([&](auto r) {
      store_result<Op>(acc[r], RowDivisor<Op>({}, T(1)), out + r * a.out_row, static_cast<Index*>(nullptr),
                       out_at + r * a.out_row, base, from, L, stream);
    });
  }
}

/// Whether a vector of values and the vectors of its positions are whole lines.
template <class T>
inline constexpr bool positions_are_streamed = sizeof(Vec<T>) == cache_line;

template <class T, int K, int S>
CONVPOOL_KERNEL void window_pixel_positions(const WindowPixelsArguments<T>& a) {
  constexpr int at_once = CONVPOOL_VECTOR_REGISTERS >= 32 && K > S ? 4 : 2;
  const bool stream = a.past_caches && positions_are_streamed<T> && pixels_are_lines(a, lanes<T>) &&
                      starts_line<MaxAtOf<T>>(a.out, a.out_at);
  for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
    o = group_start<K, S, 1>(a.h, o, a.row_begin, a.row_end, at_once);
    T* const out = a.out + o * a.out_row;
    std::int64_t* const out_at = a.out_at + o * a.out_row;
    const CoveredRows<T> rows = covered_rows(a.in, a.in_row, a.h, a.w.in, o);
    const bool several = fit_at_once<K, 1>(rows, a.h, o, a.row_end, at_once);
    for (ptrdiff_t x = 0; x < a.w.out; ++x) {
      T* const pixel = out + x * a.out_pixel;
      std::int64_t* const pixel_at = out_at + x * a.out_pixel;
      if (several) {
        reduce_pixel_positions<T, K, K, S, at_once>(rows, a, x, pixel, pixel_at, stream);
      } else {
        reduce_pixel_positions<T, 0, K, S, 1>(rows, a, x, pixel, pixel_at, stream);
      }
    }
    o += several ? at_once : 1;
  }
  if (stream) streaming_fence();
}

/// pick(its size, its stride) for a square window that has a kernel of its own; null for others.
template <class Kernel, class Pick>
Kernel choose_positions(const WindowAxis& h, const WindowAxis& w, Pick&& pick) {
  const auto are = [&](ptrdiff_t kernel, ptrdiff_t stride) {
    return is_window(h, kernel, stride, 1) && is_window(w, kernel, stride, 1);
  };
  if (are(2, 2)) return pick(Constant<2>{}, Constant<2>{});
  if (are(3, 2)) return pick(Constant<3>{}, Constant<2>{});
  if (are(2, 1)) return pick(Constant<2>{}, Constant<1>{});
  if (are(3, 1)) return pick(Constant<3>{}, Constant<1>{});
  return nullptr;
}

template <class T>
WindowRowsKernel<T> choose_window_row_positions(const WindowAxis& h, const WindowAxis& w) {
  return choose_positions<WindowRowsKernel<T>>(h, w, [](auto kernel, auto stride) -> WindowRowsKernel<T> {
    return window_row_positions<T, decltype(kernel)::value, decltype(stride)::value>;
  });
}
template <class T>
WindowPixelsKernel<T> choose_window_pixel_positions(const WindowAxis& h, const WindowAxis& w) {
  return choose_positions<WindowPixelsKernel<T>>(h, w, [](auto kernel, auto stride) -> WindowPixelsKernel<T> {
    return window_pixel_positions<T, decltype(kernel)::value, decltype(stride)::value>;
  });
}

}  // namespace
}  // namespace convpool::kernels
