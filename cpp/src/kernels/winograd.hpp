#pragma once

// The transforms of Winograd's algorithm, channels in the vectors: on windows of six points, 0, +-sqrt(1/2), +-sqrt(2)
// and infinity, for three and four taps; of five, 0, 1, -1/2, -2 and infinity, for two; and of nine pixels for three
// taps with stride 2: five points of the even pixels, then the four odd ones as they are.
//
// With six points so placed the rounding error of F(4x4, 3x3) stays at 1.5 to 2 times the direct sum's; 0, +-1, +-2
// would give 4 times (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep
// neural networks", 2020). F(4x4, 2x2) on the five is off by 2.1 times as much as the direct sum, on 0, +-1, 2 by 3.3
// times; with stride 2, where a half of the taps are taken as they are, it is 1.1 times.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

template <class T>
inline constexpr T root = T(1.41421356237309504880);
template <class T>
inline constexpr T half_root = T(0.70710678118654752440);

template <WinogradTransform X>
inline constexpr WinogradLine line_of = winograd_line(X);

/// base to the power n.
constexpr double power(double base, int n) { return n == 0 ? 1 : base * power(base, n - 1); }

/// Values along one axis, `from(i)`, to those that multiply the transformed weights.
template <class T, int Points, class From, class To>
CONVPOOL_INLINE void winograd_input_line(From&& from, To&& to) {
  if constexpr (Points == 1) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else if constexpr (Points == 9) {
    winograd_input_line<T, 5>([&](auto i) { return from(Constant<2 * i>{}); }, to);
    unroll<4>([&](auto i) { to(Constant<5 + i>{}, from(Constant<2 * i + 1>{})); });
  } else if constexpr (Points == 5) {
    const Vec<T> d0 = from(Constant<0>{}), d1 = from(Constant<1>{}), d2 = from(Constant<2>{}), d3 = from(Constant<3>{}),
                 d4 = from(Constant<4>{});
    to(Constant<0>{}, d0 - d3 + T(1.5) * (d1 - d2));
    to(Constant<1>{}, d1 + d3 + T(2.5) * d2);
    to(Constant<2>{}, d2 + d3 - T(2) * d1);
    to(Constant<3>{}, d3 - T(0.5) * (d1 + d2));
    to(Constant<4>{}, d4 - d1 + T(1.5) * (d3 - d2));
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

/// Products along one axis to results: result i is the sum over the points p of p^i times the product there; the last
/// one has the product at infinity on top.
template <class T, WinogradTransform X, class From, class To>
CONVPOOL_INLINE void winograd_output_line(From&& from, To&& to) {
  constexpr int results = line_of<X>.results;
  if constexpr (X == WinogradTransform::none) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else if constexpr (X == WinogradTransform::three_taps_stride_2) {
    winograd_output_line<T, WinogradTransform::two_taps>(
        from, [&](auto i, Vec<T> value) { to(i, value + from(Constant<5 + i>{})); });
  } else if constexpr (X == WinogradTransform::two_taps) {
    const Vec<T> m1 = from(Constant<1>{}), m2 = from(Constant<2>{}), m3 = from(Constant<3>{});
    to(Constant<0>{}, from(Constant<0>{}) + m1 + (m2 + m3));
    to(Constant<1>{}, m1 - T(0.5) * m2 - T(2) * m3);
    to(Constant<2>{}, m1 + T(0.25) * m2 + T(4) * m3);
    to(Constant<3>{}, m1 - T(0.125) * m2 - T(8) * m3 + from(Constant<4>{}));
  } else {
    const Vec<T> m1 = from(Constant<1>{}), m2 = from(Constant<2>{}), m3 = from(Constant<3>{}), m4 = from(Constant<4>{});
    const Vec<T> sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
    to(Constant<0>{}, from(Constant<0>{}) + sum_a + sum_b);
    unroll<results - 1>([&](auto before) {
      constexpr int i = before + 1;
      constexpr T a = T(i % 2 == 0 ? power(0.5, i / 2) : power(0.5, i / 2) * half_root<double>);
      constexpr T b = T(i % 2 == 0 ? power(2, i / 2) : power(2, i / 2) * root<double>);
      const Vec<T>& from_a = i % 2 == 0 ? sum_a : difference_a;
      const Vec<T>& from_b = i % 2 == 0 ? sum_b : difference_b;
      if constexpr (i == results - 1) {
        to(Constant<i>{}, a * from_a + (b * from_b + from(Constant<5>{})));
      } else {
        to(Constant<i>{}, a * from_a + b * from_b);
      }
    });
  }
}

/// Weights along one axis to those of the points: the polynomial g0 + g1 p + g2 p^2 ... at each, divided by the product
/// of the point's distances from the others; last, at infinity, its leading coefficient. Of six points those products
/// are 1, -3/2 and 6, of five -1, 9/2, 9/8 and -9, and the sign of the first is the way in's.
template <class T, WinogradTransform X, class From, class To>
CONVPOOL_INLINE void winograd_weight_line(From&& from, To&& to) {
  constexpr int taps = line_of<X>.taps;
  if constexpr (X == WinogradTransform::none) {
    to(Constant<0>{}, from(Constant<0>{}));
  } else if constexpr (X == WinogradTransform::three_taps_stride_2) {
    winograd_weight_line<T, WinogradTransform::two_taps>([&](auto i) { return from(Constant<2 * i>{}); }, to);
    to(Constant<5>{}, from(Constant<1>{}));
  } else if constexpr (X == WinogradTransform::two_taps) {
    const Vec<T> g0 = from(Constant<0>{}), g1 = from(Constant<1>{});
    to(Constant<0>{}, g0);
    to(Constant<1>{}, T(2.0 / 9) * (g0 + g1));
    to(Constant<2>{}, T(8.0 / 9) * (g0 - T(0.5) * g1));
    to(Constant<3>{}, T(1.0 / 9) * (T(2) * g1 - g0));
    to(Constant<4>{}, g1);
  } else {
    Vec<T> even_a = from(Constant<0>{}), even_b = even_a, odd_a = from(Constant<1>{}), odd_b = odd_a;
    to(Constant<0>{}, even_a);
    unroll<taps - 2>([&](auto before) {
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
    to(Constant<5>{}, from(Constant<taps - 1>{}));
  }
}

/// Weights, one vector of output channels each, tap after tap for each input channel, to the elements of a window,
/// `element` apart.
template <class T, WinogradTransform H, WinogradTransform W>
CONVPOOL_KERNEL void winograd_weight(const T* in, ptrdiff_t channels, T* out, ptrdiff_t element) {
  constexpr int L = lanes<T>;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    Vec<T> columns[line_of<H>.weights][line_of<W>.taps];
    unroll<line_of<W>.taps>([&](auto x) {
      winograd_weight_line<T, H>(
          [&](auto y) { return load(in + ((c * line_of<H>.taps + y) * line_of<W>.taps + x) * L); },
          [&](auto y, Vec<T> value) { columns[y][x] = value; });
    });
    unroll<line_of<H>.weights>([&](auto y) {
      winograd_weight_line<T, W>(
          [&](auto x) { return columns[y][x]; },
          [&](auto x, Vec<T> value) { store(out + (y * line_of<W>.weights + x) * element + c * L, value); });
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

template <class T, WinogradTransform H, WinogradTransform W>
CONVPOOL_KERNEL bool winograd_output(const WinogradOutputArguments<T>& a) {
  constexpr int L = lanes<T>;
  const Vec<T> low = broadcast(a.low), high = broadcast(a.high);
  Vec<T> zeros{};  // stays zero while all results are finite
  for (ptrdiff_t t = 0; t < a.tiles; ++t) {
    for (ptrdiff_t v = 0; v < a.vectors; ++v) {
      const T* in = a.in + t * a.in_tile + v * L;
      T* out = a.out + t * a.out_tile + v * L;
      const Vec<T> bias = load(a.bias + v * L);
      Vec<T> columns[line_of<H>.results][line_of<W>.points];
      unroll<line_of<W>.points>([&](auto x) {
        winograd_output_line<T, H>([&](auto y) { return load(in + (y * line_of<W>.points + x) * a.in_element); },
                                   [&](auto y, Vec<T> value) { columns[y][x] = value; });
      });
      unroll<line_of<H>.results>([&](auto y) {
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

template <class T>
constexpr void fill_winograd(Table<T>& table) {
  unroll<winograd_transforms>([&](auto h) {
    unroll<winograd_transforms>([&](auto w) {
      constexpr auto H = WinogradTransform{h.value}, W = WinogradTransform{w.value};
      constexpr int points_h = line_of<H>.points, points_w = line_of<W>.points;
      if constexpr (points_h * points_w > 1 && (points_h == points_w || points_h == 1 || points_w == 1)) {
        table.winograd[h][w] = {winograd_weight<T, H, W>, winograd_input<T, points_h, points_w>,
                                winograd_output<T, H, W>};
      }
    });
  });
}

}  // namespace
}  // namespace convpool::kernels
