#pragma once

#include <limits>

#include "convpool/conv2d.hpp"
#include "kernels/kernel_table.hpp"

namespace convpool {

/// How an activation is split: a clamp that a kernel applies as it stores, and a curve that is applied to what it
/// stored.
template <class T>
struct Epilogue {
  T low = -std::numeric_limits<T>::infinity();
  T high = std::numeric_limits<T>::infinity();
  bool has_curve = false;
  kernels::Curve curve{};

  explicit Epilogue(Activation activation) {
    switch (activation) {
      case Activation::none:
        break;
      case Activation::relu:
        low = 0;
        break;
      case Activation::relu6:
        low = 0, high = 6;
        break;
      case Activation::sigmoid:
        has_curve = true, curve = kernels::Curve::sigmoid;
        break;
      case Activation::hardswish:
        has_curve = true, curve = kernels::Curve::hardswish;
        break;
      case Activation::silu:
        has_curve = true, curve = kernels::Curve::silu;
        break;
    }
  }
};

}  // namespace convpool
