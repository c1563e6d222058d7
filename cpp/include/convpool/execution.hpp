#pragma once

#include <cstddef>
#include <cstdint>

namespace convpool {

/// Memory of the embedding program. Both functions are set, or neither; any thread that makes calls may use them.
struct Allocator {
  /// `bytes` (never 0) at a multiple of `alignment` (64 at most), or null: the call then throws std::bad_alloc.
  void* (*allocate)(void* user, std::size_t bytes, std::size_t alignment) = nullptr;
  /// Takes back what `allocate` gave, with the same figures. Must not throw.
  void (*release)(void* user, void* data, std::size_t bytes, std::size_t alignment) = nullptr;
  void* user = nullptr;
};

/// Threads of the embedding program.
struct ParallelFor {
  using Task = void (*)(void* work, std::int64_t index);

  /// Calls task(work, i) once for each i in [0, count), at the same time or one after another, on any threads, and
  /// returns when all of them have returned. `count` is at most the call's num_threads. An index is one thread's share
  /// rather than a piece of the work: what some do not get to, the others take, and indices may even be left out. It
  /// may throw if no task runs any more by then: the calling thread does what is left.
  void (*run)(void* pool, std::int64_t count, Task task, void* work) = nullptr;
  void* pool = nullptr;

  /// From an object that is called as pool(count, f) and calls f(i) for each i. Kept by reference.
  template <class Pool>
  static ParallelFor through(Pool& pool) noexcept {
    return {[](void* p, std::int64_t count, Task task, void* work) {
              (*static_cast<Pool*>(p))(count, [task, work](std::int64_t index) { task(work, index); });
            },
            &pool};
  }
};

/// What a call may use of the program around it. Default-constructed: the library's own memory and threads.
///
/// A call takes scratch from `workspace` first; what doesn't fit comes from `allocator`. `workspace_size` tells how
/// much a call needs: with that, it asks nobody for memory. Any alignment will do. Calls that run at the same time need
/// a workspace each.
struct ExecutionContext {
  /// At most so many threads; 0 stands for get_num_threads(), which is 1 in a build without threads.
  int num_threads = 0;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  Allocator allocator{};
  /// Instead of the library's pool: a call with it starts no thread.
  ParallelFor parallel_for{};
};

}  // namespace convpool
