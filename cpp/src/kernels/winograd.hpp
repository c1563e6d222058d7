#pragma once

// The transforms of Winograd's F(4x4, 3x3) with the points 0, +-sqrt(1/2), +-sqrt(2) and infinity, channels in the
// vectors.
//
// With the points so placed the rounding error stays at 1.5 to 2 times the direct sum's; 0, +-1, +-2 would give 4 times
// (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural networks",
// 2020).

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T>
inline constexpr T root = T(1.41421356237309504880);
template <class T>
inline constexpr T half_root = T(0.70710678118654752440);

/// Six values along one axis, `from(i)`, to the six that multiply the transformed weights.
template <class T, class From, class To>
CONVPOOL_INLINE void winograd_input_line(From&& from, To&& to) {
  const Vec<T> d0 = from(0), d1 = from(1), d2 = from(2), d3 = from(3), d4 = from(4), d5 = from(5);
  to(0, d0 - T(2.5) * d2 + d4);
  const Vec<T> u = d4 - T(2) * d2, v = half_root<T> * (d3 - T(2) * d1);
  to(1, u + v);
  to(2, u - v);
  const Vec<T> w = d4 - T(0.5) * d2, z = root<T> * (d3 - T(0.5) * d1);
  to(3, w + z);
  to(4, w - z);
  to(5, d1 - T(2.5) * d3 + d5);
}

/// Six products along one axis to four results.
template <class T, class From, class To>
CONVPOOL_INLINE void winograd_output_line(From&& from, To&& to) {
  const Vec<T> m1 = from(1), m2 = from(2), m3 = from(3), m4 = from(4);
  const Vec<T> sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
  to(0, from(0) + sum_a + sum_b);
  to(1, half_root<T> * difference_a + root<T> * difference_b);
  to(2, T(0.5) * sum_a + T(2) * sum_b);
  to(3, T(0.5) * half_root<T> * difference_a + (T(2) * root<T> * difference_b + from(5)));
}

/// Three weights along one axis to six: the polynomial g0 + g1 p + g2 p^2 at each point, divided by the product of the
/// point's distances from the others (1, -3/2, 6); last, at infinity, its leading coefficient.
template <class T, class From, class To>
CONVPOOL_INLINE void winograd_weight_line(From&& from, To&& to) {
  const Vec<T> g0 = from(0), g1 = from(1), g2 = from(2);
  const Vec<T> even_a = (g0 + T(0.5) * g2) * T(-2.0 / 3), odd_a = g1 * T(-half_root<double> * 2 / 3);
  const Vec<T> even_b = (g0 + T(2) * g2) * T(1.0 / 6), odd_b = g1 * T(root<double> / 6);
  to(0, g0);
  to(1, even_a + odd_a);
  to(2, even_a - odd_a);
  to(3, even_b + odd_b);
  to(4, even_b - odd_b);
  to(5, g2);
}

/// 3x3 weights, one vector of output channels each, tap after tap for each input channel, to 36 elements `element`
/// apart.
template <class T>
CONVPOOL_KERNEL void winograd_weight(const T* in, ptrdiff_t channels, T* out, ptrdiff_t element) {
  constexpr int L = lanes<T>;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    Vec<T> columns[6][3];
    unroll<3>([&](auto x) {
      winograd_weight_line<T>([&](auto y) { return load(in + (c * 9 + y * 3 + x) * L); },
                              [&](auto y, Vec<T> value) { columns[y][x] = value; });
    });
    unroll<6>([&](auto y) {
      winograd_weight_line<T>([&](auto x) { return columns[y][x]; },
                              [&](auto x, Vec<T> value) { store(out + (y * 6 + x) * element + c * L, value); });
    });
  }
}

template <class T>
CONVPOOL_KERNEL void winograd_input(const WinogradInputArguments<T>& a) {
  constexpr int L = lanes<T>;
  for (ptrdiff_t t = 0; t < a.tiles; ++t) {
    const T* in = a.in + t * 4 * L;
    T* out = a.out + t * a.out_tile;
    Vec<T> columns[6][6];
    unroll<6>([&](auto x) {
      winograd_input_line<T>([&](auto y) { return load(in + y * a.in_row + x * L); },
                             [&](auto y, Vec<T> value) { columns[y][x] = value; });
    });
    unroll<6>([&](auto y) {
      winograd_input_line<T>([&](auto x) { return columns[y][x]; },
                             [&](auto x, Vec<T> value) { store(out + (y * 6 + x) * a.out_element, value); });
    });
  }
}

template <class T>
CONVPOOL_KERNEL bool winograd_output(const WinogradOutputArguments<T>& a) {
  constexpr int L = lanes<T>;
  const Vec<T> low = broadcast(a.low), high = broadcast(a.high);
  Vec<T> zeros{};  // stays zero while all results are finite
  for (ptrdiff_t t = 0; t < a.tiles; ++t) {
    for (ptrdiff_t v = 0; v < a.vectors; ++v) {
      const T* in = a.in + t * a.in_tile + v * L;
      const Vec<T> bias = load(a.bias + v * L);
      Vec<T> columns[4][6];
      unroll<6>([&](auto x) {
        winograd_output_line<T>([&](auto y) { return load(in + (y * 6 + x) * a.in_element); },
                                [&](auto y, Vec<T> value) { columns[y][x] = value; });
      });
      unroll<4>([&](auto y) {
        winograd_output_line<T>([&](auto x) { return columns[y][x]; },
                                [&](auto x, Vec<T> value) {
                                  value += bias;
                                  zeros += value * T(0);
                                  store(a.out + y * a.out_row + (4 * t + x) * a.out_pixel + v * L,
                                        clamp<T>(value, low, high));
                                });
      });
    }
  }
  alignas(vector_alignment) T stage[L];
  store(stage, zeros);
  bool finite = true;
  for (int i = 0; i < L; ++i) finite = finite && stage[i] == T(0);
  return finite;
}

}  // namespace
}  // namespace convpool::kernels
