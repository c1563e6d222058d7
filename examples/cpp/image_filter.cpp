// An image through a filter, from file to file:
//
//     image_filter blur|sharpen|emboss|edges INPUT.png OUTPUT.png
//     image_filter test OUTPUT.png            makes a picture to try it on
//
// Pixels stay as decoders give them, red, green and blue side by side: channels last is a matter of strides. The three
// colours are three groups of one channel, each with the same kernel.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "convpool/convpool.hpp"
#include "image_file.hpp"

namespace {

using convpool::TensorView;

struct Filter {
  std::int64_t size;
  std::vector<float> kernel;
  float offset;
};

Filter gaussian(std::int64_t size, float sigma) {
  Filter filter{size, {}, 0};
  float sum = 0;
  for (std::int64_t y = 0; y < size; ++y) {
    for (std::int64_t x = 0; x < size; ++x) {
      const float dy = static_cast<float>(y - size / 2), dx = static_cast<float>(x - size / 2);
      filter.kernel.push_back(std::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma)));
      sum += filter.kernel.back();
    }
  }
  for (float& weight : filter.kernel) weight /= sum;
  return filter;
}

const std::map<std::string, Filter>& filters() {
  static const std::map<std::string, Filter> all{
      {"blur", gaussian(9, 2)},
      {"sharpen", {3, {0, -1, 0, -1, 5, -1, 0, -1, 0}, 0}},
      {"emboss", {3, {-2, -1, 0, -1, 0, 1, 0, 1, 2}, 128}},
      {"edges", {3, {-1, -1, -1, -1, 8, -1, -1, -1, -1}, 0}},
  };
  return all;
}

Image filtered(const Image& image, const Filter& filter) {
  const std::vector<float> input(image.pixels.begin(), image.pixels.end());
  std::vector<float> output(input.size());
  std::vector<float> weight;
  for (int colour = 0; colour < 3; ++colour) weight.insert(weight.end(), filter.kernel.begin(), filter.kernel.end());
  const std::array<float, 3> bias{filter.offset, filter.offset, filter.offset};

  convpool::Conv2dParams params;
  params.groups = 3;
  params.padding = convpool::Padding::same();
  params.padding_mode = convpool::PaddingMode::replicate;
  convpool::conv2d<float>(TensorView<const float>::nhwc(input.data(), 1, 3, image.height, image.width),
                          TensorView<const float>::nchw(weight.data(), 3, 1, filter.size, filter.size), bias.data(),
                          TensorView<float>::nhwc(output.data(), 1, 3, image.height, image.width), params);

  Image result{image.width, image.height, std::vector<std::uint8_t>(output.size())};
  std::transform(output.begin(), output.end(), result.pixels.begin(),
                 [](float value) { return static_cast<std::uint8_t>(std::clamp(std::round(value), 0.0F, 255.0F)); });
  return result;
}

/// Rings whose colours change over the picture.
Image test_picture() {
  Image image{320, 240, {}};
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t x = 0; x < image.width; ++x) {
      const double ring = std::sin(std::hypot(static_cast<double>(x - 160), static_cast<double>(y - 120)) / 6);
      image.pixels.push_back(static_cast<std::uint8_t>(128 + 120 * ring));
      image.pixels.push_back(static_cast<std::uint8_t>(x * 255 / image.width));
      image.pixels.push_back(static_cast<std::uint8_t>(y * 255 / image.height));
    }
  }
  return image;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 3 && std::string(argv[1]) == "test") {
    write_image(test_picture(), argv[2]);
    return 0;
  }
  if (argc != 4 || filters().count(argv[1]) == 0) {
    std::fprintf(stderr, "usage: %s blur|sharpen|emboss|edges INPUT OUTPUT, or %s test OUTPUT\n", argv[0], argv[0]);
    return 2;
  }
  const Image image = read_image(argv[2]);
  write_image(filtered(image, filters().at(argv[1])), argv[3]);
  std::printf("%s: %s, %lld x %lld\n", argv[3], argv[1], static_cast<long long>(image.width),
              static_cast<long long>(image.height));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
