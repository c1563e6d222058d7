#pragma once

namespace convpool {

inline constexpr int max_threads = 1024;

/// The threads to use for a call that asked for `requested` (0: the default): no more than leave each one enough to do.
/// Throws std::invalid_argument for a request outside [0, max_threads].
int threads_for(int requested, double work, double least_work_per_thread);

}  // namespace convpool
