#pragma once

// Maxima of small windows with their positions, with stride 1 over planes without gaps: as window_planes, in two
// passes. Along the rows first and then down them, as positions need it; between the passes a band of rows is kept in
// the L1 cache, so that a row is reduced once for all the windows that cover it.

#include "window_planes.hpp"
#include "window_positions.hpp"

namespace convpool::kernels {
namespace {

/// 3x3 windows without dilation are faster row by row on wider planes; others have no such kernel.
template <class T, int K, int D>
inline constexpr ptrdiff_t widest_of_plane_positions = (K == 3 && D == 1 ? 256 : 512) / ptrdiff_t{sizeof(T)};

/// The maximum of K taps in their order, of which tap(j, distance) gives those on either side of the middle one. A tap
/// that a window doesn't have counts as the nearest one that it has once more, which changes nothing.
template <class T, int K, class Tap>
CONVPOOL_INLINE typename MaxAtOf<T>::Item reduce_around(const typename MaxAtOf<T>::Item& middle, Tap&& tap) {
  using Op = MaxAtOf<T>;
  constexpr int half = K / 2;
  typename Op::Item taps[K];
  taps[half] = middle;
  unroll<half>([&](auto i) {
    constexpr int distance = decltype(i)::value + 1;
    taps[half - distance] = tap(Constant<-distance>{}, taps[half - distance + 1]);
    taps[half + distance] = tap(Constant<distance>{}, taps[half + distance - 1]);
  });
  typename Op::Item item = taps[0];
  unroll<K - 1>([&](auto j) { item = Op::combine(item, taps[j + 1]); });
  return item;
}

/// As window_planes, with positions as in window_row_positions.
template <class T, int K, int D>
CONVPOOL_KERNEL void window_plane_positions(const WindowRowsArguments<T>& a) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int wide_vectors = lanes<T> / lanes<std::int64_t>;
  constexpr ptrdiff_t widest = widest_of_plane_positions<T, K, D>;
  constexpr int half = K / 2, side = half * D;
  constexpr ptrdiff_t band_elements = 24 * 256 / ptrdiff_t{sizeof(T)};
  // Rows before the band and after it, which a plane's first and last ones don't have, and don't use.
  alignas(vector_alignment) T values[band_elements + 2 * side * widest + 2 * L];
  alignas(vector_alignment) Index positions[band_elements + 2 * side * widest + 2 * L];
  const ptrdiff_t width = a.w.in, pixels = a.h.in * width;
  // Bands of whole lines, where that leaves them high: what is streamed must begin with one.
  constexpr ptrdiff_t line = cache_line / ptrdiff_t{sizeof(T)};
  ptrdiff_t band_rows = band_elements / width, whole_rows = line;
  while (whole_rows > 1 && whole_rows / 2 * width % line == 0) whole_rows /= 2;
  if (band_rows > whole_rows) band_rows -= band_rows % whole_rows;
  Vec<Index> lane;
  for (int i = 0; i < L; ++i) lane[i] = static_cast<Index>(i);
  LaneSet<T> has_column[K][widest];
  const ptrdiff_t period = for_each_first_column<T>(width, [&](ptrdiff_t vector, ptrdiff_t column) {
    unroll<K>([&](auto j) {
      has_column[j][vector] = LaneSet<T>(lanes_with_neighbour<T>(column, width, (decltype(j)::value - half) * D));
    });
  });
  const auto select = [](const LaneSet<T>& set, const Item& there, const Item& other) CONVPOOL_INLINED {
    return Item{set.select(there.value, other.value), set.select(there.at, other.at)};
  };
  for (ptrdiff_t p = 0; p < a.planes; ++p) {
    const T* const plane = a.in + p * a.in_plane;
    T* const out = a.out + p * a.out_plane;
    std::int64_t* const out_at = a.out_at + p * a.out_plane;
    for (ptrdiff_t top = a.row_begin; top < a.row_end; top += band_rows) {
      const ptrdiff_t bottom = top + band_rows < a.row_end ? top + band_rows : a.row_end;
      const ptrdiff_t first = (top > side ? top - side : 0) * width;
      const ptrdiff_t past = (bottom + side < a.h.in ? bottom + side : a.h.in) * width;
      const ptrdiff_t begin = top * width, end = bottom * width;
      const bool streams = a.past_caches && a.waiting == nullptr && starts_line<Op>(out + begin, out_at + begin);
      // Element x of the plane is in the buffers' element x - base.
      const ptrdiff_t base = (top - side) * width;
      const auto load_pixels = [&](ptrdiff_t x) CONVPOOL_INLINED {
        return x + L <= pixels ? load(plane + x) : load_between(plane + x, 0, pixels - x, Vec<T>{});
      };
      Vec<T> previous{}, current = load_pixels(first);
      for (ptrdiff_t x = first, set = 0; x < past; x += L) {
        const Vec<T> next = x + L < past ? load_pixels(x + L) : Vec<T>{};
        const Vec<Index> at = lane + static_cast<Index>(x);
        if (a.fetches_results) {
          __builtin_prefetch(out + x);
          unroll<wide_vectors>([&](auto v) { __builtin_prefetch(out_at + x + v * lanes<std::int64_t>); });
        }
        const Item item = reduce_around<T, K>({current, at}, [&](auto j, const Item& nearer) CONVPOOL_INLINED {
          constexpr int tap = decltype(j)::value;
          const Item there{neighbours<T, tap * D>(previous, current, next, All{}), at + Index(tap * D)};
          return select(has_column[half + tap][set], there, nearer);
        });
        store_item<Op>(item, values, positions, x - base);
        previous = current;
        current = next;
        if (++set == period) set = 0;
      }
      const auto reduce_down = [&](ptrdiff_t x, auto inside) CONVPOOL_INLINED {
        const Item middle = load_item<Op>(values, positions, x - base);
        const Item item = reduce_around<T, K>(middle, [&](auto i, const Item& nearer) CONVPOOL_INLINED {
          const ptrdiff_t from = x + decltype(i)::value * D * width;
          const Item there = load_item<Op>(values, positions, from - base);
          if constexpr (decltype(inside)::value != 0) return there;
          return select(LaneSet<T>(bits_between<T>(-from, pixels - from)), there, nearer);
        });
        store_result<Op>(item, RowDivisor<Op>({}, T(1)), out, static_cast<Index*>(nullptr), out_at, 0, x, end - x,
                         streams);
      };
      for (ptrdiff_t x = begin; x < end; x += L) {
        if (x >= side * width && x + L + side * width <= pixels) {
          reduce_down(x, Constant<1>{});
        } else {
          reduce_down(x, Constant<0>{});
        }
      }
    }
  }
  if (a.past_caches && a.waiting == nullptr) streaming_fence();
}

template <class T>
WindowRowsKernel<T> choose_window_plane_positions(const WindowAxis& h, const WindowAxis& w) {
  const auto fits = [&](auto kernel, auto dilation) {
    constexpr int K = kernel, D = dilation;
    const auto same = [](const WindowAxis& axis) {
      return is_window(axis, K, 1, D) && axis.in == axis.out && 2 * axis.pad == (K - 1) * D;
    };
    return same(h) && same(w) && w.in <= widest_of_plane_positions<T, K, D>;
  };
  if (fits(Constant<3>{}, Constant<1>{})) return window_plane_positions<T, 3, 1>;
  if constexpr (lanes<T> >= 8) {
    if (fits(Constant<3>{}, Constant<2>{})) return window_plane_positions<T, 3, 2>;
    if (fits(Constant<5>{}, Constant<1>{})) return window_plane_positions<T, 5, 1>;
  }
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
