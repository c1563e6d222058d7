#include "winograd_weights.hpp"

#include <cmath>

namespace convpool {
namespace {

/// The polynomial g0 + g1 p + g2 p^2 at each point, divided by the product of the point's distances from the others; last, at
/// infinity, its leading coefficient.
std::array<double, 6> transform_line(double g0, double g1, double g2) {
  const double a = std::sqrt(0.5), b = std::sqrt(2.0);
  const double even_a = (g0 + 0.5 * g2) / -1.5, odd_a = a * g1 / -1.5;
  const double even_b = (g0 + 2 * g2) / 6, odd_b = b * g1 / 6;
  return {g0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, g2};
}

}  // namespace

std::array<double, 36> winograd_weight(const std::array<double, 9>& kernel) {
  std::array<std::array<double, 6>, 3> columns;
  for (std::size_t x = 0; x < 3; ++x) columns[x] = transform_line(kernel[x], kernel[3 + x], kernel[6 + x]);
  std::array<double, 36> result;
  for (std::size_t y = 0; y < 6; ++y) {
    const auto row = transform_line(columns[0][y], columns[1][y], columns[2][y]);
    for (std::size_t x = 0; x < 6; ++x) result[y * 6 + x] = row[x];
  }
  return result;
}

}  // namespace convpool
