#pragma once

// Depthwise convolution: one weight per tap and channel, so nothing to share between channels.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T, int R, int V>
CONVPOOL_INLINE void depthwise_plane_tile(const DepthwisePlaneArguments<T>& d, ptrdiff_t row, ptrdiff_t column) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][V];
  unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] = broadcast(d.bias); }); });
  const T* in = d.in + row * d.in_row + column;
  for (ptrdiff_t t = 0; t < d.taps; ++t) {
    const T* p = in + d.tap_offset[t];
    const T w = d.weight[t];
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] += w * load(p + r * d.in_row + v * L); }); });
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

template <class T, int R>
void depthwise_plane_rows(const DepthwisePlaneArguments<T>& d, ptrdiff_t row) {
  constexpr int L = lanes<T>;
  constexpr int widest = CONVPOOL_VECTOR_REGISTERS >= 32 ? 4 : 2;
  ptrdiff_t x = 0;
  for (; d.columns - x > (widest - 1) * L; x += widest * L) depthwise_plane_tile<T, R, widest>(d, row, x);
  if constexpr (widest == 4) {
    for (; d.columns - x > L; x += 2 * L) depthwise_plane_tile<T, R, 2>(d, row, x);
  }
  for (; x < d.columns; x += L) depthwise_plane_tile<T, R, 1>(d, row, x);
}

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  ptrdiff_t row = 0;
  for (; row + 4 <= d.rows; row += 4) depthwise_plane_rows<T, 4>(d, row);
  for (; row + 2 <= d.rows; row += 2) depthwise_plane_rows<T, 2>(d, row);
  for (; row < d.rows; ++row) depthwise_plane_rows<T, 1>(d, row);
}

template <class T, int P, int V>
CONVPOOL_INLINE void depthwise_channels_tile(const DepthwiseChannelsArguments<T>& d, ptrdiff_t pixel,
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
