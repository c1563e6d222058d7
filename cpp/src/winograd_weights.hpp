#pragma once

#include <array>

namespace convpool {

/// The 36 elements by which Winograd's F(4x4, 3x3) multiplies, of a 3x3 kernel; see kernels/winograd.hpp for the points.
std::array<double, 36> winograd_weight(const std::array<double, 9>& kernel);

}  // namespace convpool
