#pragma once

namespace convpool {

/// What the CPU has and the operating system saves on a context switch.
struct CpuFeatures {
  bool avx2_fma = false;
  bool avx512 = false;  ///< F, BW, DQ and VL
};

CpuFeatures detect_cpu_features() noexcept;

}  // namespace convpool
