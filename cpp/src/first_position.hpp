#pragma once

#include "geometry.hpp"

namespace convpool {

/// The position of a window that misses the input altogether, as a dilated one in the padding can.
inline constexpr std::int64_t no_position = -1;

/// The first position of a window inside its plane: where a maximum is found if nothing is larger than the padding.
inline std::int64_t first_position(const Pool2dGeometry& g, std::int64_t oh, std::int64_t ow) {
  const Range rows = g.h.taps_inside(oh), columns = g.w.taps_inside(ow);
  if (rows.empty() || columns.empty()) return no_position;
  return (g.h.start(oh) + rows.begin * g.h.dilation) * g.w.in + g.w.start(ow) + columns.begin * g.w.dilation;
}

}  // namespace convpool
