#pragma once

#include <string>

#include "convpool/export.h"

namespace convpool {

/// The most floating-point operations a second that one core does with an instruction set, measured for about
/// `seconds`: fused multiply-adds on registers alone, in float32, each counted as two. Throws std::invalid_argument for
/// a name outside `available_isas()`, or unless 0 < seconds <= 10.
CONVPOOL_API double measure_fma_peak(const std::string& isa, double seconds = 0.05);

/// Bytes a second that one core reads plus writes when it copies arrays beyond the last cache (128 MB). std::bad_alloc.
CONVPOOL_API double measure_memory_bandwidth(double seconds = 0.2);

}  // namespace convpool
