#include "isa_tables.hpp"
#include "narrow_windows.hpp"
#include "plane_positions.hpp"
#include "reduce_runs.hpp"
#include "row_layout.hpp"
#include "sliding_rows.hpp"
#include "transpose.hpp"
#include "window_lines.hpp"
#include "window_pixels.hpp"
#include "window_planes.hpp"
#include "window_positions.hpp"
#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

template <class Op, class T>
WindowRowsKernel<T> choose_rows(const WindowAxis& h, const WindowAxis& w) {
  WindowRowsKernel<T> kernel = choose_window_lines<Op>(h, w);
  if (kernel == nullptr) kernel = choose_window_rows<Op>(h, w);
  return kernel;
}

template <class Op, class T>
WindowRowsKernel<T> choose_planes(const WindowAxis& h, const WindowAxis& w) {
  WindowRowsKernel<T> kernel = choose_window_planes<Op>(h, w);
  if (kernel == nullptr) kernel = choose_joined_rows<Op>(h, w);
  if (kernel == nullptr) kernel = choose_narrow_windows<Op>(h, w);
  return kernel;
}

template <class Op, class T>
constexpr ReductionKernels<T> make_reduction() {
  ReductionKernels<T> kernels{};
  kernels.reduce = reduce<Op>;
#if defined(CONVPOOL_ISA_AVX512)
  if constexpr (is_floating<T>) kernels.slide = slide<Op>;
#endif
  kernels.suffix_rows = suffix_rows<Op>;
  kernels.prefix_rows = prefix_rows<Op>;
  if constexpr (!Op::indexed) {
    kernels.window_rows = choose_rows<Op, T>;
    kernels.window_pixels = choose_window_pixels<Op>;
    if constexpr (is_floating<T>) kernels.window_planes = choose_planes<Op, T>;
    kernels.reduce_run = reduce_run<Op>;
  } else if constexpr (is_floating<T>) {
    kernels.window_rows = choose_window_row_positions<T>;
    kernels.window_planes = choose_window_plane_positions<T>;
    kernels.window_pixels = choose_window_pixel_positions<T>;
  }
  return kernels;
}

template <class T>
constexpr PoolTable<T> make_pool_table() {
  PoolTable<T> table{};
  table.lanes = lanes<T>;
  table.max = make_reduction<MaxOf<T>, T>();
  if constexpr (is_floating<T>) table.sum = make_reduction<SumOf<T>, T>();
  if constexpr (has_index<T>) table.max_at = make_reduction<MaxAtOf<T>, T>();
  table.split_phases = split_phases<T>;
  table.pad_rows = pad_rows<T>;
  table.finish_streaming = finish_streaming;
  if constexpr (is_floating<T>) {
    table.transpose = transpose<T>;
    table.transpose_positions = transpose<std::int64_t>;
  }
  return table;
}

}  // namespace

namespace CONVPOOL_ISA {

constinit const PoolTables pool{make_pool_table<float>(),        make_pool_table<double>(),
                                make_pool_table<std::int8_t>(),  make_pool_table<std::uint8_t>(),
                                make_pool_table<std::int16_t>(), make_pool_table<std::int32_t>(),
                                make_pool_table<std::int64_t>()};

}  // namespace CONVPOOL_ISA
}  // namespace convpool::kernels
