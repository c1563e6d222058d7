#pragma once

#include <algorithm>
#include <cstdlib>

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

/// Element by element, the axis with the target's smallest stride innermost.
template <class T>
void copy_elements(TensorView<const T> from, TensorView<T> to, int threads) {
  std::array<std::size_t, 4> order{0, 1, 2, 3};
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return std::abs(to.strides[a]) > std::abs(to.strides[b]); });
  const auto [a, b, c, d] = order;
  parallel_for(to.shape[a] * to.shape[b], threads, [&, a = a, b = b, c = c, d = d](std::int64_t task, int) {
    const std::int64_t i = task / to.shape[b], j = task % to.shape[b];
    for (std::int64_t k = 0; k < to.shape[c]; ++k) {
      const T* source = from.data + i * from.strides[a] + j * from.strides[b] + k * from.strides[c];
      T* target = to.data + i * to.strides[a] + j * to.strides[b] + k * to.strides[c];
      for (std::int64_t l = 0; l < to.shape[d]; ++l) target[l * to.strides[d]] = source[l * from.strides[d]];
    }
  });
}

}  // namespace convpool
