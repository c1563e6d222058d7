#pragma once

#include <atomic>
#include <cstdint>

#include "thread_pool.hpp"

namespace convpool {

/// Runs body(context, i) at once for distinct i from 0 on, below `threads`, each on a thread of its own: for as many as
/// there are threads to be had, at least for 0. The body takes its share of the work from the context, so that the last
/// to return leaves none; it must not throw. The threads are those of the call's parallel_for hook, else the pool's.
void run_on_threads(int threads, ThreadBody body, void* context) noexcept;

/// Whether the call that runs is only measured, see MeasuringScope: tasks are left out.
bool tasks_are_left_out() noexcept;

/// body(task, thread) for each task in [0, tasks): tasks go to whichever thread is free, `thread` in [0, threads) tells
/// its slot. Which thread takes which task must not show in the result.
template <class Body>
void parallel_for(std::int64_t tasks, int threads, Body&& body) noexcept {
  if (tasks_are_left_out()) return;
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    for (std::int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  struct Shared {
    std::atomic<std::int64_t> next{0};
    std::int64_t tasks;
    Body* body;
  } shared{{}, tasks, &body};
  run_on_threads(
      threads,
      [](void* context, int thread) {
        auto& s = *static_cast<Shared*>(context);
        for (std::int64_t task; (task = s.next.fetch_add(1, std::memory_order_relaxed)) < s.tasks;)
          (*s.body)(task, thread);
      },
      &shared);
}

}  // namespace convpool
