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

/// Whether results can go past the caches: in whole cache lines, of at most two vectors.
template <class T>
bool writes_lines(const kernels::Table<T>& kernels) {
  return vectors_of_a_line(kernels) <= 2;
}

/// An axis of windows with gaps, as one of windows without them for each phase of its results.
struct AxisPhases {
  std::int64_t first, stride, gap;  ///< where the first window starts, from one to the next, between its taps
  std::int64_t in, out;

  std::int64_t common() const { return std::gcd(stride, gap); }
  std::int64_t count() const { return gap / common(); }
  /// Whether windows of a phase share what they read.
  bool worthwhile() const { return gap > 1 && (stride == common() || count() == 1); }

  struct Phase {
    std::int64_t skipped;  ///< elements before the first that the phase reads
    std::int64_t step;     ///< from one that it reads to the next
    std::int64_t first, stride, in, out;
  };
  Phase phase(std::int64_t f) const {
    const std::int64_t start = first + f * stride, begin = floor_div(start, gap), skipped = start - begin * gap;
    return {skipped < in ? skipped : 0,
            gap < in ? gap : 0,  // one at most is read then
            begin,
            stride / common(),
            ceil_div(std::max<std::int64_t>(0, in - skipped), gap),
            ceil_div(out - f, count())};
  }
};

/// Runs the kernel so that rows of results share the rows they read: windows with gaps interleave, and those that read
/// the same rows are taken together.
template <class Arguments>
void run_rows(void (*kernel)(const Arguments&), const Arguments& all) {
  const AxisPhases axis{all.first_row, all.row_stride, all.row_dilation, all.in_rows, all.rows};
  if (!axis.worthwhile()) return kernel(all);
  for (std::int64_t f = 0; f < std::min(axis.count(), axis.out); ++f) {
    const AxisPhases::Phase p = axis.phase(f);
    Arguments some = all;
    some.in += p.skipped * all.in_row;
    some.in_row *= p.step;
    some.in_rows = p.in;
    some.first_row = p.first;
    some.row_stride = p.stride;
    some.row_dilation = 1;
    some.out += f * all.out_row;
    some.rows = p.out;
    if (p.out > 1) some.out_row *= axis.count();  // a single row's phases may be any number
    kernel(some);
  }
}

/// The same for columns, too, where there are enough of each phase for a tile.
template <class T>
void run_rows_and_columns(void (*kernel)(const kernels::DepthwiseChannelsArguments<T>&),
                          const kernels::DepthwiseChannelsArguments<T>& all) {
  const AxisPhases axis{all.first_column, all.column_stride, all.column_dilation, all.in_columns, all.columns};
  if (!axis.worthwhile() || all.columns / kernels::depthwise_tile_pixels < axis.count()) return run_rows(kernel, all);
  for (std::int64_t f = 0; f < axis.count(); ++f) {
    const AxisPhases::Phase p = axis.phase(f);
    kernels::DepthwiseChannelsArguments<T> some = all;
    some.in += p.skipped * all.in_pixel;
    some.in_pixel *= p.step;
    some.in_columns = p.in;
    some.first_column = p.first;
    some.column_stride = p.stride;
    some.column_dilation = 1;
    some.out += f * all.out_pixel;
    some.columns = p.out;
    some.out_pixel *= axis.count();
    run_rows(kernel, some);
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
