#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "line_stage.hpp"

using namespace convpool;

namespace {

constexpr std::int64_t line = 64;

/// Lines that have gone; the kernels' own stores go past the caches.
std::int64_t stored = 0;

void store(kernels::WaitingLines& waiting, std::int64_t count) {
  if (count == 0) return;
  REQUIRE(reinterpret_cast<std::uintptr_t>(waiting.to) % line == 0);
  REQUIRE(reinterpret_cast<std::uintptr_t>(waiting.from) % line == 0);
  std::memcpy(waiting.to, waiting.from, static_cast<std::size_t>(count * line));
  waiting.from += count * line;
  waiting.to += count * line;
  waiting.count -= count;
  stored += count;
}

void store_all(kernels::WaitingLines& waiting) { store(waiting, waiting.count); }

std::byte* on_a_line(std::vector<std::byte>& memory) {
  return memory.data() + (line - reinterpret_cast<std::uintptr_t>(memory.data()) % line) % line;
}

}  // namespace

TEST_CASE("staged bytes arrive where they belong, in whole lines but for the ends") {
  for (const std::int64_t total : {0, 1, 40, 63, 64, 65, 200, 1000}) {
    for (const std::int64_t begin : {0, 1, 8, 60, 63}) {
      for (const std::int64_t piece : {1, 24, 64, 100, 999}) {
        const auto scratch_bytes = static_cast<std::size_t>(LineStage::scratch(piece));
        std::vector<std::byte> source(static_cast<std::size_t>(total)), memory(2048, std::byte{7}),
            scratch(scratch_bytes + 2 * line, std::byte{9});
        for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 31 % 251);
        std::byte* const array = on_a_line(memory) + line + begin;
        stored = 0;
        LineStage stage(on_a_line(scratch), piece, array, store_all);
        for (std::int64_t sent = 0; sent < total; sent += piece) {
          const std::int64_t count = std::min(piece, total - sent);
          std::memcpy(stage.next<std::byte>(), source.data() + sent, static_cast<std::size_t>(count));
          // As a kernel takes some of them.
          if (stage.waiting().count > 1) store(stage.waiting(), stage.waiting().count / 2);
          stage.send(count);
        }
        stage.finish();
        std::vector<std::byte> expected(memory.size(), std::byte{7});
        std::copy(source.begin(), source.end(), expected.begin() + (array - memory.data()));
        CHECK(memory == expected);
        const std::byte* const behind = on_a_line(scratch) + scratch_bytes;
        CHECK(std::all_of(behind, behind + line, [](std::byte b) { return b == std::byte{9}; }));
        const std::int64_t first = (begin + line - 1) / line, last = (begin + total) / line;
        CHECK(stored == std::max<std::int64_t>(0, last - first));
      }
    }
  }
}
