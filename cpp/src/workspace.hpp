#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "convpool/execution.hpp"

namespace convpool {

class CallScope;

inline constexpr std::size_t workspace_alignment = 64;
/// Larger scratch is given back to the system after each call.
inline constexpr std::size_t most_kept_scratch = std::size_t{64} << 20;

/// Memory of the embedding program, or of operator new where it has no allocator; throws std::bad_alloc.
void* allocate_from(const Allocator& allocator, std::size_t bytes);
void release_to(const Allocator& allocator, void* data, std::size_t bytes) noexcept;

/// Scratch memory, aligned to a cache line, with undefined contents: from the workspace of the call that runs, else
/// from its allocator, else from the library. The library keeps released blocks in a small cache (a fixed number of
/// blocks and bytes), since fresh pages cost more than most calls: about 0.25 us per KB.
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
  enum class Source : std::uint8_t { library, allocator, call };

  void swap(Workspace& other) noexcept;

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Source source_ = Source::library;
  Allocator allocator_{};      // of Source::allocator: outlives the call, in a plan
  CallScope* call_ = nullptr;  // whose workspace this is a part of, or which counts it
  std::size_t counted_ = 0;
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

/// A list in scratch memory, of at most as many elements as it was made for.
template <class T>
class ScratchList {
 public:
  ScratchList() = default;
  /// Throws std::bad_alloc.
  explicit ScratchList(std::int64_t most) : memory_(bytes_of(most)) {}
  void push_back(const T& element) { data()[size_++] = element; }
  void resize_down(std::int64_t size) { size_ = size; }
  std::int64_t size() const { return size_; }
  T* data() const { return memory_.template as<T>(); }
  T* begin() const { return data(); }
  T* end() const { return data() + size_; }
  T& operator[](std::int64_t i) const { return data()[i]; }

 private:
  static std::size_t bytes_of(std::int64_t count) {
    if (count < 0 || count > (std::int64_t{1} << 60) / static_cast<std::int64_t>(sizeof(T))) throw std::bad_alloc();
    return (static_cast<std::size_t>(count) * sizeof(T) + workspace_alignment - 1) / workspace_alignment *
           workspace_alignment;
  }

  Workspace memory_;
  std::int64_t size_ = 0;
};

}  // namespace convpool
