#pragma once

#include "convpool/execution.hpp"

namespace convpool {

inline constexpr int max_threads = 1024;

/// The threads to use for a call with that context: no more than leave each one enough to do. `least_work_per_thread`
/// is what pays where the pool's threads are awake, some 5 us; a caller's own may cost more. Throws
/// std::invalid_argument for a request outside [0, max_threads].
int threads_for(const ExecutionContext& context, double work, double least_work_per_thread);

/// The same for the call that runs, whose CallScope learns whether to wake threads for it.
int threads_for_call(const ExecutionContext& context, double work, double least_work_per_thread);

}  // namespace convpool
