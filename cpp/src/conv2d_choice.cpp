// Which algorithm a case gets, and why: the one place that weighs them.

#include "conv2d_choice.hpp"

#include <algorithm>
#include <stdexcept>

#include "tiling.hpp"

namespace convpool {
namespace {

using std::int64_t;

/// The depthwise algorithm reads an input channel again for each output channel of its group.
constexpr int64_t most_depthwise_channels = 16;

/// Costs are in vector FMAs for each one that the arithmetic needs; 1 is the peak.
struct Cost {
  double channels_in_vectors, pixels_in_vectors, patches, winograd;
};

double waste(int64_t used, int64_t lanes) {
  return static_cast<double>(round_up(used, lanes)) / static_cast<double>(used);
}

template <class T>
Cost estimate(const Conv2dGeometry& g, const kernels::Table<T>& kernels, WeightsAre weights) {
  const int64_t lanes = kernels.lanes;
  const int64_t kg = g.group_out_channels();
  // A 1x1 reads the map as one row, see direct.cpp.
  const bool one_row = g.taps() == 1 && g.h.stride == 1 && g.w.stride == 1 && !g.h.padded() && !g.w.padded();
  const int64_t row = one_row ? g.out_pixels() : g.w.out;
  const double reduction = static_cast<double>(g.reduction());
  const double pixels = static_cast<double>(g.batch) * static_cast<double>(g.out_pixels());
  const TileShape channel_tile = choose_tile(kernels, row, ceil_div(kg, lanes));
  const TileShape pixel_tile = choose_tile(kernels, kg, ceil_div(row, lanes));
  const TileShape patch_tile = choose_tile(kernels, kg, ceil_div(g.out_pixels(), lanes));
  Cost cost{};
  // A transposed store takes about 8 vector operations for each vector of results.
  cost.channels_in_vectors = waste(kg, lanes) * tile_cost(channel_tile) * (1 + 8 / reduction);
  if (weights == WeightsAre::packed_each_call) {
    cost.channels_in_vectors += 2.0 * static_cast<double>(lanes) / pixels;
  }
  // Copied rows: about 4 operations a vector, used by every output channel and tap.
  const double copied = one_row ? 0 : 4.0 * static_cast<double>(g.w.stride) / static_cast<double>(kg * g.w.kernel);
  cost.pixels_in_vectors = waste(row, lanes) * tile_cost(pixel_tile) * (1 + copied);
  // Patches are packed once for each tap, in pieces no longer than a row of the output.
  const double piece = std::max(1.0, static_cast<double>(lanes) / static_cast<double>(g.w.out));
  cost.patches = waste(g.out_pixels(), lanes) * tile_cost(patch_tile) * (1 + 6 * piece / static_cast<double>(kg));
  // 36 products for 144. A vector of channels of a tile takes about 300 operations each way; weights come from beyond
  // the L2 cache at about 5 cycles a vector, for as many products as there are tiles.
  const std::int64_t tiles_in_plane = ceil_div(g.h.out, 4) * ceil_div(g.w.out, 4);
  const double tiles = static_cast<double>(g.batch * tiles_in_plane);
  const double tile_waste = 16 * static_cast<double>(tiles_in_plane) / static_cast<double>(g.out_pixels());
  const TileShape winograd_tile =
      choose_tile(kernels, std::min<int64_t>(g.batch * tiles_in_plane, 64), ceil_div(kg, lanes));
  cost.winograd = tile_waste * (0.25 * waste(kg, lanes) * std::max(tile_cost(winograd_tile), 5 / tiles) +
                                2.2 / static_cast<double>(kg) +
                                2.2 * waste(g.group_channels(), lanes) / static_cast<double>(g.group_channels()));
  if (weights == WeightsAre::packed_each_call) {
    // Measured; what leaves the last cache costs about three times as much.
    const double packed_bytes = 36.0 * sizeof(T) * static_cast<double>(g.group_channels() * g.out_channels);
    cost.winograd += (packed_bytes < 16e6 ? 1.5 : 4.7) * static_cast<double>(lanes) / pixels;
  }
  return cost;
}

Conv2dChoice make(Algorithm algorithm, bool channels_in_vectors, std::string reason) {
  WeightForm form = WeightForm::plain;
  if (channels_in_vectors) {
    form = algorithm == Algorithm::depthwise ? WeightForm::depthwise_channels : WeightForm::channel_vectors;
  }
  if (algorithm == Algorithm::winograd) form = WeightForm::winograd;
  return {algorithm, form, channels_in_vectors, std::move(reason)};
}

/// Padding or gaps so wide that copied rows would be many times the image.
bool mostly_padding(const Axis& axis) {
  return axis.pad_begin + axis.pad_end > 4 * axis.in + 64 || axis.stride > axis.in + 64;
}

/// Channels in the vectors want channels-last arrays, vectors that hold whole groups, and those at least half full.
template <class T>
bool depthwise_by_channels(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output,
                           const kernels::Table<T>& kernels) {
  const int64_t kg = g.group_out_channels();
  return channels_last(output) && channels_last(input) &&
         (kg == 1 || (kg < kernels.lanes && kernels.lanes % kg == 0)) && g.group_channels() <= kg &&
         waste(g.out_channels, kernels.lanes) <= 2;
}

template <class T>
Conv2dChoice choose_automatically(const Conv2dGeometry& g, const TensorView<const T>& input,
                                  const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights) {
  const bool out_channels_last = channels_last(output);
  if (mostly_padding(g.h) || mostly_padding(g.w)) {
    return make(Algorithm::implicit_gemm, out_channels_last, "the padding is much wider than the image");
  }
  if (g.group_channels() == 1 && (g.groups > 1 || g.out_channels < 4)) {
    return make(Algorithm::depthwise, depthwise_by_channels(g, input, output, kernels),
                "one input channel for each output channel");
  }
  if (why_not(Algorithm::depthwise, g).empty() && g.groups > 1 && g.group_out_channels() < kernels.lanes &&
      (!out_channels_last || depthwise_by_channels(g, input, output, kernels))) {
    return make(Algorithm::depthwise, out_channels_last, "groups of few channels");
  }
  const Cost cost = estimate(g, kernels, weights);
  const double best_other = out_channels_last
                                ? cost.channels_in_vectors
                                : std::min({cost.channels_in_vectors, cost.pixels_in_vectors, cost.patches});
  if (why_not(Algorithm::winograd, g).empty() && cost.winograd < 0.9 * best_other) {
    return make(Algorithm::winograd, false, "a 3x3 kernel with channels enough to pay for the transforms");
  }
  if (out_channels_last) return make(Algorithm::direct, true, "the output's channels are contiguous");
  if (cost.patches < 0.9 * std::min(cost.channels_in_vectors, cost.pixels_in_vectors)) {
    return make(Algorithm::implicit_gemm, false, "few pixels in a row, and weights that are used once");
  }
  if (cost.pixels_in_vectors < cost.channels_in_vectors) {
    return make(Algorithm::direct, false, "rows fill the vectors better than output channels do");
  }
  return make(Algorithm::direct, true, "output channels fill the vectors");
}

}  // namespace

const char* algorithm_name(Algorithm algorithm) {
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
  }
  return "";
}

std::string why_not(Algorithm algorithm, const Conv2dGeometry& g) {
  if (algorithm == Algorithm::depthwise && g.group_channels() > 1 &&
      (g.groups == 1 || g.group_channels() > most_depthwise_channels)) {
    return "it is for groups of at most " + std::to_string(most_depthwise_channels) +
           " input channels, and here groups=" + std::to_string(g.groups) + " share C=" + std::to_string(g.channels) +
           " channels; use groups=" + std::to_string(g.channels) + " or algorithm=\"auto\"";
  }
  if (algorithm == Algorithm::winograd && !(g.h.kernel == 3 && g.w.kernel == 3 && g.h.stride == 1 && g.w.stride == 1 &&
                                            g.h.dilation == 1 && g.w.dilation == 1)) {
    return "it is for 3x3 kernels with stride 1 and dilation 1; use algorithm=\"auto\"";
  }
  return {};
}

template <class T>
Conv2dChoice choose_conv2d(Algorithm algorithm, const Conv2dGeometry& g, const TensorView<const T>& input,
                           const TensorView<T>& output, const kernels::Table<T>& kernels, WeightsAre weights) {
  if (const std::string reason = why_not(algorithm, g); !reason.empty()) {
    throw std::invalid_argument("algorithm=\"" + std::string(algorithm_name(algorithm)) +
                                "\" can't do this case: " + reason);
  }
  const bool out_channels_last = channels_last(output);
  switch (algorithm) {
    case Algorithm::automatic:
      return choose_automatically(g, input, output, kernels, weights);
    case Algorithm::naive:
      return make(algorithm, false, "asked for");
    case Algorithm::depthwise:
      return make(algorithm, depthwise_by_channels(g, input, output, kernels), "asked for");
    case Algorithm::direct: {
      // Not by what packing costs: the same choice, and bits, whatever the batch and whoever packs.
      const Cost cost = estimate(g, kernels, WeightsAre::packed_once);
      return make(algorithm, out_channels_last || cost.channels_in_vectors <= cost.pixels_in_vectors, "asked for");
    }
    default:
      return make(algorithm, out_channels_last, "asked for");
  }
}

template Conv2dChoice choose_conv2d(Algorithm, const Conv2dGeometry&, const TensorView<const float>&,
                                    const TensorView<float>&, const kernels::Table<float>&, WeightsAre);
template Conv2dChoice choose_conv2d(Algorithm, const Conv2dGeometry&, const TensorView<const double>&,
                                    const TensorView<double>&, const kernels::Table<double>&, WeightsAre);

}  // namespace convpool
