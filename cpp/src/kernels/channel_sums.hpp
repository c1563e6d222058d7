#pragma once

// 1x1 convolution of pixels that lie channels-last, for so few output channels that vectors of them would be mostly
// empty: products of whole vectors of channels, added up at the end.

#include "fold.hpp"

namespace convpool::kernels {
namespace {

/// K outputs of as many pixels as fill a vector of results.
template <class T, int K>
CONVPOOL_INLINE void sum_channels_of_few(const ChannelSumArguments<T>& a) {
  constexpr int L = lanes<T>, P = L / K;
  T biases[L] = {};
  for (int i = 0; i < P * K; ++i) biases[i] = a.bias == nullptr ? T(0) : a.bias[i % K];
  const Vec<T> bias = load(biases), low = broadcast(a.low), high = broadcast(a.high);
  const auto plus = [](Vec<T> x, Vec<T> y) CONVPOOL_INLINED { return x + y; };
  const ptrdiff_t whole = a.channels / L * L, left = a.channels - whole;
  for (ptrdiff_t p = 0; p < a.pixels; p += P) {
    const ptrdiff_t pixels = a.pixels - p < P ? a.pixels - p : P;
    const T* in[P];
    // Where fewer are left, the first stands for the missing ones.
    unroll<P>([&](auto i) { in[i] = a.in + (p + (i < pixels ? ptrdiff_t{i} : 0)) * a.in_pixel; });
    Vec<T> sums[L];
    unroll<L>([&](auto i) { sums[i] = Vec<T>{}; });
    const auto add = [&](auto load_part, ptrdiff_t c) CONVPOOL_INLINED {
      Vec<T> weight[K];
      unroll<K>([&](auto k) { weight[k] = pinned(load_part(a.weight + k * a.channels + c)); });
      unroll<P>([&](auto i) {
        const Vec<T> x = load_part(in[i] + c);
        unroll<K>([&](auto k) { sums[i * K + k] += x * weight[k]; });
      });
    };
    for (ptrdiff_t c = 0; c < whole; c += L) add([](const T* from) CONVPOOL_INLINED { return load(from); }, c);
    if (left > 0) add([&](const T* from) CONVPOOL_INLINED { return load_first(from, left); }, whole);
    const Vec<T> result = clamp<T>(fold<T>(sums, plus) + bias, low, high);
    if (pixels == P && P * K == L) {
      store(a.out + p * K, result);
    } else {
      store_first<T>(a.out + p * K, result, pixels * K);
    }
  }
}

template <class T>
CONVPOOL_KERNEL void sum_channels(const ChannelSumArguments<T>& a) {
  unroll<lanes<T> / 2>([&](auto k) {
    if (a.outputs == k + 1) sum_channels_of_few<T, k + 1>(a);
  });
}

}  // namespace
}  // namespace convpool::kernels
