#pragma once

// Maxima of small windows with their positions, in registers from the input to the result. A window's columns come
// first and then its rows, so that everything is compared in the order of the plane; rows of results share the rows of
// the input that they both cover.

#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// The position of what lies outside the plane: stays negative when a position is added.
template <class Index>
inline constexpr Index no_position = static_cast<Index>(std::uint64_t{1} << (8 * sizeof(Index) - 1)) / 2;

/// R rows of results: load_tap(row, j) is the item of a row's column j, its position counted from the window's first
/// column; rows are counted from `rows.first`, `row_positions` apart.
template <class T, int KH, int KW, int S, int D, int R, class LoadTap>
CONVPOOL_INLINE void reduce_positions(const CoveredRows<T>& rows, ptrdiff_t in_row, const WindowAxis& h,
                                      ptrdiff_t row_positions, typename MaxAtOf<T>::Item (&acc)[R],
                                      LoadTap&& load_tap) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  const auto along = [&](ptrdiff_t row) CONVPOOL_INLINED {
    const T* const in = rows.first + row * in_row;
    Item item = load_tap(in, Constant<0>{});
    unroll<KW - 1>([&](auto j) { item = Op::combine(item, load_tap(in, Constant<decltype(j)::value + 1>{})); });
    item.at += static_cast<Index>(row * row_positions);
    return item;
  };
  if constexpr (KH > 0) {
    share_rows<KH, S, D, R>(along, [&](const Item& item, auto r, auto first) {
      if constexpr (decltype(first)::value) {
        acc[r] = item;
      } else {
        acc[r] = Op::combine(acc[r], item);
      }
    });
  } else {
    static_assert(R == 1);
    acc[0] = along(0);
    for (ptrdiff_t t = 1; t < rows.count; ++t) acc[0] = Op::combine(acc[0], along(t * h.dilation));
  }
}

template <class T>
CONVPOOL_INLINE void fill_missing_positions(ptrdiff_t count, T* out, std::int64_t* at) {
  for (ptrdiff_t x = 0; x < count; ++x) {
    out[x] = lowest<T>();
    at[x] = -1;
  }
}

/// The first column of a window inside the plane, or -1.
CONVPOOL_INLINE ptrdiff_t first_column(const WindowAxis& w, ptrdiff_t output) {
  ptrdiff_t x = output * w.stride - w.pad;
  for (ptrdiff_t j = 0; j < w.kernel; ++j, x += w.dilation) {
    if (x >= 0) return x < w.in ? x : -1;
  }
  return -1;
}

/// R rows of results along the rows of a plane.
template <class T, int KH, int KW, int S, int D, int R>
CONVPOOL_INLINE void reduce_row_positions(const CoveredRows<T>& rows, const WindowRowsArguments<T>& a, T* out,
                                          std::int64_t* out_at) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  Vec<Index> lane;
  for (int i = 0; i < L; ++i) lane[i] = static_cast<Index>(i * S);
  for (ptrdiff_t o = 0; o < a.w.out; o += L) {
    const ptrdiff_t x = o * S - a.w.pad, left = a.w.out - o;
    Item acc[R];
    const bool inside = x >= 0 && x + (KW - 1) * D + S * L <= a.w.in;
    if (inside) [[likely]] {
      reduce_positions<T, KH, KW, S, D, R>(rows, a.in_row, a.h, a.w.in, acc, [&](const T* row, auto j) -> Item {
        constexpr int J = decltype(j)::value * D;
        const auto at = broadcast(Index(J));
        if constexpr (S == 1) {
          return {load(row + x + J), at};
        } else {
          return {every_second<T, 0>(load(row + x + J), load(row + x + J + L), All{}), at};
        }
      });
    } else {
      // What lies inside is the same for every row.
      Vec<Index> at[KW];
      ptrdiff_t begin[KW][S], end[KW][S];
      unroll<KW>([&](auto j) {
        constexpr int J = decltype(j)::value * D;
        const Vec<Index> column = lane + static_cast<Index>(x + J);
        at[j] = ((column >= Index(0)) & (column < static_cast<Index>(a.w.in))) ? broadcast(Index(J))
                                                                               : broadcast(no_position<Index>);
        unroll<S>([&](auto s) {
          const ptrdiff_t from = x + J + s * L;
          begin[j][s] = from >= 0 ? 0 : -from < L ? -from : L;
          end[j][s] = a.w.in - from < 0 ? 0 : a.w.in - from < L ? a.w.in - from : L;
        });
      });
      reduce_positions<T, KH, KW, S, D, R>(rows, a.in_row, a.h, a.w.in, acc, [&](const T* row, auto j) -> Item {
        constexpr int J = decltype(j)::value * D;
        const auto load_inside = [&](auto s) {
          return load_between(row + x + J + s * L, begin[j][s], end[j][s], broadcast(lowest<T>()));
        };
        if constexpr (S == 1) {
          return {load_inside(Constant<0>{}), at[j]};
        } else {
          return {every_second<T, 0>(load_inside(Constant<0>{}), load_inside(Constant<1>{}), All{}), at[j]};
        }
      });
    }
    const Index base = static_cast<Index>(rows.top * a.w.in + x);
    unroll<R>([&](auto r) {
      acc[r].at += lane;
      std::int64_t* const at = out_at + r * a.out_row;
      store_result<Op>(acc[r], RowDivisor<Op>({}, T(1)), out + r * a.out_row, static_cast<Index*>(nullptr), at, base, o,
                       left);
      if (inside) return;
      for (ptrdiff_t i = 0; i < L && i < left; ++i) {
        // Below zero: nothing in the window was larger than the padding.
        if (at[o + i] >= 0) continue;
        const ptrdiff_t column = first_column(a.w, o + i);
        at[o + i] = column < 0 ? -1 : (rows.top + r * S) * a.w.in + column;
      }
    });
  }
}

/// As window_rows; positions go where the results go, `out_at` for the first plane.
template <class T, int KH, int KW, int S, int D>
CONVPOOL_KERNEL void window_row_positions(const WindowRowsArguments<T>& a) {
  constexpr int at_once = CONVPOOL_VECTOR_REGISTERS >= 32 && KH > S ? 4 : 2;
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const plane = a.in + p * a.in_plane;
    for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
      T* const out = a.out + p * a.out_plane + o * a.out_row;
      std::int64_t* const out_at = a.out_at + p * a.out_plane + o * a.out_row;
      const CoveredRows<T> rows = covered_rows(plane, a.in_row, a.h, a.w.in, o);
      if (rows.count == 0) {
        fill_missing_positions(a.w.out, out, out_at);
        ++o;
        continue;
      }
      if (fit_at_once<KH, D>(rows, a.h, o, a.row_end, at_once)) {
        if constexpr (KH > 0) reduce_row_positions<T, KH, KW, S, D, at_once>(rows, a, out, out_at);
        o += at_once;
      } else {
        reduce_row_positions<T, 0, KW, S, D, 1>(rows, a, out, out_at);
        ++o;
      }
    }
  }
}

/// R rows of one column of results, all channels.
template <class T, int KH, int KW, int S, int D, int R>
CONVPOOL_INLINE void reduce_pixel_positions(const CoveredRows<T>& rows, const WindowPixelsArguments<T>& a,
                                            ptrdiff_t output, T* out, std::int64_t* out_at) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t x = output * S - a.w.pad;
  const Index base = static_cast<Index>(rows.top * a.w.in + x);
  const bool inside = x >= 0 && x + (KW - 1) * D < a.w.in;
  const ptrdiff_t column = inside ? x : first_column(a.w, output);
  for (ptrdiff_t c = 0; c < a.channels; c += L) {
    const ptrdiff_t from = c + L <= a.channels ? c : a.channels - L;  // the last ones overlap what is done already
    Item acc[R];
    if (column < 0) {
      unroll<R>([&](auto r) { fill_missing_positions(L, out + r * a.out_row + from, out_at + r * a.out_row + from); });
      continue;
    }
    reduce_positions<T, KH, KW, S, D, R>(rows, a.in_row, a.h, a.w.in, acc, [&](const T* row, auto j) -> Item {
      constexpr int J = decltype(j)::value * D;
      // A column outside counts as the least value at the window's first position: where nothing is larger, that is
      // the answer.
      const bool shown = inside || (x + J >= 0 && x + J < a.w.in);
      const ptrdiff_t at = shown ? x + J : column;
      return {shown ? load(row + at * a.in_pixel + from) : broadcast(lowest<T>()),
              broadcast(static_cast<Index>(at - x))};
    });
    unroll<R>([&](auto r) {
      store_result<Op>(acc[r], RowDivisor<Op>({}, T(1)), out + r * a.out_row, static_cast<Index*>(nullptr),
                       out_at + r * a.out_row, base, from, L);
    });
  }
}

template <class T, int KH, int KW, int S, int D>
CONVPOOL_KERNEL void window_pixel_positions(const WindowPixelsArguments<T>& a) {
  constexpr int at_once = CONVPOOL_VECTOR_REGISTERS >= 32 && KH > S ? 4 : 2;
  for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
    T* const out = a.out + o * a.out_row;
    std::int64_t* const out_at = a.out_at + o * a.out_row;
    const CoveredRows<T> rows = covered_rows(a.in, a.in_row, a.h, a.w.in, o);
    const bool several = fit_at_once<KH, D>(rows, a.h, o, a.row_end, at_once);
    for (ptrdiff_t x = 0; x < a.w.out; ++x) {
      T* const pixel = out + x * a.out_pixel;
      std::int64_t* const pixel_at = out_at + x * a.out_pixel;
      if (rows.count == 0) {
        fill_missing_positions(a.channels, pixel, pixel_at);
      } else if (several) {
        if constexpr (KH > 0) reduce_pixel_positions<T, KH, KW, S, D, at_once>(rows, a, x, pixel, pixel_at);
      } else {
        reduce_pixel_positions<T, 0, KW, S, D, 1>(rows, a, x, pixel, pixel_at);
      }
    }
    o += several ? at_once : 1;
  }
}

/// The kernel for a window, of Kernels<KH, KW, S, D>::kernel; null where it has none of its own.
template <template <int, int, int, int> class Kernels>
auto choose_positions(const WindowAxis& h, const WindowAxis& w) -> decltype(&Kernels<2, 2, 2, 1>::run) {
  const auto are = [&](ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t dilation) {
    const auto is = [&](const WindowAxis& axis) {
      return axis.kernel == kernel && axis.stride == stride && axis.dilation == dilation;
    };
    return is(h) && is(w);
  };
  if (are(2, 2, 1)) return &Kernels<2, 2, 2, 1>::run;
  if (are(3, 2, 1)) return &Kernels<3, 3, 2, 1>::run;
  if (are(2, 1, 1)) return &Kernels<2, 2, 1, 1>::run;
  if (are(3, 1, 1)) return &Kernels<3, 3, 1, 1>::run;
  return nullptr;
}

template <class T>
struct PositionKernels {
  template <int KH, int KW, int S, int D>
  struct Rows {
    static void run(const WindowRowsArguments<T>& a) { window_row_positions<T, KH, KW, S, D>(a); }
  };
  template <int KH, int KW, int S, int D>
  struct Pixels {
    static void run(const WindowPixelsArguments<T>& a) { window_pixel_positions<T, KH, KW, S, D>(a); }
  };
  static WindowRowsKernel<T> choose_rows(const WindowAxis& h, const WindowAxis& w) {
    return choose_positions<Rows>(h, w);
  }
  static WindowPixelsKernel<T> choose_pixels(const WindowAxis& h, const WindowAxis& w) {
    return choose_positions<Pixels>(h, w);
  }
};

}  // namespace
}  // namespace convpool::kernels
