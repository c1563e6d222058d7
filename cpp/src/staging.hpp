#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "geometry.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace convpool {

/// Memory for an array of the shape of a view, contiguous as (N, C, H, W) or (N, H, W, C), contents undefined.
template <class T>
class ContiguousCopy {
 public:
  ContiguousCopy() = default;
  template <class U>
  explicit ContiguousCopy(const TensorView<U>& like, bool channels_last = false)
      : memory_(static_cast<std::size_t>(checked_element_count(like.shape, sizeof(T))) * sizeof(T)) {
    const auto& s = like.shape;
    view_ = channels_last ? TensorView<T>::nhwc(memory_.as<T>(), s[0], s[1], s[2], s[3])
                          : TensorView<T>::nchw(memory_.as<T>(), s[0], s[1], s[2], s[3]);
  }
  const TensorView<T>& view() const { return view_; }

 private:
  Workspace memory_;
  TensorView<T> view_;
};

/// Element by element, the axis with the target's smallest stride innermost. What is less than To's least value becomes
/// that; larger than its largest nothing must be.
template <class To, class From>
void convert_elements(TensorView<const From> from, TensorView<To> to, int threads) {
  std::array<std::size_t, 4> order{0, 1, 2, 3};
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return std::abs(to.strides[a]) > std::abs(to.strides[b]); });
  const auto [a, b, c, d] = order;
  parallel_for(to.shape[a] * to.shape[b], threads, [&, a = a, b = b, c = c, d = d](std::int64_t task, int) {
    const std::int64_t i = task / to.shape[b], j = task % to.shape[b];
    for (std::int64_t k = 0; k < to.shape[c]; ++k) {
      const From* source = from.data + i * from.strides[a] + j * from.strides[b] + k * from.strides[c];
      To* target = to.data + i * to.strides[a] + j * to.strides[b] + k * to.strides[c];
      for (std::int64_t l = 0; l < to.shape[d]; ++l) {
        const From value = source[l * from.strides[d]];
        if constexpr (sizeof(To) < sizeof(From)) {
          target[l * to.strides[d]] = static_cast<To>(std::max<From>(value, std::numeric_limits<To>::lowest()));
        } else {
          target[l * to.strides[d]] = static_cast<To>(value);
        }
      }
    }
  });
}

template <class T>
void copy_elements(TensorView<const T> from, TensorView<T> to, int threads) {
  convert_elements<T, T>(from, to, threads);
}

}  // namespace convpool
