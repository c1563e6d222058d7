#pragma once

#include "conv2d_algorithm.hpp"

namespace convpool {

/// im2col: the pixels that each tap of each output needs, side by side.
///
/// to[k - k_begin][p - p_begin] for reduction index k in plain order and output pixel p = oh * OW + ow, p up to p_begin
/// + pitch: zeros past p_end.
template <class T>
void patches_by_reduction(const Conv2dRun<T>& run, std::int64_t n, std::int64_t group, Range reduction, Range pixels,
                          T* to, std::int64_t pitch);

/// to[p - p_begin][k - k_begin] for reduction index k in the order of channel_vectors weights, rows `pitch` apart.
template <class T>
void patches_by_pixel(const Conv2dRun<T>& run, std::int64_t n, std::int64_t group, Range reduction, Range pixels, T* to,
                      std::int64_t pitch);

/// Multiplies the patches of some pixels by the weights of some output channels and writes, or adds to, the output.
/// `patches` are those that patches_by_reduction made (pitch a multiple of the lanes) for `reduction` and `pixels`.
template <class T>
void multiply_by_reduction(const Conv2dRun<T>& run, std::int64_t n, std::int64_t group, Range reduction, Range pixels,
                           Range out_channels, const T* patches, std::int64_t pitch);

/// The same with patches_by_pixel's; out_channels are counted in vectors.
template <class T>
void multiply_by_pixel(const Conv2dRun<T>& run, std::int64_t n, std::int64_t group, Range reduction, Range pixels,
                       Range out_vectors, const T* patches, std::int64_t pitch);

}  // namespace convpool
