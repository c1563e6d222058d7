#pragma once

#include "convpool/export.h"

#define CONVPOOL_VERSION_MAJOR 0
#define CONVPOOL_VERSION_MINOR 1
#define CONVPOOL_VERSION_PATCH 0
#define CONVPOOL_VERSION "0.1.0"

namespace convpool {

/// The version of the library that runs, as "major.minor.patch"; the macros tell the headers' version.
CONVPOOL_API const char* version() noexcept;

}  // namespace convpool
