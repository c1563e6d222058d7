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
  if (!is_winograd(form)) return g.reduction();
  const WinogradAxes axes(g, form);
  return axes.weights() * winograd_element_pitch(axes, g.group_channels(), 1);
}

/// Where the weights of one vector of a group's output channels begin, and how many of its lanes are used.
template <class T>
struct VectorOfChannels {
  const T* data;
  std::int64_t used;

  VectorOfChannels(const Conv2dGeometry& g, const T* weight, std::int64_t group, std::int64_t vector, int lanes)
      : data(weight + (group * g.group_out_channels() + vector * lanes) * g.reduction()),
        used(std::min<std::int64_t>(lanes, g.group_out_channels() - vector * lanes)) {}
};

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

/// Channels that Winograd's weights are transformed at a time, about 300 rows of them.
std::int64_t channels_at_once(const Conv2dGeometry& g) {
  std::int64_t step = reduction_block;
  while (step > 1 && step * g.taps() > 300) step /= 2;
  return step;
}

}  // namespace

template <class T>
void pack_channel_vector(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, std::int64_t group,
                         std::int64_t vector, Range channels, T* to) {
  const VectorOfChannels<T> from(g, weight, group, vector, kernels.lanes);
  // Blocks of single taps follow one another as their channels do.
  const std::int64_t step = g.taps() == 1 ? channels.end - channels.begin : reduction_block;
  for (std::int64_t c = channels.begin; c < channels.end; c += step) {
    const std::int64_t count = std::min(step, channels.end - c);
    kernels.pack_taps(from.data + c * g.taps(), g.reduction(), from.used, count, g.taps(), to);
    to += count * g.taps() * kernels.lanes;
  }
}

std::int64_t winograd_packing_scratch(const Conv2dGeometry& g, const WinogradAxes& axes, std::int64_t lanes) {
  return channels_at_once(g) * (g.taps() + axes.h.taps * axes.w.taps) * lanes;
}

template <class T>
void pack_winograd_vector(const Conv2dGeometry& g, const WinogradAxes& axes, const kernels::Table<T>& kernels,
                          const T* weight, std::int64_t group, std::int64_t vector, Range channels, T* to,
                          std::int64_t pitch, T* scratch) {
  const std::int64_t lanes = kernels.lanes, step = channels_at_once(g);
  const VectorOfChannels<T> from(g, weight, group, vector, kernels.lanes);
  const auto transform = kernels.winograd[int(axes.h.transform)][int(axes.w.transform)].weight;
  const bool whole = axes.parts() == 1 && axes.h.taps * axes.w.taps == g.taps();
  const std::int64_t part_pitch = (channels.end - channels.begin) * lanes;
  T* const rows = scratch;
  T* const gathered = scratch + step * g.taps() * lanes;
  for (std::int64_t c = channels.begin; c < channels.end; c += step) {
    const std::int64_t count = std::min(step, channels.end - c);
    if (from.used < lanes) std::fill_n(rows, count * g.taps() * lanes, T(0));
    kernels.transpose(from.data + c * g.taps(), g.reduction(), from.used, count * g.taps(), rows, lanes);
    T* out = to + (c - channels.begin) * lanes;
    if (whole) {
      transform(rows, count, out, pitch);
      continue;
    }
    for (std::int64_t h = 0; h < axes.h.parts; ++h) {
      for (std::int64_t w = 0; w < axes.w.parts; ++w, out += part_pitch) {
        gather_part(g, axes, h, w, count, lanes, rows, gathered);
        transform(gathered, count, out, pitch);
      }
    }
  }
}

template <class T>
std::int64_t packed_elements(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels) {
  if (lies_as_given(form)) return 0;
  if (form == WeightForm::depthwise_interleaved) {
    return interleaved_phases(g, kernels.lanes) * (g.taps() + 1) * kernels.lanes;
  }
  return padded_out_channels(form, g, kernels.lanes) * (packed_per_channel(form, g) + 1);
}

std::int64_t packed_bias_elements(WeightForm form, const Conv2dGeometry& g, int lanes) {
  return lies_as_given(form) ? 0 : padded_out_channels(form, g, lanes);
}

template <class T>
void pack_bias(WeightForm form, const Conv2dGeometry& g, int lanes, const T* bias, T* to) {
  std::fill_n(to, packed_bias_elements(form, g, lanes), T(0));
  if (bias == nullptr) return;
  const std::int64_t kg = g.group_out_channels();
  const std::int64_t pitch = form == WeightForm::depthwise_channels ? kg : round_up(kg, lanes);
  for (std::int64_t group = 0; group < g.groups; ++group) std::copy_n(bias + group * kg, kg, to + group * pitch);
}

template <class T>
Weights<T> pack_weights(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight,
                        const T* bias, T* to, int threads) {
  if (lies_as_given(form)) return {weight, bias, weight};
  const std::int64_t lanes = kernels.lanes, vectors = ceil_div(g.group_out_channels(), lanes);
  if (form == WeightForm::depthwise_interleaved) {
    pack_interleaved(g, lanes, weight, bias, to);
    return {to, nullptr, weight};
  }
  T* const packed_bias = to + padded_out_channels(form, g, kernels.lanes) * packed_per_channel(form, g);
  if (form == WeightForm::depthwise_channels && rotates_groups(g)) {
    pack_rotated(g, lanes, weight, bias, to, packed_bias);
    return {to, packed_bias, weight};
  }
  pack_bias(form, g, kernels.lanes, bias, packed_bias);
  const Range channels{0, g.group_channels()};
  if (form == WeightForm::depthwise_channels) {
    for (std::int64_t k = 0; k < g.out_channels; k += lanes) {
      const std::int64_t used = std::min<std::int64_t>(lanes, g.out_channels - k);
      T* const vector = to + k * g.reduction();
      if (used < lanes) std::fill_n(vector, lanes * g.reduction(), T(0));
      kernels.transpose(weight + k * g.reduction(), g.reduction(), used, g.reduction(), vector, lanes);
    }
  } else if (is_winograd(form)) {
    const WinogradAxes axes(g, form);
    const std::int64_t pitch = winograd_element_pitch(axes, g.group_channels(), lanes);
    const SlottedWorkspace<T> scratch(winograd_packing_scratch(g, axes, lanes), threads);
    parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int thread) {
      pack_winograd_vector(g, axes, kernels, weight, task / vectors, task % vectors, channels,
                           to + task * axes.weights() * pitch, pitch, scratch.slot(thread));
    });
  } else {
    parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int) {
      pack_channel_vector(g, kernels, weight, task / vectors, task % vectors, channels,
                          to + task * g.reduction() * lanes);
    });
  }
  return {to, packed_bias, weight};
}

#define CONVPOOL_INSTANTIATE(T)                                                                                      \
  template std::int64_t packed_elements<T>(WeightForm, const Conv2dGeometry&, const kernels::Table<T>&);             \
  template Weights<T> pack_weights(WeightForm, const Conv2dGeometry&, const kernels::Table<T>&, const T*, const T*,  \
                                   T*, int);                                                                         \
  template void pack_bias(WeightForm, const Conv2dGeometry&, int, const T*, T*);                                     \
  template void pack_channel_vector(const Conv2dGeometry&, const kernels::Table<T>&, const T*, std::int64_t,         \
                                    std::int64_t, Range, T*);                                                        \
  template void pack_winograd_vector(const Conv2dGeometry&, const WinogradAxes&, const kernels::Table<T>&, const T*, \
                                     std::int64_t, std::int64_t, Range, T*, std::int64_t, T*);
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
