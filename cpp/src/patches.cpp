#include "patches.hpp"

#include <algorithm>

#include "conv2d_weights.hpp"
#include "epilogue.hpp"
#include "tiling.hpp"

namespace convpool {
namespace {

using kernels::Segment;
using std::int64_t;

/// One tap of one channel for outputs [ow, ow + count) of a row.
template <class T>
void copy_tap_row(const Axis& w, PaddingMode mode, const T* row, int64_t stride, int64_t j, int64_t ow, int64_t count,
                  T* to) {
  const Range inside = w.outputs_inside(j);
  const int64_t begin = std::clamp(inside.begin, ow, ow + count), end = std::clamp(inside.end, begin, ow + count);
  const int64_t first = j * w.dilation - w.pad_begin;
  const auto edge = [&](int64_t from, int64_t until) {
    for (int64_t o = from; o < until; ++o) {
      const int64_t source = source_index(o * w.stride + first, w.in, mode);
      to[o - ow] = source < 0 ? T(0) : row[source * stride];
    }
  };
  edge(ow, begin);
  const int64_t step = w.stride * stride;
  const T* from = row + (begin * w.stride + first) * stride;
  if (step == 1) {
    std::copy_n(from, end - begin, to + begin - ow);
  } else {
    for (int64_t o = 0; o < end - begin; ++o) to[begin - ow + o] = from[o * step];
  }
  edge(end, ow + count);
}

}  // namespace

template <class T>
void patches_by_reduction(const Conv2dRun<T>& run, int64_t n, int64_t group, Range reduction, Range pixels, T* to,
                          int64_t pitch) {
  const Conv2dGeometry& g = run.geometry;
  const T* image = run.input.data + n * run.input.stride(0) + group * g.group_channels() * run.input.stride(1);
  for (int64_t k = reduction.begin; k < reduction.end; ++k, to += pitch) {
    const int64_t c = k / g.taps(), i = k % g.taps() / g.w.kernel, j = k % g.w.kernel;
    for (int64_t p = pixels.begin; p < pixels.end;) {
      const int64_t oh = p / g.w.out, ow = p % g.w.out;
      const int64_t count = std::min(g.w.out - ow, pixels.end - p);
      const int64_t y = source_index(g.h.start(oh) + i * g.h.dilation, g.h.in, g.padding_mode);
      T* const out = to + (p - pixels.begin);
      if (y < 0) {
        std::fill_n(out, count, T(0));
      } else {
        copy_tap_row(g.w, g.padding_mode, image + c * run.input.stride(1) + y * run.input.stride(2),
                     run.input.stride(3), j, ow, count, out);
      }
      p += count;
    }
    std::fill(to + (pixels.end - pixels.begin), to + pitch, T(0));
  }
}

template <class T>
void patches_by_pixel(const Conv2dRun<T>& run, int64_t n, int64_t group, Range reduction, Range pixels, T* to,
                      int64_t pitch) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t channel = run.input.stride(1);
  const T* image = run.input.data + n * run.input.stride(0) + group * g.group_channels() * channel;
  for (int64_t p = pixels.begin; p < pixels.end; ++p, to += pitch) {
    const int64_t oh = p / g.w.out, ow = p % g.w.out;
    for (int64_t k = reduction.begin; k < reduction.end;) {
      const int64_t block = k / (reduction_block * g.taps()) * reduction_block;
      const int64_t channels = std::min(reduction_block, g.group_channels() - block);
      const int64_t in_block = k - block * g.taps();
      const int64_t tap = in_block / channels, c = in_block % channels;
      const int64_t count = std::min(channels - c, reduction.end - k);
      const int64_t y = source_index(g.h.start(oh) + tap / g.w.kernel * g.h.dilation, g.h.in, g.padding_mode);
      const int64_t x = source_index(g.w.start(ow) + tap % g.w.kernel * g.w.dilation, g.w.in, g.padding_mode);
      T* const out = to + (k - reduction.begin);
      if (y < 0 || x < 0) {
        std::fill_n(out, count, T(0));
      } else {
        const T* from = image + (block + c) * channel + y * run.input.stride(2) + x * run.input.stride(3);
        for (int64_t q = 0; q < count; ++q) out[q] = from[q * channel];
      }
      k += count;
    }
  }
}

template <class T>
void multiply_by_reduction(const Conv2dRun<T>& run, int64_t n, int64_t group, Range reduction, Range pixels,
                           Range out_channels, const T* patches, int64_t pitch) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t lanes = run.kernels.lanes;
  const bool last = reduction.end == g.reduction();
  const Epilogue<T> epilogue(run);
  const Segment segment{0, 0, reduction.end - reduction.begin};
  const int64_t all_vectors = ceil_div(pixels.end - pixels.begin, lanes);
  const TileShape shape = choose_tile(run.kernels, out_channels.end - out_channels.begin, all_vectors);
  const EvenSplit columns(all_vectors, shape.vectors);
  const int64_t first_channel = group * g.group_out_channels();
  for (int64_t t = 0; t < columns.pieces; ++t) {
    const int64_t offset = columns.begin(t) * lanes;
    const int64_t vectors = columns.end(t) - columns.begin(t);
    const EvenSplit rows(out_channels.end - out_channels.begin, run.kernels.tile_rows[vectors]);
    for_each_equal_pieces(rows, [&](int64_t begin, int64_t count, int64_t tiles) {
      const int64_t k = first_channel + out_channels.begin + begin;
      kernels::TileArguments<T> tile{};
      tile.segments = &segment;
      tile.segment_count = 1;
      tile.a = run.weights.data + k * g.reduction() + reduction.begin;
      tile.a_row = g.reduction();
      tile.a_step = 1;
      tile.b = patches + offset;
      tile.b_vector = lanes;
      tile.b_step = pitch;
      tile.c = run.output.data + n * run.output.stride(0) + k * run.output.stride(1) + pixels.begin + offset;
      tile.c_row = run.output.stride(1);
      tile.columns = std::min(vectors * lanes, pixels.end - pixels.begin - offset);
      tile.row_bias = run.weights.bias == nullptr ? nullptr : run.weights.bias + k;
      tile.low = epilogue.low(last);
      tile.high = epilogue.high(last);
      tile.accumulate = reduction.begin > 0;
      tile.tiles = tiles;
      tile.a_tile = count * tile.a_row;
      tile.c_tile = count * tile.c_row;
      run.kernels.tile[vectors][count](tile);
      if (last && epilogue.remains()) {
        epilogue.finish_channels(tile.c, tile.c_row, count * tiles, tile.columns, n, k, pixels.begin + offset);
      }
    });
  }
}

template <class T>
void multiply_by_pixel(const Conv2dRun<T>& run, int64_t n, int64_t group, Range reduction, Range pixels,
                       Range out_vectors, const T* patches, int64_t pitch) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t lanes = run.kernels.lanes;
  const bool last = reduction.end == g.reduction();
  const Epilogue<T> epilogue(run);
  const Segment segment{0, 0, reduction.end - reduction.begin};
  const int64_t group_vectors = ceil_div(g.group_out_channels(), lanes);
  const TileShape shape = choose_tile(run.kernels, pixels.end - pixels.begin, out_vectors.end - out_vectors.begin);
  const EvenSplit sets(out_vectors.end - out_vectors.begin, shape.vectors);
  for (int64_t set = 0; set < sets.pieces; ++set) {
    const int64_t v = out_vectors.begin + sets.begin(set), width = sets.end(set) - sets.begin(set);
    const EvenSplit rows(pixels.end - pixels.begin, shape.rows);
    const int64_t channels = std::min(width * lanes, g.group_out_channels() - v * lanes);
    for_each_equal_pieces(rows, [&](int64_t begin, int64_t count, int64_t tiles) {
      kernels::TileArguments<T> tile{};
      tile.segments = &segment;
      tile.segment_count = 1;
      tile.a = patches + begin * pitch;
      tile.a_row = pitch;
      tile.a_step = 1;
      tile.b = run.weights.data + ((group * group_vectors + v) * g.reduction() + reduction.begin) * lanes;
      tile.b_vector = g.reduction() * lanes;
      tile.b_step = lanes;
      tile.c = run.output.data + n * run.output.stride(0) +
               (group * g.group_out_channels() + v * lanes) * run.output.stride(1) +
               (pixels.begin + begin) * run.output.stride(3);
      tile.c_row = run.output.stride(3);
      tile.columns = channels;
      tile.column_bias = run.weights.bias + (group * group_vectors + v) * lanes;
      tile.low = epilogue.low(last);
      tile.high = epilogue.high(last);
      tile.accumulate = reduction.begin > 0;
      tile.tiles = tiles;
      tile.a_tile = count * tile.a_row;
      tile.c_tile = count * tile.c_row;
      run.kernels.tile[width][count](tile);
      if (last && epilogue.remains()) {
        epilogue.finish_pixels(tile.c, tile.c_row, count * tiles, channels, n,
                               group * g.group_out_channels() + v * lanes, pixels.begin + begin);
      }
    });
  }
}

#define CONVPOOL_INSTANTIATE(T)                                                                                       \
  template void patches_by_reduction(const Conv2dRun<T>&, int64_t, int64_t, Range, Range, T*, int64_t);               \
  template void patches_by_pixel(const Conv2dRun<T>&, int64_t, int64_t, Range, Range, T*, int64_t);                   \
  template void multiply_by_reduction(const Conv2dRun<T>&, int64_t, int64_t, Range, Range, Range, const T*, int64_t); \
  template void multiply_by_pixel(const Conv2dRun<T>&, int64_t, int64_t, Range, Range, Range, const T*, int64_t);
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
