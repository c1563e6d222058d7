#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "convpool/convpool.hpp"
#include "random_arrays.hpp"

using namespace convpool;
using convpool::testing::Array;
using convpool::testing::random_values;
using convpool::testing::uniform;
using std::int64_t;

namespace {

using Shape4 = std::array<int64_t, 4>;

/// The definition, in double; with the sum of the products' sizes, from which a bound on the rounding error follows.
template <class T>
struct Expected {
  double value, magnitude;
};

template <class T>
Expected<T> expected(const TensorView<const T>& x, const TensorView<const T>& w, const T* bias, const Conv2dParams& p,
                     int64_t top, int64_t left, int64_t n, int64_t k, int64_t oh, int64_t ow) {
  const int64_t group = k / (w.size(0) / p.groups);
  double sum = bias != nullptr ? static_cast<double>(bias[k]) : 0, magnitude = std::fabs(sum);
  for (int64_t c = 0; c < w.size(1); ++c) {
    for (int64_t i = 0; i < w.size(2); ++i) {
      for (int64_t j = 0; j < w.size(3); ++j) {
        const int64_t y = oh * p.stride[0] + i * p.dilation[0] - top, z = ow * p.stride[1] + j * p.dilation[1] - left;
        if (y < 0 || y >= x.size(2) || z < 0 || z >= x.size(3)) continue;
        const double product =
            static_cast<double>(x(n, group * w.size(1) + c, y, z)) * static_cast<double>(w(k, c, i, j));
        sum += product;
        magnitude += std::fabs(product);
      }
    }
  }
  return {sum, magnitude};
}

template <class T>
bool refuses(const TensorView<const T>& x, const TensorView<const T>& w, const Conv2dParams& p) {
  const Shape4 shape = conv2d_output_shape(x.shape, w.shape, p);
  std::vector<T> y(static_cast<std::size_t>(shape[0] * shape[1] * shape[2] * shape[3]));
  try {
    conv2d<T>(x, w, nullptr, TensorView<T>::nchw(y.data(), shape[0], shape[1], shape[2], shape[3]), p);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

template <class T>
void check_random_case() {
  Conv2dParams p;
  p.groups = uniform(1, 3);
  const int64_t cg = uniform(0, 3) == 0 ? 1 : uniform(1, 40), kg = uniform(1, 36);
  const Shape4 w_shape{p.groups * kg, cg, uniform(1, 4), uniform(1, 5)};
  p.stride = {uniform(1, 3), uniform(1, 3)};
  p.dilation = {uniform(1, 2), uniform(1, 3)};
  const int64_t top = uniform(0, 3), left = uniform(0, 4);
  p.padding = Padding::sides(top, uniform(0, 3), left, uniform(0, 4));
  const Shape4 x_shape{uniform(1, 2), p.groups * cg, uniform(1, 12) + p.dilation[0] * (w_shape[2] - 1),
                       uniform(1, 40) + p.dilation[1] * (w_shape[3] - 1)};
  const Shape4 y_shape = conv2d_output_shape(x_shape, w_shape, p);
  const bool channels_last = uniform(0, 1) == 1;
  Array<T> x(x_shape, channels_last, true), w(w_shape, false, true);
  const std::vector<T> bias = random_values<T>(w_shape[0]);
  const T* const b = uniform(0, 1) == 1 ? bias.data() : nullptr;
  CAPTURE(x_shape);
  CAPTURE(w_shape);
  CAPTURE(channels_last);
  for (const std::string& name : available_isas()) {
    set_isa(name);
    for (const Algorithm algorithm :
         {Algorithm::automatic, Algorithm::naive, Algorithm::im2col, Algorithm::implicit_gemm, Algorithm::direct,
          Algorithm::winograd, Algorithm::depthwise}) {
      if (algorithm == Algorithm::depthwise && cg != 1 && (p.groups == 1 || cg > 16)) continue;
      p.algorithm = algorithm;
      if (algorithm == Algorithm::winograd && refuses<T>(x.view, w.view, p)) continue;
      // The sizes of Winograd's transforms multiply to at most 31 along an axis, for each part of the kernel; the
      // values are at most 1. See winograd_magnitude in tests/python/comparison.py.
      const double transforms =
          algorithm == Algorithm::automatic || algorithm == Algorithm::winograd
              ? static_cast<double>(31 * 31 * cg * ((w_shape[2] + 1) / 2) * ((w_shape[3] + 1) / 2))
              : 0;
      CAPTURE(name);
      CAPTURE(static_cast<int>(algorithm));
      Array<T> y(y_shape, channels_last, false), y2(y_shape, channels_last, false),
          planned(y_shape, channels_last, false);
      conv2d<T>(x.view, w.view, b, y.view, p, 1);
      conv2d<T>(x.view, w.view, b, y2.view, p, 3);
      Conv2dPlan<T>(w.view, b, p)(x.view, planned.view, 2);
      CHECK(std::memcmp(y.values.data(), y2.values.data(), y.values.size() * sizeof(T)) == 0);
      // An array in the other layout is added to the finished sum.
      Array<T> added(y_shape, !channels_last, true), sums(y_shape, channels_last, false);
      conv2d<T>(x.view, w.view, b, added.view, sums.view, p);
      bool exact = true;
      for (int64_t i = 0; i < y_shape[0] * y_shape[1] * y_shape[2] * y_shape[3]; ++i) {
        const int64_t ow = i % y_shape[3], oh = i / y_shape[3] % y_shape[2],
                      k = i / y_shape[3] / y_shape[2] % y_shape[1];
        const int64_t n = i / y_shape[3] / y_shape[2] / y_shape[1];
        exact = exact && sums.view(n, k, oh, ow) == y.view(n, k, oh, ow) + added.view(n, k, oh, ow);
      }
      CHECK(exact);
      double worst = 0;
      for (int64_t n = 0; n < y_shape[0]; ++n) {
        for (int64_t k = 0; k < y_shape[1]; ++k) {
          for (int64_t oh = 0; oh < y_shape[2]; ++oh) {
            for (int64_t ow = 0; ow < y_shape[3]; ++ow) {
              const auto e = expected<T>(x.view, w.view, b, p, top, left, n, k, oh, ow);
              // Each of the at most R + 1 additions rounds once, relative to the partial sum.
              const double bound = static_cast<double>(cg * w_shape[2] * w_shape[3] + 2) *
                                   static_cast<double>(std::numeric_limits<T>::epsilon()) *
                                   (e.magnitude + transforms + 1e-30);
              worst = std::max(worst, std::fabs(static_cast<double>(y.view(n, k, oh, ow)) - e.value) / bound);
              worst = std::max(worst, std::fabs(static_cast<double>(planned.view(n, k, oh, ow)) - e.value) / bound);
            }
          }
        }
      }
      CHECK(worst <= 1);
    }
  }
}

struct RestoreIsa {
  std::string name = isa();
  ~RestoreIsa() { set_isa(name); }
};

}  // namespace

TEST_CASE("conv2d: every algorithm and ISA against the definition") {
  const RestoreIsa restore;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const int cases = 12;
#else
  const int cases = 60;
#endif
  for (int i = 0; i < cases; ++i) {
    check_random_case<float>();
    check_random_case<double>();
  }
}

TEST_CASE("conv2d: rows of any width, read up to the last element of the array") {
  const RestoreIsa restore;
  for (const std::string& name : available_isas()) {
    set_isa(name);
    for (const int64_t kernel : {1, 3}) {
      for (const int64_t channels : {2, 9}) {
        for (int64_t width = 1; width <= 50; width += width < 35 ? 1 : 5) {
          Conv2dParams p;
          p.algorithm = Algorithm::direct;
          const Shape4 x_shape{2, channels, 5, width + kernel - 1}, w_shape{uniform(1, 20), channels, kernel, kernel};
          const Shape4 y_shape = conv2d_output_shape(x_shape, w_shape, p);
          Array<float> x(x_shape, false, true), w(w_shape, false, true), y(y_shape, false, false),
              y2(y_shape, false, false);
          conv2d<float>(x.view, w.view, nullptr, y.view, p, 1);
          conv2d<float>(x.view, w.view, nullptr, y2.view, p, 2);
          CAPTURE(name);
          CAPTURE(x_shape);
          CAPTURE(w_shape);
          CHECK(y.values == y2.values);
          bool right = true;
          for (int64_t i = 0; i < static_cast<int64_t>(y.values.size()); ++i) {
            const int64_t ow = i % y_shape[3], oh = i / y_shape[3] % y_shape[2],
                          k = i / y_shape[3] / y_shape[2] % y_shape[1], n = i / y_shape[3] / y_shape[2] / y_shape[1];
            const auto e = expected<float>(x.view, w.view, nullptr, p, 0, 0, n, k, oh, ow);
            right = right && std::fabs(static_cast<double>(y.view(n, k, oh, ow)) - e.value) <= 1e-5 * e.magnitude;
          }
          CHECK(right);
        }
      }
    }
  }
}

TEST_CASE("conv2d: any strides in and out") {
  // A crop of a flipped image with a channel left out, written into every second column of a larger array.
  Array<float> big({1, 6, 12, 40}, false, true), weight({5, 3, 3, 3}, false, true), out({1, 5, 10, 64}, false, false);
  TensorView<const float> input{big.values.data() + 10 * 40 + 35, {1, 3, 10, 30}, {0, 2 * 12 * 40, -40, -1}};
  TensorView<float> output{out.values.data(), {1, 5, 8, 28}, {0, 640, 64, 2}};
  conv2d<float>(input, weight.view, nullptr, output);
  for (int64_t k = 0; k < 5; ++k) {
    for (int64_t oh = 0; oh < 8; ++oh) {
      for (int64_t ow = 0; ow < 28; ++ow) {
        const auto e = expected<float>(input, weight.view, nullptr, {}, 0, 0, 0, k, oh, ow);
        CHECK(output(0, k, oh, ow) == doctest::Approx(e.value).epsilon(1e-5));
        CHECK(out.values[static_cast<std::size_t>(k * 640 + oh * 64 + 2 * ow + 1)] == -77);
      }
    }
  }
}

TEST_CASE("conv2d: an empty batch, a wrong output, no data, shared memory") {
  Array<float> x({0, 3, 8, 8}, false, true), w({4, 3, 3, 3}, false, true), y({0, 4, 6, 6}, false, false);
  conv2d<float>(x.view, w.view, nullptr, y.view);
  Array<float> x1({1, 3, 8, 8}, false, true), y1({1, 4, 6, 7}, false, false);
  CHECK_THROWS_AS(conv2d<float>(x1.view, w.view, nullptr, y1.view), std::invalid_argument);
  TensorView<float> null = TensorView<float>::nchw(nullptr, 1, 4, 6, 6);
  CHECK_THROWS_AS(conv2d<float>(x1.view, w.view, nullptr, null), std::invalid_argument);
  TensorView<float> same = TensorView<float>::nchw(y1.values.data(), 1, 4, 6, 6);
  same.strides[1] = 0;
  CHECK_THROWS_AS(conv2d<float>(x1.view, w.view, nullptr, same), std::invalid_argument);
  Conv2dParams depthwise;
  depthwise.algorithm = Algorithm::depthwise;
  TensorView<float> good = TensorView<float>::nchw(y1.values.data(), 1, 4, 6, 6);
  CHECK_THROWS_AS(conv2d<float>(x1.view, w.view, nullptr, good, depthwise), std::invalid_argument);
  CHECK_THROWS_AS(conv2d<float>(x1.view, w.view, nullptr, good, {}, -1), std::invalid_argument);
}

TEST_CASE("conv2d: what is added has the result's shape, and measuring takes a plan") {
  Array<float> x({1, 3, 8, 8}, false, true), w({4, 3, 3, 3}, false, true), y({1, 4, 6, 6}, false, false);
  Array<float> wrong({1, 4, 6, 7}, false, true), right({1, 4, 6, 6}, false, true);
  const Conv2dPlan<float> plan(w.view, nullptr);
  CHECK_THROWS_WITH_AS(conv2d<float>(x.view, w.view, nullptr, wrong.view, y.view), doctest::Contains("add"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(plan(x.view, wrong.view, y.view), doctest::Contains("(1, 4, 6, 7)"), std::invalid_argument);
  const TensorView<const float> null{nullptr, right.view.shape, right.view.strides};
  CHECK_THROWS_WITH_AS(plan(x.view, null, y.view), doctest::Contains("add has no data"), std::invalid_argument);
  plan(x.view, right.view, y.view);
  Conv2dParams p;
  p.algorithm = Algorithm::benchmark;
  CHECK_THROWS_WITH_AS(conv2d<float>(x.view, w.view, nullptr, y.view, p), doctest::Contains("prepared layer"),
                       std::invalid_argument);
  CHECK_THROWS_AS(plan.describe(x.view, y.view, {}, -1), std::invalid_argument);
}

TEST_CASE("conv2d: threads that make the first calls of a plan that measures") {
  Array<float> w({24, 12, 3, 3}, false, true), x({1, 12, 21, 22}, false, true), other({1, 12, 15, 30}, false, true);
  Conv2dParams p;
  p.algorithm = Algorithm::benchmark;
  const Conv2dPlan<float> plan(w.view, nullptr, p);
  std::vector<Array<float>> results, others;
  for (int t = 0; t < 4; ++t) {
    results.emplace_back(Shape4{1, 24, 19, 20}, false, false);
    others.emplace_back(Shape4{1, 24, 13, 28}, false, false);
  }
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        plan(x.view, results[t].view, 1);
        plan(other.view, others[t].view, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t t = 1; t < results.size(); ++t) {
    CHECK(results[t].values == results[0].values);
    CHECK(others[t].values == others[0].values);
  }
}

TEST_CASE("conv2d: a plan outlives its weights and is shared by threads") {
  auto weight = std::make_unique<Array<float>>(Shape4{8, 4, 3, 3}, false, true);
  Array<float> x({2, 4, 9, 20}, false, true), reference({2, 8, 7, 18}, false, false);
  conv2d<float>(x.view, weight->view, nullptr, reference.view, {}, 1);
  const Conv2dPlan<float> plan(weight->view, nullptr);
  weight.reset();
  std::vector<std::thread> threads;
  std::vector<Array<float>> results;
  for (int t = 0; t < 4; ++t) results.emplace_back(Shape4{2, 8, 7, 18}, false, false);
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) plan(x.view, results[t].view, 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) {
    for (std::size_t i = 0; i < result.values.size(); ++i)
      CHECK(result.values[i] == doctest::Approx(reference.values[i]).epsilon(1e-5));
  }
  CHECK(plan.explain(x.view, reference.view).find("algorithm: ") == 0);
}

TEST_CASE("conv2d: activations") {
  const auto apply = [](Activation activation, float x) {
    Conv2dParams params;
    params.activation = activation;
    const float one = 1;
    float y = 0;
    conv2d<float>(TensorView<const float>::nchw(&x, 1, 1, 1, 1), TensorView<const float>::nchw(&one, 1, 1, 1, 1),
                  nullptr, TensorView<float>::nchw(&y, 1, 1, 1, 1), params);
    return y;
  };
  for (const float x : {-200.0F, -90.0F, -4.0F, -3.0F, -1.5F, -0.1F, 0.0F, 0.3F, 2.0F, 5.9F, 7.0F, 90.0F, 200.0F}) {
    CAPTURE(x);
    const double s = 1 / (1 + std::exp(-static_cast<double>(x)));
    CHECK(apply(Activation::none, x) == x);
    CHECK(apply(Activation::relu, x) == (x > 0 ? x : 0));
    CHECK(apply(Activation::relu6, x) == (x < 0 ? 0 : x > 6 ? 6 : x));
    CHECK(std::fabs(apply(Activation::sigmoid, x) - s) <= 3e-7 * s + 1e-37);
    CHECK(std::fabs(apply(Activation::silu, x) - x * s) <= 3e-7 * std::fabs(x * s) + 1e-35);
    CHECK(apply(Activation::hardswish, x) ==
          doctest::Approx(x * std::min(std::max(x + 3.0F, 0.0F), 6.0F) / 6).epsilon(1e-6));
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation a :
       {Activation::relu, Activation::relu6, Activation::sigmoid, Activation::hardswish, Activation::silu}) {
    CHECK(std::isnan(apply(a, nan)));
  }
}

// A row that is part in place, part copied: the copied part holds few channels at a time, the other all of them.
TEST_CASE("conv2d: many channels") {
  Array<float> x({1, 1024, 4, 40}, false, true), w({6, 1024, 1, 1}, false, true), y({1, 6, 4, 40}, false, false);
  Conv2dParams p;
  p.algorithm = Algorithm::direct;
  for (const int threads : {1, 2}) {
    conv2d<float>(x.view, w.view, nullptr, y.view, p, threads);
    const auto e = expected<float>(x.view, w.view, nullptr, p, 0, 0, 0, 5, 3, 39);
    CHECK(y.view(0, 5, 3, 39) == doctest::Approx(e.value).epsilon(1e-4));
  }
}
