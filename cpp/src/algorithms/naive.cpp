// Plain loops over the definition: the C++ reference. Every case, every stride, no kernels but for the curves.

#include "conv2d_algorithm.hpp"
#include "epilogue.hpp"
#include "parallel.hpp"

namespace convpool {

template <class T>
void run_naive(const Conv2dRun<T>& run) {
  const Conv2dGeometry& g = run.geometry;
  const Epilogue<T> epilogue(run);
  parallel_for(g.batch * g.out_channels, run.threads, [&](std::int64_t task, int) {
    const std::int64_t n = task / g.out_channels, k = task % g.out_channels;
    const std::int64_t first_channel = k / g.group_out_channels() * g.group_channels();
    const T* weight = run.weights.data + k * g.reduction();
    for (std::int64_t oh = 0; oh < g.h.out; ++oh) {
      for (std::int64_t ow = 0; ow < g.w.out; ++ow) {
        T sum = run.weights.bias != nullptr ? run.weights.bias[k] : T(0);
        for (std::int64_t c = 0; c < g.group_channels(); ++c) {
          for (std::int64_t i = 0; i < g.h.kernel; ++i) {
            const std::int64_t y = source_index(g.h.start(oh) + i * g.h.dilation, g.h.in, g.padding_mode);
            if (y < 0) continue;
            for (std::int64_t j = 0; j < g.w.kernel; ++j) {
              const std::int64_t x = source_index(g.w.start(ow) + j * g.w.dilation, g.w.in, g.padding_mode);
              if (x < 0) continue;
              sum += run.input(n, first_channel + c, y, x) * weight[(c * g.h.kernel + i) * g.w.kernel + j];
            }
          }
        }
        run.output(n, k, oh, ow) = epilogue.finished(sum, n, k, oh, ow);
      }
    }
  });
}

template void run_naive(const Conv2dRun<float>&);
template void run_naive(const Conv2dRun<double>&);

}  // namespace convpool
