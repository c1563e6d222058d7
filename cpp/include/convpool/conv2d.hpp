#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convpool/execution.hpp"
#include "convpool/export.h"
#include "convpool/tensor_view.hpp"

namespace convpool {

/// How much is added around the image, before the first and after the last row and column.
///
/// `same` keeps ceil(size / stride) and puts an odd element at the end, `same_lower` at the start; `full` adds the
/// effective kernel minus one on each side; `valid` adds nothing. `symmetric` and `sides` differ only in pooling, which
/// bounds them differently.
struct Padding {
  enum class Kind { symmetric, sides, valid, same, same_lower, full };
  Kind kind = Kind::symmetric;
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;

  static constexpr Padding all(std::int64_t p) noexcept { return {Kind::symmetric, p, p, p, p}; }
  static constexpr Padding symmetric(std::int64_t h, std::int64_t w) noexcept { return {Kind::symmetric, h, h, w, w}; }
  static constexpr Padding sides(std::int64_t top, std::int64_t bottom, std::int64_t left,
                                 std::int64_t right) noexcept {
    return {Kind::sides, top, bottom, left, right};
  }
  static constexpr Padding valid() noexcept { return {Kind::valid, 0, 0, 0, 0}; }
  static constexpr Padding same() noexcept { return {Kind::same, 0, 0, 0, 0}; }
  static constexpr Padding same_lower() noexcept { return {Kind::same_lower, 0, 0, 0, 0}; }
  static constexpr Padding full() noexcept { return {Kind::full, 0, 0, 0, 0}; }
};

enum class PaddingMode { zeros, reflect, replicate, circular };

/// Applied to each result as it is written. NaN stays NaN.
enum class Activation { none, relu, relu6, sigmoid, hardswish, silu };

/// The algorithm by its textbook name. `naive`, `im2col` and `implicit_gemm` do every case; the others throw
/// std::invalid_argument with the reason where they can't, and no other runs in their place.
///
/// `benchmark` is for a Conv2dPlan alone: the first call for a shape of input, layout and number of threads times
/// auto's choice and the others that would do (four runs of each, and more within 40 ms), and the plan goes on with the
/// fastest. Which one that is may differ from run to run of a program, and the last bits of the results with
/// it; within a plan it stays. A plan keeps 16 such choices; shapes beyond them get what `automatic` would take.
enum class Algorithm { automatic, naive, im2col, implicit_gemm, direct, winograd, depthwise, benchmark };

/// "auto", "naive", "im2col" and so on.
CONVPOOL_API const char* algorithm_name(Algorithm algorithm) noexcept;

struct Conv2dParams {
  std::array<std::int64_t, 2> stride{1, 1};  ///< (height, width), at least 1
  Padding padding{};
  std::array<std::int64_t, 2> dilation{1, 1};  ///< (height, width), at least 1
  std::int64_t groups = 1;
  PaddingMode padding_mode = PaddingMode::zeros;
  Activation activation = Activation::none;
  Algorithm algorithm = Algorithm::automatic;
};

/// The shape (N, K, OH, OW) of the result for an input (N, C, H, W) and a weight (K, C / groups, kH, kW):
/// floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1 along each axis, as torch.nn.functional.conv2d.
///
/// Throws std::invalid_argument where an argument or the shapes don't fit, or a size passes 2^63 - 1.
CONVPOOL_API std::array<std::int64_t, 4> conv2d_output_shape(const std::array<std::int64_t, 4>& input,
                                                             const std::array<std::int64_t, 4>& weight,
                                                             const Conv2dParams& params = {});

/// output = activation(cross-correlation of input and weight + bias), T being float or double.
///
/// input (N, C, H, W) and output (N, K, OH, OW) may have any strides; the fast paths want the width or the channels of
/// each to be contiguous. weight is (K, C / groups, kH, kW), bias points at K values or is null. The output must not
/// overlap the inputs. num_threads 0 stands for get_num_threads().
///
/// Throws std::invalid_argument for arguments or shapes that don't fit together, std::bad_alloc when memory runs out.
template <class T>
CONVPOOL_API void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<T> output,
                         const Conv2dParams& params = {}, int num_threads = 0);

/// The same with the caller's memory and threads.
template <class T>
CONVPOOL_API void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<T> output,
                         const Conv2dParams& params, const ExecutionContext& context);

/// output = activation(cross-correlation of input and weight + bias + add), as at the end of a residual block: the sum
/// is rounded before `add`, which has the output's shape and any strides. The output must not overlap `add` either:
/// parts of the result are written before the array is read.
template <class T>
CONVPOOL_API void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<const T> add,
                         TensorView<T> output, const Conv2dParams& params = {}, const ExecutionContext& context = {});

/// The bytes of workspace with which such a call takes no other memory, with or without an array to add. Only shapes
/// and strides of the views are looked at; of the context, the number of threads. The same errors.
template <class T>
CONVPOOL_API std::size_t conv2d_workspace_size(TensorView<const T> input, TensorView<const T> weight,
                                               TensorView<T> output, const Conv2dParams& params = {},
                                               const ExecutionContext& context = {});

/// What a Conv2dPlan does with one input, and what that costs.
struct Conv2dDescription {
  Algorithm algorithm = Algorithm::automatic;  ///< the one that runs; never `automatic` or `benchmark`
  std::string why;
  std::string isa;
  int lanes = 0;
  const char* in_vectors = "";  ///< "channels" (of the output), "input channels", "pixels" or "nothing"
  int num_threads = 1;
  std::array<std::int64_t, 4> output_shape{};

  /// A register tile has so many rows, each of so many vectors; 0 where the kernel itself decides. A task takes blocks
  /// of so many result pixels and output channels, and so many terms of their sums at a time.
  std::int64_t tile_rows = 0, tile_vectors = 0;
  std::int64_t block_pixels = 0, block_out_channels = 0, block_terms = 0;
  std::array<std::int64_t, 2> winograd_tile{};  ///< results of a tile of Winograd's (height, width); else 0

  double flops = 0;  ///< by the definition: 2 for each product, whatever the algorithm saves
  double bytes = 0;  ///< of input, weights, bias and result, each touched once
  std::size_t workspace_bytes = 0, packed_weight_bytes = 0;
  /// The FLOPs for each byte at which arithmetic takes as long as memory: below it memory is the bound.
  double balance = 0;
  double intensity() const noexcept { return bytes > 0 ? flops / bytes : 0; }
  bool memory_bound() const noexcept { return intensity() < balance; }

  /// Of a plan with Algorithm::benchmark that has measured this case: the least time of each.
  struct Timing {
    Algorithm algorithm = Algorithm::automatic;
    const char* in_vectors = "";
    double seconds = 0;
  };
  std::vector<Timing> timings;

  /// All of that in lines of "name: value".
  CONVPOOL_API std::string text() const;
};

/// A convolution whose weights were copied and packed once, for many calls on inputs of any size.
///
/// Each form of packed weights is made when the first input needs it, and kept. Several threads may call one plan at
/// once. It goes on with the instruction set that was in force when it was made. A process that forks while another
/// thread makes the first call of a plan must not use that plan in the child.
///
///     convpool::Conv2dPlan<float> plan(weight, bias, params);
///     plan(input, output);
template <class T>
class CONVPOOL_API Conv2dPlan {
 public:
  /// Copies weight and bias. Throws std::invalid_argument for arguments that don't fit, std::bad_alloc.
  ///
  /// Everything that the plan owns comes from `allocator`, which must outlive it.
  Conv2dPlan(TensorView<const T> weight, const T* bias, const Conv2dParams& params = {},
             const Allocator& allocator = {});
  ~Conv2dPlan();
  /// The plan that was moved from can only be assigned to or destroyed.
  Conv2dPlan(Conv2dPlan&&) noexcept;
  Conv2dPlan& operator=(Conv2dPlan&&) noexcept;

  /// As the function `conv2d`, with its errors.
  void operator()(TensorView<const T> input, TensorView<T> output, int num_threads = 0) const;
  void operator()(TensorView<const T> input, TensorView<T> output, const ExecutionContext& context) const;
  /// With an array that is added before the activation, as the function's.
  void operator()(TensorView<const T> input, TensorView<const T> add, TensorView<T> output,
                  const ExecutionContext& context = {}) const;

  /// The bytes of workspace with which such a call takes no other memory, as conv2d_workspace_size. It packs the
  /// weights in the form that the call needs, so that the call finds them there. With Algorithm::benchmark that is the
  /// largest of what it weighs, and all of their forms, until a call has decided; what lost is released then.
  std::size_t workspace_size(TensorView<const T> input, TensorView<T> output,
                             const ExecutionContext& context = {}) const;

  std::array<std::int64_t, 4> output_shape(const std::array<std::int64_t, 4>& input) const;
  std::array<std::int64_t, 4> weight_shape() const noexcept;

  /// Which algorithm runs for such an input and output, why, and what it costs. Only shapes and strides of the views
  /// are looked at; of the context, the number of threads. A flops_per_byte of 0 stands for a typical core's: 4 for
  /// each thread with float, 2 with double.
  Conv2dDescription describe(TensorView<const T> input, TensorView<T> output, const ExecutionContext& context = {},
                             double flops_per_byte = 0) const;
  /// The same in a few lines of text.
  std::string explain(TensorView<const T> input, TensorView<T> output) const;

 private:
  struct CONVPOOL_LOCAL State;
  struct CONVPOOL_LOCAL Release {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, Release> state_;
};

}  // namespace convpool
