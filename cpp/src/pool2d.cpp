#include "convpool/pool2d.hpp"

#include <limits>
#include <stdexcept>
#include <string>

#include "call_scope.hpp"
#include "dispatch.hpp"
#include "pool2d_algorithm.hpp"
#include "staging.hpp"
#include "tensor_layout.hpp"
#include "threads.hpp"
#include "tiling.hpp"

namespace convpool {
namespace {

using std::int64_t;

/// Below this many elements read and written (about 5 us) a thread costs more than it brings.
constexpr double least_work_per_thread = 15e3;

double work_of(const Pool2dGeometry& g) {
  const double planes = static_cast<double>(g.batch) * static_cast<double>(g.channels);
  const double in = static_cast<double>(g.h.in) * static_cast<double>(g.w.in);
  const double out = static_cast<double>(g.h.out) * static_cast<double>(g.w.out);
  return planes * (in + out * (1 + (static_cast<double>(g.h.kernel) + static_cast<double>(g.w.kernel)) / 8));
}

/// An array of 1x1 planes, or of one channel, can be both.
template <class T>
bool lies_in_planes(const TensorView<T>& view) {
  return pixels_contiguous(view);
}
template <class T>
bool lies_channels_last(const TensorView<T>& view) {
  return view.stride(1) == 1 || view.size(1) <= 1;
}
template <class T>
bool pixels_follow_one_another(const TensorView<T>& view) {
  return view.stride(3) == view.size(1) || view.size(3) <= 1;
}
template <class T>
bool result_lies(const TensorView<T>& view, bool channels_last) {
  return channels_last ? lies_channels_last(view) && pixels_follow_one_another(view) : lies_in_planes(view);
}

template <class T>
void check(const Pool2dGeometry& g, const char* name, const TensorView<T>& result) {
  require_shape(name, result.shape, g.output_shape());
  if (!strides_are_injective(result.shape, result.strides)) {
    throw std::invalid_argument(std::string(name) + " has elements that share memory: strides " +
                                shape_text(result.strides) + " for shape " + shape_text(result.shape));
  }
}

template <class T>
void check_data(const Pool2dGeometry& g, const char* name, const TensorView<T>& view) {
  if (!g.empty() && view.data == nullptr)
    throw std::invalid_argument(std::string(name) + " has no data: its pointer is null");
}

/// Calls run(input, result, indices, is channels_last) with arrays that lie alike in one of the two ways that
/// algorithms take; what lies otherwise is copied, the results back after the run.
template <class T, class Run>
void with_matching_layouts(const TensorView<const T>& input, const TensorView<T>& result,
                           const TensorView<int64_t>& indices, bool positions_wanted, int threads, Run&& run) {
  const bool planes = lies_in_planes(input) && result_lies(result, false);
  const bool channels_last =
      !planes && (lies_channels_last(input) || !lies_in_planes(result)) && result_lies(result, true);
  ContiguousCopy<T> input_copy, result_copy;
  ContiguousCopy<int64_t> indices_copy;
  TensorView<const T> source = input;
  TensorView<T> target = result;
  TensorView<int64_t> positions = indices;
  if (!(channels_last ? lies_channels_last(input) : lies_in_planes(input))) {
    input_copy = ContiguousCopy<T>(input, channels_last);
    copy_elements<T>(input, input_copy.view(), threads);
    source = input_copy.view();
  }
  if (!result_lies(result, channels_last)) {
    result_copy = ContiguousCopy<T>(result, channels_last);
    target = result_copy.view();
  }
  if (positions_wanted && !result_lies(indices, channels_last)) {
    indices_copy = ContiguousCopy<int64_t>(indices, channels_last);
    positions = indices_copy.view();
  }
  run(source, target, positions, channels_last);
  if (target.data != result.data) copy_elements<T>(target, result, threads);
  if (positions_wanted && positions.data != indices.data) copy_elements<int64_t>(positions, indices, threads);
}

template <class T>
void run_pool(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  if constexpr (kernels::has_index<T>) {
    // Positions are counted over the padded columns, from the plane's start; half of the range marks the padding.
    constexpr int64_t most = std::numeric_limits<typename kernels::IndexOf<T>::type>::max() / 2;
    const int64_t beyond = g.w.covered_span(g.w.out + 1);
    if (run.positions && (beyond >= most - g.w.in || size_product(g.h.in, g.w.in) > most - g.w.in - beyond)) {
      return run_plain_max_pool(run);
    }
  }
  if (run_whole_plane_pool(run) || run_window_pool(run)) return;
  run_sliding_pool(run);
}

}  // namespace

Shape4 pool2d_output_shape(const Shape4& input, const Pool2dParams& params) {
  return pool2d_geometry(input, params).output_shape();
}

namespace {

/// Either pooling after its checks: what takes memory and time.
template <class T>
void run_max(const Pool2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
             const TensorView<int64_t>& indices, bool with_indices, int threads) {
  if constexpr (!kernels::has_index<T>) {
    if (with_indices) {
      // Positions take as many bits as the values that they stand beside.
      const ContiguousCopy<std::int32_t> from(input), to(output);
      convert_elements<std::int32_t, T>(input, from.view(), threads);
      run_max<std::int32_t>(g, from.view(), to.view(), indices, with_indices, threads);
      convert_elements<T, std::int32_t>(to.view(), output, threads);
      return;
    }
  }
  const auto& kernels = kernels::pool_table_of<T>(active_kernels());
  with_matching_layouts(
      input, output, indices, with_indices, threads,
      [&](const auto& from, const auto& to, const auto& positions, bool channels_last) {
        run_pool(
            Pool2dRun<T>{g, from, to, positions, with_indices, channels_last, Reduction::max, {}, threads, kernels});
      });
}

template <class T>
void run_avg(const Pool2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
             const DivisorRule& divisor, int threads) {
  const auto& kernels = kernels::pool_table_of<T>(active_kernels());
  with_matching_layouts(
      input, output, {}, false, threads, [&](const auto& from, const auto& to, const auto&, bool channels_last) {
        run_pool(Pool2dRun<T>{g, from, to, {}, false, channels_last, Reduction::sum, divisor, threads, kernels});
      });
}

Pool2dGeometry avg_geometry(const Shape4& input, const AvgPool2dParams& params) {
  if (params.divisor_override && *params.divisor_override == 0) {
    throw std::invalid_argument("divisor_override must not be 0; leave it out to divide by the window's size");
  }
  return pool2d_geometry(input, params);
}

}  // namespace

template <class T>
void max_pool2d(TensorView<const T> input, TensorView<T> output, TensorView<int64_t> indices,
                const Pool2dParams& params, const ExecutionContext& context) {
  const CallScope scope(context);
  const Pool2dGeometry g = pool2d_geometry(input.shape, params);
  check_data(g, "input", input);
  check(g, "output", output);
  check_data(g, "output", output);
  const bool with_indices = indices.data != nullptr;
  if (with_indices) check(g, "indices", indices);
  const int threads = threads_for_call(context, work_of(g), least_work_per_thread);
  if (!g.empty()) run_max(g, input, output, indices, with_indices, threads);
}

template <class T>
void max_pool2d(TensorView<const T> input, TensorView<T> output, TensorView<int64_t> indices,
                const Pool2dParams& params, int num_threads) {
  ExecutionContext context;
  context.num_threads = num_threads;
  max_pool2d(input, output, indices, params, context);
}

template <class T>
std::size_t max_pool2d_workspace_size(TensorView<const T> input, TensorView<T> output, TensorView<int64_t> indices,
                                      const Pool2dParams& params, const ExecutionContext& context) {
  const Pool2dGeometry g = pool2d_geometry(input.shape, params);
  check(g, "output", output);
  const bool with_indices = indices.data != nullptr || indices.shape != Shape4{};
  if (with_indices) check(g, "indices", indices);
  const int threads = threads_for(context, work_of(g), least_work_per_thread);
  if (g.empty()) return 0;
  const MeasuringScope measured;
  run_max(g, input, output, indices, with_indices, threads);
  return measured.bytes();
}

template <class T>
void avg_pool2d(TensorView<const T> input, TensorView<T> output, const AvgPool2dParams& params,
                const ExecutionContext& context) {
  const CallScope scope(context);
  const Pool2dGeometry g = avg_geometry(input.shape, params);
  check_data(g, "input", input);
  check(g, "output", output);
  check_data(g, "output", output);
  const int threads = threads_for_call(context, work_of(g), least_work_per_thread);
  if (!g.empty()) run_avg(g, input, output, {params.count_include_pad, params.divisor_override}, threads);
}

template <class T>
void avg_pool2d(TensorView<const T> input, TensorView<T> output, const AvgPool2dParams& params, int num_threads) {
  ExecutionContext context;
  context.num_threads = num_threads;
  avg_pool2d(input, output, params, context);
}

template <class T>
std::size_t avg_pool2d_workspace_size(TensorView<const T> input, TensorView<T> output, const AvgPool2dParams& params,
                                      const ExecutionContext& context) {
  const Pool2dGeometry g = avg_geometry(input.shape, params);
  check(g, "output", output);
  const int threads = threads_for(context, work_of(g), least_work_per_thread);
  if (g.empty()) return 0;
  const MeasuringScope measured;
  run_avg(g, input, output, {params.count_include_pad, params.divisor_override}, threads);
  return measured.bytes();
}

#define CONVPOOL_INSTANTIATE(T)                                                                                   \
  template void max_pool2d<T>(TensorView<const T>, TensorView<T>, TensorView<int64_t>, const Pool2dParams&, int); \
  template void max_pool2d<T>(TensorView<const T>, TensorView<T>, TensorView<int64_t>, const Pool2dParams&,       \
                              const ExecutionContext&);                                                           \
  template std::size_t max_pool2d_workspace_size<T>(TensorView<const T>, TensorView<T>, TensorView<int64_t>,      \
                                                    const Pool2dParams&, const ExecutionContext&);
CONVPOOL_FOR_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE
#define CONVPOOL_INSTANTIATE(T)                                                                                     \
  template void avg_pool2d<T>(TensorView<const T>, TensorView<T>, const AvgPool2dParams&, int);                     \
  template void avg_pool2d<T>(TensorView<const T>, TensorView<T>, const AvgPool2dParams&, const ExecutionContext&); \
  template std::size_t avg_pool2d_workspace_size<T>(TensorView<const T>, TensorView<T>, const AvgPool2dParams&,     \
                                                    const ExecutionContext&);
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
