#pragma once

// What the arithmetic units can do at best, for comparison.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// `steps` rounds of 12 independent fused multiply-adds (enough for 4 cycles of latency at 3 a cycle), nothing but
/// registers.
template <class T>
double multiply_add_rounds(ptrdiff_t steps, T* result) {
  constexpr int chains = 12;
  Vec<T> acc[chains];
  unroll<chains>([&](auto i) { acc[i] = broadcast(T(i)); });
  const Vec<T> factor = pinned(broadcast(T(0.5))), term = pinned(broadcast(T(1)));
  for (ptrdiff_t s = 0; s < steps; ++s) {
    unroll<chains>([&](auto i) { acc[i] = acc[i] * factor + term; });
  }
  Vec<T> sum{};
  unroll<chains>([&](auto i) { sum += acc[i]; });
  *result = sum[0];
  return 2.0 * chains * lanes<T> * static_cast<double>(steps);
}

}  // namespace
}  // namespace convpool::kernels
