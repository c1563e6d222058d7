#pragma once

#include <algorithm>
#include <cstdint>

#include "conv2d_algorithm.hpp"
#include "geometry.hpp"
#include "tiling.hpp"

namespace convpool {

/// How Winograd's algorithm takes one axis of a convolution. In one WeightForm it depends on the kernel, the stride and
/// the dilation only, never on the image, so that transformed weights serve every input.
///
/// A transformed axis works on windows of six points, whose products with `taps` transformed weights give 7 - taps
/// results. A longer kernel is several pieces of so many taps, and a strided one is as many kernels as the stride has
/// phases: each is a *part*, and parts are nothing but more channels of the same sum. A dilated kernel is one
/// convolution for each phase of its results. An axis that isn't transformed has windows of one point, tiles of one
/// result, and a part for each tap.
struct WinogradAxis {
  std::int64_t points = 1;
  std::int64_t taps = 1, results = 1;  ///< of a part, of a tile
  std::int64_t parts = 1;
  std::int64_t stride = 1;       ///< of a transformed axis
  std::int64_t dilation = 1;     ///< pixels between slots
  std::int64_t tile_phases = 1;  ///< tiles of a unit, whose results lie so far apart and interleave
  std::int64_t tile_step = 1;    ///< pixels of the input from one unit to the next

  bool transformed() const { return points > 1; }
  /// Products for each result and pair of channels.
  double products() const { return static_cast<double>(parts * points) / static_cast<double>(results); }
  /// A window's first slot for a part; its points are `stride` slots apart.
  std::int64_t slot(std::int64_t part) const {
    if (!transformed()) return part;
    const std::int64_t phases = std::min(stride, kernel);
    return part / phases * taps * stride + part % phases;
  }
  /// The kernel's tap that a part's tap t is; past the kernel's end for none.
  std::int64_t kernel_tap(std::int64_t part, std::int64_t t) const { return slot(part) + t * stride; }
  /// Slots that a tile's windows span.
  std::int64_t slots() const { return slot(parts - 1) + stride * (points - 1) + 1; }
  /// Results of a whole unit of tiles.
  std::int64_t unit_results() const { return results * tile_phases; }
  /// Tiles along the axis; the last unit may lack some phases.
  std::int64_t tiles(std::int64_t outputs) const {
    return outputs / unit_results() * tile_phases + std::min(tile_phases, outputs % unit_results());
  }
  std::int64_t first_result(std::int64_t tile) const {
    return tile / tile_phases * unit_results() + tile % tile_phases;
  }
  /// Results of the last unit's longest tile where that is short of some, 0 where none is. Of a tile's points only the
  /// first result needs the one at 0, and only the last result that at infinity: a short tile begins one result early,
  /// does without the first, and without the last as well if it may.
  std::int64_t short_results(std::int64_t outputs) const {
    const std::int64_t longest = ceil_div(outputs % unit_results(), tile_phases);
    return transformed() && longest < results ? longest : 0;
  }
  /// The points of a short tile with so many results.
  Range short_points(std::int64_t longest) const { return {1, longest > results - 2 ? points : points - 1}; }
  /// Points of all tiles of the axis.
  std::int64_t points_of_tiles(std::int64_t outputs) const {
    const std::int64_t longest = short_results(outputs), last = tiles(outputs) % tile_phases;
    if (longest == 0) return tiles(outputs) * points;
    const std::int64_t short_tiles = last == 0 ? tile_phases : last;
    const Range used = short_points(longest);
    return (tiles(outputs) - short_tiles) * points + short_tiles * (used.end - used.begin);
  }

  std::int64_t kernel = 1;
};

/// Strides and dilations that a transformed axis, or the columns of one that isn't, can have: what lies between is
/// copied, too.
inline constexpr std::int64_t most_winograd_step = 16;

inline WinogradAxis untransformed_axis(const Axis& axis) {
  WinogradAxis plain;
  plain.kernel = plain.parts = axis.kernel;
  plain.dilation = axis.dilation;
  plain.tile_step = axis.stride;
  return plain;
}

inline WinogradAxis winograd_axis(const Axis& axis) {
  const WinogradAxis plain = untransformed_axis(axis);
  if (axis.kernel == 1 || std::min(axis.stride, axis.dilation) > 1) return plain;
  if (std::max(axis.stride, axis.dilation) > most_winograd_step) return plain;
  WinogradAxis best = plain;
  for (std::int64_t taps = 2; taps <= 4; ++taps) {
    WinogradAxis next;
    next.kernel = axis.kernel;
    next.points = 6;
    next.taps = taps;
    next.results = 7 - taps;
    next.stride = axis.stride;
    next.dilation = next.tile_phases = axis.dilation;
    next.tile_step = axis.stride * next.unit_results();
    const std::int64_t pieces = ceil_div(axis.kernel, axis.stride * taps);
    const std::int64_t phases = std::min(axis.stride, axis.kernel);
    next.parts = (pieces - 1) * phases + std::min(phases, axis.kernel - (pieces - 1) * axis.stride * taps);
    if (next.products() < best.products()) best = next;
  }
  return best.products() < 0.9 * plain.products() ? best : plain;
}

struct WinogradAxes {
  WinogradAxis h, w;

  explicit WinogradAxes(const Conv2dGeometry& g, WeightForm form = WeightForm::winograd)
      : h(winograd_axis(g.h)), w(winograd_axis(g.w)) {
    // F(5x5, 2x2) is off by up to 4.3 times as much as the direct sum.
    if ((h.taps == 2 && w.taps == 2) || form == WeightForm::winograd_rows) h = untransformed_axis(g.h);
  }

  std::int64_t elements() const { return h.points * w.points; }
  std::int64_t parts() const { return h.parts * w.parts; }
  /// Whether channels are so few that all parts' share vectors.
  bool packs_parts(const Conv2dGeometry& g, std::int64_t lanes) const {
    return parts() > 1 && g.group_channels() < lanes && w.tile_phases == 1;
  }
  /// Whether anything is gained, and the columns between the taps are few.
  bool usable(const Conv2dGeometry& g) const {
    return (h.transformed() || w.transformed()) &&
           (w.transformed() || std::max(g.w.stride, g.w.dilation) <= most_winograd_step);
  }
};

}  // namespace convpool
