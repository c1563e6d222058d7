// Which algorithm a case gets, and why: the one place that weighs them.

#include "conv2d_choice.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "block_sizes.hpp"
#include "conv2d_weights.hpp"
#include "dense_planes.hpp"
#include "direct_tasks.hpp"
#include "tiling.hpp"
#include "transposed_planes.hpp"
#include "winograd_axes.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

/// The depthwise algorithm reads an input channel again for each output channel of its group.
constexpr int64_t most_depthwise_channels = 16;

/// Costs are in vector FMAs for each one that the arithmetic needs; 1 is the peak.
struct Cost {
  double channels_in_vectors, pixels_in_vectors, patches, winograd, winograd_rows;
};

constexpr double never = 1e30;

double waste(int64_t used, int64_t lanes) {
  return static_cast<double>(round_up(used, lanes)) / static_cast<double>(used);
}

/// The part of an axis' taps that doesn't fall into zero padding.
double used_taps(const Conv2dGeometry& g, const Axis& axis) {
  if (g.padding_mode != PaddingMode::zeros || !axis.padded()) return 1;
  constexpr int64_t most_samples = 256;
  const int64_t samples = std::min(axis.kernel, most_samples);
  double used = 0;
  for (int64_t s = 0; s < samples; ++s) {
    const Range inside = axis.outputs_inside(samples == axis.kernel ? s : axis.kernel / samples * s);
    used += static_cast<double>(std::max<int64_t>(0, inside.end - inside.begin));
  }
  return used / static_cast<double>(samples) / static_cast<double>(axis.out);
}

/// Whether Winograd's algorithm could take the rows alone as well.
bool transforms_both_axes(const Conv2dGeometry& g) {
  const WinogradAxes axes(g);
  return axes.h.transformed() && axes.w.transformed();
}

/// Sizes that don't depend on this machine's caches, which leave no trace in the bits: most of a last cache of 32 MB,
/// and an L2 cache of 1 MB, from which what was fetched for Winograd's next product is gone again.
constexpr double last_cache = 26 << 20, l2_cache = 1 << 20;

/// Products, with the waste of the last tiles, and the transforms: operations for a tile of 36 or 6 elements and vector
/// of channels in two dimensions and in one, each way. They were fitted on Zen 5 with many registers (1400 layers of 4
/// to 256 channels, 7x7 to 224x224; vectors of 16 channels wait for the caches as much as for arithmetic) and on Zen 3
/// with few, and the way in again on Emerald Rapids with both (180 layers of 3 to 768 channels, strides 1 to 3: what is
/// chosen takes 1.01 to 1.02 times as long as the better one; 1.02 to 1.04 before). Weights come from the L2 cache, the
/// last one and memory at so many operations a vector, for as many products as there are tiles; where a product's
/// weights exceed the L2 cache, and all of them half of the last one, they come before it instead of beside it (many
/// registers).
template <class T>
double winograd_cost(const Conv2dGeometry& g, const kernels::Table<T>& kernels, bool in_channels_last,
                     WeightsAre weights, WeightForm form) {
  const WinogradAxes axes(g, form);
  const int64_t lanes = kernels.lanes, kg = g.group_out_channels(), cg = g.group_channels();
  const int64_t tiles_in_plane = axes.h.tiles(g.h.out) * axes.w.tiles(g.w.out);
  const double tiles = static_cast<double>(g.batch * tiles_in_plane);
  const double tile_results = static_cast<double>(axes.h.results * axes.w.results);
  const double tile_waste = tile_results * static_cast<double>(tiles_in_plane) / static_cast<double>(g.out_pixels());
  const TileShape tile = choose_tile(kernels, std::min<int64_t>(g.batch * tiles_in_plane, 64), ceil_div(kg, lanes));
  const double taps = static_cast<double>(g.taps());
  const bool in_two_dimensions = axes.h.transformed() && axes.w.transformed();
  const bool few = has_few_registers(kernels);
  const double of_six_points = static_cast<double>(axes.elements()) / (in_two_dimensions ? 36 : 6);
  // The tiles of a group stay near, what short ones leave out saves them nothing, and they wait for weights from beyond
  // the L2 cache for a third of their way (109 layers of several groups of 4 to 64 channels, both layouts: what is
  // chosen takes 1.012 times as long as the best, Emerald Rapids).
  const bool near = !few && g.groups > 1;
  const auto points = [&](const WinogradAxis& axis, int64_t outputs) {
    return static_cast<double>(near ? axis.tiles(outputs) * axis.points : axis.points_of_tiles(outputs));
  };
  const double products = static_cast<double>(axes.parts()) * points(axes.h, g.h.out) * points(axes.w, g.w.out) /
                          static_cast<double>(g.out_pixels());
  const double square_in = few ? 500 : near ? 600 : 900, square_back = few ? 600 : near ? 350 : 480;
  const double way_in = of_six_points * (in_two_dimensions ? square_in : few ? 60 : 105) / (tile_results * taps);
  const double way_back = of_six_points * (in_two_dimensions ? square_back : few ? 60 : 75) / (tile_results * taps);
  // The parts of few channels cost more, most where they aren't phases alone or rows are short, as along one axis (70
  // layers of 2 to 12 channels, Emerald Rapids).
  const bool packed_parts = axes.packs_parts(g, lanes);
  const int64_t vectors = packed_parts ? ceil_div(axes.parts() * cg, lanes) : axes.parts() * ceil_div(cg, lanes);
  const bool phases = axes.parts_are_phases() && in_two_dimensions;
  const double gathering = !packed_parts ? 1 : phases ? (few ? 1 : 1.3) : few ? 1.5 : 1.8;
  // Few outputs wait for the way in, and several parts for the transposition of planes (3x3 and 5x5 of 16 and 64
  // channels to 1 to 6; not 7x7 of 128; Zen 3).
  constexpr int64_t waiting_channels = 64;
  const bool waits = few && kg < lanes && (axes.parts() == 1 || (!in_channels_last && cg <= waiting_channels));
  const double input =
      (waits ? 2 : 1) * way_in * gathering * static_cast<double>(vectors * lanes) / static_cast<double>(cg * kg);
  const double output = way_back / static_cast<double>(cg) * waste(kg, lanes);
  // Each copied row takes about 90 cycles to begin, which short ones show; where none is copied, each piece of one 15.
  const double gathered_rows = packed_parts && !few ? static_cast<double>(axes.h.tiles(g.h.out) * axes.h.points) *
                                                          static_cast<double>(axes.parts() * cg)
                                                    : 0;
  const double rows = (phases ? 30 : 180) * static_cast<double>(lanes) * gathered_rows /
                      (static_cast<double>(g.out_pixels()) * static_cast<double>(kg * cg) * taps);
  const double packed = static_cast<double>(axes.weights() * axes.parts());
  const double weights_of_a_product = static_cast<double>(axes.weights()) / static_cast<double>(axes.elements());
  const double bytes = packed * sizeof(T) * static_cast<double>(cg * g.out_channels);
  const double panel = static_cast<double>(axes.parts() * cg) * static_cast<double>(tile.vectors * lanes) * sizeof(T);
  const double from_afar = bytes <= l2_cache ? 5 : bytes <= last_cache ? (few ? 6 : 12) : few ? 8 : 20;
  const bool waits_for_weights = !few && panel > l2_cache && bytes > last_cache / 2;
  const double arrival = from_afar * weights_of_a_product / tiles;
  const double waiting = waits_for_weights ? arrival : near && bytes > l2_cache ? 0.35 * arrival : 0;
  const double product = std::max(tile_cost(tile) + waiting, arrival);
  // Each group begins anew (the same layers).
  constexpr double group_begins = 6000;
  const double begins = few || g.groups == 1
                            ? 0
                            : group_begins * static_cast<double>(lanes) /
                                  (static_cast<double>(g.out_pixels()) * static_cast<double>(kg * cg) * taps);
  double cost = products / taps * waste(kg, lanes) * product + tile_waste * (input + output) + rows + begins;
  if (weights == WeightsAre::packed_each_call) {
    // Measured, in four FMAs for each vector; what leaves the last cache costs about three times as much, rows alone
    // four times (64 to 384 channels on 7x7), and memory that isn't kept comes in fresh pages (2048 to 256 channels
    // dilated by 12 on 33x33, 75 MB: 32 of 55 ms).
    const double pixels = static_cast<double>(g.batch) * static_cast<double>(g.out_pixels());
    const bool where_used = packed_where_used(g) && (axes.parts() == 1 || static_cast<double>(axes.weights()) * panel <=
                                                                              most_packed_part_bytes);
    const double small = form == WeightForm::winograd_rows ? 6 : 1.5;
    const double vector = bytes < 16e6 || where_used ? small : bytes <= most_kept_scratch ? std::max(small, 4.7) : 66;
    cost += vector * packed / (4 * taps) * static_cast<double>(lanes) / pixels;
  }
  return cost;
}

/// Whether pixels in the vectors may serve a channels-last result, which is transposed then: where vectors of channels
/// would be at least half empty, and rows of the input are transposed whole.
bool pixels_serve_channels_last(const Conv2dGeometry& g, int64_t lanes) {
  return 2 * g.group_out_channels() <= lanes && g.w.stride == 1 &&
         (g.padding_mode == PaddingMode::zeros || !g.w.padded());
}

template <class T>
Cost estimate(const Conv2dGeometry& g, const kernels::Table<T>& kernels, bool in_channels_last, bool out_channels_last,
              WeightsAre weights) {
  const int64_t lanes = kernels.lanes;
  const int64_t kg = g.group_out_channels();
  // A 1x1 reads the map as one row, see direct_tasks.hpp.
  const bool one_row = is_plain_product(g);
  const int64_t row = one_row ? g.out_pixels() : g.w.out;
  const double reduction = static_cast<double>(g.reduction());
  const double pixels = static_cast<double>(g.batch) * static_cast<double>(g.out_pixels());
  const TileShape channel_tile = choose_tile(kernels, row, ceil_div(kg, lanes));
  const TileShape pixel_tile = choose_tile(kernels, kg, ceil_div(row, lanes));
  const TileShape patch_tile = choose_tile(kernels, kg, ceil_div(g.out_pixels(), lanes));
  Cost cost{};
  // A transposed store takes about 12 vector operations for each vector of results.
  const double store = out_channels_last ? 2 : 12;
  const bool cuts_rows = g.w.dilation >= kernels.tile_rows[channel_tile.vectors] / 2;  // see direct_channels.cpp
  // Short pieces of rows, whose pixels lie in planes far apart (2048 channels of 33x33 dilated by 12, Zen 3).
  const double short_pieces = cuts_rows ? 1.15 : 1;
  cost.channels_in_vectors =
      waste(kg, lanes) * tile_cost(channel_tile) *
      (used_taps(g, g.h) * (cuts_rows ? used_taps(g, g.w) : 1) * short_pieces + store / reduction);
  // Planes are copied pixel by pixel, or read so: with few registers that takes 1.5 vector FMAs for each element. This
  // and what else is for strided layers of few registers was fitted to 66 layers 3x3 with stride 2, of 12 to 128
  // channels to 16 to 128 on 28x28 to 320x320, and 99 others of 1 to 24 channels to 8 to 96, 3x3 to 7x7 with strides 1
  // to 4, planes of one group (what is chosen takes 1.01 and 1.03 times as long as the best; 1.11 and 1.05 before; Zen
  // 3).
  const bool low = has_few_registers(kernels), strided = g.h.stride > 1 || g.w.stride > 1;
  const bool planes_of_one_group = g.groups == 1 && !in_channels_last;
  const bool fitted_strides = low && strided && g.taps() > 1 && planes_of_one_group;
  if (!in_channels_last && (takes_rows_of_taps(g) || fitted_strides)) {
    const double in =
        static_cast<double>(g.batch * g.channels) * static_cast<double>(g.h.in) * static_cast<double>(g.w.in);
    cost.channels_in_vectors += (low && g.groups == 1 ? 1.5 : 0.25) * static_cast<double>(lanes) * in /
                                (pixels * static_cast<double>(g.out_channels) * reduction);
  }
  if (weights == WeightsAre::packed_each_call) {
    cost.channels_in_vectors += (packed_where_used(g) ? 0.6 : 2.0) * static_cast<double>(lanes) / pixels;
  }
  // A segment of a tile takes about 8 FMAs' time to begin; a panel is packed instead, once for all output channels. Of
  // listed steps there is one, which a tile waits for as for 5 more of them (98 layers of 1 to 16 channels to 8 to 96,
  // 3x3 to 7x7 with strides 1 to 4, on 28x28 to 416x416: what is chosen takes 1.01 times as long as the best, Zen 3).
  const double steps = takes_rows_of_taps(g) ? static_cast<double>(ceil_div(g.w.kernel, g.w.stride))
                                             : static_cast<double>(std::min(reduction_block, g.group_channels()));
  const bool lists = lists_steps(g, kernels);
  const double segments = one_row ? 0
                          : lists ? 5 / reduction
                          : packs_panels(g, kernels)
                              ? 1.5 / static_cast<double>(kg)
                              : 8 / (steps * static_cast<double>(pixel_tile.rows * pixel_tile.vectors));
  // Copied rows, used by every output channel and tap: about 4 operations a vector; taken apart by a stride 6, and
  // element by element 28, as those above 2 once all went; by 4, in vectors, 10 where that was measured. The other
  // orientation copies such rows, too, but for those of a 1x1 (70 layers of 1 to 28 output channels, Zen 5).
  const double operations = g.w.stride == 1                     ? 4
                            : fitted_strides && g.w.stride == 4 ? 10
                            : g.w.stride > 2                    ? 28
                            : low                               ? 6
                            : g.taps() == 1                     ? 22
                                                                : 4;
  const double copied =
      one_row ? 0 : operations * static_cast<double>(g.w.stride) / static_cast<double>(kg * g.w.kernel);
  cost.pixels_in_vectors = waste(row, lanes) * tile_cost(pixel_tile) * (used_taps(g, g.h) + copied + segments);
  // Rows of many planes wait for the caches.
  constexpr int64_t many_planes = 8;
  if (g.channels >= many_planes && planes_of_one_group && (lists || fitted_strides)) {
    cost.pixels_in_vectors += lists && g.channels < 2 * many_planes ? 0.1 : 0.2;
  }
  // Low tiles write runs of one plane after the other: beyond the caches that costs about 1.5 cycles a vector more than
  // a transposition, whose runs are longer (3x3 of 3 channels on 128x128 to 640x640, Zen 3); from a third of that size
  // on where rows are taken apart by a stride besides. Of one image, so that its bits don't depend on the batch.
  const int64_t image_bytes = size_product(g.out_channels, g.out_pixels(), sizeof(T));
  constexpr int64_t beyond_caches = 12 << 20;
  const int64_t large = g.w.stride > 1 ? beyond_caches / 3 : beyond_caches;
  if (low && !one_row && !lists && image_bytes >= large) {
    cost.pixels_in_vectors += 3 / reduction;
  }
  // Pixels come from planes far apart, packed for many output channels or in place (1x1, 24 to 1024 channels, Zen 3);
  // but what is fetched ahead costs the other orientation as much. Packed ones half of it, after Emerald Rapids, where
  // 1x1 of 256 to 768 channels on 14x14 to 28x28 are 1.06 to 1.2 times as fast so. No bits depend on what takes a 1x1.
  if (low && one_row && !fetches_pixels_ahead(g, kernels, pixel_tile.rows)) {
    cost.pixels_in_vectors += packs_panels(g, kernels) ? 0.015 : 0.03;
  }
  // The other orientation reads a few pixels of each plane for every set of output channels (1x1 on 33x33, 2048 to 256
  // channels 1.65 times as long, 1280 to 256 1.3 times, Emerald Rapids).
  if (!low && one_row && !in_channels_last && packs_panels(g, kernels)) {
    cost.channels_in_vectors += 0.06;
  }
  // Into rows of pixels, as layers of 1 to 3 output channels were measured; and back, at about 7 cycles a vector.
  if (in_channels_last)
    cost.pixels_in_vectors +=
        (low ? 10.0 : 20.0) * static_cast<double>(g.h.stride) / static_cast<double>(kg * g.taps());
  if (out_channels_last) {
    cost.pixels_in_vectors += pixels_serve_channels_last(g, lanes) ? 7.0 * waste(kg, lanes) / reduction : never;
  }
  // Patches are packed once for each tap, in pieces no longer than a row of the output.
  const double piece = std::max(1.0, static_cast<double>(lanes) / static_cast<double>(g.w.out));
  // Strided ones element by element (Zen 5: 7x1 with stride 2 of 96 channels to 2 took 37 times the products' time).
  const double gather = g.w.stride == 1 ? 12 : std::max(12.0, 4.4 * static_cast<double>(lanes));
  cost.patches = waste(g.out_pixels(), lanes) * tile_cost(patch_tile) * (1 + gather * piece / static_cast<double>(kg)) +
                 40 / reduction;
  cost.winograd = winograd_cost(g, kernels, in_channels_last, weights, WeightForm::winograd);
  cost.winograd_rows = never;
  if (transforms_both_axes(g)) {
    cost.winograd_rows = winograd_cost(g, kernels, in_channels_last, weights, WeightForm::winograd_rows);
    if (fitted_strides) {
      // Both were found too cheap: rows alone by .1 to .4 for the layers with stride 2 above, squares by what weights
      // cost where tiles are few, most from memory (512 channels on 14x14 2583 us, along rows alone 2214; 384 on 16x16
      // 1480 and 1461, with two threads 641 and 963).
      const WinogradAxes axes(g, WeightForm::winograd);
      const double bytes = static_cast<double>(
          size_product(axes.weights(), axes.parts(), g.group_channels(), g.out_channels, sizeof(T)));
      const int64_t tiles = g.batch * axes.h.tiles(g.h.out) * axes.w.tiles(g.w.out);
      cost.winograd_rows += 0.1;
      cost.winograd += (bytes > last_cache ? 2.0 : 0.8) / static_cast<double>(tiles);
    }
  }
  return cost;
}

/// What the direct algorithm takes for as many planes of results as a vector has lanes, with groups of few channels:
/// its tiles are small then, and each row is listed and copied for few planes.
template <class T>
double direct_group_cycles(const Conv2dGeometry& g, const Cost& cost, const kernels::Table<T>& kernels,
                           bool out_channels_last) {
  const int64_t lanes = kernels.lanes;
  const double taps = static_cast<double>(g.reduction()), pixels = static_cast<double>(g.out_pixels());
  if (out_channels_last) return pixels * (1.25 * cost.channels_in_vectors * taps + 16);
  const double groups = static_cast<double>(lanes) / static_cast<double>(g.group_out_channels());
  // Groups of 2 to 8 channels, 3x3 and 5x5, planes 14 to 112 wide (Zen 3).
  if (has_few_registers(kernels) && g.taps() > 1 && g.h.stride == 1 && g.w.stride == 1) {
    return pixels * (1.05 * waste(g.w.out, lanes) * taps + 4) + static_cast<double>(g.h.out) * groups * 250;
  }
  // A 1x1 of planes is one row, in tasks of many pixels (groups of 2 to 4 channels on 28x28 and 56x56 1.2 to 2.2 times
  // as fast as depthwise, on 7x7 and 14x14 .81 to .85, Zen 3).
  if (is_plain_product(g) && has_few_registers(kernels)) {
    return pixels * (std::min(cost.channels_in_vectors, cost.pixels_in_vectors) * taps + 5) + groups * 700;
  }
  const double row = g.taps() == 1 && g.w.stride == 1 ? 0 : 200 + 400 * static_cast<double>(g.w.stride - 1);
  return pixels * (std::min(cost.channels_in_vectors, cost.pixels_in_vectors) * taps + 16) +
         static_cast<double>(g.h.out) * groups * row;
}

Conv2dChoice make(Algorithm algorithm, bool channels_in_vectors, const char* reason) noexcept {
  WeightForm form = WeightForm::plain;
  if (channels_in_vectors) {
    form = algorithm == Algorithm::depthwise ? WeightForm::depthwise_channels : WeightForm::channel_vectors;
  }
  return {algorithm, form, channels_in_vectors, reason};
}

Conv2dChoice make_winograd(WeightForm form, const char* reason) noexcept {
  return {Algorithm::winograd, form, false, reason};
}

/// Whether sums can run along the channels in vectors, to so few output channels that it pays: for channels-last pixels
/// and a 1x1 kernel.
template <class T>
bool sums_along_channels(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                         int64_t lanes) {
  return g.taps() == 1 && g.groups == 1 && !g.h.padded() && !g.w.padded() && 2 * g.out_channels <= lanes &&
         g.channels >= lanes && channels_last(input) && (channels_last(output) || g.out_channels == 1) &&
         output.stride(3) == g.out_channels;
}

/// The direct algorithm with such sums.
Conv2dChoice make_sums(const char* reason) noexcept {
  return {Algorithm::direct, WeightForm::plain_sums, true, reason};
}

/// Whether the figures below are those of Zen 5, on which an FMA takes half a cycle: of one channel to one, with
/// kernels 1 to 13 at strides 1 and 2 on planes 7 to 112 wide.
template <class T>
bool measured_on_zen_5(const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  return !has_few_registers(kernels) && g.group_channels() == 1 && g.group_out_channels() == 1;
}

// Cycles of the depthwise algorithm for as many planes of results as a vector has lanes. Measured on Zen 4, where a
// vector FMA takes one: kernels 1 to 11 at strides 1 to 3 on planes 4 to 56 wide, groups of 1 to 16 channels; with few
// registers on Zen 3: one channel to one, kernels 3 to 9, planes 7 to 224 wide.

template <class T>
double depthwise_plane_cycles(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                              const kernels::Table<T>& kernels) {
  const int64_t lanes = kernels.lanes;
  const double taps = static_cast<double>(g.reduction()), channels = static_cast<double>(g.group_channels());
  if (kernel_for_dense_planes(g, input, output, kernels) != nullptr) {
    const double vectors = static_cast<double>(ceil_div(size_product(g.h.out, g.w.in), lanes));
    return static_cast<double>(lanes) *
           (20 + vectors * (measured_on_zen_5(g, kernels) ? 0.5 * taps + 4 : 1.1 * taps + 3));
  }
  const int64_t phases =
      std::clamp<int64_t>(g.h.dilation / std::gcd(g.h.stride, g.h.dilation), 1, std::max<int64_t>(1, g.h.out));
  const int64_t rows = ceil_div(g.h.out, phases);
  const bool shares_rows = g.h.stride <= 2 && g.h.stride == g.w.stride;
  double row = 3 * taps + 60 * channels;                  // one at a time, as short planes go
  const bool together = g.group_out_channels() % 4 == 0;  // outputs of a group
  if (rows >= 7 && shares_rows) {
    row = g.h.stride == 1 ? taps + channels + 3 : together ? 1.1 * taps + 2 * channels : 1.5 * taps + 4 * channels + 5;
  }
  if (has_few_registers(kernels) && shares_rows && rows >= 7 && g.group_channels() == 1) {
    row = g.h.stride == 1 ? 1.1 * taps + 4 : 1.9 * taps + 9;
    // Wide planes of tall kernels go in tiles of two vectors.
    if (g.h.stride == 1 && g.h.kernel >= 7 && g.w.out > 40) row *= 0.7;
  }
  // One output at a time, which loads what it reads for itself (groups of 2 to 8 channels, 3x3 and 5x5).
  if (has_few_registers(kernels) && shares_rows && rows >= 7 && g.h.stride == 1 && g.group_channels() > 1) {
    row = taps + channels * 10 / 3 * static_cast<double>(std::min<int64_t>(3, g.w.kernel));
  }
  if (g.h.kernel <= 2) row = shares_rows && g.h.stride == 1 ? 3.3 * taps + 4 : 11 * taps;
  // Measured with AVX2: 1x3 to 1x21 on 14 to 64 columns, 1x1 to 3x3 with a column stride of 2 (Zen 3).
  if (has_few_registers(kernels) && g.w.stride <= 2 &&
      kernels.depthwise_planes->by_rows(g.h.kernel, g.w.kernel, g.h.stride, g.w.stride)) {
    row = g.w.stride == 1 ? 1.3 * taps + 4 : (g.w.dilation == 1 ? 2 : 3.7) * taps + 9;
  }
  if (measured_on_zen_5(g, kernels) && shares_rows && rows >= 7) {
    row = g.h.stride == 1 ? (g.h.kernel <= 2 ? 1.3 : 0.5) * taps + 6 : (g.h.kernel <= 2 ? 3 : 1) * taps + 10;
  }
  if (g.w.stride > 2) row = 4 * taps + 150 * channels;  // taken apart first
  const int64_t computed = shares_rows && rows >= 7 ? round_up(rows, 7) : rows;
  return row * static_cast<double>(lanes) * static_cast<double>(computed * phases) *
         static_cast<double>(ceil_div(g.w.out, lanes));
}

template <class T>
double depthwise_channels_cycles(const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  const double taps = static_cast<double>(g.reduction()) * used_taps(g, g.h) * used_taps(g, g.w);
  const double pixels = static_cast<double>(g.out_pixels());
  const bool shares_pixels = g.w.stride == 1 && g.w.dilation == 1 && g.w.kernel > 2;
  double tap = 1;
  if (rotates_groups(g)) {
    tap = shares_pixels ? 1.2 : 1.7;
  } else if (g.group_out_channels() > 1) {  // permuted, for each tap anew where pixels aren't shared between taps
    tap = g.w.kernel == 1 ? 7 : shares_pixels ? 1.45 : 4.5;
  }
  // Where there are 16 registers pixels serve one row of results at a time. Measured with AVX2: 3x3 to 13x13.
  const bool shares_in_tiles = g.group_out_channels() == 1 && g.w.kernel > 2 && g.w.dilation == 1 && g.w.stride <= 2 &&
                               g.w.out >= kernels::depthwise_tile_pixels;
  const bool in_turn = shares_in_tiles && kernels.depthwise_channels->has_channels_in_turn;
  if (has_few_registers(kernels)) {
    tap *= in_turn                              ? 0.7 * waste(g.w.out, kernels::depthwise_tile_pixels)
           : rotates_groups(g) && shares_pixels ? 1.75
                                                : 1.45;
  } else if (shares_in_tiles && measured_on_zen_5(g, kernels)) {
    tap = 0.5;
  }
  // Narrower rows are taken pixel by pixel.
  if (g.w.out < kernels::depthwise_tile_pixels)
    return waste(g.out_channels, kernels.lanes) * pixels * (30 + 1.7 * tap * taps);
  return waste(g.out_channels, kernels.lanes) * pixels * tap * taps;
}

/// The way into vectors of channels and back takes about 10 cycles a vector, on Zen 5 6.5; of few lanes 6, and back 9.
template <class T>
double transposition_cycles(const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  const bool few = has_few_registers(kernels);
  const double in = static_cast<double>(g.h.in) * static_cast<double>(g.w.in),
               out = static_cast<double>(g.out_pixels());
  const double many = measured_on_zen_5(g, kernels) ? 6.5 : 10;
  return waste(g.out_channels, kernels.lanes) * ((few ? 6 : many) * in + (few ? 9 : many) * out);
}

/// Padding or gaps so wide that copied rows would be many times the image.
bool mostly_padding(const Axis& axis) {
  return (axis.pad_begin + axis.pad_end - 64) / 4 > axis.in || axis.stride - 64 > axis.in;
}

/// Of the fewest rows that can be taken together: most of an L2 cache of 512 KB.
constexpr int64_t most_transposed_bytes = 384 << 10;

/// Small planes are transposed, a vector of channels at a time, where they fill vectors of pixels badly.
template <class T>
bool transposes_planes(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                       const kernels::Table<T>& kernels) {
  return rows_contiguous(input) && rows_contiguous(output) && pixels_contiguous(input) && pixels_contiguous(output) &&
         (g.padding_mode == PaddingMode::zeros || (!g.h.padded() && !g.w.padded())) && !mostly_padding(g.h) &&
         !mostly_padding(g.w) &&
         depthwise_channels_cycles(g, kernels) + transposition_cycles(g, kernels) <
             0.9 * depthwise_plane_cycles(g, input, output, kernels) &&
         transposed_bytes(g, least_transposed_results(g), kernels.lanes, kernels.lanes, sizeof(T)) <=
             most_transposed_bytes;
}

/// Channels in the vectors want channels-last arrays or small planes, vectors that hold whole groups, and those at
/// least half full.
template <class T>
bool depthwise_by_channels(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                           const kernels::Table<T>& kernels) {
  const int64_t kg = g.group_out_channels();
  return (kg == 1 || (kg < kernels.lanes && kernels.lanes % kg == 0)) && g.group_channels() <= kg &&
         waste(g.out_channels, kernels.lanes) <= 2 &&
         ((channels_last(output) && channels_last(input)) || transposes_planes(g, input, output, kernels));
}

/// Half of an L2 cache of 512 KB.
constexpr int64_t most_interleaved_weights = 256 << 10;
/// Where long runs of elements pay although a 1x1 shares nothing (96x112x112 1.35 to 1.86 times as fast, 64x56x56
/// level, 512x14x14 .87; Zen 3).
constexpr int64_t large_pointwise_result = 1 << 20;

/// Few channels of contiguous rows of pixels, which would leave vectors of channels half empty; and kernels of one
/// column, since what is loaded then serves several rows of results, where there are enough of them for a tile (3x1 to
/// 21x1 of 12 to 1024 channels 1.1 to 4.6 times as fast as pixel by pixel, 256 channels on 5 rows .28; Zen 3). Weights
/// are packed for as many vectors as it takes until channels come back, which the L2 cache should hold.
template <class T>
bool depthwise_interleaved(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                           const kernels::Table<T>& kernels) {
  const auto contiguous = [&](const auto& view) { return channels_last(view) && view.stride(3) == g.channels; };
  const bool few = g.channels < kernels.lanes && waste(g.channels, kernels.lanes) > 1.3;
  const bool large = size_product(g.out_pixels(), g.channels, sizeof(T)) >= large_pointwise_result;
  const bool shares = g.h.kernel > g.h.stride || (g.h.kernel == 1 && large);
  const bool column = g.w.kernel == 1 && shares && g.h.out >= kernels::interleaved_tile_rows &&
                      size_product(interleaved_phases(g, kernels.lanes), kernels.lanes, g.h.kernel + 1, sizeof(T)) <=
                          most_interleaved_weights;
  return g.group_channels() == 1 && g.group_out_channels() == 1 && g.w.stride == 1 && (few || column) &&
         !mostly_padding(g.w) && contiguous(input) && contiguous(output);
}

/// The depthwise algorithm, whichever way suits the arrays.
template <class T>
Conv2dChoice make_depthwise(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                            const kernels::Table<T>& kernels, const char* reason) {
  if (depthwise_interleaved(g, input, output, kernels)) {
    return {Algorithm::depthwise, WeightForm::depthwise_interleaved, false, reason};
  }
  return make(Algorithm::depthwise, depthwise_by_channels(g, input, output, kernels), reason);
}

/// Whether several outputs of a single channel are taken one by one: that copies no rows and packs nothing. Measured
/// with 16 registers, 4 to 64 outputs, 28x28 to 250x250, 3x3 and 5x5 (Zen 3): in NCHW 1.1 to 1.8 times as fast as where
/// rows are packed; where their steps are listed, 1.02 to 1.75 times up to so many products of an image, from there on
/// .6 to 1.02 times; in NHWC 1.0 to 3.8 times up to 8 outputs, or so few results that the caches hold them.
template <class T>
bool outputs_one_by_one(const Conv2dGeometry& g, const kernels::Table<T>& kernels, bool out_channels_last) {
  const bool alike = g.h.stride == g.w.stride && g.h.stride <= 2 && g.h.dilation == 1 && g.w.dilation == 1;
  const bool pads_zeros = g.padding_mode == PaddingMode::zeros || (!g.h.padded() && !g.w.padded());
  if (!has_few_registers(kernels) || g.channels != 1 || !alike || !pads_zeros) return false;
  constexpr int64_t few_outputs = 8, most_cached_bytes = 128 << 10;
  const auto [smallest, largest] = std::minmax(g.h.kernel, g.w.kernel);
  if (smallest < 3) return false;
  if (out_channels_last) {
    return largest <= 7 && (g.out_channels <= few_outputs ||
                            size_product(g.out_channels, g.h.out, g.w.out, sizeof(T)) <= most_cached_bytes);
  }
  // Rows that share sets of the caches are copied, other kernels have no tiles of their own.
  if (smallest != largest || size_product(g.w.in, sizeof(T)) % kernels::crowded_row_bytes == 0) return false;
  const bool few = g.out_channels <= few_outputs, strided = g.h.stride > 1;
  if (largest > (strided ? 3 : 5)) return false;
  if (!lists_steps(g, kernels)) return few || !strided;
  const double most_products = !strided ? 2.2e6 : few ? 0.5e6 : 0.13e6;
  return g.multiply_adds() / static_cast<double>(g.batch) <= most_products;
}

template <class T>
Conv2dChoice choose_automatically(const Conv2dGeometry& g, const TensorView<const T>& input,
                                  const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights) {
  const bool out_channels_last = channels_last(output);
  if (mostly_padding(g.h) || mostly_padding(g.w)) {
    return make(Algorithm::implicit_gemm, out_channels_last, "the padding is much wider than the image");
  }
  if (g.group_channels() == 1 && (g.groups > 1 || g.out_channels < 4)) {
    return make_depthwise(g, input, output, kernels, "one input channel for each output channel");
  }
  if (outputs_one_by_one(g, kernels, out_channels_last)) {
    return make_depthwise(g, input, output, kernels, "one input channel for all output channels");
  }
  const Cost cost = estimate(g, kernels, channels_last(input), out_channels_last, weights);
  const double winograd = can_do(Algorithm::winograd, g) ? std::min(cost.winograd, cost.winograd_rows) : never;
  // Of a few results even direct sums take longer than they should, but Winograd's more so (5x5 with stride 2 on 7x7).
  constexpr int64_t few_results = 32;
  // On Emerald Rapids strided layers took up to 1.25 times what was fitted on Zen 5 and Zen 3; with few registers
  // strides of 4 do (7x7 and 8x8 of 3 to 32 channels, Zen 3), and others of one group of planes don't, but for those
  // whose steps are listed (the layers of estimate()).
  const bool low = has_few_registers(kernels), strided = g.h.stride > 1 || g.w.stride > 1;
  const bool large_stride = std::max(g.h.stride, g.w.stride) >= 4;
  const bool lists = lists_steps(g, kernels);
  const bool planes_of_one_group = g.groups == 1 && !channels_last(input);
  const double margin = g.batch * g.out_pixels() < few_results     ? 0.8
                        : low && large_stride                      ? 0.76
                        : lists && planes_of_one_group             ? 0.85
                        : low && (!strided || planes_of_one_group) ? 0.95
                        : strided                                  ? 0.9
                                                                   : 1;
  double best_other = std::min(cost.channels_in_vectors, cost.pixels_in_vectors);
  if (!out_channels_last) best_other = std::min(best_other, cost.patches);
  const bool winograd_pays = winograd < margin * best_other;
  if (can_do(Algorithm::depthwise, g) && g.groups > 1 && g.group_out_channels() < kernels.lanes) {
    const bool by_channels = depthwise_by_channels(g, input, output, kernels);
    double cycles =
        by_channels ? depthwise_channels_cycles(g, kernels) : depthwise_plane_cycles(g, input, output, kernels);
    if (by_channels && !out_channels_last) cycles += transposition_cycles(g, kernels);
    double others = direct_group_cycles(g, cost, kernels, out_channels_last);
    if (winograd_pays) {
      const double products = static_cast<double>(g.reduction()) * static_cast<double>(g.out_pixels());
      others = std::min(others, winograd * products);
    }
    if ((by_channels || !out_channels_last) && cycles < others) {
      return make(Algorithm::depthwise, by_channels, "groups of few channels");
    }
  }
  if (winograd_pays) {
    if (cost.winograd_rows < cost.winograd) {
      return make_winograd(WeightForm::winograd_rows,
                           "a kernel of several taps, and results too few to pay for transforming both axes");
    }
    return make_winograd(WeightForm::winograd,
                         "a kernel of several taps, with channels enough to pay for the transforms");
  }
  if (sums_along_channels(g, input, output, kernels.lanes)) return make_sums("few output channels of one tap");
  if (out_channels_last && cost.channels_in_vectors <= cost.pixels_in_vectors) {
    return make(Algorithm::direct, true, "the output's channels are contiguous");
  }
  if (!out_channels_last && cost.patches < 0.9 * std::min(cost.channels_in_vectors, cost.pixels_in_vectors)) {
    return make(Algorithm::implicit_gemm, false, "few pixels in a row, and weights that are used once");
  }
  if (cost.pixels_in_vectors < cost.channels_in_vectors) {
    return make(Algorithm::direct, false, "rows fill the vectors better than output channels do");
  }
  return make(Algorithm::direct, true, "output channels fill the vectors");
}

}  // namespace

bool can_do(Algorithm algorithm, const Conv2dGeometry& g) noexcept {
  switch (algorithm) {
    case Algorithm::depthwise:
      return g.group_channels() == 1 || (g.groups > 1 && g.group_channels() <= most_depthwise_channels);
    case Algorithm::winograd:
      return WinogradAxes(g).usable(g);
    default:
      return true;
  }
}

std::string why_not(Algorithm algorithm, const Conv2dGeometry& g) {
  if (can_do(algorithm, g)) return {};
  if (algorithm == Algorithm::depthwise) {
    return "it is for one input channel, or several groups of at most " + std::to_string(most_depthwise_channels) +
           " input channels each, and here groups=" + std::to_string(g.groups) +
           " share C=" + std::to_string(g.channels) + " channels; use groups=" + std::to_string(g.channels) +
           " or algorithm=\"auto\"";
  }
  return "it needs an axis whose stride or dilation is 1 (a common factor is left out where zeros pad and 8 channels, "
         "or "
         "several in each of the groups, are summed), with enough more taps than the stride to save products, and "
         "neither above " +
         std::to_string(most_winograd_step) + "; use algorithm=\"auto\"";
}

template <class T>
Conv2dChoice choose_conv2d(Algorithm algorithm, const Conv2dGeometry& g, const TensorView<const T>& input,
                           const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights) {
  if (!can_do(algorithm, g)) {
    throw std::invalid_argument("algorithm=\"" + std::string(algorithm_name(algorithm)) +
                                "\" can't do this case: " + why_not(algorithm, g));
  }
  const bool out_channels_last = channels_last(output);
  switch (algorithm) {
    case Algorithm::benchmark:
      throw std::invalid_argument(
          "algorithm=\"benchmark\" can't do this call: it times the first call for each shape and keeps what was "
          "fastest, which takes a prepared layer; use convpool.nn.Conv2d.from_weights(weight, ..., "
          "algorithm=\"benchmark\"), a Conv2dPlan in C++, or algorithm=\"auto\"");
    case Algorithm::automatic:
      return choose_automatically(g, input, output, kernels, weights);
    case Algorithm::naive:
      return make(algorithm, false, "asked for");
    case Algorithm::depthwise:
      return make_depthwise(g, input, output, kernels, "asked for");
    case Algorithm::direct: {
      // Not by what packing costs: the same choice, and bits, whatever the batch and whoever packs.
      if (sums_along_channels(g, input, output, kernels.lanes)) return make_sums("asked for");
      const Cost cost = estimate(g, kernels, channels_last(input), out_channels_last, WeightsAre::packed_once);
      return make(algorithm, cost.channels_in_vectors <= cost.pixels_in_vectors, "asked for");
    }
    case Algorithm::winograd:
      // Both axes, so that bits don't depend on the batch.
      return make_winograd(WeightForm::winograd, "asked for");
    default:
      return make(algorithm, out_channels_last, "asked for");
  }
}

template <class T>
Conv2dCandidates conv2d_candidates(const Conv2dGeometry& g, const TensorView<const T>& input,
                                   const TensorView<T>& output, const kernels::Table<T>& kernels) {
  Conv2dCandidates all;
  const auto add = [&](const Conv2dChoice& choice) {
    for (std::size_t i = 0; i < all.count; ++i) {
      const Conv2dChoice& known = all.choices[i];
      if (known.algorithm == choice.algorithm && known.form == choice.form &&
          known.channels_in_vectors == choice.channels_in_vectors)
        return;
    }
    all.choices[all.count++] = choice;
  };
  add(choose_automatically(g, input, output, kernels, WeightsAre::packed_once));
  const char* const reason = "measured";
  const bool out_channels_last = channels_last(output);
  if (!mostly_padding(g.h) && !mostly_padding(g.w)) {
    add(make(Algorithm::direct, true, reason));
    if (!out_channels_last || pixels_serve_channels_last(g, kernels.lanes)) add(make(Algorithm::direct, false, reason));
    if (can_do(Algorithm::depthwise, g)) {
      add(make_depthwise(g, input, output, kernels, reason));
    } else if (can_do(Algorithm::winograd, g) && all.choices[0].algorithm != Algorithm::winograd) {
      // One of its forms alone: the table of what was measured doesn't tell them apart.
      add(make_winograd(WeightForm::winograd, reason));
    }
  }
  add(make(Algorithm::implicit_gemm, out_channels_last, reason));
  return all;
}

template Conv2dCandidates conv2d_candidates(const Conv2dGeometry&, const TensorView<const float>&,
                                            const TensorView<float>&, const kernels::Table<float>&);
template Conv2dCandidates conv2d_candidates(const Conv2dGeometry&, const TensorView<const double>&,
                                            const TensorView<double>&, const kernels::Table<double>&);
template Conv2dChoice choose_conv2d(Algorithm, const Conv2dGeometry&, const TensorView<const float>&,
                                    const TensorView<float>&, const kernels::Table<float>&, WeightsAre);
template Conv2dChoice choose_conv2d(Algorithm, const Conv2dGeometry&, const TensorView<const double>&,
                                    const TensorView<double>&, const kernels::Table<double>&, WeightsAre);

}  // namespace convpool
