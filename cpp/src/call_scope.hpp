#pragma once

#include <cstddef>

#include "convpool/execution.hpp"

namespace convpool {

/// What the call that runs on this thread takes memory and threads from.
///
/// An entry point opens a scope, and Workspace and run_on_threads look at the innermost one of their thread. Handing it
/// down instead would put it into the signature of every algorithm, packing and copying function, though none of them
/// decides anything by it. The thread-local pointer is safe because workspaces are made, and threads asked for, by the
/// calling thread alone, never inside a task; a task that makes a call of its own (a pool that runs other work
/// meanwhile) opens a scope of its own, and scopes close in the opposite order.
class CallScope {
 public:
  /// Throws std::invalid_argument where the context contradicts itself.
  explicit CallScope(const ExecutionContext& context);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  /// Null outside of calls.
  static CallScope* current() noexcept;

  const Allocator& allocator() const noexcept { return allocator_; }
  const ParallelFor& parallel_for() const noexcept { return parallel_for_; }

  /// Whether it is worth waking the pool's threads.
  bool wakes_threads() const noexcept { return wakes_threads_; }
  void set_wakes_threads(bool wakes) noexcept { wakes_threads_ = wakes; }

  /// Memory from the caller's workspace, a stack; null where it doesn't fit.
  void* take(std::size_t bytes) noexcept;
  void give_back(void* data, std::size_t bytes) noexcept;

  bool measures() const noexcept { return measures_; }
  void count(std::size_t bytes) noexcept;
  void uncount(std::size_t bytes) noexcept { measured_ -= bytes; }

 protected:
  struct Measuring {};
  explicit CallScope(Measuring) noexcept;
  std::size_t measured_peak() const noexcept { return measured_peak_; }

 private:
  Allocator allocator_{};
  ParallelFor parallel_for_{};
  char *free_ = nullptr, *end_ = nullptr;
  bool measures_ = false, wakes_threads_ = true;
  std::size_t measured_ = 0, measured_peak_ = 0;
  CallScope* outer_;
};

/// A call that is only measured: it takes all its scratch, and does none of its tasks. So it needs no data behind the
/// views, and tells what a run will need without a second account of it.
class MeasuringScope : public CallScope {
 public:
  MeasuringScope() noexcept : CallScope(Measuring{}) {}
  /// The workspace that lets such a call run without any other memory, at whatever address it starts.
  std::size_t bytes() const noexcept;
};

}  // namespace convpool
