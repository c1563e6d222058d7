#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

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
enum class Algorithm { automatic, naive, im2col, implicit_gemm, direct, winograd, depthwise };

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

/// The bytes of workspace with which such a call takes no other memory. Only shapes and strides of the views are looked
/// at; of the context, the number of threads. The same errors.
template <class T>
CONVPOOL_API std::size_t conv2d_workspace_size(TensorView<const T> input, TensorView<const T> weight,
                                               TensorView<T> output, const Conv2dParams& params = {},
                                               const ExecutionContext& context = {});

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

  /// The bytes of workspace with which such a call takes no other memory, as conv2d_workspace_size. It packs the
  /// weights in the form that the call needs, so that the call finds them there.
  std::size_t workspace_size(TensorView<const T> input, TensorView<T> output,
                             const ExecutionContext& context = {}) const;

  std::array<std::int64_t, 4> output_shape(const std::array<std::int64_t, 4>& input) const;
  std::array<std::int64_t, 4> weight_shape() const noexcept;

  /// Which algorithm runs for such an input and output, why, and what it costs, in a few lines of text. Only shapes and
  /// strides of the views are looked at.
  std::string explain(TensorView<const T> input, TensorView<T> output) const;

 private:
  struct CONVPOOL_LOCAL State;
  struct CONVPOOL_LOCAL Release {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, Release> state_;
};

}  // namespace convpool
