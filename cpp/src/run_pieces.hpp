#pragma once

#include <cstdint>

#include "conv2d_algorithm.hpp"
#include "tiling.hpp"

namespace convpool {

/// Calls f(piece) for pieces of at most `most` columns of the results, each a convolution of its own that sees the
/// whole input: scratch that holds whole rows then doesn't grow with the image. They come one after another, so that
/// where they are cut doesn't depend on the threads.
template <class T, class F>
void for_each_piece_of_columns(const Conv2dRun<T>& run, std::int64_t most, F&& f) {
  const EvenSplit pieces(run.geometry.w.out, most);
  if (pieces.pieces == 1) return f(run);
  for (std::int64_t p = 0; p < pieces.pieces; ++p) {
    const std::int64_t begin = pieces.begin(p), count = pieces.end(p) - begin;
    Conv2dGeometry geometry = run.geometry;
    geometry.w.out = count;
    geometry.w.pad_begin -= begin * geometry.w.stride;
    const auto cut = [&](auto view) {
      if (view.data != nullptr) view.data += begin * view.stride(3);
      view.shape[3] = count;
      return view;
    };
    f(Conv2dRun<T>{geometry, run.input, cut(run.output), run.weights, cut(run.add), run.activation, run.threads,
                   run.kernels, run.blocking});
  }
}

/// The same for rows of a convolution whose rows of results each see the input's row of that number alone.
template <class T, class F>
void for_each_piece_of_rows(const Conv2dRun<T>& run, std::int64_t most, F&& f) {
  const EvenSplit pieces(run.geometry.h.out, most);
  if (pieces.pieces == 1) return f(run);
  for (std::int64_t p = 0; p < pieces.pieces; ++p) {
    const std::int64_t begin = pieces.begin(p), count = pieces.end(p) - begin;
    Conv2dGeometry geometry = run.geometry;
    geometry.h.in = geometry.h.out = count;
    const auto cut = [&](auto view) {
      if (view.data != nullptr) view.data += begin * view.stride(2);
      view.shape[2] = count;
      return view;
    };
    f(Conv2dRun<T>{geometry, cut(run.input), cut(run.output), run.weights, cut(run.add), run.activation, run.threads,
                   run.kernels, run.blocking});
  }
}

}  // namespace convpool
