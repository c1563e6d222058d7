#pragma once

#include <string>
#include <vector>

#include "convpool/export.h"

namespace convpool {

/// The number of threads that calls use unless they say otherwise.
///
/// Before `set_num_threads` it is, in this order: the environment variable CONVPOOL_NUM_THREADS, OMP_NUM_THREADS (its
/// first figure), or the cores that the process may use: the CPU affinity, cut down to the cgroup's quota. 1 in a build
/// without threads (CONVPOOL_THREADS=OFF).
CONVPOOL_API int get_num_threads() noexcept;

/// Sets that number for all callers. Throws std::invalid_argument unless 1 <= n <= 1024.
CONVPOOL_API void set_num_threads(int n);

/// The instruction set that calls use: "sse2", "avx2" (with FMA), "avx512" (F, BW, DQ and VL) or "neon".
///
/// Chosen once, at the first call that asks: the best one that the CPU has and the operating system saves, or the one
/// that the environment variable CONVPOOL_ISA names. Throws std::invalid_argument where that isn't one of
/// `available_isas()`.
CONVPOOL_API std::string isa();

/// The instruction sets that this build has and this machine can run, weakest first.
CONVPOOL_API std::vector<std::string> available_isas();

/// Changes the instruction set for calls and plans that start afterwards, as CONVPOOL_ISA would have done; plans that
/// exist keep theirs. Meant for tests and comparisons. Throws std::invalid_argument for a name outside
/// `available_isas()`.
CONVPOOL_API void set_isa(const std::string& name);

/// How the library was built.
struct BuildInfo {
  std::string compiler;
  std::string flags;
  std::string build_type;
  std::vector<std::string> isas;
  bool threads;
};
CONVPOOL_API BuildInfo build_info();

}  // namespace convpool
