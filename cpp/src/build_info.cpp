#include "convpool/runtime.hpp"
#include "convpool/version.hpp"
#include "thread_pool.hpp"

namespace convpool {

const char* version() noexcept { return CONVPOOL_VERSION; }

BuildInfo build_info() {
  BuildInfo info;
#if defined(__clang__)
  info.compiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
  info.compiler = "GCC " __VERSION__;
#endif
  info.flags = CONVPOOL_FLAGS;
  info.build_type = CONVPOOL_BUILD_TYPE;
#if defined(CONVPOOL_HAVE_SSE2)
  info.isas.emplace_back("sse2");
#endif
#if defined(CONVPOOL_HAVE_AVX2)
  info.isas.emplace_back("avx2");
#endif
#if defined(CONVPOOL_HAVE_AVX512)
  info.isas.emplace_back("avx512");
#endif
#if defined(CONVPOOL_HAVE_NEON)
  info.isas.emplace_back("neon");
#endif
  info.threads = built_with_threads();
  return info;
}

}  // namespace convpool
