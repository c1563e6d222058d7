// A network of LeNet's size, as a program would hold it that runs it for every frame: weights packed once, buffers and
// scratch taken once, and no memory asked for afterwards. The weights are random, since the point is how it is put
// together.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <vector>

#include "convpool/convpool.hpp"

namespace {

using convpool::Conv2dPlan;
using convpool::TensorView;
using View = TensorView<float>;

std::vector<float> random_weights(std::mt19937& generator, std::int64_t count, std::int64_t inputs) {
  std::normal_distribution<float> distribution(0, std::sqrt(2 / static_cast<float>(inputs)));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(generator);
  return values;
}

/// A convolution with ReLU. A fully connected layer is one whose kernel covers its whole input.
Conv2dPlan<float> layer(std::mt19937& generator, std::int64_t out, std::int64_t in, std::int64_t kernel,
                        convpool::Padding padding = {}, convpool::Activation activation = convpool::Activation::relu) {
  const std::vector<float> weight = random_weights(generator, out * in * kernel * kernel, in * kernel * kernel);
  const std::vector<float> bias(static_cast<std::size_t>(out), 0.01F);
  convpool::Conv2dParams params;
  params.padding = padding;
  params.activation = activation;
  return {TensorView<const float>::nchw(weight.data(), out, in, kernel, kernel), bias.data(), params};
}

class LeNet {
 public:
  explicit LeNet(std::int64_t batch)
      : batch_(batch),
        generator_(1998),
        conv1_(layer(generator_, 6, 1, 5, convpool::Padding::same())),
        conv2_(layer(generator_, 16, 6, 5)),
        full1_(layer(generator_, 120, 16, 5)),
        full2_(layer(generator_, 84, 120, 1)),
        full3_(layer(generator_, 10, 84, 1, {}, convpool::Activation::none)) {
    pool_.kernel = {2, 2};
    // Two buffers for all results: a layer reads one and writes the other.
    for (std::vector<float>& buffer : buffers_) buffer.resize(static_cast<std::size_t>(batch * 6 * 28 * 28));
    context_.num_threads = 1;
    std::size_t bytes = 0;
    walk(
        nullptr,
        [&](const Conv2dPlan<float>& plan, TensorView<const float> in, View out) {
          bytes = std::max(bytes, plan.workspace_size(in, out, context_));
        },
        [&](TensorView<const float> in, View out) {
          bytes = std::max(bytes, convpool::max_pool2d_workspace_size<float>(in, out, {}, pool_, context_));
        });
    scratch_.resize(bytes);
    context_.workspace = scratch_.data();
    context_.workspace_bytes = scratch_.size();
  }

  /// 10 scores for each of the batch's images of 28x28.
  const float* operator()(const float* images) {
    return walk(
        images, [&](const Conv2dPlan<float>& plan, TensorView<const float> in, View out) { plan(in, out, context_); },
        [&](TensorView<const float> in, View out) { convpool::max_pool2d<float>(in, out, {}, pool_, context_); });
  }

  std::size_t scratch_bytes() const { return scratch_.size(); }

 private:
  /// The layers one after another; returns where the last result lies.
  template <class Convolve, class Pool>
  const float* walk(const float* images, Convolve&& convolve, Pool&& pool) {
    auto in = TensorView<const float>::nchw(images, batch_, 1, 28, 28);
    int which = 0;
    const auto next = [&](std::int64_t channels, std::int64_t size) {
      which = 1 - which;
      return View::nchw(buffers_[static_cast<std::size_t>(which)].data(), batch_, channels, size, size);
    };
    const auto convolution = [&](const Conv2dPlan<float>& plan, std::int64_t channels, std::int64_t size) {
      const View out = next(channels, size);
      convolve(plan, in, out);
      in = out;
    };
    const auto pooling = [&](std::int64_t channels, std::int64_t size) {
      const View out = next(channels, size);
      pool(in, out);
      in = out;
    };
    convolution(conv1_, 6, 28);
    pooling(6, 14);
    convolution(conv2_, 16, 10);
    pooling(16, 5);
    convolution(full1_, 120, 1);
    convolution(full2_, 84, 1);
    convolution(full3_, 10, 1);
    return in.data;
  }

  std::int64_t batch_;
  std::mt19937 generator_;
  Conv2dPlan<float> conv1_, conv2_, full1_, full2_, full3_;
  convpool::Pool2dParams pool_;
  std::array<std::vector<float>, 2> buffers_;
  std::vector<char> scratch_;
  convpool::ExecutionContext context_;
};

}  // namespace

int main(int argc, char** argv) try {
  const std::int64_t batch = argc > 1 ? std::max(1, std::atoi(argv[1])) : 16;
  LeNet net(batch);
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> distribution(0, 1);
  std::vector<float> images(static_cast<std::size_t>(batch * 28 * 28));
  for (float& pixel : images) pixel = distribution(generator);

  const float* scores = net(images.data());
  const std::ptrdiff_t best = std::max_element(scores, scores + 10) - scores;
  constexpr int rounds = 50;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < rounds; ++i) scores = net(images.data());
  const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
  std::printf("%lld images: %.1f us an image on one thread, %zu bytes of scratch; the first one scores best as %td\n",
              static_cast<long long>(batch), taken.count() / static_cast<double>(rounds * batch), net.scratch_bytes(),
              best);
  return std::isfinite(scores[0]) ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
