#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "convpool/convpool.hpp"
#include "workspace.hpp"

using namespace convpool;

TEST_CASE("forced isa") {
  const char* const expected = std::getenv("CONVPOOL_TEST_EXPECTED_ISA");
  if (expected == nullptr) return;  // the run without the environment variable has nothing to check here
  const auto names = available_isas();
  if (std::find(names.begin(), names.end(), expected) != names.end()) {
    CHECK(isa() == expected);
  } else {
    CHECK_THROWS_AS(isa(), std::invalid_argument);
  }
}

TEST_CASE("threads") {
  const int before = get_num_threads();
  CHECK(before >= 1);
  set_num_threads(3);
  CHECK(get_num_threads() == 3);
  CHECK_THROWS_AS(set_num_threads(0), std::invalid_argument);
  CHECK_THROWS_AS(set_num_threads(100000), std::invalid_argument);
  set_num_threads(before);
}

TEST_CASE("a workspace is aligned, its own, and reused") {
  std::array<const void*, 2> first{};
  {
    const Workspace a(100000), b(100000);
    CHECK(reinterpret_cast<std::uintptr_t>(a.as<float>()) % 64 == 0);
    CHECK(a.as<char>() != b.as<char>());
    first = {a.as<char>(), b.as<char>()};
  }
  // As many bytes: what other tests have left behind may fit fewer better.
  const Workspace again(100000), other(100000);
  CHECK(std::count(first.begin(), first.end(), again.as<char>()) == 1);
  CHECK(std::count(first.begin(), first.end(), other.as<char>()) == 1);
  CHECK_THROWS_AS(Workspace(std::size_t{1} << 60), std::bad_alloc);
}

TEST_CASE("isa and build info") {
  CHECK_THROWS_WITH_AS(set_isa("mmx"), doctest::Contains("isa must be one of"), std::invalid_argument);
  CHECK(build_info().isas.size() >= available_isas().size());
  CHECK(std::string(version()) == CONVPOOL_VERSION);
}

TEST_CASE("the machine's limits are positive and bad requests are refused") {
  for (const std::string& name : available_isas()) CHECK(measure_fma_peak(name, 0.001) > 1e8);
  CHECK(measure_memory_bandwidth(0.001) > 1e7);
  CHECK_THROWS_AS(measure_fma_peak("mmx", 0.001), std::invalid_argument);
  CHECK_THROWS_AS(measure_memory_bandwidth(0), std::invalid_argument);
}
