#pragma once

#include <algorithm>
#include <cstdint>

#include "conv2d_algorithm.hpp"
#include "geometry.hpp"
#include "kernels/kernel_table.hpp"
#include "tiling.hpp"

namespace convpool {

/// How Winograd's algorithm takes one axis of a convolution. In one WeightForm it depends on the kernel, the stride and
/// the dilation only, never on the image, so that transformed weights serve every input.
///
/// A transformed axis works on windows of some points, whose products with transformed weights give a tile of results
/// of so many taps. A longer kernel is several pieces of so many taps, and a strided one is as many kernels as the
/// stride has phases: each is a *part*, and parts are nothing but more channels of the same sum. Three taps with stride
/// 2 have a transform of their own, in which the phase of a single tap isn't transformed and the points are neighbours.
/// A dilated kernel is one convolution for each phase of its results. An axis that isn't transformed has windows of one
/// point, tiles of one result, and a part for each tap.
struct WinogradAxis {
  kernels::WinogradTransform transform = kernels::WinogradTransform::none;
  std::int64_t points = 1;
  std::int64_t singles = 0;            ///< of them, the last ones: they share the weight of a single tap
  std::int64_t taps = 1, results = 1;  ///< of a part, of a tile
  std::int64_t parts = 1;
  std::int64_t stride = 1;       ///< slots between a transformed axis' points
  std::int64_t dilation = 1;     ///< pixels between slots
  std::int64_t tile_phases = 1;  ///< tiles of a unit, whose results lie so far apart and interleave
  std::int64_t tile_step = 1;    ///< pixels of the input from one unit to the next

  bool transformed() const { return points > 1; }
  /// Products for each result and pair of channels.
  double products() const { return static_cast<double>(parts * points) / static_cast<double>(results); }
  std::int64_t weight_of(std::int64_t point) const { return std::min(point, points - singles); }
  std::int64_t weights() const { return weight_of(points - 1) + 1; }
  /// A window's first slot for a part; its points are `stride` slots apart.
  std::int64_t slot(std::int64_t part) const {
    if (!transformed()) return part;
    const std::int64_t phases = std::min(stride, kernel);
    return part / phases * taps * stride + part % phases;
  }
  /// The kernel's tap that a part's tap t is; past the kernel's end for none.
  std::int64_t kernel_tap(std::int64_t part, std::int64_t t) const { return slot(part) + t * stride; }
  /// Where tiles aren't phases: pixels from one that a part's windows see to the next, and such from a result to the
  /// next.
  std::int64_t seen_step() const { return transformed() ? stride : tile_step; }
  std::int64_t seen_from_result_to_result() const { return tile_step / (seen_step() * results); }
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
  /// Whether a short tile with so many results has the product of a point. Each of those that share a weight serves one
  /// result, in order.
  bool short_tile_has(std::int64_t point, std::int64_t longest) const {
    const bool shares = point >= points - singles;
    const std::int64_t first = shares ? points - singles : 0, end = shares ? points : points - singles;
    return point > first && (longest > results - 2 || point < end - 1);
  }
  /// Points of all tiles of the axis.
  std::int64_t points_of_tiles(std::int64_t outputs) const {
    const std::int64_t longest = short_results(outputs), last = tiles(outputs) % tile_phases;
    if (longest == 0) return tiles(outputs) * points;
    const std::int64_t short_tiles = last == 0 ? tile_phases : last;
    std::int64_t used = 0;
    for (std::int64_t p = 0; p < points; ++p) used += short_tile_has(p, longest);
    return (tiles(outputs) - short_tiles) * points + short_tiles * used;
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

/// With windows of so many points, if that saves products.
inline WinogradAxis winograd_axis(const Axis& axis, int points) {
  using kernels::WinogradTransform;
  const WinogradAxis plain = untransformed_axis(axis);
  if (axis.kernel == 1 || std::min(axis.stride, axis.dilation) > 1) return plain;
  if (std::max(axis.stride, axis.dilation) > most_winograd_step) return plain;
  WinogradAxis best = plain;
  for (const WinogradTransform transform : {WinogradTransform::two_taps, WinogradTransform::three_taps,
                                            WinogradTransform::four_taps, WinogradTransform::three_taps_stride_2}) {
    const kernels::WinogradLine line = kernels::winograd_line(transform);
    if (line.points != points) continue;
    WinogradAxis next;
    next.transform = transform;
    next.kernel = axis.kernel;
    next.points = line.points;
    next.taps = line.taps;
    next.results = line.results;
    next.dilation = next.tile_phases = axis.dilation;
    next.tile_step = axis.stride * next.unit_results();
    if (transform == WinogradTransform::three_taps_stride_2) {
      if (axis.kernel != 3 || axis.stride != 2) continue;
      next.singles = line.points - line.weights + 1;
    } else {
      next.stride = axis.stride;
      const std::int64_t pieces = ceil_div(axis.kernel, axis.stride * line.taps);
      const std::int64_t phases = std::min(axis.stride, axis.kernel);
      next.parts = (pieces - 1) * phases + std::min(phases, axis.kernel - (pieces - 1) * axis.stride * line.taps);
    }
    if (next.products() < best.products()) best = next;
  }
  return best.products() < 0.9 * plain.products() ? best : plain;
}

/// The transforms that save most, with as many points along both axes if both are transformed: others have no kernels.
struct WinogradAxes {
  WinogradAxis h, w;

  explicit WinogradAxes(const Conv2dGeometry& g, WeightForm form = WeightForm::winograd)
      : h(untransformed_axis(g.h)), w(untransformed_axis(g.w)) {
    for (const int points : {6, 5, 9}) {
      const WinogradAxis rows =
          form == WeightForm::winograd_rows ? untransformed_axis(g.h) : winograd_axis(g.h, points);
      const WinogradAxis columns = winograd_axis(g.w, points);
      if (rows.products() * columns.products() < h.products() * w.products()) h = rows, w = columns;
    }
  }

  /// The products of a tile and pair of channels, and the weights among them.
  std::int64_t elements() const { return h.points * w.points; }
  std::int64_t weights() const { return h.weights() * w.weights(); }
  std::int64_t parts() const { return h.parts * w.parts; }
  /// Whether channels are so few that all parts' share vectors.
  bool packs_parts(const Conv2dGeometry& g, std::int64_t lanes) const {
    return parts() > 1 && g.group_channels() < lanes && w.tile_phases == 1;
  }
  /// Whether the parts are the phases of the strides alone, and kernel rows: their rows follow one another where rows
  /// of the input are taken apart by the stride.
  bool parts_are_phases() const {
    return (!h.transformed() || h.parts <= h.stride) && w.parts == w.seen_step() && w.dilation == 1;
  }
  /// Whether anything is gained, and the columns between the taps are few.
  bool usable(const Conv2dGeometry& g) const {
    return (h.transformed() || w.transformed()) &&
           (w.transformed() || std::max(g.w.stride, g.w.dilation) <= most_winograd_step);
  }
};

}  // namespace convpool
