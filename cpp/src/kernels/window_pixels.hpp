#pragma once

// Small windows with the channels in the vectors: the columns of a window are reduced once and stay in registers as
// the window moves along the row.

#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

/// How far ahead in each row memory is fetched.
inline constexpr ptrdiff_t pixel_prefetch_bytes = 2048;

/// Vectors of channels that are taken together.
inline constexpr int vectors_of_pixel = 4;

/// Where a pixel has a multiple of so many channels, every vector is a part of a line that is stored whole.
template <class T>
inline constexpr ptrdiff_t streamed_channels = sizeof(Vec<T>) == cache_line ? lanes<T> : vectors_of_pixel * lanes<T>;

/// The results of columns [begin, end) in R rows, for U vectors of channels: KH rows a window, S apart, or `rows.count`
/// of them where KH is 0.
template <class Op, int KH, int KW, int S, int R, int U>
CONVPOOL_INLINE void reduce_pixel_rows(const CoveredRows<typename Op::Element>& rows,
                                       const WindowPixelsArguments<typename Op::Element>& a,
                                       const RowDivisor<Op>& divisor, typename Op::Element* out, ptrdiff_t begin,
                                       ptrdiff_t end, bool stream) {
  static_assert(KW >= S);
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  using Column = Vec<T>[R][U];
  Column column[KW];
  const auto reduce_column = [&](ptrdiff_t x, Column& acc) CONVPOOL_INLINED {
    if (x < 0 || x >= rows.columns) [[unlikely]] {
      unroll<R>([&](auto r) { unroll<U>([&](auto u) { acc[r][u] = Op::identity(); }); });
      return;
    }
    const T* const in = rows.first + x * a.in_pixel;
    if constexpr (KH > 0) {
      unroll<U>([&](auto u) {
        reduce_rows<Op, KH, S, 1, R>([&](auto i) CONVPOOL_INLINED { return load(in + i * a.in_row + u * L); },
                                     [&](int r) CONVPOOL_INLINED -> Vec<T>& { return acc[r][u]; });
      });
    } else {
      static_assert(R == 1);
      unroll<U>([&](auto u) { acc[0][u] = load(in + u * L); });
      for (ptrdiff_t t = 1; t < rows.count; ++t) {
        unroll<U>([&](auto u) { acc[0][u] = Op::combine(acc[0][u], load(in + t * rows.step + u * L)); });
      }
    }
  };
  const auto prefetch = [&](ptrdiff_t x) CONVPOOL_INLINED {
    // Of the rows the last S * R are new.
    constexpr ptrdiff_t distance = pixel_prefetch_bytes / ptrdiff_t{sizeof(T)};
    const ptrdiff_t last = (R - 1) * S + (rows.count > 0 ? rows.count - 1 : 0);
    const T* const ahead = rows.first + last * a.in_row + x * a.in_pixel + distance;
    unroll<S * R>([&](auto s) {
      unroll<S>([&](auto j) {
        unroll<U>([&](auto u) { __builtin_prefetch(ahead - s * a.in_row + j * a.in_pixel + u * L); });
      });
    });
  };
  unroll<KW - S>([&](auto j) { reduce_column(begin * S - a.w.pad + j, column[j]); });
  for (ptrdiff_t o = begin; o < end; ++o) {
    const ptrdiff_t x = o * S - a.w.pad + (KW - S);
    if (S == 1 && a.past_caches) prefetch(x);
    unroll<S>([&](auto j) { reduce_column(x + j, column[(KW - S) + j]); });
    unroll<R>([&](auto r) {
      unroll<U>([&](auto u) {
        Vec<T> result = column[0][r][u];
        unroll<KW - 1>([&](auto j) { result = Op::combine(result, column[j + 1][r][u]); });
        result = divisor.apply_to_pixel(result, o);
        T* const to = out + r * a.out_row + o * a.out_pixel + u * L;
        if (stream) {
          store_streaming(to, result);
        } else {
          store(to, result);
        }
      });
    });
    unroll<KW - S>(
        [&](auto j) { unroll<R>([&](auto r) { unroll<U>([&](auto u) { column[j][r][u] = column[j + S][r][u]; }); }); });
  }
}

/// S: the stride of the columns and, unless KH is 0, of the rows.
template <class Op, int KH, int KW, int S>
CONVPOOL_KERNEL void window_pixels(const WindowPixelsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int U = vectors_of_pixel;
  constexpr int at_once = KH > S && S == 1 && CONVPOOL_VECTOR_REGISTERS >= 32 ? 2 : 1;
  const bool stream = a.past_caches && pixels_are_lines(a, streamed_channels<T>);
  // Pixels whose channels take several turns are fetched from memory once for all of them.
  constexpr ptrdiff_t block_elements = 32768 / ptrdiff_t{sizeof(T)};
  const ptrdiff_t block = a.channels <= U * L               ? a.w.out
                          : a.channels > block_elements / 8 ? 8
                                                            : block_elements / a.channels;
  for (ptrdiff_t o = a.row_begin; o < a.row_end;) {
    T* const out = a.out + o * a.out_row;
    const CoveredRows<T> rows = covered_rows(a.in, a.in_row, a.h, a.w.in, o);
    if (rows.count == 0) {
      for (ptrdiff_t x = 0; x < a.w.out; ++x) {
        for (ptrdiff_t c = 0; c < a.channels; ++c) out[x * a.out_pixel + c] = Op::divided ? T(0) : lowest<T>;
      }
      ++o;
      continue;
    }
    const RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[o] : T(1));
    const auto compute = [&](auto height, auto row_count) {
      const auto channels = [&](ptrdiff_t c, auto vectors, ptrdiff_t begin, ptrdiff_t end) {
        const CoveredRows<T> from{rows.first + c, rows.step, rows.count, rows.columns, rows.top};
        reduce_pixel_rows<Op, decltype(height)::value, KW, S, decltype(row_count)::value, decltype(vectors)::value>(
            from, a, divisor, out + c, begin, end, stream);
      };
      for (ptrdiff_t begin = 0; begin < a.w.out; begin += block) {
        const ptrdiff_t end = a.w.out - begin < block ? a.w.out : begin + block;
        ptrdiff_t c = 0;
        for (; c + U * L <= a.channels; c += U * L) channels(c, Constant<U>{}, begin, end);
        for (; c + L <= a.channels; c += L) channels(c, Constant<1>{}, begin, end);
        if (c < a.channels) channels(a.channels - L, Constant<1>{}, begin, end);  // overlaps what is done already
      }
      o += row_count;
    };
    if constexpr (KH > 0) {
      if (fit_at_once<KH, 1>(rows, a.h, o, a.row_end, at_once)) [[likely]] {
        compute(Constant<KH>{}, Constant<at_once>{});
        continue;
      }
    }
    compute(Constant<0>{}, Constant<1>{});
  }
  if (stream) streaming_fence();
}

/// Up to this height, windows that hardly share pixels are summed down the columns first, as windows over planes
/// are: transposed or not leaves no trace in a sum. Higher ones run along their rows, which memory is faster for.
inline constexpr ptrdiff_t highest_down_first = 3;

/// Any window, pixel by pixel: for those that hardly share pixels, which is all that the caches would keep.
template <class Op, bool DownFirst>
CONVPOOL_KERNEL void separate_window_pixels(const WindowPixelsArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr ptrdiff_t L = lanes<T>;
  // Long runs of channels: pixels may be as far apart as makes them compete for the same places in the cache.
  constexpr int U = CONVPOOL_VECTOR_REGISTERS / (DownFirst ? 4 : 2);
  const bool stream = a.past_caches && pixels_are_lines(a, streamed_channels<T>);
  for (ptrdiff_t o = a.row_begin; o < a.row_end; ++o) {
    const CoveredRows<T> rows = covered_rows(a.in, a.in_row, a.h, a.w.in, o);
    const RowDivisor<Op> divisor(a.divisor, Op::divided ? a.row_count[o] : T(1));
    for (ptrdiff_t x = 0; x < a.w.out; ++x) {
      const CoveredRows<T> columns = covered_rows(rows.first, a.in_pixel, a.w, 0, x);
      const bool any = rows.count > 0 && columns.count > 0;
      T* const out = a.out + o * a.out_row + x * a.out_pixel;
      const auto channels = [&](ptrdiff_t c, auto vectors) CONVPOOL_INLINED {
        constexpr int V = decltype(vectors)::value;
        using Run = Vec<T>[V];
        const auto combine_next = [&](Run& acc, const T* pixel) CONVPOOL_INLINED {
          unroll<V>([&](auto v) { acc[v] = Op::combine(acc[v], load(pixel + v * L)); });
        };
        Run acc;
        unroll<V>([&](auto v) { acc[v] = Op::identity(); });
        if constexpr (DownFirst) {
          for (ptrdiff_t j = 0; any && j < columns.count; ++j) {
            const T* pixel = columns.first + j * columns.step + c;
            Run column;
            unroll<V>([&](auto v) { column[v] = load(pixel + v * L); });
            for (ptrdiff_t i = 1; i < rows.count; ++i) combine_next(column, pixel += rows.step);
            unroll<V>([&](auto v) { acc[v] = j == 0 ? column[v] : Op::combine(acc[v], column[v]); });
          }
        } else {
          for (ptrdiff_t i = 0; any && i < rows.count; ++i) {
            const T* pixel = columns.first + i * rows.step + c;
            for (ptrdiff_t j = 0; j < columns.count; ++j, pixel += columns.step) combine_next(acc, pixel);
          }
        }
        unroll<V>([&](auto v) {
          const Vec<T> result = divisor.apply_to_pixel(acc[v], x);
          if (stream) {
            store_streaming(out + c + v * L, result);
          } else {
            store(out + c + v * L, result);
          }
        });
      };
      ptrdiff_t c = 0;
      for (; c + U * L <= a.channels; c += U * L) channels(c, Constant<U>{});
      for (; c + L <= a.channels; c += L) channels(c, Constant<1>{});
      if (c < a.channels) channels(a.channels - L, Constant<1>{});  // overlaps what is done already
    }
  }
  if (stream) streaming_fence();
}

template <class Op, int KW, int S>
WindowPixelsKernel<typename Op::Element> window_pixels_for(const WindowAxis& h) {
  return is_window(h, KW, S, 1) ? window_pixels<Op, known_height<Op>(KW), KW, S> : window_pixels<Op, 0, KW, S>;
}

template <class Op>
WindowPixelsKernel<typename Op::Element> choose_window_pixels(const WindowAxis& h, const WindowAxis& w) {
  const auto windows_of_a_pixel = [](const WindowAxis& axis) {
    return axis.out == 1 ? 1 : (axis.kernel - 1) / axis.stride + 1;
  };
  // Where vectors are short, a few of each pixel leave gaps in what is read, which nothing fetches ahead: 64 channels
  // of 224x224 take five times as long with AVX2.
  constexpr bool short_vectors = CONVPOOL_VECTOR_REGISTERS < 32 && is_floating<typename Op::Element>;
  const bool apart = w.stride > 2 || w.out == 1 || (short_vectors && w.stride == 2 && w.kernel == 2);
  if (apart && windows_of_a_pixel(h) * windows_of_a_pixel(w) <= 2) {
    if constexpr (Op::divided) {
      if (h.kernel <= highest_down_first) return separate_window_pixels<Op, true>;
    }
    return separate_window_pixels<Op, false>;
  }
  if (is_tall(h)) return nullptr;
  if (is_window(w, 2, 1, 1)) return window_pixels_for<Op, 2, 1>(h);
  if (is_window(w, 3, 1, 1)) return window_pixels_for<Op, 3, 1>(h);
  if (is_window(w, 2, 2, 1)) return window_pixels_for<Op, 2, 2>(h);
  if (is_window(w, 3, 2, 1)) return window_pixels_for<Op, 3, 2>(h);
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
