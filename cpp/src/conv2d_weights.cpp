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

std::int64_t packed_per_channel(WeightForm form, const Conv2dGeometry& g) {
  return form == WeightForm::winograd ? 36 * winograd_element_pitch(g, 1) : g.reduction();
}

/// Calls use(task, first channel, channels, rows) for all output channels, a vector at a time, and a few input
/// channels: rows of `lanes` output channels, one for each input channel and tap, zeros where there is no such output
/// channel.
template <class T, class Use>
void for_each_transposed(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, int threads,
                         Use&& use) {
  const int lanes = kernels.lanes;
  const std::int64_t vectors = ceil_div(g.group_out_channels(), lanes);
  // A multiple of reduction_block or a divisor of it, about 300 rows.
  std::int64_t step = reduction_block;
  while (step > 1 && step * g.taps() > 300) step /= 2;
  const SlottedWorkspace<T> scratch(step * g.taps() * lanes, threads);
  parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int thread) {
    const std::int64_t group = task / vectors, first = task % vectors * lanes;
    const std::int64_t width = std::min<std::int64_t>(lanes, g.group_out_channels() - first);
    const T* const from = weight + (group * g.group_out_channels() + first) * g.reduction();
    T* const rows = scratch.slot(thread);
    for (std::int64_t c = 0; c < g.group_channels(); c += step) {
      const std::int64_t channels = std::min(step, g.group_channels() - c);
      if (width < lanes) std::fill_n(rows, channels * g.taps() * lanes, T(0));
      kernels.transpose(from + c * g.taps(), g.reduction(), width, channels * g.taps(), rows, lanes);
      use(task, c, channels, rows);
    }
  });
}

template <class T>
void pack_channel_vectors(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, T* to,
                          int threads) {
  const std::int64_t lanes = kernels.lanes;
  for_each_transposed(
      g, kernels, weight, threads, [&](std::int64_t task, std::int64_t first, std::int64_t channels, const T* rows) {
        const std::int64_t block = first / reduction_block * reduction_block;
        for (std::int64_t tap = 0; tap < g.taps(); ++tap) {
          T* const out = to + (task * g.reduction() + reduction_index(g, block, 0, tap) + first - block) * lanes;
          kernels.pad_rows({rows + tap * lanes, g.taps() * lanes, out, lanes, channels, 0, lanes, lanes, T(0)});
        }
      });
}

template <class T>
void pack_winograd(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, T* to, int threads) {
  const std::int64_t lanes = kernels.lanes, pitch = winograd_element_pitch(g, lanes);
  for_each_transposed(g, kernels, weight, threads,
                      [&](std::int64_t task, std::int64_t first, std::int64_t channels, const T* rows) {
                        kernels.winograd_weight(rows, channels, to + task * 36 * pitch + first * lanes, pitch);
                      });
}

}  // namespace

template <class T>
std::int64_t packed_elements(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  if (form == WeightForm::plain) return 0;
  return padded_out_channels(form, g, kernels.lanes) * (packed_per_channel(form, g) + 1);
}

template <class T>
Weights<T> pack_weights(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight,
                        const T* bias, T* to, int threads) {
  if (form == WeightForm::plain) return {weight, bias, weight};
  const int lanes = kernels.lanes;
  const std::int64_t padded = padded_out_channels(form, g, lanes);
  T* packed_bias = to + padded * packed_per_channel(form, g);
  std::fill(packed_bias, packed_bias + padded, T(0));
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
