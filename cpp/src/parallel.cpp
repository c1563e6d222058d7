#include "parallel.hpp"

#if defined(CONVPOOL_OPENMP)
#include <omp.h>
#include <pthread.h>

#include <thread>
#endif

namespace convpool {

#if defined(CONVPOOL_OPENMP)

namespace {

std::atomic<bool> forked{false};

// GNU OpenMP keeps its idle threads in a pool that belongs to the thread that started them; after fork() they are gone
// in the child, and the next region would wait for them forever.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });

void run_region(int threads, ThreadBody body, void* context) noexcept {
#pragma omp parallel num_threads(threads)
  body(context, omp_get_thread_num());
}

}  // namespace

void run_on_threads(int threads, ThreadBody body, void* context) noexcept {
  static_cast<void>(fork_handler);
  if (!forked.load(std::memory_order_relaxed)) {
    run_region(threads, body, context);
    return;
  }
  // A new thread has no pool yet, so that the region builds one that lives.
  try {
    std::thread(run_region, threads, body, context).join();
  } catch (...) {  // no thread or no memory for one: nothing has run yet
    body(context, 0);
  }
}

bool built_with_openmp() noexcept { return true; }

#else

void run_on_threads(int, ThreadBody body, void* context) noexcept { body(context, 0); }

bool built_with_openmp() noexcept { return false; }

#endif

}  // namespace convpool
