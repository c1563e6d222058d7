#include "parallel.hpp"

#include "call_scope.hpp"

#if defined(CONVPOOL_OPENMP)
#include <omp.h>
#include <pthread.h>

#include <thread>
#endif

namespace convpool {
namespace {

#if defined(CONVPOOL_OPENMP)

std::atomic<bool> forked{false};

// GNU OpenMP keeps its idle threads in a pool that belongs to the thread that started them; after fork() they are gone
// in the child, and the next region would wait for them forever.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });

void run_region(int threads, ThreadBody body, void* context) noexcept {
#pragma omp parallel num_threads(threads)
  body(context, omp_get_thread_num());
}

void run_on_own_threads(int threads, ThreadBody body, void* context) noexcept {
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

#else

void run_on_own_threads(int, ThreadBody body, void* context) noexcept { body(context, 0); }

#endif

struct HookedBody {
  ThreadBody body;
  void* context;
  int threads;
};

void run_hooked(void* work, std::int64_t index) {
  const HookedBody& hooked = *static_cast<const HookedBody*>(work);
  // An index is a thread's slot of scratch.
  if (index >= 0 && index < hooked.threads) hooked.body(hooked.context, static_cast<int>(index));
}

}  // namespace

void run_on_threads(int threads, ThreadBody body, void* context) noexcept {
  const CallScope* const call = CallScope::current();
  if (call == nullptr || call->parallel_for().run == nullptr) {
    run_on_own_threads(threads, body, context);
    return;
  }
  HookedBody hooked{body, context, threads};
  try {
    call->parallel_for().run(call->parallel_for().pool, threads, run_hooked, &hooked);
  } catch (...) {  // by its contract none of its tasks runs any more
  }
  // Nothing is left to do here unless the hook left all of its indices out.
  body(context, 0);
}

bool tasks_are_left_out() noexcept {
  const CallScope* const call = CallScope::current();
  return call != nullptr && call->measures();
}

bool built_with_openmp() noexcept {
#if defined(CONVPOOL_OPENMP)
  return true;
#else
  return false;
#endif
}

}  // namespace convpool
