#pragma once

// Convolution of few channels with stride 1 over planes without gaps, whose rows of results are as wide as the input's,
// or narrower: a plane is one run of pixels, so that no vector stays half empty at the end of a row. The rows of a
// window are multiplied by each column of its weights where they lie; then those sums move to their results, a shuffle
// and an addition for each column. Of narrower rows the columns that are kept are stored side by side.

#include "depthwise_windows.hpp"
#include "plane_runs.hpp"

namespace convpool::kernels {
namespace {

/// Vectors of a row until one starts with the first column again, and vectors that lack some of their rows: what is
/// prepared once for all planes.
inline constexpr ptrdiff_t most_column_sets = masks_are_cheap ? 256 : 40;
inline constexpr ptrdiff_t most_edge_vectors_of_run = masks_are_cheap ? 1600 : 128;

/// Wider rows waste little of their last vectors, and share more from row to row. Measured on Zen 4: as fast or faster
/// up to here, 10 % slower on 1920 columns of float with AVX-512, on 56 with AVX2.
template <class T>
constexpr bool gains_as_run(ptrdiff_t kernel, ptrdiff_t width) {
  if (kernel == 1) return width <= 1024;
  if (!masks_are_cheap) return width <= (kernel == 3 ? 40 : 24);
  return width <= (kernel == 3 ? 1024 : 256) || width * ptrdiff_t{sizeof(T)} % crowded_row_bytes == 0;
}

/// The same of rows that become narrower: what vectors of the plane cost beside those of the results, in quarters, was
/// measured on Emerald Rapids (3x3 of 8 columns to 6 3.8 times as fast, of 30 to 28 1.05 times, of 16 to 14 level, of
/// 150 to 148 1.07, of 256 to 254 1.4 times; 5x5 of 60 to 56 .85; 7x7 of 20 to 14 1.27; 3x3 dilated by 2 of 33 to 31
/// 2.0 times). Rows of whole cache lines are left as they are, which may go past the caches.
template <class T>
constexpr bool gains_as_narrower_run(ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t width, ptrdiff_t kept) {
  const ptrdiff_t vectors = (kept + lanes<T> - 1) / lanes<T>;
  const ptrdiff_t quarters = dilation > 1 ? 2 : kernel == 5 ? 5 : kernel == 7 ? 3 : 4;
  return quarters * width <= 4 * vectors * lanes<T> && kept * ptrdiff_t{sizeof(T)} % cache_line != 0;
}

/// Taps on the left of the one in whose column a sum stands first.
template <int K>
inline constexpr int taps_before = (K - 1) / 2;

/// Moves the sums of tap column J of K to the results they belong to: taps_before<K> - J pixels to the right. Dilated:
/// so many times a distance that is known at run time, at most a vector in all.
template <class T, int K, bool Dilated>
class ColumnShifts {
 public:
  CONVPOOL_INLINE explicit ColumnShifts(ptrdiff_t) {}
  template <int J>
  CONVPOOL_INLINE Vec<T> apply(Vec<T> previous, Vec<T> current, Vec<T> next) const {
    return neighbours<T, J - taps_before<K>>(previous, current, next, typename MakeIndices<lanes<T>>::type{});
  }
};
template <class T, int K>
class ColumnShifts<T, K, true> {
 public:
  CONVPOOL_INLINE explicit ColumnShifts(ptrdiff_t dilation) {
    unroll<K>([&](auto j) {
      const ptrdiff_t from = (j - taps_before<K>)*dilation + (j < taps_before<K> ? lanes<T> : 0);
      for (int i = 0; i < lanes<T>; ++i) lane_[j][i] = static_cast<Index>(from + i);
    });
  }
  template <int J>
  CONVPOOL_INLINE Vec<T> apply(Vec<T> previous, Vec<T> current, Vec<T> next) const {
    return __builtin_shuffle(J < taps_before<K> ? previous : current, J < taps_before<K> ? current : next, lane_[J]);
  }

 private:
  using Index = typename IndexOf<T>::type;
  Vec<Index> lane_[K];
};

/// Weights that stay in registers beside the sums of three vectors; the others are broadcast from memory for each
/// product, and loads, of which most cross a line, were what bounded the kernel (Zen 5, AVX-512, planes of 14x14 to
/// 112x112: 5x5 1.25 times as fast as with none of them, 7x7 1.15 times; two more or less make no difference).
template <int K>
inline constexpr int kept_weights = CONVPOOL_VECTOR_REGISTERS < 32 ? 0
                                    : K <= 4                       ? K * K
                                    : K == 5                       ? 16
                                                                   : 12;

/// As depthwise_plane, for K x K taps; neighbours, unless Dilated. Where rows become narrower, results follow one
/// another without gaps, too.
template <class T, int K, bool Dilated, bool Narrows>
CONVPOOL_KERNEL void depthwise_run(const DepthwisePlaneArguments<T>& d) {
  constexpr ptrdiff_t L = lanes<T>;
  constexpr int side = taps_before<K>;
  struct Sums {
    Vec<T> column[K];
  };
  const ptrdiff_t width = d.in_columns, dilation = Dilated ? d.row_dilation : 1, next_row = dilation * width;
  const RunOfRows r = run_of_rows<T>(d.first_row, d.rows, K, dilation, d.in_rows, width);
  LaneSet<T> has_column[K][most_column_sets], kept_columns[Narrows ? most_column_sets : 1];
  const ptrdiff_t first_kept = d.first_column + side * dilation;
  const ptrdiff_t period = for_each_first_column<T>(width, [&](ptrdiff_t vector, ptrdiff_t column) {
    unroll<K>([&](auto j) {
      has_column[j][vector] = LaneSet<T>(lanes_with_neighbour<T>(column, width, (j - side) * dilation));
    });
    if constexpr (Narrows) {
      kept_columns[vector] = LaneSet<T>(lanes_in_columns<T>(column, width, first_kept, first_kept + d.columns));
    }
  });
  LaneSet<T> has_row[K][most_edge_vectors_of_run];
  for (ptrdiff_t v = 0, edge = 0; v < r.vectors; ++v) {
    if (v == r.whole_begin) v = r.whole_end;
    if (v == r.vectors) break;
    unroll<K>([&](auto i) { has_row[i][edge] = LaneSet<T>(lanes_with_row<T>(r, v, i, dilation, d.in_rows, width)); });
    ++edge;
  }
  const ColumnShifts<T, K, Dilated> shifts(dilation);
  const bool clamps = bounded(d.low, d.high);
  const Vec<T> low = broadcast(d.low), high = broadcast(d.high);
  for (ptrdiff_t k = 0; k < d.groups * d.outputs_per_group; ++k) {
    const T* const top = d.in + k / d.outputs_per_group * d.in_group + r.first;
    const T* const weights = d.weight + k * K * K;
    constexpr int keeps = kept_weights<K>;
    Vec<T> kept[keeps > 0 ? keeps : 1];
    unroll<keeps>([&](auto t) { kept[t] = pinned(broadcast(weights[t])); });
    const auto weight = [&](auto i, auto j) CONVPOOL_INLINED {
      constexpr int tap = i * K + j;
      if constexpr (tap < keeps) {
        return kept[tap];
      } else {
        return weights[tap];
      }
    };
    const Vec<T> bias = broadcast(d.bias == nullptr ? T(0) : d.bias[k]);
    T* out = d.out + k * d.out_channel;
    [[maybe_unused]] ptrdiff_t left = d.rows * d.columns;
    [[maybe_unused]] const bool streams = d.stream && reinterpret_cast<std::uintptr_t>(out) % sizeof(Vec<T>) == 0;
    ptrdiff_t v = 0, edge = 0, column_set = 0;
    const auto sum_down = [&](auto whole) CONVPOOL_INLINED {
      Sums s;
      const T* const first = top + v * L;
      unroll<K>([&](auto i) {
        const T* const from = first + i * next_row;
        const Vec<T> x = pinned(whole ? load(from) : has_row[i][edge].load_or(from, Vec<T>{}));
        unroll<K>([&](auto j) {
          if constexpr (i > 0) {
            s.column[j] += weight(i, j) * x;
          } else if constexpr (j == side) {
            s.column[j] = bias + weight(i, j) * x;
          } else {
            // Of two products to be added the compiler may fuse either one, here and there another.
            s.column[j] = pinned(weight(i, j) * x);
          }
        });
      });
      if (!whole) ++edge;
      ++v;
      return s;
    };
    Sums current = r.whole_begin == 0 && r.whole_end > 0 ? sum_down(Constant<1>{}) : sum_down(Constant<0>{});
    Sums previous = current;  // the first column's neighbours are left out, as are the last one's
    const auto run_until = [&](ptrdiff_t stop, auto whole) CONVPOOL_INLINED {
      while (v < stop) {
        const ptrdiff_t x = (v - 1) * L;
        const Sums next = whole || v < r.vectors ? sum_down(whole) : current;
        Vec<T> result = current.column[side];
        unroll<K>([&](auto j) {
          if constexpr (j != side) {
            const Vec<T> sums = shifts.template apply<j>(previous.column[j], current.column[j], next.column[j]);
            result = has_column[j][column_set].add(result, sums);
          }
        });
        if (clamps) result = clamp<T>(result, low, high);
        if constexpr (Narrows) {
          const LaneSet<T>& columns = kept_columns[column_set];
          const ptrdiff_t count = columns.count() < left ? columns.count() : left;
          store_first<T>(out, columns.together(result), count);
          out += count;
          left -= count;
        } else if (!whole && x + L > r.results) {
          store_first<T>(out + x, result, r.results - x);
        } else if (streams) {
          store_streaming(out + x, result);
        } else {
          store(out + x, result);
        }
        previous = current;
        current = next;
        if (++column_set == period) column_set = 0;
        if (!whole && x + L >= r.results) break;
      }
    };
    run_until(r.whole_begin, Constant<0>{});
    run_until(r.whole_end, Constant<1>{});
    run_until(r.vectors + 1, Constant<0>{});
  }
}

template <class T, bool Narrows>
DepthwisePlaneKernel<T> depthwise_run_of(ptrdiff_t kernel, ptrdiff_t dilation) {
  if (dilation > 1) {
    if constexpr (shuffles_by_index<T>) {
      if (kernel == 3 && dilation <= lanes<T>) return depthwise_run<T, 3, true, Narrows>;
    }
    return nullptr;
  }
  if constexpr (Narrows) {
    if (kernel == 2) return depthwise_run<T, 2, false, true>;
    if (kernel == 4) return depthwise_run<T, 4, false, true>;
  } else {
    if (kernel == 1) return depthwise_run<T, 1, false, false>;
  }
  if (kernel == 3) return depthwise_run<T, 3, false, Narrows>;
  if (kernel == 5) return depthwise_run<T, 5, false, Narrows>;
  if (kernel == 7) return depthwise_run<T, 7, false, Narrows>;
  return nullptr;
}

template <class T>
DepthwisePlaneKernel<T> choose_depthwise_run([[maybe_unused]] ptrdiff_t kernel, [[maybe_unused]] ptrdiff_t dilation,
                                             [[maybe_unused]] ptrdiff_t width, [[maybe_unused]] ptrdiff_t kept,
                                             [[maybe_unused]] ptrdiff_t edge_rows) {
#if CONVPOOL_MASKS_LOADS
  constexpr ptrdiff_t L = lanes<T>;
  const ptrdiff_t longest = most_edge_vectors_of_run * L;
  if (!gains_as_run<T>(kernel, width) || width > longest || edge_rows > longest) return nullptr;
  if (edge_rows * width / L + 4 > most_edge_vectors_of_run) return nullptr;
  ptrdiff_t column_sets = width;
  for (ptrdiff_t in_vector = L; in_vector > 1 && column_sets % 2 == 0; in_vector /= 2) column_sets /= 2;
  if (column_sets > most_column_sets) return nullptr;
  if (kept == width && kernel % 2 == 1) return depthwise_run_of<T, false>(kernel, dilation);
#if defined(CONVPOOL_ISA_AVX512)
  if (gains_as_narrower_run<T>(kernel, dilation, width, kept)) return depthwise_run_of<T, true>(kernel, dilation);
#endif
#endif
  return nullptr;
}

}  // namespace
}  // namespace convpool::kernels
