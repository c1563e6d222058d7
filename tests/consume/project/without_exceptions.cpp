#include <cstdio>
#include <cstring>

#include "convpool/convpool.h"

int main() {
  float image[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8}, result[4] = {};
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 1, 3, 3);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 1, 2, 2);
  convpool_pool2d_params params = CONVPOOL_POOL2D_PARAMS_INIT;
  params.stride[0] = params.stride[1] = 1;
  if (convpool_max_pool2d(&input, &output, nullptr, &params, nullptr) != CONVPOOL_OK) return 1;
  params.kernel[0] = 9;  // an exception inside, a code here
  const convpool_status status = convpool_max_pool2d(&input, &output, nullptr, &params, nullptr);
  return result[0] == 4 && status == CONVPOOL_INVALID_ARGUMENT &&
                 std::strstr(convpool_last_error(), "kernel_size") != nullptr
             ? 0
             : 1;
}
