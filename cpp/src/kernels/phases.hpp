#pragma once

// A strided row taken apart, so that a vector of neighbouring results reads neighbouring elements.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T, int Odd, int... I>
CONVPOOL_INLINE Vec<T> every_second(Vec<T> a, Vec<T> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + Odd)...);
}

template <class T>
void split_phases(const T* in, ptrdiff_t columns, ptrdiff_t stride, T* phases, ptrdiff_t phase_pitch) {
  constexpr int L = lanes<T>;
  using All = typename MakeIndices<L>::type;
  ptrdiff_t x = 0;  // input column, a multiple of the stride
  if (stride == 2) {
    for (; x + 2 * L <= columns; x += 2 * L) {
      const Vec<T> a = load(in + x), b = load(in + x + L);
      store(phases + x / 2, every_second<T, 0>(a, b, All{}));
      store(phases + phase_pitch + x / 2, every_second<T, 1>(a, b, All{}));
    }
  }
  for (ptrdiff_t p = 0; p < stride; ++p) {
    T* out = phases + p * phase_pitch;
    for (ptrdiff_t i = x / stride, y = x + p; y < columns; ++i, y += stride) out[i] = in[y];
  }
}

}  // namespace
}  // namespace convpool::kernels
