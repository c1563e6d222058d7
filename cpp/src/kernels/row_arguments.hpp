#pragma once

#include <cstddef>
#include <cstdint>

namespace convpool::kernels {

using std::ptrdiff_t;

/// Takes rows apart by a stride: out[r][p * phase_pitch + x] = padded[r][x * stride + p], where a padded row is `lead`
/// times fill, in[r][0 .. columns), and fill up to `total`; for strides 2 and 4 as much as makes whole vectors of each
/// phase may be written.
template <class T>
struct SplitArguments {
  const T* in;
  ptrdiff_t in_row;
  T* out;
  ptrdiff_t out_row, phase_pitch;
  ptrdiff_t rows, lead, columns, total, stride;
  T fill;
};

/// out[r] = `lead` times fill, in[r][0 .. columns), and fill up to `total`.
template <class T>
struct PadArguments {
  const T* in;
  ptrdiff_t in_row;
  T* out;
  ptrdiff_t out_row;
  ptrdiff_t rows, lead, columns, total;
  T fill;
  bool stream = false;  ///< rows of whole vectors that are whole cache lines go past the caches; see finish_streaming
};

}  // namespace convpool::kernels
