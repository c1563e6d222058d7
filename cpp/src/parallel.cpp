#include "parallel.hpp"

#include "call_scope.hpp"

namespace convpool {
namespace {

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
    run_on_pool(threads, body, context, call == nullptr || call->wakes_threads());
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

}  // namespace convpool
