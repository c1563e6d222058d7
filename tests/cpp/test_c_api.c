/* The C interface from C99: results, errors, and the rules of struct_size. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convpool/convpool.h"

static int failures = 0;

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, convpool_last_error()); \
      ++failures;                                                                        \
    }                                                                                    \
  } while (0)

static void check_error(convpool_status got, convpool_status expected, const char* text, int line) {
  if (got != expected || strstr(convpool_last_error(), text) == NULL) {
    printf("%s:%d: status %d (%s), message \"%s\"; expected %d and \"%s\"\n", __FILE__, line, (int)got,
           convpool_status_text(got), convpool_last_error(), (int)expected, text);
    ++failures;
  }
}
#define CHECK_ERROR(call, status, text) check_error(call, status, text, __LINE__)

/* 1 x 2 x 4 x 5 with the values 0, 1, 2, ... */
static float image[40];
/* 3 x 2 x 2 x 2, all ones times the output channel's number plus one */
static float filters[24];
static const float biases[3] = {10, 20, -1000};

static void fill(void) {
  int i;
  for (i = 0; i < 40; ++i) image[i] = (float)i;
  for (i = 0; i < 24; ++i) filters[i] = (float)(i / 8 + 1);
}

static float expected(int k, int y, int x) {
  float sum = 0;
  int c, i, j;
  for (c = 0; c < 2; ++c)
    for (i = 0; i < 2; ++i)
      for (j = 0; j < 2; ++j) sum += image[(c * 4 + y + i) * 5 + x + j] * (float)(k + 1);
  sum += biases[k];
  return sum > 0 ? sum : 0;
}

static int all_as_expected(const float* result, int channels_last) {
  int k, y, x;
  for (k = 0; k < 3; ++k)
    for (y = 0; y < 3; ++y)
      for (x = 0; x < 4; ++x) {
        const float got = channels_last ? result[(y * 4 + x) * 3 + k] : result[(k * 3 + y) * 4 + x];
        if (fabsf(got - expected(k, y, x)) > 1e-3F) return 0;
      }
  return 1;
}

static void convolutions(void) {
  float result[36], image_nhwc[40];
  double wide_image[40], wide_filters[24], wide_result[36];
  int64_t shape[4];
  int i;
  const int64_t input_shape[4] = {1, 2, 4, 5}, weight_shape[4] = {3, 2, 2, 2};
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 3, 2, 2, 2);
  convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  params.activation = CONVPOOL_ACTIVATION_RELU;

  CHECK(convpool_conv2d_output_shape(input_shape, weight_shape, &params, shape) == CONVPOOL_OK);
  CHECK(shape[0] == 1 && shape[1] == 3 && shape[2] == 3 && shape[3] == 4);
  CHECK(convpool_conv2d(&input, &weight, biases, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 0));

  /* Channels last, both ways, is a matter of strides. */
  for (i = 0; i < 40; ++i) image_nhwc[i % 20 * 2 + i / 20] = image[i];
  input = convpool_nhwc(CONVPOOL_FLOAT32, image_nhwc, 1, 2, 4, 5);
  output = convpool_nhwc(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  memset(result, 0, sizeof result);
  CHECK(convpool_conv2d(&input, &weight, biases, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 1));

  /* Upside down: a negative stride, from the last row on. */
  input = convpool_nchw(CONVPOOL_FLOAT32, image + 15, 1, 2, 4, 5);
  input.strides[2] = -5;
  output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  CHECK(convpool_conv2d(&input, &weight, NULL, &output, NULL, NULL) == CONVPOOL_OK);
  CHECK(fabsf(result[0] - (15 + 16 + 10 + 11 + 35 + 36 + 30 + 31)) < 1e-3F);

  for (i = 0; i < 40; ++i) wide_image[i] = image[i];
  for (i = 0; i < 24; ++i) wide_filters[i] = filters[i];
  input = convpool_nchw(CONVPOOL_FLOAT64, wide_image, 1, 2, 4, 5);
  weight = convpool_nchw(CONVPOOL_FLOAT64, wide_filters, 3, 2, 2, 2);
  output = convpool_nchw(CONVPOOL_FLOAT64, wide_result, 1, 3, 3, 4);
  CHECK(convpool_conv2d(&input, &weight, NULL, &output, NULL, NULL) == CONVPOOL_OK);
  CHECK(fabs(wide_result[12] - 2 * (0 + 1 + 5 + 6 + 20 + 21 + 25 + 26)) < 1e-9);
}

static void plans(void) {
  float result[36], residual[36];
  int i;
  char text[2000], start[8];
  size_t length = 0, bytes = 0;
  int64_t shape[4];
  const int64_t input_shape[4] = {1, 2, 4, 5};
  convpool_conv2d_plan *plan = NULL, *measuring = NULL;
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 3, 2, 2, 2);
  convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  convpool_tensor add = convpool_nchw(CONVPOOL_FLOAT32, residual, 1, 3, 3, 4);
  params.activation = CONVPOOL_ACTIVATION_RELU;

  CHECK(convpool_conv2d_plan_create(&weight, biases, &params, NULL, &plan) == CONVPOOL_OK);
  CHECK(convpool_conv2d_plan_output_shape(plan, input_shape, shape) == CONVPOOL_OK);
  CHECK(shape[1] == 3 && shape[2] == 3 && shape[3] == 4);
  CHECK(convpool_conv2d_plan_run(plan, &input, &output, NULL) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 0));

  CHECK(convpool_conv2d_plan_workspace_size(plan, &input, &output, NULL, &bytes) == CONVPOOL_OK);
  context.workspace = malloc(bytes + 1);
  context.workspace_bytes = bytes;
  memset(result, 0, sizeof result);
  CHECK(convpool_conv2d_plan_run(plan, &input, &output, &context) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 0));
  free(context.workspace);

  CHECK(convpool_conv2d_plan_explain(plan, &input, &output, text, sizeof text, &length) == CONVPOOL_OK);
  CHECK(length == strlen(text) && strncmp(text, "algorithm: ", 11) == 0);
  CHECK(convpool_conv2d_plan_explain(plan, &input, &output, start, sizeof start, NULL) == CONVPOOL_OK);
  CHECK(strcmp(start, "algorit") == 0);

  /* What is added counts before the activation: here it undoes the last channel's bias. */
  for (i = 0; i < 36; ++i) residual[i] = i < 24 ? 0 : 1000;
  CHECK(convpool_conv2d_plan_run_add(plan, &input, &add, &output, NULL) == CONVPOOL_OK);
  CHECK(fabsf(result[0] - expected(0, 0, 0)) < 1e-3F && fabsf(result[24] - 3 * (expected(0, 0, 0) - 10)) < 1e-2F);
  memset(result, 0, sizeof result);
  CHECK(convpool_conv2d_add(&input, &weight, biases, &add, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(fabsf(result[0] - expected(0, 0, 0)) < 1e-3F && fabsf(result[24] - 3 * (expected(0, 0, 0) - 10)) < 1e-2F);
  CHECK(convpool_conv2d_plan_run_add(plan, &input, NULL, &output, NULL) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 0));
  CHECK(convpool_conv2d_add(&input, &weight, biases, NULL, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(all_as_expected(result, 0));
  add.shape[3] = 3;
  CHECK_ERROR(convpool_conv2d_plan_run_add(plan, &input, &add, &output, NULL), CONVPOOL_INVALID_ARGUMENT, "add");
  add.dtype = CONVPOOL_FLOAT64;
  CHECK_ERROR(convpool_conv2d_plan_run_add(plan, &input, &add, &output, NULL), CONVPOOL_INVALID_TYPE, "add.dtype");
  CHECK_ERROR(convpool_conv2d_add(&input, &weight, biases, &add, &output, &params, NULL), CONVPOOL_INVALID_TYPE,
              "add.dtype");

  params.algorithm = CONVPOOL_ALGORITHM_BENCHMARK;
  CHECK_ERROR(convpool_conv2d(&input, &weight, biases, &output, &params, NULL), CONVPOOL_INVALID_ARGUMENT, "benchmark");
  CHECK(convpool_conv2d_plan_create(&weight, biases, &params, NULL, &measuring) == CONVPOOL_OK);
  for (i = 0; i < 2; ++i) {
    memset(result, 0, sizeof result);
    CHECK(convpool_conv2d_plan_run(measuring, &input, &output, NULL) == CONVPOOL_OK);
    CHECK(all_as_expected(result, 0));
  }
  CHECK(convpool_conv2d_plan_explain(measuring, &input, &output, text, sizeof text, NULL) == CONVPOOL_OK);
  CHECK(strstr(text, "measured: ") != NULL);
  convpool_conv2d_plan_destroy(measuring);
  params.algorithm = CONVPOOL_ALGORITHM_BENCHMARK + 1;
  CHECK_ERROR(convpool_conv2d_plan_create(&weight, biases, &params, NULL, &measuring), CONVPOOL_INVALID_ARGUMENT,
              "params.algorithm");

  input.dtype = CONVPOOL_FLOAT64;
  CHECK_ERROR(convpool_conv2d_plan_run(plan, &input, &output, NULL), CONVPOOL_INVALID_TYPE, "input.dtype");
  CHECK_ERROR(convpool_conv2d_plan_run(NULL, &input, &output, NULL), CONVPOOL_INVALID_ARGUMENT, "plan");
  convpool_conv2d_plan_destroy(plan);
  convpool_conv2d_plan_destroy(NULL);
}

static void poolings(void) {
  float result[8];
  int64_t positions[8], shape[4];
  size_t bytes = 0;
  const int64_t input_shape[4] = {1, 2, 4, 5};
  convpool_pool2d_params params = CONVPOOL_POOL2D_PARAMS_INIT;
  convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 2, 2, 2);
  convpool_tensor indices = convpool_nchw(CONVPOOL_INT64, positions, 1, 2, 2, 2);

  CHECK(convpool_pool2d_output_shape(input_shape, &params, shape) == CONVPOOL_OK);
  CHECK(shape[1] == 2 && shape[2] == 2 && shape[3] == 2);
  CHECK(convpool_max_pool2d(&input, &output, &indices, &params, NULL) == CONVPOOL_OK);
  CHECK(result[0] == 6 && result[3] == 18 && result[4] == 26);
  CHECK(positions[0] == 6 && positions[3] == 18 && positions[4] == 6);
  CHECK(convpool_max_pool2d(&input, &output, NULL, &params, NULL) == CONVPOOL_OK);
  CHECK(convpool_max_pool2d_workspace_size(&input, &output, &indices, &params, NULL, &bytes) == CONVPOOL_OK);

  CHECK(convpool_avg_pool2d(&input, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(result[0] == 3 && result[1] == 5);
  params.divisor_override = 2;
  CHECK(convpool_avg_pool2d(&input, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(result[0] == 6);
  CHECK(convpool_avg_pool2d_workspace_size(&input, &output, &params, NULL, &bytes) == CONVPOOL_OK);

  /* Padding at the top and the left: one corner of the window lies inside. */
  params = (convpool_pool2d_params)CONVPOOL_POOL2D_PARAMS_INIT;
  params.padding_kind = CONVPOOL_PADDING_SIDES;
  params.padding[0] = params.padding[2] = 1;
  output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 1, 2, 3);
  input = convpool_nchw(CONVPOOL_FLOAT32, image + 1, 1, 1, 4, 5);
  CHECK(convpool_avg_pool2d(&input, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(result[0] == 0.25F);
  params.exclude_pad = 1;
  CHECK(convpool_avg_pool2d(&input, &output, &params, NULL) == CONVPOOL_OK);
  CHECK(result[0] == 1);

  indices.dtype = CONVPOOL_FLOAT32;
  CHECK_ERROR(convpool_max_pool2d(&input, &output, &indices, &params, NULL), CONVPOOL_INVALID_TYPE, "indices.dtype");
  CHECK_ERROR(convpool_max_pool2d(&input, &output, NULL, NULL, NULL), CONVPOOL_INVALID_ARGUMENT, "params");
  params.kernel[0] = 0;
  CHECK_ERROR(convpool_max_pool2d(&input, &output, NULL, &params, NULL), CONVPOOL_INVALID_ARGUMENT, "kernel_size");
}

static void errors(void) {
  float result[36];
  int64_t shape[4];
  const int64_t huge[4] = {INT64_MAX, 2, INT64_MAX, 5}, weight_shape[4] = {3, 2, 2, 2};
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  const convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 3, 2, 2, 2);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  convpool_tensor wrong;

#define CHECK_REFUSED(text) \
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &output, &params, &context), CONVPOOL_INVALID_ARGUMENT, text)
#define CHECK_FIELD(field, value, text)                           \
  do {                                                            \
    params.field = value;                                         \
    CHECK_REFUSED(text);                                          \
    params = (convpool_conv2d_params)CONVPOOL_CONV2D_PARAMS_INIT; \
  } while (0)

  CHECK_FIELD(stride[1], 0, "stride");
  CHECK_FIELD(dilation[0], -1, "dilation");
  CHECK_FIELD(groups, 3, "groups");
  CHECK_FIELD(padding[0], 1, "params.padding");
  CHECK_FIELD(padding_kind, 17, "params.padding_kind");
  CHECK_FIELD(padding_mode, -1, "params.padding_mode");
  CHECK_FIELD(activation, 6, "params.activation");
  CHECK_FIELD(algorithm, 8, "params.algorithm");
  CHECK_FIELD(algorithm, CONVPOOL_ALGORITHM_DEPTHWISE, "depthwise");
  CHECK_FIELD(reserved, 1, "params.reserved");

  CHECK_ERROR(convpool_conv2d(NULL, &weight, NULL, &output, NULL, NULL), CONVPOOL_INVALID_ARGUMENT, "input");
  CHECK_ERROR(convpool_conv2d(&input, NULL, NULL, &output, NULL, NULL), CONVPOOL_INVALID_ARGUMENT, "weight");
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, NULL, NULL, NULL), CONVPOOL_INVALID_ARGUMENT, "output");
  wrong = input;
  wrong.data = NULL;
  CHECK_ERROR(convpool_conv2d(&wrong, &weight, NULL, &output, NULL, NULL), CONVPOOL_INVALID_ARGUMENT,
              "input has no data");
  wrong = input;
  wrong.dtype = 9;
  CHECK_ERROR(convpool_conv2d(&wrong, &weight, NULL, &output, NULL, NULL), CONVPOOL_INVALID_TYPE, "input.dtype");
  wrong = weight;
  wrong.dtype = CONVPOOL_FLOAT64;
  CHECK_ERROR(convpool_conv2d(&input, &wrong, NULL, &output, NULL, NULL), CONVPOOL_INVALID_TYPE, "weight.dtype");
  wrong = output;
  wrong.shape[3] = 5;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &wrong, NULL, NULL), CONVPOOL_INVALID_ARGUMENT,
              "output has shape");
  wrong = output;
  wrong.strides[1] = 0;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &wrong, NULL, NULL), CONVPOOL_INVALID_ARGUMENT, "share memory");

  CHECK_ERROR(convpool_conv2d_output_shape(huge, weight_shape, NULL, shape), CONVPOOL_INVALID_ARGUMENT, "2^63");
  CHECK_ERROR(convpool_conv2d_output_shape(NULL, weight_shape, NULL, shape), CONVPOOL_INVALID_ARGUMENT, "input");

  context.num_threads = -1;
  CHECK_REFUSED("num_threads");
  context = (convpool_context)CONVPOOL_CONTEXT_INIT;
  context.workspace_bytes = 64;
  CHECK_REFUSED("workspace");

  /* A call that works leaves the message alone. */
  CHECK(convpool_conv2d(&input, &weight, NULL, &output, NULL, NULL) == CONVPOOL_OK);
  CHECK(strstr(convpool_last_error(), "workspace") != NULL);
  CHECK(strcmp(convpool_status_text(CONVPOOL_OUT_OF_MEMORY), "out of memory") == 0);
  CHECK(strcmp(convpool_status_text(99), "unknown status") == 0);
}

static void struct_sizes(void) {
  float result[36];
  struct {
    convpool_conv2d_params known;
    int64_t later;
  } newer = {CONVPOOL_CONV2D_PARAMS_INIT, 0};
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  const convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 3, 2, 2, 2);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  convpool_tensor wrong = input;

  /* The layout that programs were compiled with. */
  CHECK(sizeof(convpool_tensor) == 80);
  CHECK(sizeof(convpool_context) == 64);
  CHECK(sizeof(convpool_conv2d_params) == 96);
  CHECK(sizeof(convpool_pool2d_params) == 104);

  newer.known.struct_size = (uint32_t)sizeof newer;
  CHECK(convpool_conv2d(&input, &weight, NULL, &output, &newer.known, NULL) == CONVPOOL_OK);
  newer.later = 1;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &output, &newer.known, NULL), CONVPOOL_INVALID_ARGUMENT,
              "params.struct_size");
  params.struct_size = 0;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &output, &params, NULL), CONVPOOL_INVALID_ARGUMENT,
              "params.struct_size");
  params.struct_size = UINT32_MAX;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &output, &params, NULL), CONVPOOL_INVALID_ARGUMENT,
              "params.struct_size");
  context.struct_size = 8;
  CHECK_ERROR(convpool_conv2d(&input, &weight, NULL, &output, NULL, &context), CONVPOOL_INVALID_ARGUMENT,
              "context.struct_size");
  wrong.struct_size = 79;
  CHECK_ERROR(convpool_conv2d(&wrong, &weight, NULL, &output, NULL, NULL), CONVPOOL_INVALID_ARGUMENT,
              "input.struct_size");
}

/* An allocator that gives up after some calls. */
struct limited {
  int left, live, calls;
};

static void* limited_allocate(void* allocator, size_t bytes, size_t alignment) {
  struct limited* const l = (struct limited*)allocator;
  void* data = NULL;
  ++l->calls;
  if (l->left-- <= 0) return NULL;
  if (posix_memalign(&data, alignment, bytes) != 0) return NULL;
  ++l->live;
  return data;
}

static void limited_release(void* allocator, void* data, size_t bytes, size_t alignment) {
  (void)bytes, (void)alignment;
  --((struct limited*)allocator)->live;
  free(data);
}

static void memory_running_out(void) {
  float result[36];
  struct limited limited = {0, 0, 0};
  convpool_conv2d_plan* plan = NULL;
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, image, 1, 2, 4, 5);
  const convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 3, 2, 2, 2);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 3, 3, 4);
  int allowed, succeeded = 0, failed = 0;
  params.activation = CONVPOOL_ACTIVATION_RELU;
  params.algorithm = CONVPOOL_ALGORITHM_IM2COL;
  context.allocate = limited_allocate;
  context.allocator = &limited;
  CHECK_ERROR(convpool_conv2d_plan_create(&weight, biases, &params, &context, &plan), CONVPOOL_INVALID_ARGUMENT,
              "allocator");
  context.release = limited_release;
  for (allowed = 0; allowed < 100 && succeeded < 2; ++allowed) {
    convpool_status status;
    limited.left = allowed;
    memset(result, 0, sizeof result);
    status = convpool_conv2d_plan_create(&weight, biases, &params, &context, &plan);
    if (status == CONVPOOL_OK) status = convpool_conv2d_plan_run(plan, &input, &output, &context);
    if (status == CONVPOOL_OK) {
      CHECK(all_as_expected(result, 0));
      ++succeeded;
    } else {
      CHECK_ERROR(status, CONVPOOL_OUT_OF_MEMORY, "not enough memory");
      ++failed;
      if (plan != NULL) { /* the same plan goes on once there is memory */
        limited.left = 100;
        CHECK(convpool_conv2d_plan_run(plan, &input, &output, &context) == CONVPOOL_OK);
        CHECK(all_as_expected(result, 0));
      }
    }
    convpool_conv2d_plan_destroy(plan);
    plan = NULL;
    CHECK(limited.live == 0);
  }
  CHECK(succeeded == 2 && failed >= 3);
}

struct loop {
  int calls;
  int64_t most;
};

static void backwards(void* pool, int64_t count, convpool_task task, void* work) {
  struct loop* const loop = (struct loop*)pool;
  ++loop->calls;
  if (count > loop->most) loop->most = count;
  while (count-- > 0) task(work, count);
}

static void runtime(void) {
  enum { size = 200 };
  static float large[4 * size * size], result[8 * size * size], other[8 * size * size], ones[8 * 4 * 9];
  struct loop loop = {0, 0};
  int i;
  convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
  convpool_context context = CONVPOOL_CONTEXT_INIT;
  const convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, large, 1, 4, size, size);
  const convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, ones, 8, 4, 3, 3);
  const convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, result, 1, 8, size, size);
  const convpool_tensor reference = convpool_nchw(CONVPOOL_FLOAT32, other, 1, 8, size, size);
  const int32_t before = convpool_get_num_threads();
  params.padding_kind = CONVPOOL_PADDING_SAME;
  for (i = 0; i < 4 * size * size; ++i) large[i] = (float)(i % 17);
  for (i = 0; i < 8 * 4 * 9; ++i) ones[i] = (float)(i % 3 + 1);
  context.num_threads = 3;
  context.parallel_for = backwards;
  context.pool = &loop;
  CHECK(convpool_conv2d(&input, &weight, NULL, &output, &params, &context) == CONVPOOL_OK);
  CHECK(loop.calls >= 1 && loop.most == 3);
  context = (convpool_context)CONVPOOL_CONTEXT_INIT;
  context.num_threads = 1;
  CHECK(convpool_conv2d(&input, &weight, NULL, &reference, &params, &context) == CONVPOOL_OK);
  CHECK(memcmp(result, other, sizeof result) == 0);

  CHECK(convpool_set_num_threads(2) == CONVPOOL_OK);
  CHECK(convpool_get_num_threads() == 2);
  CHECK_ERROR(convpool_set_num_threads(0), CONVPOOL_INVALID_ARGUMENT, "num_threads");
  CHECK(convpool_set_num_threads(before) == CONVPOOL_OK);

  CHECK(convpool_available_isa(0) != NULL);
  CHECK(convpool_available_isa(-1) == NULL && convpool_available_isa(99) == NULL);
  for (i = 0; convpool_available_isa(i) != NULL; ++i) {
    CHECK(convpool_set_isa(convpool_available_isa(i)) == CONVPOOL_OK);
    CHECK(strcmp(convpool_isa(), convpool_available_isa(i)) == 0);
    convolutions();
    poolings();
  }
  CHECK_ERROR(convpool_set_isa("mmx"), CONVPOOL_INVALID_ARGUMENT, "isa");
  CHECK_ERROR(convpool_set_isa(NULL), CONVPOOL_INVALID_ARGUMENT, "isa");
  CHECK(strlen(convpool_version()) >= 5);
}

int main(void) {
  CHECK(strcmp(convpool_last_error(), "") == 0);
  fill();
  convolutions();
  plans();
  poolings();
  errors();
  struct_sizes();
  memory_running_out();
  runtime();
  printf("%s, %d threads, built with threads %d: %d failures\n", convpool_version(), (int)convpool_get_num_threads(),
         (int)convpool_has_threads(), failures);
  return failures != 0;
}
