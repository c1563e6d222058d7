#include "workspace.hpp"

#include <array>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "call_scope.hpp"

namespace convpool {
namespace {

constexpr std::size_t alignment = workspace_alignment;

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

std::size_t rounded_up(std::size_t bytes) {
  const std::size_t rounded = bytes + (alignment - bytes % alignment) % alignment;
  if (rounded < bytes) throw std::bad_alloc();
  return rounded;
}

Block take_from_library(std::size_t bytes) {
  Cache& c = cache();
  if (std::unique_lock lock(c.mutex, std::try_to_lock); lock.owns_lock()) {
    Block* best = nullptr;
    for (Block& block : c.blocks) {
      if (block.data != nullptr && block.bytes >= bytes && (best == nullptr || block.bytes < best->bytes))
        best = &block;
    }
    if (best != nullptr) return std::exchange(*best, Block{});
  }
  void* const data = std::aligned_alloc(alignment, rounded_up(bytes));
  if (data == nullptr) throw std::bad_alloc();
  return {data, bytes};
}

void give_to_library(Block released) noexcept {
  if (released.bytes <= most_kept_scratch) {
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

}  // namespace

void* allocate_from(const Allocator& allocator, std::size_t bytes) {
  void* const data = allocator.allocate != nullptr ? allocator.allocate(allocator.user, bytes, alignment)
                                                   : ::operator new(bytes, std::align_val_t{alignment});
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void release_to(const Allocator& allocator, void* data, std::size_t bytes) noexcept {
  if (allocator.release != nullptr) {
    allocator.release(allocator.user, data, bytes, alignment);
  } else {
    ::operator delete(data, std::align_val_t{alignment});
  }
}

Workspace::Workspace(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  CallScope* const call = CallScope::current();
  if (call != nullptr && !call->measures()) {
    bytes_ = rounded_up(bytes);
    data_ = call->take(bytes_);
    if (data_ != nullptr) {
      source_ = Source::call;
      call_ = call;
      return;
    }
    if (call->allocator().allocate != nullptr) {
      source_ = Source::allocator;
      allocator_ = call->allocator();
      data_ = allocate_from(allocator_, bytes_);
      return;
    }
  }
  const Block block = take_from_library(bytes);
  data_ = block.data;
  bytes_ = block.bytes;
  if (call != nullptr && call->measures()) {
    counted_ = rounded_up(bytes);
    call_ = call;
    call->count(counted_);
  }
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  if (counted_ != 0) call_->uncount(counted_);
  switch (source_) {
    case Source::library:
      give_to_library({data_, bytes_});
      break;
    case Source::allocator:
      release_to(allocator_, data_, bytes_);
      break;
    case Source::call:
      call_->give_back(data_, bytes_);
      break;
  }
}

void Workspace::swap(Workspace& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(source_, other.source_);
  std::swap(allocator_, other.allocator_);
  std::swap(call_, other.call_);
  std::swap(counted_, other.counted_);
}

Workspace::Workspace(Workspace&& other) noexcept { swap(other); }

Workspace& Workspace::operator=(Workspace&& other) noexcept {
  swap(other);
  return *this;
}

}  // namespace convpool
