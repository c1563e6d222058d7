#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace convpool {

/// Scratch memory, aligned to a cache line, with undefined contents. A released block goes to a small cache (a fixed
/// number of blocks and bytes), since fresh pages cost more than most calls: about 0.25 us per KB.
class Workspace {
 public:
  Workspace() = default;
  /// Throws std::bad_alloc.
  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* as(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + byte_offset);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// `count` elements of T for each of `slots` threads, in one block; the slots start on cache lines of their own.
template <class T>
class SlottedWorkspace {
 public:
  /// Throws std::bad_alloc, also where the bytes can't be counted.
  SlottedWorkspace(std::int64_t count, int slots)
      : pitch_(checked_pitch(count, slots)), memory_(pitch_ * static_cast<std::size_t>(slots)) {}
  T* slot(int i) const { return memory_.as<T>(pitch_ * static_cast<std::size_t>(i)); }

 private:
  static std::size_t checked_pitch(std::int64_t count, int slots) {
    constexpr std::int64_t most = std::int64_t{1} << 60;
    if (count < 0 || count > most / static_cast<std::int64_t>(sizeof(T)) / slots) throw std::bad_alloc();
    return (static_cast<std::size_t>(count) * sizeof(T) + 127) / 64 * 64;
  }

  std::size_t pitch_;
  Workspace memory_;
};

}  // namespace convpool
