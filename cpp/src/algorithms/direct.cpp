// Blocked loops over the input in place, or over a padded copy of a few of its rows.
//
// Each register tile runs through the taps as a list of segments (where the input starts, where the weights start, how
// many steps), so that stride, dilation and padding are nothing but offsets, and a tap that lies wholly in zero padding
// is left out. Two orientations share that: output channels in the vectors (weights packed, input broadcast element by
// element), or pixels in the vectors (weights broadcast as they lie, input rows read in whole vectors, taken apart by
// the stride).

#include <algorithm>

#include "conv2d_algorithm.hpp"
#include "conv2d_weights.hpp"
#include "epilogue.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "run_pieces.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::Segment;
using kernels::TileArguments;
using std::int64_t;

/// A copied block should stay in the L2 cache beside the weights that pass it.
constexpr int64_t block_bytes = 256 << 10;
/// What a row of results reads, where that is read anew for each set of weights.
constexpr int64_t most_bytes_in_place = 512 << 10;
/// Tiles that a set of weights passes before the next set is fetched.
constexpr int64_t tiles_per_block = 8;
constexpr int64_t large_weights = 1 << 20;
/// Pixels of results that wait for their transposition, so that it finds whole squares.
constexpr int64_t pixels_per_flush = 112;
/// Lists of segments that a task keeps, so that they aren't made again for each set of weights.
constexpr int64_t list_bytes = 64 << 10, most_list_bytes = 1 << 20;

/// A copied row of results' inputs, or the sums of a row that wait, take no more than this.
constexpr int64_t most_row_bytes = 2 << 20;
constexpr int64_t least_columns = 256, most_copied_columns = 8192;
/// Tiles of a row are listed.
constexpr int64_t most_columns = 1 << 16;

/// Where element (c, y, x) of a group's input lies: the distances from base to its row, channel and pixel, added up.
template <class T>
struct InputWindow {
  const T* base = nullptr;
  int64_t row = 0, channel = 0, pixel = 0;
  int64_t first_channel = 0, first_row = 0, first_column = 0;

  int64_t channel_offset(int64_t c) const { return (c - first_channel) * channel; }
};

/// Whether output channels in the vectors go without a copy of the input.
template <class T>
bool reads_in_place(const Conv2dGeometry& g, const TensorView<const T>& input) {
  return !g.w.padded() && (channels_last(input) || !takes_rows_of_taps(g)) &&
         (g.taps() == 1 || size_product(g.h.kernel, g.w.in, g.group_channels(), sizeof(T)) <= most_bytes_in_place);
}

/// A 1x1 convolution that moves by single pixels sees one long row.
template <class T>
bool reads_as_one_row(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  return g.taps() == 1 && g.h.stride == 1 && g.w.stride == 1 && !g.h.padded() && !g.w.padded() && g.h.in == g.h.out &&
         g.w.in == g.w.out && rows_contiguous(run.input) && rows_contiguous(run.output);
}

template <class T>
void flatten_rows(Conv2dGeometry& g, TensorView<const T>& input, TensorView<T>& output) {
  g.w.in = g.w.out = g.h.in * g.w.in;
  g.h.in = g.h.out = 1;
  input.shape[2] = output.shape[2] = 1;
  input.shape[3] = output.shape[3] = g.w.in;
}

/// What both orientations share: the geometry, and how the work is cut into tasks of images, groups, rows and output
/// channels.
template <class T>
class Direct {
 public:
  /// A run that may be a piece of `whole`.
  Direct(const Conv2dRun<T>& run, const Conv2dGeometry& whole)
      : run_(run), g_(run.geometry), input_(run.input), output_(run.output), epilogue_(run), lanes_(run.kernels.lanes) {
    if (reads_as_one_row(run)) flatten_rows(g_, input_, output_);
    streams_ = epilogue_.streams(run, whole.out_pixels());
  }

 protected:
  int64_t rows_read(int64_t rows) const { return (rows - 1) * g_.h.stride + g_.h.effective_kernel(); }

  /// Rows of results for a task: tiles enough to use a set of weights well, few rows copied for two tasks, a copy that
  /// fits the cache.
  int64_t rows_per_task(int64_t tiles_wanted, int64_t tiles_in_row, int64_t copied_row_elements) const {
    int64_t rows = ceil_div(tiles_wanted, tiles_in_row);
    if (copied_row_elements > 0) {
      const int64_t overlap = std::clamp<int64_t>(g_.h.effective_kernel() - g_.h.stride, 0, 1 << 20);
      rows = std::max(rows, std::min(4 * overlap / g_.h.stride, g_.batch * g_.groups * g_.h.out / (8 * run_.threads)));
    }
    rows = std::clamp<int64_t>(rows, 1, g_.h.out);
    while (rows > 1 && size_product(rows_read(rows), copied_row_elements, sizeof(T)) > block_bytes) --rows;
    return rows;
  }

  /// Channels that a copied block takes at a time.
  int64_t channels_per_copy(int64_t rows, int64_t row_elements_per_channel) const {
    const int64_t bytes = size_product(rows_read(rows), row_elements_per_channel, sizeof(T));
    const int64_t fitting = block_bytes / std::max<int64_t>(1, bytes) / reduction_block * reduction_block;
    return std::clamp<int64_t>(fitting, std::min(reduction_block, g_.group_channels()), g_.group_channels());
  }

  /// Pieces of the output channels, so that a few pixels still give every thread something to do.
  int64_t channel_pieces(int64_t other_tasks, int64_t most) const {
    return std::clamp<int64_t>(ceil_div(2 * run_.threads, other_tasks), 1, run_.threads == 1 ? 1 : most);
  }

  /// Offset of tap row i for output row oh in the window; false where it shows only zeros.
  bool row_offset(const InputWindow<T>& window, bool in_place, int64_t oh, int64_t i, int64_t& offset) const {
    const int64_t y = g_.h.start(oh) + i * g_.h.dilation;
    const int64_t source = source_index(y, g_.h.in, g_.padding_mode);
    if (source < 0) return false;
    offset = ((in_place ? source : y) - window.first_row) * window.row;
    return true;
  }

  /// Whether the outputs of rows [oh_begin, oh_end) read row y of the padded input at all.
  bool row_is_read(int64_t y, int64_t oh_begin, int64_t oh_end) const {
    for (int64_t i = 0; i < g_.h.kernel; ++i) {
      const int64_t distance = y - g_.h.start(oh_begin) - i * g_.h.dilation;
      if (distance >= 0 && distance % g_.h.stride == 0 && distance / g_.h.stride < oh_end - oh_begin) return true;
    }
    return false;
  }

  /// copy(source row, row of the block, how many) for the rows that a block of output rows needs: neighbours together.
  template <class Copy>
  void for_each_run_read(int64_t oh_begin, int64_t oh_end, Copy&& copy) const {
    const int64_t first = g_.h.start(oh_begin), count = rows_read(oh_end - oh_begin);
    int64_t run_source = 0, run_row = 0, run = 0;
    for (int64_t row = 0; row < count; ++row) {
      const int64_t source = source_index(first + row, g_.h.in, g_.padding_mode);
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

  /// The taps of a row that don't show only zeros to the outputs [ow, ow + count).
  Range taps_seen(int64_t ow, int64_t count) const {
    Range taps{0, g_.w.kernel};
    if (g_.padding_mode != PaddingMode::zeros) return taps;
    const auto is_zero = [&](int64_t j) {
      const Range inside = g_.w.outputs_inside(j);
      return ow + count <= inside.begin || ow >= inside.end;
    };
    while (taps.begin < taps.end && is_zero(taps.begin)) ++taps.begin;
    while (taps.begin < taps.end && is_zero(taps.end - 1)) --taps.end;
    return taps;
  }

  const T* image(int64_t n, int64_t group) const {
    return input_.data + n * input_.stride(0) + group * g_.group_channels() * input_.stride(1);
  }
  T* result(int64_t n, int64_t k, int64_t oh, int64_t ow) const {
    return output_.data + n * output_.stride(0) + k * output_.stride(1) + oh * output_.stride(2) +
           ow * output_.stride(3);
  }

  const Conv2dRun<T>& run_;
  Conv2dGeometry g_;
  TensorView<const T> input_;
  TensorView<T> output_;
  Epilogue<T> epilogue_;
  int64_t lanes_;
  bool streams_ = false;
};

/// Output channels in the vectors, pixels of a row broadcast.
template <class T>
class ChannelVectors : Direct<T> {
  using Base = Direct<T>;
  using Base::epilogue_, Base::g_, Base::input_, Base::lanes_, Base::output_, Base::run_, Base::streams_;

 public:
  ChannelVectors(const Conv2dRun<T>& run, const Conv2dGeometry& whole) : Base(run, whole) {
    vectors_ = ceil_div(g_.group_out_channels(), lanes_);
    tile_ = choose_tile(run.kernels, g_.w.out, vectors_);
    input_channels_last_ = channels_last(input_);
    interleaves_ = !input_channels_last_ && takes_rows_of_taps(g_);
    in_place_ = reads_in_place(g_, input_);
    output_channels_last_ = channels_last(output_);
    output_rows_contiguous_ = output_.stride(3) == 1 && rows_contiguous(output_);
    padded_width_ = (g_.w.out - 1) * g_.w.stride + g_.w.effective_kernel();
    cut_tiles();
    // Weights that don't fit the L2 cache want more tiles, even if fewer channels can be copied at a time then.
    const bool large = size_product(g_.reduction(), vectors_, lanes_, sizeof(T)) > large_weights;
    const int64_t copied_channels = std::min<int64_t>(g_.group_channels(), (large ? 1 : 4) * reduction_block);
    const int64_t copied = in_place_ ? 0 : size_product(padded_width_, copied_channels);
    rows_ = this->rows_per_task((large ? 4 : 1) * tiles_per_block, tiles_.size(), copied);
    copy_channels_ = in_place_ ? g_.group_channels() : this->channels_per_copy(rows_, padded_width_);
    row_tasks_ = ceil_div(g_.h.out, rows_);
    const int64_t tasks = g_.batch * g_.groups * row_tasks_;
    int64_t pieces = this->channel_pieces(tasks, ceil_div(vectors_, tile_.vectors));
    if (keeps_partial_sums()) {
      // Sums that wait for the next channels are bounded too.
      const int64_t most =
          std::max<int64_t>(tile_.vectors, 2 * block_bytes / (rows_ * g_.w.out * lanes_ * int64_t{sizeof(T)}));
      pieces = std::max(pieces, ceil_div(vectors_, most));
    }
    channel_split_ = EvenSplit(vectors_, round_up(ceil_div(vectors_, pieces), tile_.vectors));
    list_pitch_ = size_product(ceil_div(copy_channels_, reduction_block), g_.taps()) + 1;
    // By the geometry alone: whether taps in the padding are taken shows where a weight isn't finite.
    if (size_product(g_.taps() + 1, taps_.size(), sizeof(Segment)) > most_list_bytes) share_taps();
    row_pitch_ = size_product(list_pitch_, taps_.size());
    listed_rows_ = std::clamp<int64_t>(list_bytes / size_product(row_pitch_, sizeof(Segment)), 1, rows_);
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {tile_.rows, tile_.vectors, rows_ * g_.w.out,
                        std::min(g_.group_out_channels(), channel_split_.largest() * lanes_),
                        size_product(copy_channels_, g_.taps())};
    }
    const int64_t copy = in_place_ ? 0 : size_product(this->rows_read(rows_), copy_channels_, padded_width_);
    const int64_t partial = output_channels_last_  ? 0
                            : keeps_partial_sums() ? size_product(rows_, g_.w.out, channel_split_.largest(), lanes_)
                                                   : (pixels_per_flush + tile_.rows) * tile_.vectors * lanes_;
    const int64_t segments = size_product(row_pitch_, listed_rows_);
    const SlottedWorkspace<T> scratch(round_up(copy, 16) + round_up(partial, 16), run_.threads);
    const SlottedWorkspace<Segment> segment_scratch(segments, run_.threads);
    parallel_for(g_.batch * g_.groups * row_tasks_ * channel_split_.pieces, run_.threads,
                 [&](int64_t task, int thread) {
                   T* const block = scratch.slot(thread);
                   run_task(task, block, block + round_up(copy, 16), segment_scratch.slot(thread));
                   if (streams_) run_.kernels.finish_streaming();
                 });
  }

 private:
  /// Neighbouring outputs of a row that make a tile, and the taps that they see, as an index to taps_.
  struct RowTile {
    int64_t ow, count, taps;
  };

  /// A row is cut where a tap leaves the image, if the pieces are worth a tile: with wide dilations most taps fall
  /// wholly into the padding then.
  void cut_tiles() {
    const int64_t tallest = run_.kernels.tile_rows[tile_.vectors], least = ceil_div(tallest, 2);
    tiles_ = ScratchList<RowTile>(2 * ceil_div(g_.w.out, least));
    taps_ = ScratchList<Range>(2 * ceil_div(g_.w.out, least));
    ScratchList<int64_t> cuts(size_product(2, g_.w.kernel) + 2);
    cuts.push_back(0);
    cuts.push_back(g_.w.out);
    if (g_.padding_mode == PaddingMode::zeros) {
      for (int64_t j = 0; j < g_.w.kernel; ++j) {
        const Range inside = g_.w.outputs_inside(j);
        for (const int64_t cut : {inside.begin, inside.end}) {
          if (cut > 0 && cut < g_.w.out) cuts.push_back(cut);
        }
      }
    }
    std::sort(cuts.begin(), cuts.end());
    for (int64_t i = 1, from = 0; i < cuts.size(); ++i) {
      const bool last = i + 1 == cuts.size();
      if (!last && (cuts[i] - cuts[from] < least || g_.w.out - cuts[i] < least)) continue;
      const EvenSplit tiles(cuts[i] - cuts[from], tallest);
      for (int64_t t = 0; t < tiles.pieces; ++t) {
        const int64_t ow = cuts[from] + tiles.begin(t), count = tiles.end(t) - tiles.begin(t);
        const Range taps = this->taps_seen(ow, count);
        const auto same = [&](const Range& other) { return other.begin == taps.begin && other.end == taps.end; };
        const auto known = std::find_if(taps_.begin(), taps_.end(), same);
        tiles_.push_back({ow, count, known - taps_.begin()});
        if (known == taps_.end()) taps_.push_back(taps);
        tile_.rows = std::max(tile_.rows, static_cast<int>(count));
      }
      from = i;
    }
  }

  /// Every tile takes all taps, those in the padding too: lists of their own would outgrow the cache.
  void share_taps() {
    Range all = taps_[0];
    for (const Range& taps : taps_) all = {std::min(all.begin, taps.begin), std::max(all.end, taps.end)};
    for (RowTile& tile : tiles_) tile.taps = 0;
    taps_[0] = all;
    taps_.resize_down(1);
  }

  bool keeps_partial_sums() const { return !output_channels_last_ && copy_channels_ < g_.group_channels(); }

  void run_task(int64_t task, T* block, T* partial, Segment* segments) const {
    const int64_t piece = task % channel_split_.pieces;
    task /= channel_split_.pieces;
    const int64_t oh_begin = task % row_tasks_ * rows_;
    const int64_t oh_end = std::min(g_.h.out, oh_begin + rows_);
    task /= row_tasks_;
    const int64_t group = task % g_.groups, n = task / g_.groups;
    const int64_t v_begin = channel_split_.begin(piece), v_end = channel_split_.end(piece);
    for (int64_t c = 0; c < g_.group_channels(); c += copy_channels_) {
      const int64_t c_end = std::min(g_.group_channels(), c + copy_channels_);
      const InputWindow<T> window =
          in_place_ ? whole_input(n, group) : copy_block(n, group, c, c_end, oh_begin, oh_end, block);
      const Listing listing{window, c, c_end, segments};
      const bool last = c_end == g_.group_channels();
      Waiting waiting;
      int64_t listed_begin = 0, listed_end = 0;
      for (int64_t v = v_begin; v < v_end; v += tile_.vectors) {
        const int64_t width = std::min<int64_t>(tile_.vectors, v_end - v);
        for (int64_t oh = oh_begin; oh < oh_end; ++oh) {
          if (oh < listed_begin || oh >= listed_end) {
            listed_begin = oh_begin + (oh - oh_begin) / listed_rows_ * listed_rows_;
            listed_end = std::min(oh_end, listed_begin + listed_rows_);
            list_rows(listing, listed_begin, listed_end);
          }
          const Segment* const lists = segments + (oh - listed_begin) * row_pitch_;
          for (const RowTile& tile : tiles_) {
            const int64_t pixel = (oh - oh_begin) * g_.w.out + tile.ow;
            if (keeps_partial_sums()) {
              waiting.sums_row = (v_end - v_begin) * lanes_;
              waiting.sums = partial + (pixel - waiting.pixels) * waiting.sums_row + (v - v_begin) * lanes_;
            } else {
              waiting.sums_row = width * lanes_;
              waiting.sums = partial;
            }
            run_tile(lists + tile.taps * list_pitch_, window, n, group, v, width, oh, tile, c == 0, last,
                     waiting.sums + waiting.pixels * waiting.sums_row, waiting.sums_row);
            if (output_channels_last_ || !last) continue;
            if (waiting.pixels == 0) waiting.oh = oh, waiting.ow = tile.ow;
            waiting.pixels += tile.count;
            const bool row_ends = tile.ow + tile.count == g_.w.out;
            if (waiting.pixels >= pixels_per_flush || (row_ends && (!output_rows_contiguous_ || oh + 1 == oh_end))) {
              flush(waiting, n, group, v, width);
              waiting.pixels = 0;
            }
          }
        }
      }
    }
  }

  /// Neighbouring results of a set of output channels, pixel by pixel, not yet transposed.
  struct Waiting {
    T* sums = nullptr;
    int64_t sums_row = 0, oh = 0, ow = 0, pixels = 0;
  };

  void flush(const Waiting& waiting, int64_t n, int64_t group, int64_t v, int64_t width) const {
    const int64_t k = group * g_.group_out_channels() + v * lanes_;
    const int64_t channels = std::min(width * lanes_, g_.group_out_channels() - v * lanes_);
    T* const out = this->result(n, k, waiting.oh, waiting.ow);
    run_.kernels.transpose(waiting.sums, waiting.sums_row, waiting.pixels, channels, out, output_.stride(1));
    if (epilogue_.remains()) {
      epilogue_.finish_channels(out, output_.stride(1), channels, waiting.pixels, n, k,
                                waiting.oh * g_.w.out + waiting.ow);
    }
  }

  struct Listing {
    const InputWindow<T>& window;
    int64_t c_begin, c_end;
    Segment* segments;
  };

  /// The segments of each row in [begin, end), for each range of taps, relative to a tile's first pixel. The first
  /// entry of a list has nothing but how many follow.
  void list_rows(const Listing& listing, int64_t begin, int64_t end) const {
    Segment* to = listing.segments;
    for (int64_t oh = begin; oh < end; ++oh) {
      for (const Range& taps : taps_) {
        to->count = list_segments(listing.window, listing.c_begin, listing.c_end, oh, taps, to + 1);
        to += list_pitch_;
      }
    }
  }

  InputWindow<T> whole_input(int64_t n, int64_t group) const {
    return {this->image(n, group), input_.stride(2), input_.stride(1), input_.stride(3), 0, 0, 0};
  }

  InputWindow<T> copy_block(int64_t n, int64_t group, int64_t c_begin, int64_t c_end, int64_t oh_begin, int64_t oh_end,
                            T* block) const {
    const int64_t channels = c_end - c_begin;
    InputWindow<T> window{block, channels * padded_width_, 0, 0, c_begin, g_.h.start(oh_begin), g_.w.start(0)};
    const bool pixels_together = input_channels_last_ || interleaves_;
    window.channel = pixels_together ? 1 : padded_width_;
    window.pixel = pixels_together ? channels : 1;
    const T* const from = this->image(n, group) + c_begin * input_.stride(1);
    this->for_each_run_read(oh_begin, oh_end, [&](int64_t source, int64_t row, int64_t rows) {
      const T* const run = from + source * input_.stride(2);
      if (pixels_together) {
        for (int64_t r = 0; r < rows; ++r) {
          copy_pixels(run + r * input_.stride(2), channels, block + (row + r) * window.row);
        }
        return;
      }
      for (int64_t c = 0; c < channels; ++c) {  // in the order of memory
        copy_padded_rows(run_.kernels, {run + c * input_.stride(1), input_.stride(2), input_.stride(3), g_.w.in}, rows,
                         g_.padding_mode, T(0), g_.w.start(0), padded_width_,
                         block + row * window.row + c * padded_width_, window.row);
      }
    });
    return window;
  }

  void copy_pixels(const T* row, int64_t channels, T* to) const {
    if (interleaves_) return interleave_row(row, channels, to);
    const int64_t first = g_.w.start(0);
    int64_t begin = std::clamp<int64_t>(-first, 0, padded_width_), end = begin;
    if (input_.stride(3) == channels) {  // whole pixels: a run
      end = std::clamp<int64_t>(g_.w.in - first, begin, padded_width_);
      std::copy_n(row + (first + begin) * channels, (end - begin) * channels, to + begin * channels);
    }
    for (int64_t x = 0; x < padded_width_; ++x) {
      if (x == begin) x = end;
      if (x == padded_width_) break;
      const int64_t source = source_index(first + x, g_.w.in, g_.padding_mode);
      if (source < 0) {
        std::fill_n(to + x * channels, channels, T(0));
      } else {
        std::copy_n(row + source * input_.stride(3), channels, to + x * channels);
      }
    }
  }

  void interleave_row(const T* row, int64_t channels, T* to) const {
    const int64_t first = g_.w.start(0), pixel = input_.stride(3);
    const int64_t begin = std::clamp<int64_t>(-first, 0, padded_width_);
    const int64_t end = std::clamp<int64_t>(g_.w.in - first, begin, padded_width_);
    const auto one_by_one = [&](int64_t from, int64_t until) {
      for (int64_t x = from; x < until; ++x) {
        const int64_t source = source_index(first + x, g_.w.in, g_.padding_mode);
        for (int64_t c = 0; c < channels; ++c) {
          to[x * channels + c] = source < 0 ? T(0) : row[c * input_.stride(1) + source * pixel];
        }
      }
    };
    one_by_one(0, begin);
    if (pixel == 1) {
      run_.kernels.transpose(row + first + begin, input_.stride(1), channels, end - begin, to + begin * channels,
                             channels);
    } else {
      one_by_one(begin, end);
    }
    one_by_one(end, padded_width_);
  }

  int64_t list_segments(const InputWindow<T>& window, int64_t c_begin, int64_t c_end, int64_t oh, Range taps,
                        Segment* segments) const {
    int64_t used = 0;
    for (int64_t c = c_begin; c < c_end; c += reduction_block) {
      const int64_t channels = std::min(reduction_block, c_end - c);
      for (int64_t i = 0; i < g_.h.kernel; ++i) {
        int64_t row;
        if (!this->row_offset(window, in_place_, oh, i, row)) continue;
        for (int64_t j = taps.begin; j < taps.end; ++j) {
          const Segment next{row + window.channel_offset(c) + j * g_.w.dilation * window.pixel,
                             reduction_index(g_, c, i, j) * lanes_, channels};
          // Few channels, pixel by pixel: the taps of a row follow one another in both operands.
          if (used > 0) {
            Segment& last = segments[used - 1];
            if (last.a + last.count * window.channel == next.a && last.b + last.count * lanes_ == next.b) {
              last.count += next.count;
              continue;
            }
          }
          segments[used++] = next;
        }
      }
    }
    return used;
  }

  void run_tile(const Segment* list, const InputWindow<T>& window, int64_t n, int64_t group, int64_t v, int64_t width,
                int64_t oh, const RowTile& where, bool first, bool last, T* sums, int64_t sums_row) const {
    const int64_t count = where.count;
    const int64_t packed = group * vectors_ + v;
    const int64_t k = group * g_.group_out_channels() + v * lanes_;
    const int64_t channels = std::min(width * lanes_, g_.group_out_channels() - v * lanes_);
    T* const out = this->result(n, k, oh, where.ow);
    TileArguments<T> tile{};
    tile.segments = list + 1;
    tile.segment_count = list->count;
    tile.a = window.base + (g_.w.start(where.ow) - window.first_column) * window.pixel;
    tile.a_row = g_.w.stride * window.pixel;
    tile.a_step = window.channel;
    tile.b = run_.weights.data + packed * g_.reduction() * lanes_;
    tile.b_vector = g_.reduction() * lanes_;
    tile.b_step = lanes_;
    tile.c = output_channels_last_ ? out : sums;
    tile.c_row = output_channels_last_ ? output_.stride(3) : sums_row;
    tile.columns = output_channels_last_ ? channels : width * lanes_;
    tile.column_bias = run_.weights.bias + packed * lanes_;
    tile.accumulate = !first;
    tile.stream = streams_ && output_channels_last_ && first && last;
    tile.low = epilogue_.low(last);
    tile.high = epilogue_.high(last);
    if (last && !output_channels_last_) {
      // The lines that the transposition will write arrive while the sums run.
      for (int64_t c = 0; c < channels; ++c) __builtin_prefetch(out + c * output_.stride(1), 1);
    }
    run_.kernels.tile[width][count](tile);
    if (last && output_channels_last_ && epilogue_.remains()) {
      epilogue_.finish_pixels(out, output_.stride(3), count, channels, n, k, oh * g_.w.out + where.ow);
    }
  }

  int64_t vectors_ = 0;
  TileShape tile_{};
  bool in_place_ = false, input_channels_last_ = false, interleaves_ = false;
  bool output_channels_last_ = false, output_rows_contiguous_ = false;
  int64_t padded_width_ = 0, rows_ = 0, copy_channels_ = 0, row_tasks_ = 0;
  int64_t list_pitch_ = 0, row_pitch_ = 0, listed_rows_ = 1;
  ScratchList<RowTile> tiles_;
  ScratchList<Range> taps_;
  EvenSplit channel_split_{1, 1};
};

/// Pixels of a row in the vectors, output channels broadcast.
template <class T>
class PixelVectors : Direct<T> {
  using Base = Direct<T>;
  using Base::epilogue_, Base::g_, Base::input_, Base::lanes_, Base::output_, Base::run_, Base::streams_;

 public:
  explicit PixelVectors(const Conv2dRun<T>& run) : Base(run, run.geometry) {
    const int64_t row_vectors = ceil_div(g_.w.out, lanes_);
    tile_ = choose_tile(run.kernels, g_.group_out_channels(), row_vectors);
    // Long rows are cut, so that the copied block stays small whatever the image.
    columns_ = EvenSplit(row_vectors, round_up(16, tile_.vectors));
    walks_columns_ = takes_rows_of_taps(g_);
    const int64_t pixels = columns_.largest() * lanes_;
    const PhasedRows rows(g_.w, 0, pixels, lanes_);
    rows_ = this->rows_per_task(
        tiles_per_block, ceil_div(columns_.largest(), tile_.vectors),
        size_product(rows.row_pitch(), std::min<int64_t>(g_.group_channels(), 4 * reduction_block)));
    copy_channels_ = this->channels_per_copy(rows_, rows.row_pitch());
    row_tasks_ = ceil_div(g_.h.out, rows_);
    const int64_t tasks = g_.batch * g_.groups * row_tasks_ * columns_.pieces;
    channel_split_ = EvenSplit(g_.group_out_channels(),
                               ceil_div(g_.group_out_channels(), this->channel_pieces(tasks, g_.group_out_channels())));
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {tile_.rows, tile_.vectors, rows_ * std::min(g_.w.out, columns_.largest() * lanes_),
                        channel_split_.largest(), size_product(copy_channels_, g_.taps())};
    }
    const PhasedRows rows(g_.w, 0, columns_.largest() * lanes_, lanes_);
    const int64_t copy = size_product(this->rows_read(rows_), copy_channels_, rows.row_pitch());
    const int64_t row_scratch = rows.scratch_elements();
    // A piece that is read in place takes all channels at once.
    const int64_t channel_steps = walks_columns_ ? g_.group_channels() : ceil_div(g_.group_channels(), reduction_block);
    const int64_t segments = size_product(g_.taps(), channel_steps);
    const SlottedWorkspace<T> scratch(round_up(copy, 16) + row_scratch, run_.threads);
    const SlottedWorkspace<Segment> segment_scratch(segments, run_.threads);
    parallel_for(g_.batch * g_.groups * row_tasks_ * columns_.pieces * channel_split_.pieces, run_.threads,
                 [&](int64_t task, int thread) {
                   T* const block = scratch.slot(thread);
                   run_task(task, block, block + round_up(copy, 16), segment_scratch.slot(thread));
                   if (streams_) run_.kernels.finish_streaming();
                 });
  }

 private:
  struct Window : InputWindow<T> {
    bool in_place = false;
    PhasedRows rows{Axis{}, 0, 1, 1};
  };

  void run_task(int64_t task, T* block, T* row_scratch, Segment* segments) const {
    const int64_t piece = task % channel_split_.pieces;
    task /= channel_split_.pieces;
    const int64_t column = task % columns_.pieces;
    task /= columns_.pieces;
    const int64_t oh_begin = task % row_tasks_ * rows_;
    const int64_t oh_end = std::min(g_.h.out, oh_begin + rows_);
    task /= row_tasks_;
    const int64_t group = task % g_.groups, n = task / g_.groups;
    const int64_t ow_begin = columns_.begin(column) * lanes_;
    const int64_t ow_read = columns_.end(column) * lanes_;
    const int64_t ow_end = std::min(g_.w.out, ow_read);
    const EvenSplit tiles(columns_.end(column) - columns_.begin(column), tile_.vectors);
    const bool in_place = reads_in_place(ow_begin, ow_read);
    const int64_t copy_channels = in_place ? g_.group_channels() : copy_channels_;
    for (int64_t c = 0; c < g_.group_channels(); c += copy_channels) {
      const int64_t c_end = std::min(g_.group_channels(), c + copy_channels);
      const Window window =
          in_place ? whole_input(n, group, ow_begin, ow_read)
                   : copy_block(n, group, c, c_end, oh_begin, oh_end, ow_begin, ow_read, block, row_scratch);
      for (int64_t oh = oh_begin; oh < oh_end; ++oh) {
        int64_t used = 0;
        Range listed{-1, -1};
        for (int64_t t = 0; t < tiles.pieces; ++t) {
          const int64_t ow = ow_begin + tiles.begin(t) * lanes_;
          const int64_t vectors = tiles.end(t) - tiles.begin(t);
          const int64_t columns = std::min(ow_end - ow, vectors * lanes_);
          const Range taps = walks_columns_ ? Range{0, g_.w.kernel} : this->taps_seen(ow, columns);
          if (taps.begin != listed.begin || taps.end != listed.end) {
            used = list_segments(window, c, c_end, oh, taps, segments);
            listed = taps;
          }
          const Columns from{window.base + (window.in_place ? g_.w.start(ow) : ow - ow_begin), window.channel};
          run_tiles(segments, used, from, n, group, channel_split_.begin(piece), channel_split_.end(piece), oh, ow,
                    vectors, columns, c == 0, c_end == g_.group_channels());
        }
      }
    }
  }

  /// Whole vectors must not leave the row: the last ones of a row go through the copy.
  bool reads_in_place(int64_t ow_begin, int64_t ow_read) const {
    return g_.w.stride == 1 && input_.stride(3) == 1 && g_.w.start(ow_begin) >= 0 &&
           g_.w.start(ow_read - 1) + g_.w.effective_kernel() <= g_.w.in;
  }

  Window whole_input(int64_t n, int64_t group, int64_t ow_begin, int64_t ow_read) const {
    Window window;
    static_cast<InputWindow<T>&>(window) = {this->image(n, group), input_.stride(2), input_.stride(1), 1, 0, 0, 0};
    window.in_place = true;
    window.rows = PhasedRows(g_.w, ow_begin, ow_read - ow_begin, lanes_);
    return window;
  }

  Window copy_block(int64_t n, int64_t group, int64_t c_begin, int64_t c_end, int64_t oh_begin, int64_t oh_end,
                    int64_t ow_begin, int64_t ow_read, T* block, T* row_scratch) const {
    Window window;
    window.rows = PhasedRows(g_.w, ow_begin, ow_read - ow_begin, lanes_);
    window.first_row = g_.h.start(oh_begin);
    window.channel = window.rows.row_pitch();
    window.row = (c_end - c_begin) * window.channel;
    window.base = block;
    window.first_channel = c_begin;
    const T* const from = this->image(n, group) + c_begin * input_.stride(1);
    this->for_each_run_read(oh_begin, oh_end, [&](int64_t source, int64_t row, int64_t rows) {
      for (int64_t c = 0; c < c_end - c_begin; ++c) {  // in the order of memory
        const T* const run = from + c * input_.stride(1) + source * input_.stride(2);
        window.rows.copy(run_.kernels, {run, input_.stride(2), input_.stride(3), g_.w.in}, rows, g_.padding_mode, T(0),
                         row_scratch, block + row * window.row + c * window.channel, window.row);
      }
    });
    return window;
  }

  /// The segments of a row for some taps, relative to a tile's first pixel.
  int64_t list_segments(const Window& window, int64_t c_begin, int64_t c_end, int64_t oh, Range taps,
                        Segment* segments) const {
    int64_t used = 0;
    const int64_t step = walks_columns_ ? 1 : reduction_block;
    for (int64_t c = c_begin; c < c_end; c += step) {
      for (int64_t i = 0; i < g_.h.kernel; ++i) {
        int64_t row;
        if (!this->row_offset(window, window.in_place, oh, i, row)) continue;
        const int64_t a = (c * g_.h.kernel + i) * g_.w.kernel;
        const int64_t b = row + window.channel_offset(c);
        if (walks_columns_) {
          for (int64_t j = 0; j < std::min(g_.w.stride, g_.w.kernel); ++j) {
            segments[used++] = {a + j, b + tap_offset(window, j), ceil_div(g_.w.kernel - j, g_.w.stride)};
          }
          continue;
        }
        for (int64_t j = taps.begin; j < taps.end; ++j) {
          segments[used++] = {a + j, b + tap_offset(window, j), std::min(reduction_block, c_end - c)};
        }
      }
    }
    return used;
  }

  int64_t tap_offset(const Window& window, int64_t j) const {
    return window.in_place ? j * g_.w.dilation : window.rows.tap_offset(g_.w, j);
  }

  /// A tile's first pixel in the window, and the distance of channels.
  struct Columns {
    const T* data;
    int64_t step;
  };

  void run_tiles(const Segment* segments, int64_t used, const Columns& from, int64_t n, int64_t group, int64_t k_begin,
                 int64_t k_end, int64_t oh, int64_t ow, int64_t vectors, int64_t columns, bool first, bool last) const {
    TileArguments<T> tile{};
    tile.segments = segments;
    tile.segment_count = used;
    tile.a_row = g_.reduction();
    tile.a_step = walks_columns_ ? g_.w.stride : g_.taps();
    tile.b = from.data;
    tile.b_vector = lanes_;
    tile.b_step = walks_columns_ ? 1 : from.step;
    tile.c_row = output_.stride(1);
    tile.columns = columns;
    tile.accumulate = !first;
    tile.stream = streams_ && first && last;
    tile.low = epilogue_.low(last);
    tile.high = epilogue_.high(last);
    const EvenSplit rows(k_end - k_begin, run_.kernels.tile_rows[vectors]);
    for (int64_t r = 0; r < rows.pieces; ++r) {
      const int64_t k = group * g_.group_out_channels() + k_begin + rows.begin(r);
      const int64_t count = rows.end(r) - rows.begin(r);
      tile.a = run_.weights.data + k * g_.reduction();
      tile.row_bias = run_.weights.bias == nullptr ? nullptr : run_.weights.bias + k;
      tile.c = this->result(n, k, oh, ow);
      run_.kernels.tile[vectors][count](tile);
      if (last && epilogue_.remains()) {
        epilogue_.finish_channels(tile.c, tile.c_row, count, columns, n, k, oh * g_.w.out + ow);
      }
    }
  }

  TileShape tile_{};
  EvenSplit columns_{1, 1}, channel_split_{1, 1};
  int64_t rows_ = 0, copy_channels_ = 0, row_tasks_ = 0;
  bool walks_columns_ = false;
};

}  // namespace

template <class T>
void run_direct(const Conv2dRun<T>& run, bool channels_in_vectors) {
  const Conv2dGeometry& g = run.geometry;
  if (!channels_in_vectors) return PixelVectors<T>{run}();
  const auto whole_rows = [&](const Conv2dRun<T>& piece) { ChannelVectors<T>{piece, g}(); };
  int64_t columns = most_columns;
  if (!reads_in_place(g, run.input)) {
    const int64_t copied =
        size_product(g.h.effective_kernel(), std::min(reduction_block, g.group_channels()), sizeof(T));
    columns =
        std::clamp((most_row_bytes / copied - g.w.effective_kernel()) / g.w.stride, least_columns, most_copied_columns);
  }
  const int64_t rows = reads_as_one_row(run) ? std::max<int64_t>(1, most_columns / g.w.out) : g.h.out;
  for_each_piece_of_rows(run, rows,
                         [&](const Conv2dRun<T>& piece) { for_each_piece_of_columns(piece, columns, whole_rows); });
}

template void run_direct(const Conv2dRun<float>&, bool);
template void run_direct(const Conv2dRun<double>&, bool);

}  // namespace convpool
