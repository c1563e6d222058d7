// The direct algorithm with output channels in the vectors: weights packed, the input broadcast element by element, in
// place or from a padded copy of a few of its rows. Without channels-last results the sums of some pixels wait for
// their transposition.

#include <algorithm>
#include <limits>
#include <numeric>

#include "block_sizes.hpp"
#include "direct_tasks.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "row_tiles.hpp"
#include "run_pieces.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::Segment;
using kernels::TileArguments;
using std::int64_t;

/// Weights that are packed right before they are used take no more than this, even of few channels.
constexpr int64_t most_packed_bytes = 1 << 20;
/// Pixels of results that wait for their transposition, so that it finds whole squares.
constexpr int64_t pixels_per_flush = 112;
/// Lists of segments that a task keeps, so that they aren't made again for each set of weights.
constexpr int64_t list_bytes = 64 << 10, most_list_bytes = 1 << 20;

/// A copied row of results' inputs, or the sums of a row that wait, take no more than this.
constexpr int64_t most_row_bytes = 2 << 20;
constexpr int64_t least_columns = 256, most_copied_columns = 8192;
/// Tiles of a row are listed.
constexpr int64_t most_columns = 1 << 16;

/// Whether a 1x1 reads short planes from the last cache: no prefetcher runs ahead of it there. Measured on Zen 5: 16
/// images of 1024 to 256 channels on 14x14 are 1.21 times as fast from a copy, 2048 to 512 on 7x7 1.06 times; where the
/// L2 cache has the image, the copy costs 4 %.
template <class T>
bool waits_for_short_planes(const Conv2dGeometry& g) {
  constexpr int64_t short_plane = 1024;
  const int64_t plane = size_product(g.h.in, g.w.in, sizeof(T));
  const int64_t image = size_product(g.batch, g.channels, plane);
  const int64_t weights = size_product(g.out_channels, g.reduction(), sizeof(T));
  return g.taps() == 1 && g.h.stride == 1 && g.w.stride == 1 && plane <= short_plane &&
         image > block_sizes().copied_block && image + weights > 2 * block_sizes().large_weights;
}

/// Whether a strided 1x1 reads a part of each line for so many output channels that bringing the pixels together first
/// costs less: from beyond the L2 cache (256 to 1024 channels to as many and more, 28x28 to 65x65 with stride 2: 1.03
/// to 1.24 times as fast with one thread, .94 to 1.25 with two; smaller images and fewer channels .7 to 1.05; Emerald
/// Rapids).
template <class T>
bool waits_for_skipped_pixels(const Conv2dGeometry& g, const TensorView<const T>& input) {
  constexpr int64_t channels = 192, outputs = 256;
  return g.taps() == 1 && (g.h.stride > 1 || g.w.stride > 1) && input.stride(3) == 1 &&
         g.group_channels() >= channels && g.group_out_channels() >= outputs &&
         size_product(g.batch, g.channels, g.h.in, g.w.in, sizeof(T)) > block_sizes().large_input;
}

/// Whether planes are copied pixel by pixel: where a segment then holds the taps of a row, where tiles are so low that
/// they use a few pixels of each line that they would read in place (1x1 of 2048 channels on 7x7 with AVX2: half of the
/// peak in place, nine tenths from the copy), and where reading waits.
template <class T>
bool interleaves(const Conv2dGeometry& g, const TensorView<const T>& input, const kernels::Table<T>& kernels) {
  constexpr int64_t enough_outputs = 32;
  if (channels_last(input)) return false;
  return takes_rows_of_taps(g) || waits_for_skipped_pixels(g, input) ||
         ((has_few_registers(kernels) || waits_for_short_planes<T>(g)) && input.stride(3) == 1 &&
          g.group_out_channels() >= enough_outputs);
}

/// Whether planes of whole pages, whose lines share sets of the L1 cache, had better be copied: from the L2 cache, or
/// where even that has too few ways for their lines. Copied from beyond it, they take longer than what they wait in
/// place (3x3 with stride 2 on 160x160 to 640x640, 16 to 64 channels 1.02 to 1.16 times as fast in place; on 64x64 to
/// 128x128 .84 to 1.05).
template <class T>
bool crowds_caches(const Conv2dGeometry& g) {
  constexpr int64_t large_image = 3 << 20, way = 128 << 10, ways = 16;
  const int64_t plane = size_product(g.h.in, g.w.in, sizeof(T));
  if (plane <= kernels::same_set_bytes || plane % kernels::same_set_bytes != 0) return false;
  return size_product(g.channels, plane) < large_image ||
         size_product(g.group_channels(), std::gcd(plane, way)) > ways * way;
}

/// Whether tiles beside the padding go in parts, so that they need no zeros and the input no copy: by the geometry and
/// the layout alone, since the order of the sums changes. Measured on Emerald Rapids, 3x3 with stride 2:
/// channels-last 1.0 to 1.1 times as fast, .75 to .95 where the pixels of a tile crowd the L1 cache; planes of 24 to
/// 256 channels on 14x14 to 160x160 1.0 to 1.45 times, the more the fewer outputs there are, but .85 to .95 where there
/// are many weights or planes are whole pages.
template <class T>
bool cuts_tiles_into_parts(const Conv2dGeometry& g, const TensorView<const T>& input,
                           const kernels::Table<T>& kernels) {
  constexpr int64_t many_weights = 2 << 20, few_sets = kernels::same_set_bytes / 2;
  if (!g.w.padded() || g.padding_mode != PaddingMode::zeros || g.taps() == 1) return false;
  if (interleaves(g, input, kernels)) return false;
  // Lists for every range of taps that tiles or their parts may see.
  if (size_product(g.taps() + 1, 4 * g.w.kernel + 1, sizeof(Segment)) > most_list_bytes) return false;
  // A copy of few channels-last channels has all taps of a row in one segment.
  const int64_t terms_of_a_part = channels_last(input) ? 96 : 32;
  if (g.group_channels() * g.h.kernel < terms_of_a_part) return false;
  if (channels_last(input)) return size_product(g.w.stride, g.channels, sizeof(T)) % few_sets != 0;
  return !crowds_caches<T>(g) && size_product(g.reduction(), g.group_out_channels(), sizeof(T)) <= many_weights;
}

/// Whether it goes without a copy of the input.
template <class T>
bool reads_in_place(const Conv2dGeometry& g, const TensorView<const T>& input, const kernels::Table<T>& kernels) {
  return !interleaves(g, input, kernels) && (!g.w.padded() || cuts_tiles_into_parts(g, input, kernels)) &&
         (g.taps() == 1 ||
          size_product(g.h.kernel, g.w.in, g.group_channels(), sizeof(T)) <= block_sizes().row_in_place);
}

/// Output channels in the vectors, pixels of a row broadcast.
template <class T>
class ChannelVectors : DirectTasks<T> {
  using Base = DirectTasks<T>;
  using Base::epilogue_, Base::g_, Base::input_, Base::lanes_, Base::output_, Base::run_, Base::streams_;

 public:
  ChannelVectors(const Conv2dRun<T>& run, const Conv2dGeometry& whole) : Base(run, whole) {
    vectors_ = ceil_div(g_.group_out_channels(), lanes_);
    input_channels_last_ = channels_last(input_);
    interleaves_ = interleaves(g_, input_, run.kernels);
    in_place_ = reads_in_place(g_, input_, run.kernels);
    output_channels_last_ = channels_last(output_);
    const int64_t most_pixels = output_channels_last_ ? g_.w.out : pixels_per_flush;
    tiles_ =
        RowTiles(g_, run.kernels, vectors_, plane_cost(), most_pixels, cuts_tiles_into_parts(g_, input_, run.kernels));
    tile_ = tiles_.shape();
    output_rows_contiguous_ = output_.stride(3) == 1 && rows_contiguous(output_);
    column_step_ = interleaves_ && g_.w.kernel == 1 ? g_.w.stride : 1;
    padded_width_ = (g_.w.out - 1) * g_.w.stride / column_step_ + g_.w.effective_kernel();
    // Weights that don't fit the L2 cache want more tiles, even if fewer channels can be copied at a time then.
    large_ = size_product(g_.reduction(), vectors_, lanes_, sizeof(T)) > block_sizes().large_weights;
    const int64_t copied_channels = std::min<int64_t>(g_.group_channels(), (large_ ? 1 : 4) * reduction_block);
    const int64_t row_elements = size_product(padded_width_, in_place_ ? g_.group_channels() : copied_channels);
    rows_ = this->rows_per_task((large_ ? 4 : 1) * tiles_per_block, tiles_.count(), row_elements, !in_place_);
    copy_channels_ = in_place_ ? g_.group_channels() : this->channels_per_copy(rows_, padded_width_);
    // Rows between those that a 1x1 reads take no cache, though scratch.
    const int64_t pixel_bytes = size_product(g_.group_channels(), sizeof(T));
    if (interleaves_ && g_.h.kernel == 1 &&
        size_product(rows_, padded_width_, pixel_bytes) <= 2 * block_sizes().copied_block &&
        size_product(this->rows_read(rows_), padded_width_, pixel_bytes) <= most_row_bytes) {
      copy_channels_ = g_.group_channels();
    }
    const bool shares_taps = segments_are_many();
    const bool copies_anyway = interleaves_ && (takes_rows_of_taps(g_) || !g_.w.padded());
    if (!in_place_ && !copies_anyway && tiles_.need_no_padding() && g_.h.out > 1 && !shares_taps) {
      read_cut_rows_in_place();
    }
    // Where there aren't output channels enough to share out.
    const int64_t others = size_product(g_.batch, g_.groups, ceil_div(vectors_, tile_.vectors));
    if (others < run.threads) rows_ = std::min(rows_, ceil_div(g_.h.out, ceil_div(run.threads, others)));
    row_split_ = this->split_rows(rows_);
    rows_ = row_split_.largest();
    tile_split_ = EvenSplit(tiles_.count(), tiles_.count());
    copied_width_ = padded_width_;
    // A plane that reads as one row, or has only one: the row is shared out.
    const bool shares_row = g_.h.out == 1 && (in_place_ || interleaves_);
    if (shares_row) {
      const int64_t largest = ceil_div(tiles_.count(), pieces_of_the_row());
      tile_split_ = this->split_for_threads(tiles_.count(), largest, g_.batch * g_.groups);
    }
    if (shares_row && !in_place_) copy_pieces_of_the_row();
    weights_ = run.weights.data;
    if (run.weights.packed_later) prepare_packing();
    const int64_t tasks = g_.batch * g_.groups * row_split_.pieces * tile_split_.pieces;
    const int64_t sets = ceil_div(vectors_, tile_.vectors);
    int64_t pieces = in_place_ ? this->even_channel_pieces(tasks, sets) : this->channel_pieces(tasks, sets, 1);
    if (keeps_partial_sums()) {
      // Sums that wait for the next channels are bounded too.
      const int64_t most = std::max<int64_t>(
          tile_.vectors, 2 * block_sizes().copied_block / (rows_ * g_.w.out * lanes_ * int64_t{sizeof(T)}));
      pieces = std::max(pieces, ceil_div(vectors_, most));
    }
    channel_split_ = EvenSplit(vectors_, round_up(ceil_div(vectors_, pieces), tile_.vectors));
    fetches_rows_ = (!in_place_ || g_.taps() > 1) && !large_ && this->rows_come_from_afar();
    rows_inside_ = g_.h.outputs_all_inside();
    list_pitch_ = size_product(ceil_div(copy_channels_, reduction_block), g_.taps()) + 1;
    if (shares_taps) tiles_.share_taps();
    row_pitch_ = size_product(list_pitch_, tiles_.taps().size());
    listed_rows_ = std::clamp<int64_t>(list_bytes / size_product(row_pitch_, sizeof(Segment)), 1, rows_);
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {tile_.rows, tile_.vectors, rows_ * ceil_div(g_.w.out, tile_split_.pieces),
                        std::min(g_.group_out_channels(), channel_split_.largest() * lanes_),
                        size_product(copy_channels_, g_.taps())};
    }
    const int64_t copy =
        in_place_ ? 0 : size_product(this->rows_read(rows_), pixel_pitch(copy_channels_), copied_width_);
    const int64_t partial = output_channels_last_  ? 0
                            : keeps_partial_sums() ? size_product(rows_, g_.w.out, channel_split_.largest(), lanes_)
                                                   : most_waiting() * tile_.vectors * lanes_;
    const int64_t segments = size_product(row_pitch_, listed_rows_ + 1);
    const int64_t packed = packs_ ? size_product(tile_.vectors, copy_channels_, g_.taps(), lanes_) : 0;
    const SlottedWorkspace<T> scratch(round_up(copy, 16) + round_up(partial, 16) + packed, run_.threads);
    constexpr int64_t head = ceil_div(sizeof(Lists), sizeof(Segment));
    const SlottedWorkspace<Segment> segment_scratch(head + segments, run_.threads);
    const auto lists = [&](int thread) { return reinterpret_cast<Lists*>(segment_scratch.slot(thread)); };
    for (int thread = 0; thread < run_.threads; ++thread) {
      Segment* const inside = segment_scratch.slot(thread) + head;
      new (lists(thread)) Lists{inside, inside + row_pitch_, -1, 0, 0, false, 0, 0};
    }
    parallel_for(g_.batch * g_.groups * row_split_.pieces * tile_split_.pieces * channel_split_.pieces, run_.threads,
                 [&](int64_t task, int thread) {
                   T* const block = scratch.slot(thread);
                   T* const sums = block + round_up(copy, 16);
                   run_task(task, block, sums, sums + round_up(partial, 16), *lists(thread));
                   if (streams_) run_.kernels.finish_streaming();
                 });
  }

 private:
  /// The segments of the rows that see the image with all taps, relative to where their windows begin: the same for
  /// every such row, image and group. And those of the others among the rows [begin, end), from a task's first row,
  /// piece of a row (which in place they don't show) and channel on.
  struct Lists {
    Segment *inside, *segments;
    int64_t first_row, tile_piece, first_channel;
    bool has_inside;
    int64_t begin, end;

    void are_of(int64_t row, int64_t piece, int64_t channel) {
      if (piece != tile_piece || channel != first_channel) has_inside = false;
      if (row != first_row || piece != tile_piece || channel != first_channel) begin = end = 0;
      first_row = row, tile_piece = piece, first_channel = channel;
    }
  };

  /// What a tile's part of the planes that a vector of output channels goes to costs beside its sums: their lines are
  /// fetched for each tile. Measured with many registers: 1x1 of 256 to 1024 channels on 14x14 is 1.03 times as fast in
  /// tiles of 14 pixels by 2 vectors as of 6 by 4.
  double plane_cost() const {
    constexpr double products_of_a_line = 8;
    if (output_channels_last_ || has_few_registers(run_.kernels)) return 0;
    return products_of_a_line * static_cast<double>(lanes_) / static_cast<double>(g_.reduction());
  }

  /// Rows that are cut where a tap leaves the image need no padding. So they go without a copy, a few channels of as
  /// many rows as the cache holds at a time: wide dilations read most of the image for each row, and weights of many
  /// megabytes anew for each few rows.
  void read_cut_rows_in_place() {
    in_place_ = true;
    const auto channel_bytes = [&](int64_t rows) {
      const int64_t read = std::min({g_.h.in, this->rows_read(rows), size_product(rows, g_.h.kernel)});
      return size_product(read, g_.w.in, sizeof(T));
    };
    const int64_t least = std::min(reduction_block, g_.group_channels());
    // Sums that wait for the next channels, and what is read at a time.
    const int64_t sums_of_a_row = size_product(g_.w.out, tile_.vectors * lanes_, sizeof(T));
    const auto fits = [&] {
      return (!keeps_partial_sums() || size_product(rows_, sums_of_a_row) <= 2 * block_sizes().copied_block) &&
             size_product(channel_bytes(rows_), least) <= block_sizes().copied_block;
    };
    for (rows_ = g_.h.out;; rows_ = ceil_div(rows_, 2)) {
      const int64_t fitting = block_sizes().copied_block / channel_bytes(rows_) / reduction_block * reduction_block;
      copy_channels_ = std::clamp(fitting, least, g_.group_channels());
      if (rows_ == 1 || fits()) return;
    }
  }

  /// Pieces of a single row: as many as the cache wants, since each set of output channels goes through a piece. More
  /// of them share the work out among threads where that reads less than sharing out output channels, of which each
  /// piece reads all weights. 2048 to 512 channels on 7x7: 4 MB of weights, 0.4 MB of pixels.
  int64_t pieces_of_the_row() const {
    constexpr int64_t least_pixels_of_large_weights = 448;
    const int64_t pixel_bytes = size_product(g_.w.stride, g_.group_channels(), sizeof(T));
    const int64_t least_pixels = large_ && in_place_ ? least_pixels_of_large_weights : tile_.rows;
    const int64_t fitting =
        std::max(least_pixels, writes_in_runs() ? block_sizes().copied_block / 2 / (pixel_bytes + pixel_result_bytes())
                                                : 2 * block_sizes().copied_block / pixel_bytes);
    const int64_t fewest = ceil_div(g_.w.out, fitting);
    const int64_t wanted = ceil_div((in_place_ ? 2 : 1) * run_.threads, g_.batch * g_.groups);
    if (run_.threads == 1 || wanted <= fewest) return fewest;
    const int64_t sets = ceil_div(vectors_, tile_.vectors);
    const double weights = static_cast<double>(g_.reduction()) * static_cast<double>(g_.group_out_channels());
    // A copy takes twice as long as reading what was copied.
    const double pixels =
        static_cast<double>(g_.w.out) * static_cast<double>(g_.group_channels()) * (in_place_ ? 1 : 3);
    int64_t best = fewest;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t pieces = fewest; pieces <= std::min(wanted, tiles_.count()); ++pieces) {
      const int64_t shares = std::min(ceil_div(wanted, pieces), sets);
      if (pieces * shares < wanted && pieces < tiles_.count()) continue;
      const double read = weights * static_cast<double>(pieces) + pixels * static_cast<double>(shares);
      if (read < least) best = pieces, least = read;
    }
    return best;
  }

  int64_t pixel_result_bytes() const { return size_product(g_.group_out_channels(), sizeof(T)); }

  /// Whether results go to memory while weights cost nothing: all channels of some pixels want to leave together then
  /// (1x1 of 16 channels to 96 on 112x112 1.15 times as fast, of 64 to 160 on 80x80 1.08 times; within the L2 cache
  /// .95, Emerald Rapids).
  bool writes_in_runs() const {
    return output_channels_last_ && g_.groups == 1 &&
           size_product(g_.batch, g_.out_pixels(), pixel_result_bytes()) > block_sizes().large_result &&
           size_product(g_.reduction(), pixel_result_bytes()) <= block_sizes().rows_together;
  }

  RowTiles::Piece piece_of_row(int64_t piece) const {
    return tiles_.piece({tile_split_.spread_begin(piece), tile_split_.spread_begin(piece + 1)});
  }

  /// Of a single row each task copies what its own tiles read, all channels of it where that is not much.
  void copy_pieces_of_the_row() {
    copied_width_ = 0;
    for (int64_t piece = 0; piece < tile_split_.pieces; ++piece) {
      copied_width_ = std::max(copied_width_, columns_of(piece_of_row(piece)).count);
    }
    const int64_t all = size_product(this->rows_read(1), copied_width_, g_.group_channels(), sizeof(T));
    copy_channels_ =
        all <= 2 * block_sizes().copied_block ? g_.group_channels() : this->channels_per_copy(1, copied_width_);
  }

  /// What neighbouring tiles see of a row of the padded input.
  struct CopiedColumns {
    int64_t first, count;  ///< of every column_step_-th one, from the first on
  };
  CopiedColumns columns_of(const RowTiles::Piece& piece) const {
    const TileRun first = piece.begin->within(piece.tiles), last = piece.end[-1].within(piece.tiles);
    return {g_.w.start(first.ow),
            (last.ow + last.pixels() - first.ow - 1) * g_.w.stride / column_step_ + g_.w.effective_kernel()};
  }

  /// Whether lists of their own for all ranges of taps would outgrow the cache: by the geometry alone, since it shows
  /// where a weight isn't finite whether taps in the padding are taken.
  bool segments_are_many() const {
    return size_product(g_.taps() + 1, tiles_.taps().size(), sizeof(Segment)) > most_list_bytes;
  }

  /// Weights that lie as they came: of a few channels at a time, so that they stay in the cache beside what they
  /// multiply, or all at once where several tasks want them.
  void prepare_packing() {
    const int64_t channel_bytes = size_product(tile_.vectors, g_.taps(), lanes_, sizeof(T));
    packs_ = g_.batch * row_split_.pieces * tile_split_.pieces == 1 &&
             size_product(channel_bytes, reduction_block) <= most_packed_bytes;
    if (packs_) {
      const int64_t fitting = block_sizes().packed_weights / channel_bytes;
      copy_channels_ = std::min(copy_channels_, std::max(fitting / reduction_block, int64_t{1}) * reduction_block);
      return;
    }
    packed_ = pack_for_call(WeightForm::channel_vectors, g_, run_.kernels, run_.weights.plain, run_.threads);
    weights_ = packed_.as<T>();
  }

  int64_t most_waiting() const { return pixels_per_flush + tile_.rows; }

  bool keeps_partial_sums() const { return !output_channels_last_ && copy_channels_ < g_.group_channels(); }

  void run_task(int64_t task, T* block, T* partial, T* packed, Lists& lists) const {
    const int64_t tile_piece = task % tile_split_.pieces;
    const RowTiles::Piece row_piece = piece_of_row(tile_piece);
    task /= tile_split_.pieces;
    const int64_t row = task % row_split_.pieces;
    const int64_t oh_begin = row_split_.spread_begin(row), oh_end = row_split_.spread_begin(row + 1);
    task /= row_split_.pieces;
    const int64_t piece = task % channel_split_.pieces;
    task /= channel_split_.pieces;
    const int64_t group = task % g_.groups, n = task / g_.groups;
    const int64_t v_begin = channel_split_.begin(piece), v_end = channel_split_.end(piece);
    for (int64_t c = 0; c < g_.group_channels(); c += copy_channels_) {
      const int64_t c_end = std::min(g_.group_channels(), c + copy_channels_);
      const InputWindow<T> window =
          in_place_ ? whole_input(n, group)
                    : copy_block(n, group, c, c_end, oh_begin, oh_end, columns_of(row_piece), block);
      lists.are_of(oh_begin, in_place_ ? 0 : tile_piece, c);
      Waiting waiting;
      const EvenSplit sets(v_end - v_begin, tile_.vectors);
      const int64_t all_tiles = (oh_end - oh_begin) * ceil_div(tiles_.count(), tile_split_.pieces);
      Outputs outputs;
      take_inputs(n, {c, c_end}, window, outputs);
      LinesAhead<T> ahead;
      if (fetches_rows_) {
        const int64_t fetches = sets.pieces * all_tiles * g_.taps() * fetches_of_blocks(c_end - c);
        ahead = this->rows_ahead({n, group, {c, c_end}, {oh_begin, oh_end}, piece + 1 < channel_split_.pieces},
                                 {rows_, copy_channels_, in_place_}, fetches);
      }
      for (int64_t set = 0; set < sets.pieces; ++set) {
        const int64_t v = v_begin + sets.begin(set), next = v_begin + sets.end(set), width = next - v;
        const PackedTaps weights = packs_ ? pack(group, v, width, {c, c_end}, packed) : packed_ahead(group, v, c);
        if (large_) {
          const bool more = set + 1 < sets.pieces;
          ahead = more ? weights_ahead(group, next, sets.end(set + 1) - sets.begin(set + 1), c, all_tiles)
                       : weights_ahead(group, v_begin, sets.largest(), c_end, all_tiles);
        }
        take_outputs(group, v, width, weights, outputs);
        const bool transposes = outputs.last && !output_channels_last_;
        if (!output_channels_last_) {
          outputs.tile.c_row = (keeps_partial_sums() ? v_end - v_begin : width) * lanes_;
        }
        // Where so many pixels' results go first, pixel by pixel.
        const auto make_room = [&](int64_t oh, int64_t ow, int64_t pixels) {
          if (transposes && waiting.pixels + pixels > most_waiting()) {
            flush(waiting, outputs);
            waiting.pixels = 0;
          }
          waiting.sums = partial;
          if (keeps_partial_sums()) {
            const int64_t pixel = (oh - oh_begin) * g_.w.out + ow;
            waiting.sums += (pixel - waiting.pixels) * outputs.tile.c_row + (v - v_begin) * lanes_;
          }
          if (waiting.pixels == 0) waiting.oh = oh, waiting.ow = ow;
          return waiting.sums + waiting.pixels * outputs.tile.c_row;
        };
        const auto add_pixels = [&](int64_t pixels, bool row_ends, int64_t next_row) {
          if (!transposes) return;
          waiting.pixels += pixels;
          if (waiting.pixels >= pixels_per_flush || (row_ends && (!output_rows_contiguous_ || next_row == oh_end))) {
            flush(waiting, outputs);
            waiting.pixels = 0;
          }
        };
        for (int64_t oh = oh_begin, rows; oh < oh_end; oh += rows) {
          InputWindow<T> of_row = window;
          const Segment* const lists_of_row = find_lists(lists, oh, oh_end, {c, c_end}, of_row);
          rows = rows_alike(oh, oh_end, waiting.pixels);
          if (rows > 1) {
            T* const sums = make_room(oh, 0, rows * g_.w.out);
            for (const TileRun* run = row_piece.begin; run != row_piece.end; ++run) {
              run_tiles(outputs, lists_of_row, of_row, oh, rows, *run, sums + run->ow * outputs.tile.c_row, ahead);
            }
            add_pixels(rows * g_.w.out, true, oh + rows);
            continue;
          }
          for (const TileRun* run = row_piece.begin; run != row_piece.end; ++run) {
            const TileRun tiles = run->within(row_piece.tiles);
            T* const sums = make_room(oh, tiles.ow, tiles.pixels());
            run_tiles(outputs, lists_of_row, of_row, oh, 1, tiles, sums, ahead);
            add_pixels(tiles.pixels(), run + 1 == row_piece.end, oh + 1);
          }
        }
      }
    }
  }

  /// How many rows from oh on go together, tile by tile: those that see the image with all taps, where each run of a
  /// row is a single tile. Their calls would be short (32 groups of 16 channels on 14x14 1.1 times as fast, Emerald
  /// Rapids).
  int64_t rows_alike(int64_t oh, int64_t oh_end, int64_t waiting) const {
    if (!tiles_.are_single() || oh < rows_inside_.begin || oh >= rows_inside_.end) return 1;
    const int64_t rows = std::min(rows_inside_.end, oh_end) - oh;
    if (output_channels_last_) return rows;
    return output_rows_contiguous_ ? std::clamp<int64_t>((most_waiting() - waiting) / g_.w.out, 1, rows) : 1;
  }

  /// The weights of a vector of output channels for the input channels that are taken together, and the distance of the
  /// next one's.
  struct PackedTaps {
    const T* data;
    int64_t vector;
  };

  PackedTaps packed_ahead(int64_t group, int64_t v, int64_t c) const {
    return {weights_ + ((group * vectors_ + v) * g_.reduction() + c * g_.taps()) * lanes_, g_.reduction() * lanes_};
  }

  PackedTaps pack(int64_t group, int64_t v, int64_t width, Range channels, T* to) const {
    const int64_t vector = (channels.end - channels.begin) * g_.taps() * lanes_;
    for (int64_t i = 0; i < width; ++i) {
      pack_channel_vector(g_, run_.kernels, run_.weights.plain, group, v + i, channels, to + i * vector);
    }
    return {to, vector};
  }

  /// The weights that are wanted next: where they exceed the L2 cache, the first tile of each set would wait for them.
  /// Not where few tiles use a set, which then comes faster by itself.
  LinesAhead<T> weights_ahead(int64_t group, int64_t v, int64_t vectors, int64_t c, int64_t tiles) const {
    constexpr int64_t most_lines_per_fetch = 1, most_lines_in_turn = 16;
    const int64_t channels = std::min(copy_channels_, g_.group_channels() - c);
    if (channels <= 0) return {};
    // As they lie they take as much, if the channels fill the vectors.
    const T* const weights = packs_ ? run_.weights.plain : weights_;
    if (packs_ && (channels < g_.group_channels() || g_.group_out_channels() % lanes_ != 0)) return {};
    const T* const first = weights + ((group * vectors_ + v) * g_.reduction() + c * g_.taps()) * lanes_;
    const int64_t vector = g_.reduction() * lanes_, count = channels * g_.taps() * lanes_;
    const int64_t fetches = tiles * g_.taps() * fetches_of_blocks(channels);
    // A 1x1 of 512 to 2048 channels on 7x7 1.06 times as fast, channels-last; low tiles, whose lines come at once, .97
    // (Emerald Rapids). Of more taps, which tiles beside the padding don't all see, it costs as often as it gains.
    if (g_.taps() == 1 && !has_few_registers(run_.kernels)) {
      return LinesAhead<T>::in_turn(first, vector, vectors, count, fetches, most_lines_in_turn);
    }
    // Twice as fast as would do if every tile saw every tap.
    if (vectors * count * int64_t{sizeof(T)} > most_lines_per_fetch * fetches / 2 * kernels::cache_line) return {};
    return {first, vector, vectors, count, fetches / 2};
  }

  /// The output channels that tiles take together, what their tiles share, and whether these are the first input
  /// channels and the last ones.
  struct Outputs {
    int64_t n = 0, k = 0, channels = 0, width = 0;  ///< the first channel, how many, and in how many vectors
    bool first = false, last = false;
    int64_t blocks = 0;  ///< of the reduction
    int64_t origin = 0;  ///< how far before its base a window's column 0 would lie
    TileArguments<T> tile{};
  };

  /// What doesn't depend on the output channels: filling in all of a tile's arguments for each few of them took a tenth
  /// of 16 input channels.
  void take_inputs(int64_t n, Range inputs, const InputWindow<T>& window, Outputs& outputs) const {
    const int64_t step = in_place_ ? 1 : column_step_;
    outputs.n = n;
    outputs.first = inputs.begin == 0;
    outputs.last = inputs.end == g_.group_channels();
    outputs.blocks = ceil_div(inputs.end - inputs.begin, reduction_block);
    outputs.origin = (g_.w.pad_begin + window.first_column) / step * window.pixel;
    outputs.tile.a_row = g_.w.stride / step * window.pixel;
    outputs.tile.a_step = window.channel;
    outputs.tile.b_step = lanes_;
    outputs.tile.c_row = output_.stride(3);
    // The lines that the transposition will write arrive while the sums run.
    outputs.tile.fetched_row = output_.stride(1);
  }

  void take_outputs(int64_t group, int64_t v, int64_t width, const PackedTaps& weights, Outputs& outputs) const {
    outputs.k = group * g_.group_out_channels() + v * lanes_;
    outputs.channels = std::min(width * lanes_, g_.group_out_channels() - v * lanes_);
    outputs.width = width;
    outputs.tile.b = weights.data;
    outputs.tile.b_vector = weights.vector;
    outputs.tile.columns = output_channels_last_ ? outputs.channels : width * lanes_;
    outputs.tile.column_bias = run_.weights.bias + (group * vectors_ + v) * lanes_;
    outputs.tile.fetched_rows = outputs.channels;
  }

  /// Neighbouring results of a set of output channels, pixel by pixel, not yet transposed.
  struct Waiting {
    T* sums = nullptr;
    int64_t oh = 0, ow = 0, pixels = 0;
  };

  void flush(const Waiting& waiting, const Outputs& outputs) const {
    T* const out = this->result(outputs.n, outputs.k, waiting.oh, waiting.ow);
    run_.kernels.transpose(waiting.sums, outputs.tile.c_row, waiting.pixels, outputs.channels, out, output_.stride(1));
    if (epilogue_.remains()) {
      epilogue_.finish_channels(out, output_.stride(1), outputs.channels, waiting.pixels, outputs.n, outputs.k,
                                waiting.oh * g_.w.out + waiting.ow);
    }
  }

  /// The lists of a row, made if need be, and where in its window they begin.
  const Segment* find_lists(Lists& lists, int64_t oh, int64_t oh_end, Range channels, InputWindow<T>& window) const {
    if (oh >= rows_inside_.begin && oh < rows_inside_.end) {
      const int64_t row = g_.h.start(oh);
      window.base += (row - window.first_row) * window.row;
      window.first_row = row;
      if (!lists.has_inside) list_row(window, channels, oh, lists.inside);
      lists.has_inside = true;
      return lists.inside;
    }
    if (oh < lists.begin || oh >= lists.end) {
      lists.begin = lists.first_row + (oh - lists.first_row) / listed_rows_ * listed_rows_;
      lists.end = std::min(oh_end, lists.begin + listed_rows_);
      Segment* to = lists.segments;
      for (int64_t row = lists.begin; row < lists.end; ++row, to += row_pitch_) {
        if (row < rows_inside_.begin || row >= rows_inside_.end) list_row(window, channels, row, to);
      }
    }
    return lists.segments + (oh - lists.begin) * row_pitch_;
  }

  /// The segments of a row for each range of taps, relative to a tile's first pixel. The first entry of a list has
  /// nothing but how many follow.
  void list_row(const InputWindow<T>& window, Range channels, int64_t oh, Segment* to) const {
    for (const Range& taps : tiles_.taps()) {
      to->count = list_segments(window, channels.begin, channels.end, oh, taps, to + 1);
      to += list_pitch_;
    }
  }

  InputWindow<T> whole_input(int64_t n, int64_t group) const {
    return {this->image(n, group), input_.stride(2), input_.stride(1), input_.stride(3), 0, 0, 0};
  }

  InputWindow<T> copy_block(int64_t n, int64_t group, int64_t c_begin, int64_t c_end, int64_t oh_begin, int64_t oh_end,
                            const CopiedColumns& columns, T* block) const {
    const int64_t channels = c_end - c_begin;
    const bool pixels_together = input_channels_last_ || interleaves_;
    const int64_t pitch = pixel_pitch(channels);
    InputWindow<T> window{block, pitch * columns.count, 0, 0, c_begin, g_.h.start(oh_begin), columns.first};
    window.channel = pixels_together ? 1 : columns.count;
    window.pixel = pixels_together ? pitch : 1;
    const T* const from = this->image(n, group) + c_begin * input_.stride(1);
    this->for_each_run_read(oh_begin, oh_end, [&](int64_t source, int64_t row, int64_t rows) {
      const T* const run = from + source * input_.stride(2);
      if (pixels_together) {
        for (int64_t r = 0; r < rows; ++r) {
          copy_pixels(run + r * input_.stride(2), channels, columns, block + (row + r) * window.row);
        }
        return;
      }
      for (int64_t c = 0; c < channels; ++c) {  // in the order of memory
        copy_padded_rows(run_.kernels, {run + c * input_.stride(1), input_.stride(2), input_.stride(3), g_.w.in}, rows,
                         g_.padding_mode, T(0), columns.first, columns.count,
                         block + row * window.row + c * columns.count, window.row);
      }
    });
    return window;
  }

  /// From a copied pixel to the next.
  int64_t pixel_pitch(int64_t channels) const {
    const bool crowded = size_product(channels, sizeof(T)) % kernels::same_set_bytes == 0;
    return interleaves_ && crowded ? channels + lanes_ : channels;
  }

  void copy_pixels(const T* row, int64_t channels, const CopiedColumns& columns, T* to) const {
    if (interleaves_) return interleave_row(row, channels, columns, to);
    const int64_t first = columns.first, count = columns.count;
    const int64_t begin = std::clamp<int64_t>(-first, 0, count);
    const int64_t end = std::clamp<int64_t>(g_.w.in - first, begin, count);
    const T* const inside = row + (first + begin) * input_.stride(3);
    if (input_.stride(3) == channels) {  // whole pixels: a run
      std::copy_n(inside, (end - begin) * channels, to + begin * channels);
    } else {
      run_.kernels.pad_rows(
          {inside, input_.stride(3), to + begin * channels, channels, end - begin, 0, channels, channels, T(0)});
    }
    for (int64_t x = 0; x < count; ++x) {
      if (x == begin) x = end;
      if (x == count) break;
      const int64_t source = source_index(first + x, g_.w.in, g_.padding_mode);
      if (source < 0) {
        std::fill_n(to + x * channels, channels, T(0));
      } else {
        std::copy_n(row + source * input_.stride(3), channels, to + x * channels);
      }
    }
  }

  void interleave_row(const T* row, int64_t channels, const CopiedColumns& columns, T* to) const {
    const int64_t first = columns.first, count = columns.count, pixel = input_.stride(3), step = column_step_;
    const int64_t pitch = pixel_pitch(channels);
    const auto column_from = [&](int64_t column) {
      return std::clamp<int64_t>(column > first ? ceil_div(column - first, step) : 0, 0, count);
    };
    const int64_t begin = column_from(0), end = std::max(begin, column_from(g_.w.in));
    const auto edge = [&](int64_t from, int64_t until) {
      for (int64_t x = from; x < until; ++x) {
        const int64_t source = source_index(first + x * step, g_.w.in, g_.padding_mode);
        for (int64_t c = 0; c < channels; ++c) {
          to[x * pitch + c] = source < 0 ? T(0) : row[c * input_.stride(1) + source * pixel];
        }
      }
    };
    edge(0, begin);
    const T* const inside = row + (first + begin * step) * pixel;
    if (pixel == 1 && step == 1) {
      run_.kernels.transpose(inside, input_.stride(1), channels, end - begin, to + begin * pitch, pitch);
    } else {
      interleave_apart(inside, step * pixel, channels, end - begin, to + begin * pitch, pitch);
    }
    edge(end, count);
  }

  /// Pixels that aren't neighbours, a few channels at a time: as many lines as they read stay in the L1 cache, and
  /// fewer where planes a multiple of 4 KB apart share a set of it.
  void interleave_apart(const T* from, int64_t pixel, int64_t channels, int64_t count, T* to, int64_t pitch) const {
    const int64_t together = input_.stride(1) % (kernels::same_set_bytes / int64_t{sizeof(T)}) == 0 ? 4 : 16;
    for (int64_t c = 0; c < channels; c += together) {
      const int64_t c_end = std::min(channels, c + together);
      for (int64_t x = 0; x < count; ++x) {
        for (int64_t i = c; i < c_end; ++i) to[x * pitch + i] = from[i * input_.stride(1) + x * pixel];
      }
    }
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
                             (reduction_index(g_, c, i, j) - c_begin * g_.taps()) * lanes_, channels};
          // Few channels, pixel by pixel: the taps of a row follow one another in both operands. Several blocks are to
          // have as many segments each, which views of overlapping windows might not.
          if (used > 0 && (g_.taps() == 1 || c_end - c_begin <= reduction_block)) {
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

  void run_tiles(Outputs& outputs, const Segment* lists, const InputWindow<T>& window, int64_t oh, int64_t rows,
                 const TileRun& where, T* sums, LinesAhead<T>& ahead) const {
    TileArguments<T>& tile = outputs.tile;
    T* const out = this->result(outputs.n, outputs.k, oh, where.ow);
    const bool whole = where.whole();
    const T* const a = window.base + (where.ow * tile.a_row - outputs.origin);
    T* const c = output_channels_last_ ? out : sums;
    const int64_t result_row = output_channels_last_ ? output_.stride(2) : g_.w.out * tile.c_row;
    tile.stream = streams_ && output_channels_last_ && outputs.first && outputs.last && whole;
    tile.accumulate = !outputs.first;
    tile.tiles = rows > 1 ? rows : where.tiles;
    if (!output_channels_last_ && outputs.last) {
      tile.fetched_tile = rows > 1 ? output_.stride(2) : where.count * output_.stride(3);
    }
    const auto run = [&](const TilePart& part, const Segment* segments, int64_t count, bool is_last) {
      tile.segments = segments;
      tile.segment_count = count;
      tile.a = a + part.begin * tile.a_row;
      tile.c = c + part.begin * tile.c_row;
      tile.low = epilogue_.low(is_last);
      tile.high = epilogue_.high(is_last);
      tile.a_tile = rows > 1 ? g_.h.stride * window.row : part.count * tile.a_row;
      tile.c_tile = rows > 1 ? result_row : part.count * tile.c_row;
      tile.fetched = is_last && !output_channels_last_ ? out : nullptr;
      ahead.take(tile);
      run_.kernels.tile[outputs.width][part.count](tile);
    };
    const TilePart all{0, where.count, where.taps};
    if (whole) {
      const Segment* const list = lists + all.taps * list_pitch_;
      run(all, list + 1, list->count, outputs.last);
    } else {
      // The first part begins with the bias, and so do the pixels that it leaves out: a call for all of them took 4 %
      // of 16 channels on 14x14.
      const TilePart& begins = tiles_.part(where.parts_begin);
      for (int64_t i = 0; outputs.first && i < all.count; ++i) {
        if (i == begins.begin) i += begins.count;
        for (int64_t row = 0; i < all.count && row < rows; ++row) {
          std::copy_n(tile.column_bias, tile.columns, c + row * result_row + i * tile.c_row);
        }
      }
      // A block's sums are complete before the next one's, so that they don't show how many blocks are taken together.
      for (int64_t block = 0; block < outputs.blocks; ++block) {
        const auto run_part = [&](const TilePart& part, bool is_last) {
          const Segment* const list = lists + part.taps * list_pitch_;
          const int64_t each = outputs.blocks == 1 ? list->count : list->count / outputs.blocks;
          run(part, list + 1 + block * each, each, is_last);
          tile.accumulate = true;
        };
        for (int64_t p = where.parts_begin; p < where.parts_end; ++p) run_part(tiles_.part(p), false);
        run_part(all, outputs.last && block + 1 == outputs.blocks);
      }
    }
    if (outputs.last && output_channels_last_ && epilogue_.remains()) {
      for (int64_t row = 0; row < rows; ++row) {
        epilogue_.finish_pixels(out + row * output_.stride(2), output_.stride(3), where.pixels(), outputs.channels,
                                outputs.n, outputs.k, (oh + row) * g_.w.out + where.ow);
      }
    }
  }

  int64_t vectors_ = 0;
  TileShape tile_{};
  bool in_place_ = false, input_channels_last_ = false, interleaves_ = false;
  bool output_channels_last_ = false, output_rows_contiguous_ = false;
  int64_t padded_width_ = 0, copied_width_ = 0, column_step_ = 1, rows_ = 0, copy_channels_ = 0;
  Range rows_inside_{0, 0};
  int64_t list_pitch_ = 0, row_pitch_ = 0, listed_rows_ = 1;
  bool large_ = false;
  bool fetches_rows_ = false;  ///< ahead: from an input that the L2 cache doesn't hold
  bool packs_ = false;         ///< weights, right before they are used: no other task wants them
  const T* weights_ = nullptr;
  RowTiles tiles_;
  Workspace packed_;  ///< after the lists: taken last, given back first
  EvenSplit row_split_{1, 1}, tile_split_{1, 1}, channel_split_{1, 1};
};

}  // namespace

template <class T>
void run_direct_by_channels(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  const auto whole_rows = [&](const Conv2dRun<T>& piece) { ChannelVectors<T>{piece, g}(); };
  int64_t columns = most_columns;
  // Padded rows are cut where a copy wants it even if they are read in place: how tiles lie shows in the sums of those
  // that have parts.
  if (g.w.padded() || !reads_in_place(g, run.input, run.kernels)) {
    const int64_t copied =
        size_product(g.h.effective_kernel(), std::min(reduction_block, g.group_channels()), sizeof(T));
    columns =
        std::clamp((most_row_bytes / copied - g.w.effective_kernel()) / g.w.stride, least_columns, most_copied_columns);
  }
  const int64_t rows = reads_as_one_row(run) ? std::max<int64_t>(1, most_columns / g.w.out) : g.h.out;
  for_each_piece_of_rows(run, rows,
                         [&](const Conv2dRun<T>& piece) { for_each_piece_of_columns(piece, columns, whole_rows); });
}

template void run_direct_by_channels(const Conv2dRun<float>&);
template void run_direct_by_channels(const Conv2dRun<double>&);

}  // namespace convpool
