#pragma once

#include <algorithm>
#include <cstdint>

#include "block_sizes.hpp"
#include "conv2d_algorithm.hpp"
#include "conv2d_weights.hpp"
#include "epilogue.hpp"
#include "lines_ahead.hpp"
#include "tiling.hpp"

namespace convpool {

/// Tiles that a set of weights passes before the next set is fetched.
inline constexpr std::int64_t tiles_per_block = 8;

/// Where element (c, y, x) of a group's input lies: the distances from base to its row, channel and pixel, added up.
template <class T>
struct InputWindow {
  const T* base = nullptr;
  std::int64_t row = 0, channel = 0, pixel = 0;
  std::int64_t first_channel = 0, first_row = 0, first_column = 0;

  std::int64_t channel_offset(std::int64_t c) const { return (c - first_channel) * channel; }
};

/// Whether a 1x1 multiplies every pixel as it lies.
inline bool is_plain_product(const Conv2dGeometry& g) {
  return g.taps() == 1 && g.h.stride == 1 && g.w.stride == 1 && !g.h.padded() && !g.w.padded();
}

/// Such a one sees one long row.
template <class T>
bool reads_as_one_row(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  return is_plain_product(g) && g.h.in == g.h.out && g.w.in == g.w.out && rows_contiguous(run.input) &&
         rows_contiguous(run.output);
}

/// f(run), of a 1x1 on images of one pixel as one of a single image, whose rows they are, so that weights are read once
/// for all of them (16 images of 2048 to 1000 channels 10 times as fast, of 960 to 240 2.5 times; channels-last images
/// of 7x7 pixels 1.0 to 1.2 times, of 14x14 and more .84 to 1.04, Emerald Rapids). By what scratch is measured with, so
/// not by the array to add.
template <class T, class F>
void as_one_image(const Conv2dRun<T>& run, F&& f) {
  const Conv2dGeometry& g = run.geometry;
  const bool pixels = g.h.in * g.w.in == 1 && g.out_pixels() == 1 && reads_as_one_row(run);
  const bool dense = run.output.stride(0) == g.out_channels && (g.out_channels == 1 || run.output.stride(1) == 1);
  if (g.batch == 1 || !pixels || !dense) return f(run);
  const auto joined = [&](auto view) {
    view.shape = {1, view.size(1), g.batch, 1};
    view.strides[2] = view.strides[3] = view.stride(0);
    return view;
  };
  Conv2dGeometry geometry = g;
  geometry.batch = 1;
  geometry.h.in = geometry.h.out = g.batch;
  f(Conv2dRun<T>{geometry, joined(run.input), joined(run.output), run.weights, joined(run.add), run.activation,
                 run.threads, run.kernels, run.blocking});
}

/// Makes that row of it.
template <class T>
void flatten_rows(Conv2dGeometry& g, TensorView<const T>& input, TensorView<T>& output) {
  g.w.in = g.w.out = g.h.in * g.w.in;
  g.h.in = g.h.out = 1;
  input.shape[2] = output.shape[2] = 1;
  input.shape[3] = output.shape[3] = g.w.in;
}

/// Whether a 1x1 reads a few pixels of each of many planes so far apart that tall tiles wait for them: images that take
/// a good part of the L2 cache, and planes of whole pages, whose lines share sets of both caches. The first tile copies
/// them side by side as it reads (Emerald Rapids, 2 MB of L2: images of .8 to 13 MB 1.03 to 1.2 times as fast, planes
/// of 4 to 64 KB 1.1 to 1.7 times; smaller images, fewer channels and fewer outputs .8 to 1).
template <class T>
bool has_distant_planes(const Conv2dGeometry& g) {
  constexpr std::int64_t channels = 64, outputs = 48, outputs_of_pages = 24, page = 4096, short_plane = 1024;
  if (!is_plain_product(g) || g.group_channels() < channels) return false;
  const std::int64_t plane = size_product(g.h.in, g.w.in, sizeof(T));
  if (plane % page == 0) return g.group_out_channels() >= outputs_of_pages;
  return g.group_out_channels() >= outputs && plane > short_plane &&
         size_product(g.group_channels(), plane) > block_sizes().copied_block;
}

/// Whether low tiles go through all taps and channels in one run, whose steps are listed: segments of a few of them
/// take as long as five more, and panels are packed. Where the rows that a tile reads fill no more than half of the L1
/// cache, and no tile has a vector alone: by the geometry of one image, since the order of the sums changes.
template <class T>
bool lists_steps(const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  constexpr std::int64_t most_bytes = 16 << 10;
  if (g.taps() == 1) return false;
  const std::int64_t vectors = ceil_div(g.w.out, std::int64_t{kernels.lanes});
  const TileShape tile = choose_tile(kernels, g.group_out_channels(), vectors);
  const std::int64_t run = size_product(tile.vectors, kernels.lanes, sizeof(T)) + kernels::cache_line;
  return kernels.listed_tile[tile.vectors][1] != nullptr && (tile.vectors == 3 || vectors % 2 == 0) &&
         size_product(g.group_channels(), g.h.kernel, std::min(g.w.stride, g.w.kernel), run) <= most_bytes;
}

/// Low tiles load much for what they compute: where many output channels read the same vectors of pixels, those are
/// laid side by side, and one run of the reduction replaces segments: by the geometry of one image alone, since the
/// order of the sums changes, but for a 1x1. Tall tiles do so for a 1x1 alone, so that this machine's caches may
/// decide.
template <class T>
bool packs_panels(const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  // From which on it pays: of more taps, whose segments are short, and of a 1x1, whose first tile packs. Of 128 planes
  // and more, read in place, few outputs do (12 to 48 of 128 to 512 channels 1.0 to 1.75 times as fast, most where
  // planes are whole pages; of 32 to 96 channels .8 to 1, Zen 3).
  constexpr std::int64_t outputs = 24, many_channels = 128, outputs_of_many = 12, outputs_of_few = 64;
  constexpr std::int64_t most_bytes = 128 << 10;
  if (size_product(g.taps(), kernels::max_tile_vectors, kernels.lanes, sizeof(T)) > most_bytes) return false;
  if (!has_few_registers(kernels)) return has_distant_planes<T>(g);
  if (lists_steps(g, kernels)) return false;
  const bool many = is_plain_product(g) && g.group_channels() >= many_channels;
  return g.group_out_channels() >= (g.taps() > 1 ? outputs : many ? outputs_of_many : outputs_of_few);
}

/// Whether the pixels of the next tiles are fetched ahead, in place: nothing else foresees what lies in planes far
/// apart. For 16 images 1x1 of 384 channels to 64 on 14x14 is 1.14 times as fast, of 64 to 20 on 56x56 1.6 times; it
/// costs 5 % where the L2 cache had most of it, and in place, where no panels are packed, the last cache (Zen 3). Tall
/// tiles gain a twentieth with panels, and nothing in place (Emerald Rapids).
template <class T>
bool fetches_pixels_ahead(const Conv2dGeometry& g, const kernels::Table<T>& kernels, int tile_rows) {
  if (g.taps() != 1 || g.group_out_channels() <= tile_rows) return false;
  const bool packs = packs_panels(g, kernels);
  const std::int64_t image = size_product(g.channels, g.h.in, g.w.in, sizeof(T));
  if (!has_few_registers(kernels)) return packs && image > block_sizes().large_input;
  return size_product(g.batch, image) > (packs ? 2 * block_sizes().large_weights : block_sizes().fetched_input);
}

/// What both orientations share: the geometry, and how the work is cut into tasks of images, groups, output channels
/// and rows.
template <class T>
class DirectTasks {
 public:
  /// A run that may be a piece of `whole`.
  DirectTasks(const Conv2dRun<T>& run, const Conv2dGeometry& whole)
      : run_(run), g_(run.geometry), input_(run.input), output_(run.output), epilogue_(run), lanes_(run.kernels.lanes) {
    if (reads_as_one_row(run)) flatten_rows(g_, input_, output_);
    streams_ = epilogue_.streams(run, whole.out_pixels());
  }

 protected:
  std::int64_t rows_read(std::int64_t rows) const { return (rows - 1) * g_.h.stride + g_.h.effective_kernel(); }

  /// Rows of results for a task: tiles enough to use a set of weights well, few rows copied for two tasks, a copy that
  /// fits the cache, and no more tasks than the threads share out well, since two that write neighbouring rows write
  /// the line between them in turn. `row_elements` is what a row of all channels that are taken together has.
  std::int64_t rows_per_task(std::int64_t tiles_wanted, std::int64_t tiles_in_row, std::int64_t row_elements,
                             bool copied) const {
    std::int64_t rows = ceil_div(tiles_wanted, tiles_in_row);
    const std::int64_t shared = g_.batch * g_.groups * g_.h.out / (8 * run_.threads);
    if (copied) {
      const std::int64_t overlap = std::clamp<std::int64_t>(g_.h.effective_kernel() - g_.h.stride, 0, 1 << 20);
      rows = std::max(rows, std::min(4 * overlap / g_.h.stride, shared));
    }
    rows = std::max(rows,
                    std::min(shared, block_sizes().rows_together / size_product(g_.h.stride, row_elements, sizeof(T))));
    rows = std::clamp<std::int64_t>(rows, 1, g_.h.out);
    while (copied && rows > 1 && size_product(rows_read(rows), row_elements, sizeof(T)) > block_sizes().copied_block)
      --rows;
    return split_rows(rows).largest();
  }

  EvenSplit split_rows(std::int64_t rows) const { return split_for_threads(g_.h.out, rows, g_.batch * g_.groups); }

  /// As even pieces as can be, of at most `largest`, where the larger ones lie among the others: up to twice as many
  /// where few would leave a thread without one at the end.
  EvenSplit split_for_threads(std::int64_t total, std::int64_t largest, std::int64_t other_tasks) const {
    const EvenSplit least(total, largest);
    if (size_product(least.pieces, other_tasks) >= 8 * run_.threads || least.pieces < run_.threads) return least;
    for (std::int64_t pieces = least.pieces; pieces <= std::min(2 * least.pieces, total); ++pieces) {
      if (pieces * other_tasks % run_.threads == 0) return EvenSplit::in_pieces(total, pieces);
    }
    return least;
  }

  /// Channels that a copied block takes at a time.
  std::int64_t channels_per_copy(std::int64_t rows, std::int64_t row_elements_per_channel) const {
    const std::int64_t bytes = size_product(rows_read(rows), row_elements_per_channel, sizeof(T));
    const std::int64_t fitting =
        block_sizes().copied_block / std::max<std::int64_t>(1, bytes) / reduction_block * reduction_block;
    return std::clamp<std::int64_t>(fitting, std::min(reduction_block, g_.group_channels()), g_.group_channels());
  }

  /// Pieces of the output channels, so that a few pixels still give every thread something to do: one where each piece
  /// copies its input anew.
  std::int64_t channel_pieces(std::int64_t other_tasks, std::int64_t most, std::int64_t for_each_thread = 2) const {
    return std::clamp<std::int64_t>(ceil_div(for_each_thread * run_.threads, other_tasks), 1,
                                    run_.threads == 1 ? 1 : most);
  }

  /// Up to twice as many where a few tasks share out more evenly then: of 7 tasks, one of two threads waits for a
  /// quarter of the time.
  std::int64_t even_channel_pieces(std::int64_t other_tasks, std::int64_t most) const {
    const std::int64_t least = channel_pieces(other_tasks, most);
    const auto busy_share = [&](std::int64_t pieces) {
      const std::int64_t tasks = size_product(other_tasks, pieces);
      return static_cast<double>(tasks) / static_cast<double>(round_up(tasks, run_.threads));
    };
    std::int64_t best = least;
    for (std::int64_t pieces = least + 1; pieces <= std::min(2 * least, most); ++pieces) {
      if (busy_share(pieces) > 1.05 * busy_share(best)) best = pieces;
    }
    return best;
  }

  /// Whether rows follow one another in memory, and the L2 cache doesn't hold the input.
  bool rows_come_from_afar() const {
    const std::int64_t pixel = channels_last(input_) ? input_.stride(3) : 1;
    return input_.stride(3) == pixel && input_.stride(2) == g_.w.in * pixel &&
           size_product(g_.batch, g_.channels, g_.h.in, g_.w.in, sizeof(T)) > block_sizes().large_weights;
  }

  /// Channels of what rows of results read of an image's group, and what a task takes at a time.
  struct RowsRead {
    std::int64_t n, group;
    Range channels, rows;
    bool again;  ///< all of them, for other output channels
  };
  struct TakenAtOnce {
    std::int64_t rows, channels;
    bool in_place;
  };

  /// What is read next, to be fetched by the tiles that run meanwhile: other channels of these rows, or the first ones
  /// of the rows below, of the next group or image, which a thread mostly takes after them. Neither planes nor rows of
  /// a few channels are what a prefetcher foresees. Of `pieces` of a row, each has its share of it fetched.
  LinesAhead<T> rows_ahead(RowsRead read, const TakenAtOnce& taken, std::int64_t fetches, std::int64_t piece = 0,
                           std::int64_t pieces = 1) const {
    // What some 30 output channels leave time for. With fewer, two threads would wait for the last cache: 288 channels
    // to 24 on 96x96 with stride 2 took 1.2 times as long.
    constexpr std::int64_t most_lines_per_fetch = 4;
    const bool below = read.channels.end == g_.group_channels();
    std::int64_t oh = read.rows.begin;
    if (below) oh = read.rows.end < g_.h.out ? read.rows.end : 0;
    if (below && oh == 0 && !read.again && ++read.group == g_.groups) read.group = 0, ++read.n;
    if (read.n == g_.batch) return {};
    // In place the rows that both see aren't read from afar twice.
    const std::int64_t seen = taken.in_place && below && oh > 0 ? g_.h.start(oh - 1) + g_.h.effective_kernel() : 0;
    const std::int64_t top = std::max({std::int64_t{0}, g_.h.start(oh), seen});
    const std::int64_t bottom = std::min(g_.h.in, g_.h.start(oh) + rows_read(std::min(taken.rows, g_.h.out - oh)));
    if (top >= bottom) return {};
    const std::int64_t first = top + (bottom - top) * piece / pieces, end = top + (bottom - top) * (piece + 1) / pieces;
    const std::int64_t c = below ? 0 : read.channels.end, count = std::min(g_.group_channels() - c, taken.channels);
    const T* const from = image(read.n, read.group) + c * input_.stride(1) + first * input_.stride(2);
    const std::int64_t pixels = (end - first) * g_.w.in;
    if (pixels == 0) return {};
    if (channels_last(input_)) return {from, input_.stride(3), pixels, count, fetches, most_lines_per_fetch};
    return {from, input_.stride(1), count, pixels, fetches, most_lines_per_fetch};
  }

  /// Offset of tap row i for output row oh in the window; false where it shows only zeros.
  bool row_offset(const InputWindow<T>& window, bool in_place, std::int64_t oh, std::int64_t i,
                  std::int64_t& offset) const {
    const std::int64_t y = g_.h.start(oh) + i * g_.h.dilation;
    const std::int64_t source = source_index(y, g_.h.in, g_.padding_mode);
    if (source < 0) return false;
    offset = ((in_place ? source : y) - window.first_row) * window.row;
    return true;
  }

  /// Whether the outputs of rows [oh_begin, oh_end) read row y of the padded input at all.
  bool row_is_read(std::int64_t y, std::int64_t oh_begin, std::int64_t oh_end) const {
    for (std::int64_t i = 0; i < g_.h.kernel; ++i) {
      const std::int64_t distance = y - g_.h.start(oh_begin) - i * g_.h.dilation;
      if (distance >= 0 && distance % g_.h.stride == 0 && distance / g_.h.stride < oh_end - oh_begin) return true;
    }
    return false;
  }

  /// copy(source row, row of the block, how many) for the rows that a block of output rows needs: neighbours together.
  template <class Copy>
  void for_each_run_read(std::int64_t oh_begin, std::int64_t oh_end, Copy&& copy) const {
    const std::int64_t first = g_.h.start(oh_begin), count = rows_read(oh_end - oh_begin);
    std::int64_t run_source = 0, run_row = 0, run = 0;
    for (std::int64_t row = 0; row < count; ++row) {
      const std::int64_t source = source_index(first + row, g_.h.in, g_.padding_mode);
      if (source < 0 || !row_is_read(first + row, oh_begin, oh_end)) continue;
      if (run > 0 && source == run_source + run && row == run_row + run) {
        ++run;
        continue;
      }
      if (run > 0) copy(run_source, run_row, run);
      run_source = source;
      run_row = row;
      run = 1;
    }
    if (run > 0) copy(run_source, run_row, run);
  }

  const T* image(std::int64_t n, std::int64_t group) const {
    return input_.data + n * input_.stride(0) + group * g_.group_channels() * input_.stride(1);
  }
  T* result(std::int64_t n, std::int64_t k, std::int64_t oh, std::int64_t ow) const {
    return output_.data + n * output_.stride(0) + k * output_.stride(1) + oh * output_.stride(2) +
           ow * output_.stride(3);
  }

  const Conv2dRun<T>& run_;
  Conv2dGeometry g_;
  TensorView<const T> input_;
  TensorView<T> output_;
  Epilogue<T> epilogue_;
  std::int64_t lanes_;
  bool streams_ = false;
};

}  // namespace convpool
