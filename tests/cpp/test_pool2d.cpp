#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "convpool/convpool.hpp"
#include "random_arrays.hpp"

using namespace convpool;
using convpool::testing::Array;
using convpool::testing::uniform;
using std::int64_t;

namespace {

using Shape4 = std::array<int64_t, 4>;

template <class T>
void check_random_case() {
  AvgPool2dParams p;
  p.kernel = {uniform(1, 5), uniform(1, 5)};
  p.stride = {{uniform(1, 4), uniform(1, 4)}};
  p.dilation = {uniform(1, 2), uniform(1, 2)};
  p.ceil_mode = uniform(0, 1) == 1;
  p.count_include_pad = uniform(0, 1) == 1;
  const int64_t eh = p.dilation[0] * (p.kernel[0] - 1) + 1, ew = p.dilation[1] * (p.kernel[1] - 1) + 1;
  const int64_t top = uniform(0, eh - 1), bottom = uniform(0, eh - 1), left = uniform(0, ew - 1),
                right = uniform(0, ew - 1);
  p.padding = Padding::sides(top, bottom, left, right);
  const Shape4 x_shape{uniform(1, 2), uniform(1, 20), uniform(0, 9) + eh, uniform(0, 40) + ew};
  const Shape4 y_shape = pool2d_output_shape(x_shape, p);
  const bool channels_last = uniform(0, 1) == 1;
  Array<T> x(x_shape, channels_last, true);
  for (T& value : x.values) {
    if (uniform(0, 40) == 0) value = std::numeric_limits<T>::quiet_NaN();
    if (uniform(0, 5) == 0) value = T(0.5);  // ties
  }
  CAPTURE(x_shape);
  CAPTURE(channels_last);
  for (const std::string& name : available_isas()) {
    set_isa(name);
    CAPTURE(name);
    for (const int threads : {1, 2}) {
      Array<T> largest(y_shape, channels_last, false), same(y_shape, channels_last, false),
          mean(y_shape, channels_last, false);
      Array<int64_t> where(y_shape, channels_last, false);
      max_pool2d<T>(x.view, largest.view, {}, p, threads);
      max_pool2d<T>(x.view, same.view, where.view, p, threads);
      avg_pool2d<T>(x.view, mean.view, p, threads);
      int wrong = 0;
      for (int64_t n = 0; n < y_shape[0]; ++n) {
        for (int64_t c = 0; c < y_shape[1]; ++c) {
          for (int64_t oh = 0; oh < y_shape[2]; ++oh) {
            for (int64_t ow = 0; ow < y_shape[3]; ++ow) {
              T best = -std::numeric_limits<T>::infinity();
              int64_t index = -1, counted = 0, inside = 0;
              double sum = 0;
              for (int64_t i = 0; i < p.kernel[0]; ++i) {
                for (int64_t j = 0; j < p.kernel[1]; ++j) {
                  const int64_t y = oh * (*p.stride)[0] + i * p.dilation[0] - top,
                                z = ow * (*p.stride)[1] + j * p.dilation[1] - left;
                  if (y < x_shape[2] + bottom && z < x_shape[3] + right) ++counted;
                  if (y < 0 || z < 0 || y >= x_shape[2] || z >= x_shape[3]) continue;
                  const T value = x.view(n, c, y, z);
                  if (inside++ == 0) index = y * x_shape[3] + z;
                  if (value > best || std::isnan(value)) best = value, index = y * x_shape[3] + z;
                  sum += static_cast<double>(value);
                }
              }
              const auto equal = [](T a, T b) { return a == b || (std::isnan(a) && std::isnan(b)); };
              const int64_t divisor = p.count_include_pad ? counted : std::max<int64_t>(inside, 1);
              const double average = sum / static_cast<double>(divisor),
                           got = static_cast<double>(mean.view(n, c, oh, ow));
              const double bound = 30 * static_cast<double>(std::numeric_limits<T>::epsilon());
              wrong += !equal(largest.view(n, c, oh, ow), best);
              wrong += !equal(same.view(n, c, oh, ow), best);
              wrong += where.view(n, c, oh, ow) != index;
              wrong += !(std::fabs(average - got) <= bound || (std::isnan(average) && std::isnan(got)));
            }
          }
        }
      }
      CHECK(wrong == 0);
    }
  }
}

}  // namespace

TEST_CASE("pooling: every ISA against the definition") {
  const std::string before = isa();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int cases = 30;
#else
  const int cases = 200;
#endif
  for (int i = 0; i < cases; ++i) {
    check_random_case<float>();
    check_random_case<double>();
  }
  set_isa(before);
}

TEST_CASE("pooling: any strides, a mixed layout") {
  Array<double> x({2, 5, 9, 14}, true, true), y({2, 5, 4, 7}, false, false);
  Pool2dParams p;
  p.kernel = {2, 2};
  max_pool2d<double>(x.view, y.view, {}, p);
  TensorView<double> transposed{y.values.data(), {2, 5, 4, 7}, {140, 28, 1, 4}};
  Array<double> again({2, 5, 4, 7}, true, false);
  max_pool2d<double>(x.view, again.view, {}, p);
  for (int64_t c = 0; c < 5; ++c) CHECK(y.view(1, c, 3, 6) == again.view(1, c, 3, 6));
  max_pool2d<double>(x.view, transposed, {}, p);
  for (int64_t c = 0; c < 5; ++c) CHECK(transposed(1, c, 3, 6) == again.view(1, c, 3, 6));
}

TEST_CASE("pooling: positions with gaps between their rows") {
  Pool2dParams p;
  p.kernel = {9, 9};
  p.stride = {{1, 1}};
  p.padding = Padding::symmetric(4, 4);
  constexpr int64_t channels = 16, size = 10, pitch = size + 4;
  std::vector<float> x(channels * size * size), y(x.size());
  for (float& value : x) value = static_cast<float>(uniform(0, 1000));
  std::vector<int64_t> dense(x.size()), gaps(channels * size * pitch, -7);
  const auto in = TensorView<const float>::nchw(x.data(), 1, channels, size, size);
  const auto out = TensorView<float>::nchw(y.data(), 1, channels, size, size);
  auto at = TensorView<int64_t>::nchw(gaps.data(), 1, channels, size, size);
  at.strides = {channels * size * pitch, size * pitch, pitch, 1};
  for (const std::string& name : available_isas()) {
    CAPTURE(name);
    set_isa(name);
    max_pool2d<float>(in, out, TensorView<int64_t>::nchw(dense.data(), 1, channels, size, size), p, 1);
    max_pool2d<float>(in, out, at, p, 1);
    for (int64_t row = 0; row < channels * size; ++row) {
      for (int64_t column = 0; column < pitch; ++column) {
        const int64_t expected = column < size ? dense[static_cast<std::size_t>(row * size + column)] : -7;
        CHECK(gaps[static_cast<std::size_t>(row * pitch + column)] == expected);
      }
    }
    std::fill(gaps.begin(), gaps.end(), -7);
  }
  set_isa(available_isas().back());
}

TEST_CASE("pooling: one window over each plane") {
  Array<float> x({3, 7, 7, 9}, false, true), y({3, 7, 1, 1}, false, false);
  AvgPool2dParams p;
  p.kernel = {7, 9};
  avg_pool2d<float>(x.view, y.view, p);
  double sum = 0;
  for (int64_t i = 0; i < 63; ++i) sum += static_cast<double>(x.view.data[63 * 9 + i]);
  CHECK(y.view(1, 2, 0, 0) == doctest::Approx(sum / 63).epsilon(1e-5));
  p.divisor_override = -4;
  avg_pool2d<float>(x.view, y.view, p);
  CHECK(y.view(1, 2, 0, 0) == doctest::Approx(sum / -4).epsilon(1e-5));
  p.divisor_override = 0;
  CHECK_THROWS_AS(avg_pool2d<float>(x.view, y.view, p), std::invalid_argument);
}
