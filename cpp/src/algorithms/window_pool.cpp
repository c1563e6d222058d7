// Small windows: rows of results straight from the input, shared out by planes and rows.

#include <algorithm>

#include "block_sizes.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "pool_divisors.hpp"
#include "pool_streaming.hpp"
#include "staged_results.hpp"
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

/// Results that wait in the L1 cache, if few rows are no more, before they go past the others, in bytes. Measured on
/// Emerald Rapids, 3x3 windows with stride 1 over 400 columns of float: twice as many are a tenth slower. More where a
/// kernel works in bands, of which neighbouring ones reduce some rows both.
constexpr int64_t staged_rows = 4 << 10, staged_band = 16 << 10;

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
  a.past_caches = streams(run);
  return a;
}

/// Points a task's arguments to its image, from channel c on.
template <class Arguments, class T>
void start_at(const Pool2dRun<T>& run, int64_t n, int64_t c, Arguments& a) {
  a.in = run.input.data + n * run.input.stride(0) + c * run.input.stride(1);
  a.out = run.output.data + n * run.output.stride(0) + c * run.output.stride(1);
  if (run.positions) a.out_at = run.indices.data + n * run.indices.stride(0) + c * run.indices.stride(1);
}

/// Whether results, and their positions where there are any, start with cache lines.
template <class T>
bool both_start_lines(const T* out, const int64_t* out_at) {
  const auto on_line = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kernels::cache_line == 0; };
  return on_line(out) && on_line(out_at);
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
  const bool one_by_one =
      usual.past_caches && by_rows != nullptr && size_product(g.w.in, sizeof(T)) > widest_past_caches;
  if (kernels.window_planes != nullptr && without_gaps && divisors.all_equal() && !one_by_one) {
    kernel = kernels.window_planes(usual.h, usual.w);
  }
  // Vectors of results that are half empty, with positions or dilated, cost more than transposing.
  const bool half_empty = (run.positions || g.w.dilation > 1) && 2 * g.w.out <= run.kernels.lanes;
  if (kernel == nullptr && half_empty && transposes_planes(run)) return false;
  if (kernel == nullptr) kernel = by_rows;
  if (kernel == nullptr) return false;
  // Stores to lines that no near cache has wait for one another: Emerald Rapids, 3x3 with stride 1 over 224 columns of
  // 64 channels 1.25 times as fast, of 4 and 8 MB 1.1; positions of float are twice as many bytes, and gain in the L2
  // cache, too.
  const int64_t elements = size_product(g.batch, g.channels, g.h.in * g.w.in + g.h.out * g.w.out);
  usual.fetches_results =
      !usual.past_caches && (run.positions || size_product(elements, sizeof(T)) > block_sizes().large_result);
  usual.in_plane = run.input.stride(1);
  usual.out_plane = run.output.stride(1);
  const int64_t line = std::max<int64_t>(g.w.covered_span(g.w.out), kernels::lines_elements);
  const int64_t scratch = line + 12 * int64_t{run.kernels.lanes};
  const SlottedWorkspace<T> memory(scratch, run.threads);
  const bool one_run = without_gaps && (g.channels == 1 || run.output.stride(1) == g.h.out * g.w.out);
  const bool in_bands = run.positions && kernel != by_rows;
  const StagedResults<T> staged(run, g.w.out, in_bands ? staged_band : staged_rows, usual.past_caches && one_run);
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
    const int64_t first = a.row_begin * a.out_row;
    const bool stores_lines = in_bands && a.out_plane % int64_t{kernels::cache_line / sizeof(T)} == 0 &&
                              both_start_lines(a.out + first, a.out_at + first);
    staged.run(kernel, a, stores_lines, thread);
  });
  return true;
}

/// Narrow planes: a few vectors' lanes of them are transposed, pooled pixel by pixel, and transposed back. Whether
/// they are doesn't depend on the batch, so that its sums round alike.
template <class T>
bool run_transposed(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  const int64_t lanes = run.kernels.lanes, in_plane = g.h.in * g.w.in, out_plane = g.h.out * g.w.out;
  const auto choose = run.reduction_kernels().transposed_windows;
  if (choose == nullptr || 2 * g.channels < lanes) return false;
  if (run.input.stride(2) != g.w.in || run.output.stride(2) != g.w.out) return false;
  const auto kernel = choose(window_axis(g.h), window_axis(g.w));
  if (kernel == nullptr) return false;
  using Arguments = kernels::WindowPixelsArguments<T>;
  const PoolDivisors<T> divisors(run, 1);
  Arguments usual = common_arguments<Arguments>(run, divisors);
  const int64_t vector_bytes = (in_plane + (run.positions ? 3 : 1) * out_plane) * lanes * int64_t{sizeof(T)};
  const bool joined = run.input.stride(0) == g.channels * run.input.stride(1) &&
                      run.output.stride(0) == g.channels * run.output.stride(1) &&
                      (!run.positions || run.indices.stride(0) == g.channels * run.indices.stride(1));
  const int64_t planes = joined ? g.batch * g.channels : g.channels;
  const int64_t share = ceil_div(ceil_div(planes, lanes), int64_t{run.threads});
  const int64_t at_once =
      lanes * std::min(share, std::clamp<int64_t>(block_sizes().narrow_planes / vector_bytes, 1, 4));
  usual.in_pixel = usual.out_pixel = at_once;
  usual.in_row = g.w.in * at_once;
  usual.out_row = g.w.out * at_once;
  usual.past_caches = false;
  usual.row_begin = 0;
  usual.row_end = g.h.out;
  const SlottedWorkspace<T> memory((in_plane + out_plane) * at_once, run.threads);
  const SlottedWorkspace<int64_t> positions(run.positions ? out_plane * at_once : 0, run.threads);
  const EvenSplit pieces(planes, at_once);
  parallel_for((joined ? 1 : g.batch) * pieces.pieces, run.threads, [&](int64_t task, int thread) {
    const int64_t c = pieces.begin(task % pieces.pieces), n = task / pieces.pieces;
    const int64_t count = pieces.end(task % pieces.pieces) - c;
    Arguments a = usual;
    start_at(run, n, c, a);
    T* const image = memory.slot(thread);
    run.kernels.transpose(a.in, run.input.stride(1), count, in_plane, image, at_once);
    T* const out = a.out;
    int64_t* const out_at = a.out_at;
    a.channels = round_up(count, lanes);
    a.in = image;
    a.out = image + in_plane * at_once;
    if (run.positions) a.out_at = positions.slot(thread);
    kernel(a);
    run.kernels.transpose(a.out, at_once, out_plane, count, out, run.output.stride(1));
    if (run.positions) {
      run.kernels.transpose_positions(a.out_at, at_once, out_plane, count, out_at, run.indices.stride(1));
    }
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
  const bool one_run = usual.out_pixel == g.channels && usual.out_row == g.w.out * g.channels;
  const int line_channels = run.positions ? run.kernels.streamed_positions : run.kernels.streamed_channels;
  const bool whole_lines = line_channels > 0 && g.channels % line_channels == 0;
  const StagedResults<T> staged(run, usual.out_row, staged_rows, usual.past_caches && one_run);
  parallel_for(g.batch * rows.pieces, run.threads, [&](int64_t task, int thread) {
    Arguments a = usual;
    a.row_begin = rows.begin(task % rows.pieces);
    a.row_end = rows.end(task % rows.pieces);
    start_at(run, task / rows.pieces, 0, a);
    staged.run(kernel, a, whole_lines && both_start_lines(a.out, a.out_at), thread);
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
  if (run.channels_last) return run_pixels(run);
  if constexpr (kernels::is_floating<T>) {
    if (run_transposed(run)) return true;
  }
  return run_rows(run);
}

#define CONVPOOL_INSTANTIATE(T) template bool run_window_pool(const Pool2dRun<T>&);
CONVPOOL_FOR_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
