#include "result_memory.hpp"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace convpool::bindings {
namespace {

namespace py = pybind11;

constexpr std::size_t smallest_cached = std::size_t{64} << 10;
constexpr std::size_t most_cached = std::size_t{128} << 20;
constexpr std::size_t huge_page = std::size_t{2} << 20, page = 4096, line = 64;

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
};

std::mutex mutex;
std::array<Block, 8> cached;
std::size_t cached_bytes = 0;

/// So many bytes, which may begin anywhere in the first page.
void* allocate(std::size_t bytes) {
  bytes += page;
  const std::size_t alignment = bytes >= 2 * huge_page ? huge_page : line;
  void* data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == huge_page) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

// A block fits a result that uses at least half of it.
Block take(std::size_t bytes) {
  if (std::unique_lock lock(mutex, std::try_to_lock); lock.owns_lock()) {
    Block* best = nullptr;
    for (Block& block : cached) {
      const bool fits = block.data != nullptr && block.bytes >= bytes && block.bytes / 2 <= bytes;
      if (fits && (best == nullptr || block.bytes < best->bytes)) best = &block;
    }
    if (best != nullptr) {
      cached_bytes -= best->bytes;
      return std::exchange(*best, Block{});
    }
  }
  return {allocate(bytes), bytes};
}

void give_back(Block block) noexcept {
  if (std::unique_lock lock(mutex, std::try_to_lock); lock.owns_lock() && block.bytes <= most_cached / 2) {
    // The oldest blocks make room.
    while (cached_bytes + block.bytes > most_cached || cached.back().data != nullptr) {
      Block& oldest = cached.back();
      cached_bytes -= oldest.bytes;
      std::free(std::exchange(oldest, Block{}).data);
      for (std::size_t i = cached.size() - 1; i > 0; --i) std::swap(cached[i], cached[i - 1]);
    }
    for (std::size_t i = cached.size() - 1; i > 0; --i) std::swap(cached[i], cached[i - 1]);
    cached_bytes += block.bytes;
    cached[0] = block;
    return;
  }
  std::free(block.data);
}

}  // namespace

py::array new_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape, const void* read) {
  std::size_t bytes = static_cast<std::size_t>(dtype.itemsize());
  for (const py::ssize_t size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes)) throw std::bad_alloc();
  }
  if (bytes < smallest_cached) return py::array(dtype, shape);
  auto* owned = new Block(take(bytes));
  py::capsule owner(owned, [](void* pointer) {
    auto* block = static_cast<Block*>(pointer);
    give_back(*block);
    delete block;
  });
  const auto distance = reinterpret_cast<std::uintptr_t>(read) - reinterpret_cast<std::uintptr_t>(owned->data);
  const std::size_t begin = (distance + page / 2) % page / line * line;
  return py::array(dtype, shape, static_cast<char*>(owned->data) + begin, owner);
}

}  // namespace convpool::bindings
