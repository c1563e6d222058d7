#pragma once

// The lanes of several vectors, each vector's combined into one lane of the result.

#include "transpose.hpp"

namespace convpool::kernels {
namespace {

/// Units of D elements of a and b in turn, half of them each. Units shorter than 16 bytes stay within those 16, which
/// takes one cheap instruction where a whole vector's would take two.
template <class T, int D, int Half, int... I>
CONVPOOL_INLINE Vec<T> units_in_turn(Vec<T> a, Vec<T> b, Indices<I...> all) {
  constexpr int block = 16 / int(sizeof(T));
  if constexpr (D < block) {
    return __builtin_shufflevector(a, b,
                                   (I % block / D % 2 * lanes<T> + I / block * block +
                                    (Half * (block / D / 2) + I % block / D / 2) * D + I % D)...);
  } else {
    return blocks_in_turn<T, D, Half>(a, b, all);
  }
}

/// Lane i of the result is all lanes of acc[i] combined, for as many vectors as one has lanes: neighbours are folded
/// into one until one is left, whose units of D lanes so far belong to D vectors each.
template <class T, int D = 1, class Combine>
CONVPOOL_INLINE Vec<T> fold(Vec<T>* acc, Combine combine) {
  if constexpr (D < lanes<T>) {
    using All = typename MakeIndices<lanes<T>>::type;
    unroll<lanes<T> / D / 2>([&](auto i) {
      const Vec<T> a = acc[2 * i], b = acc[2 * i + 1];
      acc[i] = combine(units_in_turn<T, D, 0>(a, b, All{}), units_in_turn<T, D, 1>(a, b, All{}));
    });
    return fold<T, 2 * D>(acc, combine);
  } else {
    return acc[0];
  }
}

}  // namespace
}  // namespace convpool::kernels
