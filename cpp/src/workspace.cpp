#include "workspace.hpp"

#include <array>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace convpool {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t largest_kept = std::size_t{64} << 20;

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
};

// Locked by trying only: a caller that finds it taken (or a child forked while it was) allocates for itself.
struct Cache {
  std::mutex mutex;
  std::array<Block, 8> blocks{};
};

Cache& cache() {
  static Cache* const instance = new Cache;  // never destroyed: calls may run while the process exits
  return *instance;
}

void* allocate(std::size_t bytes) {
  const std::size_t rounded = bytes + (alignment - bytes % alignment) % alignment;
  void* const data = rounded < bytes ? nullptr : std::aligned_alloc(alignment, rounded);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

Workspace::Workspace(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  Cache& c = cache();
  if (std::unique_lock lock(c.mutex, std::try_to_lock); lock.owns_lock()) {
    Block* best = nullptr;
    for (Block& block : c.blocks) {
      if (block.data != nullptr && block.bytes >= bytes && (best == nullptr || block.bytes < best->bytes))
        best = &block;
    }
    if (best != nullptr) {
      data_ = std::exchange(best->data, nullptr);
      bytes_ = best->bytes;
      return;
    }
  }
  data_ = allocate(bytes);
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  Block released{data_, bytes_};
  if (bytes_ <= largest_kept) {
    Cache& c = cache();
    if (std::unique_lock lock(c.mutex, std::try_to_lock); lock.owns_lock()) {
      Block* smallest = &c.blocks[0];
      for (Block& block : c.blocks) {
        if (block.data == nullptr) {
          smallest = &block;
          break;
        }
        if (block.bytes < smallest->bytes) smallest = &block;
      }
      if (smallest->data == nullptr || smallest->bytes < released.bytes) std::swap(*smallest, released);
    }
  }
  std::free(released.data);
}

Workspace::Workspace(Workspace&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Workspace& Workspace::operator=(Workspace&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace convpool
