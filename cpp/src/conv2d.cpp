#include "convpool/conv2d.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "call_scope.hpp"
#include "conv2d_algorithm.hpp"
#include "conv2d_choice.hpp"
#include "conv2d_weights.hpp"
#include "dispatch.hpp"
#include "seen_pixels.hpp"
#include "staging.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::IsaKernels;
using kernels::table_of;
using std::int64_t;

/// Below this many multiply-adds (about 5 us) a thread costs more than it brings.
constexpr double least_work_per_thread = 0.25e6;

double work_of(const Conv2dGeometry& g) {
  const double outputs =
      static_cast<double>(g.batch) * static_cast<double>(g.out_channels) * static_cast<double>(g.out_pixels());
  // Results count for depthwise, whose multiply-adds take longer. Weights that few pixels share are waited for.
  const double weights = static_cast<double>(g.out_channels) * static_cast<double>(g.reduction());
  return g.multiply_adds() + 16 * outputs + 2 * weights;
}

template <class T>
void execute(const Conv2dChoice& choice, const Conv2dRun<T>& run) {
  switch (choice.algorithm) {
    case Algorithm::im2col:
      return run_im2col(run, choice.channels_in_vectors);
    case Algorithm::implicit_gemm:
      return run_implicit_gemm(run, choice.channels_in_vectors);
    case Algorithm::direct:
      return run_direct(run, choice.form);
    case Algorithm::winograd:
      return run_winograd(run, choice.form);
    case Algorithm::depthwise:
      return run_depthwise(run, choice.form);
    case Algorithm::automatic:  // never chosen
    case Algorithm::benchmark:
    case Algorithm::naive:
      return run_naive(run);
  }
}

/// A call's arrays, checked; `add` without data where nothing is added.
template <class T>
struct Arrays {
  TensorView<const T> input;
  TensorView<const T> add;
  TensorView<T> output;
};

/// Runs where the output lies if the algorithm can write there, else into a contiguous array that is copied.
template <class T>
void run_on(const Conv2dChoice& choice, const Conv2dGeometry& g, const Arrays<T>& arrays, const Weights<T>& weights,
            Activation activation, int threads, const IsaKernels& isa, Conv2dBlocking* blocking = nullptr) {
  const TensorView<T>& output = arrays.output;
  const auto into = [&](const TensorView<T>& target) {
    execute(choice, Conv2dRun<T>{g, arrays.input, target, weights, arrays.add, activation, threads, table_of<T>(isa),
                                 blocking});
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
  if (choice.form == WeightForm::plain_sums) return "input channels";
  return choice.channels_in_vectors || choice.algorithm == Algorithm::winograd ? "channels" : "pixels";
}

template <class T>
void require_data(const char* name, const TensorView<T>& view) {
  if (view.data == nullptr) throw std::invalid_argument(std::string(name) + " has no data: its pointer is null");
}

/// The geometry of what windows see, which is left of the input.
template <class T>
Conv2dGeometry check(TensorView<const T>& input, const Shape4& weight, const TensorView<T>& output,
                     const Conv2dParams& params) {
  Conv2dGeometry g = conv2d_geometry(input.shape, weight, params);
  require_shape("output", output.shape, g.output_shape());
  if (!strides_are_injective(output.shape, output.strides)) {
    throw std::invalid_argument("output has elements that share memory: strides " + shape_text(output.strides) +
                                " for shape " + shape_text(output.shape));
  }
  keep_seen_pixels(g, input);
  return g;
}

template <class T>
void check_data(const Conv2dGeometry& g, const Arrays<T>& arrays) {
  if (g.empty()) return;
  require_data("input", arrays.input);
  require_data("output", arrays.output);
}

template <class T>
void check_add(const Conv2dGeometry& g, const TensorView<const T>& add) {
  require_shape("add", add.shape, g.output_shape());
  if (!g.empty()) require_data("add", add);
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
void pack_and_run(const Conv2dChoice& choice, const Conv2dGeometry& g, const Arrays<T>& arrays,
                  const TensorView<const T>& weight, const T* bias, Activation activation, int threads,
                  const IsaKernels& isa) {
  ContiguousCopy<T> plain;
  const T* weight_data = weight.data;
  if (!is_contiguous(weight)) {
    plain = ContiguousCopy<T>(weight);
    copy_elements<T>(weight, plain.view(), threads);
    weight_data = plain.view().data;
  }
  const auto& kernels = table_of<T>(isa);
  const bool later = packs_itself(choice) && packed_where_used(g);
  const int64_t elements =
      later ? packed_bias_elements(choice.form, g, kernels.lanes) : packed_elements<T>(choice.form, g, kernels);
  const Workspace packed(static_cast<std::size_t>(elements) * sizeof(T));
  Weights<T> weights{nullptr, packed.as<T>(), weight_data, later};
  if (later) {
    pack_bias(choice.form, g, kernels.lanes, bias, packed.as<T>());
  } else {
    weights = pack_weights<T>(choice.form, g, kernels, weight_data, bias, packed.as<T>(), threads);
  }
  run_on(choice, g, arrays, weights, activation, threads, isa);
}

template <class T>
void run_function(Arrays<T> arrays, bool adds, const TensorView<const T>& weight, const T* bias,
                  const Conv2dParams& params, const ExecutionContext& context) {
  const CallScope scope(context);
  const Conv2dGeometry g = check(arrays.input, weight.shape, arrays.output, params);
  check_data(g, arrays);
  if (adds) check_add(g, arrays.add);
  const int threads = threads_for_call(context, work_of(g), least_work_per_thread);
  const IsaKernels& isa = active_kernels();
  const Conv2dChoice choice =
      choose_conv2d(params.algorithm, g, arrays.input, arrays.output, table_of<T>(isa), WeightsAre::packed_each_call);
  if (g.empty()) return;
  require_data("weight", weight);
  pack_and_run(choice, g, arrays, weight, bias, params.activation, threads, isa);
}

}  // namespace

template <class T>
void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<T> output,
            const Conv2dParams& params, const ExecutionContext& context) {
  run_function<T>({input, {}, output}, false, weight, bias, params, context);
}

template <class T>
void conv2d(TensorView<const T> input, TensorView<const T> weight, const T* bias, TensorView<const T> add,
            TensorView<T> output, const Conv2dParams& params, const ExecutionContext& context) {
  run_function<T>({input, add, output}, true, weight, bias, params, context);
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
  const int threads = threads_for(context, work_of(g), least_work_per_thread);
  const IsaKernels& isa = active_kernels();
  const Conv2dChoice choice =
      choose_conv2d(params.algorithm, g, input, output, table_of<T>(isa), WeightsAre::packed_each_call);
  if (g.empty()) return 0;
  // Small weights are packed by the calling thread itself: it reads some, whatever they are.
  const ContiguousCopy<T> any(weight);
  TensorView<const T> stand_in{any.view().data, weight.shape, weight.strides};
  if (!is_contiguous(weight)) stand_in.strides = {};
  const MeasuringScope measured;
  pack_and_run<T>(choice, g, {input, {}, output}, stand_in, nullptr, params.activation, threads, isa);
  return measured.bytes();
}

namespace {

/// What Algorithm::benchmark tells apart: what its candidates, their times and their scratch depend on.
struct MeasuredCase {
  Shape4 input{}, output{};
  int threads = 0;
  unsigned layout = 0;

  template <class In, class Out>
  MeasuredCase(const TensorView<In>& in, const TensorView<Out>& out, int threads_)
      : input(in.shape), output(out.shape), threads(threads_) {
    // Some forms want pixels without gaps between their channels, too.
    const bool bits[] = {channels_last(in),          channels_last(out),          pixels_contiguous(in),
                         pixels_contiguous(out),     rows_contiguous(in),         rows_contiguous(out),
                         in.stride(3) == in.size(1), out.stride(3) == out.size(1)};
    for (const bool bit : bits) layout = 2 * layout + (bit ? 1 : 0);
  }
  MeasuredCase() = default;
  bool operator==(const MeasuredCase&) const = default;
};

/// A case that was measured, and what was found: all zero where there was nothing to choose from.
struct Settled {
  MeasuredCase what;
  Conv2dChoice choice;
  Conv2dCandidates candidates;
  std::array<double, std::tuple_size_v<decltype(Conv2dCandidates::choices)>> seconds{};
};

/// Cases that a plan remembers. What was settled stays, so that its results keep their bits.
constexpr std::size_t most_settled = 16;
/// Rounds of two runs of each candidate, one after the other as in a loop of calls: two, and more while they take no
/// longer than this.
constexpr std::chrono::milliseconds measuring_time{40};
constexpr int most_rounds = 50;
/// What is as good as auto's choice doesn't replace it.
constexpr double gain = 0.97;

}  // namespace

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
    // Of Algorithm::benchmark, which tries forms that it then doesn't keep.
    int users = 0;
    bool kept = false;
  };
  std::array<Packed, weight_forms> packed;

  // Written at the end alone, so that a call reads those before `settled_count` without a lock.
  std::array<Settled, most_settled> settled;
  std::atomic<std::size_t> settled_count{0};
  std::mutex settling;

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
    pack(p, form, g, threads, hook);
    return p.weights;
  }

  /// With the form's lock held.
  void pack(Packed& p, WeightForm form, const Conv2dGeometry& g, int threads, const ParallelFor& hook) {
    if (p.ready.load(std::memory_order_relaxed)) return;
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
  }

  /// A form that is there while this lives, and for good once it is kept.
  class Held {
   public:
    Held() = default;
    Held(State& state, WeightForm form, const Conv2dGeometry& g, int threads, const ParallelFor& hook)
        : packed_(&state.packed[static_cast<std::size_t>(form)]) {
      const std::lock_guard lock(packed_->mutex);
      state.pack(*packed_, form, g, threads, hook);
      ++packed_->users;
    }
    Held(Held&& other) noexcept
        : packed_(std::exchange(other.packed_, nullptr)), releases_(std::exchange(other.releases_, false)) {}
    Held& operator=(Held&& other) noexcept {
      std::swap(packed_, other.packed_);
      std::swap(releases_, other.releases_);
      return *this;
    }
    ~Held() {
      if (packed_ == nullptr) return;
      Workspace released;
      const std::lock_guard lock(packed_->mutex);
      if (--packed_->users > 0 || packed_->kept || !releases_) return;
      packed_->ready.store(false, std::memory_order_relaxed);
      released = std::move(packed_->memory);
    }
    const Weights<T>& weights() const { return packed_->weights; }
    void keep() const {
      const std::lock_guard lock(packed_->mutex);
      packed_->kept = true;
    }
    /// Its memory goes with its last user, unless it is kept.
    void release() { releases_ = true; }

   private:
    Packed* packed_ = nullptr;
    bool releases_ = false;
  };

  const Settled* settled_as(const MeasuredCase& what) const {
    const std::size_t count = settled_count.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < count; ++i) {
      if (settled[i].what == what) return &settled[i];
    }
    return nullptr;
  }

  /// What runs without measuring; nothing where Algorithm::benchmark has to measure first.
  std::optional<Conv2dChoice> choose(const Conv2dGeometry& g, const Arrays<T>& arrays, int threads) const {
    const auto& kernels = table_of<T>(*isa);
    const auto chosen = [&](Algorithm algorithm) {
      return choose_conv2d(algorithm, g, arrays.input, arrays.output, kernels, WeightsAre::packed_once);
    };
    if (params.algorithm != Algorithm::benchmark) return chosen(params.algorithm);
    if (const Settled* known = settled_as(MeasuredCase(arrays.input, arrays.output, threads))) return known->choice;
    if (settled_count.load(std::memory_order_acquire) < most_settled) return std::nullopt;
    Conv2dChoice choice = chosen(Algorithm::automatic);
    choice.reason = "auto's choice: the plan has measured as many cases as it keeps";
    return choice;
  }

  void run(const Conv2dGeometry& g, const Arrays<T>& arrays, const ExecutionContext& context) {
    const int threads = threads_for_call(context, work_of(g), least_work_per_thread);
    std::optional<Conv2dChoice> choice = choose(g, arrays, threads);
    if (g.empty()) return;
    if (!choice) {
      CallScope::current()->set_wakes_threads(true);
      choice = measure(g, arrays, threads, context.parallel_for);
    }
    // What a shape was settled on is kept, and what auto takes beyond them has to be.
    const bool stays =
        params.algorithm != Algorithm::benchmark || settled_as(MeasuredCase(arrays.input, arrays.output, threads));
    if (!stays) Held(*this, choice->form, g, threads, context.parallel_for).keep();
    const Weights<T>& weights = weights_in(choice->form, g, threads, context.parallel_for);
    run_on(*choice, g, arrays, weights, params.activation, threads, *isa);
  }

  /// Times the candidates on the call's own arrays and memory, and settles the case; if another thread has done so
  /// meanwhile, as that one found. A candidate that runs out of memory is left out.
  Conv2dChoice measure(const Conv2dGeometry& g, const Arrays<T>& arrays, int threads, const ParallelFor& hook) {
    using Clock = std::chrono::steady_clock;
    Settled found;
    found.what = MeasuredCase(arrays.input, arrays.output, threads);
    found.candidates = conv2d_candidates(g, arrays.input, arrays.output, table_of<T>(*isa));
    const std::size_t count = found.candidates.count;
    const auto& choices = found.candidates.choices;
    std::array<Held, std::tuple_size_v<decltype(Conv2dCandidates::choices)>> held;
    constexpr double never = std::numeric_limits<double>::infinity();
    double best = never;
    const auto run_one = [&](std::size_t i) {
      const auto start = Clock::now();
      run_on(choices[i], g, arrays, held[i].weights(), params.activation, threads, *isa);
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto time = [&](std::size_t i) {
      found.seconds[i] = std::min({found.seconds[i], run_one(i), run_one(i)});
      best = std::min(best, found.seconds[i]);
    };
    found.seconds.fill(never);
    for (std::size_t i = 0; i < count; ++i) {
      try {
        held[i] = Held(*this, choices[i].form, g, threads, hook);
        held[i].release();
        if (count == 1) break;
        if (i == 0) run_one(i);  // fresh pages of the result and of scratch count for nobody
        time(i);
      } catch (const std::bad_alloc&) {
        if (count == 1 || (i + 1 == count && best == never)) throw;
      }
    }
    const auto end = Clock::now() + measuring_time;
    for (int round = 1; count > 1 && round < most_rounds && (round == 1 || Clock::now() < end); ++round) {
      // Something else may have taken the processor during all that has been measured so far.
      const double hopeless = (round == 1 ? 8 : 2) * best;
      for (std::size_t i = 0; i < count; ++i) {
        if (found.seconds[i] > hopeless) continue;
        try {
          time(i);
        } catch (const std::bad_alloc&) {
          found.seconds[i] = never;
        }
      }
    }
    if (count > 1 && *std::min_element(found.seconds.begin(), found.seconds.end()) == never) throw std::bad_alloc();
    std::size_t fastest = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (found.seconds[i] < (fastest == 0 ? gain : 1) * found.seconds[fastest]) fastest = i;
    }
    if (count == 1) found.seconds[0] = 0;
    found.choice = choices[fastest];
    found.choice.reason = count == 1 ? "nothing else would do" : "the fastest when it was measured";

    const std::lock_guard lock(settling);
    if (const Settled* known = settled_as(found.what)) return known->choice;
    const std::size_t used = settled_count.load(std::memory_order_relaxed);
    if (used == most_settled) return *choose(g, arrays, threads);
    held[fastest].keep();
    settled[used] = found;
    settled_count.store(used + 1, std::memory_order_release);
    return found.choice;
  }

  std::size_t workspace_of(const Conv2dChoice& choice, const Conv2dGeometry& g, const Arrays<T>& arrays, int threads,
                           const Weights<T>& weights, Conv2dBlocking* blocking = nullptr) const {
    const MeasuringScope measured;
    run_on(choice, g, arrays, weights, params.activation, threads, *isa, blocking);
    return measured.bytes();
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
  const Arrays<T> arrays{input, {}, output};
  check_data(g, arrays);
  s.run(g, arrays, context);
}

template <class T>
void Conv2dPlan<T>::operator()(TensorView<const T> input, TensorView<const T> add, TensorView<T> output,
                               const ExecutionContext& context) const {
  const CallScope scope(context);
  State& s = *state_;
  const Conv2dGeometry g = check(input, s.weight_shape, output, s.params);
  const Arrays<T> arrays{input, add, output};
  check_data(g, arrays);
  check_add(g, add);
  s.run(g, arrays, context);
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
  const int threads = threads_for(context, work_of(g), least_work_per_thread);
  const Arrays<T> arrays{input, {}, output};
  const std::optional<Conv2dChoice> choice = s.choose(g, arrays, threads);
  if (g.empty()) return 0;
  const auto bytes_of = [&](const Conv2dChoice& one) {
    const typename State::Held held(s, one.form, g, threads, context.parallel_for);
    return s.workspace_of(one, g, arrays, threads, held.weights());
  };
  if (choice) return bytes_of(*choice);
  const Conv2dCandidates candidates = conv2d_candidates(g, input, output, table_of<T>(*s.isa));
  std::size_t most = 0;
  for (std::size_t i = 0; i < candidates.count; ++i) most = std::max(most, bytes_of(candidates.choices[i]));
  return most;
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
Conv2dDescription Conv2dPlan<T>::describe(TensorView<const T> input, TensorView<T> output,
                                          const ExecutionContext& context, double flops_per_byte) const {
  if (!(flops_per_byte >= 0 && flops_per_byte < std::numeric_limits<double>::infinity())) {
    throw std::invalid_argument("flops_per_byte must be a number above 0, or 0 for the default, got " +
                                std::to_string(flops_per_byte));
  }
  const State& s = *state_;
  const Shape4 input_shape = input.shape;
  const Conv2dGeometry g = check(input, s.weight_shape, output, s.params);
  const auto& kernels = table_of<T>(*s.isa);
  Conv2dDescription d;
  d.num_threads = threads_for(context, work_of(g), least_work_per_thread);
  const Arrays<T> arrays{input, {}, output};
  std::optional<Conv2dChoice> choice = s.choose(g, arrays, d.num_threads);
  if (!choice) {
    choice = choose_conv2d(Algorithm::automatic, g, input, output, kernels, WeightsAre::packed_once);
    choice->reason = "auto's choice until the first call has measured";
  }
  d.algorithm = choice->algorithm;
  d.why = choice->reason;
  d.isa = s.isa->name;
  d.lanes = kernels.lanes;
  d.in_vectors = vectors_hold(*choice);
  d.output_shape = g.output_shape();
  if (!g.empty()) {
    Conv2dBlocking blocking;
    d.workspace_bytes = s.workspace_of(*choice, g, arrays, d.num_threads, {}, &blocking);
    d.tile_rows = blocking.tile_rows;
    d.tile_vectors = blocking.tile_vectors;
    d.block_pixels = blocking.block_pixels;
    d.block_out_channels = blocking.block_out_channels;
    d.block_terms = blocking.block_terms;
    d.winograd_tile = {blocking.winograd_rows, blocking.winograd_columns};
    d.packed_weight_bytes = static_cast<std::size_t>(packed_elements<T>(choice->form, g, kernels)) * sizeof(T);
    const auto elements = [](const Shape4& shape) {
      double product = 1;
      for (const int64_t size : shape) product *= static_cast<double>(size);
      return product;
    };
    d.flops = 2 * g.multiply_adds();
    d.bytes = sizeof(T) * (elements(input_shape) + elements(s.weight_shape) + elements(output.shape) +
                           (s.has_bias ? static_cast<double>(g.out_channels) : 0));
  }
  d.balance = flops_per_byte > 0 ? flops_per_byte : (sizeof(T) == sizeof(float) ? 4.0 : 2.0) * d.num_threads;
  if (s.params.algorithm == Algorithm::benchmark) {
    if (const Settled* known = s.settled_as(MeasuredCase(input, output, d.num_threads))) {
      for (std::size_t i = 0; i < known->candidates.count; ++i) {
        // Nothing was measured where there was no choice, nor of what ran out of memory.
        const double seconds = known->seconds[i];
        if (seconds == 0 || seconds == std::numeric_limits<double>::infinity()) continue;
        const Conv2dChoice& one = known->candidates.choices[i];
        d.timings.push_back({one.algorithm, vectors_hold(one), seconds});
      }
    }
  }
  return d;
}

template <class T>
std::string Conv2dPlan<T>::explain(TensorView<const T> input, TensorView<T> output) const {
  return describe(input, output).text();
}

#define CONVPOOL_INSTANTIATE(T)                                                                                   \
  template void conv2d<T>(TensorView<const T>, TensorView<const T>, const T*, TensorView<T>, const Conv2dParams&, \
                          int);                                                                                   \
  template void conv2d<T>(TensorView<const T>, TensorView<const T>, const T*, TensorView<T>, const Conv2dParams&, \
                          const ExecutionContext&);                                                               \
  template std::size_t conv2d_workspace_size<T>(TensorView<const T>, TensorView<const T>, TensorView<T>,          \
                                                const Conv2dParams&, const ExecutionContext&);                    \
  template void conv2d<T>(TensorView<const T>, TensorView<const T>, const T*, TensorView<const T>, TensorView<T>, \
                          const Conv2dParams&, const ExecutionContext&);                                          \
  template class Conv2dPlan<T>;
CONVPOOL_INSTANTIATE(float)
CONVPOOL_INSTANTIATE(double)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
