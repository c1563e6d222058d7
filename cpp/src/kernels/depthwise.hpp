#pragma once

// Depthwise convolution: one weight per tap and channel, so nothing to share between channels.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// One row of the input, at tap row i = y - r for the rows of results [First, First + Count) of a tile.
template <class T, int R, int V, int First, int Count>
CONVPOOL_INLINE void depthwise_input_row(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t y,
                                         Vec<T> (&acc)[R][V]) {
  const T* const row = in + y * d.tap_row;
  const T* const weight = d.weight + (y - First) * d.kernel_columns;
  for (ptrdiff_t j = 0; j < d.kernel_columns; ++j) {
    const T* p = row + d.tap_column[j];
    Vec<T> x[V];
    unroll<V>([&](auto v) { x[v] = pinned(load(p + v * lanes<T>)); });
    unroll<Count>([&](auto r) {
      const T w = weight[j - r * d.kernel_columns];
      unroll<V>([&](auto v) { acc[First + r][v] += w * x[v]; });
    });
  }
}

/// R x V vectors of results. Rows of results that share their input rows load each of them once: the first R - 1 input
/// rows serve the upper results, the last R - 1 the lower ones, those between serve all (KernelRows 0: any number from
/// R on), or, where the kernel is lower than the tile, as many as it has rows.
template <class T, int R, int V, int KernelRows, bool Shared>
CONVPOOL_KERNEL void depthwise_plane_tile(const DepthwisePlaneArguments<T>& d, ptrdiff_t row, ptrdiff_t column) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][V];
  unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] = broadcast(d.bias); }); });
  const T* const in = d.in + row * d.in_row + column;
  if constexpr (!Shared) {
    for (ptrdiff_t i = 0; i < d.kernel_rows; ++i) {
      for (ptrdiff_t j = 0; j < d.kernel_columns; ++j) {
        const T* p = in + i * d.tap_row + d.tap_column[j];
        const T w = d.weight[i * d.kernel_columns + j];
        unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] += w * load(p + r * d.in_row + v * L); }); });
      }
    }
  } else if constexpr (KernelRows > 0) {
    unroll<R + KernelRows - 1>([&](auto y) {
      constexpr int first = y >= KernelRows ? y - KernelRows + 1 : 0, last = y < R ? y : R - 1;
      depthwise_input_row<T, R, V, first, last - first + 1>(d, in, y, acc);
    });
  } else {
    unroll<R - 1>([&](auto y) { depthwise_input_row<T, R, V, 0, y + 1>(d, in, y, acc); });
    for (ptrdiff_t y = R - 1; y < d.kernel_rows; ++y) depthwise_input_row<T, R, V, 0, R>(d, in, y, acc);
    unroll<R - 1>([&](auto y) { depthwise_input_row<T, R, V, y + 1, R - 1 - y>(d, in, d.kernel_rows + y, acc); });
  }
  const Vec<T> low = broadcast(d.low), high = broadcast(d.high);
  const ptrdiff_t left = d.columns - column;
  unroll<R>([&](auto r) {
    unroll<V>([&](auto v) {
      T* p = d.out + (row + r) * d.out_row + column + v * L;
      const Vec<T> value = clamp<T>(acc[r][v], low, high);
      if (left >= (v + 1) * L) {
        store(p, value);
      } else if (left > v * L) {
        store_first<T>(p, value, left - v * L);
      }
    });
  });
}

template <class T, int V, int KernelRows, bool Shared>
void depthwise_plane_columns(const DepthwisePlaneArguments<T>& d, ptrdiff_t column) {
  constexpr int tallest = (CONVPOOL_VECTOR_REGISTERS >= 32 ? 16 : 8) / V;
  const ptrdiff_t limit = Shared && KernelRows == 0 ? d.kernel_rows : d.rows;
  ptrdiff_t row = 0;
  if constexpr (tallest >= 8) {
    if (limit >= 8) {
      for (; row + 8 <= d.rows; row += 8) depthwise_plane_tile<T, 8, V, KernelRows, Shared>(d, row, column);
    }
  }
  if (limit >= 4) {
    for (; row + 4 <= d.rows; row += 4) depthwise_plane_tile<T, 4, V, KernelRows, Shared>(d, row, column);
  }
  if (limit >= 2) {
    for (; row + 2 <= d.rows; row += 2) depthwise_plane_tile<T, 2, V, KernelRows, Shared>(d, row, column);
  }
  for (; row < d.rows; ++row) depthwise_plane_tile<T, 1, V, KernelRows, Shared>(d, row, column);
}

template <class T, int KernelRows, bool Shared>
void depthwise_plane_of(const DepthwisePlaneArguments<T>& d) {
  constexpr int L = lanes<T>;
  ptrdiff_t x = 0;
  if constexpr (CONVPOOL_VECTOR_REGISTERS >= 32) {
    for (; d.columns - x > 3 * L; x += 4 * L) depthwise_plane_columns<T, 4, KernelRows, Shared>(d, x);
  }
  for (; d.columns - x > L; x += 2 * L) depthwise_plane_columns<T, 2, KernelRows, Shared>(d, x);
  for (; x < d.columns; x += L) depthwise_plane_columns<T, 1, KernelRows, Shared>(d, x);
}

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  if (d.in_row != d.tap_row) {
    depthwise_plane_of<T, 0, false>(d);
  } else if (d.kernel_rows == 3) {
    depthwise_plane_of<T, 3, true>(d);
  } else {
    depthwise_plane_of<T, 0, true>(d);
  }
}

template <class T, int P, int V>
CONVPOOL_KERNEL void depthwise_channels_tile(const DepthwiseChannelsArguments<T>& d, ptrdiff_t pixel,
                                             ptrdiff_t channel) {
  constexpr int L = lanes<T>;
  Vec<T> acc[P][V];
  unroll<V>([&](auto v) {
    const Vec<T> bias = load(d.bias + channel + v * L);
    unroll<P>([&](auto p) { acc[p][v] = bias; });
  });
  const T* in = d.in + pixel * d.in_pixel + channel;
  const T* weight = d.weight + channel;
  for (ptrdiff_t t = 0; t < d.taps; ++t) {
    const T* x = in + d.tap[t].in;
    const T* w = weight + d.tap[t].weight;
    unroll<V>([&](auto v) {
      const Vec<T> wv = pinned(load(w + v * L));
      unroll<P>([&](auto p) { acc[p][v] += wv * load(x + p * d.in_pixel + v * L); });
    });
  }
  const Vec<T> low = broadcast(d.low), high = broadcast(d.high);
  unroll<P>([&](auto p) {
    unroll<V>(
        [&](auto v) { store(d.out + (pixel + p) * d.out_pixel + channel + v * L, clamp<T>(acc[p][v], low, high)); });
  });
}

template <class T>
void depthwise_channels_tail(const DepthwiseChannelsArguments<T>& d, ptrdiff_t pixel, ptrdiff_t channel) {
  const ptrdiff_t left = d.channels - channel;
  Vec<T> acc = load(d.bias + channel);
  const T* in = d.in + pixel * d.in_pixel + channel;
  for (ptrdiff_t t = 0; t < d.taps; ++t) {
    acc += load(d.weight + channel + d.tap[t].weight) * load_first(in + d.tap[t].in, left);
  }
  store_first<T>(d.out + pixel * d.out_pixel + channel, clamp<T>(acc, broadcast(d.low), broadcast(d.high)), left);
}

template <class T, int P>
CONVPOOL_INLINE void depthwise_channels_pixels(const DepthwiseChannelsArguments<T>& d, ptrdiff_t pixel) {
  constexpr int L = lanes<T>;
  ptrdiff_t c = 0;
  for (; c + 2 * L <= d.channels; c += 2 * L) depthwise_channels_tile<T, P, 2>(d, pixel, c);
  for (; c + L <= d.channels; c += L) depthwise_channels_tile<T, P, 1>(d, pixel, c);
  if (c < d.channels) {
    for (int p = 0; p < P; ++p) depthwise_channels_tail(d, pixel + p, c);
  }
}

template <class T>
void depthwise_channels(const DepthwiseChannelsArguments<T>& d) {
  ptrdiff_t pixel = 0;
  for (; pixel + 4 <= d.pixels; pixel += 4) depthwise_channels_pixels<T, 4>(d, pixel);
  for (; pixel < d.pixels; ++pixel) depthwise_channels_pixels<T, 1>(d, pixel);
}

}  // namespace
}  // namespace convpool::kernels
