#include "convpool/machine.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "dispatch.hpp"

namespace convpool {
namespace {

/// The best of many short runs: what disturbs a run only slows it.
template <class Work>
double best_rate(double seconds, Work&& work) {
  if (!(seconds > 0 && seconds <= 10)) {
    throw std::invalid_argument("seconds must be above 0 and at most 10, got " + std::to_string(seconds));
  }
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double best = 0;
  do {
    const auto start = Clock::now();
    const double done = work();
    best = std::max(best, done / std::chrono::duration<double>(Clock::now() - start).count());
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  return best;
}

}  // namespace

double measure_fma_peak(const std::string& isa, double seconds) {
  const kernels::IsaKernels& kernels = kernels_named(isa);
  volatile float sink = 0;
  return best_rate(seconds, [&] {
    float result = 0;
    const double flops = kernels.f32.multiply_add_rounds(100000, &result);
    sink = result;
    return flops;
  });
}

double measure_memory_bandwidth(double seconds) {
  constexpr std::size_t bytes = std::size_t{64} << 20;
  const auto from = std::make_unique<char[]>(bytes), to = std::make_unique<char[]>(bytes);
  return best_rate(seconds, [&] {
    std::memcpy(to.get(), from.get(), bytes);
    return 2.0 * static_cast<double>(bytes);
  });
}

}  // namespace convpool
