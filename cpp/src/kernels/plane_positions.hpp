#pragma once

// Maxima of 3x3 windows with their positions, with stride 1 over planes without gaps: as window_planes, in two passes.
// Along the rows first and then down them, as positions need it; between the passes a band of rows is kept in the L1
// cache, so that a row is reduced once for all the windows that cover it.

#include "window_planes.hpp"
#include "window_positions.hpp"

namespace convpool::kernels {
namespace {

/// As window_planes, with positions as in window_row_positions; never past the caches.
template <class T>
CONVPOOL_KERNEL void window_plane_positions(const WindowRowsArguments<T>& a) {
  using Op = MaxAtOf<T>;
  using Item = typename Op::Item;
  using Index = typename Op::Index;
  using All = typename MakeIndices<lanes<T>>::type;
  constexpr ptrdiff_t L = lanes<T>;
  constexpr ptrdiff_t widest = widest_of_planes<MaxAtOf<T>, 3, 1>();
  constexpr ptrdiff_t band_elements = 24 * widest;
  // A row before the band and one after it, which a plane's first and last ones don't have, and don't use.
  alignas(vector_alignment) T values[band_elements + 2 * widest + 2 * L];
  alignas(vector_alignment) Index positions[band_elements + 2 * widest + 2 * L];
  const ptrdiff_t width = a.w.in, pixels = a.h.in * width;
  const ptrdiff_t band_rows = band_elements / width;
  Vec<Index> lane;
  for (int i = 0; i < L; ++i) lane[i] = static_cast<Index>(i);
  LaneSet<T> has_left[widest], has_right[widest];
  const ptrdiff_t period = for_each_first_column<T>(width, [&](ptrdiff_t vector, ptrdiff_t column) {
    has_left[vector] = LaneSet<T>(lanes_with_neighbour<T>(column, width, -1));
    has_right[vector] = LaneSet<T>(lanes_with_neighbour<T>(column, width, 1));
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
      const ptrdiff_t first = (top > 0 ? top - 1 : 0) * width;
      const ptrdiff_t past = (bottom < a.h.in ? bottom + 1 : a.h.in) * width;
      // Element x of the plane is in the buffers' element x - base.
      const ptrdiff_t base = (top - 1) * width;
      const auto load_pixels = [&](ptrdiff_t x) CONVPOOL_INLINED {
        return x + L <= pixels ? load(plane + x) : load_between(plane + x, 0, pixels - x, Vec<T>{});
      };
      Vec<T> previous{}, current = load_pixels(first);
      for (ptrdiff_t x = first, set = 0; x < past; x += L) {
        const Vec<T> next = x + L < past ? load_pixels(x + L) : Vec<T>{};
        const Vec<Index> at = lane + static_cast<Index>(x);
        const Item middle{current, at};
        // A neighbour that a row doesn't have counts as the pixel itself once more, which changes nothing.
        const Item left =
            select(has_left[set], {neighbours<T, -1>(previous, current, next, All{}), at - Index(1)}, middle);
        const Item right =
            select(has_right[set], {neighbours<T, 1>(previous, current, next, All{}), at + Index(1)}, middle);
        const Item item = Op::combine(Op::combine(left, middle), right);
        store_item<Op>(item, values, positions, x - base);
        previous = current;
        current = next;
        if (++set == period) set = 0;
      }
      const ptrdiff_t end = bottom * width;
      for (ptrdiff_t x = top * width; x < end; x += L) {
        const auto row = [&](ptrdiff_t distance, const Item& middle) CONVPOOL_INLINED {
          const ptrdiff_t from = x + distance;
          const LaneSet<T> inside(bits_between<T>(-from, pixels - from));
          return select(inside, load_item<Op>(values, positions, from - base), middle);
        };
        const Item middle = load_item<Op>(values, positions, x - base);
        const Item item = Op::combine(Op::combine(row(-width, middle), middle), row(width, middle));
        store_result<Op>(item, RowDivisor<Op>({}, T(1)), out, static_cast<Index*>(nullptr), out_at, 0, x, end - x);
      }
    }
  }
}

template <class T>
WindowRowsKernel<T> choose_window_plane_positions(const WindowAxis& h, const WindowAxis& w) {
  const auto same = [](const WindowAxis& axis) {
    return is_window(axis, 3, 1, 1) && axis.in == axis.out && axis.pad == 1;
  };
  return same(h) && same(w) && w.in <= widest_of_planes<MaxAtOf<T>, 3, 1>() ? window_plane_positions<T> : nullptr;
}

}  // namespace
}  // namespace convpool::kernels
