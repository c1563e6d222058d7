/* 2-D convolution and pooling on CPUs, with PyTorch's semantics: the C interface.
 *
 * Plain C99, also for C++ and for other languages' foreign function interfaces. No exception leaves it, and it prints
 * nothing. A function that can fail returns a convpool_status; convpool_last_error() then says what was wrong, by the
 * name of the field.
 *
 * Structs begin with their size, which the caller sets (the *_INIT macros do). A library that is newer than the
 * caller's header takes defaults for what the caller's struct doesn't have yet. A library that is older accepts a
 * longer struct as long as what it doesn't know is zero, and otherwise fails with CONVPOOL_INVALID_ARGUMENT. New fields
 * are only ever added at the end, with zero for their default.
 *
 *     convpool_conv2d_params params = CONVPOOL_CONV2D_PARAMS_INIT;
 *     params.padding_kind = CONVPOOL_PADDING_SAME;
 *     convpool_tensor input = convpool_nchw(CONVPOOL_FLOAT32, pixels, 1, 3, 480, 640);
 *     convpool_tensor weight = convpool_nchw(CONVPOOL_FLOAT32, filters, 16, 3, 3, 3);
 *     convpool_tensor output = convpool_nchw(CONVPOOL_FLOAT32, features, 1, 16, 480, 640);
 *     if (convpool_conv2d(&input, &weight, NULL, &output, &params, NULL) != CONVPOOL_OK)
 *       fprintf(stderr, "%s\n", convpool_last_error());
 */
#ifndef CONVPOOL_CONVPOOL_H
#define CONVPOOL_CONVPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "convpool/export.h"

#ifdef __cplusplus
#define CONVPOOL_NOEXCEPT noexcept
extern "C" {
#else
#define CONVPOOL_NOEXCEPT
#endif

/* ---- errors ------------------------------------------------------------------------------------------------------ */

typedef int32_t convpool_status;
enum {
  CONVPOOL_OK = 0,
  CONVPOOL_INVALID_ARGUMENT = 1, /* a value, a shape, or values that don't fit together */
  CONVPOOL_INVALID_TYPE = 2,     /* an element type that isn't there, or types that differ */
  CONVPOOL_OUT_OF_MEMORY = 3,    /* nothing was lost or changed: the next call works */
  CONVPOOL_INTERNAL_ERROR = 4    /* a fault of the library */
};

/* What the last call that failed on this thread had to say; "" before the first. Valid until the next one that fails.
 */
CONVPOOL_API const char* convpool_last_error(void) CONVPOOL_NOEXCEPT;

/* "out of memory" and the like; "unknown status" for other numbers. */
CONVPOOL_API const char* convpool_status_text(convpool_status status) CONVPOOL_NOEXCEPT;

/* The version of the library that runs, as "major.minor.patch". */
CONVPOOL_API const char* convpool_version(void) CONVPOOL_NOEXCEPT;

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

enum { CONVPOOL_FLOAT32 = 1, CONVPOOL_FLOAT64 = 2, CONVPOOL_INT64 = 3 /* for the indices of max pooling */ };

/* A four-dimensional array of the caller's. Axes are always counted N, C, H, W; the layout is what the strides say. */
typedef struct convpool_tensor {
  uint32_t struct_size; /* sizeof(convpool_tensor) */
  int32_t dtype;        /* CONVPOOL_FLOAT32 or another */
  void* data;           /* element (0, 0, 0, 0), aligned for its type; inputs are only read */
  int64_t shape[4];
  int64_t strides[4]; /* in elements; may be negative or zero, but not zero for a result */
} convpool_tensor;

/* A contiguous array in the order N, C, H, W. */
static inline convpool_tensor convpool_nchw(int32_t dtype, const void* data, int64_t n, int64_t c, int64_t h,
                                            int64_t w) {
  convpool_tensor t;
  t.struct_size = (uint32_t)sizeof t;
  t.dtype = dtype;
  t.data = (void*)(uintptr_t)data;
  t.shape[0] = n, t.shape[1] = c, t.shape[2] = h, t.shape[3] = w;
  t.strides[0] = c * h * w, t.strides[1] = h * w, t.strides[2] = w, t.strides[3] = 1;
  return t;
}

/* A contiguous array in the order N, H, W, C. The sizes are still counted as N, C, H, W. */
static inline convpool_tensor convpool_nhwc(int32_t dtype, const void* data, int64_t n, int64_t c, int64_t h,
                                            int64_t w) {
  convpool_tensor t = convpool_nchw(dtype, data, n, c, h, w);
  t.strides[0] = h * w * c, t.strides[1] = 1, t.strides[2] = w * c, t.strides[3] = c;
  return t;
}

/* ---- memory and threads ------------------------------------------------------------------------------------------ */

/* One thread's share of a call, see parallel_for. */
typedef void (*convpool_task)(void* work, int64_t index);

/* What a call may use of the program around it. All zero, or a null pointer to it: the library's own memory and
 * threads. */
typedef struct convpool_context {
  uint32_t struct_size; /* sizeof(convpool_context) */
  int32_t num_threads;  /* at most so many; 0 stands for convpool_get_num_threads() */

  /* Scratch is taken from here first; what doesn't fit comes from the allocator. The *_workspace_size functions tell
   * how much a call needs. Any alignment will do. Calls that run at the same time need a workspace each. */
  void* workspace;
  size_t workspace_bytes;

  /* Both or neither; any thread that makes calls may use them. allocate gives `bytes` (never 0) at a multiple of
   * `alignment` (64 at most), or null, and the call ends with CONVPOOL_OUT_OF_MEMORY. */
  void* (*allocate)(void* allocator, size_t bytes, size_t alignment);
  void (*release)(void* allocator, void* data, size_t bytes, size_t alignment);
  void* allocator;

  /* Calls task(work, i) once for each i in [0, count), at the same time or one after another, on any threads, and
   * returns when all of them have returned; count is at most num_threads. With it a call starts no thread of its own.
   */
  void (*parallel_for)(void* pool, int64_t count, convpool_task task, void* work);
  void* pool;
} convpool_context;

#define CONVPOOL_CONTEXT_INIT {(uint32_t)sizeof(convpool_context), 0, NULL, 0, NULL, NULL, NULL, NULL, NULL}

/* The threads that calls use unless they say otherwise: 1 to 1024. */
CONVPOOL_API int32_t convpool_get_num_threads(void) CONVPOOL_NOEXCEPT;
CONVPOOL_API convpool_status convpool_set_num_threads(int32_t n) CONVPOOL_NOEXCEPT;

/* The instruction set in use, "avx2" say. Null, with a message, where the environment variable CONVPOOL_ISA names one
 * that this machine can't run. */
CONVPOOL_API const char* convpool_isa(void) CONVPOOL_NOEXCEPT;
/* Changes it for calls and plans that start afterwards. */
CONVPOOL_API convpool_status convpool_set_isa(const char* name) CONVPOOL_NOEXCEPT;
/* The name of the i-th instruction set that this machine can run, weakest first; null past the last. */
CONVPOOL_API const char* convpool_available_isa(int32_t i) CONVPOOL_NOEXCEPT;
/* Whether calls may use several threads of the library's own (a build option). */
CONVPOOL_API int32_t convpool_has_threads(void) CONVPOOL_NOEXCEPT;

/* ---- convolution ------------------------------------------------------------------------------------------------- */

enum {
  CONVPOOL_PADDING_SYMMETRIC = 0, /* padding[]: top = bottom, left = right */
  CONVPOOL_PADDING_SIDES = 1,     /* padding[]: each side by itself */
  CONVPOOL_PADDING_VALID = 2,     /* none */
  CONVPOOL_PADDING_SAME = 3,      /* size / stride, rounded up, stays; an odd element at the end */
  CONVPOOL_PADDING_SAME_LOWER = 4,
  CONVPOOL_PADDING_FULL = 5 /* the effective kernel minus one on each side */
};
enum {
  CONVPOOL_PADDING_MODE_ZEROS = 0,
  CONVPOOL_PADDING_MODE_REFLECT = 1,
  CONVPOOL_PADDING_MODE_REPLICATE = 2,
  CONVPOOL_PADDING_MODE_CIRCULAR = 3
};
enum {
  CONVPOOL_ACTIVATION_NONE = 0,
  CONVPOOL_ACTIVATION_RELU = 1,
  CONVPOOL_ACTIVATION_RELU6 = 2,
  CONVPOOL_ACTIVATION_SIGMOID = 3,
  CONVPOOL_ACTIVATION_HARDSWISH = 4,
  CONVPOOL_ACTIVATION_SILU = 5
};
enum {
  CONVPOOL_ALGORITHM_AUTO = 0,
  CONVPOOL_ALGORITHM_NAIVE = 1,
  CONVPOOL_ALGORITHM_IM2COL = 2,
  CONVPOOL_ALGORITHM_IMPLICIT_GEMM = 3,
  CONVPOOL_ALGORITHM_DIRECT = 4,
  CONVPOOL_ALGORITHM_WINOGRAD = 5,
  CONVPOOL_ALGORITHM_DEPTHWISE = 6,
  /* For a plan alone: the first run for a shape times those that would do, and the plan goes on with the fastest. */
  CONVPOOL_ALGORITHM_BENCHMARK = 7
};

/* Pairs are (height, width). A null pointer to it stands for CONVPOOL_CONV2D_PARAMS_INIT. */
typedef struct convpool_conv2d_params {
  uint32_t struct_size; /* sizeof(convpool_conv2d_params) */
  int32_t padding_kind; /* CONVPOOL_PADDING_* */
  int64_t padding[4];   /* top, bottom, left, right; read for SYMMETRIC and SIDES */
  int64_t stride[2];
  int64_t dilation[2];
  int64_t groups;
  int32_t padding_mode; /* CONVPOOL_PADDING_MODE_* */
  int32_t activation;   /* CONVPOOL_ACTIVATION_* */
  int32_t algorithm;    /* CONVPOOL_ALGORITHM_* */
  int32_t reserved;     /* 0 */
} convpool_conv2d_params;

#define CONVPOOL_CONV2D_PARAMS_INIT \
  {(uint32_t)sizeof(convpool_conv2d_params), 0, {0, 0, 0, 0}, {1, 1}, {1, 1}, 1, 0, 0, 0, 0}

/* The shape (N, K, OH, OW) of the result for an input (N, C, H, W) and a weight (K, C / groups, kH, kW). */
CONVPOOL_API convpool_status convpool_conv2d_output_shape(const int64_t input[4], const int64_t weight[4],
                                                          const convpool_conv2d_params* params,
                                                          int64_t output[4]) CONVPOOL_NOEXCEPT;

/* output = activation(cross-correlation of input and weight + bias). All of one type, FLOAT32 or FLOAT64; bias points
 * at K values of it, or is null. The output must not overlap the inputs. */
CONVPOOL_API convpool_status convpool_conv2d(const convpool_tensor* input, const convpool_tensor* weight,
                                             const void* bias, const convpool_tensor* output,
                                             const convpool_conv2d_params* params,
                                             const convpool_context* context) CONVPOOL_NOEXCEPT;

/* output = activation(cross-correlation of input and weight + bias + add), as at the end of a residual block. add has
 * the output's shape and type, and any strides; null: nothing is added. The output must not overlap it either. */
CONVPOOL_API convpool_status convpool_conv2d_add(const convpool_tensor* input, const convpool_tensor* weight,
                                                 const void* bias, const convpool_tensor* add,
                                                 const convpool_tensor* output, const convpool_conv2d_params* params,
                                                 const convpool_context* context) CONVPOOL_NOEXCEPT;

/* The bytes of workspace with which such a call takes no other memory, with or without an array to add. Data pointers
 * are not looked at. */
CONVPOOL_API convpool_status convpool_conv2d_workspace_size(const convpool_tensor* input, const convpool_tensor* weight,
                                                            const convpool_tensor* output,
                                                            const convpool_conv2d_params* params,
                                                            const convpool_context* context,
                                                            size_t* bytes) CONVPOOL_NOEXCEPT;

/* A convolution whose weights were copied and packed once, for many calls on inputs of any size. Several threads may
 * run one plan at once. */
typedef struct convpool_conv2d_plan convpool_conv2d_plan;

/* Copies weight and bias. Of the context the allocator alone is used: everything that the plan owns comes from it, and
 * it must outlive the plan. */
CONVPOOL_API convpool_status convpool_conv2d_plan_create(const convpool_tensor* weight, const void* bias,
                                                         const convpool_conv2d_params* params,
                                                         const convpool_context* context,
                                                         convpool_conv2d_plan** plan) CONVPOOL_NOEXCEPT;
/* Null does nothing. */
CONVPOOL_API void convpool_conv2d_plan_destroy(convpool_conv2d_plan* plan) CONVPOOL_NOEXCEPT;

CONVPOOL_API convpool_status convpool_conv2d_plan_run(const convpool_conv2d_plan* plan, const convpool_tensor* input,
                                                      const convpool_tensor* output,
                                                      const convpool_context* context) CONVPOOL_NOEXCEPT;

/* With an array that is added before the activation, as convpool_conv2d_add; null: nothing is added. */
CONVPOOL_API convpool_status convpool_conv2d_plan_run_add(const convpool_conv2d_plan* plan,
                                                          const convpool_tensor* input, const convpool_tensor* add,
                                                          const convpool_tensor* output,
                                                          const convpool_context* context) CONVPOOL_NOEXCEPT;

CONVPOOL_API convpool_status convpool_conv2d_plan_output_shape(const convpool_conv2d_plan* plan, const int64_t input[4],
                                                               int64_t output[4]) CONVPOOL_NOEXCEPT;

/* The bytes of workspace with which such a run takes no other memory. It packs the weights in the form that the run
 * needs, so that the run finds them there. */
CONVPOOL_API convpool_status convpool_conv2d_plan_workspace_size(const convpool_conv2d_plan* plan,
                                                                 const convpool_tensor* input,
                                                                 const convpool_tensor* output,
                                                                 const convpool_context* context,
                                                                 size_t* bytes) CONVPOOL_NOEXCEPT;

/* Which algorithm runs, why, and what it costs, in a few lines of text, cut at capacity and ended by a zero. length,
 * where not null, receives the whole text's length; text may be null with a capacity of 0. */
CONVPOOL_API convpool_status convpool_conv2d_plan_explain(const convpool_conv2d_plan* plan,
                                                          const convpool_tensor* input, const convpool_tensor* output,
                                                          char* text, size_t capacity,
                                                          size_t* length) CONVPOOL_NOEXCEPT;

/* ---- pooling ----------------------------------------------------------------------------------------------------- */

typedef struct convpool_pool2d_params {
  uint32_t struct_size; /* sizeof(convpool_pool2d_params) */
  int32_t padding_kind; /* CONVPOOL_PADDING_* */
  int64_t padding[4];   /* top, bottom, left, right; read for SYMMETRIC and SIDES */
  int64_t kernel[2];
  int64_t stride[2]; /* both 0: the kernel's size */
  int64_t dilation[2];
  int32_t ceil_mode;        /* not 0: round the output size up */
  int32_t exclude_pad;      /* not 0: padding doesn't count in an average's divisor; max pooling ignores it */
  int64_t divisor_override; /* of an average, 0: none; max pooling ignores it */
} convpool_pool2d_params;

/* A window of 2x2 unless the kernel is set. */
#define CONVPOOL_POOL2D_PARAMS_INIT \
  {(uint32_t)sizeof(convpool_pool2d_params), 0, {0, 0, 0, 0}, {2, 2}, {0, 0}, {1, 1}, 0, 0, 0}

CONVPOOL_API convpool_status convpool_pool2d_output_shape(const int64_t input[4], const convpool_pool2d_params* params,
                                                          int64_t output[4]) CONVPOOL_NOEXCEPT;

/* The largest value of each window; NaN wins. indices, unless null, is of INT64 and receives the position h * W + w of
 * each result in its plane. */
CONVPOOL_API convpool_status convpool_max_pool2d(const convpool_tensor* input, const convpool_tensor* output,
                                                 const convpool_tensor* indices, const convpool_pool2d_params* params,
                                                 const convpool_context* context) CONVPOOL_NOEXCEPT;
CONVPOOL_API convpool_status convpool_max_pool2d_workspace_size(
    const convpool_tensor* input, const convpool_tensor* output, const convpool_tensor* indices,
    const convpool_pool2d_params* params, const convpool_context* context, size_t* bytes) CONVPOOL_NOEXCEPT;

/* The mean of each window, by the divisor rules of PyTorch. */
CONVPOOL_API convpool_status convpool_avg_pool2d(const convpool_tensor* input, const convpool_tensor* output,
                                                 const convpool_pool2d_params* params,
                                                 const convpool_context* context) CONVPOOL_NOEXCEPT;
CONVPOOL_API convpool_status convpool_avg_pool2d_workspace_size(const convpool_tensor* input,
                                                                const convpool_tensor* output,
                                                                const convpool_pool2d_params* params,
                                                                const convpool_context* context,
                                                                size_t* bytes) CONVPOOL_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
