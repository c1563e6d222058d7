#pragma once

// The lanes of several vectors, each vector's combined into one lane of the result.

#include "transpose.hpp"

namespace convpool::kernels {
namespace {

/// Lane i of the result is all lanes of acc[i] combined, for Count vectors, as many as one has lanes: pairs are folded
/// into one until one is left.
template <class T, int Count, class Combine>
CONVPOOL_INLINE Vec<T> fold(Vec<T>* acc, Combine combine) {
  if constexpr (Count > 1) {
    using All = typename MakeIndices<lanes<T>>::type;
    constexpr int half = Count / 2;
    unroll<half>([&](auto i) {
      const Vec<T> a = acc[i], b = acc[i + half];
      acc[i] = combine(interleave<T, 0>(a, b, All{}), interleave<T, 1>(a, b, All{}));
    });
    return fold<T, half>(acc, combine);
  } else {
    return acc[0];
  }
}

}  // namespace
}  // namespace convpool::kernels
