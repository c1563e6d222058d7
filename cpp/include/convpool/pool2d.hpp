#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "convpool/conv2d.hpp"
#include "convpool/execution.hpp"
#include "convpool/export.h"
#include "convpool/tensor_view.hpp"

namespace convpool {

struct Pool2dParams {
  std::array<std::int64_t, 2> kernel{1, 1};             ///< (height, width), at least 1
  std::optional<std::array<std::int64_t, 2>> stride{};  ///< (height, width), the kernel's size if absent
  Padding padding{};  ///< with e = dilation * (kernel - 1) + 1: symmetric at most e / 2, sides at most e - 1
  std::array<std::int64_t, 2> dilation{1, 1};
  bool ceil_mode = false;  ///< round the output size up; no window starts in the end padding
};

struct AvgPool2dParams : Pool2dParams {
  bool count_include_pad = true;                   ///< padding counts in the divisor (the part ceil_mode adds does not)
  std::optional<std::int64_t> divisor_override{};  ///< not 0
};

/// The shape (N, C, OH, OW) of the result. Throws std::invalid_argument where an argument or the shape doesn't fit.
CONVPOOL_API std::array<std::int64_t, 4> pool2d_output_shape(const std::array<std::int64_t, 4>& input,
                                                             const Pool2dParams& params);

/// The largest value of each window; T is float, double, int8_t, uint8_t, int16_t, int32_t or int64_t. Padding counts
/// as minus infinity, or as the least integer. NaN wins.
///
/// `indices`, unless its data is null, receives the position h * W + w of each result in its plane: the lowest of equal
/// values, the last of several NaNs (as torch.nn.functional.max_pool2d), -1 where a dilated window misses the input.
/// Input and results may have any strides.
///
/// Throws std::invalid_argument for arguments or shapes that don't fit together, std::bad_alloc when memory runs out.
template <class T>
CONVPOOL_API void max_pool2d(TensorView<const T> input, TensorView<T> output, TensorView<std::int64_t> indices,
                             const Pool2dParams& params, int num_threads = 0);

/// The same with the caller's memory and threads.
template <class T>
CONVPOOL_API void max_pool2d(TensorView<const T> input, TensorView<T> output, TensorView<std::int64_t> indices,
                             const Pool2dParams& params, const ExecutionContext& context);

/// The bytes of workspace with which such a call takes no other memory. Only shapes and strides of the views are looked
/// at (default-constructed indices: without); of the context, the number of threads. The same errors.
template <class T>
CONVPOOL_API std::size_t max_pool2d_workspace_size(TensorView<const T> input, TensorView<T> output,
                                                   TensorView<std::int64_t> indices, const Pool2dParams& params,
                                                   const ExecutionContext& context = {});

/// The mean of each window, by the divisor rules of torch.nn.functional.avg_pool2d; T is float or double.
template <class T>
CONVPOOL_API void avg_pool2d(TensorView<const T> input, TensorView<T> output, const AvgPool2dParams& params,
                             int num_threads = 0);

/// The same with the caller's memory and threads.
template <class T>
CONVPOOL_API void avg_pool2d(TensorView<const T> input, TensorView<T> output, const AvgPool2dParams& params,
                             const ExecutionContext& context);

/// As max_pool2d_workspace_size.
template <class T>
CONVPOOL_API std::size_t avg_pool2d_workspace_size(TensorView<const T> input, TensorView<T> output,
                                                   const AvgPool2dParams& params, const ExecutionContext& context = {});

}  // namespace convpool
