#include "conv2d_weights.hpp"

#include <algorithm>
#include <array>

#include "parallel.hpp"
#include "tiling.hpp"
#include "winograd_weights.hpp"

namespace convpool {
namespace {

// A multiple of the lanes for each group, so that every group's bias loads in whole vectors.
std::int64_t padded_out_channels(WeightForm form, const Conv2dGeometry& g, int lanes) {
  return form == WeightForm::depthwise_channels ? round_up(g.out_channels, lanes)
                                                : g.groups * round_up(g.group_out_channels(), lanes);
}

std::int64_t packed_per_channel(WeightForm form, const Conv2dGeometry& g) {
  return form == WeightForm::winograd ? 36 * g.group_channels() : g.reduction();
}

template <class T>
void pack_channel_vectors(const Conv2dGeometry& g, int lanes, const T* weight, T* to, int threads) {
  const std::int64_t vectors = ceil_div(g.group_out_channels(), lanes);
  parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int) {
    const std::int64_t group = task / vectors, first = task % vectors * lanes;
    const std::int64_t width = std::min<std::int64_t>(lanes, g.group_out_channels() - first);
    const T* from = weight + (group * g.group_out_channels() + first) * g.reduction();
    T* out = to + task * g.reduction() * lanes;
    for (std::int64_t block = 0; block < g.group_channels(); block += reduction_block) {
      const std::int64_t block_end = std::min(g.group_channels(), block + reduction_block);
      for (std::int64_t tap = 0; tap < g.taps(); ++tap) {
        for (std::int64_t c = block; c < block_end; ++c) {
          for (std::int64_t k = 0; k < width; ++k) out[k] = from[k * g.reduction() + c * g.taps() + tap];
          std::fill(out + width, out + lanes, T(0));
          out += lanes;
        }
      }
    }
  });
}

template <class T>
void pack_winograd(const Conv2dGeometry& g, int lanes, const T* weight, T* to, int threads) {
  const std::int64_t vectors = ceil_div(g.group_out_channels(), lanes), channels = g.group_channels();
  const std::int64_t element_pitch = vectors * channels * lanes;
  parallel_for(g.groups * vectors, threads, [&](std::int64_t task, int) {
    const std::int64_t group = task / vectors, v = task % vectors;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t lane = 0; lane < lanes; ++lane) {
        T* const out = to + group * 36 * element_pitch + (v * channels + c) * lanes + lane;
        std::array<double, 36> transformed{};
        if (const std::int64_t k = v * lanes + lane; k < g.group_out_channels()) {
          const T* const from = weight + ((group * g.group_out_channels() + k) * channels + c) * 9;
          std::array<double, 9> kernel;
          std::copy(from, from + 9, kernel.begin());
          transformed = winograd_weight(kernel);
        }
        for (std::int64_t e = 0; e < 36; ++e) out[e * element_pitch] = static_cast<T>(transformed[static_cast<std::size_t>(e)]);
      }
    }
  });
}

}  // namespace

template <class T>
std::int64_t packed_elements(WeightForm form, const Conv2dGeometry& g, int lanes) {
  if (form == WeightForm::plain) return 0;
  return padded_out_channels(form, g, lanes) * (packed_per_channel(form, g) + 1);
}

template <class T>
Weights<T> pack_weights(WeightForm form, const Conv2dGeometry& g, int lanes, const T* weight, const T* bias, T* to,
                        int threads) {
  if (form == WeightForm::plain) return {weight, bias, weight};
  const std::int64_t padded = padded_out_channels(form, g, lanes);
  T* packed_bias = to + padded * packed_per_channel(form, g);
  std::fill(packed_bias, packed_bias + padded, T(0));
  if (form == WeightForm::depthwise_channels) {
    for (std::int64_t tap = 0; tap < g.taps(); ++tap) {
      for (std::int64_t k = 0; k < padded; ++k)
        to[tap * padded + k] = k < g.out_channels ? weight[k * g.taps() + tap] : T(0);
    }
    if (bias != nullptr) std::copy(bias, bias + g.out_channels, packed_bias);
    return {to, packed_bias, weight};
  }
  if (form == WeightForm::winograd) {
    pack_winograd(g, lanes, weight, to, threads);
  } else {
    pack_channel_vectors(g, lanes, weight, to, threads);
  }
  if (bias != nullptr) {
    const std::int64_t kg = g.group_out_channels();
    for (std::int64_t group = 0; group < g.groups; ++group) {
      std::copy(bias + group * kg, bias + (group + 1) * kg, packed_bias + group * round_up(kg, lanes));
    }
  }
  return {to, packed_bias, weight};
}

template std::int64_t packed_elements<float>(WeightForm, const Conv2dGeometry&, int);
template std::int64_t packed_elements<double>(WeightForm, const Conv2dGeometry&, int);
template Weights<float> pack_weights(WeightForm, const Conv2dGeometry&, int, const float*, const float*, float*, int);
template Weights<double> pack_weights(WeightForm, const Conv2dGeometry&, int, const double*, const double*, double*,
                                      int);

}  // namespace convpool
