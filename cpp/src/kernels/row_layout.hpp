#pragma once

// Rows made ready for vectors: with their padding around them, or taken apart by a stride so that neighbouring results
// read neighbouring elements.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T, int Odd, int... I>
CONVPOOL_INLINE Vec<T> every_second(Vec<T> a, Vec<T> b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + Odd)...);
}

template <class T>
CONVPOOL_KERNEL void split_phases(const SplitArguments<T>& s) {
  constexpr int L = lanes<T>;
  using All = typename MakeIndices<L>::type;
  for (ptrdiff_t r = 0; r < s.rows; ++r) {
    const T* in = s.in + r * s.in_row;
    T* out = s.out + r * s.out_row;
    ptrdiff_t x = 0;  // input column, a multiple of the stride
    if (s.stride == 2) {
      for (; x + 2 * L <= s.columns; x += 2 * L) {
        const Vec<T> a = load(in + x), b = load(in + x + L);
        store(out + x / 2, every_second<T, 0>(a, b, All{}));
        store(out + s.phase_pitch + x / 2, every_second<T, 1>(a, b, All{}));
      }
    }
    for (ptrdiff_t p = 0; p < s.stride; ++p) {
      for (ptrdiff_t i = x / s.stride, y = x + p; y < s.columns; ++i, y += s.stride) out[p * s.phase_pitch + i] = in[y];
    }
  }
}

template <class T>
CONVPOOL_INLINE void fill_run(T value, ptrdiff_t n, T* to) {
  constexpr int L = lanes<T>;
  if (n >= L) {
    for (ptrdiff_t x = 0; x + L <= n; x += L) store(to + x, broadcast(value));
    store(to + n - L, broadcast(value));
  } else {
    for (ptrdiff_t x = 0; x < n; ++x) to[x] = value;
  }
}

template <class T>
CONVPOOL_KERNEL void pad_rows(const PadArguments<T>& p) {
  const ptrdiff_t after = p.lead + p.columns;
  for (ptrdiff_t r = 0; r < p.rows; ++r) {
    T* out = p.out + r * p.out_row;
    fill_run(p.fill, p.lead, out);
    copy_run(p.in + r * p.in_row, p.columns, out + p.lead);
    fill_run(p.fill, p.total - after, out + after);
  }
}

}  // namespace
}  // namespace convpool::kernels
