#pragma once

// Small windows with the channels in the vectors: the columns of a window are reduced once and stay in registers as
// the window moves along the row.

#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// A row of results for U vectors of channels.
template <class Op, int KH, int KW, int SW, int U>
CONVPOOL_INLINE void reduce_pixel_row(const CoveredRows<typename Op::Element>& rows, const WindowAxis& w,
                                      ptrdiff_t in_pixel, const RowDivisor<Op>& divisor, typename Op::Element* out,
                                      ptrdiff_t out_pixel) {
  static_assert(KW >= SW);
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  Vec<T> column[KW][U];
  const auto reduce_column = [&](ptrdiff_t x, Vec<T>(&acc)[U]) {
    if (x < 0 || x >= rows.columns) [[unlikely]] {
      unroll<U>([&](auto u) { acc[u] = Op::identity(); });
      return;
    }
    const T* const in = rows.first + x * in_pixel;
    unroll<U>([&](auto u) { acc[u] = load(in + u * L); });
    const auto add_row = [&](ptrdiff_t t) {
      unroll<U>([&](auto u) { acc[u] = Op::combine(acc[u], load(in + t * rows.step + u * L)); });
    };
    if constexpr (KH > 0) {
      unroll<KH - 1>([&](auto t) { add_row(t + 1); });
    } else {
      for (ptrdiff_t t = 1; t < rows.count; ++t) add_row(t);
    }
  };
  unroll<KW - SW>([&](auto j) { reduce_column(j - w.pad, column[j]); });
  for (ptrdiff_t o = 0; o < w.out; ++o) {
    const ptrdiff_t x = o * SW - w.pad;
    unroll<SW>([&](auto j) { reduce_column(x + (KW - SW) + j, column[(KW - SW) + j]); });
    unroll<U>([&](auto u) {
      Vec<T> result = column[0][u];
      unroll<KW - 1>([&](auto j) { result = Op::combine(result, column[j + 1][u]); });
      store(out + o * out_pixel + u * L, divisor.apply_to_pixel(result, o));
    });
    unroll<KW - SW>([&](auto j) { unroll<U>([&](auto u) { column[j][u] = column[j + SW][u]; }); });
  }
}

template <class Op, int KH, int KW, int SW>
CONVPOOL_KERNEL void window_pixels(const WindowPixelsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int U = CONVPOOL_VECTOR_REGISTERS >= 32 ? 4 : 2;
  for (ptrdiff_t o = a.row_begin; o < a.row_end; ++o) {
    T* const out = a.out + o * a.out_row;
    const CoveredRows<T> rows = covered_rows(a.in, a.in_row, a.h, a.w.in, o);
    if (rows.count == 0) {
      for (ptrdiff_t x = 0; x < a.w.out; ++x) {
        for (ptrdiff_t c = 0; c < a.channels; ++c) out[x * a.out_pixel + c] = Op::divided ? T(0) : lowest<T>();
      }
      continue;
    }
    const RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[o] : T(1));
    const auto channels = [&](ptrdiff_t c, auto vectors, auto usual_rows) {
      const CoveredRows<T> from{rows.first + c, rows.step, rows.count, rows.columns, rows.top};
      reduce_pixel_row<Op, decltype(usual_rows)::value, KW, SW, decltype(vectors)::value>(
          from, a.w, a.in_pixel, divisor, out + c, a.out_pixel);
    };
    const auto row = [&](auto usual_rows) {
      ptrdiff_t c = 0;
      for (; c + U * L <= a.channels; c += U * L) channels(c, Constant<U>{}, usual_rows);
      for (; c + L <= a.channels; c += L) channels(c, Constant<1>{}, usual_rows);
      if (c < a.channels) channels(a.channels - L, Constant<1>{}, usual_rows);  // overlaps what is done already
    };
    if (KH > 0 && rows.count == KH) [[likely]] {
      row(Constant<KH>{});
    } else {
      row(Constant<0>{});
    }
  }
}

template <class Op>
WindowPixelsKernel<typename Op::Element> choose_window_pixels(const WindowAxis& h, const WindowAxis& w) {
  constexpr ptrdiff_t tallest = 12;
  if (h.kernel > tallest && h.kernel > 4 * h.stride) return nullptr;
  const auto is = [&](ptrdiff_t kernel, ptrdiff_t stride) {
    return w.kernel == kernel && w.stride == stride && w.dilation == 1;
  };
  constexpr auto known = [](int height) { return is_floating<typename Op::Element> ? height : 0; };
  if (is(2, 1)) return h.kernel == 2 ? window_pixels<Op, known(2), 2, 1> : window_pixels<Op, 0, 2, 1>;
  if (is(3, 1)) return h.kernel == 3 ? window_pixels<Op, known(3), 3, 1> : window_pixels<Op, 0, 3, 1>;
  if (is(2, 2)) return h.kernel == 2 ? window_pixels<Op, known(2), 2, 2> : window_pixels<Op, 0, 2, 2>;
  if (is(3, 2)) return h.kernel == 3 ? window_pixels<Op, known(3), 3, 2> : window_pixels<Op, 0, 3, 2>;
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
