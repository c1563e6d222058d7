// One window that covers the plane exactly, as a global pooling does: reductions of contiguous runs.

#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "pool_divisors.hpp"
#include "tensor_layout.hpp"

namespace convpool {

template <class T>
bool run_whole_plane_pool(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  const auto whole = [](const Axis& axis) {
    return axis.out == 1 && axis.kernel == axis.in && axis.dilation == 1 && axis.pad_begin == 0;
  };
  if (run.channels_last || run.positions || !whole(g.h) || !whole(g.w) || !rows_contiguous(run.input)) {
    return false;
  }
  const PoolDivisors<T> divisors(run, 1);
  constexpr std::int64_t planes_per_task = 64;
  const EvenSplit channels(g.channels, planes_per_task);
  parallel_for(g.batch * channels.pieces, run.threads, [&](std::int64_t task, int) {
    const std::int64_t n = task / channels.pieces, c = channels.begin(task % channels.pieces);
    kernels::ReduceRunArguments<T> a{};
    a.in = run.input.data + n * run.input.stride(0) + c * run.input.stride(1);
    a.in_row = run.input.stride(1);
    a.count = g.h.in * g.w.in;
    a.out = run.output.data + n * run.output.stride(0) + c * run.output.stride(1);
    a.out_step = run.output.stride(1);
    a.rows = channels.end(task % channels.pieces) - c;
    if (run.averages()) a.divisor = divisors.of({0, 1}).column_count[0] * divisors.rows()[0];
    run.reduction_kernels().reduce_run(a);
  });
  return true;
}

#define CONVPOOL_INSTANTIATE(T) template bool run_whole_plane_pool(const Pool2dRun<T>&);
CONVPOOL_FOR_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
