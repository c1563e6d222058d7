#include "convpool/conv2d.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "call_scope.hpp"
#include "conv2d_algorithm.hpp"
#include "conv2d_choice.hpp"
#include "conv2d_weights.hpp"
#include "dispatch.hpp"
#include "staging.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::IsaKernels;
using kernels::table_of;
using std::int64_t;

/// Below this many multiply-adds (about 20 us) a thread costs more than it brings.
constexpr double least_work_per_thread = 1e6;

double work_of(const Conv2dGeometry& g) {
  const double outputs =
      static_cast<double>(g.batch) * static_cast<double>(g.out_channels) * static_cast<double>(g.out_pixels());
  return g.multiply_adds() + 8 * outputs;
}

template <class T>
void execute(const Conv2dChoice& choice, const Conv2dRun<T>& run) {
  switch (choice.algorithm) {
    case Algorithm::im2col:
      return run_im2col(run, choice.channels_in_vectors);
    case Algorithm::implicit_gemm:
      return run_implicit_gemm(run, choice.channels_in_vectors);
    case Algorithm::direct:
      return run_direct(run, choice.channels_in_vectors);
    case Algorithm::winograd:
      return run_winograd(run);
    case Algorithm::depthwise:
      return run_depthwise(run, choice.channels_in_vectors);
    case Algorithm::automatic:  // never chosen
    case Algorithm::naive:
      return run_naive(run);
  }
}

/// Runs where the output lies if the algorithm can write there, else into a contiguous array that is copied.
template <class T>
void run_on(const Conv2dChoice& choice, const Conv2dGeometry& g, const TensorView<const T>& input,
            const Weights<T>& weights, const TensorView<T>& output, Activation activation, int threads,
            const IsaKernels& isa) {
  const auto into = [&](const TensorView<T>& target) {
    execute(choice, Conv2dRun<T>{g, input, target, weights, activation, threads, table_of<T>(isa)});
  };
  if (writes_in_place(choice.algorithm, output)) {
    into(output);
  } else {
    const ContiguousCopy<T> stage(output, channels_last(output));
    into(stage.view());
    copy_elements<T>(stage.view(), output, threads);
  }
}

const char* vectors_hold(const Conv2dChoice& choice) {
  if (choice.algorithm == Algorithm::naive) return "nothing";
  return choice.channels_in_vectors || choice.algorithm == Algorithm::winograd ? "channels" : "pixels";
}

template <class T>
void require_data(const char* name, const TensorView<T>& view) {
  if (view.data == nullptr) throw std::invalid_argument(std::string(name) + " has no data: its pointer is null");
}

template <class T>
Conv2dGeometry check(const TensorView<const T>& input, const Shape4& weight, const TensorView<T>& output,
                     const Conv2dParams& params) {
  const Conv2dGeometry g = conv2d_geometry(input.shape, weight, params);
  require_shape("output", output.shape, g.output_shape());
  if (!strides_are_injective(output.shape, output.strides)) {
    throw std::invalid_argument("output has elements that share memory: strides " + shape_text(output.strides) +
                                " for shape " + shape_text(output.shape));
  }
  return g;
}

template <class T>
void check_data(const Conv2dGeometry& g, const TensorView<const T>& input, const TensorView<T>& output) {
  if (g.empty()) return;
  require_data("input", input);
  require_data("output", output);
}

template <class T>
bool is_contiguous(const TensorView<const T>& view) {
  const auto expected = TensorView<const T>::nchw(nullptr, view.size(0), view.size(1), view.size(2), view.size(3));
  for (int i = 0; i < 4; ++i) {
    if (view.size(i) > 1 && view.stride(i) != expected.stride(i)) return false;
  }
  return true;
}

}  // namespace

Shape4 conv2d_output_shape(const Shape4& input, const Shape4& weight, const Conv2dParams& params) {
  return conv2d_geometry(input, weight, params).output_shape();
}

namespace {

/// The part of the functional form that takes memory: everything but the checks.
template <class T>
void pack_and_run(const Conv2dChoice& choice, const Conv2dGeometry& g, const TensorView<const T>& input,
                  const TensorView<const T>& weight, const T* bias, const TensorView<T>& output, Activation activation,
                  int threads, const IsaKernels& isa) {
  ContiguousCopy<T> plain;
  const T* weight_data = weight.data;
  if (!is_contiguous(weight)) {
    plain = ContiguousCopy<T>(weight);
    copy_elements<T>(weight, plain.view(), threads);
    weight_data = plain.view().data;
  }
  const auto& kernels = table_of<T>(isa);
  const Workspace packed(static_cast<std::size_t>(packed_elements<T>(choice.form, g, kernels)) * sizeof(T));
  const Weights<T> weights = pack_weights<T>(choice.form, g, kernels, weight_data, bias, packed.as<T>(), threads);
  run_on(choice, g, input, weights, output, activation, threads, isa);
}

}  // namespace

template <class T>
void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<T> output,
            const Conv2dParams& params, const ExecutionContext& context) {
  const CallScope scope(context);
  const Conv2dGeometry g = check(input, weight.shape, output, params);
  check_data(g, input, output);
  const int threads = threads_for(context.num_threads, work_of(g), least_work_per_thread);
  const IsaKernels& isa = active_kernels();
  const Conv2dChoice choice =
      choose_conv2d(params.algorithm, g, input, output, table_of<T>(isa), WeightsAre::packed_each_call);
  if (g.empty()) return;
  require_data("weight", weight);
  pack_and_run(choice, g, input, weight, bias, output, params.activation, threads, isa);
}

template <class T>
void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<T> output,
            const Conv2dParams& params, int num_threads) {
  ExecutionContext context;
  context.num_threads = num_threads;
  conv2d(input, weight, bias, output, params, context);
}

template <class T>
std::size_t conv2d_workspace_size(TensorView<const T> input, TensorView<const T> weight, TensorView<T> output,
                                  const Conv2dParams& params, const ExecutionContext& context) {
  const Conv2dGeometry g = check(input, weight.shape, output, params);
  const int threads = threads_for(context.num_threads, work_of(g), least_work_per_thread);
  const IsaKernels& isa = active_kernels();
  const Conv2dChoice choice =
      choose_conv2d(params.algorithm, g, input, output, table_of<T>(isa), WeightsAre::packed_each_call);
  if (g.empty()) return 0;
  // Small weights are packed by the calling thread itself: it reads some, whatever they are.
  const ContiguousCopy<T> any(weight);
  TensorView<const T> stand_in{any.view().data, weight.shape, weight.strides};
  if (!is_contiguous(weight)) stand_in.strides = {};
  const MeasuringScope measured;
  pack_and_run<T>(choice, g, input, stand_in, nullptr, output, params.activation, threads, isa);
  return measured.bytes();
}

template <class T>
struct Conv2dPlan<T>::State {
  Allocator allocator;
  Conv2dParams params;
  Shape4 weight_shape;
  const IsaKernels* isa = nullptr;
  ContiguousCopy<T> weight;
  bool has_bias = false;
  Workspace bias;

  // Each form is packed when the first input needs it. Not by std::call_once, which never ends on some systems after
  // the function has thrown: memory may run out here.
  struct Packed {
    std::atomic<bool> ready{false};
    std::mutex mutex;
    Workspace memory;
    Weights<T> weights;
  };
  std::array<Packed, 4> packed;

  /// What the plan keeps comes from its allocator, never from the workspace of the call that happens to run.
  ExecutionContext own_memory() const {
    ExecutionContext context;
    context.allocator = allocator;
    return context;
  }

  const Weights<T>& weights_in(WeightForm form, const Conv2dGeometry& g, int threads, const ParallelFor& hook) {
    Packed& p = packed[static_cast<std::size_t>(form)];
    if (p.ready.load(std::memory_order_acquire)) return p.weights;
    const std::lock_guard lock(p.mutex);
    if (p.ready.load(std::memory_order_relaxed)) return p.weights;
    const CallScope scope(own_memory());
    // Not on the caller's pool: while it waits it might run a task of its own on this thread, which may use this very
    // plan, and would wait for ever.
    const int packers = hook.run == nullptr ? threads : 1;
    const auto& kernels = table_of<T>(*isa);
    Workspace memory(static_cast<std::size_t>(packed_elements<T>(form, g, kernels)) * sizeof(T));
    p.weights = pack_weights<T>(form, g, kernels, weight.view().data, has_bias ? bias.as<T>() : nullptr, memory.as<T>(),
                                packers);
    p.memory = std::move(memory);
    p.ready.store(true, std::memory_order_release);
    return p.weights;
  }
};

template <class T>
void Conv2dPlan<T>::Release::operator()(State* state) const noexcept {
  const Allocator allocator = state->allocator;
  state->~State();
  release_to(allocator, state, sizeof(State));
}

template <class T>
Conv2dPlan<T>::Conv2dPlan(TensorView<const T> weight, const T* bias, const Conv2dParams& params,
                          const Allocator& allocator) {
  check_conv2d_weight(weight.shape, params);
  checked_element_count(weight.shape, sizeof(T));
  if (weight.size(0) != 0 && weight.size(1) != 0) require_data("weight", weight);
  const IsaKernels& isa = active_kernels();
  ExecutionContext own;
  own.allocator = allocator;
  const CallScope scope(own);
  state_.reset(::new (allocate_from(allocator, sizeof(State))) State);
  State& s = *state_;
  s.allocator = allocator;
  s.params = params;
  s.weight_shape = weight.shape;
  s.isa = &isa;
  s.weight = ContiguousCopy<T>(weight);
  copy_elements<T>(weight, s.weight.view(), 1);
  if (bias != nullptr) {
    s.has_bias = true;
    s.bias = Workspace(static_cast<std::size_t>(weight.size(0)) * sizeof(T));
    std::copy(bias, bias + weight.size(0), s.bias.template as<T>());
  }
}

template <class T>
Conv2dPlan<T>::~Conv2dPlan() = default;
template <class T>
Conv2dPlan<T>::Conv2dPlan(Conv2dPlan&&) noexcept = default;
template <class T>
Conv2dPlan<T>& Conv2dPlan<T>::operator=(Conv2dPlan&&) noexcept = default;

template <class T>
void Conv2dPlan<T>::operator()(TensorView<const T> input, TensorView<T> output, const ExecutionContext& context) const {
  const CallScope scope(context);
  State& s = *state_;
  const Conv2dGeometry g = check(input, s.weight_shape, output, s.params);
  check_data(g, input, output);
  const int threads = threads_for(context.num_threads, work_of(g), least_work_per_thread);
  const Conv2dChoice choice =
      choose_conv2d(s.params.algorithm, g, input, output, table_of<T>(*s.isa), WeightsAre::packed_once);
  if (g.empty()) return;
  run_on(choice, g, input, s.weights_in(choice.form, g, threads, context.parallel_for), output, s.params.activation,
         threads, *s.isa);
}

template <class T>
void Conv2dPlan<T>::operator()(TensorView<const T> input, TensorView<T> output, int num_threads) const {
  ExecutionContext context;
  context.num_threads = num_threads;
  (*this)(input, output, context);
}

template <class T>
std::size_t Conv2dPlan<T>::workspace_size(TensorView<const T> input, TensorView<T> output,
                                          const ExecutionContext& context) const {
  State& s = *state_;
  const Conv2dGeometry g = check(input, s.weight_shape, output, s.params);
  const int threads = threads_for(context.num_threads, work_of(g), least_work_per_thread);
  const Conv2dChoice choice =
      choose_conv2d(s.params.algorithm, g, input, output, table_of<T>(*s.isa), WeightsAre::packed_once);
  if (g.empty()) return 0;
  const Weights<T>& weights = s.weights_in(choice.form, g, threads, context.parallel_for);
  const MeasuringScope measured;
  run_on(choice, g, input, weights, output, s.params.activation, threads, *s.isa);
  return measured.bytes();
}

template <class T>
Shape4 Conv2dPlan<T>::output_shape(const Shape4& input) const {
  return conv2d_output_shape(input, state_->weight_shape, state_->params);
}

template <class T>
Shape4 Conv2dPlan<T>::weight_shape() const noexcept {
  return state_->weight_shape;
}

template <class T>
std::string Conv2dPlan<T>::explain(TensorView<const T> input, TensorView<T> output) const {
  const State& s = *state_;
  const Conv2dGeometry g = conv2d_geometry(input.shape, s.weight_shape, s.params);
  const Conv2dChoice choice =
      choose_conv2d(s.params.algorithm, g, input, output, table_of<T>(*s.isa), WeightsAre::packed_once);
  std::ostringstream text;
  text << "algorithm: " << algorithm_name(choice.algorithm) << "\nwhy: " << choice.reason << "\nisa: " << s.isa->name
       << " (" << table_of<T>(*s.isa).lanes << " lanes)\nin the vectors: " << vectors_hold(choice)
       << "\nflops: " << 2 * g.multiply_adds() << "\nresult: " << shape_text(g.output_shape());
  return text.str();
}

#define CONVPOOL_INSTANTIATE(T)                                                                                   \
  template void conv2d<T>(TensorView<const T>, TensorView<const T>, const T*, TensorView<T>, const Conv2dParams&, \
                          int);                                                                                   \
  template void conv2d<T>(TensorView<const T>, TensorView<const T>, const T*, TensorView<T>, const Conv2dParams&, \
                          const ExecutionContext&);                                                               \
  template std::size_t conv2d_workspace_size<T>(TensorView<const T>, TensorView<const T>, TensorView<T>,          \
                                                const Conv2dParams&, const ExecutionContext&);                    \
  template class Conv2dPlan<T>;
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
