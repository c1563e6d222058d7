// Compiled once for each ISA, with that ISA's flags and CONVPOOL_ISA_<NAME> defined. Its only external symbol is the
// table.

#include "activation.hpp"
#include "depthwise.hpp"
#include "outer_product.hpp"
#include "peak.hpp"
#include "pooling.hpp"
#include "row_layout.hpp"
#include "transpose.hpp"
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
  table.reduce = reduce<T>;
  table.reduce_run = reduce_run<T>;
  table.max_index = max_index<T>;
  table.split_phases = split_phases<T>;
  table.pad_rows = pad_rows<T>;
  fill_winograd<T>(table);
  table.multiply_add_rounds = multiply_add_rounds<T>;
  return table;
}

}  // namespace

#if defined(CONVPOOL_ISA_AVX512)
constinit const IsaKernels avx512_kernels{"avx512", make_table<float>(), make_table<double>()};
#elif defined(CONVPOOL_ISA_AVX2)
constinit const IsaKernels avx2_kernels{"avx2", make_table<float>(), make_table<double>()};
#elif defined(CONVPOOL_ISA_SSE2)
constinit const IsaKernels sse2_kernels{"sse2", make_table<float>(), make_table<double>()};
#elif defined(CONVPOOL_ISA_NEON)
constinit const IsaKernels neon_kernels{"neon", make_table<float>(), make_table<double>()};
#endif

}  // namespace convpool::kernels
