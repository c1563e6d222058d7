#pragma once

// Sliding-window reductions along one axis, and the maximum with its index.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// The larger of the two; a NaN in either wins.
template <class T>
CONVPOOL_INLINE Vec<T> maximum(Vec<T> running, Vec<T> x) {
  const Vec<T> larger = x > running ? x : running;  // keeps a NaN that `running` holds
  return x != x ? x : larger;
}

template <class T, Reduction Op>
CONVPOOL_INLINE Vec<T> combine(Vec<T> running, Vec<T> x) {
  if constexpr (Op == Reduction::max) {
    return maximum<T>(running, x);
  } else {
    return running + x;
  }
}

/// x / divisor. A division takes 10 to 24 cycles; with a fused multiply-add, one correction of x * reciprocal rounds as
/// it does wherever nothing over- or underflows. What isn't finite needs no correction.
template <class T>
CONVPOOL_INLINE Vec<T> divide(Vec<T> x, Vec<T> divisor, [[maybe_unused]] Vec<T> reciprocal) {
#if defined(__FMA__) || defined(CONVPOOL_ISA_NEON)
  const Vec<T> quotient = x * reciprocal;
  const Vec<T> remainder = x - quotient * divisor;
  return remainder == remainder ? quotient + remainder * reciprocal : quotient;
#else
  return x / divisor;
#endif
}

template <class T, Reduction Op, int V>
CONVPOOL_INLINE void reduce_vectors(const T* in, const ReduceArguments<T>& a, T* out, ptrdiff_t x) {
  constexpr int L = lanes<T>;
  Vec<T> acc[V];
  unroll<V>([&](auto v) { acc[v] = load(in + x + a.offset[0] + v * L); });
  for (ptrdiff_t t = 1; t < a.taps; ++t) {
    const T* p = in + x + a.offset[t];
    unroll<V>([&](auto v) { acc[v] = combine<T, Op>(acc[v], load(p + v * L)); });
  }
  if (a.divisor != nullptr) {
    unroll<V>([&](auto v) { acc[v] = divide<T>(acc[v], load(a.divisor + x + v * L), load(a.reciprocal + x + v * L)); });
  }
  unroll<V>([&](auto v) { store(out + x + v * L, acc[v]); });
}

template <class T, Reduction Op>
void reduce_tail(const T* in, const ReduceArguments<T>& a, T* out, ptrdiff_t x, ptrdiff_t left) {
  Vec<T> acc = load_first(in + x + a.offset[0], left);
  for (ptrdiff_t t = 1; t < a.taps; ++t) acc = combine<T, Op>(acc, load_first(in + x + a.offset[t], left));
  if (a.divisor != nullptr) acc = divide<T>(acc, load_first(a.divisor + x, left), load_first(a.reciprocal + x, left));
  store_first<T>(out + x, acc, left);
}

template <class T, Reduction Op>
CONVPOOL_KERNEL void reduce_rows(const ReduceArguments<T>& a) {
  constexpr int L = lanes<T>;
  for (ptrdiff_t r = 0; r < a.rows; ++r) {
    const T* in = a.in + r * a.in_row;
    T* out = a.out + r * a.out_row;
    ptrdiff_t x = 0;
    for (; x + 4 * L <= a.columns; x += 4 * L) reduce_vectors<T, Op, 4>(in, a, out, x);
    for (; x + L <= a.columns; x += L) reduce_vectors<T, Op, 1>(in, a, out, x);
    const ptrdiff_t left = a.columns - x;
    if (left == 0) continue;
    if (x > 0) {
      // The last whole vector again, shifted back over what is done already: cheaper than a masked one.
      reduce_vectors<T, Op, 1>(in, a, out, a.columns - L);
    } else {
      reduce_tail<T, Op>(in, a, out, x, left);
    }
  }
}

template <class T>
void reduce(Reduction op, const ReduceArguments<T>& a) {
  if (op == Reduction::max) {
    reduce_rows<T, Reduction::max>(a);
  } else {
    reduce_rows<T, Reduction::sum>(a);
  }
}

template <class T, int Distance, int... I>
CONVPOOL_INLINE Vec<T> rotated(Vec<T> v, Indices<I...>) {
  return __builtin_shufflevector(v, v, ((I + Distance) % lanes<T>)...);
}

/// All lanes of a vector reduced into each of them, halving the distance.
template <class T, Reduction Op, int Distance = lanes<T> / 2>
CONVPOOL_INLINE Vec<T> reduce_lanes(Vec<T> v) {
  if constexpr (Distance == 0) {
    return v;
  } else {
    const Vec<T> other = rotated<T, Distance>(v, typename MakeIndices<lanes<T>>::type{});
    return reduce_lanes<T, Op, Distance / 2>(combine<T, Op>(v, other));
  }
}

template <class T, Reduction Op>
CONVPOOL_KERNEL void reduce_runs(const ReduceRunArguments<T>& a) {
  constexpr int L = lanes<T>;
  const Vec<T> identity = broadcast(Op == Reduction::max ? -T(__builtin_inf()) : T(0));
  // The last, partial vector: the whole vector that ends with the run, its lanes before the partial one masked out.
  const ptrdiff_t whole = a.count / L * L, left = a.count - whole;
  typedef typename IndexOf<T>::type LaneVec __attribute__((vector_size(CONVPOOL_VECTOR_BYTES)));
  LaneVec lane;
  for (int i = 0; i < L; ++i) lane[i] = i;
  const auto in_last = lane >= typename IndexOf<T>::type(L - left);
  for (ptrdiff_t r = 0; r < a.rows; ++r) {
    const T* in = a.in + r * a.in_row;
    Vec<T> acc = identity;
    for (ptrdiff_t x = 0; x < whole; x += L) acc = combine<T, Op>(acc, load(in + x));
    if (left > 0 && whole > 0) {
      const Vec<T> last = load(in + a.count - L);
      acc = combine<T, Op>(acc, in_last ? last : identity);
    }
    T result = reduce_lanes<T, Op>(acc)[0];
    if (whole == 0) {
      result = in[0];
      for (ptrdiff_t x = 1; x < left; ++x) {
        if constexpr (Op == Reduction::max) {
          result = in[x] > result || in[x] != in[x] ? in[x] : result;
        } else {
          result += in[x];
        }
      }
    }
    if constexpr (Op == Reduction::sum) result /= a.divisor;
    a.out[r * a.out_step] = result;
  }
}

template <class T>
void reduce_run(Reduction op, const ReduceRunArguments<T>& a) {
  if (op == Reduction::max) {
    reduce_runs<T, Reduction::max>(a);
  } else {
    reduce_runs<T, Reduction::sum>(a);
  }
}

template <class T>
CONVPOOL_KERNEL void max_index(const MaxIndexArguments<T>& a) {
  constexpr int L = lanes<T>;
  using Index = typename IndexOf<T>::type;
  typedef Index IndexVec __attribute__((vector_size(CONVPOOL_VECTOR_BYTES)));
  IndexVec ramp;
  for (int i = 0; i < L; ++i) ramp[i] = Index(i);
  ramp *= a.index_step;
  for (ptrdiff_t x = 0; x < a.columns; x += L) {
    const ptrdiff_t left = a.columns - x;
    Vec<T> best = broadcast(-T(__builtin_inf()));
    IndexVec index = IndexVec{} + a.first_index;
    if (a.first_index_of != nullptr) {
      for (int i = 0; i < L && i < left; ++i) index[i] += a.first_index_of[x + i];
    }
    const IndexVec position = ramp + Index(x) * a.index_step;
    for (ptrdiff_t t = 0; t < a.taps; ++t) {
      const T* p = a.in + a.offset[t] + x;
      const Vec<T> value = left >= L ? load(p) : load_first(p, left);
      const auto better = (value > best) | (value != value);
      best = better ? value : best;
      index = better ? position + a.tap_index[t] : index;
    }
    alignas(vector_alignment) Index stage[L];
    __builtin_memcpy(stage, &index, sizeof stage);
    if (left >= L) {
      store(a.out + x, best);
      for (int i = 0; i < L; ++i) a.indices[x + i] = stage[i];
    } else {
      store_first<T>(a.out + x, best, left);
      for (ptrdiff_t i = 0; i < left; ++i) a.indices[x + i] = stage[i];
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
