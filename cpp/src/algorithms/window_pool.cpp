// Small windows: rows of results straight from the input, shared out by planes and rows.

#include <algorithm>

#include "block_sizes.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "pool_divisors.hpp"
#include "pool_streaming.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

/// Elements read for a task: some microseconds.
constexpr int64_t task_elements = 32 << 10;

kernels::WindowAxis window_axis(const Axis& axis) {
  return {axis.in, axis.out, axis.kernel, axis.stride, axis.dilation, axis.pad_begin};
}

/// How many rows of results make a task.
EvenSplit row_split(const Pool2dGeometry& g, int64_t elements_per_row) {
  const int64_t rows =
      std::max<int64_t>(1, task_elements / std::max<int64_t>(1, size_product(elements_per_row, g.h.stride)));
  // Rows that two tasks both read are read twice.
  return {g.h.out, std::max(rows, g.h.effective_kernel() / g.h.stride * 2)};
}

/// Where results go past the caches, wider rows, in bytes, are taken one by one, which fetches them ahead: measured on
/// 512 columns of float, two thirds of the time.
constexpr int64_t widest_past_caches = 256;

/// What every task of the run has in common.
template <class Arguments, class T>
Arguments common_arguments(const Pool2dRun<T>& run, const PoolDivisors<T>& divisors) {
  const Pool2dGeometry& g = run.geometry;
  Arguments a{};
  a.h = window_axis(g.h);
  a.w = window_axis(g.w);
  a.divisor = divisors.of({0, g.w.out});
  a.row_count = divisors.rows();
  a.in_row = run.input.stride(2);
  a.out_row = run.output.stride(2);
  a.stream = streams(run);
  return a;
}

/// Points a task's arguments to its image, from channel c on.
template <class Arguments, class T>
void start_at(const Pool2dRun<T>& run, int64_t n, int64_t c, Arguments& a) {
  a.in = run.input.data + n * run.input.stride(0) + c * run.input.stride(1);
  a.out = run.output.data + n * run.output.stride(0) + c * run.output.stride(1);
  if (run.positions) a.out_at = run.indices.data + n * run.indices.stride(0) + c * run.indices.stride(1);
}

template <class T>
bool run_rows(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  using Arguments = kernels::WindowRowsArguments<T>;
  const PoolDivisors<T> divisors(run, 1);
  const kernels::ReductionKernels<T>& kernels = run.reduction_kernels();
  const bool without_gaps = run.input.stride(2) == g.w.in && run.output.stride(2) == g.w.out;
  auto usual = common_arguments<Arguments>(run, divisors);
  const kernels::WindowRowsKernel<T> by_rows = kernels.window_rows(usual.h, usual.w);
  kernels::WindowRowsKernel<T> kernel = nullptr;
  const bool past_caches = usual.stream && by_rows != nullptr && size_product(g.w.in, sizeof(T)) > widest_past_caches;
  if (kernels.window_planes != nullptr && without_gaps && divisors.all_equal() && !past_caches) {
    kernel = kernels.window_planes(usual.h, usual.w);
  }
  // Vectors of results that are half empty, with positions or dilated, cost more than transposing.
  const bool half_empty = (run.positions || g.w.dilation > 1) && 2 * g.w.out <= run.kernels.lanes;
  if (kernel == nullptr && half_empty && transposes_planes(run)) return false;
  if (kernel == nullptr) kernel = by_rows;
  if (kernel == nullptr) return false;
  usual.in_plane = run.input.stride(1);
  usual.out_plane = run.output.stride(1);
  const int64_t line = std::max<int64_t>(g.w.covered_span(g.w.out), kernels::lines_elements);
  const int64_t scratch = line + 12 * int64_t{run.kernels.lanes};
  const SlottedWorkspace<T> memory(scratch, run.threads);
  const EvenSplit rows = row_split(g, g.w.in);
  const int64_t plane = std::max<int64_t>(1, g.h.in * g.w.in);
  const EvenSplit channels(g.channels, rows.pieces > 1 ? 1 : std::max<int64_t>(1, task_elements / plane));
  parallel_for(g.batch * channels.pieces * rows.pieces, run.threads, [&](int64_t task, int thread) {
    Arguments a = usual;
    a.row_begin = rows.begin(task % rows.pieces);
    a.row_end = rows.end(task % rows.pieces);
    task /= rows.pieces;
    const int64_t c = channels.begin(task % channels.pieces), n = task / channels.pieces;
    a.planes = channels.end(task % channels.pieces) - c;
    a.scratch = memory.slot(thread);
    start_at(run, n, c, a);
    kernel(a);
  });
  return true;
}

template <class T>
bool run_pixels(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  if (g.channels < run.kernels.lanes) return false;
  using Arguments = kernels::WindowPixelsArguments<T>;
  const auto kernel = run.reduction_kernels().window_pixels(window_axis(g.h), window_axis(g.w));
  if (kernel == nullptr) return false;
  const PoolDivisors<T> divisors(run, 1);
  auto usual = common_arguments<Arguments>(run, divisors);
  usual.in_pixel = run.input.stride(3);
  usual.out_pixel = run.output.stride(3);
  usual.channels = g.channels;
  const EvenSplit rows = row_split(g, g.w.in * g.channels);
  parallel_for(g.batch * rows.pieces, run.threads, [&](int64_t task, int) {
    Arguments a = usual;
    a.row_begin = rows.begin(task % rows.pieces);
    a.row_end = rows.end(task % rows.pieces);
    start_at(run, task / rows.pieces, 0, a);
    kernel(a);
  });
  return true;
}

}  // namespace

template <class T>
bool run_window_pool(const Pool2dRun<T>& run) {
  if (run.reduction_kernels().window_rows == nullptr) return false;
  // The kernels take positions to lie as the results do.
  if (run.positions &&
      !std::equal(run.indices.strides.begin() + 1, run.indices.strides.end(), run.output.strides.begin() + 1)) {
    return false;
  }
  return run.channels_last ? run_pixels(run) : run_rows(run);
}

#define CONVPOOL_INSTANTIATE(T) template bool run_window_pool(const Pool2dRun<T>&);
CONVPOOL_FOR_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
