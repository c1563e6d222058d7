#include "conv2d_weights.hpp"

#include <algorithm>

#include "parallel.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

// A multiple of the lanes for each group, so that every group's bias loads in whole vectors.
std::int64_t padded_out_channels(WeightForm form, const Conv2dGeometry& g, int lanes) {
  return form == WeightForm::depthwise_channels ? round_up(g.out_channels, lanes)
                                                : g.groups * round_up(g.group_out_channels(), lanes);
}

template <class T>
void pack_interleaved(const Conv2dGeometry& g, std::int64_t lanes, const T* weight, const T* bias, T* to) {
  std::int64_t column = 0;
  for (std::int64_t phase = 0; phase < interleaved_phases(g, lanes); ++phase, column += lanes) {
    for (std::int64_t tap = 0; tap <= g.taps(); ++tap, to += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) {
        const std::int64_t k = (column + l) % g.channels;
        to[l] = tap < g.taps() ? weight[k * g.taps() + tap] : bias == nullptr ? T(0) : bias[k];
      }
    }
  }
}

std::int64_t packed_per_channel(WeightForm form, const Conv2dGeometry& g) {
  if (form != WeightForm::winograd) return g.reduction();
  const WinogradAxes axes(g);
  return axes.elements() * winograd_element_pitch(g, axes, 1);
}

/// Calls use(task, first channel, channels, rows, scratch) for all output channels, a vector at a time, and a few input
/// channels: rows of `lanes` output channels, one for each input channel and tap, zeros where there is no such output
/// channel; and scratch for `extra_rows` more for each input channel.
template <class T, class Use>
void for_each_transposed(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, int threads,
                         std::int64_t extra_rows, Use&& use) {
  const int lanes = kernels.lanes;
  const std::int64_t vectors = ceil_div(g.group_out_channels(), lanes);
  // A multiple of reduction_block or a divisor of it, about 300 rows.
  std::int64_t step = reduction_block;
  while (step > 1 && step * g.taps() > 300) step /= 2;
  const SlottedWorkspace<T> scratch(step * (g.taps() + extra_rows) * lanes, threads);
  parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int thread) {
    const std::int64_t group = task / vectors, first = task % vectors * lanes;
    const std::int64_t width = std::min<std::int64_t>(lanes, g.group_out_channels() - first);
    const T* const from = weight + (group * g.group_out_channels() + first) * g.reduction();
    T* const rows = scratch.slot(thread);
    for (std::int64_t c = 0; c < g.group_channels(); c += step) {
      const std::int64_t channels = std::min(step, g.group_channels() - c);
      if (width < lanes) std::fill_n(rows, channels * g.taps() * lanes, T(0));
      kernels.transpose(from + c * g.taps(), g.reduction(), width, channels * g.taps(), rows, lanes);
      use(task, c, channels, rows, rows + step * g.taps() * lanes);
    }
  });
}

template <class T>
void pack_channel_vectors(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, T* to,
                          int threads) {
  const std::int64_t lanes = kernels.lanes;
  for_each_transposed(
      g, kernels, weight, threads, 0,
      [&](std::int64_t task, std::int64_t first, std::int64_t channels, const T* rows, T*) {
        const std::int64_t block = first / reduction_block * reduction_block;
        for (std::int64_t tap = 0; tap < g.taps(); ++tap) {
          T* const out = to + (task * g.reduction() + reduction_index(g, block, 0, tap) + first - block) * lanes;
          kernels.pad_rows({rows + tap * lanes, g.taps() * lanes, out, lanes, channels, 0, lanes, lanes, T(0)});
        }
      });
}

/// [K in vectors][step][tap][lane] for groups of n channels in and out: at each step a lane of a group takes its own
/// input channel, for the output whose sum is there; sums move a lane down after every step, and arrive at their own
/// for the last. The bias is where sums begin.
template <class T>
void pack_rotated(const Conv2dGeometry& g, std::int64_t lanes, const T* weight, const T* bias, T* to, T* packed_bias) {
  const std::int64_t n = g.group_channels();
  for (std::int64_t first = 0; first < g.out_channels; first += lanes) {
    const std::int64_t channels = std::min(lanes, g.out_channels - first);
    for (std::int64_t step = 0; step < n; ++step, to += g.taps() * lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) {
        const std::int64_t k = first + l / n * n + (l + step + 1) % n;
        if (step == 0) packed_bias[first + l] = l < channels && bias != nullptr ? bias[k] : T(0);
        const T* const from = weight + (k * n + l % n) * g.taps();
        for (std::int64_t tap = 0; tap < g.taps(); ++tap) to[tap * lanes + l] = l < channels ? from[tap] : T(0);
      }
    }
  }
}

/// The taps of one part, zeros where it has none: to[channel][tap of the part][lane].
template <class T>
void gather_part(const Conv2dGeometry& g, const WinogradAxes& axes, std::int64_t part_h, std::int64_t part_w,
                 std::int64_t channels, std::int64_t lanes, const T* rows, T* to) {
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t y = 0; y < axes.h.taps; ++y) {
      const std::int64_t i = axes.h.kernel_tap(part_h, y);
      for (std::int64_t x = 0; x < axes.w.taps; ++x, to += lanes) {
        const std::int64_t j = axes.w.kernel_tap(part_w, x);
        if (i < g.h.kernel && j < g.w.kernel) {
          std::copy_n(rows + (c * g.taps() + i * g.w.kernel + j) * lanes, lanes, to);
        } else {
          std::fill_n(to, lanes, T(0));
        }
      }
    }
  }
}

template <class T>
void pack_winograd(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, T* to, int threads) {
  const WinogradAxes axes(g);
  const std::int64_t lanes = kernels.lanes, pitch = winograd_element_pitch(g, axes, lanes);
  const auto transform = kernels.winograd_weight[axes.h.results][axes.w.results];
  const std::int64_t part_taps = axes.h.taps * axes.w.taps;
  for_each_transposed(g, kernels, weight, threads, part_taps,
                      [&](std::int64_t task, std::int64_t first, std::int64_t channels, const T* rows, T* gathered) {
                        T* const out = to + task * axes.elements() * pitch + first * lanes;
                        if (axes.parts() == 1 && part_taps == g.taps()) return transform(rows, channels, out, pitch);
                        for (std::int64_t h = 0; h < axes.h.parts; ++h) {
                          for (std::int64_t w = 0; w < axes.w.parts; ++w) {
                            gather_part(g, axes, h, w, channels, lanes, rows, gathered);
                            transform(gathered, channels, out + (h * axes.w.parts + w) * g.group_channels() * lanes,
                                      pitch);
                          }
                        }
                      });
}

}  // namespace

template <class T>
std::int64_t packed_elements(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  if (form == WeightForm::plain) return 0;
  if (form == WeightForm::depthwise_interleaved) {
    return interleaved_phases(g, kernels.lanes) * (g.taps() + 1) * kernels.lanes;
  }
  return padded_out_channels(form, g, kernels.lanes) * (packed_per_channel(form, g) + 1);
}

template <class T>
Weights<T> pack_weights(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight,
                        const T* bias, T* to, int threads) {
  if (form == WeightForm::plain) return {weight, bias, weight};
  const int lanes = kernels.lanes;
  if (form == WeightForm::depthwise_interleaved) {
    pack_interleaved(g, lanes, weight, bias, to);
    return {to, nullptr, weight};
  }
  const std::int64_t padded = padded_out_channels(form, g, lanes);
  T* packed_bias = to + padded * packed_per_channel(form, g);
  std::fill(packed_bias, packed_bias + padded, T(0));
  if (form == WeightForm::depthwise_channels && rotates_groups(g)) {
    pack_rotated(g, lanes, weight, bias, to, packed_bias);
    return {to, packed_bias, weight};
  }
  if (form == WeightForm::depthwise_channels) {
    for (std::int64_t k = 0; k < g.out_channels; k += lanes) {
      const std::int64_t channels = std::min<std::int64_t>(lanes, g.out_channels - k);
      T* const vector = to + k * g.reduction();
      if (channels < lanes) std::fill_n(vector, lanes * g.reduction(), T(0));
      kernels.transpose(weight + k * g.reduction(), g.reduction(), channels, g.reduction(), vector, lanes);
    }
    if (bias != nullptr) std::copy(bias, bias + g.out_channels, packed_bias);
    return {to, packed_bias, weight};
  }
  if (form == WeightForm::winograd) {
    pack_winograd(g, kernels, weight, to, threads);
  } else {
    pack_channel_vectors(g, kernels, weight, to, threads);
  }
  if (bias != nullptr) {
    const std::int64_t kg = g.group_out_channels();
    for (std::int64_t group = 0; group < g.groups; ++group) {
      std::copy(bias + group * kg, bias + (group + 1) * kg, packed_bias + group * round_up(kg, lanes));
    }
  }
  return {to, packed_bias, weight};
}

#define CONVPOOL_INSTANTIATE(T)                                                                                     \
  template std::int64_t packed_elements<T>(WeightForm, const Conv2dGeometry&, const kernels::Table<T>&);            \
  template Weights<T> pack_weights(WeightForm, const Conv2dGeometry&, const kernels::Table<T>&, const T*, const T*, \
                                   T*, int);
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
