#include <cstdio>
#include <string>
#include <vector>

#include "convpool/convpool.hpp"

int main() {
  const std::vector<float> image(2 * 32 * 40, 1.0F), weight(4 * 2 * 3 * 3, 0.25F);
  std::vector<float> result(4 * 30 * 38);
  convpool::conv2d<float>(convpool::TensorView<const float>::nhwc(image.data(), 1, 2, 32, 40),
                          convpool::TensorView<const float>::nchw(weight.data(), 4, 2, 3, 3), nullptr,
                          convpool::TensorView<float>::nhwc(result.data(), 1, 4, 30, 38));
  std::printf("convpool %s, %s: %g\n", convpool::version(), convpool::isa().c_str(), static_cast<double>(result[0]));
  const convpool::Conv2dPlan<float> plan(convpool::TensorView<const float>::nchw(weight.data(), 4, 2, 3, 3), nullptr);
  const convpool::Conv2dDescription description =
      plan.describe(convpool::TensorView<const float>::nhwc(nullptr, 1, 2, 32, 40),
                    convpool::TensorView<float>::nhwc(nullptr, 1, 4, 30, 38));
  const bool described = description.text().find(convpool::algorithm_name(description.algorithm)) != std::string::npos;
  return result[0] == 4.5F && described ? 0 : 1;
}
