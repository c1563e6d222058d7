#include "block_sizes.hpp"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace convpool {
namespace {

using std::int64_t;

#if defined(__linux__)
// Not sysconf(): what it says of the last cache is ten times too much on some virtual machines.
void ask_system(CacheSizes& caches) {
  int last_level = 0;
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i);
    std::ifstream level_file(folder + "/level"), type_file(folder + "/type"), size_file(folder + "/size");
    int level = 0;
    int64_t size = 0;
    std::string type, unit;
    if (!(level_file >> level) || !(type_file >> type) || !(size_file >> size >> unit)) continue;
    if (type == "Instruction" || size <= 0) continue;
    size *= unit == "M" ? 1 << 20 : 1 << 10;
    if (level == 1) caches.l1 = size;
    if (level == 2) caches.l2 = size;
    if (level >= 2 && level > last_level) {
      caches.last = size;
      last_level = level;
    }
  }
}
#elif defined(__APPLE__)
void ask_system(CacheSizes& caches) {
  const auto size_of = [](const char* name) {
    int64_t size = 0;
    std::size_t bytes = sizeof size;
    return sysctlbyname(name, &size, &bytes, nullptr, 0) == 0 ? size : 0;
  };
  if (const int64_t size = size_of("hw.perflevel0.l1dcachesize"); size > 0) caches.l1 = size;
  if (const int64_t size = size_of("hw.perflevel0.l2cachesize"); size > 0) caches.l2 = caches.last = size;
}
#else
void ask_system(CacheSizes&) {}
#endif

bool ask_environment(CacheSizes& caches) {
  const char* const value = std::getenv("CONVPOOL_CACHE_SIZES");
  if (value == nullptr) return false;
  std::string_view text = value;
  int64_t sizes[3];
  for (int i = 0; i < 3; ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sizes[i]);
    if (error != std::errc() || sizes[i] <= 0 || sizes[i] > int64_t{1} << 32) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (i < 2 && !text.empty() && text[0] == ',') text.remove_prefix(1);
  }
  caches = {sizes[0] << 10, sizes[1] << 10, sizes[2] << 10};
  return text.empty();
}

CacheSizes find_cache_sizes() noexcept {
  CacheSizes caches;
  try {
    CacheSizes asked;
    if (!ask_environment(asked)) {
      asked = {};
      ask_system(asked);
    }
    caches = asked;
  } catch (...) {
    return {};  // no memory to read them with
  }
  return caches;
}

// Before this file's own initialisation the defaults: other files' may make calls.
constinit CacheSizes caches;
constinit BlockSizes sizes = block_sizes_for({});

[[maybe_unused]] const bool found = [] {
  caches = find_cache_sizes();
  sizes = block_sizes_for(caches);
  return true;
}();

}  // namespace

const CacheSizes& cache_sizes() noexcept { return caches; }

const BlockSizes& block_sizes() noexcept { return sizes; }

}  // namespace convpool
