// The explicit matrix: all patches of an image and group written out, then one matrix product. The textbook's
// algorithm, for comparison: its memory grows with the image and the kernel.

#include <algorithm>

#include "parallel.hpp"
#include "patches.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

constexpr int64_t task_pixels = 128;
constexpr int64_t task_reduction = 64;  // rows of the matrix that one task writes, a multiple of reduction_block

}  // namespace

template <class T>
void run_im2col(const Conv2dRun<T>& run, bool channels_in_vectors) {
  const Conv2dGeometry& g = run.geometry;
  const int64_t lanes = run.kernels.lanes;
  const int64_t width = round_up(g.out_pixels(), lanes);
  const int64_t elements = checked_element_count({1, 1, g.reduction(), width}, sizeof(T));
  const Workspace memory(static_cast<std::size_t>(elements) * sizeof(T));
  T* const matrix = memory.as<T>();
  const Range all_channels{0, channels_in_vectors ? ceil_div(g.group_out_channels(), lanes) : g.group_out_channels()};
  const Range all_pixels{0, g.out_pixels()}, all_reduction{0, g.reduction()};
  const EvenSplit reduction(g.reduction(), task_reduction);
  const EvenSplit pixels(ceil_div(g.out_pixels(), lanes), task_pixels / lanes);
  if (run.blocking != nullptr) {
    const int64_t block = std::min(g.out_pixels(), pixels.largest() * lanes);
    const TileShape tile = choose_tile(run.kernels, channels_in_vectors ? block : g.group_out_channels(),
                                       channels_in_vectors ? all_channels.end : ceil_div(block, lanes));
    *run.blocking = {tile.rows, tile.vectors, block, g.group_out_channels(), g.reduction()};
  }
  const auto pixel_range = [&](int64_t task) {
    return Range{pixels.begin(task) * lanes, std::min(g.out_pixels(), pixels.end(task) * lanes)};
  };
  for (int64_t image = 0; image < g.batch * g.groups; ++image) {
    const int64_t n = image / g.groups, group = image % g.groups;
    if (channels_in_vectors) {
      parallel_for(pixels.pieces, run.threads, [&](int64_t task, int) {
        const Range range = pixel_range(task);
        patches_by_pixel(run, n, group, all_reduction, range, matrix + range.begin * g.reduction(), g.reduction());
      });
      parallel_for(pixels.pieces, run.threads, [&](int64_t task, int) {
        const Range range = pixel_range(task);
        multiply_by_pixel(run, n, group, all_reduction, range, all_channels, matrix + range.begin * g.reduction(),
                          g.reduction());
      });
    } else {
      parallel_for(reduction.pieces, run.threads, [&](int64_t task, int) {
        const Range range{reduction.begin(task), reduction.end(task)};
        patches_by_reduction(run, n, group, range, all_pixels, matrix + range.begin * width, width);
      });
      parallel_for(pixels.pieces, run.threads, [&](int64_t task, int) {
        multiply_by_reduction(run, n, group, all_reduction, pixel_range(task), all_channels,
                              matrix + pixels.begin(task) * lanes, width);
      });
    }
  }
}

template void run_im2col(const Conv2dRun<float>&, bool);
template void run_im2col(const Conv2dRun<double>&, bool);

}  // namespace convpool
