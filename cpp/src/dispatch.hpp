#pragma once

#include <string>

#include "kernels/kernel_table.hpp"

namespace convpool {

/// The kernels in force: chosen at the first call from the CPU and CONVPOOL_ISA, or by set_isa().
/// Throws std::invalid_argument where CONVPOOL_ISA names none that can run here.
const kernels::IsaKernels& active_kernels();

/// The kernels of one of available_isas(); std::invalid_argument for another name.
const kernels::IsaKernels& kernels_named(const std::string& isa);

}  // namespace convpool
