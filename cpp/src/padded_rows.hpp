#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "geometry.hpp"
#include "kernels/kernel_table.hpp"

namespace convpool {

/// A row with the padding around it: to[x] = row[source of (first + x)] for x < count, `fill` where nothing lies there.
template <class T>
void copy_padded_row(const T* row, std::int64_t stride, std::int64_t size, PaddingMode mode, T fill, std::int64_t first,
                     std::int64_t count, T* to) {
  const std::int64_t begin = std::clamp<std::int64_t>(-first, 0, count);
  const std::int64_t end = std::clamp<std::int64_t>(size - first, begin, count);
  const auto edge = [&](std::int64_t from, std::int64_t until) {
    if (mode == PaddingMode::zeros) {
      std::fill(to + from, to + until, fill);
      return;
    }
    for (std::int64_t x = from; x < until; ++x) {
      // Past the padding proper lies only what whole vectors read and nobody uses.
      const std::int64_t source = std::clamp<std::int64_t>(source_index(first + x, size, mode), 0, size - 1);
      to[x] = row[source * stride];
    }
  };
  edge(0, begin);
  if (stride == 1) {
    std::memcpy(to + begin, row + first + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
  } else {
    for (std::int64_t x = begin; x < end; ++x) to[x] = row[(first + x) * stride];
  }
  edge(end, count);
}

/// Where the padded rows of a plane go, taken apart by the stride: element x of a row, counted from `first`, stands at
/// (x % phases) * phase_pitch + x / phases. Results that are neighbours then read neighbours, for every tap.
struct PhasedRows {
  std::int64_t first;        ///< column of element 0, counted in the unpadded input
  std::int64_t phases;       ///< the horizontal stride
  std::int64_t phase_pitch;  ///< elements reserved for a phase of a row

  /// For the outputs [begin, begin + count) along the axis, `count` rounded up by the caller to what is read.
  PhasedRows(const Axis& w, std::int64_t begin, std::int64_t count)
      : first(w.start(begin)), phases(w.stride), phase_pitch(count + (w.dilation * (w.kernel - 1)) / w.stride + 1) {}

  std::int64_t row_pitch() const { return phases * phase_pitch; }
  std::int64_t tap_offset(const Axis& w, std::int64_t tap) const {
    const std::int64_t x = tap * w.dilation;
    return x % phases * phase_pitch + x / phases;
  }

  /// `scratch` holds row_pitch() elements and is used only where there is more than one phase.
  template <class T>
  void copy(const kernels::Table<T>& kernels, const T* row, std::int64_t stride, std::int64_t size, PaddingMode mode, T fill,
            T* scratch, T* to) const {
    if (phases == 1) {
      copy_padded_row(row, stride, size, mode, fill, first, phase_pitch, to);
    } else {
      copy_padded_row(row, stride, size, mode, fill, first, row_pitch(), scratch);
      kernels.split_phases(scratch, row_pitch(), phases, to, phase_pitch);
    }
  }
};

}  // namespace convpool
