// The example of the README, compiled as C++17.

#include <cstdio>
#include <vector>

#include "convpool/convpool.hpp"

int main() {
  const std::vector<float> image(3 * 8 * 8, 1.0F), weight(4 * 3 * 3 * 3, 0.5F), bias(4, 1.0F);
  std::vector<float> features(4 * 8 * 8), pooled(4 * 4 * 4);

  convpool::Conv2dParams params;
  params.padding = convpool::Padding::same();
  params.activation = convpool::Activation::relu;
  const auto input = convpool::TensorView<const float>::nchw(image.data(), 1, 3, 8, 8);
  const auto output = convpool::TensorView<float>::nchw(features.data(), 1, 4, 8, 8);
  const convpool::Conv2dPlan<float> plan(convpool::TensorView<const float>::nchw(weight.data(), 4, 3, 3, 3),
                                         bias.data(), params);
  plan(input, output);

  convpool::Pool2dParams pool;
  pool.kernel = {2, 2};
  convpool::max_pool2d<float>(output, convpool::TensorView<float>::nchw(pooled.data(), 1, 4, 4, 4), {}, pool);
  std::printf("%g\n", static_cast<double>(pooled[5]));
  return pooled[5] == 27 * 0.5F + 1 ? 0 : 1;
}
