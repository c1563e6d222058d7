// 1x1 convolution of channels-last pixels to few output channels: the sums run along the channels in vectors.

#include "conv2d_algorithm.hpp"
#include "direct_tasks.hpp"
#include "parallel.hpp"

namespace convpool {

template <class T>
void run_direct_by_sums(const Conv2dRun<T>& run) {
  Conv2dGeometry g = run.geometry;
  TensorView<const T> input = run.input;
  TensorView<T> output = run.output;
  if (reads_as_one_row(run)) flatten_rows(g, input, output);
  const Epilogue<T> epilogue(run);
  // Some tens of microseconds.
  constexpr std::int64_t task_elements = 64 << 10;
  const EvenSplit columns(g.w.out, std::max<std::int64_t>(16, task_elements / g.channels));
  if (run.blocking != nullptr) *run.blocking = {0, 0, columns.largest(), g.out_channels, g.channels};
  parallel_for(g.batch * g.h.out * columns.pieces, run.threads, [&](std::int64_t task, int) {
    const std::int64_t ow = columns.begin(task % columns.pieces), pixels = columns.end(task % columns.pieces) - ow;
    task /= columns.pieces;
    const std::int64_t oh = task % g.h.out, n = task / g.h.out;
    kernels::ChannelSumArguments<T> a{};
    a.in = input.data + n * input.stride(0) + g.h.start(oh) * input.stride(2) + g.w.start(ow) * input.stride(3);
    a.in_pixel = g.w.stride * input.stride(3);
    a.pixels = pixels;
    a.channels = g.channels;
    a.weight = run.weights.data;
    a.bias = run.weights.bias;
    a.out = output.data + n * output.stride(0) + oh * output.stride(2) + ow * output.stride(3);
    a.outputs = g.out_channels;
    a.low = epilogue.low();
    a.high = epilogue.high();
    run.kernels.sum_channels(a);
    if (epilogue.remains()) {
      epilogue.finish_pixels(a.out, g.out_channels, pixels, g.out_channels, n, 0, oh * g.w.out + ow);
    }
  });
}

template void run_direct_by_sums(const Conv2dRun<float>&);
template void run_direct_by_sums(const Conv2dRun<double>&);

}  // namespace convpool
