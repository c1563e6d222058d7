#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "block_sizes.hpp"

using namespace convpool;

TEST_CASE("caches are what the environment says, or what a machine can have") {
  const CacheSizes& caches = cache_sizes();
  // Set by CMake, in the form that is read.
  if (const char* const said = std::getenv("CONVPOOL_CACHE_SIZES"); said != nullptr) {
    CHECK(std::to_string(caches.l1 >> 10) + "," + std::to_string(caches.l2 >> 10) + "," +
              std::to_string(caches.last >> 10) ==
          said);
  } else {
    CHECK(caches.l1 >= 8 << 10);
    CHECK(caches.l2 > caches.l1);
    CHECK(caches.last >= caches.l2);
  }
}

TEST_CASE("block sizes grow with the caches, between bounds") {
  const auto blocks = [](std::int64_t l1, std::int64_t l2, std::int64_t last) {
    return block_sizes_for({l1 << 10, l2 << 10, last << 10});
  };
  const BlockSizes small = blocks(32, 512, 8 << 10), large = blocks(48, 2 << 10, 48 << 10);
  CHECK(large.rows_together > small.rows_together);
  CHECK(large.copied_block == 4 * small.copied_block);
  CHECK(large.streamed_conv_result == 6 * small.streamed_conv_result);
  CHECK(small.winograd_tiles < 512 << 10);
  CHECK(blocks(48, 2 << 10, 128 << 10).large_winograd_weights == 32 << 20);
  CHECK(blocks(48, 2 << 10, 129 << 10).large_winograd_weights == 4 << 20);
  CHECK(blocks(48, 2 << 10, 128 << 10).fetched_winograd_weights == 32 << 20);
  CHECK(blocks(48, 2 << 10, 129 << 10).fetched_winograd_weights == 1 << 20);
  CHECK(blocks(1, 1, 1).copied_block == 64 << 10);
  CHECK(blocks(1 << 20, 1 << 20, 1 << 20).copied_block == 512 << 10);
}
