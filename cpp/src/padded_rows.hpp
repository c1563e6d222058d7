#pragma once

#include <algorithm>
#include <cstdint>

#include "geometry.hpp"
#include "kernels/kernel_table.hpp"
#include "tiling.hpp"

namespace convpool {

/// Rows of the input, `row` elements apart, whose pixels are `pixel` apart.
template <class T>
struct SourceRows {
  const T* data;
  std::int64_t row, pixel;
  std::int64_t columns;
};

/// Rows with the padding around them: to[r * to_row + x] = element (first + x) of row r for x < count, `fill` where
/// nothing lies.
template <class T>
void copy_padded_rows(const kernels::Table<T>& kernels, const SourceRows<T>& from, std::int64_t rows, PaddingMode mode,
                      T fill, std::int64_t first, std::int64_t count, T* to, std::int64_t to_row) {
  const std::int64_t begin = std::clamp<std::int64_t>(-first, 0, count);
  const std::int64_t end = std::clamp<std::int64_t>(from.columns - first, begin, count);
  if (from.pixel == 1) {
    kernels.pad_rows({from.data + first + begin, from.row, to, to_row, rows, begin, end - begin, count, fill});
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* const row = from.data + r * from.row;
    T* const out = to + r * to_row;
    if (from.pixel != 1) {
      std::fill(out, out + begin, fill);
      const T* in = row + (first + begin) * from.pixel;
      std::int64_t x = begin;
      for (; x + 4 <= end; x += 4, in += 4 * from.pixel) {
        const T a = in[0], b = in[from.pixel], c = in[2 * from.pixel], d = in[3 * from.pixel];
        out[x] = a;
        out[x + 1] = b;
        out[x + 2] = c;
        out[x + 3] = d;
      }
      for (; x < end; ++x, in += from.pixel) out[x] = *in;
      std::fill(out + end, out + count, fill);
    }
    if (mode == PaddingMode::zeros) {
      if (from.pixel == 1) return;
      continue;
    }
    const auto edge = [&](std::int64_t from_x, std::int64_t until_x) {
      for (std::int64_t x = from_x; x < until_x; ++x) {
        // Past the padding proper lies only what whole vectors read and nobody uses.
        const std::int64_t source =
            std::clamp<std::int64_t>(source_index(first + x, from.columns, mode), 0, from.columns - 1);
        out[x] = row[source * from.pixel];
      }
    };
    edge(0, begin);
    edge(end, count);
  }
}

/// Where the padded rows of a plane go, taken apart by the stride: element x of a row, counted from `first`, stands at
/// (x % phases) * phase_pitch + x / phases. Results that are neighbours then read neighbours, for every tap.
struct PhasedRows {
  std::int64_t first;        ///< column of element 0, counted in the unpadded input
  std::int64_t phases;       ///< the horizontal stride
  std::int64_t phase_pitch;  ///< elements reserved for a phase of a row, whole cache lines
  std::int64_t used;         ///< elements of a row that results depend on, and a few more

  /// For the outputs [begin, begin + count) along the axis, read in vectors of `lanes`.
  PhasedRows(const Axis& w, std::int64_t begin, std::int64_t count, std::int64_t lanes)
      : first(w.start(begin)),
        phases(w.stride),
        phase_pitch(round_up(round_up(count, lanes) + (w.dilation * (w.kernel - 1)) / w.stride + 1, 16)),
        used(std::min(row_pitch(), round_up((count - 1) * w.stride + w.effective_kernel(), 2 * lanes))) {}

  /// For `columns` of the input from a first one on, whole vectors of each phase.
  PhasedRows(std::int64_t first_column, std::int64_t columns, std::int64_t stride, std::int64_t pitch)
      : first(first_column), phases(stride), phase_pitch(pitch), used(columns) {}

  std::int64_t row_pitch() const { return size_product(phases, phase_pitch); }
  std::int64_t tap_offset(const Axis& w, std::int64_t tap) const {
    const std::int64_t x = tap * w.dilation;
    return x % phases * phase_pitch + x / phases;
  }

  /// What copy() needs beside the target: rows before they are taken apart.
  std::int64_t scratch_elements() const { return phases == 1 ? 0 : size_product(rows_at_once, scratch_pitch()); }

  /// Copies rows to rows `to_row` apart.
  template <class T>
  void copy(const kernels::Table<T>& kernels, const SourceRows<T>& from, std::int64_t rows, PaddingMode mode, T fill,
            T* scratch, T* to, std::int64_t to_row) const {
    if (phases == 1) {
      copy_padded_rows(kernels, from, rows, mode, fill, first, used, to, to_row);
      return;
    }
    if (from.pixel == 1 && mode == PaddingMode::zeros) {
      const std::int64_t lead = std::clamp<std::int64_t>(-first, 0, used);
      const std::int64_t skipped = std::max<std::int64_t>(first, 0);
      const std::int64_t columns = std::clamp<std::int64_t>(from.columns - skipped, 0, used - lead);
      kernels.split_phases(
          {from.data + skipped, from.row, to, to_row, phase_pitch, rows, lead, columns, used, phases, fill});
      return;
    }
    for (std::int64_t r = 0; r < rows; r += rows_at_once) {
      const std::int64_t count = std::min(rows_at_once, rows - r);
      const SourceRows<T> some{from.data + r * from.row, from.row, from.pixel, from.columns};
      copy_padded_rows(kernels, some, count, mode, fill, first, used, scratch, scratch_pitch());
      kernels.split_phases(
          {scratch, scratch_pitch(), to + r * to_row, to_row, phase_pitch, count, 0, used, used, phases, fill});
    }
  }

 private:
  static constexpr std::int64_t rows_at_once = 8;
  std::int64_t scratch_pitch() const { return round_up(used, 16); }
};

}  // namespace convpool
