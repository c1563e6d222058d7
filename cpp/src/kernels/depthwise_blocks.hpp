#pragma once

// Depthwise convolution with stride 1 of what lies wholly inside a plane, pixels in the vectors, where registers are
// few. A tile is two vectors wide: a row of the input then feeds enough sums that none of them waits for its last
// product, which tiles of 7 rows and one vector do (7x7 in the L1 cache, AVX2, Zen 3: 83 GFLOP/s and 97 of 104; where
// the core's other thread is busy, 70 and 78).

#include "depthwise_windows.hpp"

namespace convpool::kernels {
namespace {

/// With twice the registers a single vector's tile is tall enough; without multiply-adds these are too few.
#if defined(CONVPOOL_ISA_AVX2)
inline constexpr bool takes_blocks = true;
#else
inline constexpr bool takes_blocks = false;
#endif

inline constexpr int block_vectors = 2;

/// `count` tiles beside each other: where the window of their first result starts, and where results go.
template <class T>
struct BlockTiles {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t count;
  const T* next;  ///< as many rows as a tile's from here on are read soon, null for none
  bool stream;
};

/// Tap rows [0, Chunk) of a column of the kernel, of which `weight` is the first.
template <class T, int R, int Chunk>
CONVPOOL_INLINE void block_tap_rows(const T* in, ptrdiff_t in_row, const T* weight, ptrdiff_t next_weight,
                                    Vec<T> (&acc)[R][block_vectors]) {
  constexpr int V = block_vectors;
  Vec<T> w[Chunk];
  unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA { w[m] = pinned(broadcast(weight[m * next_weight])); });
  unroll_steps<R + Chunk - 1>(in, in_row, [&](auto y, const T* p) CONVPOOL_INLINE_LAMBDA {
    Vec<T> x[V];
    unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { x[v] = pinned(load(p + v * lanes<T>)); });
    unroll<Chunk>([&](auto m) CONVPOOL_INLINE_LAMBDA {
      constexpr int r = y - m;
      if constexpr (r >= 0 && r < R) {
        unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { acc[r][v] += w[m] * x[v]; });
      }
    });
  });
}

/// For kernels of Rows rows, 0 for any number that chunks of 3 and 4 make up.
template <class T, int R, int Rows>
CONVPOOL_KERNEL void block_tiles(const DepthwisePlaneArguments<T>& d, const BlockTiles<T>& tiles) {
  constexpr int V = block_vectors;
  constexpr ptrdiff_t width = V * lanes<T>;
  [[maybe_unused]] const ptrdiff_t whole = taps_in_whole_chunks<4>(d.kernel_rows);
  const ptrdiff_t in_row = d.in_row, next_weight = d.kernel_columns;
  const bool clamps = bounded(d.low, d.high);
  const T *from = tiles.in, *next = tiles.next;
  T* out = tiles.out;
  for (ptrdiff_t count = tiles.count; count > 0; --count, from += width, out += width) {
    if (next != nullptr) {
      for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
        const T* p = next + c * d.in_channel;
        for (int r = 0; r < R; ++r, p += in_row) __builtin_prefetch(p);
      }
      next += width;
    }
    Vec<T> acc[R][V];
    const Vec<T> bias = broadcast(tiles.bias);
    unroll<R>([&](auto r)
                  CONVPOOL_INLINE_LAMBDA { unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { acc[r][v] = bias; }); });
    const T* weights = tiles.weight;
    for (ptrdiff_t c = 0; c < d.channels_per_group; ++c, weights += d.kernel_rows * d.kernel_columns) {
      for (ptrdiff_t j = 0; j < d.kernel_columns; ++j) {
        const T* in = from + c * d.in_channel + d.taps[j].in;
        const T* weight = weights + j;
        const auto run = [&](auto chunk) CONVPOOL_INLINE_LAMBDA {
          block_tap_rows<T, R, chunk>(in, in_row, weight, next_weight, acc);
          in += chunk * in_row;
          weight += chunk * next_weight;
        };
        if constexpr (Rows == 0) {
          ptrdiff_t i = 0;
          for (; i < whole; i += 4) run(Constant<4>{});
          for (; i < d.kernel_rows; i += 3) run(Constant<3>{});
        } else {
          // Loops here would cost a fifth.
          static_assert(Rows == 7);
          run(Constant<4>{});
          run(Constant<3>{});
        }
      }
    }
    if (clamps) {
      const Vec<T> low = broadcast(d.low), high = broadcast(d.high);
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { acc[r][v] = clamp<T>(acc[r][v], low, high); });
      });
    }
    if (tiles.stream) {
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        unroll<V>([&](auto v)
                      CONVPOOL_INLINE_LAMBDA { store_streaming(out + r * d.out_row + v * lanes<T>, acc[r][v]); });
      });
    } else {
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { store(out + r * d.out_row + v * lanes<T>, acc[r][v]); });
      });
    }
  }
}

template <class T>
using BlockKernel = void (*)(const DepthwisePlaneArguments<T>&, const BlockTiles<T>&);

/// Tiles of two heights, which come to any number of rows from 12 on; a kernel of any number of rows has low ones
/// alone.
inline constexpr int tall_block = 5, low_block = 4;
template <class T>
struct BlockKernels {
  BlockKernel<T> tall, low;
};
template <class T>
BlockKernels<T> block_kernels(ptrdiff_t kernel_rows) {
  if (kernel_rows == 7) return {block_tiles<T, tall_block, 7>, block_tiles<T, low_block, 7>};
  return {nullptr, block_tiles<T, low_block, 0>};
}

}  // namespace
}  // namespace convpool::kernels
