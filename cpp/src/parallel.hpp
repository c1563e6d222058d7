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

/// body(task, thread) for each task in [0, tasks): `thread` in [0, threads) tells its slot. Each thread, or each few of
/// more than 16, begins with some tasks of its own, neighbours and the same ones in each such call, so that it finds in
/// its caches what it left there (two threads: 1x1 of 16 channels to 96 on 50x50 1.6 times as fast as where a few tasks
/// go to whichever thread is free, Emerald Rapids); then it takes what the others haven't begun. Which thread takes
/// which task must not show in the result.
template <class Body>
void parallel_for(std::int64_t tasks, int threads, Body&& body) noexcept {
  if (tasks_are_left_out()) return;
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    for (std::int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  constexpr int most_shares = 16;
  struct alignas(128) Share {
    std::atomic<std::int64_t> next;
    std::int64_t end;
  };
  struct Shared {
    Share shares[most_shares];
    int count;
    Body* body;
  } shared;
  shared.count = threads < most_shares ? threads : most_shares;
  shared.body = &body;
  for (int i = 0; i < shared.count; ++i) {
    const std::int64_t each = tasks / shared.count, more = tasks % shared.count;
    shared.shares[i].next.store(each * i + (i < more ? i : more), std::memory_order_relaxed);
    shared.shares[i].end = each * (i + 1) + (i + 1 < more ? i + 1 : more);
  }
  run_on_threads(
      threads,
      [](void* context, int thread) {
        auto& s = *static_cast<Shared*>(context);
        for (int i = 0; i < s.count; ++i) {
          Share& share = s.shares[(thread + i) % s.count];
          for (std::int64_t task; (task = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
            (*s.body)(task, thread);
        }
      },
      &shared);
}

}  // namespace convpool
