// Compiled once for each ISA, with that ISA's flags and CONVPOOL_ISA_<NAME> defined. Its only external symbol is the
// table.

#include "activation.hpp"
#include "depthwise.hpp"
#include "outer_product.hpp"
#include "peak.hpp"
#include "reduce_runs.hpp"
#include "row_layout.hpp"
#include "sliding_rows.hpp"
#include "transpose.hpp"
#include "window_pixels.hpp"
#include "window_positions.hpp"
#include "window_rows.hpp"
#include "winograd.hpp"

namespace convpool::kernels {
namespace {

template <class T>
constexpr Table<T> make_table() {
  Table<T> table{};
  table.lanes = lanes<T>;
  fill_tiles<T, 1>(table);
  fill_tiles<T, 2>(table);
  fill_tiles<T, 3>(table);
  fill_tiles<T, 4>(table);
  table.finish_streaming = finish_streaming;
  table.transpose = transpose<T>;
  table.apply_curve = apply_curve<T>;
  table.depthwise_plane = depthwise_plane<T>;
  table.depthwise_channels = depthwise_channels<T>;
  table.split_phases = split_phases<T>;
  table.pad_rows = pad_rows<T>;
  fill_winograd<T>(table);
  table.multiply_add_rounds = multiply_add_rounds<T>;
  return table;
}

template <class Op, class T>
constexpr ReductionKernels<T> make_reduction() {
  ReductionKernels<T> kernels{};
  kernels.reduce = reduce<Op>;
  kernels.suffix_rows = suffix_rows<Op>;
  kernels.prefix_rows = prefix_rows<Op>;
  if constexpr (!Op::indexed) {
    kernels.window_rows = choose_window_rows<Op>;
    kernels.window_pixels = choose_window_pixels<Op>;
    kernels.reduce_run = reduce_run<Op>;
  } else if constexpr (is_floating<T>) {
    kernels.window_rows = PositionKernels<T>::choose_rows;
    kernels.window_pixels = PositionKernels<T>::choose_pixels;
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
  return table;
}

constexpr IsaKernels make_kernels(const char* name) {
  return {name, make_table<float>(), make_table<double>(),
          PoolTables{make_pool_table<float>(), make_pool_table<double>(), make_pool_table<std::int8_t>(),
                     make_pool_table<std::uint8_t>(), make_pool_table<std::int16_t>(), make_pool_table<std::int32_t>(),
                     make_pool_table<std::int64_t>()}};
}

}  // namespace

#if defined(CONVPOOL_ISA_AVX512)
constinit const IsaKernels avx512_kernels = make_kernels("avx512");
#elif defined(CONVPOOL_ISA_AVX2)
constinit const IsaKernels avx2_kernels = make_kernels("avx2");
#elif defined(CONVPOOL_ISA_SSE2)
constinit const IsaKernels sse2_kernels = make_kernels("sse2");
#elif defined(CONVPOOL_ISA_NEON)
constinit const IsaKernels neon_kernels = make_kernels("neon");
#endif

}  // namespace convpool::kernels
