// What stands in a description of a convolution, in words.

#include <iomanip>
#include <sstream>

#include "convpool/conv2d.hpp"
#include "geometry.hpp"

namespace convpool {

const char* algorithm_name(Algorithm algorithm) noexcept {
  switch (algorithm) {
    case Algorithm::automatic:
      return "auto";
    case Algorithm::naive:
      return "naive";
    case Algorithm::im2col:
      return "im2col";
    case Algorithm::implicit_gemm:
      return "implicit_gemm";
    case Algorithm::direct:
      return "direct";
    case Algorithm::winograd:
      return "winograd";
    case Algorithm::depthwise:
      return "depthwise";
    case Algorithm::benchmark:
      return "benchmark";
  }
  return "";
}

namespace {

/// A count in full, however large.
std::string whole(double count) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(0) << count;
  return text.str();
}

}  // namespace

std::string Conv2dDescription::text() const {
  std::ostringstream text;
  text << std::setprecision(3) << "algorithm: " << algorithm_name(algorithm) << "\nwhy: " << why << "\nisa: " << isa
       << " (" << lanes << " lanes)\nthreads: " << num_threads << "\nin the vectors: " << in_vectors;
  if (tile_rows > 0) text << "\nregister tile: " << tile_rows << " rows x " << tile_vectors << " vectors";
  if (winograd_tile[0] > 0) text << "\nwinograd tile: " << winograd_tile[0] << " x " << winograd_tile[1] << " results";
  if (block_pixels > 0) {
    text << "\nblock: " << block_pixels << " pixels x " << block_out_channels << " channels, " << block_terms
         << " terms at a time";
  }
  text << "\nflops: " << whole(flops) << "\nbytes: " << whole(bytes) << "\nintensity: " << intensity()
       << " flops a byte\nbound: " << (memory_bound() ? "memory (below " : "compute (at least ") << balance
       << " flops a byte)\nworkspace: " << workspace_bytes << " bytes\npacked weights: " << packed_weight_bytes
       << " bytes\nresult: " << shape_text(output_shape);
  for (const Timing& t : timings) {
    text << std::fixed << std::setprecision(1) << "\nmeasured: " << algorithm_name(t.algorithm) << ", " << t.in_vectors
         << " in the vectors: " << t.seconds * 1e6 << " us";
  }
  return text.str();
}

}  // namespace convpool
