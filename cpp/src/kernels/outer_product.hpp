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

/// f(p + r * row, r) for R rows: one pointer that moves, since as many addresses as there are rows would all be worked
/// out first.
template <int R, class P, class F>
CONVPOOL_INLINE void each_row(P p, ptrdiff_t row, F&& f) {
  unroll<R>([&](auto r) {
    f(p, r);
    if constexpr (r + 1 < R) p = step_by_step(p + row);
  });
}

/// What each step of a reduction fetches beside its products.
enum StepFetches { no_line, result_line, line_ahead };

/// How a tile goes through B: at even distances; so, and with a copy of what it reads to a panel; or where
/// TileArguments::list says.
enum class Steps { even, packing, listed };

template <class T, int R, int V, Steps S = Steps::even>
CONVPOOL_KERNEL void outer_product_tile(const TileArguments<T>& t) {
  constexpr int L = lanes<T>;
  const bool whole = t.columns >= V * L;
  constexpr ptrdiff_t line = cache_line / ptrdiff_t{sizeof(T)};
  const bool in_lines = V * L % line == 0 && t.c_row % line == 0 && t.c_tile % line == 0 &&
                        reinterpret_cast<std::uintptr_t>(t.c) % cache_line == 0;
  const bool stream = S != Steps::listed && t.stream && whole && in_lines;
  // Most results aren't clamped, and where the sums are short it shows: 7 % of 27 products.
  const bool clamps = t.low > -T(__builtin_inf()) || t.high < T(__builtin_inf());
  // Without masks, rows of other lengths go through a copy.
  const bool direct = whole || masks_are_cheap;
  alignas(vector_alignment) T stage[masks_are_cheap ? 1 : R * V * L];
  const T *in_a = t.a, *in_b = t.b, *row_bias = t.row_bias, *ahead = t.ahead;
  T *out = t.c, *fetched = S == Steps::listed ? nullptr : t.fetched, *panel = t.panel;
  ptrdiff_t ahead_pieces = t.ahead_pieces, left_in_row = t.ahead_left_in_row;
  // What the sums read waits for lines that are fetched, unless there are buffers for all of them at once. Few fetches
  // don't pay for themselves. Nor do steps of one vector pay for being cut (14 x 1, segments of 3: 7 %).
  constexpr bool few_lines = R * V <= 20, cuts_segments = V > 1;
  constexpr ptrdiff_t few_fetches = 4;
  // A core has 16 buffers for lines on their way: a piece's lines come one by one, one with each step (8 with every
  // eighth step of 6 x 4 took 504 us for what took 419 without and 426 so, Emerald Rapids). What the tile broadcasts
  // would still wait behind them, and is fetched to the L1 cache: 36 products of 16 x 256 by 256 x 256, B from the last
  // cache, took 610 us without, 550 with B's lines alone, 485 with both. Low tiles' steps leave no room for it.
  constexpr bool paces = masks_are_cheap && S == Steps::even && V > 1 && R * V >= 16;
  // Low tiles fetch results' lines one with each step, in a loop of their own: beside the other fetches 16 lines took a
  // tenth of 3 segments of 9 steps (6 x 2, Zen 3). Tall ones weren't measured so.
  constexpr bool few_registers = CONVPOOL_VECTOR_REGISTERS < 32;
  constexpr bool results_by_step = few_registers && S == Steps::even;
  static_assert(few_lines || !few_registers);
  const ptrdiff_t fetch_count =
      t.segment_count > 0 ? t.segment_count * (cuts_segments ? fetches_of(t.segments->count) : 1) : 0;
  const ptrdiff_t fetched_row = fetched != nullptr ? t.fetched_row : t.c_row;
  const ptrdiff_t rows_fetched = fetched != nullptr ? t.fetched_rows : stream ? 0 : R;
  const bool counts_fetches = fetch_count > 0 && rows_fetched > 0 && (!few_lines || fetched != nullptr);
  const ptrdiff_t rows_at_once = counts_fetches ? (rows_fetched - 1) / fetch_count + 1 : 0;
  const ptrdiff_t bias_step = row_bias != nullptr && t.a_tile != 0 ? R : 0;
  for (ptrdiff_t tiles = t.tiles;;) {
    Vec<T> acc[R][V];
    if (t.accumulate) {
      const T* c = out;
      ptrdiff_t c_row = t.c_row;
      if (!direct) {
        copy_rows(c, c_row, R, t.columns, stage, V * L);
        c = stage;
        c_row = V * L;
      }
      if (whole || !masks_are_cheap) {
        each_row<R>(c, c_row, [&](const T* p, auto r) { unroll<V>([&](auto v) { acc[r][v] = load(p + v * L); }); });
      } else {
        unroll<V>([&](auto v) {
          const ptrdiff_t n = t.columns - v * L;
          unroll<R>([&](auto r) {
            const T* const p = c + r * c_row + v * L;
            acc[r][v] = n >= L ? load(p) : n > 0 ? load_first(p, n) : Vec<T>{};
          });
        });
      }
    } else if (t.column_bias != nullptr) {
      unroll<V>([&](auto v) {
        const Vec<T> bias = load(t.column_bias + v * L);
        unroll<R>([&](auto r) { acc[r][v] = bias; });
      });
    } else {
      unroll<R>([&](auto r) {
        const Vec<T> bias = broadcast(row_bias != nullptr ? row_bias[r] : T(0));
        unroll<V>([&](auto v) { acc[r][v] = bias; });
      });
    }

    // The results' lines arrive while the sums run: a store that misses the caches would hold up those behind it.
    const T* written = fetched != nullptr ? fetched : out;
    ptrdiff_t rows_left = rows_fetched;
    if (fetched == nullptr && !stream && (few_lines || fetch_count <= few_fetches)) {
      each_row<R>(out, t.c_row, [&](const T* p, auto) {
        unroll<V>([&](auto v) {
          if constexpr (v % (line / L) == 0 || v + 1 == V) __builtin_prefetch(p + v * L, 1);
        });
      });
      rows_left = 0;
    }
    bool fetches = S != Steps::listed && (rows_left > 0 || ahead_pieces > 0);
    if (fetched != nullptr) fetched += t.fetched_tile;

    // Three rows to a pointer: base, base + row, base + 2 * row are all addressing modes, so that 14 rows take five
    // pointers and one stride and everything stays in general registers.
    constexpr int G = (R + 2) / 3;
    const ptrdiff_t row = t.a_row * ptrdiff_t(sizeof(T));
    const ptrdiff_t a_step = t.a_step * ptrdiff_t(sizeof(T));
    const ptrdiff_t b_step = t.b_step;
    const ptrdiff_t b_vector = t.b_vector;
    for (const Segment *s = t.segments, *end = s + t.segment_count; s != end; ++s) {
      const char* a[G];
      unroll<G>([&](auto g) { a[g] = reinterpret_cast<const char*>(in_a + s->a) + 3 * g * row; });
      const T* b = S == Steps::listed ? in_b : in_b + s->b;
      const ptrdiff_t* step = S == Steps::listed ? t.list + s->b : nullptr;
      ptrdiff_t left = s->count;
      const T* passing = nullptr;
      ptrdiff_t pace = 0;
      const auto run_steps = [&](ptrdiff_t n, auto fetching) CONVPOOL_INLINED {
        do {
          if constexpr (fetching == StepFetches::line_ahead) {
            __builtin_prefetch(passing, 0, 2);
            passing += pace;
          } else if constexpr (fetching == StepFetches::result_line) {
            __builtin_prefetch(written, 1);
            written = step_by_step(written + fetched_row);
          }
          if constexpr (S == Steps::listed) {
            b = in_b + *step;
            step = step_by_step(step + 1);
          }
          Vec<T> bv[V];
          unroll<V>([&](auto v) { bv[v] = pinned(load(b + v * b_vector)); });
          if constexpr (S == Steps::packing) {
            unroll<V>([&](auto v) { store(panel + v * L, bv[v]); });
            panel += V * L;
          }
          unroll<R>([&](auto r) {
            const T x = *reinterpret_cast<const T*>(a[r / 3] + (r % 3) * row);
            unroll<V>([&](auto v) { acc[r][v] += x * bv[v]; });
          });
          unroll<G>([&](auto g) { a[g] = step_by_step(a[g] + a_step); });
          if constexpr (S != Steps::listed) b = step_by_step(b + b_step);
        } while (--n > 0);
      };
      // Most steps of low tiles fetch nothing.
      if (few_registers ? __builtin_expect(fetches, false) : fetches) {
        if (results_by_step && ahead_pieces == 0 && rows_at_once * (cuts_segments ? fetches_of(left) : 1) <= left) {
          const ptrdiff_t n = left < rows_left ? left : rows_left;
          rows_left -= n;
          left -= n;
          fetches = rows_left > 0;
          run_steps(n, Constant<StepFetches::result_line>{});
          if (left == 0) continue;
        } else {
          do {
            ptrdiff_t n = !cuts_segments || !fetches || left <= 2 * steps_of_a_fetch ? left : steps_of_a_fetch;
            pace = 0;
            if (fetches) {
              ptrdiff_t rows = rows_left < rows_at_once ? rows_left : rows_at_once;
              for (rows_left -= rows; rows > 0; --rows, written += fetched_row) {
                __builtin_prefetch(written, 1);
                if (!few_lines && step_by_step(int{fetched == nullptr}) != 0) {
                  unroll<V - 1>([&](auto v) { __builtin_prefetch(written + (v + 1) * L, 1); });
                }
              }
              if (t.ahead_lines <= 1) {
                const ptrdiff_t each = cuts_segments ? t.ahead_each : t.ahead_each * fetches_of(s->count);
                ptrdiff_t lines = ahead_pieces < each ? ahead_pieces : each;
                for (ahead_pieces -= lines; lines > 0; --lines, ahead += line) {
                  if (left_in_row == 0) {
                    ahead += t.ahead_gap;
                    left_in_row = t.ahead_row_pieces;
                  }
                  --left_in_row;
                  __builtin_prefetch(ahead, 0, 2);
                }
              } else if (ahead_pieces > 0) {
                ptrdiff_t lines = t.ahead_lines;
                for (passing = ahead; lines > (paces ? n : 0); --lines, passing += line)
                  __builtin_prefetch(passing, 0, 2);
                if constexpr (paces) {
                  // Two lines on; the first ones of the next tile at the end.
                  const ptrdiff_t next = left > 2 * line ? 0 : (t.a_tile - s->count) * ptrdiff_t(sizeof(T));
                  if (t.a_step == 1) {
                    unroll<R>([&](auto r) { __builtin_prefetch(a[r / 3] + (r % 3) * row + 2 * cache_line + next); });
                  }
                  pace = (lines * line + n - 1) / n;
                }
                --ahead_pieces;
                ahead += t.ahead_step;
                if (--left_in_row == 0) {
                  ahead += t.ahead_gap;
                  left_in_row = t.ahead_row_pieces;
                }
              }
              fetches = rows_left > 0 || ahead_pieces > 0;
            }
            if (!few_lines) n = step_by_step(n);  // or 8 steps are unrolled
            left -= n;
            if (paces && pace > 0) {
              run_steps(n, Constant<paces ? StepFetches::line_ahead : StepFetches::no_line>{});
            } else {
              run_steps(n, Constant<StepFetches::no_line>{});
            }
          } while (cuts_segments && left > 0);
          continue;
        }
      }
      run_steps(left, Constant<StepFetches::no_line>{});
    }

    if (clamps) {
      const Vec<T> low = broadcast(t.low), high = broadcast(t.high);
      unroll<R>([&](auto r) { unroll<V>([&](auto v) { acc[r][v] = clamp<T>(acc[r][v], low, high); }); });
    }
    if (stream) [[unlikely]] {
      unroll<R>([&](auto r) { unroll<V>([&](auto v) { store_streaming(out + r * t.c_row + v * L, acc[r][v]); }); });
    } else if (whole || !masks_are_cheap) {
      T* const c = whole ? out : stage;
      const ptrdiff_t c_row = whole ? t.c_row : V * L;
      each_row<R>(c, c_row, [&](T* p, auto r) { unroll<V>([&](auto v) { store(p + v * L, acc[r][v]); }); });
      if (!whole) copy_rows(stage, V * L, R, t.columns, out, t.c_row);
    } else {
      unroll<V>([&](auto v) {
        const ptrdiff_t n = t.columns - v * L;
        if (n >= L) {
          unroll<R>([&](auto r) { store(out + r * t.c_row + v * L, acc[r][v]); });
        } else if (n > 0) {
          unroll<R>([&](auto r) { store_first<T>(out + r * t.c_row + v * L, acc[r][v], n); });
        }
      });
    }
    if (--tiles <= 0) return;
    in_a += t.a_tile;
    in_b += t.b_tile;
    out += t.c_tile;
    row_bias += bias_step;
  }
}

template <class T, int V>
CONVPOOL_KERNEL void pack_panel(const PanelArguments<T>& p) {
  constexpr int L = lanes<T>;
  const ptrdiff_t b_vector = p.b_vector, b_step = p.b_step, first = p.first, to_step = p.a_step * (V * L);
  const T* const from = p.b;
  T* const panel = p.to;
  for (const Segment *s = p.segments, *end = s + p.segment_count; s != end; ++s) {
    const T* b = from + s->b;
    T* to = panel + (s->a - first) * (V * L);
    ptrdiff_t n = s->count;
    do {
      unroll<V>([&](auto v) { store(to + v * L, load(b + v * b_vector)); });
      b += b_step;
      to += to_step;
    } while (--n > 0);
  }
}

template <class T, int V>
constexpr void fill_tiles(Table<T>& table) {
  table.tile_rows[V] = tallest_tile(V);
  // Low tiles of 1 and 4 vectors are seldom more than the end of a row; packing ones of them were 22 KB of the wheel.
  constexpr bool many_registers = CONVPOOL_VECTOR_REGISTERS >= 32;
  // SSE2 goes without them, for the size of the wheel.
  constexpr bool lists_steps = !many_registers && sizeof(Vec<T>) == 32;
  if constexpr (many_registers || V == 2 || V == 3) {
    table.packing_tile[V] = outer_product_tile<T, tallest_tile(V), V, Steps::packing>;
  }
  if constexpr (!many_registers) table.pack_panel[V] = pack_panel<T, V>;
  if constexpr (lists_steps && (V == 2 || V == 3)) {
    unroll<tallest_tile(V)>(
        [&](auto r) { table.listed_tile[V][r + 1] = outer_product_tile<T, r + 1, V, Steps::listed>; });
  }
  unroll<tallest_tile(V)>([&](auto r) { table.tile[V][r + 1] = outer_product_tile<T, r + 1, V>; });
}

}  // namespace
}  // namespace convpool::kernels
