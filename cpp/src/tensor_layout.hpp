#pragma once

#include "convpool/tensor_view.hpp"
#include "geometry.hpp"

namespace convpool {

/// Neighbouring pixels of a row are neighbours in memory. A single column isn't enough: read as one row, the plane
/// would have the stride of its rows.
template <class T>
bool pixels_contiguous(const TensorView<T>& view) {
  return view.stride(3) == 1 || (view.size(2) <= 1 && view.size(3) <= 1);
}

/// Channels-last, so that vectors of channels load and store whole. False for a single channel: its pixels are what is
/// contiguous.
template <class T>
bool channels_last(const TensorView<T>& view) {
  return view.size(1) > 1 && view.stride(1) == 1;
}

/// Whether the rows of a plane follow one another without a gap, so that it reads as one long row.
template <class T>
bool rows_contiguous(const TensorView<T>& view) {
  return view.size(2) <= 1 || view.stride(2) == view.size(3) * view.stride(3);
}

}  // namespace convpool
