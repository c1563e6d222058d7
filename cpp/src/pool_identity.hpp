#pragma once

#include <limits>

namespace convpool {

/// What padding counts as in a maximum: the least value that T has.
template <class T>
constexpr T max_identity() {
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
}

}  // namespace convpool
