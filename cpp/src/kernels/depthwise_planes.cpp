#include "depthwise_planes.hpp"

#include "isa_tables.hpp"

namespace convpool::kernels::CONVPOOL_ISA {

constinit const DepthwisePlaneTable<float> depthwise_planes_f32{depthwise_plane<float>, depthwise_interleaved<float>};
constinit const DepthwisePlaneTable<double> depthwise_planes_f64{depthwise_plane<double>,
                                                                 depthwise_interleaved<double>};

}  // namespace convpool::kernels::CONVPOOL_ISA
