#include "activation.hpp"
#include "channel_sums.hpp"
#include "isa_tables.hpp"
#include "outer_product.hpp"
#include "peak.hpp"
#include "row_layout.hpp"
#include "transpose.hpp"
#include "winograd.hpp"

namespace convpool::kernels {
namespace {

template <class T>
constexpr Table<T> make_table(const DepthwisePlaneTable<T>& planes, const DepthwiseChannelTable<T>& channels) {
  Table<T> table{};
  table.lanes = lanes<T>;
  fill_tiles<T, 1>(table);
  fill_tiles<T, 2>(table);
  fill_tiles<T, 3>(table);
  fill_tiles<T, 4>(table);
  table.finish_streaming = finish_streaming;
  table.transpose = transpose<T>;
  if constexpr (sizeof(Vec<T>) == cache_line) {
    table.stream_transposed = stream_transposed<T>;
  } else {
    table.stream_transposed = transpose<T>;
  }
  table.pack_taps = pack_taps<T>;
  table.sum_channels = sum_channels<T>;
  table.apply_curve = apply_curve<T>;
  table.add_rows = add_rows<T>;
  table.depthwise_planes = &planes;
  table.depthwise_channels = &channels;
  table.split_phases = split_phases<T>;
  table.pad_rows = pad_rows<T>;
  fill_winograd<T>(table);
  table.multiply_add_rounds = multiply_add_rounds<T>;
  return table;
}

}  // namespace

namespace CONVPOOL_ISA {

constinit const Table<float> table_f32 = make_table<float>(depthwise_planes_f32, depthwise_channels_f32);
constinit const Table<double> table_f64 = make_table<double>(depthwise_planes_f64, depthwise_channels_f64);

}  // namespace CONVPOOL_ISA
}  // namespace convpool::kernels
