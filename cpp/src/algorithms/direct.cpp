// Blocked loops over the input in place, or over a padded copy of a few of its rows.
//
// Each register tile runs through the taps as a list of segments (where the input starts, where the weights start, how
// many steps), so that stride, dilation and padding are nothing but offsets, and a tap that lies wholly in zero padding
// is left out. Two orientations share that: output channels in the vectors (direct_channels.cpp) or pixels
// (direct_pixels.cpp). A third is for few output channels of a 1x1 alone (direct_sums.cpp).

#include "direct_tasks.hpp"

namespace convpool {

template <class T>
void run_direct(const Conv2dRun<T>& run, WeightForm form) {
  as_one_image(run, [&](const Conv2dRun<T>& whole) {
    if (form == WeightForm::plain_sums) return run_direct_by_sums(whole);
    form == WeightForm::plain ? run_direct_by_pixels(whole) : run_direct_by_channels(whole);
  });
}

template void run_direct(const Conv2dRun<float>&, WeightForm);
template void run_direct(const Conv2dRun<double>&, WeightForm);

}  // namespace convpool
