#pragma once

// Rows made ready for vectors: with their padding around them, or taken apart by a stride so that neighbouring results
// read neighbouring elements.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// Whether a shuffle of two vectors is cheap only within their halves (AVX2): every second element in order then costs
/// three times what it does in the order that such a shuffle gives.
template <class T>
inline constexpr bool shuffles_within_halves = sizeof(Vec<T>) == 32;

template <class T, int Odd>
constexpr int second_within_half(int lane) {
  constexpr int H = lanes<T> / 2;
  const int half = lane / H, place = lane % H;
  return half * H + (place < H / 2 ? 2 * place : lanes<T> + 2 * (place - H / 2)) + Odd;
}

template <class T>
constexpr int place_of_quarter(int lane) {
  constexpr int Q = lanes<T> / 4 > 0 ? lanes<T> / 4 : 1;
  const int quarter = lane / Q;
  return (quarter == 1 ? 2 : quarter == 2 ? 1 : quarter) * Q + lane % Q;
}

/// Every second element of a followed by b, from the first or second on, in an order that in_order() mends.
template <class T, int Odd, int... I>
CONVPOOL_INLINE Vec<T> every_second_unordered(Vec<T> a, Vec<T> b, Indices<I...>) {
  if constexpr (shuffles_within_halves<T>) return __builtin_shufflevector(a, b, second_within_half<T, Odd>(I)...);
  return __builtin_shufflevector(a, b, (2 * I + Odd)...);
}

template <class T, int... I>
CONVPOOL_INLINE Vec<T> in_order(Vec<T> v, Indices<I...>) {
  if constexpr (shuffles_within_halves<T>) return __builtin_shufflevector(v, v, place_of_quarter<T>(I)...);
  return v;
}

template <class T, int Odd, int... I>
CONVPOOL_INLINE Vec<T> every_second(Vec<T> a, Vec<T> b, Indices<I...> all) {
  return in_order<T>(every_second_unordered<T, Odd>(a, b, all), all);
}

/// One vector of a padded row, from position `at` on: in[at - lead + i] where that lies inside the row, else fill.
template <class T>
CONVPOOL_INLINE Vec<T> load_padded(const T* in, ptrdiff_t at, const SplitArguments<T>& s) {
  constexpr int L = lanes<T>;
  const ptrdiff_t first = at - s.lead;
  if (first >= 0 && first + L <= s.columns) return load(in + first);
  const ptrdiff_t begin = first >= 0 ? 0 : -first < L ? -first : L;
  const ptrdiff_t end = s.columns - first < 0 ? 0 : s.columns - first < L ? s.columns - first : L;
  return load_between(in + first, begin, end, broadcast(s.fill));
}

/// The lower (Upper 0) or upper halves of two vectors.
template <class T, int Upper, int... I>
CONVPOOL_INLINE Vec<T> halves(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int H = lanes<T> / 2;
  return __builtin_shufflevector(a, b, (Upper * H + (I < H ? I : I + H))...);
}

/// One vector of each phase; load_vector(i) has the elements from i on. Where shuffles stay within halves, those are
/// brought together first, so that all phases come out in order.
template <class T, int Stride, class F>
CONVPOOL_INLINE void split_vectors(F&& load_vector, T* out, ptrdiff_t pitch) {
  constexpr int L = lanes<T>;
  using All = typename MakeIndices<L>::type;
  const auto both = [&](ptrdiff_t i, ptrdiff_t j, auto&& f) CONVPOOL_INLINED {
    const Vec<T> a = load_vector(i), b = load_vector(j);
    if constexpr (shuffles_within_halves<T>) {
      f(halves<T, 0>(a, b, All{}), halves<T, 1>(a, b, All{}));
    } else {
      f(a, b);
    }
  };
  const auto even = [](Vec<T> a, Vec<T> b) CONVPOOL_INLINED { return every_second_unordered<T, 0>(a, b, All{}); };
  const auto odd = [](Vec<T> a, Vec<T> b) CONVPOOL_INLINED { return every_second_unordered<T, 1>(a, b, All{}); };
  if constexpr (Stride == 2) {
    both(0, L, [&](Vec<T> a, Vec<T> b) CONVPOOL_INLINED {
      store(out, even(a, b));
      store(out + pitch, odd(a, b));
    });
  } else {
    constexpr ptrdiff_t second = shuffles_within_halves<T> ? 2 * L : L;
    both(0, second, [&](Vec<T> a, Vec<T> b) CONVPOOL_INLINED {
      both(3 * L - second, 3 * L, [&](Vec<T> c, Vec<T> d) CONVPOOL_INLINED {
        store(out, even(even(a, b), even(c, d)));
        store(out + pitch, even(odd(a, b), odd(c, d)));
        store(out + 2 * pitch, odd(even(a, b), even(c, d)));
        store(out + 3 * pitch, odd(odd(a, b), odd(c, d)));
      });
    });
  }
}

/// A row of which every phase has a whole vector inside: those are read as they lie, the last ones over again, so that
/// neither end needs vectors of its own. Before them vectors of `fill` are written over both ends.
template <class T, int Stride>
CONVPOOL_INLINE void split_long_row(const T* in, const SplitArguments<T>& s, T* out) {
  constexpr int L = lanes<T>, step = Stride * L;
  // The rows behind this one come next.
  constexpr ptrdiff_t ahead = 2048 / ptrdiff_t{sizeof(T)}, line = cache_line / ptrdiff_t{sizeof(T)};
  const ptrdiff_t lead = s.lead, pitch = s.phase_pitch, end = lead + s.columns;
  const ptrdiff_t first = (lead + Stride - 1) / Stride * Stride, last = (end - step) / Stride * Stride;
  const Vec<T> fill = broadcast(s.fill);
  unroll<Stride>([&](auto p) {
    T* const phase = out + p * pitch;
    for (ptrdiff_t i = 0; i < first / Stride; i += L) store(phase + i, fill);
    for (ptrdiff_t i = (s.total + Stride - 1) / Stride; i > end / Stride; i -= L) store(phase + i - L, fill);
  });
  const auto split = [&](const T* from, T* to) CONVPOOL_INLINED {
    unroll<(step - 1) / line + 1>([&](auto l) { __builtin_prefetch(from + ahead + l * line); });
    split_vectors<T, Stride>([&](ptrdiff_t i) CONVPOOL_INLINED { return load(from + i); }, to, pitch);
  };
  const T* from = in + first - lead;
  T* to = out + first / Stride;
  for (ptrdiff_t n = (last - first + step - 1) / step; n > 0; --n) {
    split(from, to);
    from = step_by_step(from + step);
    to = step_by_step(to + L);
  }
  split(in + last - lead, out + last / Stride);
  const auto copy = [&](ptrdiff_t x, ptrdiff_t until) {
    for (; x < until; ++x) out[x % Stride * pitch + x / Stride] = in[x - lead];
  };
  copy(lead, first);
  copy(last + step, end);
}

template <class T, int Stride>
CONVPOOL_INLINE void split_row(const T* in, const SplitArguments<T>& s, T* out) {
  constexpr int L = lanes<T>, step = Stride * L;
  const ptrdiff_t first = (s.lead + Stride - 1) / Stride * Stride;
  if (first + step <= s.lead + s.columns && s.lead + s.columns <= s.total) return split_long_row<T, Stride>(in, s, out);
  for (ptrdiff_t x = 0; x < s.total; x += step, out += L) {
    split_vectors<T, Stride>([&](ptrdiff_t i) CONVPOOL_INLINED { return load_padded(in, x + i, s); }, out,
                             s.phase_pitch);
  }
}

template <class T>
CONVPOOL_KERNEL void split_phases(const SplitArguments<T>& s) {
  for (ptrdiff_t r = 0; r < s.rows; ++r) {
    const T* in = s.in + r * s.in_row;
    T* out = s.out + r * s.out_row;
    if (s.stride == 2) {
      split_row<T, 2>(in, s, out);
      continue;
    }
    if (s.stride == 4) {
      split_row<T, 4>(in, s, out);
      continue;
    }
    for (ptrdiff_t p = 0; p < s.stride; ++p) {
      for (ptrdiff_t i = 0, y = p - s.lead; y < s.total - s.lead; ++i, y += s.stride) {
        out[p * s.phase_pitch + i] = y >= 0 && y < s.columns ? in[y] : s.fill;
      }
    }
  }
}

template <class T>
CONVPOOL_INLINE void fill_run(T value, ptrdiff_t n, T* to) {
  constexpr int L = lanes<T>;
  if (n >= L) {
    for (ptrdiff_t x = 0; x + L <= n; x += L) store(to + x, broadcast(value));
    store(to + n - L, broadcast(value));
  } else {
    for (ptrdiff_t x = 0; x < n; ++x) to[x] = value;
  }
}

/// Rows of whole vectors without padding: of pixels, the channels that are wanted.
template <class T>
CONVPOOL_INLINE void copy_vectors(const PadArguments<T>& p, ptrdiff_t columns, ptrdiff_t ahead) {
  constexpr int L = lanes<T>;
  const T* in = p.in;
  T* out = p.out;
  if (p.stream && reinterpret_cast<std::uintptr_t>(out) % cache_line == 0 &&
      columns * ptrdiff_t{sizeof(T)} % cache_line == 0 && p.out_row * ptrdiff_t{sizeof(T)} % cache_line == 0) {
    for (ptrdiff_t r = 0; r < p.rows; ++r, in += p.in_row, out += p.out_row) {
      for (ptrdiff_t x = 0; x < columns; x += L) store_streaming(out + x, load(in + x));
    }
    return;
  }
  for (ptrdiff_t r = 0; r < p.rows; ++r, in += p.in_row, out += p.out_row) {
    for (ptrdiff_t x = 0; x < columns; x += L) {
      if (sizeof(Vec<T>) == cache_line || x * ptrdiff_t{sizeof(T)} % cache_line == 0)
        __builtin_prefetch(in + x + ahead);
      store(out + x, load(in + x));
    }
  }
}

template <class T>
CONVPOOL_KERNEL void pad_rows(const PadArguments<T>& p) {
  constexpr int L = lanes<T>;
  const ptrdiff_t after = p.lead + p.columns;
  // The rows after this one are wanted next. The copy alone would wait for them: a fifth of the time of 51x51 windows.
  constexpr ptrdiff_t distance = 4096 / ptrdiff_t{sizeof(T)};
  if (p.columns % L == 0 && p.total == p.columns) {
    // Winograd's tiles take one vector of each pixel.
    return p.columns == L ? copy_vectors(p, L, distance) : copy_vectors(p, p.columns, distance);
  }
  for (ptrdiff_t r = 0; r < p.rows; ++r) {
    T* out = p.out + r * p.out_row;
    const T* const in = p.in + r * p.in_row;
    for (ptrdiff_t x = 0; x < p.columns; x += 64 / ptrdiff_t{sizeof(T)}) __builtin_prefetch(in + x + distance);
    fill_run(p.fill, p.lead, out);
    copy_run(in, p.columns, out + p.lead);
    fill_run(p.fill, p.total - after, out + after);
  }
}

}  // namespace
}  // namespace convpool::kernels
