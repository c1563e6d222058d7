#pragma once

// How the orientations of the depthwise algorithm cut the work and tell their kernels about it.

#include <algorithm>
#include <numeric>

#include "conv2d_algorithm.hpp"
#include "epilogue.hpp"
#include "tiling.hpp"

namespace convpool {

/// The rows of the tallest tile: pieces of a plane are multiples of it.
inline constexpr std::int64_t tile_rows = 14;
/// Pieces of the work for each thread, where there are several: none waits long for the last one.
inline constexpr std::int64_t pieces_per_thread = 4;

/// Runs the kernel so that rows of results share the rows they read: windows with gaps interleave, and those that read
/// the same rows are taken together.
template <class Arguments>
void run_rows(void (*kernel)(const Arguments&), const Arguments& all) {
  const std::int64_t gap = all.row_dilation, common = std::gcd(std::int64_t{all.row_stride}, gap);
  const std::int64_t stride = all.row_stride / common, phases = gap / common;
  if (gap == 1 || (stride > 1 && phases > 1)) return kernel(all);
  for (std::int64_t f = 0; f < std::min<std::int64_t>(phases, all.rows); ++f) {
    const std::int64_t start = all.first_row + f * all.row_stride, first = floor_div(start, gap);
    const std::int64_t skipped = start - first * gap;
    Arguments some = all;
    some.in += (skipped < all.in_rows ? skipped : 0) * all.in_row;
    some.in_row *= gap < all.in_rows ? gap : 0;  // one row at most
    some.in_rows = ceil_div(std::max<std::int64_t>(0, all.in_rows - skipped), gap);
    some.first_row = first;
    some.row_stride = stride;
    some.row_dilation = 1;
    some.out += f * all.out_row;
    some.rows = ceil_div(all.rows - f, phases);
    if (some.rows > 1) some.out_row *= phases;  // a single row's phases may be any number
    kernel(some);
  }
}

/// What both kernels are told alike, for `rows` rows of results.
template <template <class> class Arguments, class T>
Arguments<T> row_arguments(const Conv2dGeometry& g, const Epilogue<T>& epilogue, std::int64_t rows, bool stream) {
  Arguments<T> d{};
  d.row_stride = g.h.stride;
  d.row_dilation = g.h.dilation;
  d.kernel_rows = g.h.kernel;
  d.kernel_columns = g.w.kernel;
  d.rows = rows;
  d.columns = g.w.out;
  d.low = epilogue.low();
  d.high = epilogue.high();
  d.stream = stream;
  return d;
}

/// A padded copy of `count` rows of a channels-last image, from row `first` on, in rows `pitch` apart; and the kernel's
/// arguments for reading it in place of the image, which d.in and d.in_row tell. `width` pixels, `pixel` elements apart
/// in the image, become neighbours.
template <class Arguments, class T>
void read_padded_copy(Arguments& d, const kernels::Table<T>& kernels, const Conv2dGeometry& g, std::int64_t pixel,
                      std::int64_t first, std::int64_t count, std::int64_t width, T* copy, std::int64_t pitch) {
  const std::int64_t start = g.w.start(0), channels = g.channels;
  const std::int64_t begin = std::clamp<std::int64_t>(-start, 0, width);
  const std::int64_t end = std::clamp<std::int64_t>(g.w.in - start, begin, width);
  for (std::int64_t r = 0; r < count; ++r) {
    const T* const in = d.in + source_index(first + r, g.h.in, g.padding_mode) * d.in_row;
    T* const to = copy + r * pitch;
    const auto copy_pixels = [&](std::int64_t from_x, std::int64_t until_x) {
      for (std::int64_t x = from_x; x < until_x; ++x) {
        std::copy_n(in + source_index(start + x, g.w.in, g.padding_mode) * pixel, channels, to + x * channels);
      }
    };
    if (pixel == channels) {
      kernels.pad_rows(
          {in + (start + begin) * channels, 0, to, 0, 1, begin * channels, (end - begin) * channels, pitch, T(0)});
    } else {
      copy_pixels(begin, end);
    }
    copy_pixels(0, begin);
    copy_pixels(end, width);
  }
  d.in = copy;
  d.in_row = pitch;
  d.in_rows = count;
  d.first_row = d.first_column = 0;
}

inline bool pads_with_image(const Conv2dGeometry& g) {
  return g.padding_mode != PaddingMode::zeros && (g.h.padded() || g.w.padded());
}

/// Pieces of an axis of `size`, whole multiples of `unit` but for the last.
inline EvenSplit pieces_of(std::int64_t size, std::int64_t unit, std::int64_t wanted) {
  const std::int64_t units = ceil_div(size, unit);
  return EvenSplit(units, ceil_div(units, std::clamp<std::int64_t>(wanted, 1, units)));
}

}  // namespace convpool
