#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "convpool/runtime.hpp"
#include "cpu_features.hpp"

namespace convpool {
namespace {

using kernels::IsaKernels;

struct Candidate {
  const IsaKernels* kernels;
  bool runs_here;
};

// Weakest first.
std::vector<Candidate> candidates() {
  [[maybe_unused]] const CpuFeatures features = detect_cpu_features();
  return {
#if defined(CONVPOOL_HAVE_SSE2)
      {&kernels::sse2::kernels, true},
#endif
#if defined(CONVPOOL_HAVE_AVX2)
      {&kernels::avx2::kernels, features.avx2_fma},
#endif
#if defined(CONVPOOL_HAVE_AVX512)
      {&kernels::avx512::kernels, features.avx512},
#endif
#if defined(CONVPOOL_HAVE_NEON)
      {&kernels::neon::kernels, true},
#endif
  };
}

const IsaKernels& find(const std::string& name, const char* who) {
  std::string names;
  for (const Candidate& candidate : candidates()) {
    if (!candidate.runs_here) continue;
    if (name == candidate.kernels->name) return *candidate.kernels;
    names += (names.empty() ? "\"" : ", \"") + std::string(candidate.kernels->name) + "\"";
  }
  throw std::invalid_argument(std::string(who) + " must be one of " + names + " on this machine, got \"" + name + "\"");
}

const IsaKernels& choose() {
  if (const char* forced = std::getenv("CONVPOOL_ISA"); forced != nullptr && *forced != '\0') {
    return find(forced, "the environment variable CONVPOOL_ISA");
  }
  const IsaKernels* best = nullptr;
  for (const Candidate& candidate : candidates()) {
    if (candidate.runs_here) best = candidate.kernels;
  }
  return *best;
}

std::atomic<const IsaKernels*> active{nullptr};

}  // namespace

const IsaKernels& active_kernels() {
  const IsaKernels* current = active.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
  const IsaKernels* chosen = &choose();
  // The first to choose wins; a set_isa() that came in between stays.
  return active.compare_exchange_strong(current, chosen) ? *chosen : *current;
}

std::string isa() { return active_kernels().name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates()) {
    if (candidate.runs_here) names.emplace_back(candidate.kernels->name);
  }
  return names;
}

void set_isa(const std::string& name) { active.store(&kernels_named(name), std::memory_order_release); }

const IsaKernels& kernels_named(const std::string& isa) { return find(isa, "isa"); }

}  // namespace convpool
