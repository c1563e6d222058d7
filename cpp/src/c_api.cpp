// The C interface: structs checked and turned into those of the C++ interface, exceptions into codes.

#include "convpool/convpool.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "convpool/convpool.hpp"
#include "dispatch.hpp"
#include "geometry.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

using convpool::Allocator;
using convpool::AvgPool2dParams;
using convpool::Conv2dParams;
using convpool::Conv2dPlan;
using convpool::ExecutionContext;
using convpool::Shape4;
using convpool::TensorView;

/// A plan of either element type.
struct convpool_conv2d_plan {
  Allocator allocator;
  std::variant<Conv2dPlan<float>, Conv2dPlan<double>> plan;
};

namespace {

// ---- errors

// A buffer of its own: the message that memory ran out must not need any.
thread_local char last_error[1024] = "";

convpool_status fail(convpool_status status, const char* message) noexcept {
  const std::size_t length = std::min(std::strlen(message), sizeof last_error - 1);
  std::memcpy(last_error, message, length);
  last_error[length] = '\0';
  return status;
}

/// An element type that isn't there, or that differs from the others.
class TypeError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class Work>
convpool_status guarded(Work&& work) noexcept {
  try {
    work();
    return CONVPOOL_OK;
  } catch (const TypeError& e) {
    return fail(CONVPOOL_INVALID_TYPE, e.what());
  } catch (const std::invalid_argument& e) {
    return fail(CONVPOOL_INVALID_ARGUMENT, e.what());
  } catch (const std::bad_alloc&) {
    return fail(CONVPOOL_OUT_OF_MEMORY,
                "not enough memory for the plan or the scratch of this call; use a smaller input or kernel, less "
                "padding, or a larger workspace");
  } catch (const std::exception& e) {
    return fail(CONVPOOL_INTERNAL_ERROR, e.what());
  } catch (...) {
    return fail(CONVPOOL_INTERNAL_ERROR, "an exception of an unknown kind; this is a fault of the library");
  }
}

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

// ---- structs

/// What each struct had in the first version of the interface: the least that a caller may have.
template <class Struct>
constexpr std::size_t first_size = 0;
template <>
constexpr std::size_t first_size<convpool_tensor> = 80;
template <>
constexpr std::size_t first_size<convpool_context> = 64;
template <>
constexpr std::size_t first_size<convpool_conv2d_params> = 96;
template <>
constexpr std::size_t first_size<convpool_pool2d_params> = 104;

constexpr std::size_t largest_struct = 4096;

/// A copy in this library's version: `defaults` where the caller's is shorter, and an error where it is longer and says
/// something there.
template <class Struct>
Struct read(const Struct* given, const char* name, const Struct& defaults) {
  static_assert(sizeof(Struct) >= first_size<Struct>);
  if (given == nullptr) return defaults;
  const std::size_t size = given->struct_size;
  if (size < first_size<Struct> || size > largest_struct) {
    refuse(std::string(name) + ".struct_size is " + std::to_string(size) + ", but this library's struct has " +
           std::to_string(sizeof(Struct)) + " bytes; set it to sizeof *" + name);
  }
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] != 0) {
      refuse(std::string(name) + ".struct_size is " + std::to_string(size) +
             ", and the struct sets a field beyond the " + std::to_string(sizeof(Struct)) +
             " bytes that this library (" + CONVPOOL_VERSION + ") knows; leave it zero, or use a newer library");
    }
  }
  Struct copy = defaults;
  std::memcpy(&copy, given, std::min(size, sizeof(Struct)));
  return copy;
}

template <class Struct>
Struct read_required(const Struct* given, const char* name) {
  if (given == nullptr) refuse(std::string(name) + " is a null pointer");
  return read(given, name, Struct{});
}

template <class Pointer>
void require(Pointer pointer, const char* name) {
  if (pointer == nullptr) refuse(std::string(name) + " is a null pointer");
}

template <class Enum>
Enum read_enum(std::int32_t value, Enum last, const char* name, const char* constants) {
  if (value < 0 || value > static_cast<std::int32_t>(last)) {
    refuse(std::string(name) + " must be one of " + constants + ", 0 to " +
           std::to_string(static_cast<std::int32_t>(last)) + ", got " + std::to_string(value));
  }
  return static_cast<Enum>(value);
}

Shape4 shape_of(const std::int64_t (&values)[4]) { return {values[0], values[1], values[2], values[3]}; }

Shape4 read_shape(const std::int64_t* values, const char* name) {
  require(values, name);
  return {values[0], values[1], values[2], values[3]};
}

void write_shape(const Shape4& shape, std::int64_t* to) { std::copy(shape.begin(), shape.end(), to); }

convpool::Padding read_padding(std::int32_t kind, const std::int64_t (&sides)[4]) {
  using convpool::Padding;
  const auto checked = read_enum(kind, Padding::Kind::full, "params.padding_kind", "CONVPOOL_PADDING_*");
  if (checked == Padding::Kind::symmetric && (sides[0] != sides[1] || sides[2] != sides[3])) {
    refuse("params.padding is (" + std::to_string(sides[0]) + ", " + std::to_string(sides[1]) + ", " +
           std::to_string(sides[2]) + ", " + std::to_string(sides[3]) +
           ") (top, bottom, left, right), but CONVPOOL_PADDING_SYMMETRIC wants top = bottom and left = right; use "
           "CONVPOOL_PADDING_SIDES");
  }
  return {checked, sides[0], sides[1], sides[2], sides[3]};
}

Conv2dParams read_params(const convpool_conv2d_params* given) {
  const convpool_conv2d_params p = read(given, "params", convpool_conv2d_params CONVPOOL_CONV2D_PARAMS_INIT);
  if (p.reserved != 0) refuse("params.reserved must be 0, got " + std::to_string(p.reserved));
  Conv2dParams params;
  params.stride = {p.stride[0], p.stride[1]};
  params.padding = read_padding(p.padding_kind, p.padding);
  params.dilation = {p.dilation[0], p.dilation[1]};
  params.groups = p.groups;
  params.padding_mode =
      read_enum(p.padding_mode, convpool::PaddingMode::circular, "params.padding_mode", "CONVPOOL_PADDING_MODE_*");
  params.activation = read_enum(p.activation, convpool::Activation::silu, "params.activation", "CONVPOOL_ACTIVATION_*");
  params.algorithm = read_enum(p.algorithm, convpool::Algorithm::benchmark, "params.algorithm", "CONVPOOL_ALGORITHM_*");
  return params;
}

AvgPool2dParams read_params(const convpool_pool2d_params* given) {
  const convpool_pool2d_params p = read_required(given, "params");
  AvgPool2dParams params;
  params.kernel = {p.kernel[0], p.kernel[1]};
  if (p.stride[0] != 0 || p.stride[1] != 0) params.stride = {p.stride[0], p.stride[1]};
  params.padding = read_padding(p.padding_kind, p.padding);
  params.dilation = {p.dilation[0], p.dilation[1]};
  params.ceil_mode = p.ceil_mode != 0;
  params.count_include_pad = p.exclude_pad == 0;
  if (p.divisor_override != 0) params.divisor_override = p.divisor_override;
  return params;
}

ExecutionContext read_context(const convpool_context* given) {
  const convpool_context c = read(given, "context", convpool_context{});
  ExecutionContext context;
  context.num_threads = c.num_threads;
  context.workspace = c.workspace;
  context.workspace_bytes = c.workspace_bytes;
  context.allocator = {c.allocate, c.release, c.allocator};
  context.parallel_for = {c.parallel_for, c.pool};
  return context;
}

// ---- element types

const char* dtype_name(std::int32_t dtype) {
  switch (dtype) {
    case CONVPOOL_FLOAT32:
      return "CONVPOOL_FLOAT32";
    case CONVPOOL_FLOAT64:
      return "CONVPOOL_FLOAT64";
    case CONVPOOL_INT64:
      return "CONVPOOL_INT64";
    default:
      return "an unknown type";
  }
}

void require_dtype(const convpool_tensor& tensor, const char* name, std::int32_t expected, const char* why) {
  if (tensor.dtype != expected) {
    throw TypeError(std::string(name) + ".dtype is " + dtype_name(tensor.dtype) + " (" + std::to_string(tensor.dtype) +
                    "), but must be " + dtype_name(expected) + why);
  }
}

template <class Element>
TensorView<Element> view_of(const convpool_tensor& tensor) {
  return {static_cast<Element*>(tensor.data), shape_of(tensor.shape), shape_of(tensor.strides)};
}

/// Calls work(T()) with the element type of a tensor.
template <class Work>
void with_element_type(const convpool_tensor& tensor, const char* name, Work&& work) {
  switch (tensor.dtype) {
    case CONVPOOL_FLOAT32:
      return work(float());
    case CONVPOOL_FLOAT64:
      return work(double());
    default:
      throw TypeError(std::string(name) + ".dtype must be CONVPOOL_FLOAT32 or CONVPOOL_FLOAT64, got " +
                      dtype_name(tensor.dtype) + " (" + std::to_string(tensor.dtype) + ")");
  }
}

// ---- what the functions share

struct ConvArguments {
  convpool_tensor input, weight, output;
  Conv2dParams params;
  ExecutionContext context;

  ConvArguments(const convpool_tensor* i, const convpool_tensor* w, const convpool_tensor* o,
                const convpool_conv2d_params* p, const convpool_context* c)
      : input(read_required(i, "input")),
        weight(read_required(w, "weight")),
        output(read_required(o, "output")),
        params(read_params(p)),
        context(read_context(c)) {}

  template <class Work>
  void dispatch(Work&& work) const {
    with_element_type(input, "input", [&]<class T>(T) {
      require_dtype(weight, "weight", input.dtype, " as the input");
      require_dtype(output, "output", input.dtype, " as the input");
      work(view_of<const T>(input), view_of<const T>(weight), view_of<T>(output));
    });
  }
};

/// work(plan, input, output), with the views in the plan's element type.
template <class Work>
void with_plan(const convpool_conv2d_plan* plan, const convpool_tensor* input, const convpool_tensor* output,
               Work&& work) {
  require(plan, "plan");
  const convpool_tensor in = read_required(input, "input"), out = read_required(output, "output");
  const auto run = [&]<class T>(const Conv2dPlan<T>& typed, std::int32_t dtype) {
    require_dtype(in, "input", dtype, " as the plan's weight");
    require_dtype(out, "output", dtype, " as the plan's weight");
    work(typed, view_of<const T>(in), view_of<T>(out));
  };
  if (const auto* f32 = std::get_if<Conv2dPlan<float>>(&plan->plan)) {
    run(*f32, CONVPOOL_FLOAT32);
  } else if (const auto* f64 = std::get_if<Conv2dPlan<double>>(&plan->plan)) {
    run(*f64, CONVPOOL_FLOAT64);
  }
}

struct PoolArguments {
  convpool_tensor input, output;
  AvgPool2dParams params;
  ExecutionContext context;

  PoolArguments(const convpool_tensor* i, const convpool_tensor* o, const convpool_pool2d_params* p,
                const convpool_context* c)
      : input(read_required(i, "input")),
        output(read_required(o, "output")),
        params(read_params(p)),
        context(read_context(c)) {}

  template <class Work>
  void dispatch(Work&& work) const {
    with_element_type(input, "input", [&]<class T>(T) {
      require_dtype(output, "output", input.dtype, " as the input");
      work(view_of<const T>(input), view_of<T>(output));
    });
  }
};

/// Null stands for a pooling without indices.
TensorView<std::int64_t> read_indices(const convpool_tensor* given) {
  if (given == nullptr) return {};
  const convpool_tensor indices = read(given, "indices", convpool_tensor{});
  require_dtype(indices, "indices", CONVPOOL_INT64, "");
  return view_of<std::int64_t>(indices);
}

}  // namespace

extern "C" {

const char* convpool_last_error(void) noexcept { return last_error; }

const char* convpool_status_text(convpool_status status) noexcept {
  switch (status) {
    case CONVPOOL_OK:
      return "no error";
    case CONVPOOL_INVALID_ARGUMENT:
      return "invalid argument";
    case CONVPOOL_INVALID_TYPE:
      return "invalid type";
    case CONVPOOL_OUT_OF_MEMORY:
      return "out of memory";
    case CONVPOOL_INTERNAL_ERROR:
      return "internal error";
    default:
      return "unknown status";
  }
}

const char* convpool_version(void) noexcept { return convpool::version(); }

int32_t convpool_get_num_threads(void) noexcept { return convpool::get_num_threads(); }

convpool_status convpool_set_num_threads(int32_t n) noexcept {
  return guarded([&] { convpool::set_num_threads(n); });
}

const char* convpool_isa(void) noexcept {
  const char* name = nullptr;
  guarded([&] { name = convpool::active_kernels().name; });
  return name;
}

convpool_status convpool_set_isa(const char* name) noexcept {
  return guarded([&] {
    require(name, "isa");
    convpool::set_isa(name);
  });
}

const char* convpool_available_isa(int32_t i) noexcept {
  const char* name = nullptr;
  guarded([&] {
    const auto names = convpool::available_isas();
    if (i >= 0 && static_cast<std::size_t>(i) < names.size()) {
      name = convpool::kernels_named(names[static_cast<std::size_t>(i)]).name;
    }
  });
  return name;
}

int32_t convpool_has_threads(void) noexcept { return convpool::built_with_threads(); }

convpool_status convpool_conv2d_output_shape(const int64_t input[4], const int64_t weight[4],
                                             const convpool_conv2d_params* params, int64_t output[4]) noexcept {
  return guarded([&] {
    const Shape4 in = read_shape(input, "input"), w = read_shape(weight, "weight");
    require(output, "output");
    write_shape(convpool::conv2d_output_shape(in, w, read_params(params)), output);
  });
}

convpool_status convpool_conv2d(const convpool_tensor* input, const convpool_tensor* weight, const void* bias,
                                const convpool_tensor* output, const convpool_conv2d_params* params,
                                const convpool_context* context) noexcept {
  return guarded([&] {
    const ConvArguments a(input, weight, output, params, context);
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<const T> w, TensorView<T> out) {
      convpool::conv2d<T>(in, w, static_cast<const T*>(bias), out, a.params, a.context);
    });
  });
}

convpool_status convpool_conv2d_add(const convpool_tensor* input, const convpool_tensor* weight, const void* bias,
                                    const convpool_tensor* add, const convpool_tensor* output,
                                    const convpool_conv2d_params* params, const convpool_context* context) noexcept {
  if (add == nullptr) return convpool_conv2d(input, weight, bias, output, params, context);
  return guarded([&] {
    const ConvArguments a(input, weight, output, params, context);
    const convpool_tensor added = read_required(add, "add");
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<const T> w, TensorView<T> out) {
      require_dtype(added, "add", a.input.dtype, " as the input");
      convpool::conv2d<T>(in, w, static_cast<const T*>(bias), view_of<const T>(added), out, a.params, a.context);
    });
  });
}

convpool_status convpool_conv2d_workspace_size(const convpool_tensor* input, const convpool_tensor* weight,
                                               const convpool_tensor* output, const convpool_conv2d_params* params,
                                               const convpool_context* context, size_t* bytes) noexcept {
  return guarded([&] {
    require(bytes, "bytes");
    const ConvArguments a(input, weight, output, params, context);
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<const T> w, TensorView<T> out) {
      *bytes = convpool::conv2d_workspace_size<T>(in, w, out, a.params, a.context);
    });
  });
}

convpool_status convpool_conv2d_plan_create(const convpool_tensor* weight, const void* bias,
                                            const convpool_conv2d_params* params, const convpool_context* context,
                                            convpool_conv2d_plan** plan) noexcept {
  return guarded([&] {
    require(plan, "plan");
    *plan = nullptr;
    const convpool_tensor w = read_required(weight, "weight");
    const Conv2dParams p = read_params(params);
    const ExecutionContext c = read_context(context);
    with_element_type(w, "weight", [&]<class T>(T) {
      Conv2dPlan<T> typed(view_of<const T>(w), static_cast<const T*>(bias), p, c.allocator);
      void* const memory = convpool::allocate_from(c.allocator, sizeof(convpool_conv2d_plan));
      *plan = ::new (memory) convpool_conv2d_plan{c.allocator, std::move(typed)};
    });
  });
}

void convpool_conv2d_plan_destroy(convpool_conv2d_plan* plan) noexcept {
  if (plan == nullptr) return;
  const Allocator allocator = plan->allocator;
  plan->~convpool_conv2d_plan();
  convpool::release_to(allocator, plan, sizeof(convpool_conv2d_plan));
}

convpool_status convpool_conv2d_plan_run(const convpool_conv2d_plan* plan, const convpool_tensor* input,
                                         const convpool_tensor* output, const convpool_context* context) noexcept {
  return guarded([&] {
    const ExecutionContext c = read_context(context);
    with_plan(plan, input, output, [&](const auto& typed, const auto& in, const auto& out) { typed(in, out, c); });
  });
}

convpool_status convpool_conv2d_plan_run_add(const convpool_conv2d_plan* plan, const convpool_tensor* input,
                                             const convpool_tensor* add, const convpool_tensor* output,
                                             const convpool_context* context) noexcept {
  if (add == nullptr) return convpool_conv2d_plan_run(plan, input, output, context);
  return guarded([&] {
    const ExecutionContext c = read_context(context);
    const convpool_tensor added = read_required(add, "add");
    with_plan(plan, input, output, [&]<class T>(const Conv2dPlan<T>& typed, TensorView<const T> in, TensorView<T> out) {
      require_dtype(added, "add", input->dtype, " as the plan's weight");
      typed(in, view_of<const T>(added), out, c);
    });
  });
}

convpool_status convpool_conv2d_plan_output_shape(const convpool_conv2d_plan* plan, const int64_t input[4],
                                                  int64_t output[4]) noexcept {
  return guarded([&] {
    require(plan, "plan");
    const Shape4 in = read_shape(input, "input");
    require(output, "output");
    write_shape(std::visit([&](const auto& typed) { return typed.output_shape(in); }, plan->plan), output);
  });
}

convpool_status convpool_conv2d_plan_workspace_size(const convpool_conv2d_plan* plan, const convpool_tensor* input,
                                                    const convpool_tensor* output, const convpool_context* context,
                                                    size_t* bytes) noexcept {
  return guarded([&] {
    require(bytes, "bytes");
    const ExecutionContext c = read_context(context);
    with_plan(plan, input, output,
              [&](const auto& typed, const auto& in, const auto& out) { *bytes = typed.workspace_size(in, out, c); });
  });
}

convpool_status convpool_conv2d_plan_explain(const convpool_conv2d_plan* plan, const convpool_tensor* input,
                                             const convpool_tensor* output, char* text, size_t capacity,
                                             size_t* length) noexcept {
  return guarded([&] {
    if (capacity != 0) require(text, "text");
    with_plan(plan, input, output, [&](const auto& typed, const auto& in, const auto& out) {
      const std::string whole = typed.explain(in, out);
      if (length != nullptr) *length = whole.size();
      if (capacity == 0) return;
      const std::size_t copied = std::min(whole.size(), capacity - 1);
      std::memcpy(text, whole.data(), copied);
      text[copied] = '\0';
    });
  });
}

convpool_status convpool_pool2d_output_shape(const int64_t input[4], const convpool_pool2d_params* params,
                                             int64_t output[4]) noexcept {
  return guarded([&] {
    const Shape4 in = read_shape(input, "input");
    require(output, "output");
    write_shape(convpool::pool2d_output_shape(in, read_params(params)), output);
  });
}

convpool_status convpool_max_pool2d(const convpool_tensor* input, const convpool_tensor* output,
                                    const convpool_tensor* indices, const convpool_pool2d_params* params,
                                    const convpool_context* context) noexcept {
  return guarded([&] {
    const PoolArguments a(input, output, params, context);
    const TensorView<std::int64_t> to = read_indices(indices);
    if (indices != nullptr && a.input.shape[0] != 0) require(to.data, "indices.data");
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<T> out) {
      convpool::max_pool2d<T>(in, out, to, a.params, a.context);
    });
  });
}

convpool_status convpool_max_pool2d_workspace_size(const convpool_tensor* input, const convpool_tensor* output,
                                                   const convpool_tensor* indices, const convpool_pool2d_params* params,
                                                   const convpool_context* context, size_t* bytes) noexcept {
  return guarded([&] {
    require(bytes, "bytes");
    const PoolArguments a(input, output, params, context);
    const TensorView<std::int64_t> to = read_indices(indices);
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<T> out) {
      *bytes = convpool::max_pool2d_workspace_size<T>(in, out, to, a.params, a.context);
    });
  });
}

convpool_status convpool_avg_pool2d(const convpool_tensor* input, const convpool_tensor* output,
                                    const convpool_pool2d_params* params, const convpool_context* context) noexcept {
  return guarded([&] {
    const PoolArguments a(input, output, params, context);
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<T> out) {
      convpool::avg_pool2d<T>(in, out, a.params, a.context);
    });
  });
}

convpool_status convpool_avg_pool2d_workspace_size(const convpool_tensor* input, const convpool_tensor* output,
                                                   const convpool_pool2d_params* params,
                                                   const convpool_context* context, size_t* bytes) noexcept {
  return guarded([&] {
    require(bytes, "bytes");
    const PoolArguments a(input, output, params, context);
    a.dispatch([&]<class T>(TensorView<const T> in, TensorView<T> out) {
      *bytes = convpool::avg_pool2d_workspace_size<T>(in, out, a.params, a.context);
    });
  });
}

}  // extern "C"
