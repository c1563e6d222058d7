// Winograd's algorithm: along each axis, or along the rows alone (WeightForm::winograd_rows), a few products for the
// results of a tile, instead of one for each tap of each result (kernels::WinogradTransform).
//
// Longer kernels are pieces, strided ones phases, and both are more channels of the same sum; dilated ones are a
// convolution for each phase of the results (winograd_axes.hpp).
//
// Tiles at the end of an axis that are short of results do without some of the points (short_results), and so without
// some of the products. In a block they lie so that the tiles which have a product are neighbours.
//
// A block of tiles (counted across images and rows) is transformed for all its channels and parts; then, for each few
// vectors of output channels, the elements are multiplied by the transformed weights, each as tiles x channels, and
// transformed back at once, while the products are in the cache. A tile that holds a NaN or an infinity would spread it
// over all its results: those tiles are found by their results and done again by the definition.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>

#include "block_sizes.hpp"
#include "conv2d_algorithm.hpp"
#include "conv2d_weights.hpp"
#include "epilogue.hpp"
#include "lines_ahead.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "tiling.hpp"
#include "winograd_axes.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

/// Tiles transformed together.
constexpr int64_t least_tiles = 28, most_elements = 64 * 36;
/// Fewer than the least where even they would take more.
constexpr int64_t most_transformed_bytes = 8 << 20;
/// As many tiles as fit into so much, for weights that don't stay in the last cache.
constexpr int64_t most_bytes_for_large_weights = 16 << 20;
/// What a column vector of a tile costs once, for choose_tile(): its weights mostly come from beyond the L1 cache.
/// Tiles of 8 x 3 and 14 x 2 vectors are 1.02 to 1.14 times as fast as 6 x 4 (64 to 512 channels on 7x7 to 56x56,
/// Emerald Rapids).
constexpr double column_cost = 0.1;
/// Neighbouring tiles share a stage of results.
constexpr int64_t stage_pixels = 64;
/// Weights that come from afar are fetched while the products before them run, so many lines at most with each fetch of
/// a tile. Those of a single tile's rows are better left to the prefetchers (.9).
constexpr int64_t most_fetched_lines = 32;
/// The most points of an axis, squared.
constexpr int64_t most_elements_of_a_tile = [] {
  int most = 1;
  for (int i = 0; i < kernels::winograd_transforms; ++i) {
    most = std::max(most, kernels::winograd_line(kernels::WinogradTransform{static_cast<std::uint8_t>(i)}).points);
  }
  return int64_t{most} * most;
}();
/// Weights that elements whose products are taken in one call may have, in bytes, and tiles of which there may be so
/// few that it pays: a tile's elements lie far apart (16 channels to 64 on 7x7 1.2 times as fast as with a call for
/// each, 12 to 40 on 96x96 .88, Zen 3).
constexpr int64_t small_weights = 16 << 10, few_tiles = 24;
/// From this size on weights are transformed right before they are used even if that takes a larger block of tiles:
/// writing them to memory would cost more.
constexpr int64_t large_packed_bytes = 8 << 20;

template <class T>
class Winograd {
 public:
  Winograd(const Conv2dRun<T>& run, WeightForm form)
      : run_(run),
        g_(run.geometry),
        axes_(run.geometry, form),
        transforms_(run.kernels.winograd[int(axes_.h.transform)][int(axes_.w.transform)]),
        epilogue_(run),
        lanes_(run.kernels.lanes) {
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    elements_ = axes_.elements();
    weight_elements_ = axes_.weights();
    // Scratch follows how runs are cut, which neither an array to add nor the place of the result may change.
    cuts_at_lines_ = epilogue_.streams_unless_added_to(run, g_.out_pixels()) && rows_are_lines();
    const bool in_lines = reinterpret_cast<std::uintptr_t>(run.output.data) % kernels::cache_line == 0;
    streams_ = epilogue_.streams(run, g_.out_pixels()) && (run.output.stride(1) == 1 || (cuts_at_lines_ && in_lines));
    fetches_results_ = !streams_ && run.output.stride(3) == 1 && run.output.stride(1) != 1 &&
                       size_product(g_.batch, g_.out_channels, g_.out_pixels(), sizeof(T)) > block_sizes().large_result;
    tile_rows_ = h.tiles(g_.h.out);
    tile_columns_ = w.tiles(g_.w.out);
    row_units_ = ceil_div(tile_columns_, w.tile_phases);
    short_rows_ = h.short_results(g_.h.out);
    short_columns_ = w.short_results(g_.w.out);
    full_rows_ = short_rows_ > 0 ? (ceil_div(tile_rows_, h.tile_phases) - 1) * h.tile_phases : tile_rows_;
    full_units_ = short_columns_ > 0 ? row_units_ - 1 : row_units_;
    vectors_ = ceil_div(g_.group_out_channels(), lanes_);
    packs_parts_ = axes_.packs_parts(g_, lanes_);
    part_pitch_ = packs_parts_ ? g_.group_channels() : round_up(g_.group_channels(), lanes_);
    // Rows of 2^n bytes would all fall into the same sets of the L1 cache.
    channel_pitch_ = round_up(size_product(axes_.parts(), part_pitch_), lanes_) + lanes_;
    const int64_t tiles = g_.batch * tile_rows_ * tile_columns_, units = g_.batch * tile_rows_ * row_units_;
    const int64_t most_tiles = most_elements / elements_;
    const int64_t tile_bytes = size_product(elements_, channel_pitch_, sizeof(T));
    const int64_t least =
        std::clamp<int64_t>(most_transformed_bytes / tile_bytes, 1, std::min(least_tiles, most_tiles));
    // Where the tiles make fewer blocks than there are threads, each has some of the output channels.
    const int64_t fewest_tasks = g_.groups * ceil_div(tiles, std::max(least, most_tiles));
    shape_ = choose_tile(run.kernels, std::min(tiles, most_tiles),
                         std::max<int64_t>(1, vectors_ * std::min<int64_t>(fewest_tasks, run.threads) / run.threads), 1,
                         column_cost);
    const int64_t group_weights =
        size_product(weight_pitch(g_.group_channels()), weight_elements_, vectors_, sizeof(T));
    // What is read from memory for each block wants many tiles: 512 channels, 16 images of 7x7 and 14x14 5225 / 4720
    // and 20930 / 19340 us, 4 images of 1024 channels 21060 / 17510 (Zen 5).
    const bool large = group_weights > block_sizes().large_winograd_weights;
    const int64_t fewest =
        large ? std::clamp<int64_t>(most_bytes_for_large_weights / tile_bytes, 1, most_tiles) : least;
    const int64_t block = std::clamp<int64_t>(block_sizes().winograd_tiles / tile_bytes, fewest, most_tiles);
    const int64_t shared = std::min(block, std::max(ceil_div(tiles, run.threads), least));
    blocks_ = EvenSplit(units, std::max<int64_t>(1, shared / w.tile_phases));
    channels_at_once_ = g_.group_channels();
    if (run.weights.packed_later) prepare_packing(tiles, std::min(most_tiles, most_transformed_bytes / tile_bytes));
    // A few blocks leave no thread without one at the end.
    if (blocks_.pieces > 1 && blocks_.pieces * g_.groups < 8 * run.threads) {
      blocks_ = EvenSplit::in_pieces(units, std::min(units, round_up(blocks_.pieces, run.threads)));
    }
    block_tiles_ = blocks_.largest() * w.tile_phases;
    // Elements 2^n bytes apart crowded the L1 cache: 32x32, 64x64, 128x128 and 224x224 pixels took up to 1.7 times as
    // long.
    transformed_pitch_ = odd_lines<T>(size_product(block_tiles_, channel_pitch_));
    // With few tiles the threads share out the output channels, and with them the weights, which are read once then.
    steps_ = EvenSplit(vectors_, shape_.vectors);
    const int64_t tasks = g_.groups * blocks_.pieces;
    const int64_t pieces = tasks >= run.threads ? 1 : std::min(steps_.pieces, ceil_div(run.threads, tasks));
    channel_split_ = EvenSplit(steps_.pieces, ceil_div(steps_.pieces, pieces));
    const int64_t apart = packs_parts_ ? size_product(h.slots(), w.seen_step(), g_.group_channels()) : 0;
    const int64_t row_bytes = (strip_rows() * lanes_ + apart) * int64_t{sizeof(T)};
    const int64_t one = strip_pixels(1), next = strip_pixels(2) - one;
    strip_units_ = std::clamp<int64_t>((block_sizes().winograd_strip / row_bytes - one) / next + 1, 1, row_units_);
    // What is streamed begins and ends with cache lines of a plane's row.
    const int64_t line = kernels::cache_line / int64_t{sizeof(T)};
    int64_t together = cuts_at_lines_ ? line / std::gcd(line, w.unit_results()) : 1;
    if (together * w.unit_results() > 2 * stage_pixels) together = 1;
    stage_units_ = std::min(row_units_, std::max(together, stage_pixels / w.unit_results() / together * together));
    weights_ = run.weights.data;
    if (run.weights.packed_later && !packs_) {
      packed_ = pack_for_call(form, g_, run.kernels, run.weights.plain, run.threads);
      weights_ = packed_.as<T>();
    }
    fetches_ =
        !packs_ && !has_few_registers(run.kernels) && block_tiles_ > shape_.rows &&
        size_product(group_weights, g_.groups) / channel_split_.pieces > block_sizes().fetched_winograd_weights &&
        size_product(weight_pitch(g_.group_channels()), shape_.vectors, sizeof(T)) < block_sizes().large_weights / 2;
    list_elements();
  }

  void operator()() const {
    if (run_.blocking != nullptr) {
      *run_.blocking = {shape_.rows,
                        shape_.vectors,
                        block_tiles_ * axes_.h.results * axes_.w.results,
                        std::min(g_.group_out_channels(), shape_.vectors * lanes_),
                        g_.reduction(),
                        axes_.h.results,
                        axes_.w.results};
    }
    const int64_t transformed = size_product(elements_, transformed_pitch_);
    const int64_t columns = shape_.vectors * lanes_;
    const int64_t products = elements_ * odd_lines<T>(block_tiles_ * columns);
    const int64_t strip = std::max(size_product(strip_rows(), strip_pixels(strip_units_), lanes_) + apart_elements(),
                                   axes_.h.results * stage_units_ * axes_.w.unit_results() * columns);
    const int64_t packed =
        packs_ ? round_up(shape_.vectors * weight_elements_ * weight_pitch(channels_at_once_), 16) : 0;
    const int64_t packing = packs_ ? winograd_packing_scratch(g_, axes_, lanes_) : 0;
    const SlottedWorkspace<T> scratch(transformed + products + strip + packed + packing, run_.threads);
    const SlottedWorkspace<kernels::Segment> segment_scratch(axes_.parts(), run_.threads);
    parallel_for(g_.groups * blocks_.pieces * channel_split_.pieces, run_.threads, [&](int64_t task, int thread) {
      Task t{};
      const int64_t piece = task % channel_split_.pieces;
      task /= channel_split_.pieces;
      t.begin = blocks_.spread_begin(task % blocks_.pieces);
      t.end = blocks_.spread_begin(task % blocks_.pieces + 1);
      t.group = task / blocks_.pieces;
      arrange_tiles(t);
      t.transformed = scratch.slot(thread);
      t.products = t.transformed + transformed;
      t.strip = t.products + products;
      t.packed = t.strip + strip;
      t.packing = t.packed + packed;
      t.segments = segment_scratch.slot(thread);
      packs_parts_ ? transform_packed_input(t) : transform_input(t);
      for (int64_t p = channel_split_.begin(piece); p < channel_split_.end(piece); ++p) {
        const int64_t v = steps_.begin(p), width = steps_.end(p) - v;
        multiply(t, v, width);
        transform_output(t, v, width);
      }
      if (streams_) run_.kernels.finish_streaming();
    });
  }

 private:
  /// Weights that lie as they came are packed right before they are used, for one block of tiles: larger than it would
  /// be where the packed ones outgrow the caches. A few channels are packed at a time; of several parts all, since a
  /// sum runs through the parts first.
  void prepare_packing(int64_t tiles, int64_t most_tiles) {
    const int64_t channel_bytes = size_product(shape_.vectors, weight_elements_, axes_.parts(), lanes_, sizeof(T));
    const bool large = size_product(channel_bytes / shape_.vectors, vectors_, g_.group_channels()) > large_packed_bytes;
    if (blocks_.pieces > 1 && (!large || tiles > most_tiles)) return;
    if (axes_.parts() > 1 && size_product(channel_bytes, g_.group_channels()) > most_packed_part_bytes) return;
    packs_ = true;
    blocks_ = EvenSplit(blocks_.total, blocks_.total);
    if (axes_.parts() > 1) return;
    const int64_t fitting = block_sizes().packed_winograd_weights / channel_bytes / reduction_block * reduction_block;
    channels_at_once_ = std::min(channels_at_once_, std::max(fitting, reduction_block));
  }

  /// Units [begin, end), counted across images and rows of tiles: the tiles whose results interleave stay together.
  struct Task {
    int64_t group, begin, end, tiles;
    int64_t first[2][2];  ///< the number of the first tile that is short [of rows][of columns]
    T *transformed, *products, *strip, *packed, *packing;
    kernels::Segment* segments;
  };

  /// Tiles at even steps, those of their numbers in the block and those of their results.
  struct EvenTiles {
    int64_t first, next, count;
    int64_t at, step;  ///< the first one's first result, counted from the run's origin; results to the next one's
    bool short_of_columns;
  };

  /// Neighbouring tiles of one row of tiles; where rows are whole cache lines to be streamed, a multiple of the most
  /// ends them. Full ones, then those that are short of columns.
  struct Run {
    int64_t n, row, units;
    int64_t begin, end;  ///< the columns of results
    int64_t origin;      ///< that of the first tile's first result, even if it does without
    int64_t first_full, full_tiles;
    EvenTiles shorter;
    bool short_of_rows;
  };

  /// Numbers the tiles of a block by what they are short of: columns, nothing, rows, both. Those that have the products
  /// of some point are neighbours then, whatever kind of tile does without it.
  void arrange_tiles(Task& t) const {
    int64_t counts[2][2]{};
    for_each_run(t, row_units_, [&](const Run& run) {
      counts[run.short_of_rows][0] += run.full_tiles;
      counts[run.short_of_rows][1] += run.shorter.count;
    });
    t.first[0][1] = 0;
    t.first[0][0] = counts[0][1];
    t.first[1][0] = t.first[0][0] + counts[0][0];
    t.first[1][1] = t.first[1][0] + counts[1][0];
    t.tiles = t.first[1][1] + counts[1][1];
  }

  /// Neighbouring elements whose products are alike: the same tiles have them, and their weights follow one another.
  struct Elements {
    int64_t first, count, weight;
    bool new_weights;       ///< that no element before them has
    bool without_short[2];  ///< whether tiles that are short [of rows, of columns] do without them
  };

  /// Several where a tile's calls would be short, of few tiles, and the weights of all stay in the L1 cache.
  void list_elements() {
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    const auto left_out = [](const WinogradAxis& axis, int64_t point, int64_t longest) {
      return longest > 0 && !axis.short_tile_has(point, longest);
    };
    const int64_t panel = size_product(weight_pitch(g_.group_channels()), shape_.vectors, sizeof(T));
    const int64_t most = block_tiles_ > few_tiles ? 1 : std::max<int64_t>(1, small_weights / panel);
    for (int64_t y = 0; y < h.points; ++y) {
      for (int64_t x = 0; x < w.points; ++x) {
        const Elements next{y * w.points + x,
                            1,
                            h.weight_of(y) * w.weights() + w.weight_of(x),
                            y < h.weights() && x < w.weights(),
                            {left_out(h, y, short_rows_), left_out(w, x, short_columns_)}};
        Elements& last = element_runs_[std::max<int64_t>(0, element_run_count_ - 1)];
        if (x > 0 && last.count < most && last.without_short[1] == next.without_short[1] &&
            last.new_weights == next.new_weights && last.weight + last.count == next.weight) {
          ++last.count;
        } else {
          element_runs_[element_run_count_++] = next;
        }
      }
    }
  }

  /// The tiles that have products of an element, and how they are cut.
  struct Products {
    Range tiles;
    EvenSplit split;
  };

  Products products_without(const Task& t, bool short_rows, bool short_columns, int64_t width) const {
    const int64_t begin = short_columns ? t.first[0][0] : 0;
    const int64_t end = short_rows ? t.first[1][0] : short_columns ? t.first[1][1] : t.tiles;
    return {{begin, end}, EvenSplit(end - begin, run_.kernels.tile_rows[width])};
  }

  /// Whether rows of the result's planes are whole cache lines: else what is streamed leaves in parts (16 images of 64
  /// channels on 56x56 .86).
  bool rows_are_lines() const {
    constexpr int64_t line = kernels::cache_line / int64_t{sizeof(T)};
    const TensorView<T>& out = run_.output;
    return lanes_ == line && out.stride(3) == 1 && out.stride(2) % line == 0 && out.stride(1) % line == 0;
  }

  int64_t strip_rows() const { return packs_parts_ ? axes_.h.points : axes_.h.slots(); }

  /// Scratch for the rows that are taken apart, and for either rows before they are or those of a vector's lanes.
  int64_t apart_elements() const {
    if (!packs_parts_) return 0;
    const PackedRows rows = packed_rows(strip_units_);
    const int64_t step = axes_.w.seen_step();
    const PhasedRows phased(0, step * rows.pitch, step, rows.channels * rows.pitch);
    return size_product(axes_.h.slots(), rows.slot) + std::max(lanes_ * rows.pitch, phased.scratch_elements());
  }

  /// Pixels that the windows of so many neighbouring units span.
  int64_t strip_pixels(int64_t units) const {
    const WinogradAxis& w = axes_.w;
    if (packs_parts_) return (units - 1) * w.results * w.seen_from_result_to_result() + w.points;
    return (units - 1) * w.tile_step + w.tile_phases - 1 + (w.slots() - 1) * w.dilation + 1;
  }

  template <class F>
  void for_each_run(const Task& t, int64_t most_units, F&& f) const {
    const WinogradAxis& w = axes_.w;
    int64_t next[2][2] = {{t.first[0][0], t.first[0][1]}, {t.first[1][0], t.first[1][1]}};
    for (int64_t u = t.begin; u < t.end;) {
      Run run;
      const int64_t unit = u % row_units_;
      run.row = u / row_units_ % tile_rows_;
      run.n = u / row_units_ / tile_rows_;
      run.units = std::min({t.end - u, row_units_ - unit, most_units - (cuts_at_lines_ ? unit % most_units : 0)});
      run.begin = unit * w.unit_results();
      run.end = std::min(run.begin + run.units * w.unit_results(), g_.w.out);
      run.short_of_rows = run.row >= full_rows_;
      const int64_t full = std::min(run.units, full_units_ - unit);
      const int64_t tiles = std::min(run.units * w.tile_phases, tile_columns_ - unit * w.tile_phases);
      int64_t* const first = next[run.short_of_rows];
      run.first_full = first[0];
      run.full_tiles = std::min(full * w.tile_phases, tiles);
      const int64_t shorter_at = full > 0 ? full * w.unit_results() - w.tile_phases : 0;
      run.shorter = {first[1], 1, tiles - run.full_tiles, shorter_at, 1, true};
      run.origin = full > 0 ? run.begin : run.begin - w.tile_phases;
      f(run);
      first[0] += run.full_tiles;
      first[1] += run.shorter.count;
      u += run.units;
    }
  }

  /// The short tiles of a run come first: what the way back puts where their first results would be, a full tile's last
  /// ones overwrite.
  template <class F>
  void for_each_even_tiles(const Run& run, F&& f) const {
    const int64_t phases = axes_.w.tile_phases;
    if (run.shorter.count > 0) f(run.shorter);
    for (int64_t phase = 0; phase < std::min(phases, run.full_tiles); ++phase) {
      f(EvenTiles{run.first_full + phase, phases, ceil_div(run.full_tiles - phase, phases), phase,
                  axes_.w.unit_results(), false});
    }
  }

  /// The first result of a row of tiles, even if it does without.
  int64_t first_row(const Run& run) const {
    return axes_.h.first_result(run.row) - (run.short_of_rows ? axes_.h.tile_phases : 0);
  }

  void transform_input(const Task& t) const {
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    const auto transform = transforms_.input;
    for (int64_t c = 0; c < g_.group_channels(); c += lanes_) {
      Strip strip{};
      for_each_run(t, strip_units_, [&](const Run& run) {
        const int64_t pixels = strip_pixels(run.units);
        const Strip last = std::exchange(strip, {run.n, g_.h.start(first_row(run)), run.origin, pixels});
        copy_strip(t, run, c, pixels, rows_shared(last, strip));
        kernels::WinogradInputArguments<T> arguments{};
        arguments.in_row = h.stride * pixels * lanes_;
        arguments.in_pixel = w.stride * w.dilation * lanes_;
        arguments.out_element = transformed_pitch_;
        for (int64_t y = 0; y < h.parts; ++y) {
          for (int64_t x = 0; x < w.parts; ++x) {
            for_each_even_tiles(run, [&](const EvenTiles& tiles) {
              arguments.in = t.strip + (h.slot(y) * pixels + w.slot(x) * w.dilation + tiles.at * g_.w.stride) * lanes_;
              arguments.in_tile = tiles.step * g_.w.stride * lanes_;
              arguments.out = t.transformed + tiles.first * channel_pitch_ + (y * w.parts + x) * part_pitch_ + c;
              arguments.out_tile = tiles.next * channel_pitch_;
              arguments.tiles = tiles.count;
              transform(arguments);
            });
          }
        }
      });
    }
  }

  /// The same where the channels of all parts share vectors. Columns past the padding are what copies of rows have
  /// there, which only results that are dropped see. Rows are taken apart by the stride first, once for all
  /// parts: [slot][phase][channel][pixel]. Of parts that are phases alone the lanes' rows follow one another there.
  void transform_packed_input(const Task& t) const {
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    const int64_t all = axes_.parts() * g_.group_channels();
    const bool in_order = axes_.parts_are_phases();
    for_each_run(t, strip_units_, [&](const Run& run) {
      const int64_t pixels = strip_pixels(run.units);
      const PackedRows rows = packed_rows(run.units);
      T* const apart = t.strip + h.points * pixels * lanes_;
      T* const spare = apart + h.slots() * rows.slot;
      take_apart(t, run, rows, apart, spare);
      kernels::WinogradInputArguments<T> arguments{};
      arguments.in_row = pixels * lanes_;
      arguments.in_pixel = lanes_;
      arguments.out_element = transformed_pitch_;
      for (int64_t first = 0; first < all; first += lanes_) {
        const int64_t used = std::min(lanes_, all - first);
        if (used < lanes_) std::fill_n(t.strip, h.points * pixels * lanes_, T(0));
        for (int64_t y = 0; y < h.points; ++y) {
          const T* const slots = apart + y * h.stride * rows.slot;
          const T* from = slots + first * rows.pitch;
          if (!in_order) {
            for (int64_t lane = 0; lane < used; ++lane) {
              std::copy_n(slots + rows.offset(first + lane), pixels, spare + lane * rows.pitch);
            }
            from = spare;
          }
          run_.kernels.transpose(from, rows.pitch, used, pixels, t.strip + y * pixels * lanes_, lanes_);
        }
        for_each_even_tiles(run, [&](const EvenTiles& tiles) {
          arguments.in = t.strip + tiles.at * w.seen_from_result_to_result() * lanes_;
          arguments.in_tile = tiles.step * w.seen_from_result_to_result() * lanes_;
          arguments.out = t.transformed + tiles.first * channel_pitch_ + first;
          arguments.out_tile = tiles.next * channel_pitch_;
          arguments.tiles = tiles.count;
          transforms_.input(arguments);
        });
      }
    });
  }

  /// Where the rows of a run lie that are taken apart: `pitch` from a channel to the next, `slot` from a row.
  struct PackedRows {
    const WinogradAxes& axes;
    int64_t channels, pitch, slot;

    /// The row of a part's channel, from that of its window's first slot on.
    int64_t offset(int64_t packed) const {
      const int64_t part = packed / channels, c = packed % channels;
      const int64_t column = axes.w.slot(part % axes.w.parts) * axes.w.dilation, step = axes.w.seen_step();
      return axes.h.slot(part / axes.w.parts) * slot + (column % step * channels + c) * pitch + column / step;
    }
  };

  PackedRows packed_rows(int64_t units) const {
    const WinogradAxis& w = axes_.w;
    const int64_t shift = w.slot(w.parts - 1) * w.dilation / w.seen_step();
    const int64_t pitch = round_up(strip_pixels(units) + shift, std::max<int64_t>(lanes_, 16));
    return {axes_, g_.group_channels(), pitch, size_product(w.seen_step(), g_.group_channels(), pitch)};
  }

  PhasedRows phased_rows(const Run& run, const PackedRows& rows) const {
    const int64_t step = axes_.w.seen_step();
    return {g_.w.start(run.origin), step * rows.pitch, step, rows.channels * rows.pitch};
  }

  void take_apart(const Task& t, const Run& run, const PackedRows& rows, T* to, T* scratch) const {
    const TensorView<const T>& in = run_.input;
    const PhasedRows phased = phased_rows(run, rows);
    const T* const image = in.data + run.n * in.stride(0) + t.group * g_.group_channels() * in.stride(1);
    const auto row_of = [&](int64_t slot) {
      return source_index_or_zero(g_.h, first_row(run), slot * axes_.h.dilation);
    };
    for (int64_t slot = 0; slot < axes_.h.slots();) {
      const int64_t y = row_of(slot);
      T* const out = to + slot * rows.slot;
      if (y < 0) {
        std::fill_n(out, rows.slot, T(0));
        ++slot;
        continue;
      }
      int64_t count = 1;
      while (slot + count < axes_.h.slots() && row_of(slot + count) == y + count * axes_.h.dilation) ++count;
      for (int64_t c = 0; c < rows.channels; ++c) {
        phased.copy(
            run_.kernels,
            {image + c * in.stride(1) + y * in.stride(2), axes_.h.dilation * in.stride(2), in.stride(3), g_.w.in},
            count, g_.padding_mode, T(0), scratch, out + c * rows.pitch, rows.slot);
      }
      slot += count;
    }
  }

  /// The pixels that are in the strip: those of an image from a row and a column of results on.
  struct Strip {
    int64_t n, row, column, pixels;
  };

  /// Rows of the last strip, its last ones, that the next begins with.
  int64_t rows_shared(const Strip& last, const Strip& next) const {
    const int64_t down = next.row - last.row, slots = axes_.h.slots();
    if (last.n != next.n || last.column != next.column || last.pixels != next.pixels) return 0;
    return down > 0 && down % axes_.h.dilation == 0 ? std::max<int64_t>(0, slots - down / axes_.h.dilation) : 0;
  }

  /// The padded rows of a run's windows for one vector of channels, pixel by pixel; the first `shared` ones are the
  /// last of the strip that is there.
  void copy_strip(const Task& t, const Run& run, int64_t c, int64_t pixels, int64_t shared) const {
    const int64_t channels = std::min(lanes_, g_.group_channels() - c);
    const int64_t oh = first_row(run), ow = run.origin, slots = axes_.h.slots();
    const int64_t left = g_.w.start(ow);
    const int64_t begin = std::clamp<int64_t>(-left, 0, pixels),
                  end = std::clamp<int64_t>(g_.w.in - left, begin, pixels);
    const TensorView<const T>& in = run_.input;
    const T* const image = in.data + run.n * in.stride(0) + (t.group * g_.group_channels() + c) * in.stride(1);
    std::copy_n(t.strip + (slots - shared) * pixels * lanes_, shared * pixels * lanes_, t.strip);
    for (int64_t i = shared; i < slots; ++i) {
      T* const strip = t.strip + i * pixels * lanes_;
      const int64_t y = source_index_or_zero(g_.h, oh, i * axes_.h.dilation);
      if (y < 0) {
        std::fill_n(strip, pixels * lanes_, T(0));
        continue;
      }
      const T* const row = image + y * in.stride(2);
      if (channels < lanes_) std::fill_n(strip, pixels * lanes_, T(0));
      if (in.stride(3) == 1) {
        run_.kernels.transpose(row + left + begin, in.stride(1), channels, end - begin, strip + begin * lanes_, lanes_);
      } else if (in.stride(1) == 1) {
        run_.kernels.pad_rows({row + (left + begin) * in.stride(3), in.stride(3), strip + begin * lanes_, lanes_,
                               end - begin, 0, channels, channels, T(0)});
      } else {
        for (int64_t x = begin; x < end; ++x) copy_pixel(row, left + x, channels, strip + x * lanes_);
      }
      const auto edge = [&](int64_t from, int64_t until) {
        if (g_.padding_mode == PaddingMode::zeros) {
          std::fill_n(strip + from * lanes_, (until - from) * lanes_, T(0));
          return;
        }
        for (int64_t x = from; x < until; ++x) {
          const int64_t source = source_index_or_zero(g_.w, ow, x);
          if (source < 0) {
            std::fill_n(strip + x * lanes_, lanes_, T(0));
          } else {
            copy_pixel(row, source, channels, strip + x * lanes_);
          }
        }
      };
      edge(0, begin);
      edge(end, pixels);
    }
  }

  void copy_pixel(const T* row, int64_t x, int64_t channels, T* to) const {
    for (int64_t c = 0; c < channels; ++c) to[c] = row[x * run_.input.stride(3) + c * run_.input.stride(1)];
  }

  /// Where pixel `offset` of a window that starts at an output comes from; -1 for a zero. The last tiles reach past the
  /// padding, and short ones begin before it: what they read there serves only results that are dropped.
  int64_t source_index_or_zero(const Axis& axis, int64_t output, int64_t offset) const {
    const int64_t position = axis.start(output) + offset;
    if (position < -axis.pad_begin || position >= axis.in + axis.pad_end) return -1;
    return source_index(position, axis.in, g_.padding_mode);
  }

  /// From one element of the weights to the next, for so many channels.
  int64_t weight_pitch(int64_t channels) const { return winograd_element_pitch(axes_, channels, lanes_); }

  void multiply(const Task& t, int64_t v, int64_t width) const {
    for (int64_t c = 0; c < g_.group_channels(); c += channels_at_once_) {
      const Range channels{c, std::min(g_.group_channels(), c + channels_at_once_)};
      const int64_t pitch = weight_pitch(channels.end - channels.begin), vector = weight_elements_ * pitch;
      const T* weights = t.packed;
      if (packs_) {
        for (int64_t i = 0; i < width; ++i) {
          pack_winograd_vector(g_, axes_, run_.kernels, run_.weights.plain, t.group, v + i, channels,
                               t.packed + i * vector, pitch, t.packing);
        }
      } else {
        weights = weights_ + (t.group * vectors_ + v) * vector;
      }
      multiply_channels(t, v, channels, width, weights, pitch);
    }
  }

  /// The steps of a sum. Parts follow one another in both operands where their channels fill the vectors.
  int64_t list_segments(Range channels, kernels::Segment* segments) const {
    const int64_t count = channels.end - channels.begin;
    const bool together = count == part_pitch_;
    const int64_t runs = together ? 1 : axes_.parts(), length = together ? axes_.parts() * count : count;
    for (int64_t r = 0; r < runs; ++r) {
      segments[r] = {r * part_pitch_ + channels.begin, r * count * lanes_, length};
    }
    return runs;
  }

  /// The weights of elements, or those of the first ones for the next few vectors of output channels.
  LinesAhead<T> weights_ahead(const Task& t, int64_t v, int64_t width, int64_t next, int64_t pitch,
                              int64_t fetches) const {
    if (!fetches_) return {};
    if (next == element_run_count_) {
      next = 0;
      v = v + width < vectors_ ? v + width : 0;
    }
    const Elements& elements = element_runs_[next];
    if (!elements.new_weights) return {};
    const int64_t vector = weight_elements_ * pitch;
    return LinesAhead<T>::in_turn(weights_ + (t.group * vectors_ + v) * vector + elements.weight * pitch, vector,
                                  std::min(width, vectors_ - v), elements.count * pitch - lanes_, fetches,
                                  most_fetched_lines);
  }

  void multiply_channels(const Task& t, int64_t v, Range channels, int64_t width, const T* weights,
                         int64_t pitch) const {
    const int64_t columns = width * lanes_;
    kernels::TileArguments<T> tile{};
    tile.segments = t.segments;
    tile.segment_count = list_segments(channels, t.segments);
    tile.a_row = channel_pitch_;
    tile.a_step = 1;
    tile.b_vector = weight_elements_ * pitch;
    tile.b_step = lanes_;
    tile.c_row = columns;
    tile.columns = columns;
    tile.accumulate = channels.begin > 0;
    tile.low = -std::numeric_limits<T>::infinity();
    tile.high = std::numeric_limits<T>::infinity();
    // Products stay near: to fetch their lines for each tile cost more than it saved (sums of 12 to 24 terms 1.03
    // to 1.09 times as fast without, longer ones 1.0, Emerald Rapids).
    tile.fetched = t.products;
    tile.fetched_rows = 0;
    const int64_t product_pitch = odd_lines<T>(t.tiles * columns);
    const int64_t fetches = fetches_of(tile.segments, tile.segment_count);
    const Products with[2][2] = {{products_without(t, false, false, width), products_without(t, false, true, width)},
                                 {products_without(t, true, false, width), products_without(t, true, true, width)}};
    for (int64_t r = 0; r < element_run_count_; ++r) {
      const Elements& elements = element_runs_[r];
      const Products& having = with[elements.without_short[0]][elements.without_short[1]];
      const Range range = having.tiles;
      const T* const transformed = t.transformed + elements.first * transformed_pitch_;
      T* const products = t.products + elements.first * product_pitch;
      if (!tile.accumulate) {
        for (int64_t e = 0; e < elements.count; ++e) {
          std::fill_n(products + e * product_pitch, range.begin * columns, T(0));
          std::fill_n(products + e * product_pitch + range.end * columns, (t.tiles - range.end) * columns, T(0));
        }
      }
      tile.b = weights + elements.weight * pitch;
      LinesAhead<T> ahead = weights_ahead(t, v, width, r + 1, pitch, having.split.pieces * elements.count * fetches);
      const auto run_tiles = [&](int64_t first, int64_t tall, int64_t tiles) {
        tile.a = transformed + first * channel_pitch_;
        tile.c = products + first * columns;
        tile.tiles = tiles;
        ahead.take(tile);
        run_.kernels.tile[width][tall](tile);
      };
      for_each_equal_pieces(having.split, [&](int64_t piece, int64_t tall, int64_t tiles) {
        int64_t first = range.begin + piece;
        if (elements.count == 1) {
          tile.a_tile = tall * channel_pitch_;
          tile.b_tile = 0;
          tile.c_tile = tall * columns;
          run_tiles(first, tall, tiles);
          return;
        }
        tile.a_tile = transformed_pitch_;
        tile.b_tile = pitch;
        tile.c_tile = product_pitch;
        for (; tiles > 0; --tiles, first += tall) run_tiles(first, tall, elements.count);
      });
    }
  }

  void transform_output(const Task& t, int64_t v, int64_t width) const {
    const int64_t columns = width * lanes_;
    const int64_t first_channel = t.group * g_.group_out_channels() + v * lanes_;
    const int64_t channels = std::min(columns, g_.group_out_channels() - v * lanes_);
    const TensorView<T>& out = run_.output;
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    const auto transform = transforms_.output;
    for_each_run(t, stage_units_, [&](const Run& run) {
      const int64_t ow = run.begin, pixels = run.end - run.begin;
      const bool joins = joins_rows(run);
      const int64_t stage_row = (joins ? pixels : run.units * w.unit_results()) * columns;
      kernels::WinogradOutputArguments<T> arguments{};
      arguments.in_element = odd_lines<T>(t.tiles * columns);
      arguments.bias = run_.weights.bias + (t.group * vectors_ + v) * lanes_;
      arguments.out_row = stage_row;
      arguments.out_pixel = w.tile_phases * columns;
      arguments.vectors = width;
      arguments.low = epilogue_.low();
      arguments.high = epilogue_.high();
      if (fetches_results_) fetch_results(run, first_channel, channels);
      bool finite = true;
      for_each_even_tiles(run, [&](const EvenTiles& tiles) {
        arguments.in = t.products + tiles.first * columns;
        arguments.in_tile = tiles.next * columns;
        arguments.out = t.strip + tiles.at * columns;
        arguments.out_tile = tiles.step * columns;
        arguments.tiles = tiles.count;
        finite = transform(arguments) && finite;
      });
      const int64_t rows = std::min(h.results, ceil_div(g_.h.out - first_row(run), h.tile_phases));
      const int64_t together = joins ? rows - run.short_of_rows : 1;
      for (int64_t r = run.short_of_rows; r < rows; r += together) {
        const int64_t oh = first_row(run) + r * h.tile_phases, count = together * pixels;
        T* const to =
            out.data + run.n * out.stride(0) + first_channel * out.stride(1) + oh * out.stride(2) + ow * out.stride(3);
        const T* const stage = t.strip + r * stage_row + (run.begin - run.origin) * columns;
        if (out.stride(1) == 1) {
          run_.kernels.pad_rows({stage, columns, to, out.stride(3), count, 0, channels, channels, T(0), streams_});
          if (epilogue_.remains()) {
            epilogue_.finish_pixels(to, out.stride(3), count, channels, run.n, first_channel, oh * g_.w.out + ow);
          }
        } else {
          const auto transpose = streams_ ? run_.kernels.stream_transposed : run_.kernels.transpose;
          transpose(stage, columns, count, channels, to, out.stride(1));
          if (epilogue_.remains()) {
            epilogue_.finish_channels(to, out.stride(1), channels, count, run.n, first_channel, oh * g_.w.out + ow);
          }
        }
      }
      if (!finite) {
        if (streams_) run_.kernels.finish_streaming();
        redo(t, run, arguments, first_channel, channels);
      }
    });
  }

  /// Whether the rows of a run's results follow one another in the stage as they do in memory, and leave it together:
  /// short ones would each be less than a vector (7x7). What tiles put past the end of a row, the full ones overwrite.
  bool joins_rows(const Run& run) const {
    return axes_.w.tile_phases == 1 && axes_.h.tile_phases == 1 && run.end - run.begin == g_.w.out &&
           run.full_tiles > 0 && rows_contiguous(run_.output);
  }

  /// The lines of planes that a run's results go to, while it is transformed: stores to lines that no near cache has
  /// wait for each other, most where rows aren't whole lines (16 to 64 channels on 222x222 1.6 to 2 times as fast, 64
  /// to 64 on 158x158 1.2 to 1.3 times, Emerald Rapids; within the L2 cache it costs up to 4 %).
  void fetch_results(const Run& run, int64_t first_channel, int64_t channels) const {
    __asm__ volatile("");  // GCC otherwise leaves the call out, as one without effect
    constexpr int64_t line = kernels::cache_line / int64_t{sizeof(T)};
    const TensorView<T>& out = run_.output;
    for (int64_t r = run.short_of_rows; r < axes_.h.results; ++r) {
      const int64_t oh = first_row(run) + r * axes_.h.tile_phases;
      if (oh >= g_.h.out) break;
      const T* row = out.data + run.n * out.stride(0) + first_channel * out.stride(1) + oh * out.stride(2) + run.begin;
      for (int64_t k = 0; k < channels; ++k, row += out.stride(1)) {
        for (int64_t x = 0; x < run.end - run.begin; x += line) __builtin_prefetch(row + x, 1);
        __builtin_prefetch(row + (run.end - run.begin - 1), 1);
      }
    }
  }

  /// The results of a run by the definition, where those of their tile and vector of channels, before the activation,
  /// are not all finite: what else is in the run leaves no trace.
  void redo(const Task& t, const Run& run, kernels::WinogradOutputArguments<T> one, int64_t first_channel,
            int64_t channels) const {
    const WinogradAxis& w = axes_.w;
    const int64_t columns = one.vectors * lanes_;
    const T* const bias = one.bias;
    one.out = t.strip;
    one.out_row = w.results * lanes_;
    one.out_pixel = lanes_;
    one.tiles = one.vectors = 1;
    for_each_even_tiles(run, [&](const EvenTiles& tiles) {
      for (int64_t i = 0; i < tiles.count; ++i) {
        const int64_t tile = tiles.first + i * tiles.next, ow = run.origin + tiles.at + i * tiles.step;
        for (int64_t first = 0; first < channels; first += lanes_) {
          one.in = t.products + tile * columns + first;
          one.bias = bias + first;
          if (transforms_.output(one)) continue;
          for (int64_t c = first; c < std::min(channels, first + lanes_); ++c) {
            if (!tile_is_finite(t, tile, c, channels))
              redo_tile(run, ow, tiles.short_of_columns, first_channel + c, t.group);
          }
        }
      }
    });
  }

  /// The results of a tile whose first column is ow.
  void redo_tile(const Run& run, int64_t ow, bool short_of_columns, int64_t k, int64_t group) const {
    const WinogradAxis &h = axes_.h, &w = axes_.w;
    for (int64_t r = run.short_of_rows; r < h.results; ++r) {
      const int64_t oh = first_row(run) + r * h.tile_phases;
      if (oh >= g_.h.out) break;
      for (int64_t s = short_of_columns; s < w.results; ++s) {
        const int64_t x = ow + s * w.tile_phases;
        if (x >= g_.w.out) break;
        const T sum = direct_sum(run.n, group, k, oh, x);
        run_.output.data[run.n * run_.output.stride(0) + k * run_.output.stride(1) + oh * run_.output.stride(2) +
                         x * run_.output.stride(3)] = epilogue_.finished(sum, run.n, k, oh, x);
      }
    }
  }

  /// Whether the products of a tile and channel are finite and small enough for the way back; what isn't finite in them
  /// shows where the input wasn't.
  bool tile_is_finite(const Task& t, int64_t tile, int64_t channel, int64_t channels) const {
    const int64_t columns = round_up(channels, lanes_);
    // Along an axis the way back multiplies by at most 11.1 in all (of three taps with stride 2).
    constexpr T largest_sum = 128;
    T zero = 0;
    const int64_t element = odd_lines<T>(t.tiles * columns);
    for (int64_t e = 0; e < elements_; ++e) {
      zero += t.products[e * element + tile * columns + channel] * largest_sum * T(0);
    }
    return zero == T(0);
  }

  T direct_sum(int64_t n, int64_t group, int64_t k, int64_t oh, int64_t ow) const {
    T sum = run_.weights.bias[group * vectors_ * lanes_ + k - group * g_.group_out_channels()];
    const T* weight = run_.weights.plain + k * g_.reduction();
    for (int64_t c = 0; c < g_.group_channels(); ++c) {
      for (int64_t i = 0; i < g_.h.kernel; ++i) {
        const int64_t y = source_index(g_.h.start(oh) + i * g_.h.dilation, g_.h.in, g_.padding_mode);
        for (int64_t j = 0; j < g_.w.kernel; ++j, ++weight) {
          const int64_t x = source_index(g_.w.start(ow) + j * g_.w.dilation, g_.w.in, g_.padding_mode);
          if (y >= 0 && x >= 0) sum += run_.input(n, group * g_.group_channels() + c, y, x) * *weight;
        }
      }
    }
    return sum;
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  const WinogradAxes axes_;
  const kernels::WinogradKernels<T>& transforms_;
  Epilogue<T> epilogue_;
  int64_t lanes_, elements_ = 0, weight_elements_ = 0, tile_columns_ = 0, tile_rows_ = 0, row_units_ = 0, vectors_ = 0;
  /// Results of the longest tile in a last row and column of tiles that are short, and what comes before these.
  int64_t short_rows_ = 0, short_columns_ = 0, full_rows_ = 0, full_units_ = 0;
  bool packs_parts_ = false;
  bool streams_ = false;        ///< results past the caches
  bool cuts_at_lines_ = false;  ///< runs of tiles, where they begin with cache lines of a plane's row
  bool fetches_results_ = false;
  int64_t part_pitch_ = 0, channel_pitch_ = 0, transformed_pitch_ = 0, block_tiles_ = 0, strip_units_ = 1,
          stage_units_ = 1;
  TileShape shape_{};
  EvenSplit blocks_{1, 1};
  EvenSplit steps_{1, 1}, channel_split_{1, 1};  ///< of vectors of output channels, and those for each task
  int64_t channels_at_once_ = 0;
  Elements element_runs_[most_elements_of_a_tile]{};
  int64_t element_run_count_ = 0;
  bool packs_ = false;    ///< weights, right before they are used: no other block of tiles wants them
  bool fetches_ = false;  ///< weights, while others are used
  const T* weights_ = nullptr;
  Workspace packed_;
};

}  // namespace

template <class T>
void run_winograd(const Conv2dRun<T>& run, WeightForm form) {
  Winograd<T>{run, form}();
}

template void run_winograd(const Conv2dRun<float>&, WeightForm);
template void run_winograd(const Conv2dRun<double>&, WeightForm);

}  // namespace convpool
