/* A program that loads the library at run time, computes on several threads, and unloads it: its threads must be gone
 * before their code is. usage: convpool_unloading LIBRARY */
#define _POSIX_C_SOURCE 199309L
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "convpool/convpool.h"

static int count_threads(void) {
  DIR* tasks = opendir("/proc/self/task");
  int count = -2; /* . and .. */
  if (!tasks) return -1;
  while (readdir(tasks)) ++count;
  closedir(tasks);
  return count;
}

/* Once the kernel has cleared away those that were joined. */
static int settles_at(int before) {
  const struct timespec pause = {0, 1000000};
  for (int i = 0; i < 1000 && count_threads() != before; ++i) nanosleep(&pause, NULL);
  return count_threads() == before;
}

typedef convpool_status (*max_pool2d)(const convpool_tensor*, const convpool_tensor*, const convpool_tensor*,
                                      const convpool_pool2d_params*, const convpool_context*);

static int compute(void* library, float* data, int* threads) {
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, data, 8, 64, 64, 64);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, data + 8 * 64 * 64 * 64, 8, 64, 32, 32);
  convpool_pool2d_params params = CONVPOOL_POOL2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  max_pool2d run;
  *(void**)&run = dlsym(library, "convpool_max_pool2d");
  if (!run) return 0;
  params.kernel[0] = params.kernel[1] = params.stride[0] = params.stride[1] = 2;
  context.num_threads = 2;
  if (run(&input, &output, NULL, &params, &context) != CONVPOOL_OK) return 0;
  *threads = count_threads();
  return 1;
}

int main(int count, char** arguments) {
  const int before = count_threads();
  float* data = calloc(10 * 64 * 64 * 64, sizeof *data);
  if (count != 2 || before < 1 || !data) return 2;
  for (int round = 0; round < 3; ++round) {
    int meanwhile = 0;
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    if (!compute(library, data, &meanwhile)) {
      fprintf(stderr, "round %d: the call failed\n", round);
      return 1;
    }
    dlclose(library);
    if (dlopen(arguments[1], RTLD_NOW | RTLD_NOLOAD)) {
      fprintf(stderr, "round %d: the library stays loaded\n", round);
      return 1;
    }
    if (!settles_at(before)) {
      fprintf(stderr, "round %d: %d threads before, %d in the call, %d after unloading\n", round, before, meanwhile,
              count_threads());
      return 1;
    }
    printf("round %d: %d threads in the call, %d after\n", round, meanwhile, count_threads());
  }
  free(data);
  return 0;
}
