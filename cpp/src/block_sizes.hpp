#pragma once

#include <algorithm>
#include <cstdint>

namespace convpool {

/// Bytes of data cache that a core has: the first two levels, and the last one, which it shares.
struct CacheSizes {
  std::int64_t l1 = 32 << 10, l2 = 1 << 20, last = 32 << 20;
};

/// What algorithms keep in which cache, in bytes. Each share was measured on Zen 4, with 32 KB, 1 MB and 32 MB.
struct BlockSizes {
  /// Rows of the input that are taken together even where fewer would do.
  std::int64_t rows_together;
  /// Vectors of pixels that tiles of few rows read again and again.
  std::int64_t panel;
  /// Such vectors, packed side by side or in place: what tiles along a row read for some output channels after others.
  std::int64_t packed_panel;
  /// A copied block of the input, beside the weights that pass it; twice that for sums that wait.
  std::int64_t copied_block;
  /// A row's input that is read in place for each set of weights anew.
  std::int64_t row_in_place;
  /// Weights from this size on push the input out, and so want more results for each time that they are read.
  std::int64_t large_weights;
  /// An input that the L2 cache doesn't keep beside what else a call wants, and results that it doesn't hold.
  std::int64_t large_input, large_result;
  /// Weights that are packed right before they are used, by direct convolution and by Winograd's.
  std::int64_t packed_weights, packed_winograd_weights;
  /// What the rows of a depthwise tile read, of all channels that are worked on in turn; rows that are copied first.
  std::int64_t depthwise_rows, depthwise_copy;
  /// Planes whose pixels are transposed, and their results.
  std::int64_t transposed_planes, transposed_pool_planes;
  /// Those of a few vectors of narrow planes, for windows without scratch of their own.
  std::int64_t narrow_planes;
  /// Winograd's transformed tiles, and the strip of the input that neighbouring ones share.
  std::int64_t winograd_tiles, winograd_strip;
  /// Transformed weights of which a core wants so much leave the last cache before they are wanted again, or come from
  /// so far that blocks want more tiles for them; and such that are fetched while others are used.
  std::int64_t large_winograd_weights, fetched_winograd_weights;
  /// Rows that a sliding window keeps.
  std::int64_t sliding_rows;
  /// Batches of channels-last images from this size on are fetched ahead, as they may not be in the last cache.
  std::int64_t fetched_input;
  /// Inputs from this size on mostly come from memory.
  std::int64_t distant_input;
  /// Results of a convolution, or of a pooling that together with its input has the third size, past the caches.
  std::int64_t streamed_conv_result, streamed_pool_result, streamed_pool_total;
};

constexpr BlockSizes block_sizes_for(const CacheSizes& caches) noexcept {
  // So that scratch stays within a few MB, and blocks worth their loops.
  const std::int64_t l1 = std::clamp<std::int64_t>(caches.l1, 16 << 10, 128 << 10);
  const std::int64_t l2 = std::clamp<std::int64_t>(caches.l2, 256 << 10, 2 << 20);
  const std::int64_t last = std::clamp<std::int64_t>(caches.last, 4 << 20, 64 << 20);
  BlockSizes b{};
  b.rows_together = 2 * l1;
  b.panel = l1 * 3 / 8;
  b.packed_panel = l1 * 3 / 4;
  b.copied_block = l2 / 4;
  b.row_in_place = l2 / 2;
  b.large_weights = b.large_result = l2;
  b.large_input = l2 * 3 / 4;
  b.packed_weights = l2 / 4;
  b.packed_winograd_weights = l2 / 2;
  b.depthwise_copy = l2 / 16;
  b.depthwise_rows = b.transposed_planes = l2 * 3 / 8;
  b.transposed_pool_planes = l2;
  b.narrow_planes = l1 * 3 / 4;
  b.winograd_tiles = l2 * 3 / 4;
  b.winograd_strip = l1 * 3 / 4;
  // More than 128 MB are a socket's, shared by many cores and far from each (3x3 of 128 to 512 channels on 14x14 to
  // 56x56 1.1 to 1.35 times as fast, Emerald Rapids; on Zen 5, whose last cache is near, .92).
  const bool far = caches.last > 128 << 20;
  b.large_winograd_weights = far ? 2 * l2 : last / 2;
  b.fetched_winograd_weights = far ? l2 / 2 : last / 2;
  b.sliding_rows = l2 * 7 / 16;
  b.fetched_input = last / 8;
  b.distant_input = std::max<std::int64_t>(caches.last, 4 << 20) / 4;
  // Not from smaller sizes on where the last cache is a socket's: a call whose results go past it looks 1.1 times as
  // fast, and what reads them next pays for it (Emerald Rapids, 260 MB: depthwise 3x3 and then 1x1 of 192 channels on
  // 112x112 took 1.9 ms through the caches and 3.1 ms past them, of 384 channels 3.9 and 6.6 ms).
  b.streamed_conv_result = last * 3 / 8;
  b.streamed_pool_result = last / 8;
  b.streamed_pool_total = last * 3 / 4;
  return b;
}

/// What the machine says, or `CONVPOOL_CACHE_SIZES` in the environment: KB of the three, as in "32,1024,32768". Read
/// while the library is loaded, so that no call waits for it, nor a child that was forked meanwhile. Where nobody says,
/// or the variable holds anything else, the defaults above.
const CacheSizes& cache_sizes() noexcept;

/// For those sizes.
const BlockSizes& block_sizes() noexcept;

}  // namespace convpool
