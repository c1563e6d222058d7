// How many threads a call uses unless it says otherwise.

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "call_scope.hpp"
#include "convpool/runtime.hpp"
#include "thread_pool.hpp"
#include "threads.hpp"

namespace convpool {
namespace {

std::atomic<int> default_threads{0};

/// A thread that has to be woken pays from so many times as much work on.
constexpr double waking_costs = 4;

int from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  int value = 0;
  std::from_chars(text, text + std::strlen(text), value);
  return value >= 1 && value <= max_threads ? value : 0;
}

int cores_by_affinity() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

double quota_of(const std::string& folder) {
  std::string quota;
  double period = 0;
  if (std::ifstream v2(folder + "/cpu.max"); v2 >> quota >> period && quota != "max" && period > 0) {
    return std::strtod(quota.c_str(), nullptr) / period;
  }
  double quota_v1 = 0;
  std::ifstream v1_quota(folder + "/cpu.cfs_quota_us"), v1_period(folder + "/cpu.cfs_period_us");
  if (v1_quota >> quota_v1 && v1_period >> period && quota_v1 > 0 && period > 0) return quota_v1 / period;
  return 0;
}

// The tightest CPU quota of the process's cgroup and the ones above it, in cores; 0 without one.
double cores_by_cgroup() {
  double cores = 0;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    while (true) {
      for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
        const double quota = quota_of(root + (path == "/" ? std::string() : path));
        if (quota > 0 && (cores == 0 || quota < cores)) cores = quota;
      }
      const auto slash = path.rfind('/');
      if (path.size() <= 1 || slash == std::string::npos) break;
      path.resize(slash == 0 ? 1 : slash);
    }
  }
  return cores;
}

/// Whether calls that want threads come in a stream: the last one was so short a while ago that a thread which it had
/// woken would still be awake.
bool follows_soon() noexcept {
  using Clock = std::chrono::steady_clock;
  static constinit std::atomic<Clock::rep> last{0};
  const Clock::rep now = Clock::now().time_since_epoch().count();
  return now - last.exchange(now, std::memory_order_relaxed) < Clock::duration(threads_awake_for).count();
}

int choose_default() noexcept {
  if (!built_with_threads()) return 1;
  for (const char* name : {"CONVPOOL_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int value = from_environment(name); value > 0) return value;
  }
  int cores = cores_by_affinity();
  double quota = 0;
  try {
    quota = cores_by_cgroup();
  } catch (...) {
    quota = 0;  // no memory to read it with: the affinity alone has to do
  }
  if (quota > 0 && quota < cores) cores = quota <= 1 ? 1 : static_cast<int>(quota + 0.999);
  return cores < max_threads ? cores : max_threads;
}

}  // namespace

int get_num_threads() noexcept {
  int current = default_threads.load(std::memory_order_relaxed);
  if (current == 0) {
    int chosen = choose_default();
    if (default_threads.compare_exchange_strong(current, chosen)) current = chosen;
  }
  return current;
}

void set_num_threads(int n) {
  if (n < 1 || n > max_threads) {
    throw std::invalid_argument("num_threads must be from 1 to " + std::to_string(max_threads) + ", got " +
                                std::to_string(n));
  }
  default_threads.store(n, std::memory_order_relaxed);
}

int threads_for(const ExecutionContext& context, double work, double least_work_per_thread) {
  const int requested = context.num_threads;
  if (requested < 0 || requested > max_threads) {
    throw std::invalid_argument("num_threads must be from 1 to " + std::to_string(max_threads) +
                                ", or 0 for the default, got " + std::to_string(requested));
  }
  const int limit = requested == 0 ? get_num_threads() : requested;
  const double least = (context.parallel_for.run == nullptr ? 1 : waking_costs) * least_work_per_thread;
  const double useful = work / least;
  return useful >= limit ? limit : useful < 1 ? 1 : static_cast<int>(useful);
}

int threads_for_call(const ExecutionContext& context, double work, double least_work_per_thread) {
  const int threads = threads_for(context, work, least_work_per_thread);
  // A brief call is over before a thread that slept has come, but may be one of many.
  const bool brief = work < 2 * waking_costs * least_work_per_thread;
  if (threads > 1 && context.parallel_for.run == nullptr) {
    CallScope::current()->set_wakes_threads(follows_soon() || !brief);
  }
  return threads;
}

}  // namespace convpool
