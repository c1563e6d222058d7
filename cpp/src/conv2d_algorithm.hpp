#pragma once

#include <string>
#include <vector>

#include "convpool/conv2d.hpp"
#include "geometry.hpp"
#include "kernels/kernel_table.hpp"
#include "tensor_layout.hpp"

namespace convpool {

/// How an algorithm wants the weights to lie.
enum class WeightForm {
  plain,                  ///< (K, C/groups, kH, kW), contiguous
  plain_sums,             ///< the same, for sums along the channels in vectors
  channel_vectors,        ///< [group][K/group in vectors][reduction][lane]: see pack_channel_vector
  depthwise_channels,     ///< [K in vectors][C/group][tap][lane]; see pack_rotated
  depthwise_interleaved,  ///< [phase][tap or bias][lane]: see DepthwisePlaneArguments
  winograd,               ///< [group][K/group in vectors][element][part][C/group][lane]: see winograd_element_pitch
  winograd_rows,          ///< the same, only the rows transformed: half as much of a 3x3
};

inline constexpr std::size_t weight_forms = static_cast<std::size_t>(WeightForm::winograd_rows) + 1;

/// Weights in one form. `bias` always has out_channels values, in channel_vectors form padded as the weights are; it is
/// null only where `lies_as_given`, and stands among the weights in depthwise_interleaved form.
template <class T>
struct Weights {
  const T* data = nullptr;
  const T* bias = nullptr;
  const T* plain = nullptr;   ///< the weights in plain form, beside the others
  bool packed_later = false;  ///< by the algorithm, from the plain ones: see packs_itself
};

/// What a plan settles for one input: everything that depends on shapes, strides and the ISA alone.
struct Conv2dChoice {
  Algorithm algorithm = Algorithm::naive;
  WeightForm form = WeightForm::plain;
  /// Which side lies in the vectors: output channels (for plain_sums, input channels), or pixels.
  bool channels_in_vectors = false;
  const char* reason = "";  ///< a literal: a choice is made on every call, and takes no memory
};

/// How an algorithm cuts the work: register tiles, and the blocks that tasks take. Zero where it doesn't apply.
struct Conv2dBlocking {
  std::int64_t tile_rows = 0, tile_vectors = 0;
  std::int64_t block_pixels = 0, block_out_channels = 0;
  std::int64_t block_terms = 0;  ///< terms of each sum that are taken at a time
  std::int64_t winograd_rows = 0, winograd_columns = 0;
};

/// One run: the algorithms read it and nothing else. Sizes were checked; the output doesn't overlap the inputs.
template <class T>
struct Conv2dRun {
  const Conv2dGeometry& geometry;
  TensorView<const T> input;
  TensorView<T> output;
  Weights<T> weights;
  TensorView<const T> add;  ///< of the output's shape, to be added before the activation; without data: nothing is
  Activation activation;
  int threads;
  const kernels::Table<T>& kernels;
  Conv2dBlocking* blocking = nullptr;  ///< where the algorithm tells how it cuts the work, for those who ask
};

/// The named algorithms. Each asks for the form that its choice says.
template <class T>
void run_naive(const Conv2dRun<T>& run);
template <class T>
void run_im2col(const Conv2dRun<T>& run, bool channels_in_vectors);
template <class T>
void run_implicit_gemm(const Conv2dRun<T>& run, bool channels_in_vectors);
template <class T>
void run_direct(const Conv2dRun<T>& run, WeightForm form);
template <class T>
void run_direct_by_channels(const Conv2dRun<T>& run);
template <class T>
void run_direct_by_pixels(const Conv2dRun<T>& run);
template <class T>
void run_direct_by_sums(const Conv2dRun<T>& run);
template <class T>
void run_winograd(const Conv2dRun<T>& run, WeightForm form);
template <class T>
void run_depthwise(const Conv2dRun<T>& run, WeightForm form);
template <class T>
void run_depthwise_interleaved(const Conv2dRun<T>& run);

/// Whether the direct algorithm runs along the taps of a row rather than along channels, which are too few to be worth
/// a segment: with output channels in the vectors, planes are copied pixel by pixel for that.
inline bool takes_rows_of_taps(const Conv2dGeometry& g) {
  return g.group_channels() < 8 && g.w.kernel > 1 && g.w.dilation == 1;
}

bool can_do(Algorithm algorithm, const Conv2dGeometry& geometry) noexcept;

/// Why the algorithm can't do such a case; empty where it can.
std::string why_not(Algorithm algorithm, const Conv2dGeometry& geometry);

}  // namespace convpool
