// A description of a convolution as lines of text.

#include <cstdint>
#include <iomanip>
#include <sstream>

#include "convpool/conv2d.hpp"
#include "geometry.hpp"

namespace convpool {

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
  text << "\nflops: " << static_cast<std::uint64_t>(flops) << "\nbytes: " << static_cast<std::uint64_t>(bytes)
       << "\nintensity: " << intensity()
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
