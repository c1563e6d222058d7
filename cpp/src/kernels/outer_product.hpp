#pragma once

// The register tile that every GEMM-shaped path runs: see TileArguments.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// The tallest tile of V column vectors whose accumulators, V vectors of B and one broadcast fit the registers.
constexpr int tallest_tile(int vectors) {
  const int rows = (CONVPOOL_VECTOR_REGISTERS - 1 - vectors) / vectors;
  return rows < max_tile_rows ? rows : max_tile_rows;
}

template <class T, int R, int V>
CONVPOOL_KERNEL void outer_product_tile(const TileArguments<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][V];
  const bool whole = t.columns >= V * L;
  alignas(vector_alignment) T stage[R * V * L];
  if (t.accumulate) {
    const T* c = t.c;
    ptrdiff_t c_row = t.c_row;
    if (!whole) {
      copy_rows(c, c_row, R, t.columns, stage, V * L);
      c = stage;
      c_row = V * L;
    }
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] = load(c + r * c_row + v * L); }); });
  } else if (t.column_bias != nullptr) {
    unroll<V>([&](auto v) {
      const Vec<T> bias = load(t.column_bias + v * L);
      unroll<R>([&](auto r) { acc[r][v] = bias; });
    });
  } else {
    unroll<R>([&](auto r) {
      const Vec<T> bias = broadcast(t.row_bias != nullptr ? t.row_bias[r] : T(0));
      unroll<V>([&](auto v) { acc[r][v] = bias; });
    });
  }

  // The results' lines arrive while the sums run: a store that misses the caches would hold up those behind it.
  const bool stream =
      t.stream && whole && reinterpret_cast<std::uintptr_t>(t.c) % sizeof(Vec<T>) == 0 && t.c_row % ptrdiff_t(L) == 0;
  if (!stream) {
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { __builtin_prefetch(t.c + r * t.c_row + v * L, 1); }); });
  }

  // Three rows to a pointer: base, base + row, base + 2 * row are all addressing modes, so that 14 rows take five
  // pointers and one stride and everything stays in general registers.
  constexpr int G = (R + 2) / 3;
  const ptrdiff_t row = t.a_row * ptrdiff_t(sizeof(T));
  const ptrdiff_t a_step = t.a_step * ptrdiff_t(sizeof(T));
  const ptrdiff_t b_step = t.b_step;
  const ptrdiff_t b_vector = t.b_vector;
  for (const Segment *s = t.segments, *end = s + t.segment_count; s != end; ++s) {
    const char* a[G];
    unroll<G>([&](auto g) { a[g] = reinterpret_cast<const char*>(t.a + s->a) + 3 * g * row; });
    const T* b = t.b + s->b;
    for (ptrdiff_t n = s->count; n > 0; --n) {
      Vec<T> bv[V];
      unroll<V>([&](auto v) { bv[v] = pinned(load(b + v * b_vector)); });
      unroll<R>([&](auto r) {
        const T x = *reinterpret_cast<const T*>(a[r / 3] + (r % 3) * row);
        unroll<V>([&](auto v) { acc[r][v] += x * bv[v]; });
      });
      unroll<G>([&](auto g) { a[g] += a_step; });
      b += b_step;
    }
  }

  const Vec<T> low = broadcast(t.low), high = broadcast(t.high);
  if (stream) {
    unroll<R>([&](auto r) {
      unroll<V>([&](auto v) { store_streaming(t.c + r * t.c_row + v * L, clamp<T>(acc[r][v], low, high)); });
    });
    return;
  }
  T* const c = whole ? t.c : stage;
  const ptrdiff_t c_row = whole ? t.c_row : V * L;
  unroll<R>([&](auto r) { unroll<V>([&](auto v) { store(c + r * c_row + v * L, clamp<T>(acc[r][v], low, high)); }); });
  if (!whole) copy_rows(stage, V * L, R, t.columns, t.c, t.c_row);
}

inline void finish_streaming() { streaming_fence(); }

template <class T, int V>
constexpr void fill_tiles(Table<T>& table) {
  table.tile_rows[V] = tallest_tile(V);
  unroll<tallest_tile(V)>([&](auto r) { table.tile[V][r + 1] = outer_product_tile<T, r + 1, V>; });
}

}  // namespace
}  // namespace convpool::kernels
