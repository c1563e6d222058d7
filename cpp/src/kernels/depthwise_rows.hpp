#pragma once

// Depthwise convolution of what lies inside a plane where rows of results share none of the rows they read: kernels of
// one row, strides as large as the kernel. A tile is some rows of one or two vectors, which share the weights; at the
// ends of rows also what tells the columns that lie outside. A kernel's taps are listed once for all tiles and planes,
// since loops over rows and columns would cost as much as a few products.

#include "depthwise_columns.hpp"

namespace convpool::kernels {
namespace {

/// One product of each result, or two with a column stride: where the input is, from the window of the first result on;
/// which weights, `second` negative for none; and its row of the kernel and its column.
struct RowStep {
  ptrdiff_t in, column;
  std::int32_t first, second, row;
};

/// The steps of a kernel, at most so many.
class RowSteps {
 public:
  static constexpr ptrdiff_t most = 512;

  template <class T>
  static bool can_list(const DepthwisePlaneArguments<T>& d) {
    return d.channels_per_group <= most && d.kernel_rows <= most && d.kernel_columns <= most &&
           d.channels_per_group * d.kernel_rows * d.kernel_columns <= most;
  }

  /// In the order that DepthwisePlaneArguments gives.
  template <class T>
  explicit RowSteps(const DepthwisePlaneArguments<T>& d) {
    for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
      for (ptrdiff_t t = 0; t < d.tap_count; ++t) {
        const TapColumns& tap = d.taps[t];
        add_column(d, c, tap.in, tap.first, tap.second);
        if (tap.third >= 0) add_column(d, c, tap.in + tap.third - tap.first, tap.third, -1);
      }
    }
  }

  const RowStep* begin() const { return steps_; }
  const RowStep* end() const { return steps_ + count_; }

 private:
  template <class T>
  void add_column(const DepthwisePlaneArguments<T>& d, ptrdiff_t c, ptrdiff_t column, ptrdiff_t first,
                  ptrdiff_t second) {
    for (ptrdiff_t i = 0; i < d.kernel_rows; ++i) {
      const ptrdiff_t weight = (c * d.kernel_rows + i) * d.kernel_columns;
      steps_[count_++] = {c * d.in_channel + i * d.row_dilation * d.in_row + column, column,
                          static_cast<std::int32_t>(weight + first),
                          second < 0 ? -1 : static_cast<std::int32_t>(weight + second), static_cast<std::int32_t>(i)};
    }
  }

  RowStep steps_[most];
  ptrdiff_t count_ = 0;
};

#if CONVPOOL_MASKS_LOADS
/// Loads neighbouring vectors, zeros where columns aren't marked.
template <class T, int Vectors>
class MarkedWindow {
 public:
  using Mark = typename IndexOf<T>::type;
  CONVPOOL_INLINE explicit MarkedWindow(const Mark* marks)
      : MarkedWindow(marks, typename MakeIndices<Vectors>::type{}) {}
  template <int I>
  CONVPOOL_INLINE Vec<T> load(const T* p) const {
    return inside_[I].load(p + I * lanes<T>);
  }

 private:
  template <int... I>
  CONVPOOL_INLINE MarkedWindow(const Mark* marks, Indices<I...>) : inside_{InsideRow<T>(marks + I * lanes<T>)...} {}
  InsideRow<T> inside_[Vectors];
};
template <class T, int Vectors, bool Marked>
struct RowWindow {
  typedef MarkedWindow<T, Vectors> type;
};
#else
template <class T, int Vectors, bool Marked>
struct RowWindow;
#endif
template <class T, int Vectors>
struct RowWindow<T, Vectors, false> {
  struct type : WholeWindow<T, Vectors> {
    CONVPOOL_INLINE explicit type(const typename IndexOf<T>::type*) : WholeWindow<T, Vectors>(0, 0) {}
  };
};

/// The columns of results that vectors inside the plane take, whole vectors from `begin` to `end`, of `all`. Marks of
/// the others', -1 for columns of the plane and 0 beside it, begin with those that the first window sees; null where
/// others are left out.
template <class T>
struct RowColumns {
  ptrdiff_t begin, end, all;
  const typename IndexOf<T>::type* marks;
};

/// Rows of a kernel.
struct TapRows {
  ptrdiff_t begin, end;
};
/// Those inside the plane, of a window that starts in such a row of it.
template <class T>
TapRows tap_rows_inside(const DepthwisePlaneArguments<T>& d, ptrdiff_t row) {
  const ptrdiff_t begin = row >= 0 ? 0 : (-row - 1) / d.row_dilation + 1;
  const ptrdiff_t end = row >= d.in_rows ? 0 : (d.in_rows - row - 1) / d.row_dilation + 1;
  return {begin, end < d.kernel_rows ? end : d.kernel_rows};
}

/// Rows of results, the window of the first starting at `in`, in row `first_row` of the plane; where `stream`, past the
/// caches, and where `fetch`, what the rows below read is fetched, which lies behind rows that are skipped (1x1 with
/// stride 2 of 512x80x80 1.9 times as fast, Zen 3).
template <class T>
struct RowBand {
  const T* in;
  const T* weight;
  T* out;
  ptrdiff_t rows, first_row;
  T bias;
  bool stream, fetch;
};

/// Tiles of four rows go along a row two vectors at a time; those of eight suit narrow planes, whose vectors are mostly
/// at an end.
inline constexpr ptrdiff_t tall_rows = 8, wide_rows = 4;

/// R rows of V vectors, the window of the first result starting at `in`. A single vector of a plane that is narrower is
/// stored as far as its `columns` go. Rows that are taken one by one leave out the tap rows outside `taps`.
template <class T, int ColumnStride, int R, int V, bool Marked>
CONVPOOL_INLINE void row_tile(const DepthwisePlaneArguments<T>& d, const RowSteps& steps, const T* in, const T* weight,
                              T bias, T* out, [[maybe_unused]] const typename IndexOf<T>::type* marks,
                              [[maybe_unused]] ptrdiff_t columns, [[maybe_unused]] const TapRows& taps, bool stream,
                              bool fetch) {
  constexpr int L = lanes<T>;
  using All = typename MakeIndices<L>::type;
  using Window = typename RowWindow<T, V * ColumnStride, Marked>::type;
  const ptrdiff_t next_row = R == 1 && !fetch ? 0 : d.row_stride * d.in_row, out_row = d.out_row;
  Vec<T> sum[R][V];
  const auto for_all = [&](auto f) CONVPOOL_INLINE_LAMBDA {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA { f(r, v); }); });
  };
  for_all([&](auto r, auto v) CONVPOOL_INLINE_LAMBDA { sum[r][v] = broadcast(bias); });
  if (fetch) {
    for (int r = 0; r < R; ++r) __builtin_prefetch(in + (R + r) * next_row);
  }
  for (const RowStep& step : steps) {
    if (R == 1 && (step.row < taps.begin || step.row >= taps.end)) continue;
    const Window window(Marked ? marks + step.column : nullptr);
    const Vec<T> w = pinned(broadcast(weight[step.first]));
    unroll_steps<R>(in + step.in, next_row, [&](auto r, const T* p) CONVPOOL_INLINE_LAMBDA {
      unroll<V>([&](auto v) CONVPOOL_INLINE_LAMBDA {
        if constexpr (ColumnStride == 1) {
          sum[r][v] += w * window.template load<v>(p);
        } else {
          const Vec<T> a = window.template load<2 * v>(p), b = window.template load<2 * v + 1>(p);
          sum[r][v] += w * alternate<T, 0>(a, b, All{});
          if (step.second >= 0) sum[r][v] += broadcast(weight[step.second]) * alternate<T, 1>(a, b, All{});
        }
      });
    });
  }
  if constexpr (ColumnStride == 2 && shuffles_blocks<T>) {
    for_all([&](auto r, auto v) CONVPOOL_INLINE_LAMBDA { sum[r][v] = in_order<T>(sum[r][v], All{}); });
  }
  if (bounded(d.low, d.high)) {
    const Vec<T> low = broadcast(d.low), high = broadcast(d.high);
    for_all([&](auto r, auto v) CONVPOOL_INLINE_LAMBDA { sum[r][v] = clamp<T>(sum[r][v], low, high); });
  }
  if constexpr (Marked && V == 1) {
    if (columns < L) {
      Vec<T> results[R];
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA { results[r] = sum[r][0]; });
      return store_columns<T>(results, columns, out, out_row);
    }
  }
  if (stream) {
    for_all([&](auto r, auto v) CONVPOOL_INLINE_LAMBDA { store_streaming(out + r * out_row + v * L, sum[r][v]); });
  } else {
    for_all([&](auto r, auto v) CONVPOOL_INLINE_LAMBDA { store(out + r * out_row + v * L, sum[r][v]); });
  }
}

template <class T>
inline constexpr int vectors_of_line = cache_line / int{sizeof(Vec<T>)};

/// R rows after R rows, at least as many in all. The last ones go back over rows that are done already.
template <class T, int ColumnStride, int R>
CONVPOOL_KERNEL void row_band(const DepthwisePlaneArguments<T>& d, const RowSteps& steps, const RowColumns<T>& columns,
                              const RowBand<T>& band) {
  constexpr ptrdiff_t L = lanes<T>;
  const T* const weight = band.weight;
  const T bias = band.bias;
  const bool stream = band.stream, fetch = band.fetch;
  for (ptrdiff_t row = 0; row < band.rows; row += R) {
    if (band.rows - row < R) row = band.rows - R;
    const T* const in = band.in + row * d.row_stride * d.in_row;
    T* const out = band.out + row * d.out_row;
    const TapRows taps = R == 1 ? tap_rows_inside(d, band.first_row + row * d.row_stride) : TapRows{0, d.kernel_rows};
#if CONVPOOL_MASKS_LOADS
    if (columns.marks != nullptr) {
      const auto marked = [&](auto vectors, ptrdiff_t x, bool lines) CONVPOOL_INLINE_LAMBDA {
        row_tile<T, ColumnStride, R, vectors, true>(d, steps, in + x * ColumnStride, weight, bias, out + x,
                                                    columns.marks + x * ColumnStride, columns.all, taps, lines, fetch);
      };
      for (ptrdiff_t x = columns.begin > 0 ? 0 : columns.end; x < columns.all;) {
        if (R == wide_rows && vectors_of_line<T> == 2 && stream && columns.all - x >= 2 * L) {
          marked(Constant<2>{}, x, true);
          x += 2 * L;
        } else {
          const bool whole = columns.all - x >= L;
          marked(Constant<1>{}, whole || columns.all < L ? x : columns.all - L,
                 stream && whole && vectors_of_line<T> == 1);
          x += L;
        }
        if (x == columns.begin) x = columns.end;
      }
    }
#endif
    ptrdiff_t x = columns.begin;
    if constexpr (R == wide_rows) {
      for (; columns.end - x >= 2 * L; x += 2 * L) {
        row_tile<T, ColumnStride, R, 2, false>(d, steps, in + x * ColumnStride, weight, bias, out + x, nullptr, L, taps,
                                               stream, fetch);
      }
    }
    for (; x < columns.end; x += L) {
      row_tile<T, ColumnStride, R, 1, false>(d, steps, in + x * ColumnStride, weight, bias, out + x, nullptr, L, taps,
                                             stream, fetch);
    }
  }
}

/// The rows of a band, of any number, all of whose windows' rows lie inside.
template <class T, int ColumnStride>
void row_bands(const DepthwisePlaneArguments<T>& d, const RowSteps& steps, const RowColumns<T>& columns,
               RowBand<T> band) {
  if (band.rows < wide_rows) return row_band<T, ColumnStride, 1>(d, steps, columns, band);
  const bool narrow = columns.end - columns.begin < 2 * lanes<T>;
  if (band.rows < tall_rows || band.stream || !narrow) {
    return row_band<T, ColumnStride, wide_rows>(d, steps, columns, band);
  }
  const ptrdiff_t rest = band.rows % tall_rows, rows = band.rows;
  if (rest <= wide_rows) band.rows -= rest;
  row_band<T, ColumnStride, tall_rows>(d, steps, columns, band);
  if (band.rows == rows) return;
  const ptrdiff_t row = rows - wide_rows;
  band.in += row * d.row_stride * d.in_row;
  band.out += row * d.out_row;
  band.rows = wide_rows;
  row_band<T, ColumnStride, wide_rows>(d, steps, columns, band);
}

/// Marks of the columns that windows see, from that of the first on, where they are few enough.
template <class T>
class ColumnMarks {
 public:
  using Mark = typename IndexOf<T>::type;
  static constexpr ptrdiff_t most = 2048;

  static bool enough(const DepthwisePlaneArguments<T>& d) {
    return CONVPOOL_MASKS_LOADS && d.columns < most && d.taps[d.tap_count - 1].in < most && count(d) <= most;
  }
  void set(const DepthwisePlaneArguments<T>& d) {
    for (ptrdiff_t i = 0; i < count(d); ++i) {
      const ptrdiff_t column = d.first_column + i;
      marks_[i] = column >= 0 && column < d.in_columns ? Mark(-1) : Mark(0);
    }
  }
  const Mark* begin() const { return marks_; }

 private:
  static ptrdiff_t count(const DepthwisePlaneArguments<T>& d) {
    return (d.columns - 1) * d.column_stride + d.taps[d.tap_count - 1].in + 3 + 2 * lanes<T>;
  }
  Mark marks_[most];
};

}  // namespace
}  // namespace convpool::kernels
