#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "convpool/convpool.hpp"
#include "dispatch.hpp"
#include "random_arrays.hpp"

using namespace convpool;
using convpool::testing::random_values;

TEST_CASE("each ISA's kernels are its own") {
  const std::string before = isa();
  std::set<const void*> tiles;
  for (const std::string& name : available_isas()) {
    set_isa(name);
    const kernels::IsaKernels& active = active_kernels();
    CHECK(name == active.name);
    const int bytes = name == "avx512" ? 64 : name == "avx2" ? 32 : 16;
    CHECK(active.f32.lanes * 4 == bytes);
    CHECK(active.f64.lanes * 8 == bytes);
    tiles.insert(reinterpret_cast<const void*>(active.f32.tile[1][1]));
  }
  CHECK(tiles.size() == available_isas().size());
  set_isa(before);
}

TEST_CASE("planes that become narrower are runs of pixels where vectors can be packed") {
  const std::string before = isa();
  for (const std::string& name : available_isas()) {
    set_isa(name);
    const auto run = [](std::ptrdiff_t kernel, std::ptrdiff_t dilation, std::ptrdiff_t width, std::ptrdiff_t kept) {
      return active_kernels().f32.depthwise_planes->run(kernel, dilation, width, kept, 0) != nullptr;
    };
    const bool packs = name == "avx512";
    CAPTURE(name);
    for (const int kernel : {2, 3, 4, 5, 7}) {
      CAPTURE(kernel);
      CHECK(run(kernel, 1, 8, 9 - kernel) == packs);
      if (kernel < 7) CHECK_FALSE(run(kernel, 1, 64 + kernel - 1, 64));  // would fill no vector better
    }
    CHECK(run(3, 2, 33, 31) == packs);
    CHECK_FALSE(run(6, 1, 8, 3));
    CHECK(run(3, 1, 8, 8) == (packs || name == "avx2"));
  }
  set_isa(before);
}

// A product that rounds on its own loses what a fused multiply-add keeps, so the bits tell which kind of ISA ran.
TEST_CASE("the bits tell a fused multiply-add from two roundings") {
  const std::string before = isa();
  const float tiny = 1.0F / 4096;
  const float x[2] = {1.0F, 1.0F + tiny}, w[2] = {-1.0F - 2 * tiny, 1.0F + tiny};
  for (const std::string& name : available_isas()) {
    set_isa(name);
    Conv2dParams p;
    p.algorithm = Algorithm::direct;
    float y = 0;
    conv2d<float>(TensorView<const float>::nchw(x, 1, 2, 1, 1), TensorView<const float>::nchw(w, 1, 2, 1, 1), nullptr,
                  TensorView<float>::nchw(&y, 1, 1, 1, 1), p);
    CAPTURE(name);
    CHECK(y == (name == "sse2" ? 0.0F : tiny * tiny));
  }
  set_isa(before);
}

namespace {

template <class T>
void check_transpose(const kernels::Table<T>& table) {
  const std::vector<T> from = random_values<T>(40 * 50);
  for (int rows = 1; rows <= 36; rows += rows < 18 ? 1 : 5) {
    for (int columns = 1; columns <= 40; columns += columns < 18 ? 1 : 7) {
      std::vector<T> to(static_cast<std::size_t>(45 * 41), T(-7));
      table.transpose(from.data(), 50, rows, columns, to.data(), 41);
      int wrong = 0;
      for (int c = 0; c < 45; ++c) {
        for (int r = 0; r < 41; ++r) {
          const T expected = c < columns && r < rows ? from[static_cast<std::size_t>(r * 50 + c)] : T(-7);
          wrong += to[static_cast<std::size_t>(c * 41 + r)] != expected;
        }
      }
      CHECK(wrong == 0);

      // Rows of whole cache lines, from the start of one and from another place.
      alignas(kernels::cache_line) static T lines[45 * 48];
      for (const int begin : {0, 5}) {
        std::fill(std::begin(lines), std::end(lines), T(-7));
        table.stream_transposed(from.data(), 50, rows, columns, lines + begin, 48);
        table.finish_streaming();
        for (int i = 0; i < 45 * 48; ++i) {
          const int c = (i - begin) / 48, r = (i - begin) % 48;
          const bool written = i >= begin && c < columns && r < rows;
          wrong += lines[i] != (written ? from[static_cast<std::size_t>(r * 50 + c)] : T(-7));
        }
      }
      CHECK(wrong == 0);

      // Without a gap: few rows are interleaved.
      std::vector<T> run(static_cast<std::size_t>(columns * rows + 20), T(-7));
      table.transpose(from.data(), 50, rows, columns, run.data(), rows);
      for (int i = 0; i < columns * rows + 20; ++i) {
        const T expected = i < columns * rows ? from[static_cast<std::size_t>(i % rows * 50 + i / rows)] : T(-7);
        wrong += run[static_cast<std::size_t>(i)] != expected;
      }
      CHECK(wrong == 0);
    }
  }
}

/// To targets that share one set of the L1 cache, in runs: lengths around a run's and a vector's.
template <class T>
void check_transpose_to_crowded_targets(const kernels::Table<T>& table) {
  constexpr int run = 512 / sizeof(T), target = 4096 / sizeof(T), most = 3 * run;
  const std::vector<T> from = random_values<T>(most * 50);
  std::vector<T> to(static_cast<std::size_t>(50 * target), T(-7));
  for (const int rows : {1, 31, 32, 33, run - 1, run, run + 1, run + 16, run + 19, 2 * run, 2 * run + 7, most}) {
    for (const int columns : {1, 7, 8, 9, 15, 16, 17, 18, 19, 31, 32, 33, 50}) {
      std::fill(to.begin(), to.end(), T(-7));
      table.transpose(from.data(), 50, rows, columns, to.data(), target);
      int wrong = 0;
      for (int c = 0; c < 50; ++c) {
        for (int r = 0; r < target; ++r) {
          const T expected = c < columns && r < rows ? from[static_cast<std::size_t>(r * 50 + c)] : T(-7);
          wrong += to[static_cast<std::size_t>(c * target + r)] != expected;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

/// From rows that share one set of the L1 cache, of which 16 go eight at a time where vectors are half a line.
template <class T>
void check_transpose_from_crowded_rows(const kernels::Table<T>& table) {
  constexpr int source = 4096 / sizeof(T);
  const std::vector<T> from = random_values<T>(25 * source);
  std::vector<T> to(static_cast<std::size_t>(45 * 29), T(-7));
  for (const int rows : {7, 8, 9, 15, 16, 17, 24, 25}) {
    for (int columns = 1; columns <= 40; columns += columns < 18 ? 1 : 7) {
      std::fill(to.begin(), to.end(), T(-7));
      table.transpose(from.data(), source, rows, columns, to.data(), 29);
      int wrong = 0;
      for (int c = 0; c < 45; ++c) {
        for (int r = 0; r < 29; ++r) {
          const T expected = c < columns && r < rows ? from[static_cast<std::size_t>(r * source + c)] : T(-7);
          wrong += to[static_cast<std::size_t>(c * 29 + r)] != expected;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

/// Rows of an array that ends with them, taken apart by strides that go in vectors and one that doesn't.
template <class T>
void check_split_phases(const kernels::Table<T>& table) {
  constexpr int rows = 2, gap = 3, pitch = 80;
  const int lanes = table.lanes;
  for (const int stride : {2, 3, 4}) {
    for (int columns = 1; columns <= 3 * stride * lanes; columns += columns < 2 * lanes ? 1 : 5) {
      for (const int lead : {0, 1, lanes - 1, lanes, stride * lanes + 1}) {
        const std::vector<T> from = random_values<T>(static_cast<std::size_t>(rows * columns + gap));
        const int total = (lead + columns + 2) / lanes * lanes + lanes, row = pitch * stride;
        REQUIRE((total + stride * lanes - 1) / (stride * lanes) * lanes <= pitch);
        std::vector<T> to(static_cast<std::size_t>(rows * row), T(-7));
        table.split_phases(
            {from.data(), columns + gap, to.data(), row, pitch, rows, lead, columns, total, stride, T(5)});
        int wrong = 0;
        for (int r = 0; r < rows; ++r) {
          for (int x = 0; x < total; ++x) {
            const bool inside = x >= lead && x < lead + columns;
            const T expected = inside ? from[static_cast<std::size_t>(r * (columns + gap) + x - lead)] : T(5);
            wrong += to[static_cast<std::size_t>(r * row + x % stride * pitch + x / stride)] != expected;
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

/// Of these segments, each row of A 31 elements from the last, vectors of B 3000 and steps 16 apart, rows of C 80.
template <class T, std::size_t N>
kernels::TileArguments<T> tile_arguments(const kernels::Segment (&segments)[N], const std::vector<T>& a,
                                         const std::vector<T>& b, std::vector<T>& c) {
  kernels::TileArguments<T> t{};
  t.segments = segments;
  t.segment_count = N;
  t.a = a.data();
  t.a_row = 31;
  t.a_step = 2;
  t.b = b.data();
  t.b_vector = 3000;
  t.b_step = 16;
  t.c = c.data();
  t.c_row = 80;
  t.low = -std::numeric_limits<T>::infinity();
  t.high = std::numeric_limits<T>::infinity();
  return t;
}

/// Three tiles in a call, moving along A, or along B with the same A, each as a call of its own would leave it.
template <class T>
void check_runs_of_tiles(const kernels::Table<T>& table) {
  const std::vector<T> a = random_values<T>(4000), b = random_values<T>(20000), bias = random_values<T>(64);
  const kernels::Segment segments[] = {{0, 0, 3}, {7, 1000, 5}};
  for (int v = 1; v <= kernels::max_tile_vectors; ++v) {
    for (int r = 1; r <= table.tile_rows[v]; ++r) {
      for (const bool along_a : {true, false}) {
        for (const int missing : {0, 3}) {
          const std::ptrdiff_t columns = v * table.lanes - missing;
          if (columns < 1) continue;
          std::vector<T> c(3 * 14 * 80, T(9)), one(3 * 14 * 80, T(9));
          kernels::TileArguments<T> t = tile_arguments(segments, a, b, c);
          t.columns = columns;
          t.row_bias = bias.data();
          t.tiles = 3;
          t.a_tile = along_a ? r * t.a_row : 0;
          t.b_tile = along_a ? 0 : 5;
          t.c_tile = r * t.c_row;
          t.ahead = b.data();
          t.ahead_pieces = 5;  // over rows of two and more than one of the tiles
          t.ahead_each = 1;
          t.ahead_lines = missing + 1;
          t.ahead_step = 16;
          t.ahead_row_pieces = 2;
          t.ahead_left_in_row = 1;
          t.ahead_gap = 3;
          table.tile[v][r](t);
          t.tiles = 0;
          t.c = one.data();
          t.fetched = one.data();
          t.fetched_rows = 1;
          for (int tile = 0; tile < 3; ++tile) {
            table.tile[v][r](t);
            t.a += t.a_tile;
            t.b += t.b_tile;
            t.c += t.c_tile;
            if (along_a) t.row_bias += r;
          }
          CAPTURE(v);
          CAPTURE(r);
          CAPTURE(along_a);
          CHECK(c == one);
        }
      }
    }
  }
}

/// Lines of results to be fetched, with nothing else: fewer than steps, more than a segment's, and more than there are
/// steps. Sums show none of them.
template <class T>
void check_tiles_that_fetch_results(const kernels::Table<T>& table) {
  const std::vector<T> a = random_values<T>(4000), b = random_values<T>(20000);
  const kernels::Segment segments[] = {{0, 0, 3}, {7, 1000, 5}, {20, 2000, 19}};
  for (int v = 1; v <= kernels::max_tile_vectors; ++v) {
    for (int r = 1; r <= table.tile_rows[v]; ++r) {
      std::vector<T> none(3 * 14 * 80, T(9));
      kernels::TileArguments<T> t = tile_arguments(segments, a, b, none);
      t.segment_count = 3;
      t.columns = v * table.lanes;
      t.tiles = 3;
      t.a_tile = r * t.a_row;
      t.c_tile = r * t.c_row;
      table.tile[v][r](t);
      for (const int lines : {1, 3, 4, 11, 27, 40}) {
        std::vector<T> c(3 * 14 * 80, T(9));
        t.c = t.fetched = c.data();
        t.fetched_row = 16;
        t.fetched_rows = lines;
        t.fetched_tile = 1;
        table.tile[v][r](t);
        CAPTURE(v);
        CAPTURE(r);
        CAPTURE(lines);
        CHECK(c == none);
      }
    }
  }
}

/// Tiles whose steps read B where a list says, as tiles do for which each step is a segment.
template <class T>
void check_listed_tiles(const kernels::Table<T>& table) {
  const std::vector<T> a = random_values<T>(8000), b = random_values<T>(20000), before = random_values<T>(3 * 14 * 80);
  const std::ptrdiff_t list[] = {900, 3, 17, 1, 0, 2000, 2001, 1999, 64};
  const kernels::Segment listed[] = {{0, 2, 3}, {9, 5, 4}};
  std::vector<kernels::Segment> steps;
  for (const kernels::Segment& s : listed) {
    for (std::ptrdiff_t k = 0; k < s.count; ++k) steps.push_back({s.a + 2 * k, list[s.b + k], 1});
  }
  for (int v = 1; v <= kernels::max_tile_vectors; ++v) {
    for (int r = 1; r <= kernels::max_tile_rows; ++r) {
      const bool exists = table.listed_tile[v][r] != nullptr;
      CAPTURE(v);
      CAPTURE(r);
      REQUIRE(exists == (table.tile_rows[2] < 14 && table.lanes * sizeof(T) == 32 && (v == 2 || v == 3) &&
                         r <= table.tile_rows[v]));
      if (!exists) continue;
      for (const bool along_a : {false, true}) {
        for (const bool accumulates : {false, true}) {
          for (const std::ptrdiff_t missing : {0, 1, v * table.lanes - 1}) {
            std::vector<T> c = before, expected = before;
            kernels::TileArguments<T> t = tile_arguments(listed, a, b, c);
            t.list = list;
            t.columns = v * table.lanes - missing;
            t.row_bias = a.data() + 5000;
            t.accumulate = accumulates;
            t.low = T(-2);
            t.high = T(3);
            t.tiles = 3;
            t.a_tile = along_a ? r * t.a_row : 0;
            t.b_tile = along_a ? 0 : 5;
            t.c_tile = r * t.c_row;
            table.listed_tile[v][r](t);
            t.segments = steps.data();
            t.segment_count = static_cast<std::ptrdiff_t>(steps.size());
            t.c = expected.data();
            table.tile[v][r](t);
            CHECK(c == expected);
          }
        }
      }
    }
  }
}

/// Results and panels of tiles that pack: what they leave is what tiles that read the panel leave, too.
template <class T>
void check_packing_tiles(const kernels::Table<T>& table) {
  const std::vector<T> a = random_values<T>(8000), b = random_values<T>(20000);
  const kernels::Segment segments[] = {{0, 0, 21}, {21, 1100, 4}};
  constexpr std::ptrdiff_t steps = 25;
  for (int v = 1; v <= kernels::max_tile_vectors; ++v) {
    const bool packs = table.packing_tile[v] != nullptr;
    REQUIRE((packs || (table.tile_rows[2] < 14 && (v == 1 || v == 4))));
    if (!packs) continue;
    const std::ptrdiff_t rows = table.tile_rows[v], columns = std::ptrdiff_t{v} * table.lanes,
                         of_panel = steps * columns;
    std::vector<T> c(3 * 14 * 80, T(9)), one(3 * 14 * 80, T(9)),
        panels(static_cast<std::size_t>(3 * of_panel + 1), T(9));
    kernels::TileArguments<T> t = tile_arguments(segments, a, b, c);
    t.a_step = 1;
    t.columns = columns;
    t.tiles = 3;
    t.b_tile = 5;
    t.c_tile = rows * t.c_row;
    t.panel = panels.data();
    table.packing_tile[v](t);
    const kernels::Segment whole{0, 0, steps};
    t.segments = &whole;
    t.segment_count = 1;
    t.b = panels.data();
    t.b_vector = table.lanes;
    t.b_step = columns;
    t.b_tile = of_panel;
    t.c = one.data();
    table.tile[v][rows](t);
    CAPTURE(v);
    CHECK(c == one);
    CHECK(panels.back() == T(9));
    int wrong = 0;
    for (std::ptrdiff_t i = 0; i < 3 * of_panel; ++i) {
      const std::ptrdiff_t k = i % of_panel / columns, x = i % columns;
      const std::ptrdiff_t from = k < 21 ? k * 16 : 1100 + (k - 21) * 16;
      wrong += panels[static_cast<std::size_t>(i)] !=
               b[static_cast<std::size_t>(i / of_panel * 5 + from + x / table.lanes * 3000 + x % table.lanes)];
    }
    CHECK(wrong == 0);
  }
}

template <class T>
void check_every_tile(const kernels::Table<T>& table) {
  using convpool::kernels::Segment;
  const std::vector<T> a = random_values<T>(4000), b = random_values<T>(20000);
  const Segment segments[] = {{0, 0, 3}, {50, 700, 1}, {7, 1000, 40}};  // the last one fetches more than once
  for (int v = 1; v <= kernels::max_tile_vectors; ++v) {
    for (int r = 1; r <= table.tile_rows[v]; ++r) {
      for (const int missing : {0, 1, table.lanes - 1, table.lanes}) {
        const int columns = v * table.lanes - missing;
        if (columns < 1) continue;
        std::vector<T> c(static_cast<std::size_t>(16 * 80), T(0.25));
        kernels::TileArguments<T> t = tile_arguments(segments, a, b, c);
        t.columns = columns;
        t.low = T(-0.5);
        t.accumulate = true;
        table.tile[v][r](t);
        int wrong = 0;
        for (int i = 0; i < 16; ++i) {
          for (int x = 0; x < 80; ++x) {
            double sum = 0.25;
            if (i < r && x < columns) {
              for (const Segment& s : segments) {
                for (std::ptrdiff_t k = 0; k < s.count; ++k) {
                  sum += static_cast<double>(a[static_cast<std::size_t>(s.a + i * 31 + k * 2)]) *
                         static_cast<double>(
                             b[static_cast<std::size_t>(s.b + x / table.lanes * 3000 + x % table.lanes + k * 16)]);
                }
              }
              sum = std::max(sum, -0.5);
            }
            wrong += std::fabs(static_cast<double>(c[static_cast<std::size_t>(i * 80 + x)]) - sum) > 1e-5;
          }
        }
        CAPTURE(v);
        CAPTURE(r);
        CAPTURE(columns);
        CHECK(wrong == 0);
      }
    }
  }
}

}  // namespace

TEST_CASE("transposition, rows taken apart and register tiles of every ISA and shape") {
  const std::string before = isa();
  for (const std::string& name : available_isas()) {
    CAPTURE(name);
    set_isa(name);
    check_transpose(active_kernels().f32);
    check_transpose(active_kernels().f64);
    check_transpose_to_crowded_targets(active_kernels().f32);
    check_transpose_to_crowded_targets(active_kernels().f64);
    check_transpose_from_crowded_rows(active_kernels().f32);
    check_transpose_from_crowded_rows(active_kernels().f64);
    check_split_phases(active_kernels().f32);
    check_split_phases(active_kernels().f64);
    check_every_tile(active_kernels().f32);
    check_every_tile(active_kernels().f64);
    check_packing_tiles(active_kernels().f32);
    check_packing_tiles(active_kernels().f64);
    check_listed_tiles(active_kernels().f32);
    check_listed_tiles(active_kernels().f64);
    check_runs_of_tiles(active_kernels().f32);
    check_runs_of_tiles(active_kernels().f64);
    check_tiles_that_fetch_results(active_kernels().f32);
    check_tiles_that_fetch_results(active_kernels().f64);
  }
  set_isa(before);
}
