#include <stdio.h>

#include "convpool/convpool.h"

int main(void) {
  static float image[2 * 32 * 40], weight[4 * 2 * 3 * 3], result[4 * 30 * 38];
  int i;
  const convpool_tensor input = convpool_nhwc(CONVPOOL_FLOAT32, image, 1, 2, 32, 40);
  const convpool_tensor filters = convpool_nchw(CONVPOOL_FLOAT32, weight, 4, 2, 3, 3);
  const convpool_tensor output = convpool_nhwc(CONVPOOL_FLOAT32, result, 1, 4, 30, 38);
  for (i = 0; i < 2 * 32 * 40; ++i) image[i] = 1;
  for (i = 0; i < 4 * 2 * 3 * 3; ++i) weight[i] = 0.25F;
  if (convpool_conv2d(&input, &filters, NULL, &output, NULL, NULL) != CONVPOOL_OK) {
    fprintf(stderr, "%s\n", convpool_last_error());
    return 1;
  }
  printf("convpool %s, %s: %g\n", convpool_version(), convpool_isa(), (double)result[0]);
  return result[0] == 4.5F ? 0 : 1;
}
