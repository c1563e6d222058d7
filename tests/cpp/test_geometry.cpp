#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "convpool/convpool.hpp"
#include "geometry.hpp"

using namespace convpool;

namespace {

Shape4 conv_shape(const Shape4& input, const Shape4& weight, Conv2dParams params) {
  return conv2d_output_shape(input, weight, params);
}

Conv2dParams with(std::array<std::int64_t, 2> stride, Padding padding, std::array<std::int64_t, 2> dilation = {1, 1},
                  std::int64_t groups = 1) {
  Conv2dParams params;
  params.stride = stride;
  params.padding = padding;
  params.dilation = dilation;
  params.groups = groups;
  return params;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("output sizes of worked examples") {
  CHECK(conv_shape({1, 1, 227, 227}, {1, 1, 11, 11}, with({4, 4}, Padding::all(0))) == Shape4{1, 1, 55, 55});
  CHECK(conv_shape({1, 1, 64, 64}, {1, 1, 7, 7}, with({2, 2}, Padding::all(0))) == Shape4{1, 1, 29, 29});
  CHECK(conv_shape({1, 1, 32, 32}, {1, 1, 5, 5}, with({1, 1}, Padding::all(2))) == Shape4{1, 1, 32, 32});
  CHECK(conv_shape({1, 1, 32, 64}, {1, 1, 5, 5}, with({1, 1}, Padding::all(0))) == Shape4{1, 1, 28, 60});
  CHECK(conv_shape({1, 1, 64, 32}, {1, 1, 3, 3}, with({1, 1}, Padding::all(1))) == Shape4{1, 1, 64, 32});
  CHECK(conv_shape({20, 16, 50, 100}, {33, 16, 3, 5}, with({2, 1}, Padding::symmetric(4, 2), {3, 1})) ==
        Shape4{20, 33, 26, 100});
  CHECK(conv_shape({1, 3, 7, 7}, {1, 3, 3, 3}, with({2, 2}, Padding::all(1), {2, 2})) == Shape4{1, 1, 3, 3});
  CHECK(conv_shape({1, 1, 7, 9}, {1, 1, 5, 2}, with({1, 1}, Padding::sides(0, 0, 0, 1))) == Shape4{1, 1, 3, 9});
  CHECK(conv_shape({1, 1, 9, 9}, {1, 1, 3, 3}, with({1, 3}, Padding::all(0))) == Shape4{1, 1, 7, 3});
}

TEST_CASE("same, same_lower and full") {
  for (std::int64_t in = 1; in < 20; ++in) {
    for (std::int64_t k = 1; k < 6; ++k) {
      for (std::int64_t s = 1; s < 5; ++s) {
        for (std::int64_t d = 1; d < 4; ++d) {
          const Shape4 input{1, 1, in, in}, weight{1, 1, k, k};
          const auto same = conv2d_geometry(input, weight, with({s, s}, Padding::same(), {d, d}));
          const auto lower = conv2d_geometry(input, weight, with({s, s}, Padding::same_lower(), {d, d}));
          const auto full = conv2d_geometry(input, weight, with({s, s}, Padding::full(), {d, d}));
          CHECK(same.h.out == (in + s - 1) / s);
          CHECK(lower.w.out == same.w.out);
          CHECK(same.h.pad_end - same.h.pad_begin == (same.h.pad_begin + same.h.pad_end) % 2);
          CHECK(lower.h.pad_begin == same.h.pad_end);
          CHECK(full.h.out == (in + d * (k - 1) - 1) / s + 1);
        }
      }
    }
  }
}

TEST_CASE("ceil_mode drops a window that starts in the end padding") {
  Pool2dParams params;
  params.kernel = {2, 2};
  params.stride = {{2, 2}};
  params.ceil_mode = true;
  CHECK(pool2d_output_shape({1, 1, 5, 4}, params) == Shape4{1, 1, 3, 2});
  params.stride = {{3, 3}};
  params.padding = Padding::all(1);
  // Windows at -1 and 2 and, rounded up, at 5: past the input of 4, in the padding.
  CHECK(pool2d_output_shape({1, 1, 4, 4}, params) == Shape4{1, 1, 2, 2});
}

TEST_CASE("outputs and taps inside agree with their definition") {
  for (std::int64_t in = 1; in < 8; ++in) {
    for (std::int64_t k = 1; k < 5; ++k) {
      for (std::int64_t s = 1; s < 4; ++s) {
        for (std::int64_t d = 1; d < 4; ++d) {
          for (std::int64_t p = 0; p < 9; ++p) {
            if (in + 2 * p < d * (k - 1) + 1) continue;
            const Axis axis = conv2d_geometry({1, 1, in, in}, {1, 1, k, k}, with({s, s}, Padding::all(p), {d, d})).h;
            for (std::int64_t o = 0; o < axis.out; ++o) {
              for (std::int64_t t = 0; t < k; ++t) {
                const std::int64_t position = axis.start(o) + t * axis.dilation;
                const bool inside = position >= 0 && position < in;
                const Range outputs = axis.outputs_inside(t), taps = axis.taps_inside(o);
                CHECK((o >= outputs.begin && o < outputs.end) == inside);
                CHECK((t >= taps.begin && t < taps.end) == inside);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("padding modes show the right source") {
  // d c b | a b c d | c b a and so on, for a size of 4.
  CHECK(source_index(-1, 4, PaddingMode::zeros) == -1);
  CHECK(source_index(-2, 4, PaddingMode::reflect) == 2);
  CHECK(source_index(5, 4, PaddingMode::reflect) == 1);
  CHECK(source_index(-9, 4, PaddingMode::replicate) == 0);
  CHECK(source_index(7, 4, PaddingMode::replicate) == 3);
  CHECK(source_index(-1, 4, PaddingMode::circular) == 3);
  CHECK(source_index(5, 4, PaddingMode::circular) == 1);
}

TEST_CASE("bad arguments name themselves and their value") {
  const Shape4 input{1, 3, 8, 8}, weight{4, 3, 3, 3};
  const auto message = [&](const Shape4& in, const Shape4& w, const Conv2dParams& p) {
    return message_of([&] { conv2d_output_shape(in, w, p); });
  };
  CHECK(contains(message(input, weight, with({0, 1}, Padding::all(0))),
                 "stride must be at least 1 along both axes, got (0, 1)"));
  CHECK(contains(message(input, weight, with({1, -1}, Padding::all(0))), "(1, -1)"));
  CHECK(contains(message(input, weight, with({1, 1}, Padding::all(-1))), "padding must not be negative"));
  CHECK(contains(message(input, weight, with({1, 1}, Padding::all(0), {0, 1})), "dilation"));
  CHECK(contains(message(input, weight, with({1, 1}, Padding::all(0), {1, 1}, 3)),
                 "groups=3 must divide the output channels"));
  CHECK(contains(message(input, {4, 2, 3, 3}, with({1, 1}, Padding::all(0))), "expects C=2"));
  CHECK(contains(message(input, {4, 3, 9, 9}, with({1, 1}, Padding::all(0))), "larger") == false);
  CHECK(contains(message(input, {4, 3, 9, 9}, with({1, 1}, Padding::all(0))), "kernel_size (9, 9)"));
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  CHECK(contains(message(input, weight, with({1, 1}, Padding::all(0), {huge, 1})), "64 bits"));
  CHECK(contains(message(input, weight, with({1, 1}, Padding::all(huge))), "64 bits"));
  CHECK(contains(message({1, 3, 0, 8}, weight, with({1, 1}, Padding::all(2))), "empty image"));
  Conv2dParams reflect = with({1, 1}, Padding::all(8));
  reflect.padding_mode = PaddingMode::reflect;
  CHECK(contains(message(input, weight, reflect), "allows at most 7"));
  Pool2dParams pool;
  pool.kernel = {3, 3};
  pool.padding = Padding::all(2);
  CHECK(contains(message_of([&] { pool2d_output_shape(input, pool); }), "half the effective kernel"));
  pool.padding = Padding::sides(2, 2, 2, 2);
  CHECK(pool2d_output_shape(input, pool) == Shape4{1, 3, 4, 4});
  pool.padding = Padding::sides(3, 0, 0, 0);
  CHECK(contains(message_of([&] { pool2d_output_shape(input, pool); }), "at most 2 on each side"));
}

TEST_CASE("strides that let elements share memory are seen") {
  CHECK(strides_are_injective({2, 3, 4, 5}, {60, 20, 5, 1}));
  CHECK(strides_are_injective({2, 3, 4, 5}, {60, 1, 15, 3}));
  CHECK(strides_are_injective({2, 3, 4, 5}, {-60, 20, -5, 1}));
  CHECK(strides_are_injective({1, 1, 4, 5}, {0, 0, 5, 1}));
  CHECK_FALSE(strides_are_injective({2, 3, 4, 5}, {0, 20, 5, 1}));
  CHECK_FALSE(strides_are_injective({2, 3, 4, 5}, {60, 20, 4, 1}));
}
