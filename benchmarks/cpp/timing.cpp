// What a call of the C++ library takes, without Python: prepared convolutions and poolings, by the notation of
// `python -m convpool bench`.
//
//     timing [--threads N] [--seconds S] [--layout NCHW|NHWC] [--workspace] ROW...
//
//     timing n1c64h56w56k64r3s1p1 max:n1c64h112w112r3s2p1
//
// A row's letters: n batch, c channels, h and w size, k output channels, r kernel, s stride, p padding, d dilation, g
// groups; r, s, p and d may be pairs, 1x7. --workspace hands scratch to the calls, as an embedding program would.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "convpool/convpool.hpp"

namespace {

using convpool::TensorView;
using Pair = std::array<std::int64_t, 2>;
using Shape = std::array<std::int64_t, 4>;

struct Row {
  std::string kind = "conv";
  std::map<char, Pair> values;

  Pair pair(char letter, std::int64_t otherwise) const {
    const auto found = values.find(letter);
    return found == values.end() ? Pair{otherwise, otherwise} : found->second;
  }
  std::int64_t number(char letter, std::int64_t otherwise) const { return pair(letter, otherwise)[0]; }
};

Row parse(const std::string& text) {
  Row row;
  std::size_t at = 0;
  if (const auto colon = text.find(':'); colon != std::string::npos) {
    row.kind = text.substr(0, colon);
    at = colon + 1;
  }
  if (row.kind != "conv" && row.kind != "max" && row.kind != "avg") {
    throw std::invalid_argument(text + ": a row is a convolution, or begins with max: or avg:");
  }
  const auto read = [&] {
    std::size_t used = 0;
    const std::int64_t value = std::stoll(text.substr(at), &used);
    at += used;
    return value;
  };
  while (at < text.size()) {
    const char letter = text[at++];
    if (std::string("nchwkrspdg").find(letter) == std::string::npos) {
      throw std::invalid_argument(text + ": no such letter: " + letter);
    }
    Pair value{};
    value[0] = value[1] = read();
    if (at < text.size() && text[at] == 'x') {
      ++at;
      value[1] = read();
    }
    row.values[letter] = value;
  }
  for (const char letter : std::string("nchwr")) {
    if (row.values.count(letter) == 0) throw std::invalid_argument(text + " lacks " + letter);
  }
  return row;
}

std::vector<float> random_values(const Shape& s) {
  std::vector<float> values(static_cast<std::size_t>(s[0] * s[1] * s[2] * s[3]));
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> distribution(-1, 1);
  for (float& value : values) value = distribution(generator);
  return values;
}

struct Options {
  int threads = 1;
  double seconds = 1;
  bool channels_last = false;
  bool workspace = false;
};

/// Microseconds for each of many rounds of calls, the rounds long enough for the clock.
template <class Call>
std::vector<double> time(const Options& options, Call&& call) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_for = [&](int calls) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  seconds_for(3);
  int calls = 1;
  while (seconds_for(calls) < options.seconds / 50 && calls < (1 << 24)) calls *= 2;
  std::vector<double> rounds;
  double total = 0;
  while (total < options.seconds || rounds.size() < 5) {
    const double seconds = seconds_for(calls);
    total += seconds;
    rounds.push_back(seconds / calls * 1e6);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds;
}

template <class T>
TensorView<T> view(T* data, const Shape& s, bool channels_last) {
  return channels_last ? TensorView<T>::nhwc(data, s[0], s[1], s[2], s[3])
                       : TensorView<T>::nchw(data, s[0], s[1], s[2], s[3]);
}

std::vector<double> run(const Row& row, const Options& options) {
  const Shape in{row.number('n', 1), row.number('c', 1), row.number('h', 1), row.number('w', 1)};
  const Pair kernel = row.pair('r', 1), padding = row.pair('p', 0);
  const std::vector<float> image = random_values(in);
  const auto input = view(image.data(), in, options.channels_last);
  convpool::ExecutionContext context;
  context.num_threads = options.threads;
  std::vector<char> scratch;
  const auto take_scratch = [&](std::size_t bytes) {
    if (!options.workspace) return;
    scratch.resize(bytes);
    context.workspace = scratch.data();
    context.workspace_bytes = scratch.size();
  };
  if (row.kind == "conv") {
    convpool::Conv2dParams params;
    params.stride = row.pair('s', 1);
    params.padding = convpool::Padding::symmetric(padding[0], padding[1]);
    params.dilation = row.pair('d', 1);
    params.groups = row.number('g', 1);
    const Shape w{row.number('k', 1), in[1] / params.groups, kernel[0], kernel[1]};
    const std::vector<float> weight = random_values(w);
    const Shape out = convpool::conv2d_output_shape(in, w, params);
    std::vector<float> result = random_values(out);
    const auto output = view(result.data(), out, options.channels_last);
    const convpool::Conv2dPlan<float> plan(TensorView<const float>::nchw(weight.data(), w[0], w[1], w[2], w[3]),
                                           nullptr, params);
    take_scratch(plan.workspace_size(input, output, context));
    return time(options, [&] { plan(input, output, context); });
  }
  convpool::AvgPool2dParams params;
  params.kernel = kernel;
  if (row.values.count('s') != 0) params.stride = row.pair('s', 1);
  params.padding = convpool::Padding::symmetric(padding[0], padding[1]);
  params.dilation = row.pair('d', 1);
  const Shape out = convpool::pool2d_output_shape(in, params);
  std::vector<float> result = random_values(out);
  const auto output = view(result.data(), out, options.channels_last);
  if (row.kind == "max") {
    take_scratch(convpool::max_pool2d_workspace_size<float>(input, output, {}, params, context));
    return time(options, [&] { convpool::max_pool2d<float>(input, output, {}, params, context); });
  }
  take_scratch(convpool::avg_pool2d_workspace_size<float>(input, output, params, context));
  return time(options, [&] { convpool::avg_pool2d<float>(input, output, params, context); });
}

}  // namespace

int main(int argc, char** argv) try {
  Options options;
  std::vector<std::string> rows;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::invalid_argument(argument + " wants a value");
      return argv[++i];
    };
    if (argument == "--threads") {
      options.threads = std::stoi(value());
    } else if (argument == "--seconds") {
      options.seconds = std::stod(value());
    } else if (argument == "--layout") {
      options.channels_last = value() == "NHWC";
    } else if (argument == "--workspace") {
      options.workspace = true;
    } else {
      rows.push_back(argument);
    }
  }
  if (rows.empty()) {
    std::fprintf(stderr, "usage: %s [--threads N] [--seconds S] [--layout NCHW|NHWC] [--workspace] ROW...\n", argv[0]);
    return 2;
  }
  std::printf("# convpool %s, %s, float32, %d threads; microseconds for a call\n", convpool::version(),
              convpool::isa().c_str(), options.threads);
  std::printf("%-36s %12s %12s\n", "row", "median", "best");
  for (const std::string& text : rows) {
    const std::vector<double> rounds = run(parse(text), options);
    std::printf("%-36s %12.3f %12.3f\n", text.c_str(), rounds[rounds.size() / 2], rounds.front());
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
