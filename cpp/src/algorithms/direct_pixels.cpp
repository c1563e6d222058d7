// The direct algorithm with pixels of a row in the vectors: weights broadcast as they lie, input rows read in whole
// vectors, in place or from a padded copy of a few of them, taken apart by the stride. Channels-last rows are
// transposed as they are copied, and so are the results of channels-last outputs, from a stage.

#include <algorithm>
#include <numeric>

#include "block_sizes.hpp"
#include "direct_tasks.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "row_tiles.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::Segment;
using kernels::TileArguments;
using std::int64_t;

/// A tile of few rows uses each vector of pixels so few times that they should come from the L1 cache.
constexpr int64_t low_tile = 4;
/// Planes that are read beside each other, in runs as long as the threads leave: so many streams the prefetchers
/// follow. What sums wait for the next planes in the L2 cache is little beside them (1x1 of 48 to 1024 channels to 2 to
/// 23 from the last cache: 1.14 times as fast as 16 planes at a time in shorter runs, Emerald Rapids). Low tiles that
/// take several passes do better with more (1.1 times, Zen 3). From memory 48 streams are too many (.5 times as fast,
/// Zen 3; no tall tiles were measured).
constexpr int64_t planes_together = 48, planes_of_low_tiles = 128, planes_from_memory = 16, vectors_of_a_run = 64;
/// Outputs that take more than one tile, which read such runs one after another, the later ones from the L1 cache, and
/// the channels that it takes to pay (9 to 23 outputs 1.0 to 1.7 times as fast as in place, 24 to 32 .9 to 1.1, 48 to
/// 96 channels .85).
constexpr int64_t outputs_of_runs = 23, channels_of_runs = 128;
/// Vector FMAs that are worth a task of a 1x1 (10 channels to 1 in each of 16 groups, 40x40, 89 to 54 us; 3 to 16 on
/// 224x224 190 to 152; Zen 3).
constexpr int64_t products_of_a_task = 4096;
/// Addresses a page apart share a set of the L1 cache, which holds so many of their lines; so many pages are found at
/// once.
constexpr int64_t page_bytes = 4096, ways = 8, most_pages = 48;

/// Pixels of a row in the vectors, output channels broadcast.
template <class T>
class PixelVectors : DirectTasks<T> {
  using Base = DirectTasks<T>;
  using Base::epilogue_, Base::g_, Base::input_, Base::lanes_, Base::output_, Base::run_, Base::streams_;

 public:
  explicit PixelVectors(const Conv2dRun<T>& run) : Base(run, run.geometry) {
    row_vectors_ = ceil_div(g_.w.out, lanes_);
    seen_ = SeenTaps(g_);
    const bool low = has_few_registers(run.kernels);
    // What has to be copied first lies side by side already.
    packs_panels_ = packs_panels(g_, run.kernels) && (low || input_.stride(3) == 1);
    lists_steps_ = lists_steps(g_, run.kernels);
    const bool low_panels = packs_panels_ && low;
    packs_before_ = low_panels && g_.taps() > 1;
    const bool low_runs = low_panels || lists_steps_;
    // A streamed tile writes whole cache lines: parts of them would go to memory one by one. Low ones with one run of
    // the reduction are slower so (3x3 of 3 channels to 64 on 224x224 .87 times as fast, 1x1 of 16 to 96 .6, Zen 3).
    streams_ = streams_ && !low_runs;
    // How tiles lie shows in rows padded by zeros, and mustn't depend on the batch.
    const bool shows = g_.w.padded() && g_.padding_mode == PaddingMode::zeros;
    const bool large = !low_runs && !shows && epilogue_.streams_unless_added_to(run, g_.out_pixels());
    tile_ = choose_tile(run.kernels, g_.group_out_channels(), row_vectors_, large ? vectors_of_a_line(run.kernels) : 1);
    // Long rows are cut, so that the copied block stays small whatever the image, and the sums of a piece, too.
    const bool in_runs = reads_runs();
    const int64_t sums = size_product(g_.group_out_channels(), lanes_, sizeof(T));
    const int64_t run_vectors = std::max(block_sizes().rows_together / 4 / sums, vectors_of_a_run);
    const int64_t shares = run.threads == 1 ? 1 : ceil_div(2 * run.threads, g_.batch * g_.groups);
    const int64_t shared = ceil_div(row_vectors_, shares);
    const int64_t products = size_product(g_.group_out_channels(), g_.reduction());
    const int64_t piece = in_runs          ? std::max<int64_t>(16, std::min(run_vectors, shared))
                          : lists_steps_   ? listed_vectors()
                          : g_.taps() == 1 ? std::clamp<int64_t>(products_of_a_task / products, 16, 128)
                                           : 16;
    columns_ = EvenSplit(ceil_div(row_vectors_, tile_.vectors), ceil_div(piece, tile_.vectors));
    if (g_.taps() == 1 && !g_.w.padded()) {  // whose sums don't show how rows are cut
      columns_ =
          this->split_for_threads(columns_.total, columns_.largest(), size_product(g_.batch, g_.groups, g_.h.out));
    }
    walks_columns_ = takes_rows_of_taps(g_);
    staged_ = output_.stride(3) != 1 && g_.w.out > 1;
    const PhasedRows rows(g_.w, 0, most_columns(), lanes_);
    rows_ = this->rows_per_task(
        tiles_per_block, columns_.largest(),
        size_product(rows.row_pitch(), std::min<int64_t>(g_.group_channels(), 4 * reduction_block)), true);
    copy_channels_ = this->channels_per_copy(rows_, rows.row_pitch());
    channels_in_place_ = g_.group_channels();
    if (in_runs) {
      const bool passes = low && g_.group_out_channels() > tile_.rows;
      const int64_t planes = comes_from_memory() ? planes_from_memory : passes ? planes_of_low_tiles : planes_together;
      channels_in_place_ = std::min(channels_in_place_, planes);
    } else if (tile_.rows <= low_tile) {
      const int64_t channels = block_sizes().panel / size_product(tile_.vectors, lanes_, sizeof(T), g_.taps());
      channels_in_place_ =
          std::min(channels_in_place_, std::max(reduction_block, channels / reduction_block * reduction_block));
    }
    const int64_t tile_bytes = size_product(tile_.vectors, lanes_, sizeof(T));
    if (packs_panels_) {
      // Tall tiles read a panel slowly enough for the L2 cache, low ones that of a 1x1, which is one run: 320 to 1024
      // channels 1.01 to 1.05 times as fast as with parts of 256, Zen 3.
      const int64_t room = packs_before_ ? block_sizes().packed_panel
                           : low         ? block_sizes().copied_block / 2
                                         : block_sizes().copied_block;
      const int64_t fitting = std::max<int64_t>(1, room / size_product(tile_bytes, g_.taps()));
      const int64_t most = packs_before_ ? std::min(fitting, copy_channels_) : fitting;
      channels_in_place_ = panel_channels_ = EvenSplit(g_.group_channels(), most).largest();
      copy_channels_ = std::min(copy_channels_, panel_channels_);
      panel_elements_ = size_product(panel_channels_, g_.taps(), tile_.vectors, lanes_);
    }
    const int64_t read = packs_panels_ ? panel_elements_ * int64_t{sizeof(T)}
                                       : size_product(g_.group_channels(), g_.h.kernel, g_.w.stride, tile_bytes);
    // In place and of several taps measured with low tiles alone; of a 1x1 with panels, results of few channels come
    // too fast to be a few pixels of every plane (8 channels to 64 on 112x112 1.16 times as fast, 16 to 96 1.04, 64 to
    // 256 on 56x56 .98, Zen 3), and large weights pass fewer times (512 to 2048 on 33x33 1.15 times as fast, 2048 to
    // 512 on 20x20 1.16 times, AVX-512).
    const int64_t weights = size_product(g_.group_out_channels(), g_.reduction(), sizeof(T));
    if (packs_before_ || (low && (!packs_panels_ || read <= block_sizes().panel / 8))) {
      most_beside_ = std::max<int64_t>(1, block_sizes().packed_panel / read);
    } else if (packs_panels_ && weights > block_sizes().large_weights / 2) {
      most_beside_ = std::max<int64_t>(1, 2 * block_sizes().copied_block / read);
    }
    most_beside_ = std::min(most_beside_, columns_.largest());
    fetches_ahead_ = fetches_pixels_ahead(g_, run.kernels, tile_.rows) && (low || packs_panels_);
    fetches_rows_ = g_.taps() > 1 && !low && this->rows_come_from_afar();
    const int64_t rows_bytes = size_product(g_.group_channels(), g_.h.kernel, rows.row_pitch(), sizeof(T));
    runs_along_ = !packs_panels_ && rows_bytes <= block_sizes().panel;
    crowds_caches_ = !in_runs && !packs_panels_ && crowds_caches();
    row_split_ = this->split_rows(rows_);
    const int64_t tasks = g_.batch * g_.groups * row_split_.pieces * columns_.pieces;
    const int64_t outputs = g_.group_out_channels();
    const int64_t for_each_thread = packs_panels_ && !low ? 1 : 2;  // each packs anew; low tiles were measured with 2
    // Tiles pack in passing for more outputs than they take.
    const int64_t most = low_panels && !packs_before_ ? std::max<int64_t>(1, outputs / (tile_.rows + 1)) : outputs;
    channel_split_ = EvenSplit(outputs, ceil_div(outputs, this->channel_pieces(tasks, most, for_each_thread)));
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {tile_.rows, tile_.vectors, rows_ * std::min(g_.w.out, most_columns()), channel_split_.largest(),
                        size_product(copy_channels_, g_.taps())};
    }
    const PhasedRows rows(g_.w, 0, most_columns(), lanes_);
    const int64_t copy = size_product(this->rows_read(rows_), copy_channels_, rows.row_pitch());
    const int64_t row_scratch = rows.scratch_elements();
    const int64_t channel_steps =
        walks_columns_ || lists_steps_ ? g_.group_channels() : ceil_div(g_.group_channels(), reduction_block);
    const int64_t segments = size_product(g_.taps(), channel_steps);
    const int64_t stage = staged_ ? size_product(channel_split_.largest(), rows_, most_columns()) : 0;
    const int64_t panel = packs_panels_ ? size_product(most_beside_, panel_elements_) : 0;
    const SlottedWorkspace<T> scratch(round_up(panel, 16) + round_up(copy, 16) + round_up(stage, 16) + row_scratch,
                                      run_.threads);
    const int64_t panel_segments = size_product(panel_channels_, g_.h.kernel);
    const int64_t listed_bytes =
        lists_steps_ ? size_product(g_.group_channels(), g_.taps(), sizeof(std::ptrdiff_t)) : 0;
    const SlottedWorkspace<Segment> segment_scratch(
        segments + panel_segments + ceil_div(listed_bytes, int64_t{sizeof(Segment)}), run_.threads);
    parallel_for(g_.batch * g_.groups * row_split_.pieces * columns_.pieces * channel_split_.pieces, run_.threads,
                 [&](int64_t task, int thread) {
                   T* const slot = scratch.slot(thread);
                   T* const block = slot + round_up(panel, 16);
                   T* const sums = block + round_up(copy, 16);
                   Segment* const lists = segment_scratch.slot(thread);
                   run_task(task, block, sums, sums + round_up(stage, 16),
                            {lists, reinterpret_cast<std::ptrdiff_t*>(lists + segments + panel_segments)},
                            {slot, lists + segments});
                   if (streams_) run_.kernels.finish_streaming();
                 });
  }

 private:
  struct Window : InputWindow<T> {
    bool in_place = false;
    PhasedRows rows{Axis{}, 0, 1, 1};
  };

  /// Columns of results that a task takes at most.
  int64_t most_columns() const { return std::min(row_vectors_, columns_.largest() * tile_.vectors) * lanes_; }

  /// Where results go, row by row: the output itself, or a stage.
  struct Target {
    T* data;
    int64_t channel, row;
    int64_t first_row, first_column;

    T* at(int64_t k, int64_t oh, int64_t ow) const {
      return data + k * channel + (oh - first_row) * row + (ow - first_column);
    }
  };

  /// What tiles beside each other read, packed for all output channels, and where each run of the reduction stands in
  /// one of their panels.
  struct Panel {
    T* data;
    Segment* segments;
    int64_t segment_count = 0, first = 0, vectors = 0;
    int64_t elements = 0;  ///< of each
  };

  /// The segments of a row, and of listed steps where they read, relative to a tile's first pixel.
  struct Reduction {
    Segment* segments;
    std::ptrdiff_t* list;
    int64_t count = 0;
  };

  void run_task(int64_t task, T* block, T* stage, T* row_scratch, Reduction reduction, Panel panel) const {
    const int64_t column = task % columns_.pieces;
    task /= columns_.pieces;
    const int64_t row = task % row_split_.pieces;
    const int64_t oh_begin = row_split_.spread_begin(row), oh_end = row_split_.spread_begin(row + 1);
    task /= row_split_.pieces;
    const int64_t piece = task % channel_split_.pieces;
    task /= channel_split_.pieces;
    const int64_t group = task % g_.groups, n = task / g_.groups;
    const int64_t first_vector = columns_.spread_begin(column) * tile_.vectors;
    const int64_t end_vector = std::min(row_vectors_, columns_.spread_begin(column + 1) * tile_.vectors);
    const int64_t ow_begin = first_vector * lanes_, ow_read = end_vector * lanes_;
    const int64_t ow_end = std::min(g_.w.out, ow_read);
    const EvenSplit tiles(end_vector - first_vector, tile_.vectors);
    const Range outputs{channel_split_.begin(piece), channel_split_.end(piece)};
    Target target{this->result(n, group * g_.group_out_channels() + outputs.begin, oh_begin, ow_begin),
                  output_.stride(1), output_.stride(2), oh_begin, ow_begin};
    if (staged_) {
      target.data = stage;
      target.row = most_columns();
      target.channel = rows_ * target.row;
    }
    const int64_t readable = channels_readable(n, group, {oh_begin, oh_end}, {ow_begin, ow_end}, ow_read);
    LinesAhead<T> ahead;
    for (int64_t c = 0, c_end; c < g_.group_channels(); c = c_end) {
      const bool in_place = c < readable;
      const int64_t channels_at_once = in_place ? channels_in_place_ : copy_channels_;
      c_end = std::min(in_place ? readable : g_.group_channels(), c + channels_at_once);
      const Window window =
          in_place ? whole_input(n, group, ow_begin, ow_read)
                   : copy_block(n, group, c, c_end, oh_begin, oh_end, ow_begin, ow_read, block, row_scratch);
      const bool first = c == 0, last = c_end == g_.group_channels();
      Outputs taken{n, group * g_.group_out_channels() + outputs.begin, outputs.end - outputs.begin, last,
                    shared_arguments(target, reduction, first, last)};
      bool fetches_rows = fetches_rows_;
      for (int64_t oh = oh_begin, rows; oh < oh_end; oh += rows) {
        rows = rows_alike(in_place, oh, oh_end);
        reduction.count = 0;
        Range listed{-1, -1};
        for (int64_t t = 0, beside = 1; t < tiles.pieces; t += beside) {
          const int64_t ow = ow_begin + tiles.begin(t) * lanes_;
          const int64_t vectors = tiles.size_of(t);
          const int64_t columns = std::min(ow_end - ow, vectors * lanes_);
          const auto taps_of = [&](int64_t x, int64_t count) {
            return walks_columns_ ? Range{0, g_.w.kernel} : seen_(x, count);
          };
          const Range taps = taps_of(ow, columns);
          const bool relists = taps.begin != listed.begin || taps.end != listed.end;
          if (relists) {
            list_segments(window, c, c_end, oh, taps, reduction);
            listed = taps;
          }
          if (packs_panels_ && (relists || vectors != panel.vectors)) {
            list_panel(window, {c, c_end}, oh, taps, vectors, panel);
          }
          if (fetches_rows) {
            const int64_t sets = ceil_div(taken.count, run_.kernels.tile_rows[vectors]);
            const int64_t fetches =
                (oh_end - oh_begin) * tiles.pieces * sets * fetches_of(reduction.segments, reduction.count);
            ahead = this->rows_ahead({n, group, {c, c_end}, {oh_begin, oh_end}, piece + 1 < channel_split_.pieces},
                                     {rows_, channels_at_once, in_place}, fetches, column, columns_.pieces);
            fetches_rows = false;
          }
          const Columns from{window.base + (window.in_place ? g_.w.start(ow) : ow - ow_begin), window.channel,
                             g_.h.stride * window.row};
          // Tiles run along the row, for some output channels after the others, while what they read stays in the L1
          // cache, panels of tall tiles in the L2 cache: to many planes at once they would write a few pixels each.
          // Where one takes all output channels of several rows, it runs down them.
          beside = 1;
          const int64_t width = vectors * lanes_;
          int64_t most_beside = most_beside_;
          if (!packs_panels_ && takes_all(taken.count, vectors)) {
            most_beside = rows == 1 ? tiles.pieces : 1;
          } else if (runs_along_) {
            most_beside = tiles.pieces;
          }
          for (; beside < most_beside && t + beside < tiles.pieces && ow + (beside + 1) * width <= ow_end; ++beside) {
            const Range others = taps_of(ow + beside * width, width);
            if (tiles.size_of(t + beside) != vectors || others.begin != taps.begin || others.end != taps.end) break;
          }
          if (fetches_ahead_ && in_place && rows == 1 && reduction.count > 0) {
            const T* const seen = from.data + reduction.segments[0].b;
            const int64_t read = columns * beside, channels = c_end - c;
            const int64_t sets = ceil_div(taken.count, run_.kernels.tile_rows[vectors]);
            const int64_t in_blocks = packs_panels_ ? packs_before_ ? 0 : 1 : sets;
            const int64_t fetches =
                beside * (in_blocks * fetches_of_blocks(channels) + (sets - in_blocks) * kernels::fetches_of(channels));
            // A thread mostly takes the columns beside these, too.
            const bool goes_on = first && last && ow_end < g_.w.out;
            if (t + beside < tiles.pieces || goes_on) {
              ahead = LinesAhead<T>(seen + read, from.step, channels, read, fetches);
            } else if (!last && oh + 1 == oh_end) {
              ahead = LinesAhead<T>(seen - (ow - ow_begin) + channels * from.step, from.step,
                                    std::min(g_.group_channels() - c_end, channels_at_once), read, fetches);
            }
          }
          run_tiles(taken, reduction, panel, from, target, {oh, rows, ow, vectors, columns, beside}, ahead);
        }
      }
    }
    for (int64_t oh = oh_begin; staged_ && oh < oh_end; ++oh) {
      run_.kernels.transpose(target.at(0, oh, ow_begin), target.channel, outputs.end - outputs.begin, ow_end - ow_begin,
                             this->result(n, group * g_.group_out_channels() + outputs.begin, oh, ow_begin),
                             output_.stride(3));
    }
  }

  /// Whether a few planes at a time are read in long runs, for all of a few output channels: where pixels come from
  /// beyond the L2 cache; and on planes of whole pages, which would be copied, where a copy costs more than a few
  /// outputs do (1x1 of 12 to 512 channels to 1 to 3: 1.4 to 2.1 times as fast as from a copy, to 8 .7 to .9; Emerald
  /// Rapids). From memory, for one tile's outputs alone: others would read what the caches don't keep again.
  bool reads_runs() const {
    const int64_t outputs = g_.group_out_channels();
    const bool enough_channels = g_.group_channels() >= channels_of_runs && !comes_from_memory();
    if (packs_panels_ || g_.taps() != 1 || g_.h.out != 1 || g_.w.stride != 1 || g_.w.padded() ||
        input_.stride(3) != 1 || outputs > (enough_channels ? outputs_of_runs : tile_.rows)) {
      return false;
    }
    const bool pages = input_.stride(1) % (page_bytes / int64_t{sizeof(T)}) == 0;
    const int64_t image = size_product(g_.group_channels(), g_.w.in, sizeof(T));
    // Two threads' caches hold twice as much (160 channels to 21 on 60x60 .84).
    const int64_t caches = block_sizes().large_weights * (outputs > tile_.rows ? run_.threads : 1);
    return (image > block_sizes().large_weights && size_product(g_.batch, image) > caches) ||
           (pages && g_.group_channels() > ways && outputs < low_tile);
  }

  /// How much of a row is taken at a time where steps are listed: as much as leaves a copy of several rows small. Of
  /// images of a few rows less, or threads would have nothing to share out.
  int64_t listed_vectors() const {
    constexpr int64_t rows = 4, most_bytes = 128 << 10, least = 16, most = 128;
    if (g_.h.out < 2 * rows) return least;
    const int64_t bytes = size_product(g_.group_channels(), this->rows_read(rows), g_.w.stride, lanes_, sizeof(T));
    return std::clamp(most_bytes / bytes, least, most);
  }

  bool comes_from_memory() const {
    return size_product(g_.batch, g_.channels, g_.h.in, g_.w.in, sizeof(T)) > block_sizes().distant_input;
  }

  /// Whether a tile waits for channels that it reads in place: planes of 2^n bytes share sets of the L1 cache. Small
  /// tiles, which load much for what they compute, also where many planes take more pages than are found at once, which
  /// costs less than a copy unless many output channels use that.
  bool crowds_caches() const {
    constexpr int64_t small_tile = 12, many_channels = 128;
    const int64_t page = page_bytes / int64_t{sizeof(T)}, plane = input_.stride(1);
    if (tile_.rows * tile_.vectors > small_tile) {
      // 1x1 on planes of 4 KB to 256 KB: 1.0 to 1.3 times as fast from a copy, for few outputs .7 (Zen 5, AVX-512; no
      // larger kernel was measured).
      constexpr int64_t outputs = 144, outputs_of_large_images = 64, large_image = 8 << 20;
      const int64_t image = size_product(g_.group_channels(), plane, sizeof(T));
      return plane != 0 && plane % page == 0 && channels_in_place_ > 2 * ways &&
             g_.group_out_channels() >= (image < large_image ? outputs : outputs_of_large_images);
    }
    return channels_in_place_ > ways * (page / std::gcd(plane % page, page)) ||
           (g_.group_out_channels() >= many_channels &&
            channels_in_place_ * std::clamp<int64_t>(plane, 0, page) > most_pages * page);
  }

  /// How many rows from oh on read the same taps, each as far below the last one's.
  int64_t rows_alike(bool in_place, int64_t oh, int64_t oh_end) const {
    if (!g_.h.padded()) return oh_end - oh;
    if (g_.padding_mode != PaddingMode::zeros) return in_place ? 1 : oh_end - oh;
    const Range taps = g_.h.taps_inside(oh);
    int64_t end = oh + 1;
    for (; end < oh_end; ++end) {
      const Range others = g_.h.taps_inside(end);
      if (others.begin != taps.begin || others.end != taps.end) break;
    }
    return end - oh;
  }

  /// How many channels are read in place. Whole vectors read past the row's end, which serves no result. They must not
  /// leave the array: of channels of which that isn't certain, mostly the last image's last, rows go through the copy.
  /// So do all of them where there are fewer than four for each output, whose sums wait for the last (1x1 on 14x14, one
  /// task, of 480 channels to 16 1.5 times as fast as with a copy of all, of 112 to 672 .8 times).
  int64_t channels_readable(int64_t n, int64_t group, Range oh, Range ow, int64_t ow_read) const {
    if (crowds_caches_ || g_.w.stride != 1 || input_.stride(3) != 1 || g_.w.start(ow.begin) < 0 ||
        g_.w.start(ow.end - 1) + g_.w.effective_kernel() > g_.w.in) {
      return 0;
    }
    const int64_t channels = g_.group_channels();
    const int64_t last_column = g_.w.start(ow_read - 1) + g_.w.effective_kernel() - 1;
    if (last_column < g_.w.in) return channels;
    const bool contiguous = (g_.h.in == 1 || input_.stride(2) == g_.w.in) && input_.stride(1) == g_.h.in * g_.w.in &&
                            input_.stride(0) == g_.channels * input_.stride(1);
    if (!contiguous) return 0;
    // Padding that repeats rows may show the last one anywhere.
    const bool any_row = g_.h.padded() && g_.padding_mode != PaddingMode::zeros;
    const int64_t lowest = g_.h.start(oh.end - 1) + g_.h.effective_kernel() - 1;
    const int64_t last_row = any_row ? g_.h.in - 1 : std::clamp<int64_t>(lowest, 0, g_.h.in - 1);
    const int64_t elements_left =
        (g_.batch - n) * input_.stride(0) - group * channels * input_.stride(1) - last_row * g_.w.in - last_column;
    const int64_t readable =
        std::clamp<int64_t>(ceil_div(std::max<int64_t>(0, elements_left), input_.stride(1)), 0, channels);
    if (readable == channels) return channels;
    if (channels < 4 * g_.group_out_channels()) return 0;
    // Sums of several taps run through blocks of channels.
    return g_.taps() == 1 ? readable : readable / reduction_block * reduction_block;
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
    const bool transposes = input_.stride(1) == 1 && input_.stride(3) != 1 && window.rows.phases == 1 &&
                            (g_.padding_mode == PaddingMode::zeros || !g_.w.padded());
    this->for_each_run_read(oh_begin, oh_end, [&](int64_t source, int64_t row, int64_t rows) {
      if (transposes) {
        copy_transposed(from + source * input_.stride(2), rows, c_end - c_begin, window, block + row * window.row);
        return;
      }
      for (int64_t c = 0; c < c_end - c_begin; ++c) {  // in the order of memory
        const T* const run = from + c * input_.stride(1) + source * input_.stride(2);
        window.rows.copy(run_.kernels, {run, input_.stride(2), input_.stride(3), g_.w.in}, rows, g_.padding_mode, T(0),
                         row_scratch, block + row * window.row + c * window.channel, window.row);
      }
    });
    return window;
  }

  /// Rows of channels-last pixels to rows of each channel, with zeros for the padding.
  void copy_transposed(const T* from, int64_t rows, int64_t channels, const Window& window, T* to) const {
    const int64_t count = window.rows.used, first = window.rows.first;
    const int64_t begin = std::clamp<int64_t>(-first, 0, count);
    const int64_t end = std::clamp<int64_t>(g_.w.in - first, begin, count);
    for (int64_t y = 0; y < rows; ++y, from += input_.stride(2), to += window.row) {
      if (begin < end) {
        run_.kernels.transpose(from + (first + begin) * input_.stride(3), input_.stride(3), end - begin, channels,
                               to + begin, window.channel);
      }
      for (int64_t c = 0; c < channels && (begin > 0 || end < count); ++c) {
        T* const row = to + c * window.channel;
        std::fill(row, row + begin, T(0));
        std::fill(row + end, row + count, T(0));
      }
    }
  }

  /// The segments of a row for some taps, relative to a tile's first pixel.
  void list_segments(const Window& window, int64_t c_begin, int64_t c_end, int64_t oh, Range taps,
                     Reduction& reduction) const {
    if (lists_steps_) {
      reduction.count = list_runs(window, {c_begin, c_end}, oh, taps, 1, reduction.segments);
      list_steps(window, {c_begin, c_end}, oh, reduction.list);
      return;
    }
    Segment* const segments = reduction.segments;
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
    reduction.count = used;
  }

  /// Where each step reads, in the order of the weights.
  void list_steps(const Window& window, Range channels, int64_t oh, std::ptrdiff_t* list) const {
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t i = 0, row; i < g_.h.kernel; ++i, list += g_.w.kernel) {
        if (!this->row_offset(window, window.in_place, oh, i, row)) continue;
        for (int64_t j = 0; j < g_.w.kernel; ++j) list[j] = row + window.channel_offset(c) + tap_offset(window, j);
      }
    }
  }

  void list_panel(const Window& window, Range channels, int64_t oh, Range taps, int64_t vectors, Panel& panel) const {
    panel.vectors = vectors;
    panel.first = channels.begin * g_.taps();
    panel.elements = (channels.end - channels.begin) * g_.taps() * vectors * lanes_;
    panel.segment_count = list_runs(window, channels, oh, taps, vectors * lanes_, panel.segments);
  }

  /// The runs of the reduction, in the order of the weights, that some taps of a row make, neighbours as one. Their
  /// steps lie `step` apart in B.
  int64_t list_runs(const Window& window, Range channels, int64_t oh, Range taps, int64_t step,
                    Segment* segments) const {
    if (taps.begin == taps.end) return 0;
    const int64_t first = channels.begin * g_.taps();
    bool all = taps.end - taps.begin == g_.w.kernel;
    for (int64_t i = 0, row; i < g_.h.kernel && all; ++i) all = this->row_offset(window, window.in_place, oh, i, row);
    if (all) {
      segments[0] = {first, 0, size_product(channels.end - channels.begin, g_.taps())};
      return 1;
    }
    int64_t used = 0;
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t i = 0; i < g_.h.kernel; ++i) {
        int64_t row;
        if (!this->row_offset(window, window.in_place, oh, i, row)) continue;
        const int64_t a = (c * g_.h.kernel + i) * g_.w.kernel + taps.begin, count = taps.end - taps.begin;
        if (used > 0 && segments[used - 1].a + segments[used - 1].count == a) {
          segments[used - 1].count += count;
        } else {
          segments[used++] = {a, (a - first) * step, count};
        }
      }
    }
    return used;
  }

  int64_t tap_offset(const Window& window, int64_t j) const {
    return window.in_place ? j * g_.w.dilation : window.rows.tap_offset(g_.w, j);
  }

  /// A tile's first pixel in the window, and the distances of channels and rows of results.
  struct Columns {
    const T* data;
    int64_t step, row;
  };

  /// Tiles of so many vectors and columns beside each other, in each of some rows.
  struct RowTiles {
    int64_t oh, rows, ow, vectors, columns, beside;
  };

  /// Output channels of an image, from channel k on, for which input channels may follow unless these are the last;
  /// and what all of their tiles share.
  struct Outputs {
    int64_t n, k, count;
    bool last;
    TileArguments<T> tile;
  };

  TileArguments<T> shared_arguments(const Target& target, const Reduction& reduction, bool first, bool last) const {
    TileArguments<T> tile{};
    tile.a_row = g_.reduction();
    tile.b_vector = lanes_;
    tile.c_row = target.channel;
    tile.accumulate = !first;
    tile.stream = streams_ && !staged_ && first && last;
    tile.low = epilogue_.low(last);
    tile.high = epilogue_.high(last);
    tile.list = reduction.list;
    return tile;
  }

  bool takes_all(int64_t outputs, int64_t vectors) const { return outputs <= run_.kernels.tile_rows[vectors]; }

  void run_tiles(Outputs& outputs, const Reduction& reduction, const Panel& panel, const Columns& from,
                 const Target& target, const RowTiles& tiles, LinesAhead<T>& ahead) const {
    const int64_t vectors = tiles.vectors, columns = tiles.columns, beside = tiles.beside;
    TileArguments<T>& tile = outputs.tile;
    tile.columns = columns;
    const int64_t tallest = run_.kernels.tile_rows[vectors];
    const bool along = beside > 1, down = !along && takes_all(outputs.count, vectors);
    const auto packing_tile = run_.kernels.packing_tile[vectors];
    const bool packs = packs_panels_ && (packs_before_ || (outputs.count > tallest && packing_tile != nullptr));
    const int64_t done = packs && !packs_before_ ? tallest : 0;
    const EvenSplit sets_left(outputs.count - done, tallest);
    const int64_t rows_in_run = down && !packs ? tiles.rows : 1;
    for (int64_t row = 0; row < tiles.rows; row += rows_in_run) {
      // Tiles along the row, down the rows, or for one set of output channels after the other.
      const auto run_sets = [&](kernels::TileKernel<T> kernel, int64_t begin, int64_t height, int64_t sets) {
        tile.tiles = along ? beside : down ? rows_in_run : sets;
        tile.a_tile = along || down ? 0 : height * tile.a_row;
        tile.c_tile = along ? columns : down ? target.row : height * tile.c_row;
        const int64_t at_once = along ? 1 : sets;
        for (int64_t set = 0; set < sets; set += at_once, begin += height) {
          const int64_t k = outputs.k + begin;
          tile.a = run_.weights.data + k * tile.a_row;
          tile.row_bias = run_.weights.bias == nullptr ? nullptr : run_.weights.bias + k;
          tile.c = target.at(begin, tiles.oh + row, tiles.ow);
          ahead.take(tile);
          kernel(tile);
          if (!outputs.last || !epilogue_.remains()) continue;
          for (int64_t r = row; r < row + rows_in_run; ++r) {
            const int64_t oh = tiles.oh + r;
            epilogue_.finish_channels(target.at(begin, oh, tiles.ow), tile.c_row, height * at_once, columns * beside,
                                      outputs.n, k, oh * g_.w.out + tiles.ow);
          }
        }
      };
      tile.segments = reduction.segments;
      tile.segment_count = reduction.count;
      tile.a_step = lists_steps_ ? 1 : walks_columns_ ? g_.w.stride : g_.taps();
      tile.b = from.data + row * from.row;
      tile.b_step = walks_columns_ ? 1 : from.step;
      tile.b_tile = along ? columns : down ? from.row : 0;
      if (packs) {
        if (packs_before_) {
          for (int64_t i = 0; i < beside; ++i) {
            run_.kernels.pack_panel[vectors]({reduction.segments, reduction.count, panel.first, tile.a_step,
                                              tile.b + i * columns, lanes_, tile.b_step,
                                              panel.data + i * panel.elements});
          }
        } else {
          tile.panel = panel.data;
          run_sets(packing_tile, 0, tallest, 1);
        }
        tile.segments = panel.segments;
        tile.segment_count = panel.segment_count;
        tile.a_step = 1;
        tile.b = panel.data;
        tile.b_step = vectors * lanes_;
        tile.b_tile = along ? panel.elements : 0;
      }
      for_each_equal_pieces(sets_left, [&](int64_t begin, int64_t height, int64_t sets) {
        run_sets((lists_steps_ ? run_.kernels.listed_tile : run_.kernels.tile)[vectors][height], done + begin, height,
                 sets);
      });
    }
  }

  TileShape tile_{};
  SeenTaps seen_;
  int64_t row_vectors_ = 0;
  EvenSplit columns_{1, 1};  ///< of tiles
  EvenSplit row_split_{1, 1}, channel_split_{1, 1};
  int64_t rows_ = 0, copy_channels_ = 0, channels_in_place_ = 0;
  int64_t panel_channels_ = 0, panel_elements_ = 0;
  int64_t most_beside_ = 1;  ///< tiles, for each few output channels
  bool walks_columns_ = false;
  bool lists_steps_ = false;
  bool packs_panels_ = false;
  bool packs_before_ = false;   ///< its tiles, low ones, which then read it from the L1 cache
  bool fetches_ahead_ = false;  ///< pixels of the next tiles
  bool fetches_rows_ = false;   ///< that are read next
  bool runs_along_ = false;     ///< a row for each few output channels, since the L1 cache holds what they all read
  bool staged_ = false;         ///< results, since those of a row aren't neighbours
  bool crowds_caches_ = false;  ///< with what it reads in place
};

}  // namespace

template <class T>
void run_direct_by_pixels(const Conv2dRun<T>& run) {
  PixelVectors<T>{run}();
}

template void run_direct_by_pixels(const Conv2dRun<float>&);
template void run_direct_by_pixels(const Conv2dRun<double>&);

}  // namespace convpool
