// Convolutions on the program's own threads: a small pool, and the hook that hands work to it. The library starts
// no thread then, and the program decides what runs where.

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "convpool/convpool.hpp"

namespace {

/// Threads that wait for work; one piece of work at a time, cut into indices.
class Pool {
 public:
  explicit Pool(int workers) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    wakes_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// f(i) for each i in [0, count), here and on the workers; returns when all are done.
  void operator()(std::int64_t count, const std::function<void(std::int64_t)>& f) {
    std::unique_lock lock(mutex_);
    job_ = {&f, count, 0, 0};
    ++jobs_;
    wakes_.notify_all();
    take_indices(lock);
    ends_.wait(lock, [&] { return job_.running == 0; });
    job_.f = nullptr;
  }

  std::int64_t done_by_workers() const { return done_by_workers_; }

 private:
  struct Job {
    const std::function<void(std::int64_t)>* f = nullptr;
    std::int64_t count = 0, next = 0, running = 0;
  };

  void take_indices(std::unique_lock<std::mutex>& lock, std::atomic<std::int64_t>* counter = nullptr) {
    while (job_.f != nullptr && job_.next < job_.count) {
      const std::int64_t index = job_.next++;
      ++job_.running;
      lock.unlock();
      (*job_.f)(index);
      if (counter != nullptr) ++*counter;
      lock.lock();
      --job_.running;
    }
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (std::int64_t seen = 0;;) {
      wakes_.wait(lock, [&] { return stops_ || jobs_ != seen; });
      if (stops_) return;
      seen = jobs_;
      take_indices(lock, &done_by_workers_);
      if (job_.running == 0) ends_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wakes_, ends_;
  Job job_;
  std::int64_t jobs_ = 0;
  bool stops_ = false;
  std::atomic<std::int64_t> done_by_workers_{0};
  std::vector<std::thread> threads_;
};

}  // namespace

int main() try {
  using convpool::TensorView;
  const std::vector<float> image(32 * 112 * 112, 0.5F), weight(64 * 32 * 3 * 3, 0.01F);
  std::vector<float> on_pool(64 * 110 * 110), alone(on_pool.size());
  const auto input = TensorView<const float>::nchw(image.data(), 1, 32, 112, 112);
  const convpool::Conv2dPlan<float> plan(TensorView<const float>::nchw(weight.data(), 64, 32, 3, 3), nullptr);

  Pool pool(3);
  convpool::ExecutionContext context;
  context.num_threads = 4;  // the workers, and this thread
  context.parallel_for = convpool::ParallelFor::through(pool);
  for (int i = 0; i < 20; ++i) plan(input, TensorView<float>::nchw(on_pool.data(), 1, 64, 110, 110), context);
  plan(input, TensorView<float>::nchw(alone.data(), 1, 64, 110, 110), 1);

  std::printf("on the pool: %lld shares done by workers, the same bits as on one thread: %s\n",
              static_cast<long long>(pool.done_by_workers()), on_pool == alone ? "yes" : "no");
  return on_pool == alone ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
