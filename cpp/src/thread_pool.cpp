#include "thread_pool.hpp"

#include "threads.hpp"

#if defined(CONVPOOL_THREADS)

#include <atomic>
#include <chrono>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#define CONVPOOL_POSIX_THREADS
#endif

namespace convpool {
namespace {

/// A call that wants help. It lies on its caller's stack: nobody touches it after counting himself as returned.
struct Job {
  ThreadBody body;
  void* context;
  std::atomic<int> returned{0};
};

/// What a worker's inbox holds besides the job that it is offered.
constexpr Job* idle = nullptr;
Job reserved_mark{}, busy_mark{}, ended_mark{};
constexpr Job* reserved = &reserved_mark;  ///< for a job whose slot is being written
constexpr Job* busy = &busy_mark;
constexpr Job* ended = &ended_mark;

/// Apart by two cache lines, which processors fetch together.
struct alignas(128) Worker {
  std::atomic<Job*> inbox{idle};
  std::atomic<int> sleeps{0};
  int slot = 0;  ///< in the job that is offered
  std::thread* thread = nullptr;
};

using Clock = std::chrono::steady_clock;

constinit Worker workers[max_threads - 1];
constinit std::atomic<int> worker_count{0};

/// A mutex that is never destroyed, and that the child of a fork can take over.
class Gate {
 public:
  void lock() noexcept {
    while (closed_.exchange(1) != 0) closed_.wait(1);
  }
  void unlock() noexcept {
    closed_.store(0);
    closed_.notify_one();
  }

 private:
  std::atomic<int> closed_{0};
};

/// Held by who starts or ends workers; has_ended is behind it.
constinit Gate growing;
constinit bool has_ended = false;
#if defined(CONVPOOL_POSIX_THREADS)
/// The process that the workers belong to.
constinit std::atomic<pid_t> owner{0};
#endif
/// Until then no more threads are asked for: the last time there were none to be had.
constinit std::atomic<Clock::rep> no_thread_until{0};
/// Callers sleep until `returns` changes.
constinit std::atomic<int> sleeping_callers{0}, returns{0};

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Looks at `done` for a while; whether it became true.
template <class Done>
bool happens_soon(const Done& done) noexcept {
  if (done()) return true;
  const auto start = Clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (Clock::now() - start < threads_awake_for);
  return false;
}

void run_share(Job& job, Worker& self) noexcept {
  job.body(job.context, self.slot);
  // Idle before the caller goes on, so that its next call finds this worker.
  self.inbox.store(idle);
  job.returned.fetch_add(1);
  if (sleeping_callers.load() > 0) {
    returns.fetch_add(1);
    returns.notify_all();
  }
}

void work(Worker& self) noexcept {
  while (true) {
    const auto offered = [&] {
      const Job* const job = self.inbox.load(std::memory_order_relaxed);
      return job != idle && job != reserved;
    };
    while (!happens_soon(offered)) {
      self.sleeps.store(1);
      if (self.inbox.load() == idle) self.sleeps.wait(1);
      self.sleeps.store(0, std::memory_order_relaxed);
    }
    Job* job = self.inbox.load(std::memory_order_relaxed);
    if (job == ended) return;
    // The caller may have taken its offer back.
    if (job == idle || job == reserved || !self.inbox.compare_exchange_strong(job, busy)) continue;
    run_share(*job, self);
  }
}

bool offer(Worker& worker, Job& job, int slot, bool wakes) noexcept {
  if (!wakes && worker.sleeps.load(std::memory_order_relaxed) != 0) return false;
  Job* expected = idle;
  if (!worker.inbox.compare_exchange_strong(expected, reserved)) return false;
  worker.slot = slot;
  worker.inbox.store(&job);
  if (worker.sleeps.load() != 0 && worker.sleeps.exchange(0) != 0) worker.sleeps.notify_one();
  return true;
}

#if defined(CONVPOOL_POSIX_THREADS)

void before_fork() { growing.lock(); }
void after_fork() { growing.unlock(); }

/// The child has none of the threads; their handles must not be touched any more.
void start_anew() {
  for (int i = 0; i < worker_count.load(); ++i) {
    workers[i].inbox.store(idle);
    workers[i].sleeps.store(0);
    workers[i].thread = nullptr;
  }
  worker_count.store(0);
  sleeping_callers.store(0);
  no_thread_until.store(0);
  growing.unlock();
}

#endif

/// Ends the workers when the process exits, or before a library that was loaded at run time takes their code away.
struct Ending {
#if defined(CONVPOOL_POSIX_THREADS)
  Ending() { pthread_atfork(before_fork, after_fork, start_anew); }
#endif
  ~Ending() {
#if defined(CONVPOOL_POSIX_THREADS)
    // A fork may pass the handlers by.
    if (getpid() != owner.load()) return;
#endif
    growing.lock();
    has_ended = true;
    for (int i = 0; i < worker_count.load(); ++i) {
      Worker& worker = workers[i];
      // Other threads may still make calls: what they have offered is done first.
      while (!offer(worker, *ended, 0, true)) std::this_thread::yield();
      worker.thread->join();
      delete worker.thread;
    }
    growing.unlock();
  }
};
// Made as the library is loaded: a fork during a first call must find the handlers.
Ending ending;

#if defined(CONVPOOL_POSIX_THREADS)
/// Signals are for the program's own threads, but for those that a thread's own doings raise.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t others;
    sigfillset(&others);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&others, own);
    pthread_sigmask(SIG_SETMASK, &others, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};
#else
struct SignalsBlocked {};
#endif

/// Starts workers until there are `wanted`, or no more to be had.
void grow(int wanted) noexcept {
  constexpr std::chrono::seconds pause{1};
  if (Clock::now().time_since_epoch().count() < no_thread_until.load(std::memory_order_relaxed)) return;
  growing.lock();
  try {
    [[maybe_unused]] const SignalsBlocked signals;
#if defined(CONVPOOL_POSIX_THREADS)
    owner.store(getpid());
#endif
    for (int i = worker_count.load(); i < wanted && !has_ended; ++i) {
      workers[i].thread = new std::thread(work, std::ref(workers[i]));
      worker_count.store(i + 1);
    }
  } catch (...) {  // no memory or no thread: those that there are have to do
    no_thread_until.store((Clock::now() + pause).time_since_epoch().count(), std::memory_order_relaxed);
  }
  growing.unlock();
}

}  // namespace

void run_on_pool(int threads, ThreadBody body, void* context, bool wakes) noexcept {
  if (wakes && threads > worker_count.load(std::memory_order_relaxed) + 1) grow(threads - 1);
  const int count = worker_count.load(std::memory_order_acquire);
  Job job{body, context};
  int offers = 0, last = 0;
  // The first ones first: they are the likeliest to be awake, and have the same slots in each call where none is busy.
  for (; last < count && offers < threads - 1; ++last) offers += offer(workers[last], job, offers + 1, wakes);
  body(context, 0);
  for (int i = 0; i < last; ++i) {
    if (workers[i].inbox.load(std::memory_order_relaxed) != &job) continue;
    Job* expected = &job;
    offers -= workers[i].inbox.compare_exchange_strong(expected, idle);
  }
  const auto all_returned = [&] { return job.returned.load() == offers; };
  if (happens_soon(all_returned)) return;
  sleeping_callers.fetch_add(1);
  for (int seen = returns.load(); !all_returned(); seen = returns.load()) returns.wait(seen);
  sleeping_callers.fetch_sub(1);
}

bool built_with_threads() noexcept { return true; }

}  // namespace convpool

#else

namespace convpool {

void run_on_pool(int, ThreadBody body, void* context, bool) noexcept { body(context, 0); }
bool built_with_threads() noexcept { return false; }

}  // namespace convpool

#endif
