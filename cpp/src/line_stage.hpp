#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/pool_table.hpp"
#include "tiling.hpp"

namespace convpool {

/// Bytes that follow one another without a gap and are to pass the caches, wherever they begin: written to scratch, as
/// far behind a cache line as in the array, they leave it in whole lines while the next ones are computed. Parts of
/// lines would each be read from memory before they are written.
class LineStage {
 public:
  /// How much scratch takes `most` bytes between one send() and the next.
  static std::int64_t scratch(std::int64_t most) { return 2 * room(most); }

  /// scratch: on a cache line. What is sent goes to `to` and what follows.
  LineStage(std::byte* scratch, std::int64_t most, void* to, void (*store_lines)(kernels::WaitingLines&));

  /// Where the next bytes are to be written.
  template <class T>
  T* next() const {
    return reinterpret_cast<T*>(now_ + filled_);
  }
  /// Lines of those before them.
  kernels::WaitingLines& waiting() { return waiting_; }
  void send(std::int64_t bytes);
  void finish();

 private:
  static constexpr std::int64_t line = kernels::cache_line;
  static std::int64_t room(std::int64_t most) { return round_up(most, line) + line; }

  std::byte *now_, *before_;
  std::byte* to_;         ///< the line of the array whose bytes now_ holds
  std::int64_t missing_;  ///< bytes that are somebody else's in that line, which is the first
  std::int64_t filled_;
  void (*store_lines_)(kernels::WaitingLines&);
  kernels::WaitingLines waiting_;
};

}  // namespace convpool
