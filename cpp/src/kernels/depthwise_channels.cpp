#include "depthwise_channels.hpp"

#include "isa_tables.hpp"

namespace convpool::kernels::CONVPOOL_ISA {

constinit const DepthwiseChannelTable<float> depthwise_channels_f32{depthwise_channels<float>,
                                                                    takes_channels_in_turn<float>(3)};
constinit const DepthwiseChannelTable<double> depthwise_channels_f64{depthwise_channels<double>,
                                                                     takes_channels_in_turn<double>(3)};

}  // namespace convpool::kernels::CONVPOOL_ISA
