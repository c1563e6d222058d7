// Depthwise convolution of a few interleaved channels, an RGB image's say, or of kernels of one column: a row of pixels
// is taken as a row of elements, whose weights come back after as many vectors as channels take to fill whole ones. So
// nothing is taken apart or put together, and every lane is used.

#include <algorithm>

#include "block_sizes.hpp"
#include "conv2d_weights.hpp"
#include "depthwise_tasks.hpp"
#include "parallel.hpp"
#include "run_pieces.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::DepthwisePlaneArguments;
using kernels::TapColumns;
using std::int64_t;

/// Where the fewest rows that are copied would take more than this, columns are taken in pieces.
constexpr int64_t most_copied_bytes = 2 << 20, least_columns = 256;

/// Elements of a row that threads share out at least where there are few rows.
constexpr int64_t least_elements = 256;

/// Whether the rows that a tile reads fall into one set of the L1 cache or two, and are too many to be read in place
/// (7x1 of 64 channels on 64x64 takes 1.55 times as long then, 5x1 1.2 times; on 80x80 of 32 channels, in two sets, 7x1
/// 1.2 times, 5x1 .85; Zen 3).
template <class T>
bool rows_crowd_cache(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t row_bytes = size_product(run.input.stride(2), sizeof(T));
  const bool one_set = row_bytes % kernels::same_set_bytes == 0;
  return (one_set || row_bytes % kernels::crowded_row_bytes == 0) &&
         g.h.kernel > kernels::most_crowded_rows + (one_set ? 0 : 2) && g.h.kernel > g.h.stride && g.h.out > 1 &&
         g.h.effective_kernel() <= 2 * tile_rows;
}

/// Rows of results whose rows of the input are copied together: they should be worth those that two pieces share.
int64_t copied_together(const Conv2dGeometry& g, int64_t row_bytes) {
  const int64_t reach = std::min(g.h.effective_kernel() - 1, unaffordable);
  const int64_t fitting =
      (4 * block_sizes().depthwise_copy / std::max<int64_t>(1, row_bytes) - reach - 1) / g.h.stride + 1;
  return std::clamp<int64_t>(std::max(fitting, 2 * reach / g.h.stride), std::min(tile_rows, g.h.out), g.h.out);
}

template <class T>
class InterleavedChannels {
 public:
  explicit InterleavedChannels(const Conv2dRun<T>& run)
      : run_(run),
        g_(run.geometry),
        epilogue_(run),
        pads_(pads_with_image(g_)),
        spreads_(!pads_ && rows_crowd_cache(run)),
        streams_(writes_lines(run.kernels) && epilogue_.streams(run, g_.out_pixels())),
        tap_memory_(static_cast<std::size_t>(g_.w.kernel) * sizeof(TapColumns)),
        columns_(g_.w.out, g_.w.out) {
    TapColumns* const taps = tap_memory_.template as<TapColumns>();
    for (int64_t j = 0; j < g_.w.kernel; ++j) taps[j] = {j * g_.w.dilation * g_.channels, j, -1, -1};
    const int64_t wanted = run.threads == 1 ? 1 : ceil_div(pieces_per_thread * run.threads, g_.batch);
    if (pads_ || spreads_) {
      width_ = (g_.w.out - 1) * g_.w.stride + g_.w.effective_kernel();
      pitch_ = round_up(width_ * g_.channels, 16) + 16;
      row_unit_ = copied_together(g_, size_product(pitch_, sizeof(T)));
      if (spreads_) row_unit_ = std::min(row_unit_, std::max(tile_rows, ceil_div(g_.h.out, wanted)));
      rows_ = EvenSplit(ceil_div(g_.h.out, row_unit_), 1);
    } else {
      row_unit_ = tile_rows;
      rows_ = pieces_of(g_.h.out, row_unit_, wanted);
    }
    // Which taps a tile leaves out in the padding, which shows where one isn't finite, must not depend on the threads.
    if (!pads_ && g_.w.kernel == 1 && !g_.w.padded()) {
      const int64_t most = std::max<int64_t>(1, size_product(g_.w.out, g_.channels) / least_elements);
      const int64_t pieces = std::min({most, g_.w.out, ceil_div(wanted, rows_.pieces)});
      columns_ = EvenSplit::in_pieces(g_.w.out, pieces);
    }
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      const int64_t rows = std::min(g_.h.out, row_unit_ * rows_.largest());
      *run_.blocking = {0, 0, rows * columns_.largest(), g_.channels, g_.reduction()};
    }
    const int64_t rows_copied = pads_ || spreads_ ? (row_unit_ - 1) * g_.h.stride + g_.h.effective_kernel() : 0;
    const SlottedWorkspace<T> scratch(size_product(rows_copied, pitch_), run_.threads);
    parallel_for(g_.batch * rows_.pieces * columns_.pieces, run_.threads, [&](int64_t task, int thread) {
      const int64_t piece = task % rows_.pieces;
      task /= rows_.pieces;
      const int64_t column_piece = task % columns_.pieces, n = task / columns_.pieces;
      const int64_t oh = row_unit_ * rows_.begin(piece);
      const int64_t rows = std::min(g_.h.out, row_unit_ * rows_.end(piece)) - oh;
      const int64_t ow = columns_.begin(column_piece), columns = columns_.size_of(column_piece);
      DepthwisePlaneArguments<T> d = arguments(n, oh, rows);
      d.first_column += ow * g_.channels;
      d.columns = columns * g_.channels;
      d.out += ow * g_.channels;
      if (pads_) copy_rows(oh, rows, scratch.slot(thread), d);
      if (spreads_) spread_rows(scratch.slot(thread), d);
      run_rows(run_.kernels.depthwise_planes->interleaved, d);
      if (epilogue_.remains()) {
        for (int64_t r = 0; r < rows; ++r) {
          epilogue_.finish_pixels(d.out + r * d.out_row, g_.channels, columns, g_.channels, n, 0,
                                  (oh + r) * g_.w.out + ow);
        }
      }
      if (streams_) run_.kernels.finish_streaming();
    });
  }

 private:
  DepthwisePlaneArguments<T> arguments(int64_t n, int64_t oh, int64_t rows) const {
    auto d = row_arguments<DepthwisePlaneArguments>(g_, epilogue_, rows, streams_);
    d.in = run_.input.data + n * run_.input.stride(0);
    d.in_row = run_.input.stride(2);
    d.in_rows = g_.h.in;
    d.in_columns = g_.w.in * g_.channels;
    d.first_row = g_.h.start(oh);
    d.first_column = g_.w.start(0) * g_.channels;
    d.column_stride = 1;
    d.weight = run_.weights.data;
    d.taps = tap_memory_.template as<TapColumns>();
    d.tap_count = g_.w.kernel;
    d.out = run_.output.data + n * run_.output.stride(0) + oh * run_.output.stride(2);
    d.out_row = run_.output.stride(2);
    d.columns = g_.w.out * g_.channels;
    d.groups = d.outputs_per_group = d.channels_per_group = 1;
    d.phases = interleaved_phases(g_, run_.kernels.lanes);
    return d;
  }

  /// The rows that rows of results from oh on read, with the padding around them.
  void copy_rows(int64_t oh, int64_t rows, T* block, DepthwisePlaneArguments<T>& d) const {
    const int64_t count = (rows - 1) * g_.h.stride + g_.h.effective_kernel();
    read_padded_copy(d, run_.kernels, g_, g_.channels, g_.h.start(oh), count, width_, block, pitch_);
    d.in_columns = pitch_;
  }

  /// What the rows of results read of the image's rows, further apart.
  void spread_rows(T* block, DepthwisePlaneArguments<T>& d) const {
    const int64_t top = std::clamp<int64_t>(d.first_row, 0, g_.h.in);
    const int64_t bottom = std::clamp<int64_t>(d.first_row + g_.h.covered_span(d.rows), top, g_.h.in);
    const int64_t left = std::clamp<int64_t>(d.first_column, 0, d.in_columns);
    const int64_t reach = (g_.w.effective_kernel() - 1) * g_.channels;
    const int64_t right = std::clamp<int64_t>(d.first_column + d.columns + reach, left, d.in_columns);
    run_.kernels.pad_rows(
        {d.in + top * d.in_row + left, d.in_row, block, pitch_, bottom - top, 0, right - left, right - left, T(0)});
    d.in = block;
    d.in_row = pitch_;
    d.in_rows = bottom - top;
    d.in_columns = right - left;
    d.first_row -= top;
    d.first_column -= left;
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  Epilogue<T> epilogue_;
  bool pads_, spreads_, streams_;
  Workspace tap_memory_;
  int64_t width_ = 0, pitch_ = 0, row_unit_ = 1;
  EvenSplit rows_{1, 1}, columns_;
};

}  // namespace

template <class T>
void run_depthwise_interleaved(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  if (!pads_with_image(g) && !rows_crowd_cache(run)) return InterleavedChannels<T>{run}();
  const int64_t reach = std::min(g.h.effective_kernel() - 1, unaffordable);
  const int64_t copied = size_product(size_product(std::max(tile_rows, 2 * reach / g.h.stride), g.h.stride) + reach,
                                      g.channels, sizeof(T));
  for_each_piece_of_columns(run, std::max(least_columns, most_copied_bytes / copied - g.w.effective_kernel()),
                            [&](const Conv2dRun<T>& piece) { InterleavedChannels<T>{piece}(); });
}

template void run_depthwise_interleaved(const Conv2dRun<float>&);
template void run_depthwise_interleaved(const Conv2dRun<double>&);

}  // namespace convpool
