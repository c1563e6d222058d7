// Plain loops, for planes of 2^30 pixels and more.

#include "first_position.hpp"
#include "kernels/pool_table.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"

namespace convpool {

template <class T>
void run_plain_max_pool(const Pool2dRun<T>& run) {
  using std::int64_t;
  const Pool2dGeometry& g = run.geometry;
  parallel_for(g.batch * g.channels, run.threads, [&](int64_t task, int) {
    const int64_t n = task / g.channels, c = task % g.channels;
    for (int64_t oh = 0; oh < g.h.out; ++oh) {
      for (int64_t ow = 0; ow < g.w.out; ++ow) {
        T best = kernels::lowest<T>;
        int64_t position = first_position(g, oh, ow);
        const Range rows = g.h.taps_inside(oh), columns = g.w.taps_inside(ow);
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          for (int64_t j = columns.begin; j < columns.end; ++j) {
            const int64_t y = g.h.start(oh) + i * g.h.dilation, x = g.w.start(ow) + j * g.w.dilation;
            const T value = run.input(n, c, y, x);
            if (value > best || value != value) best = value, position = y * g.w.in + x;
          }
        }
        run.output(n, c, oh, ow) = best;
        run.indices(n, c, oh, ow) = position;
      }
    }
  });
}

#define CONVPOOL_INSTANTIATE(T) template void run_plain_max_pool(const Pool2dRun<T>&);
CONVPOOL_FOR_INDEXED_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
