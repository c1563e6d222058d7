// Few input channels to each output channel: depthwise, small groups, image filters.
//
// Channels-last: channels in the vectors, the image in place, or a copy where its pixels crowd the L1 cache; few of
// them: see depthwise_interleaved.cpp. Planes too small to fill vectors of pixels: the same, on planes transposed a
// vector of channels at a time. Otherwise pixels in the vectors, the planes in place, as runs of pixels where they can
// be (dense_planes.hpp); or a padded copy of a few of their rows where the padding isn't zeros, pixels aren't
// neighbours, columns move by more than 2, rows crowd the caches or a narrow plane is edges for a good part.

#include <algorithm>
#include <array>

#include "block_sizes.hpp"
#include "conv2d_algorithm.hpp"
#include "conv2d_weights.hpp"
#include "dense_planes.hpp"
#include "depthwise_tasks.hpp"
#include "epilogue.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "run_pieces.hpp"
#include "tiling.hpp"
#include "transposed_planes.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::DepthwiseChannelsArguments;
using kernels::DepthwisePlaneArguments;
using kernels::TapColumns;
using std::int64_t;

/// Where a tile's whole rows would take more than this, columns are taken in pieces.
constexpr int64_t most_row_bytes = 2 << 20, least_columns = 256;

template <class T>
class ChannelVectors {
 public:
  explicit ChannelVectors(const Conv2dRun<T>& run)
      : run_(run), g_(run.geometry), epilogue_(run), lanes_(run.kernels.lanes) {
    vectors_ = ceil_div(g_.out_channels, lanes_);
    in_vector_ = lanes_ * g_.group_channels() / g_.group_out_channels();
    if (g_.group_out_channels() > 1) list_permutation();
    transposes_ = !channels_last(run.input) || !channels_last(run.output);
    if (transposes_) return;
    const int64_t input_bytes = size_product(g_.batch, g_.h.in, g_.w.in, g_.channels, sizeof(T));
    // So little is computed that both pass at the pace of memory (2 images of 64x112x112, 6 MB each: 1.4 times as fast
    // as through the caches, 64x112x112 0.95 times; AVX2, Zen 3).
    const auto read = [](const Axis& axis) {
      return std::min(axis.in, size_product(axis.out, std::min(axis.stride, axis.kernel)));
    };
    const int64_t bytes_read = size_product(g_.batch, read(g_.h), read(g_.w), g_.channels, sizeof(T));
    const int64_t counted = has_few_registers(run.kernels) ? bytes_read : 0;
    streams_ = writes_lines(run.kernels) && epilogue_.streams(run, g_.out_pixels(), counted);
    copies_ = pads_with_image(g_);
    const bool in_memory = input_bytes >= block_sizes().fetched_input;
    // Rows and pixels that windows skip aren't worth it, however many they are.
    const bool reads_all = g_.h.stride <= g_.h.kernel && g_.w.stride <= g_.w.kernel;
    fetches_next_ = reads_all && !copies_ && in_memory;
    strips_ = EvenSplit(g_.w.out, g_.w.out);
    int64_t most_rows = g_.h.out;
    spreads_ = reads_all && !copies_ && !in_memory && crowds_pixels() && choose_spread_block(most_rows);
    if (!spreads_) choose_block();
    if (copies_) {
      const int64_t fitting =
          rows_of_results(size_product(padded_width(), g_.channels), 4 * block_sizes().depthwise_copy);
      most_rows = std::clamp<int64_t>(fitting, std::min<int64_t>(2, g_.h.out), g_.h.out);
    }
    const int64_t parts = copies_ ? 1 : strips_.pieces * ceil_div(vectors_, block_);
    const int64_t wanted = run.threads == 1 ? 1 : ceil_div(pieces_per_thread * run.threads, g_.batch * parts);
    rows_ = pieces_of(g_.h.out, 2, std::max(wanted, ceil_div(g_.h.out, most_rows)));
  }

  void operator()() const {
    if (transposes_) return run_transposed();
    if (run_.blocking != nullptr) {
      *run_.blocking = {0, 0, std::min(g_.h.out, 2 * rows_.largest()) * strips_.largest(),
                        std::min(g_.out_channels, block_ * lanes_), g_.reduction()};
    }
    const int64_t blocks = copies_ ? 1 : ceil_div(vectors_, block_);
    int64_t copy = 0;
    if (copies_) {
      const int64_t rows = (2 * rows_.largest() - 1) * g_.h.stride + g_.h.effective_kernel();
      copy = size_product(rows, padded_width(), g_.channels);
    } else if (spreads_) {
      copy = size_product(std::min(g_.h.in, g_.h.covered_span(2 * rows_.largest())), spread_row(block_));
    }
    const SlottedWorkspace<T> scratch(copy, run_.threads);
    parallel_for(g_.batch * rows_.pieces * strips_.pieces * blocks, run_.threads, [&](int64_t task, int thread) {
      const int64_t v = task % blocks * block_;
      task /= blocks;
      const int64_t strip = task % strips_.pieces;
      task /= strips_.pieces;
      const int64_t piece = task % rows_.pieces, n = task / rows_.pieces;
      const int64_t oh = 2 * rows_.begin(piece), rows = std::min(g_.h.out, 2 * rows_.end(piece)) - oh;
      DepthwiseChannelsArguments<T> d = arguments(oh, rows);
      d.in = run_.input.data + n * run_.input.stride(0);
      d.in_row = run_.input.stride(2);
      d.in_pixel = run_.input.stride(3);
      d.out = run_.output.data + n * run_.output.stride(0) + oh * run_.output.stride(2);
      d.out_row = run_.output.stride(2);
      d.out_pixel = run_.output.stride(3);
      if (copies_) {
        copy_rows(oh, rows, scratch.slot(thread), d);
        for (int64_t c = 0; c < vectors_; c += block_, d.in += block_ * in_vector_) run_block(d, c, n, oh, 0);
      } else if (spreads_) {
        spread_pixels(v, scratch.slot(thread), d);
        run_block(d, v, n, oh, 0);
      } else {
        const int64_t ow = strips_.begin(strip);
        d.in += v * in_vector_;
        d.columns = strips_.end(strip) - ow;
        d.first_column = g_.w.start(ow);
        d.out += ow * d.out_pixel;
        run_block(d, v, n, oh, ow);
      }
      if (streams_) run_.kernels.finish_streaming();
    });
  }

 private:
  int64_t padded_width() const { return (g_.w.out - 1) * g_.w.stride + g_.w.effective_kernel(); }

  /// Whether pixels of the input lie so far apart that those of a tile fall into few sets of the L1 cache. Vectors that
  /// are parts of a line read each line again then (3x3 with AVX2, Zen 3: 512 channels take twice as long as 504, 1024
  /// three times as long as 1000), and a copy with other distances costs less.
  bool crowds_pixels() const {
    // Wider dilations would crowd the copy, too.
    constexpr int64_t few_sets = 2048, enough_taps = 9, widest_dilation = 8;
    const int64_t pixel = run_.input.stride(3);
    return vectors_of_a_line(run_.kernels) > 1 && in_vector_ == lanes_ && g_.taps() >= enough_taps &&
           g_.w.dilation <= widest_dilation && pixel != 0 &&
           pixel % few_sets * g_.w.dilation * int64_t{sizeof(T)} % few_sets == 0;
  }

  /// Columns are taken in strips where rows of all channels outgrow the cache, or channels in blocks where strips would
  /// be narrow: memory likes long runs (stride 2, 8 images of 96 x 112 x 112, Zen 3: 10.1 to 6.9 ms).
  void choose_block() {
    const int64_t rows_read = g_.h.stride + g_.h.effective_kernel();
    const int64_t narrowest = std::max(size_product(16, g_.w.dilation), size_product(2, g_.w.effective_kernel()));
    const int64_t vector_bytes = size_product(rows_read, in_vector_, sizeof(T));
    const int64_t columns_read = block_sizes().depthwise_rows / size_product(vectors_, vector_bytes);
    const int64_t widest = (columns_read - g_.w.effective_kernel()) / g_.w.stride + 1;
    block_ = vectors_;
    if (columns_read >= g_.w.in) return;
    if (!copies_ && widest >= narrowest) {
      strips_ = EvenSplit(g_.w.out, widest);
      return;
    }
    const int64_t most = block_sizes().depthwise_rows / size_product(vector_bytes, g_.w.in);
    const int64_t line = vectors_of_a_line(run_.kernels);
    block_ = std::min(vectors_, round_up(EvenSplit(vectors_, std::max<int64_t>(1, most)).largest(), line));
  }

  /// As many channels as leave some rows in the cache, whole lines of them, and how many rows of results; false where
  /// that is too few, or several of them would copy the same.
  bool choose_spread_block(int64_t& most_rows) {
    constexpr int64_t longest_run = 512, enough_rows = 8;
    const int64_t line = vectors_of_a_line(run_.kernels);
    for (block_ = line * longest_run / kernels::cache_line; block_ >= line; block_ /= 2) {
      const int64_t fitting = rows_of_results(spread_row(block_), 2 * block_sizes().copied_block);
      if (fitting < std::min(enough_rows, g_.h.out)) continue;
      most_rows = std::min(fitting, g_.h.out);
      return g_.h.covered_span(most_rows) <= 2 * most_rows * g_.h.stride;
    }
    return false;
  }

  /// Elements from one copied row to the next, whose pixels lie a line further apart than they need.
  int64_t spread_row(int64_t vectors) const { return size_product(g_.w.in, spread_pixel(vectors)); }
  int64_t spread_pixel(int64_t vectors) const { return vectors * lanes_ + kernels::cache_line / int64_t{sizeof(T)}; }

  /// Rows of results whose input, in rows of so many elements, fits into so many bytes; negative for none.
  int64_t rows_of_results(int64_t row, int64_t bytes) const {
    const int64_t rows = bytes / std::max<int64_t>(1, size_product(row, sizeof(T)));
    return (rows - g_.h.effective_kernel()) / g_.h.stride;
  }

  /// A copy of what the rows of results read of a block of channels, in the kernel's arguments in place of the image.
  void spread_pixels(int64_t v, T* copy, DepthwiseChannelsArguments<T>& d) const {
    const int64_t first = v * lanes_, channels = std::min(block_ * lanes_, g_.channels - first);
    const int64_t begin = std::clamp<int64_t>(d.first_row, 0, g_.h.in);
    const int64_t end = std::clamp<int64_t>(d.first_row + g_.h.covered_span(d.rows), begin, g_.h.in);
    const int64_t pixel = spread_pixel(block_), row = spread_row(block_);
    for (int64_t y = begin; y < end; ++y) {
      run_.kernels.pad_rows({d.in + y * d.in_row + first, d.in_pixel, copy + (y - begin) * row, pixel, g_.w.in, 0,
                             channels, channels, T(0)});
    }
    d.in = copy;
    d.in_pixel = pixel;
    d.in_row = row;
    d.in_rows = end - begin;
    d.first_row -= begin;
  }

  DepthwiseChannelsArguments<T> arguments(int64_t oh, int64_t rows) const {
    auto d = row_arguments<DepthwiseChannelsArguments>(g_, epilogue_, rows, streams_);
    d.fetches_next = fetches_next_;
    d.in_rows = g_.h.in;
    d.in_columns = g_.w.in;
    d.in_vector = in_vector_;
    d.first_row = g_.h.start(oh);
    d.first_column = g_.w.start(0);
    d.column_stride = g_.w.stride;
    d.column_dilation = g_.w.dilation;
    d.channels_per_output = g_.group_channels();
    d.permutation = g_.group_out_channels() > 1 ? permutation_.data() : nullptr;
    d.permutes_sums = rotates_groups(g_);
    return d;
  }

  void run_transposed() const {
    const EvenSplit rows(g_.h.out, rows_of_transposed_piece(g_, in_vector_, lanes_, int64_t{sizeof(T)}));
    if (run_.blocking != nullptr) {
      *run_.blocking = {0, 0, rows.largest() * g_.w.out, std::min(g_.out_channels, lanes_), g_.reduction()};
    }
    const int64_t transposed = size_product(transposed_rows(g_, rows.largest()), g_.w.in, in_vector_);
    const SlottedWorkspace<T> scratch(transposed + size_product(rows.largest(), g_.w.out, lanes_), run_.threads);
    parallel_for(g_.batch * vectors_ * rows.pieces, run_.threads, [&](int64_t task, int thread) {
      const int64_t piece = task % rows.pieces;
      task /= rows.pieces;
      const int64_t v = task % vectors_, n = task / vectors_;
      const int64_t in_channels = std::min(in_vector_, g_.channels - v * in_vector_);
      const int64_t out_channels = std::min(lanes_, g_.out_channels - v * lanes_);
      DepthwiseChannelsArguments<T> d = arguments(rows.begin(piece), rows.end(piece) - rows.begin(piece));
      T* const in = scratch.slot(thread);
      T* const out = in + transposed;
      const int64_t y = std::clamp<int64_t>(d.first_row, 0, g_.h.in);
      d.in_rows = std::clamp<int64_t>(d.first_row + g_.h.covered_span(d.rows), y, g_.h.in) - y;
      d.first_row -= y;
      run_.kernels.transpose(
          run_.input.data + n * run_.input.stride(0) + v * in_vector_ * run_.input.stride(1) + y * run_.input.stride(2),
          run_.input.stride(1), in_channels, d.in_rows * g_.w.in, in, in_vector_);
      d.in = in;
      d.in_pixel = in_vector_;
      d.in_row = g_.w.in * in_vector_;
      d.out = out;
      d.out_pixel = lanes_;
      d.out_row = g_.w.out * lanes_;
      run_vectors(d, v, in_channels, lanes_);
      T* const result = run_.output.data + n * run_.output.stride(0) + v * lanes_ * run_.output.stride(1) +
                        rows.begin(piece) * run_.output.stride(2);
      const int64_t pixels = d.rows * g_.w.out;
      run_.kernels.transpose(out, lanes_, pixels, out_channels, result, run_.output.stride(1));
      if (epilogue_.remains()) {
        epilogue_.finish_channels(result, run_.output.stride(1), out_channels, pixels, n, v * lanes_,
                                  rows.begin(piece) * g_.w.out);
      }
    });
  }

  /// Lane l of channel c of the outputs in a vector: see DepthwiseChannelsArguments.
  void list_permutation() {
    const int64_t words = sizeof(T) / sizeof(std::int32_t);
    for (int64_t c = 0; c < (rotates_groups(g_) ? 1 : g_.group_channels()); ++c) {
      for (int64_t l = 0; l < lanes_; ++l) {
        const int64_t group = l / g_.group_out_channels() * g_.group_channels();
        const int64_t from = group + (rotates_groups(g_) ? (l + 1) % g_.group_channels() : c);
        for (int64_t w = 0; w < words; ++w) {
          permutation_[static_cast<std::size_t>((c * lanes_ + l) * words + w)] =
              static_cast<std::int32_t>(from * words + w);
        }
      }
    }
  }

  /// The vectors of channels from v on.
  void run_vectors(DepthwiseChannelsArguments<T>& d, int64_t v, int64_t in_channels, int64_t out_channels) const {
    d.in_channels = in_channels;
    d.weight = run_.weights.data + v * lanes_ * g_.reduction();
    d.bias = run_.weights.bias + v * lanes_;
    d.out_channels = out_channels;
    const auto kernel = run_.kernels.depthwise_channels->channels;
    // They wait longer for each other than sharing them saves.
    const bool crowded = size_product(d.in_pixel, g_.w.dilation, sizeof(T)) % kernels::same_set_bytes == 0;
    crowded ? run_rows(kernel, d) : run_rows_and_columns(kernel, d);
  }

  /// d.in points at the first of the block's channels.
  void run_block(DepthwiseChannelsArguments<T> d, int64_t v, int64_t n, int64_t oh, int64_t ow) const {
    const int64_t first = v * lanes_, count = std::min(g_.out_channels - first, block_ * lanes_);
    d.out += first;
    run_vectors(d, v, g_.channels - v * in_vector_, count);
    if (!epilogue_.remains()) return;
    for (int64_t r = 0; r < d.rows; ++r) {
      epilogue_.finish_pixels(d.out + r * d.out_row, d.out_pixel, d.columns, count, n, first, (oh + r) * g_.w.out + ow);
    }
  }

  void copy_rows(int64_t oh, int64_t rows, T* block, DepthwiseChannelsArguments<T>& d) const {
    const int64_t width = padded_width(), count = (rows - 1) * g_.h.stride + g_.h.effective_kernel();
    read_padded_copy(d, run_.kernels, g_, d.in_pixel, g_.h.start(oh), count, width, block, width * g_.channels);
    d.in_pixel = g_.channels;
    d.in_columns = width;
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  Epilogue<T> epilogue_;
  int64_t lanes_;
  int64_t vectors_ = 0, in_vector_ = 0, block_ = 1;
  EvenSplit strips_{1, 1};  ///< columns
  bool copies_ = false, spreads_ = false, transposes_ = false, streams_ = false, fetches_next_ = false;
  EvenSplit rows_{1, 1};
  std::array<std::int32_t, 256> permutation_{};
};

template <class T>
class PlaneVectors {
 public:
  static bool reads_in_place(const Conv2dRun<T>& run) {
    const Conv2dGeometry& g = run.geometry;
    if (channels_last(run.output) || !pixels_contiguous(run.input) || g.w.stride > 2 || pads_with_image(g))
      return false;
    return kernel_for_dense_planes(g, run.input, run.output, run.kernels) != nullptr ||
           !(rows_crowd_caches(run) || edges_are_worth_a_copy(run));
  }
  /// Whether a copy makes all of a padded plane its inside. Measured with AVX2: 7x7 on 28 to 112 columns 1.2 to 1.5
  /// times as fast, from 200 on slower; kernels larger than the plane would multiply more zeros than they save. A plane
  /// is one piece of the work then: there are to be some of them in an image, whose bits don't depend on the batch.
  static bool edges_are_worth_a_copy(const Conv2dRun<T>& run) {
    constexpr int64_t most_columns = 128, least_planes = 16;
    const Conv2dGeometry& g = run.geometry;
    const auto inside = [](const Axis& axis) {
      return axis.stride == 1 && axis.kernel >= kernels::least_block_kernel && axis.effective_kernel() <= axis.in;
    };
    return run.kernels.depthwise_planes->has_blocks && (g.h.padded() || g.w.padded()) && inside(g.h) && inside(g.w) &&
           g.h.dilation == 1 && g.w.out <= most_columns && g.groups >= least_planes && g.group_channels() == 1;
  }
  /// Whether the rows that a tile reads fall into a few sets of the L1 cache, and are few enough and used often enough
  /// to be copied: in place 9x9 on 1024 x 1024 takes 3.5 times as long as on 1000 x 1000.
  static bool rows_crowd_caches(const Conv2dRun<T>& run) {
    constexpr int64_t rows_of_sets = 8;
    const Conv2dGeometry& g = run.geometry;
    return g.h.out > rows_of_sets && g.taps() > 1 && crowds_caches(run.input.stride(2)) && g.h.stride <= g.h.kernel &&
           g.h.effective_kernel() <= 2 * tile_rows && g.w.effective_kernel() <= g.w.in;
  }
  /// Results of so many rows read few rows twice. Whole tiles: a last one of a row or two costs nearly as much.
  static int64_t least_rows_copied(const Conv2dGeometry& g) {
    const int64_t reach = std::min(g.h.effective_kernel() - 1, unaffordable);
    return std::max(tile_rows, round_up(2 * reach / g.h.stride, tile_rows));
  }

  static bool crowds_caches(int64_t row) { return size_product(row, sizeof(T)) % kernels::crowded_row_bytes == 0; }

  explicit PlaneVectors(const Conv2dRun<T>& run)
      : run_(run),
        g_(run.geometry),
        epilogue_(run),
        apart_(g_.w, 0, g_.w.out, run.kernels.lanes),
        splits_columns_(g_.w.stride > 2),
        output_in_planes_(!channels_last(run.output)),
        in_place_(reads_in_place(run)),
        streams_(output_in_planes_ && writes_lines(run.kernels) && epilogue_.streams(run, g_.out_pixels())),
        tap_memory_(static_cast<std::size_t>(g_.w.kernel) * sizeof(TapColumns)) {
    list_taps();
    fetches_results_ = fetches_results();
    if (in_place_) {
      run_kernel_ = kernel_for_dense_planes(g_, run.input, run.output, run.kernels);
      const int64_t wanted = run.threads == 1 ? 1 : ceil_div(pieces_per_thread * run.threads, g_.batch);
      groups_ = pieces_of(g_.groups, 1, wanted);
      row_unit_ = tile_rows;
      rows_ = pieces_of(g_.h.out, row_unit_, ceil_div(wanted, groups_.pieces));
      return;
    }
    // Channels-last results wait until a whole vector of channels can be transposed; results whose rows crowd the
    // caches, until they are written row by row.
    const bool streams_unless_added =
        writes_lines(run.kernels) && epilogue_.streams_unless_added_to(run, g_.out_pixels());
    waits_ = !output_in_planes_ || (!streams_unless_added && crowds_caches(run.output.stride(2)));
    out_pitch_ = g_.w.out;
    if (waits_ && output_in_planes_) out_pitch_ += crowds_caches(out_pitch_ + 16) ? 32 : 16;
    const int64_t lanes = run_.kernels.lanes;
    groups_ = EvenSplit(g_.groups, output_in_planes_ ? 1 : std::max<int64_t>(1, lanes / g_.group_out_channels()));
    pitch_ = splits_columns_ ? apart_.row_pitch()
                             : round_up((g_.w.out - 1) * g_.w.stride + g_.w.effective_kernel(), 16) + 16;
    if (crowds_caches(pitch_)) pitch_ += 16;
    const int64_t row_bytes = size_product(pitch_, g_.group_channels(), sizeof(T));
    const int64_t reach = std::min(g_.h.effective_kernel() - 1, unaffordable);
    const int64_t fitting =
        (block_sizes().depthwise_copy / std::max<int64_t>(1, row_bytes) - reach - 1) / g_.h.stride + 1;
    row_unit_ = std::min(std::max(fitting / tile_rows * tile_rows, least_rows_copied(g_)), g_.h.out);
    rows_ = EvenSplit(ceil_div(g_.h.out, row_unit_), 1);
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {0, 0, std::min(g_.h.out, row_unit_ * rows_.largest()) * g_.w.out,
                        groups_.largest() * g_.group_out_channels(), g_.reduction()};
    }
    const int64_t copy = in_place_ ? 0 : size_product(g_.group_channels(), rows_copied(), pitch_);
    const int64_t split = in_place_ || !splits_columns_ ? 0 : apart_.scratch_elements();
    const int64_t waiting =
        waits_ ? size_product(groups_.largest() * g_.group_out_channels(), row_unit_, out_pitch_) : 0;
    const SlottedWorkspace<T> scratch(round_up(copy, 16) + round_up(split, 16) + waiting, run_.threads);
    parallel_for(g_.batch * groups_.pieces * rows_.pieces, run_.threads, [&](int64_t task, int thread) {
      const int64_t row_piece = task % rows_.pieces;
      task /= rows_.pieces;
      const int64_t piece = task % groups_.pieces, n = task / groups_.pieces;
      const int64_t oh = row_unit_ * rows_.begin(row_piece);
      const int64_t rows = std::min(g_.h.out, row_unit_ * rows_.end(row_piece)) - oh;
      T* const block = scratch.slot(thread);
      if (in_place_) {
        run_in_place(n, groups_.begin(piece), groups_.end(piece), oh, rows);
      } else {
        run_copied(n, groups_.begin(piece), groups_.end(piece), oh, rows, block, block + round_up(copy, 16),
                   block + round_up(copy, 16) + round_up(split, 16));
      }
      if (streams_) run_.kernels.finish_streaming();
    });
  }

 private:
  /// Whether the tiles of a plane write parts of lines that no near cache has, and would wait for them (3x3 without
  /// padding on 112x112 to 150x150 1.35 to 1.5 times as fast, 1x5 of 8 images on 56x50 1.1 to 1.45 times, Emerald
  /// Rapids; 7x7 and 9x9 .95, strides within the caches .94 to 1, beyond them 1.3).
  bool fetches_results() const {
    constexpr int64_t most_taps = 25;
    const int64_t bytes = size_product(
        g_.batch, size_product(g_.channels, g_.h.in, g_.w.in) + size_product(g_.out_channels, g_.out_pixels()),
        sizeof(T));
    const bool strided = g_.h.stride > 1 || g_.w.stride > 1;
    return output_in_planes_ && !streams_ && g_.taps() <= most_taps &&
           bytes > (strided ? 2 * block_sizes().streamed_conv_result : block_sizes().large_result);
  }

  int64_t rows_copied() const { return (row_unit_ - 1) * g_.h.stride + g_.h.effective_kernel(); }

  void list_taps() {
    TapColumns* const taps = tap_memory_.as<TapColumns>();
    // Pairs begin where the window of column 0 has its vectors at the start of a row.
    const bool pairs = g_.w.stride == 2 && g_.w.dilation == 1;
    for (int64_t j = 0; j < g_.w.kernel; ++j) {
      TapColumns& tap = taps[tap_count_++];
      tap = {splits_columns_ ? apart_.tap_offset(g_.w, j) : j * g_.w.dilation, j, -1, -1};
      if (pairs && (j - g_.w.pad_begin) % 2 == 0 && j + 1 < g_.w.kernel) tap.second = ++j;
    }
    if (!pairs) return;
    // One that is left over at an end goes with the pair beside it.
    const auto join = [&](int64_t pair, int64_t single) {
      if (tap_count_ < 2 || taps[pair].second < 0 || taps[pair].third >= 0 || taps[single].second >= 0) return;
      taps[pair].third = taps[single].first;
      --tap_count_;
      if (single < pair) std::copy_n(taps + 1, tap_count_, taps);
    };
    join(tap_count_ - 2, tap_count_ - 1);
    join(1, 0);
  }

  DepthwisePlaneArguments<T> arguments(int64_t n, int64_t group, int64_t oh, int64_t rows) const {
    const int64_t k = group * g_.group_out_channels();
    auto d = row_arguments<DepthwisePlaneArguments>(g_, epilogue_, rows, streams_);
    d.column_stride = splits_columns_ ? 1 : g_.w.stride;
    d.weight = run_.weights.data + k * g_.reduction();
    d.taps = tap_memory_.template as<TapColumns>();
    d.tap_count = tap_count_;
    d.bias = run_.weights.bias == nullptr ? nullptr : run_.weights.bias + k;
    d.out = run_.output.data + n * run_.output.stride(0) + k * run_.output.stride(1) + oh * run_.output.stride(2);
    d.out_channel = run_.output.stride(1);
    d.out_row = run_.output.stride(2);
    d.fetch_results = fetches_results_ && !waits_;
    d.groups = 1;
    d.outputs_per_group = g_.group_out_channels();
    d.channels_per_group = g_.group_channels();
    return d;
  }

  void run_planes(const DepthwisePlaneArguments<T>& d, int64_t n, int64_t group, int64_t oh) const {
    run_kernel_ != nullptr ? run_kernel_(d) : run_rows(run_.kernels.depthwise_planes->plane, d);
    if (!epilogue_.remains()) return;
    for (int64_t k = 0; k < d.groups * d.outputs_per_group; ++k) {
      epilogue_.finish_rows(d.out + k * d.out_channel, d.out_row, d.rows, d.columns, n,
                            group * g_.group_out_channels() + k, oh);
    }
  }

  void run_in_place(int64_t n, int64_t group, int64_t group_end, int64_t oh, int64_t rows) const {
    // What remains of the epilogue finds a few planes in the cache.
    const int64_t group_bytes = size_product(g_.group_out_channels(), rows, g_.w.out, sizeof(T));
    const int64_t most =
        epilogue_.remains() ? std::max<int64_t>(1, block_sizes().depthwise_copy / group_bytes) : group_end - group;
    for (int64_t together; group < group_end; group += together) {
      together = std::min(most, group_end - group);
      DepthwisePlaneArguments<T> d = arguments(n, group, oh, rows);
      d.in_channel = run_.input.stride(1);
      d.in_group = g_.group_channels() * d.in_channel;
      d.in = run_.input.data + n * run_.input.stride(0) + group * d.in_group;
      d.in_row = run_.input.stride(2);
      d.in_rows = g_.h.in;
      d.in_columns = g_.w.in;
      d.first_row = g_.h.start(oh);
      d.first_column = g_.w.start(0);
      d.groups = together;
      run_planes(d, n, group, oh);
    }
  }

  void run_copied(int64_t n, int64_t group_begin, int64_t group_end, int64_t oh, int64_t rows, T* block, T* split,
                  T* waiting) const {
    const int64_t kg = g_.group_out_channels(), copied = (rows - 1) * g_.h.stride + g_.h.effective_kernel();
    for (int64_t group = group_begin; group < group_end; ++group) {
      for (int64_t c = 0; c < g_.group_channels(); ++c) {
        copy_rows(n, group * g_.group_channels() + c, oh, copied, split, block + c * copied * pitch_);
      }
      DepthwisePlaneArguments<T> d = arguments(n, group, oh, rows);
      d.in = block;
      d.in_channel = copied * pitch_;
      d.in_row = pitch_;
      d.in_rows = copied;
      d.in_columns = pitch_;
      T* const planes = d.out;
      if (waits_) {
        d.out = waiting + (group - group_begin) * kg * rows * out_pitch_;
        d.out_channel = rows * out_pitch_;
        d.out_row = out_pitch_;
      }
      run_planes(d, n, group, oh);
      for (int64_t k = 0; output_in_planes_ && waits_ && k < kg; ++k) {
        run_.kernels.pad_rows({d.out + k * d.out_channel, out_pitch_, planes + k * run_.output.stride(1),
                               run_.output.stride(2), rows, 0, g_.w.out, g_.w.out, T(0)});
      }
    }
    if (output_in_planes_) return;
    T* const out = run_.output.data + n * run_.output.stride(0) + group_begin * kg;
    for (int64_t r = 0; r < rows; ++r) {
      run_.kernels.transpose(waiting + r * g_.w.out, rows * g_.w.out, (group_end - group_begin) * kg, g_.w.out,
                             out + (oh + r) * run_.output.stride(2), run_.output.stride(3));
    }
  }

  void copy_rows(int64_t n, int64_t c, int64_t oh, int64_t count, T* split, T* block) const {
    const T* const plane = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
    const int64_t first = g_.h.start(oh);
    for (int64_t r = 0; r < count;) {
      T* const to = block + r * pitch_;
      const int64_t y = source_index(first + r, g_.h.in, g_.padding_mode);
      if (y < 0) {
        std::fill_n(to, pitch_, T(0));
        ++r;
        continue;
      }
      // Rows inside the plane follow one another; padding rows come one at a time.
      const int64_t together = first + r == y ? std::min(count - r, g_.h.in - y) : 1;
      const SourceRows<T> from{plane + y * run_.input.stride(2), run_.input.stride(2), run_.input.stride(3), g_.w.in};
      if (splits_columns_) {
        apart_.copy(run_.kernels, from, together, g_.padding_mode, T(0), split, to, pitch_);
      } else {
        copy_padded_rows(run_.kernels, from, together, g_.padding_mode, T(0), g_.w.start(0), pitch_, to, pitch_);
      }
      r += together;
    }
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  Epilogue<T> epilogue_;
  PhasedRows apart_;
  bool splits_columns_, output_in_planes_, in_place_, streams_, waits_ = false, fetches_results_ = false;
  Workspace tap_memory_;
  kernels::DepthwisePlaneKernel<T> run_kernel_ = nullptr;  ///< for planes that are runs of pixels
  int64_t tap_count_ = 0, pitch_ = 0, out_pitch_ = 0, row_unit_ = 1;
  EvenSplit groups_{1, 1}, rows_{1, 1};
};

}  // namespace

template <class T>
void run_depthwise(const Conv2dRun<T>& run, WeightForm form) {
  if (form == WeightForm::depthwise_interleaved) return run_depthwise_interleaved(run);
  const bool channels_in_vectors = form == WeightForm::depthwise_channels;
  const Conv2dGeometry& g = run.geometry;
  if (channels_in_vectors ? !pads_with_image(g) : PlaneVectors<T>::reads_in_place(run)) {
    return channels_in_vectors ? ChannelVectors<T>{run}() : PlaneVectors<T>{run}();
  }
  // What the fewest rows that are copied together take for a column of results.
  const int64_t reach = std::min(g.h.effective_kernel() - 1, unaffordable);
  const int64_t rows = channels_in_vectors ? 4 : PlaneVectors<T>::least_rows_copied(g);
  const int64_t copied = size_product(size_product(rows, g.h.stride) + reach, g.w.stride,
                                      channels_in_vectors ? g.channels : g.group_channels());
  const int64_t together = std::min(g.groups, std::max<int64_t>(1, run.kernels.lanes / g.group_out_channels()));
  int64_t waiting = 0;
  if (!channels_in_vectors && (channels_last(run.output) || PlaneVectors<T>::crowds_caches(run.output.stride(2)))) {
    waiting = size_product(channels_last(run.output) ? together : 1, g.group_out_channels(), std::min(rows, g.h.out));
  }
  const int64_t most = most_row_bytes / size_product(copied + waiting, sizeof(T)) - g.w.effective_kernel() / g.w.stride;
  for_each_piece_of_columns(run, std::max(least_columns, most), [&](const Conv2dRun<T>& piece) {
    channels_in_vectors ? ChannelVectors<T>{piece}() : PlaneVectors<T>{piece}();
  });
}

template void run_depthwise(const Conv2dRun<float>&, WeightForm);
template void run_depthwise(const Conv2dRun<double>&, WeightForm);

}  // namespace convpool
