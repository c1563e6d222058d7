// Patches packed on the fly: a panel of some pixels and some of the reduction, which stays in the L2 cache, times all
// weights.

#include <algorithm>

#include "parallel.hpp"
#include "patches.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

constexpr int64_t panel_pixels = 128;
constexpr int64_t panel_reduction = 384;  // a multiple of reduction_block

}  // namespace

template <class T>
void run_implicit_gemm(const Conv2dRun<T>& run, bool channels_in_vectors) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t lanes = run.kernels.lanes;
  const EvenSplit pixels(g.out_pixels(), panel_pixels);
  const int64_t columns = channels_in_vectors ? ceil_div(g.group_out_channels(), lanes) : g.group_out_channels();
  const int64_t tasks = g.batch * g.groups * pixels.pieces;
  // A few pixels only: every thread packs them for itself and takes a part of the output channels.
  const int64_t pieces = run.threads == 1 ? 1 : std::clamp<int64_t>(ceil_div(2 * run.threads, tasks), 1, columns);
  const EvenSplit channels(columns, ceil_div(columns, pieces));
  const int64_t depth = std::min(panel_reduction, g.reduction());
  const int64_t widest = round_up(pixels.largest(), lanes);
  if (run.blocking != nullptr) {
    const int64_t vectors = channels_in_vectors ? channels.largest() : ceil_div(pixels.largest(), lanes);
    const TileShape tile =
        choose_tile(run.kernels, channels_in_vectors ? pixels.largest() : channels.largest(), vectors);
    *run.blocking = {
        tile.rows, tile.vectors, pixels.largest(),
        channels_in_vectors ? std::min(g.group_out_channels(), channels.largest() * lanes) : channels.largest(), depth};
  }
  const SlottedWorkspace<T> panels(widest * depth, run.threads);
  parallel_for(tasks * channels.pieces, run.threads, [&](int64_t task, int thread) {
    T* const panel = panels.slot(thread);
    const int64_t piece = task % channels.pieces;
    task /= channels.pieces;
    const int64_t block = task % pixels.pieces;
    task /= pixels.pieces;
    const int64_t group = task % g.groups, n = task / g.groups;
    const Range pixel_range{pixels.begin(block), pixels.end(block)};
    const Range channel_range{channels.begin(piece), channels.end(piece)};
    const int64_t width = round_up(pixel_range.end - pixel_range.begin, lanes);
    for (int64_t k = 0; k < g.reduction(); k += depth) {
      const Range reduction{k, std::min(g.reduction(), k + depth)};
      if (channels_in_vectors) {
        patches_by_pixel(run, n, group, reduction, pixel_range, panel, depth);
        multiply_by_pixel(run, n, group, reduction, pixel_range, channel_range, panel, depth);
      } else {
        patches_by_reduction(run, n, group, reduction, pixel_range, panel, width);
        multiply_by_reduction(run, n, group, reduction, pixel_range, channel_range, panel, width);
      }
    }
  });
}

template void run_implicit_gemm(const Conv2dRun<float>&, bool);
template void run_implicit_gemm(const Conv2dRun<double>&, bool);

}  // namespace convpool
