#pragma once

// The tables of one ISA: each is the one symbol that a translation unit exports. These units are compiled once for each
// ISA, with that ISA's flags and CONVPOOL_ISA_<NAME> defined.

#include "kernel_table.hpp"

#if defined(CONVPOOL_ISA_AVX512)
#define CONVPOOL_ISA avx512
#elif defined(CONVPOOL_ISA_AVX2)
#define CONVPOOL_ISA avx2
#elif defined(CONVPOOL_ISA_SSE2)
#define CONVPOOL_ISA sse2
#elif defined(CONVPOOL_ISA_NEON)
#define CONVPOOL_ISA neon
#endif

namespace convpool::kernels::CONVPOOL_ISA {

extern const Table<float> table_f32;
extern const Table<double> table_f64;
extern const DepthwisePlaneTable<float> depthwise_planes_f32;
extern const DepthwisePlaneTable<double> depthwise_planes_f64;
extern const DepthwiseChannelTable<float> depthwise_channels_f32;
extern const DepthwiseChannelTable<double> depthwise_channels_f64;
extern const PoolTables pool;

}  // namespace convpool::kernels::CONVPOOL_ISA
