// The maximum and where it was: every tap of every window, in the order of the plane, so that ties fall to the lowest
// index.

#include <algorithm>
#include <limits>

#include "padded_rows.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;
using std::ptrdiff_t;

/// The index of a window that misses the input altogether, as a dilated one in the padding can.
constexpr int64_t no_index = -1;

/// The first position of a window along an axis that lies inside the input; no_index where none does.
int64_t first_inside(const Axis& axis, int64_t output) {
  const Range taps = axis.taps_inside(output);
  return taps.empty() ? no_index : axis.start(output) + taps.begin * axis.dilation;
}

int64_t first_index(const Pool2dGeometry& g, int64_t oh, int64_t ow) {
  const int64_t y = first_inside(g.h, oh), x = first_inside(g.w, ow);
  return y == no_index || x == no_index ? no_index : y * g.w.in + x;
}

/// Pixels in the vectors, from a padded copy of the rows of one plane that an output row needs.
template <class T>
class PlaneIndices {
  using Index = typename kernels::IndexOf<T>::type;

 public:
  PlaneIndices(const Pool2dRun<T>& run, const TensorView<int64_t>& indices)
      : run_(run), g_(run.geometry), indices_(indices), columns_(g_.w, 0, g_.w.out, run.kernels.lanes) {}

  void operator()() const {
    const Workspace first_memory(static_cast<std::size_t>(g_.w.out) * sizeof(Index));
    Index* const first_columns = first_memory.as<Index>();
    for (int64_t ow = 0; ow < g_.w.out; ++ow) first_columns[ow] = static_cast<Index>(first_inside(g_.w, ow));
    // Copied rows stay as long as the outputs move over them; a kernel's worth of rows, in a ring, is all that is kept.
    const SlottedWorkspace<T> rows(size_product(g_.h.kernel, columns_.row_pitch()) + columns_.scratch_elements(),
                                   run_.threads);
    const SlottedWorkspace<int64_t> ring(g_.h.kernel, run_.threads);
    const SlottedWorkspace<ptrdiff_t> offsets(size_product(g_.h.kernel, g_.w.kernel), run_.threads);
    const SlottedWorkspace<Index> tap_indices(size_product(g_.h.kernel, g_.w.kernel), run_.threads);
    constexpr int64_t rows_per_task = 16;
    const int64_t row_tasks = ceil_div(g_.h.out, rows_per_task);
    parallel_for(g_.batch * g_.channels * row_tasks, run_.threads, [&](int64_t task, int thread) {
      const int64_t begin = task % row_tasks * rows_per_task, end = std::min(g_.h.out, begin + rows_per_task);
      task /= row_tasks;
      const int64_t n = task / g_.channels, c = task % g_.channels;
      std::fill_n(ring.slot(thread), g_.h.kernel, int64_t{-1});
      for (int64_t oh = begin; oh < end; ++oh) {
        run_row(n, c, oh, rows.slot(thread), ring.slot(thread), offsets.slot(thread), tap_indices.slot(thread),
                first_columns);
      }
    });
  }

 private:
  void run_row(int64_t n, int64_t c, int64_t oh, T* rows, int64_t* ring, ptrdiff_t* offsets, Index* tap_indices,
               const Index* first_columns) const {
    const T* const plane = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
    const Range taps = g_.h.taps_inside(oh);
    int64_t used = 0;
    for (int64_t i = taps.begin; i < taps.end; ++i) {
      const int64_t y = g_.h.start(oh) + i * g_.h.dilation;
      const int64_t slot =
          y / g_.h.dilation % g_.h.kernel;  // rows of one window are a dilation apart: no two share a slot
      T* const row = rows + slot * columns_.row_pitch();
      if (ring[slot] != y) {
        columns_.copy(run_.kernels, {plane + y * run_.input.stride(2), 0, 1, g_.w.in}, 1, PaddingMode::zeros,
                      -std::numeric_limits<T>::infinity(), rows + g_.h.kernel * columns_.row_pitch(), row, 0);
        ring[slot] = y;
      }
      for (int64_t j = 0; j < g_.w.kernel; ++j) {
        offsets[used] = (row - rows) + columns_.tap_offset(g_.w, j);
        tap_indices[used++] = static_cast<Index>(y * g_.w.in + g_.w.start(0) + j * g_.w.dilation);
      }
    }
    if (used == 0) {
      std::fill_n(result_row(run_.output, n, c, oh), g_.w.out, -std::numeric_limits<T>::infinity());
      std::fill_n(result_row(indices_, n, c, oh), g_.w.out, no_index);
      return;
    }
    kernels::MaxIndexArguments<T> a{};
    a.in = rows;
    a.offset = offsets;
    a.tap_index = tap_indices;
    a.taps = used;
    a.index_step = static_cast<Index>(g_.w.stride);
    a.first_index = static_cast<Index>(first_inside(g_.h, oh) * g_.w.in);
    a.first_index_of = first_columns;
    a.out = result_row(run_.output, n, c, oh);
    a.indices = result_row(indices_, n, c, oh);
    a.columns = g_.w.out;
    run_.kernels.max_index(a);
    for (int64_t ow = 0; ow < g_.w.out; ++ow) {
      if (first_columns[ow] == no_index) a.indices[ow] = no_index;
    }
  }

  template <class U>
  static U* result_row(const TensorView<U>& result, int64_t n, int64_t c, int64_t oh) {
    return result.data + n * result.stride(0) + c * result.stride(1) + oh * result.stride(2);
  }

  const Pool2dRun<T>& run_;
  const Pool2dGeometry& g_;
  TensorView<int64_t> indices_;
  PhasedRows columns_;
};

/// Channels in the vectors, the input in place.
template <class T>
void run_channel_vectors(const Pool2dRun<T>& run, const TensorView<int64_t>& indices) {
  using Index = typename kernels::IndexOf<T>::type;
  const Pool2dGeometry& g = run.geometry;
  const int64_t most = size_product(g.h.kernel, g.w.kernel);
  const SlottedWorkspace<ptrdiff_t> offset_scratch(most, run.threads);
  const SlottedWorkspace<Index> tap_scratch(most, run.threads);
  parallel_for(g.batch * g.h.out, run.threads, [&](int64_t task, int thread) {
    const int64_t n = task / g.h.out, oh = task % g.h.out;
    ptrdiff_t* const offsets = offset_scratch.slot(thread);
    Index* const tap_indices = tap_scratch.slot(thread);
    const Range rows = g.h.taps_inside(oh);
    for (int64_t ow = 0; ow < g.w.out; ++ow) {
      const Range columns = g.w.taps_inside(ow);
      int64_t used = 0;
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        for (int64_t j = columns.begin; j < columns.end; ++j) {
          const int64_t y = g.h.start(oh) + i * g.h.dilation, x = g.w.start(ow) + j * g.w.dilation;
          offsets[used] = y * run.input.stride(2) + x * run.input.stride(3);
          tap_indices[used++] = static_cast<Index>(y * g.w.in + x);
        }
      }
      kernels::MaxIndexArguments<T> a{};
      a.in = run.input.data + n * run.input.stride(0);
      a.offset = offsets;
      a.tap_index = tap_indices;
      a.taps = used;
      a.first_index = static_cast<Index>(first_index(g, oh, ow));
      a.out = run.output.data + n * run.output.stride(0) + oh * run.output.stride(2) + ow * run.output.stride(3);
      a.indices = indices.data + n * indices.stride(0) + oh * indices.stride(2) + ow * indices.stride(3);
      a.columns = g.channels;
      run.kernels.max_index(a);
    }
  });
}

/// Positions that a vector's index type can't count.
template <class T>
void run_scalar(const Pool2dRun<T>& run, const TensorView<int64_t>& indices) {
  const Pool2dGeometry& g = run.geometry;
  parallel_for(g.batch * g.channels, run.threads, [&](int64_t task, int) {
    const int64_t n = task / g.channels, c = task % g.channels;
    for (int64_t oh = 0; oh < g.h.out; ++oh) {
      for (int64_t ow = 0; ow < g.w.out; ++ow) {
        T best = -std::numeric_limits<T>::infinity();
        int64_t index = first_index(g, oh, ow);
        const Range rows = g.h.taps_inside(oh), columns = g.w.taps_inside(ow);
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          for (int64_t j = columns.begin; j < columns.end; ++j) {
            const int64_t y = g.h.start(oh) + i * g.h.dilation, x = g.w.start(ow) + j * g.w.dilation;
            const T value = run.input(n, c, y, x);
            if (value > best || value != value) best = value, index = y * g.w.in + x;
          }
        }
        run.output(n, c, oh, ow) = best;
        indices(n, c, oh, ow) = index;
      }
    }
  });
}

}  // namespace

template <class T>
void run_max_pool_with_indices(const Pool2dRun<T>& run, TensorView<int64_t> indices) {
  const Pool2dGeometry& g = run.geometry;
  const int64_t plane = g.h.in * g.w.in, reach = g.w.out * g.w.stride + g.w.effective_kernel();
  if (plane > std::numeric_limits<typename kernels::IndexOf<T>::type>::max() - reach) {
    run_scalar(run, indices);
  } else if (run.channels_last) {
    run_channel_vectors(run, indices);
  } else {
    PlaneIndices<T>{run, indices}();
  }
}

template void run_max_pool_with_indices(const Pool2dRun<float>&, TensorView<int64_t>);
template void run_max_pool_with_indices(const Pool2dRun<double>&, TensorView<int64_t>);

}  // namespace convpool
