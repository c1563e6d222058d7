#pragma once

// The transforms of Winograd's algorithm on windows of six points, 0, +-sqrt(1/2), +-sqrt(2) and infinity, channels in
// the vectors. The way in is the same for all of F(5, 2), F(4, 3) and F(3, 4); along an axis that isn't transformed a
// window is one point.
//
// With the points so placed the rounding error of F(4x4, 3x3) stays at 1.5 to 2 times the direct sum's; 0, +-1, +-2
// would give 4 times (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep
// neural networks", 2020).

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T>
inline constexpr T root = T(1.41421356237309504880);
template <class T>
inline constexpr T half_root = T(0.70710678118654752440);

/// base to the power n.
constexpr double power(double base, int n) { return n == 0 ? 1 : base * power(base, n - 1); }

/// Six values along one axis, `from(i)`, to the six that multiply the transformed weights.
template <class T, int Points, class From, class To>
CONVPOOL_INLINE void winograd_input_line(From&& from, To&& to) {
  if constexpr (Points == 1) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else {
    const Vec<T> d0 = from(Constant<0>{}), d1 = from(Constant<1>{}), d2 = from(Constant<2>{}), d3 = from(Constant<3>{}),
                 d4 = from(Constant<4>{}), d5 = from(Constant<5>{});
    to(Constant<0>{}, d0 - T(2.5) * d2 + d4);
    const Vec<T> u = d4 - T(2) * d2, v = half_root<T> * (d3 - T(2) * d1);
    to(Constant<1>{}, u + v);
    to(Constant<2>{}, u - v);
    const Vec<T> w = d4 - T(0.5) * d2, z = root<T> * (d3 - T(0.5) * d1);
    to(Constant<3>{}, w + z);
    to(Constant<4>{}, w - z);
    to(Constant<5>{}, d1 - T(2.5) * d3 + d5);
  }
}

/// Six products along one axis to the first `Results` values of a polynomial's powers: result i is the sum over the
/// points of p^i times the product there; the last one has the product at infinity on top.
template <class T, int Results, class From, class To>
CONVPOOL_INLINE void winograd_output_line(From&& from, To&& to) {
  if constexpr (Results == 1) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else {
    const Vec<T> m1 = from(Constant<1>{}), m2 = from(Constant<2>{}), m3 = from(Constant<3>{}), m4 = from(Constant<4>{});
    const Vec<T> sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
    to(Constant<0>{}, from(Constant<0>{}) + sum_a + sum_b);
    unroll<Results - 1>([&](auto before) {
      constexpr int i = before + 1;
      constexpr T a = T(i % 2 == 0 ? power(0.5, i / 2) : power(0.5, i / 2) * half_root<double>);
      constexpr T b = T(i % 2 == 0 ? power(2, i / 2) : power(2, i / 2) * root<double>);
      const Vec<T>& from_a = i % 2 == 0 ? sum_a : difference_a;
      const Vec<T>& from_b = i % 2 == 0 ? sum_b : difference_b;
      if constexpr (i == Results - 1) {
        to(Constant<i>{}, a * from_a + (b * from_b + from(Constant<5>{})));
      } else {
        to(Constant<i>{}, a * from_a + b * from_b);
      }
    });
  }
}

/// Up to four weights along one axis to six: the polynomial g0 + g1 p + g2 p^2 ... at each point, divided by the
/// product of the point's distances from the others (1, -3/2, 6); last, at infinity, its leading coefficient.
template <class T, int Taps, class From, class To>
CONVPOOL_INLINE void winograd_weight_line(From&& from, To&& to) {
  if constexpr (Taps == 1) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else {
    Vec<T> even_a = from(Constant<0>{}), even_b = even_a, odd_a = from(Constant<1>{}), odd_b = odd_a;
    to(Constant<0>{}, even_a);
    unroll<Taps - 2>([&](auto before) {
      constexpr int i = before + 2;
      const Vec<T> g = from(Constant<i>{});
      constexpr T a = T(power(0.5, i / 2)), b = T(power(2, i / 2));
      if constexpr (i % 2 == 0) {
        even_a += a * g;
        even_b += b * g;
      } else {
        odd_a += a * g;
        odd_b += b * g;
      }
    });
    even_a *= T(-2.0 / 3);
    odd_a *= T(-half_root<double> * 2 / 3);
    even_b *= T(1.0 / 6);
    odd_b *= T(root<double> / 6);
    to(Constant<1>{}, even_a + odd_a);
    to(Constant<2>{}, even_a - odd_a);
    to(Constant<3>{}, even_b + odd_b);
    to(Constant<4>{}, even_b - odd_b);
    to(Constant<5>{}, from(Constant<Taps - 1>{}));
  }
}

constexpr int winograd_points(int results) { return results == 1 ? 1 : 6; }
constexpr int winograd_taps(int results) { return results == 1 ? 1 : 7 - results; }

/// Weights, one vector of output channels each, tap after tap for each input channel, to the elements of a window,
/// `element` apart.
template <class T, int H, int W>
CONVPOOL_KERNEL void winograd_weight(const T* in, ptrdiff_t channels, T* out, ptrdiff_t element) {
  constexpr int L = lanes<T>;
  constexpr int taps_h = winograd_taps(H), taps_w = winograd_taps(W);
  constexpr int points_h = winograd_points(H), points_w = winograd_points(W);
  for (ptrdiff_t c = 0; c < channels; ++c) {
    Vec<T> columns[points_h][taps_w];
    unroll<taps_w>([&](auto x) {
      winograd_weight_line<T, taps_h>([&](auto y) { return load(in + ((c * taps_h + y) * taps_w + x) * L); },
                                      [&](auto y, Vec<T> value) { columns[y][x] = value; });
    });
    unroll<points_h>([&](auto y) {
      winograd_weight_line<T, taps_w>(
          [&](auto x) { return columns[y][x]; },
          [&](auto x, Vec<T> value) { store(out + (y * points_w + x) * element + c * L, value); });
    });
  }
}

template <class T, int H, int W>
CONVPOOL_KERNEL void winograd_input(const WinogradInputArguments<T>& a) {
  for (ptrdiff_t t = 0; t < a.tiles; ++t) {
    const T* in = a.in + t * a.in_tile;
    T* out = a.out + t * a.out_tile;
    Vec<T> columns[H][W];
    unroll<W>([&](auto x) {
      winograd_input_line<T, H>([&](auto y) { return load(in + y * a.in_row + x * a.in_pixel); },
                                [&](auto y, Vec<T> value) { columns[y][x] = value; });
    });
    unroll<H>([&](auto y) {
      winograd_input_line<T, W>([&](auto x) { return columns[y][x]; },
                                [&](auto x, Vec<T> value) { store(out + (y * W + x) * a.out_element, value); });
    });
  }
}

template <class T, int H, int W>
CONVPOOL_KERNEL bool winograd_output(const WinogradOutputArguments<T>& a) {
  constexpr int L = lanes<T>;
  constexpr int points_w = winograd_points(W);
  const Vec<T> low = broadcast(a.low), high = broadcast(a.high);
  Vec<T> zeros{};  // stays zero while all results are finite
  for (ptrdiff_t t = 0; t < a.tiles; ++t) {
    for (ptrdiff_t v = 0; v < a.vectors; ++v) {
      const T* in = a.in + t * a.in_tile + v * L;
      T* out = a.out + t * a.out_tile + v * L;
      const Vec<T> bias = load(a.bias + v * L);
      Vec<T> columns[H][points_w];
      unroll<points_w>([&](auto x) {
        winograd_output_line<T, H>([&](auto y) { return load(in + (y * points_w + x) * a.in_element); },
                                   [&](auto y, Vec<T> value) { columns[y][x] = value; });
      });
      unroll<H>([&](auto y) {
        winograd_output_line<T, W>([&](auto x) { return columns[y][x]; },
                                   [&](auto x, Vec<T> value) {
                                     value += bias;
                                     zeros += value * T(0);
                                     store(out + y * a.out_row + x * a.out_pixel, clamp<T>(value, low, high));
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

template <class T, int H, int W>
constexpr void fill_winograd_results(Table<T>& table) {
  table.winograd_weight[H][W] = winograd_weight<T, H, W>;
  table.winograd_output[H][W] = winograd_output<T, H, W>;
}

template <class T>
constexpr void fill_winograd(Table<T>& table) {
  table.winograd_input[0][1] = winograd_input<T, 1, 6>;
  table.winograd_input[1][0] = winograd_input<T, 6, 1>;
  table.winograd_input[1][1] = winograd_input<T, 6, 6>;
  unroll<3>([&](auto h) {
    fill_winograd_results<T, 1, h + 3>(table);
    fill_winograd_results<T, h + 3, 1>(table);
    unroll<3>([&](auto w) { fill_winograd_results<T, h + 3, w + 3>(table); });
  });
}

}  // namespace
}  // namespace convpool::kernels
