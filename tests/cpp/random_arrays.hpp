#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "convpool/tensor_view.hpp"

namespace convpool::testing {

inline std::mt19937& generator() {
  static std::mt19937 instance(20240229);
  return instance;
}

inline std::int64_t uniform(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(generator());
}

template <class T>
std::vector<T> random_values(std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  std::uniform_real_distribution<T> distribution(-1, 1);
  for (T& value : values) value = distribution(generator());
  return values;
}

/// An array of its own, in either layout.
template <class T>
struct Array {
  std::vector<T> values;
  TensorView<T> view;

  Array(Array&&) noexcept = default;

  Array(const std::array<std::int64_t, 4>& s, bool channels_last, bool random)
      : values(static_cast<std::size_t>(s[0] * s[1] * s[2] * s[3]), T(-77)),
        view(channels_last ? TensorView<T>::nhwc(values.data(), s[0], s[1], s[2], s[3])
                           : TensorView<T>::nchw(values.data(), s[0], s[1], s[2], s[3])) {
    if constexpr (std::is_floating_point_v<T>) {
      if (random) {
        const std::vector<T> drawn = random_values<T>(static_cast<std::int64_t>(values.size()));
        std::copy(drawn.begin(), drawn.end(), values.begin());
      }
    }
  }
};

}  // namespace convpool::testing
