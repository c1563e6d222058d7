#include "depthwise_channels.hpp"
#include "depthwise_planes.hpp"

#include "isa_tables.hpp"

namespace convpool::kernels::CONVPOOL_ISA {

constinit const DepthwiseTable<float> depthwise_f32{depthwise_plane<float>, depthwise_interleaved<float>,
                                                    depthwise_channels<float>};
constinit const DepthwiseTable<double> depthwise_f64{depthwise_plane<double>, depthwise_interleaved<double>,
                                                     depthwise_channels<double>};

}  // namespace convpool::kernels::CONVPOOL_ISA
