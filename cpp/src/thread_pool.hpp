#pragma once

#include <chrono>

namespace convpool {

using ThreadBody = void (*)(void* context, int thread);

/// How long a thread of the pool looks for work, or a caller for the others to return, before it sleeps. A sleeping one
/// takes tens of microseconds to come back, more than the pause between two calls of a loop; one that looks keeps its
/// core from others.
inline constexpr std::chrono::microseconds threads_awake_for{200};

/// Runs body(context, 0) on the calling thread and body(context, i), for distinct i from 1 on and below `threads`, on
/// threads of the library's pool. Returns when all that began have returned. A pool thread is asked, not waited for:
/// one that hasn't begun by the time the caller's own share returns is let go, so that the body must leave nothing to a
/// certain thread. It must not throw, nor come back here. Threads that sleep are asked, and new ones
/// started, only where `wakes`.
///
/// The pool belongs to the process. It grows to the largest number asked for, serves callers on several threads at once
/// with what is idle, and ends with the process or when the library is unloaded. The child of a fork() starts its own.
/// Without the threads of an operating system (CONVPOOL_THREADS=OFF) the caller is alone.
void run_on_pool(int threads, ThreadBody body, void* context, bool wakes = true) noexcept;

/// Whether there is more than the calling thread.
bool built_with_threads() noexcept;

}  // namespace convpool
