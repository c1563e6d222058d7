#pragma once

#include <algorithm>

#include "pool2d_algorithm.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {

/// What the sums of an average pooling are divided by: a factor for each column of results, repeated `inner` times, and
/// one for each row. Empty for a maximum.
template <class T>
class PoolDivisors {
 public:
  PoolDivisors(const Pool2dRun<T>& run, std::int64_t inner) : inner_(inner) {
    if (!run.averages()) return;
    const Pool2dGeometry& g = run.geometry;
    const std::int64_t columns = size_product(g.w.out, inner);
    memory_ = Workspace(static_cast<std::size_t>(size_product(columns + g.h.out, std::int64_t{sizeof(T)})));
    columns_ = memory_.as<T>();
    rows_ = columns_ + columns;
    row_count_ = g.h.out;
    const bool overridden = run.divisor.divisor_override.has_value();
    // A dilated window can miss the input altogether; its sum is 0, and so is its average.
    const auto factor = [&](const Axis& axis, std::int64_t output) {
      return overridden ? T(1) : static_cast<T>(std::max<std::int64_t>(1, counted_taps(axis, output, run.divisor)));
    };
    for (std::int64_t ow = 0; ow < g.w.out; ++ow) std::fill_n(columns_ + ow * inner, inner, factor(g.w, ow));
    for (std::int64_t oh = 0; oh < g.h.out; ++oh) {
      rows_[oh] = overridden ? static_cast<T>(*run.divisor.divisor_override) : factor(g.h, oh);
    }
    const std::int64_t middle = g.w.out / 2;
    const auto like_the_middle = [&](std::int64_t ow) { return columns_[ow * inner] == columns_[middle * inner]; };
    uniform_ = {middle, middle + 1};
    while (uniform_.begin > 0 && like_the_middle(uniform_.begin - 1)) --uniform_.begin;
    while (uniform_.end < g.w.out && like_the_middle(uniform_.end)) ++uniform_.end;
  }

  /// For the results [columns.begin, columns.end) of a row.
  kernels::DivisorArguments<T> of(const Range& columns) const {
    if (columns_ == nullptr) return {};
    const auto within = [&](std::int64_t x) {
      return (std::clamp(x, columns.begin, columns.end) - columns.begin) * inner_;
    };
    return {columns_ + columns.begin * inner_, T(1), within(uniform_.begin), within(uniform_.end)};
  }
  /// Whether every result has the same; so for a maximum, which has none.
  bool all_equal() const {
    const std::int64_t columns = rows_ - columns_;
    return columns_ == nullptr || (uniform_.begin == 0 && uniform_.end * inner_ == columns &&
                                   std::all_of(rows_, rows_ + row_count_, [&](T count) { return count == rows_[0]; }));
  }
  /// For each row of results; null for a maximum.
  const T* rows() const { return rows_; }

 private:
  /// The part of a divisor that one axis contributes: the taps of an output that count.
  static std::int64_t counted_taps(const Axis& axis, std::int64_t output, const DivisorRule& rule) {
    if (!rule.count_include_pad) {
      const Range taps = axis.taps_inside(output);
      return taps.end - taps.begin;
    }
    // What ceil_mode adds beyond the padding doesn't count.
    const std::int64_t room = axis.in + axis.pad_end - axis.start(output);
    return std::min(axis.kernel, (room - 1) / axis.dilation + 1);
  }

  std::int64_t inner_, row_count_ = 0;
  Workspace memory_;
  T *columns_ = nullptr, *rows_ = nullptr;
  Range uniform_{0, 0};
};

}  // namespace convpool
