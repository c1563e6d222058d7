// One input channel for each output: nothing to multiply out, so the input passes once through registers.
//
// Channels-last with one output for each input channel: channels in the vectors, the input in place, each pixel with
// the taps that lie inside. Otherwise: pixels in the vectors, from a padded copy of a few rows of one plane.

#include <algorithm>

#include "conv2d_algorithm.hpp"
#include "epilogue.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::Tap;
using std::int64_t;
using std::ptrdiff_t;

/// The copied rows of a plane should stay in the L1 cache, unless the kernel is so tall that most rows would be copied
/// twice.
constexpr int64_t copied_bytes = 24 << 10;

template <class T>
void run_channel_vectors(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  const Epilogue<T> epilogue(run.activation);
  const Range inside = g.w.outputs_all_inside();
  const int64_t weight_pitch = round_up(g.out_channels, run.kernels.lanes);
  const SlottedWorkspace<Tap> tap_scratch(g.taps(), run.threads);
  parallel_for(g.batch * g.h.out, run.threads, [&](int64_t task, int thread) {
    const int64_t n = task / g.h.out, oh = task % g.h.out;
    Tap* const taps = tap_scratch.slot(thread);
    T* const out = run.output.data + n * run.output.stride(0) + oh * run.output.stride(2);
    const T* const image = run.input.data + n * run.input.stride(0);
    const auto run_pixels = [&](int64_t ow, int64_t count) {
      int64_t used = 0;
      for (int64_t i = 0; i < g.h.kernel; ++i) {
        const int64_t y = source_index(g.h.start(oh) + i * g.h.dilation, g.h.in, g.padding_mode);
        if (y < 0) continue;
        for (int64_t j = 0; j < g.w.kernel; ++j) {
          const int64_t x = source_index(g.w.start(ow) + j * g.w.dilation, g.w.in, g.padding_mode);
          if (x < 0) continue;
          taps[used++] = {y * run.input.stride(2) + x * run.input.stride(3), (i * g.w.kernel + j) * weight_pitch};
        }
      }
      kernels::DepthwiseChannelsArguments<T> d{};
      d.in = image;
      d.in_pixel = g.w.stride * run.input.stride(3);
      d.tap = taps;
      d.taps = used;
      d.weight = run.weights.data;
      d.bias = run.weights.bias;
      d.out = out + ow * run.output.stride(3);
      d.out_pixel = run.output.stride(3);
      d.pixels = count;
      d.channels = g.channels;
      d.low = epilogue.low;
      d.high = epilogue.high;
      run.kernels.depthwise_channels(d);
    };
    for (int64_t ow = 0; ow < inside.begin; ++ow) run_pixels(ow, 1);
    if (!inside.empty()) run_pixels(inside.begin, inside.end - inside.begin);
    for (int64_t ow = std::max(inside.begin, inside.end); ow < g.w.out; ++ow) run_pixels(ow, 1);
    if (epilogue.has_curve) run.kernels.apply_curve(epilogue.curve, out, run.output.stride(3), g.w.out, g.channels);
  });
}

template <class T>
class PlaneVectors {
 public:
  explicit PlaneVectors(const Conv2dRun<T>& run)
      : run_(run),
        g_(run.geometry),
        epilogue_(run.activation),
        columns_(g_.w, 0, g_.w.out, run.kernels.lanes),
        output_in_planes_(!channels_last(run.output)) {
    const int64_t row_bytes = size_product(columns_.row_pitch(), sizeof(T));
    const int64_t reach = g_.h.effective_kernel() - 1;
    const int64_t fitting = (copied_bytes / std::max<int64_t>(1, row_bytes) - reach - 1) / g_.h.stride + 1;
    rows_ = std::clamp<int64_t>(std::max(fitting, 2 * reach / g_.h.stride), std::min<int64_t>(8, g_.h.out), g_.h.out);
  }

  void operator()() const {
    // Channels-last results wait until a whole vector of channels can be transposed.
    const int64_t lanes = run_.kernels.lanes;
    const int64_t outputs_per_task = output_in_planes_ ? multiplier() : lanes;
    const int64_t channel_tasks = ceil_div(g_.out_channels, outputs_per_task);
    const int64_t row_tasks = ceil_div(g_.h.out, rows_);
    const int64_t copy = size_product(rows_copied(), columns_.row_pitch()) + columns_.scratch_elements();
    const int64_t waiting = output_in_planes_ ? 0 : size_product(lanes, rows_, g_.w.out);
    const SlottedWorkspace<T> scratch(round_up(copy, 16) + waiting, run_.threads);
    const Workspace offsets_memory(static_cast<std::size_t>(g_.w.kernel) * sizeof(ptrdiff_t));
    ptrdiff_t* const offsets = offsets_memory.as<ptrdiff_t>();
    for (int64_t j = 0; j < g_.w.kernel; ++j) offsets[j] = columns_.tap_offset(g_.w, j);
    parallel_for(g_.batch * channel_tasks * row_tasks, run_.threads, [&](int64_t task, int thread) {
      const int64_t oh = task % row_tasks * rows_, rows = std::min(rows_, g_.h.out - oh);
      task /= row_tasks;
      const int64_t k = task % channel_tasks * outputs_per_task, n = task / channel_tasks;
      const int64_t k_end = std::min(g_.out_channels, k + outputs_per_task);
      T* const block = scratch.slot(thread);
      if (output_in_planes_) {
        T* const out = result(n, k, oh);
        run_channels(n, k, k_end, oh, rows, block, offsets, out, run_.output.stride(1), run_.output.stride(2));
        return;
      }
      T* const stage = block + round_up(copy, 16);
      run_channels(n, k, k_end, oh, rows, block, offsets, stage, rows * g_.w.out, g_.w.out);
      for (int64_t r = 0; r < rows; ++r) {
        run_.kernels.transpose(stage + r * g_.w.out, rows * g_.w.out, k_end - k, g_.w.out, result(n, k, oh + r),
                               run_.output.stride(3));
      }
    });
  }

 private:
  int64_t multiplier() const { return g_.out_channels / g_.channels; }
  int64_t rows_copied() const { return (rows_ - 1) * g_.h.stride + g_.h.effective_kernel(); }
  T* result(int64_t n, int64_t k, int64_t oh) const {
    return run_.output.data + n * run_.output.stride(0) + k * run_.output.stride(1) + oh * run_.output.stride(2);
  }

  void run_channels(int64_t n, int64_t k_begin, int64_t k_end, int64_t oh, int64_t rows, T* block,
                    const ptrdiff_t* offsets, T* out, int64_t out_channel, int64_t out_row) const {
    int64_t copied = -1;
    for (int64_t k = k_begin; k < k_end; ++k, out += out_channel) {
      if (const int64_t c = k / multiplier(); c != copied) {
        copy_rows(n, c, oh, rows, block);
        copied = c;
      }
      kernels::DepthwisePlaneArguments<T> d{};
      d.in = block;
      d.in_row = g_.h.stride * columns_.row_pitch();
      d.tap_row = g_.h.dilation * columns_.row_pitch();
      d.tap_column = offsets;
      d.weight = run_.weights.data + k * g_.taps();
      d.kernel_rows = g_.h.kernel;
      d.kernel_columns = g_.w.kernel;
      d.out = out;
      d.out_row = out_row;
      d.rows = rows;
      d.columns = g_.w.out;
      d.bias = run_.weights.bias == nullptr ? T(0) : run_.weights.bias[k];
      d.low = epilogue_.low;
      d.high = epilogue_.high;
      run_.kernels.depthwise_plane(d);
      if (epilogue_.has_curve) run_.kernels.apply_curve(epilogue_.curve, out, out_row, rows, g_.w.out);
    }
  }

  void copy_rows(int64_t n, int64_t c, int64_t oh, int64_t rows, T* block) const {
    const T* const plane = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
    const int64_t first = g_.h.start(oh), count = (rows - 1) * g_.h.stride + g_.h.effective_kernel();
    T* const scratch = block + rows_copied() * columns_.row_pitch();
    for (int64_t r = 0; r < count;) {
      T* const to = block + r * columns_.row_pitch();
      const int64_t y = source_index(first + r, g_.h.in, g_.padding_mode);
      if (y < 0) {
        std::fill_n(to, columns_.row_pitch(), T(0));
        ++r;
        continue;
      }
      // Rows inside the plane follow one another; padding rows come one at a time.
      const int64_t together = first + r == y ? std::min(count - r, g_.h.in - y) : 1;
      columns_.copy(run_.kernels,
                    {plane + y * run_.input.stride(2), run_.input.stride(2), run_.input.stride(3), g_.w.in}, together,
                    g_.padding_mode, T(0), scratch, to, columns_.row_pitch());
      r += together;
    }
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  Epilogue<T> epilogue_;
  PhasedRows columns_;
  bool output_in_planes_;
  int64_t rows_ = 1;
};

}  // namespace

template <class T>
void run_depthwise(const Conv2dRun<T>& run, bool channels_in_vectors) {
  if (channels_in_vectors) {
    run_channel_vectors(run);
  } else {
    PlaneVectors<T>{run}();
  }
}

template void run_depthwise(const Conv2dRun<float>&, bool);
template void run_depthwise(const Conv2dRun<double>&, bool);

}  // namespace convpool
