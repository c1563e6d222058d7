#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "parallel.hpp"

using convpool::parallel_for;
using convpool::run_on_pool;

namespace {

/// Ends the test program's wait for something that never comes.
template <class Condition>
bool comes_true(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

/// Runs `body` through the pool as a function object.
template <class Body>
void on_pool(int threads, Body body, bool wakes = true) {
  run_on_pool(threads, [](void* context, int thread) { (*static_cast<Body*>(context))(thread); }, &body, wakes);
}

/// Every task once, on slots that no two threads have at the same time.
bool shares_out(std::int64_t tasks, int threads) {
  std::vector<int> done(static_cast<std::size_t>(tasks));
  std::vector<std::atomic<int>> users(static_cast<std::size_t>(threads));
  std::atomic<bool> alone{true};
  parallel_for(tasks, threads, [&](std::int64_t task, int slot) {
    std::atomic<int>& user = users.at(static_cast<std::size_t>(slot));
    if (user.fetch_add(1) != 0) alone = false;
    ++done[static_cast<std::size_t>(task)];
    user.fetch_sub(1);
  });
  for (const int times : done) {
    if (times != 1) return false;
  }
  return alone;
}

}  // namespace

TEST_CASE("every task is done once, and a slot belongs to one thread at a time") {
  for (const int threads : {1, 2, 3, 8}) {
    for (const std::int64_t tasks : {0, 1, 2, 7, 1000}) CHECK(shares_out(tasks, threads));
  }
}

TEST_CASE("more threads than shares, and few tasks for them") { CHECK(shares_out(30, 24)); }

TEST_CASE("a worker has the same slot in each call") {
  std::vector<std::thread::id> owners(4);
  for (int call = 0; call < 200; ++call) {
    on_pool(4, [&](int slot) {
      std::thread::id& owner = owners.at(static_cast<std::size_t>(slot));
      if (owner == std::thread::id{}) owner = std::this_thread::get_id();
      CHECK(owner == std::this_thread::get_id());
    });
  }
}

TEST_CASE("several threads call at once, again and again") {
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int call = 0; call < 500; ++call) failures += !shares_out(20, 3);
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(failures == 0);
}

TEST_CASE("workers that fell asleep come back, and so does a caller that slept") {
  for (int call = 0; call < 5; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<bool> helper_began{false};
    on_pool(2, [&](int thread) {
      if (thread == 0) {
        if (convpool::built_with_threads()) CHECK(comes_true([&] { return helper_began.load(); }));
        return;
      }
      helper_began = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
  }
}

TEST_CASE("workers that sleep are left alone where it isn't worth waking them" *
          doctest::skip(!convpool::built_with_threads())) {
  const auto gets_help = [](bool wakes, std::chrono::milliseconds patience) {
    std::atomic<bool> helper_began{false};
    on_pool(
        2,
        [&](int thread) {
          if (thread != 0) {
            helper_began = true;
            return;
          }
          const auto end = std::chrono::steady_clock::now() + patience;
          while (!helper_began && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        },
        wakes);
    return helper_began.load();
  };
  using std::chrono::milliseconds;
  CHECK(gets_help(true, milliseconds(30000)));
  CHECK(comes_true([&] {
    std::this_thread::sleep_for(milliseconds(5));
    return !gets_help(false, milliseconds(20));
  }));
  CHECK(gets_help(true, milliseconds(30000)));
}

TEST_CASE("a call doesn't wait for workers that are held up elsewhere" *
          doctest::skip(!convpool::built_with_threads())) {
  constexpr int others = 25;  // more than any other test has started
  std::atomic<int> held{0};
  std::atomic<bool> released{false};
  std::thread other([&] {
    on_pool(others, [&](int) {
      ++held;
      comes_true([&] { return released.load(); });
    });
  });
  CHECK(comes_true([&] { return held.load() == others; }));
  int calls = 0;
  for (int call = 0; call < 100; ++call) on_pool(others, [&](int) { ++calls; });
  CHECK(calls == 100);
  released = true;
  other.join();
}

#if defined(__unix__)
TEST_CASE("workers leave signals alone, but not those of their own doing" *
          doctest::skip(!convpool::built_with_threads())) {
  std::atomic<bool> looked{false}, interrupt{false}, fault{true};
  on_pool(2, [&](int thread) {
    if (thread == 0) {
      CHECK(comes_true([&] { return looked.load(); }));
      return;
    }
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    interrupt = sigismember(&blocked, SIGINT) == 1;
    fault = sigismember(&blocked, SIGSEGV) == 1;
    looked = true;
  });
  CHECK(interrupt);
  CHECK_FALSE(fault);
}
#endif
