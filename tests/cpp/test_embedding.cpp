// What an embedding program controls: every allocation of the process is counted here, and may be made to fail.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "convpool/convpool.hpp"
#include "random_arrays.hpp"

using namespace convpool;
using convpool::testing::Array;
using convpool::testing::random_values;
using Shape = std::array<std::int64_t, 4>;

// ---- counting

namespace {

std::atomic<std::int64_t> allocations{0};
// How many more calls of operator new succeed; negative: all.
std::atomic<std::int64_t> news_left{-1};

bool new_fails() {
  std::int64_t left = news_left.load();
  while (left > 0 && !news_left.compare_exchange_weak(left, left - 1)) {
  }
  return left == 0;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_MALLOC 0
#elif defined(__GLIBC__)
#define COUNTS_MALLOC 1
#else
#define COUNTS_MALLOC 0
#endif

#if COUNTS_MALLOC
// In front of the C library's own: what the library and the C++ runtime take passes here.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* data, std::size_t bytes) {
  ++allocations;
  return __libc_realloc(data, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** data, std::size_t alignment, std::size_t bytes) {
  ++allocations;
  *data = __libc_memalign(alignment, bytes);
  return *data == nullptr ? ENOMEM : 0;
}
}
#endif

void* operator new(std::size_t bytes) {
  ++allocations;
  void* const data = new_fails() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto a = static_cast<std::size_t>(alignment);
  void* const data = new_fails() ? nullptr : std::aligned_alloc(a, (bytes + a - 1) / a * a);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }

namespace {

/// An allocator that counts, and fails once its calls are used up.
struct CountingAllocator {
  std::int64_t left = std::int64_t{1} << 60;
  std::int64_t calls = 0, live = 0, live_bytes = 0;

  Allocator handle() {
    return {[](void* user, std::size_t bytes, std::size_t alignment) -> void* {
              auto& self = *static_cast<CountingAllocator*>(user);
              ++self.calls;
              if (self.left-- <= 0) return nullptr;
              void* const data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
              if (data == nullptr) return nullptr;
              ++self.live;
              self.live_bytes += static_cast<std::int64_t>(bytes);
              return data;
            },
            [](void* user, void* data, std::size_t bytes, std::size_t) {
              auto& self = *static_cast<CountingAllocator*>(user);
              --self.live;
              self.live_bytes -= static_cast<std::int64_t>(bytes);
              std::free(data);
            },
            this};
  }
};

/// Indices one after another, from the last on: any order must do.
struct BackwardPool {
  int calls = 0;
  template <class F>
  void operator()(std::int64_t count, F&& f) {
    ++calls;
    while (count-- > 0) f(count);
  }
};

/// A thread for each index.
struct ThreadPool {
  template <class F>
  void operator()(std::int64_t count, F&& f) const {
    std::vector<std::thread> threads;
    for (std::int64_t i = 1; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
    f(0);
    for (std::thread& thread : threads) thread.join();
  }
};

std::int64_t threads_of_process() {
#if defined(__SANITIZE_THREAD__)
  return 1;  // ThreadSanitizer has a thread of its own, which comes and goes
#endif
  const std::filesystem::path tasks("/proc/self/task");
  if (!std::filesystem::exists(tasks)) return 1;
  return std::distance(std::filesystem::directory_iterator(tasks), {});
}

/// The same once the kernel has cleared away threads that were joined already; those of the pool would stay.
bool threads_settle_at(std::int64_t expected) {
  for (int i = 0; i < 1000 && threads_of_process() != expected; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return threads_of_process() == expected;
}

/// Calls of every operator, algorithm and layout, on data that they own. `run` gives the same bits whatever the
/// context; `size` is what it takes.
struct Case {
  std::string name;
  std::function<void(const ExecutionContext&)> run;
  std::function<std::size_t(const ExecutionContext&)> size;
  std::function<std::vector<char>()> result;
  std::function<void()> forget;
};

template <class T>
struct Held {
  Array<T> input, weight, output, added;
  Array<std::int64_t> indices;
  std::vector<T> bias;
};

template <class T>
std::vector<char> bytes_of(const Array<T>& array) {
  const auto* const data = reinterpret_cast<const char*>(array.values.data());
  return {data, data + array.values.size() * sizeof(T)};
}

template <class T>
TensorView<const T> nowhere(const TensorView<T>& view) {
  return {nullptr, view.shape, view.strides};
}
template <class T>
TensorView<T> nowhere_to_write(const TensorView<T>& view) {
  return {nullptr, view.shape, view.strides};
}

template <class T>
void add_convolutions(std::vector<Case>& cases, bool prepared, const Allocator& plan_memory) {
  struct Layer {
    Shape input, weight;
    std::int64_t groups, stride;
  };
  const Layer layers[] = {{{2, 16, 20, 21}, {24, 16, 3, 3}, 1, 1},
                          {{1, 8, 33, 31}, {8, 1, 5, 5}, 8, 2},
                          {{1, 40, 7, 7}, {9, 40, 1, 1}, 1, 1}};
  for (const Layer& layer : layers) {
    for (const Algorithm algorithm :
         {Algorithm::automatic, Algorithm::naive, Algorithm::im2col, Algorithm::implicit_gemm, Algorithm::direct,
          Algorithm::winograd, Algorithm::depthwise}) {
      if (algorithm == Algorithm::naive && layer.weight[2] != 1) continue;  // it takes no scratch, and long
      if (algorithm == Algorithm::winograd && layer.weight[2] != 3) continue;
      if (algorithm == Algorithm::depthwise && layer.groups == 1) continue;
      for (const bool channels_last : {false, true}) {
        // Every fourth column of results is skipped: a layout that no algorithm writes.
        for (const bool odd_output : {false, true}) {
          Conv2dParams params;
          params.groups = layer.groups;
          params.stride = {layer.stride, layer.stride};
          params.padding = Padding::symmetric(layer.weight[2] / 2, layer.weight[3] / 2);
          params.algorithm = algorithm;
          const Shape shape = conv2d_output_shape(layer.input, layer.weight, params);
          auto held = std::make_shared<Held<T>>(
              Held<T>{Array<T>(layer.input, channels_last, true), Array<T>(layer.weight, false, true),
                      Array<T>({shape[0], shape[1], shape[2], shape[3] * (odd_output ? 4 : 1)}, channels_last, false),
                      Array<T>(shape, channels_last, true), Array<std::int64_t>({1, 1, 1, 1}, false, false),
                      random_values<T>(layer.weight[0])});
          TensorView<T> output = held->output.view;
          output.shape = shape;
          if (odd_output) output.strides[3] *= 4;
          std::shared_ptr<Conv2dPlan<T>> plan;
          if (prepared) {
            plan = std::make_shared<Conv2dPlan<T>>(held->weight.view, held->bias.data(), params, plan_memory);
          }
          Case c;
          c.name = "conv2d";
          c.name += prepared ? " plan" : "";
          c.name += " algorithm " + std::to_string(static_cast<int>(algorithm)) + " kernel " +
                    std::to_string(layer.weight[2]) + (channels_last ? " nhwc" : " nchw") + (odd_output ? " odd" : "");
          const bool adds = channels_last != odd_output;
          c.run = [=](const ExecutionContext& context) {
            if (plan && adds) {
              (*plan)(held->input.view, held->added.view, output, context);
            } else if (plan) {
              (*plan)(held->input.view, output, context);
            } else if (adds) {
              conv2d<T>(held->input.view, held->weight.view, held->bias.data(), held->added.view, output, params,
                        context);
            } else {
              conv2d<T>(held->input.view, held->weight.view, held->bias.data(), output, params, context);
            }
          };
          c.size = [=](const ExecutionContext& context) {
            const auto in = nowhere(held->input.view);
            const auto out = nowhere_to_write(output);
            return plan ? plan->workspace_size(in, out, context)
                        : conv2d_workspace_size<T>(in, nowhere(held->weight.view), out, params, context);
          };
          c.result = [=] { return bytes_of(held->output); };
          c.forget = [=] { std::fill(held->output.values.begin(), held->output.values.end(), T(-77)); };
          cases.push_back(std::move(c));
        }
      }
    }
  }
}

/// The stride is 1 for the larger input: with a last cache of 4 MB, its results go past the caches.
template <class T>
void add_poolings(std::vector<Case>& cases, const Shape& input, std::int64_t stride) {
  for (const bool channels_last : {false, true}) {
    for (const bool other_output : {false, true}) {
      for (const int kind : {0, 1, 2}) {
        AvgPool2dParams params;
        params.kernel = {3, 3};
        params.stride = {{stride, stride}};
        params.padding = Padding::symmetric(1, 1);
        const Shape shape = pool2d_output_shape(input, params);
        auto held = std::make_shared<Held<T>>(Held<T>{Array<T>(input, channels_last, true),
                                                      Array<T>({1, 1, 1, 1}, false, false),
                                                      Array<T>(shape, channels_last != other_output, false),
                                                      Array<T>({1, 1, 1, 1}, false, false),
                                                      Array<std::int64_t>(shape, channels_last, false),
                                                      {}});
        Case c;
        const char* const names[] = {"max_pool2d", "max_pool2d with indices", "avg_pool2d"};
        c.name = names[kind];
        c.name += std::string(channels_last ? " nhwc" : " nchw") + (other_output ? " to the other" : "");
        c.run = [=](const ExecutionContext& context) {
          if (kind == 2) return avg_pool2d<T>(held->input.view, held->output.view, params, context);
          max_pool2d<T>(held->input.view, held->output.view,
                        kind == 1 ? held->indices.view : TensorView<std::int64_t>{}, params, context);
        };
        c.size = [=](const ExecutionContext& context) {
          const auto in = nowhere(held->input.view);
          const auto out = nowhere_to_write(held->output.view);
          if (kind == 2) return avg_pool2d_workspace_size<T>(in, out, params, context);
          return max_pool2d_workspace_size<T>(
              in, out, kind == 1 ? nowhere_to_write(held->indices.view) : TensorView<std::int64_t>{}, params, context);
        };
        c.result = [=] {
          std::vector<char> both = bytes_of(held->output), more = bytes_of(held->indices);
          both.insert(both.end(), more.begin(), more.end());
          return both;
        };
        c.forget = [=] {
          std::fill(held->output.values.begin(), held->output.values.end(), T(-77));
          std::fill(held->indices.values.begin(), held->indices.values.end(), -77);
        };
        cases.push_back(std::move(c));
      }
    }
  }
}

std::vector<Case> all_cases(const Allocator& plan_memory = {}) {
  std::vector<Case> cases;
  add_convolutions<float>(cases, false, plan_memory);
  add_convolutions<float>(cases, true, plan_memory);
  add_convolutions<double>(cases, true, plan_memory);
  add_poolings<float>(cases, {2, 10, 30, 27}, 2);
  add_poolings<double>(cases, {2, 10, 30, 27}, 2);
  add_poolings<float>(cases, {22, 40, 28, 28}, 1);
  return cases;
}

ExecutionContext with_threads(int threads) {
  ExecutionContext context;
  context.num_threads = threads;
  return context;
}

}  // namespace

TEST_CASE("with the workspace that was asked for, a call takes no memory") {
  CountingAllocator allocator;
  for (const Case& c : all_cases()) {
    CAPTURE(c.name);
    for (const int threads : {1, 3}) {
      BackwardPool pool;
      ExecutionContext context = with_threads(threads);
      context.parallel_for = ParallelFor::through(pool);
      c.forget();
      c.run(context);
      const std::vector<char> expected = c.result();
      const std::size_t bytes = c.size(context);
      // At the least lucky address, with a byte behind it that must stay.
      std::vector<char> memory(bytes + 66, 'x');
      const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
      context.workspace = memory.data() + (65 - address % 64) % 64;
      context.workspace_bytes = bytes;
      context.allocator = allocator.handle();
      c.forget();
      const std::int64_t before = allocations;
      c.run(context);
      c.run(context);
      const std::int64_t taken = allocations - before;
      CHECK(taken == 0);
      CHECK(allocator.calls == 0);
      CHECK(static_cast<char*>(context.workspace)[bytes] == 'x');
      CHECK(c.result() == expected);
      if (bytes == 0) continue;
      // A byte less is too little, so that the size is no guess on the safe side; then the allocator steps in.
      context.workspace_bytes = bytes - 64;
      c.forget();
      c.run(context);
      CHECK(allocator.calls > 0);
      CHECK(allocator.live == 0);
      CHECK(c.result() == expected);
      allocator = {};
    }
  }
}

TEST_CASE("workspace_size tells enough for large results that are added to, and for layers in several pieces") {
  struct Layer {
    Shape input, weight;
    std::array<std::int64_t, 2> stride, padding, dilation;
    Algorithm algorithm;
  };
  const Layer layers[] = {{{1, 16, 1000, 144}, {24, 16, 3, 3}, {1, 1}, {1, 1}, {1, 1}, Algorithm::direct},
                          {{1, 16, 512, 512}, {16, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1}, Algorithm::depthwise},
                          {{1, 70, 2, 600}, {16, 70, 3, 3}, {1, 2}, {60, 32}, {60, 4}, Algorithm::direct},
                          {{6, 16, 134, 134}, {64, 16, 7, 7}, {1, 1}, {0, 0}, {1, 1}, Algorithm::winograd}};
  const std::string usual = isa();
  for (const std::string& name : available_isas()) {
    set_isa(name);
    for (const Layer& layer : layers) {
      Conv2dParams params;
      params.stride = layer.stride;
      params.padding = Padding::symmetric(layer.padding[0], layer.padding[1]);
      params.dilation = layer.dilation;
      params.groups = layer.input[1] / layer.weight[1];
      params.algorithm = layer.algorithm;
      const Shape shape = conv2d_output_shape(layer.input, layer.weight, params);
      const Array<float> input(layer.input, false, true), weight(layer.weight, false, true), added(shape, false, true);
      const Array<float> output(shape, false, false);
      CAPTURE(name);
      CAPTURE(layer.input[1]);
      CountingAllocator allocator;
      BackwardPool pool;
      ExecutionContext context = with_threads(3);
      context.parallel_for = ParallelFor::through(pool);
      context.allocator = allocator.handle();
      std::vector<char> memory(conv2d_workspace_size<float>(nowhere(input.view), nowhere(weight.view),
                                                            nowhere_to_write(output.view), params, context));
      context.workspace = memory.data();
      context.workspace_bytes = memory.size();
      conv2d<float>(input.view, weight.view, nullptr, added.view, output.view, params, context);
      CHECK(allocator.calls == 0);
    }
  }
  set_isa(usual);
}

TEST_CASE("with the caller's allocator alone, nothing comes from anywhere else") {
  CountingAllocator allocator;
  {
    const std::vector<Case> cases = all_cases(allocator.handle());
    for (const Case& c : cases) {
      CAPTURE(c.name);
      ExecutionContext context = with_threads(1);
      c.run(context);
      const std::vector<char> expected = c.result();
      c.forget();
      context.allocator = allocator.handle();
      const std::int64_t calls = allocator.calls, live = allocator.live, before = allocations;
      c.run(context);
      // The allocator itself calls aligned_alloc once each time.
      const std::int64_t taken = allocations - before;
      CHECK(taken == (COUNTS_MALLOC ? allocator.calls - calls : 0));
      CHECK(allocator.live == live);
      CHECK(c.result() == expected);
    }
    CHECK(allocator.live > 0);  // the plans, until here
  }
  CHECK(allocator.live == 0);
  CHECK(allocator.live_bytes == 0);
}

TEST_CASE("when the caller's allocator gives up, the call throws, keeps nothing, and the next one works") {
  for (const Case& c : all_cases()) {
    CAPTURE(c.name);
    ExecutionContext context = with_threads(2);
    BackwardPool pool;  // no test here starts a thread of the library: another one counts them
    context.parallel_for = ParallelFor::through(pool);
    c.run(context);
    const std::vector<char> expected = c.result();
    for (std::int64_t allowed = 0;; ++allowed) {
      CountingAllocator allocator;
      allocator.left = allowed;
      context.allocator = allocator.handle();
      c.forget();
      bool failed = false;
      try {
        c.run(context);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      CHECK(allocator.live == 0);
      if (failed) {
        CHECK(allocator.calls == allowed + 1);
        allocator.left = 1 << 20;
        c.run(context);
        CHECK(allocator.live == 0);
      }
      CHECK(c.result() == expected);
      if (!failed) break;
      REQUIRE(allowed < 100);
    }
  }
}

TEST_CASE("when operator new gives up, a plan is made, run and taken down without a leak") {
  const Array<float> input({1, 8, 12, 12}, false, true), weight({8, 8, 3, 3}, false, true);
  const Array<float> output({1, 8, 10, 10}, false, false);
  int failures = 0;
  for (std::int64_t allowed = 0; allowed < 50; ++allowed) {
    news_left = allowed;
    try {
      const Conv2dPlan<float> plan(weight.view, nullptr);
      plan(input.view, output.view, 1);
    } catch (const std::bad_alloc&) {
      ++failures;
    }
    news_left = -1;
  }
  CHECK(failures >= 1);
  CHECK(failures < 50);
}

TEST_CASE("a plan's own memory comes from its allocator, also what it packs later") {
  for (std::int64_t allowed = 0; allowed < 20; ++allowed) {
    CountingAllocator allocator;
    allocator.left = allowed;
    const Array<float> input({1, 16, 12, 12}, false, true), weight({16, 16, 3, 3}, false, true);
    const Array<float> output({1, 16, 10, 10}, false, false);
    try {
      const Conv2dPlan<float> plan(weight.view, nullptr, {}, allocator.handle());
      const std::int64_t made = allocator.live;
      try {
        plan(input.view, output.view, 1);
        CHECK(allocator.live > made);  // the packed weights
      } catch (const std::bad_alloc&) {
        allocator.left = 1 << 20;
        plan(input.view, output.view, 1);
      }
    } catch (const std::bad_alloc&) {
      CHECK(allowed < 3);
    }
    CHECK(allocator.live == 0);
  }
}

TEST_CASE("with a parallel_for hook no thread starts but the hook's, and the bits are the same") {
  const std::vector<Case> cases = all_cases();
  const std::int64_t before = threads_of_process();
  BackwardPool serial;
  ThreadPool threads;
  // It does nothing: the calling thread does everything.
  auto idle = [](std::int64_t, auto&&) {};
  // It fails before it has begun.
  auto broken = [](std::int64_t, auto&&) { throw std::runtime_error("no threads today"); };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    c.run(with_threads(1));
    const std::vector<char> expected = c.result();
    ExecutionContext context = with_threads(4);
    for (const ParallelFor& hook : {ParallelFor::through(serial), ParallelFor::through(threads),
                                    ParallelFor::through(idle), ParallelFor::through(broken)}) {
      context.parallel_for = hook;
      c.forget();
      c.run(context);
      CHECK(c.result() == expected);
      CHECK(threads_settle_at(before));
    }
  }
  CHECK(serial.calls > 0);
}

TEST_CASE("a task of the caller's pool may make calls of its own") {
  const Array<float> input({1, 16, 100, 100}, false, true), weight({16, 16, 3, 3}, false, true);
  const Array<float> output({1, 16, 98, 98}, false, false), inner({1, 16, 98, 98}, false, false);
  const Conv2dPlan<float> plan(weight.view, nullptr);
  int nested = 0;
  auto pool = [&](std::int64_t count, auto&& f) {
    plan(input.view, inner.view, 1);
    ++nested;
    for (std::int64_t i = 0; i < count; ++i) f(i);
  };
  ExecutionContext context = with_threads(2);
  context.parallel_for = ParallelFor::through(pool);
  std::vector<char> memory(plan.workspace_size(input.view, output.view, context));
  context.workspace = memory.data();
  context.workspace_bytes = memory.size();
  plan(input.view, output.view, context);
  CHECK(nested >= 1);
  CHECK(output.values == inner.values);
}

TEST_CASE("a context that contradicts itself is refused") {
  const Array<float> input({1, 1, 4, 4}, false, true), output({1, 1, 2, 2}, false, false);
  AvgPool2dParams params;
  params.kernel = {2, 2};
  ExecutionContext context;
  context.workspace_bytes = 100;
  CHECK_THROWS_WITH_AS(avg_pool2d<float>(input.view, output.view, params, context), doctest::Contains("workspace"),
                       std::invalid_argument);
  context = {};
  context.allocator.allocate = CountingAllocator().handle().allocate;
  CHECK_THROWS_WITH_AS(avg_pool2d<float>(input.view, output.view, params, context), doctest::Contains("allocator"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Conv2dPlan<float>(input.view, nullptr, {}, context.allocator), doctest::Contains("allocator"),
                       std::invalid_argument);
}

TEST_CASE("what is promised not to throw says so") {
  static_assert(noexcept(version()));
  static_assert(noexcept(get_num_threads()));
  static_assert(noexcept(TensorView<float>::nchw(nullptr, 1, 1, 1, 1)));
  static_assert(noexcept(Padding::same()));
  static_assert(noexcept(std::declval<const Conv2dPlan<float>&>().weight_shape()));
  static_assert(std::is_nothrow_move_constructible_v<Conv2dPlan<float>>);
  static_assert(std::is_nothrow_destructible_v<Conv2dPlan<double>>);
  CHECK(get_num_threads() >= 1);
}

TEST_CASE("a plan that measures does so in the caller's memory, and keeps what won alone") {
  const Array<float> input({1, 32, 28, 28}, false, true), weight({48, 32, 3, 3}, false, true);
  const std::vector<float> bias = random_values<float>(48);
  Array<float> output({1, 48, 28, 28}, false, false), expected({1, 48, 28, 28}, false, false);
  Conv2dParams params;
  params.padding = Padding::same();
  conv2d<float>(input.view, weight.view, bias.data(), expected.view, params);
  params.algorithm = Algorithm::benchmark;
  CountingAllocator memory;
  const Conv2dPlan<float> plan(weight.view, bias.data(), params, memory.handle());
  const std::int64_t bare = memory.live_bytes;

  ExecutionContext context;
  context.num_threads = 2;
  const auto in = nowhere(input.view);
  const auto out = nowhere_to_write(output.view);
  CHECK(plan.describe(in, out, context).timings.empty());
  const std::size_t bytes = plan.workspace_size(in, out, context);
  CHECK(bytes >= plan.describe(in, out, context).workspace_bytes);
  const std::int64_t all_forms = memory.live_bytes;
  std::vector<char> workspace(bytes);
  context.workspace = workspace.data();
  context.workspace_bytes = bytes;
  CountingAllocator scratch;
  context.allocator = scratch.handle();
  BackwardPool pool;
  context.parallel_for = ParallelFor::through(pool);

  std::int64_t before = allocations.load();
  const std::int64_t plan_calls = memory.calls;
  plan(input.view, output.view, context);
  CHECK(allocations.load() == before);
  CHECK(memory.calls == plan_calls);
  CHECK(scratch.calls == 0);
  CHECK(pool.calls > 1);
  CHECK(memory.live_bytes <= all_forms);
  for (std::size_t i = 0; i < output.values.size(); ++i) {
    CHECK(std::abs(output.values[i] - expected.values[i]) < 1e-3F);
  }

  const Conv2dDescription description = plan.describe(in, out, context);
  CHECK(description.timings.size() >= 3);
  CHECK(description.text().find("measured: ") != std::string::npos);
  CHECK(memory.live_bytes <= bare + static_cast<std::int64_t>(description.packed_weight_bytes) + 64);
  const std::vector<float> first = output.values;
  before = allocations.load();
  plan(input.view, output.view, context);
  CHECK(allocations.load() == before);
  CHECK(first == output.values);
  CHECK(plan.workspace_size(in, out, context) <= bytes);
}

TEST_CASE("a plan that measures gets along with memory that runs out") {
  const Array<float> input({1, 24, 20, 20}, false, true), weight({40, 24, 3, 3}, false, true);
  Array<float> output({1, 40, 18, 18}, false, false), expected({1, 40, 18, 18}, false, false);
  conv2d<float>(input.view, weight.view, nullptr, expected.view);
  Conv2dParams params;
  params.algorithm = Algorithm::benchmark;
  for (std::int64_t left = 0; left < 12; ++left) {
    CountingAllocator memory, scratch;
    {
      const Conv2dPlan<float> plan(weight.view, nullptr, params, memory.handle());
      memory.left = left;
      ExecutionContext context;
      context.num_threads = 1;
      scratch.left = left;
      context.allocator = scratch.handle();
      try {
        plan(input.view, output.view, context);
      } catch (const std::bad_alloc&) {
      }
      CHECK(scratch.live == 0);
      memory.left = scratch.left = std::int64_t{1} << 60;
      plan(input.view, output.view, context);
      for (std::size_t i = 0; i < output.values.size(); ++i) {
        CHECK(std::abs(output.values[i] - expected.values[i]) < 1e-3F);
      }
    }
    CHECK(memory.live == 0);
  }
}
