#pragma once

#include <cstdint>
#include <numeric>

#include "conv2d_algorithm.hpp"
#include "winograd_axes.hpp"
#include "workspace.hpp"

namespace convpool {

/// Channels that a reduction takes together before it goes to the next tap: their pixels under one tile stay in the L1
/// cache from tap to tap (32 channels x 3 rows x 2 lines = 12 KB).
inline constexpr std::int64_t reduction_block = 32;

/// The order of the reduction in channel_vectors form: block of channels, tap row, tap column, channel in the block.
/// The index of the first channel of a block at a tap.
inline std::int64_t reduction_index(const Conv2dGeometry& g, std::int64_t block_begin, std::int64_t i, std::int64_t j) {
  const std::int64_t block =
      g.group_channels() - block_begin < reduction_block ? g.group_channels() - block_begin : reduction_block;
  return block_begin * g.taps() + (i * g.w.kernel + j) * block;
}

/// From one element of the transformed weights to the next in winograd form. One vector more than the channels take:
/// rows of 2^n bytes would all fall into the same sets of the caches while they are written.
inline std::int64_t winograd_element_pitch(const WinogradAxes& axes, std::int64_t channels, std::int64_t lanes) {
  return (axes.parts() * channels + 1) * lanes;
}

/// Vectors of interleaved channels after which their lanes come back.
inline std::int64_t interleaved_phases(const Conv2dGeometry& g, std::int64_t lanes) {
  return g.channels / std::gcd(g.channels, lanes);
}

/// Whether depthwise_channels form serves sums that rotate through the lanes of their group while the input stays where
/// it is: see pack_rotated.
inline bool rotates_groups(const Conv2dGeometry& g) {
  return g.group_channels() > 1 && g.group_channels() == g.group_out_channels();
}

/// Whether a form is that of the caller's weights.
inline bool lies_as_given(WeightForm form) { return form == WeightForm::plain || form == WeightForm::plain_sums; }

inline bool is_winograd(WeightForm form) { return form == WeightForm::winograd || form == WeightForm::winograd_rows; }

/// Elements that a form takes, with the bias behind the weights.
template <class T>
std::int64_t packed_elements(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels);

/// Packs contiguous (K, C/groups, kH, kW) weights and a bias (null: zeros) into `to`, of packed_elements().
template <class T>
Weights<T> pack_weights(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight,
                        const T* bias, T* to, int threads);

/// Packed by an algorithm that was given them as they lie, for the call alone; the bias is packed already.
template <class T>
Workspace pack_for_call(WeightForm form, const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight,
                        int threads) {
  Workspace packed(static_cast<std::size_t>(packed_elements<T>(form, g, kernels)) * sizeof(T));
  pack_weights<T>(form, g, kernels, weight, nullptr, packed.as<T>(), threads);
  return packed;
}

/// The bias alone, as pack_weights makes it.
std::int64_t packed_bias_elements(WeightForm form, const Conv2dGeometry& g, int lanes);
template <class T>
void pack_bias(WeightForm form, const Conv2dGeometry& g, int lanes, const T* bias, T* to);

/// Whether weights are packed by the algorithm, if it can, a few vectors of output channels right before they are used:
/// where so few pixels use them that writing them to memory, and reading them again, shows.
inline bool packed_where_used(const Conv2dGeometry& g) {
  constexpr std::int64_t most_pixels = 1024;
  return g.batch * g.out_pixels() <= most_pixels;
}

/// Winograd's weights that are transformed right before they are used, where a sum runs through several parts first.
inline constexpr std::int64_t most_packed_part_bytes = 1 << 20;

/// One vector of a group's output channels in channel_vectors form, the part of some input channels (from a multiple of
/// reduction_block on): to[reduction index - that of the first][lane].
template <class T>
void pack_channel_vector(const Conv2dGeometry& g, const kernels::Table<T>& kernels, const T* weight, std::int64_t group,
                         std::int64_t vector, Range channels, T* to);

/// The same in winograd form: to[element * pitch + (part * channels + channel) * lanes + lane]. Takes scratch of
/// winograd_packing_scratch() elements.
template <class T>
void pack_winograd_vector(const Conv2dGeometry& g, const WinogradAxes& axes, const kernels::Table<T>& kernels,
                          const T* weight, std::int64_t group, std::int64_t vector, Range channels, T* to,
                          std::int64_t pitch, T* scratch);
std::int64_t winograd_packing_scratch(const Conv2dGeometry& g, const WinogradAxes& axes, std::int64_t lanes);

}  // namespace convpool
