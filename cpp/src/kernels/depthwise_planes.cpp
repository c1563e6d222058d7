#include "depthwise_planes.hpp"

#include "depthwise_runs.hpp"
#include "isa_tables.hpp"

namespace convpool::kernels::CONVPOOL_ISA {

constinit const DepthwisePlaneTable<float> depthwise_planes_f32{depthwise_plane<float>, takes_blocks,
                                                                depthwise_interleaved<float>, goes_by_rows<float>,
                                                                choose_depthwise_run<float>};
constinit const DepthwisePlaneTable<double> depthwise_planes_f64{depthwise_plane<double>, takes_blocks,
                                                                 depthwise_interleaved<double>, goes_by_rows<double>,
                                                                 choose_depthwise_run<double>};

}  // namespace convpool::kernels::CONVPOOL_ISA
