#pragma once

// Windows of any size as reductions of whole rows: of shifted rows, and of a row's blocks from their start and to their
// end (van Herk and Gil-Werman), three steps for an element whatever the window's size.

#include "pool_items.hpp"

namespace convpool::kernels {
namespace {

template <class Op, int V, class Load, class Offset>
CONVPOOL_INLINE void reduce_taps(typename Op::Item (&acc)[V], ptrdiff_t taps, Offset&& offset, Load&& load_at) {
  unroll<V>([&](auto v) { acc[v] = load_at(offset(0), v); });
  for (ptrdiff_t t = 1; t < taps; ++t) {
    const ptrdiff_t tap = offset(t);
    unroll<V>([&](auto v) { acc[v] = Op::combine(acc[v], load_at(tap, v)); });
  }
}

template <class Op>
CONVPOOL_KERNEL void reduce(const ReduceArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  using Item = typename Op::Item;
  constexpr int L = lanes<T>;
  const RowDivisor<Op> divisor(a.divisor, a.divisor.row_count);
  const auto offset = [&](ptrdiff_t t) { return a.offset[t]; };
  for (ptrdiff_t r = 0; r < a.rows; ++r) {
    const T* in = a.in + r * a.in_row;
    const auto* in_at = Op::indexed ? a.in_at + r * a.in_row : nullptr;
    T* out = a.out + r * a.out_row;
    auto* out_at = Op::indexed && a.out_at != nullptr ? a.out_at + r * a.out_row : nullptr;
    auto* out_wide = Op::indexed && a.out_wide != nullptr ? a.out_wide + r * a.out_row : nullptr;
    const bool stream = passes_caches<Op> && a.stream && starts_line<Op>(out, out_wide);
    [[maybe_unused]] const std::int64_t at_add = a.at_add + r * a.at_add_row;
    const auto finish = [&](const Item& item, ptrdiff_t x, ptrdiff_t left, bool streamed) CONVPOOL_INLINED {
      store_result<Op>(item, divisor, out, out_at, out_wide, at_add, x, left, streamed);
    };
    ptrdiff_t x = 0;
    for (; x + 4 * L <= a.columns; x += 4 * L) {
      Item acc[4];
      reduce_taps<Op, 4>(acc, a.taps, offset,
                         [&](ptrdiff_t tap, auto v) { return load_item<Op>(in, in_at, x + tap + v * L); });
      if (stream) {  // asked once for all four
        unroll<4>([&](auto v) { finish(acc[v], x + v * L, L, true); });
      } else {
        unroll<4>([&](auto v) { finish(acc[v], x + v * L, L, false); });
      }
    }
    for (; x < a.columns; x += L) {
      // The last vector overlaps what is done already: cheaper than a part of a vector.
      if (a.columns - x < L && x > 0) x = a.columns - L;
      const ptrdiff_t left = a.columns - x;
      Item acc[1];
      if (left >= L) {
        reduce_taps<Op, 1>(acc, a.taps, offset, [&](ptrdiff_t tap, auto) { return load_item<Op>(in, in_at, x + tap); });
      } else {
        reduce_taps<Op, 1>(acc, a.taps, offset,
                           [&](ptrdiff_t tap, auto) { return load_first_of_item<Op>(in, in_at, tap, left); });
      }
      finish(acc[0], x, left, stream && x % L == 0);
    }
  }
}

/// Lane i is element lanes[i] of a followed by b.
template <class Op>
CONVPOOL_INLINE typename Op::Item shifted_item(const typename Op::Item& a, const typename Op::Item& b,
                                               Vec<typename IndexOf<typename Op::Element>::type> lanes) {
  if constexpr (Op::indexed) {
    return {__builtin_shuffle(a.value, b.value, lanes), __builtin_shuffle(a.at, b.at, lanes)};
  } else {
    return __builtin_shuffle(a, b, lanes);
  }
}

/// What changes neither a maximum nor a sum.
template <class Op>
CONVPOOL_INLINE Vec<typename Op::Element> padding() {
  return broadcast(Op::divided ? typename Op::Element(0) : lowest<typename Op::Element>);
}

/// How far ahead of its use a row is fetched.
inline constexpr ptrdiff_t far_of_slide = 4096;

/// Levels of windows that double: the next level of a vector comes from two neighbours of the level below, so each
/// level runs one vector behind. Windows of a maximum may overlap; to those of a sum a single element is added where
/// the number of taps has a one, which without Singles is the first alone.
template <class Op, int Levels, bool Singles>
CONVPOOL_INLINE void slide_levels(const SlideArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  using Item = typename Op::Item;
  using Index = typename IndexOf<T>::type;
  constexpr ptrdiff_t L = lanes<T>;
  Vec<Index> lane;
  for (int i = 0; i < L; ++i) lane[i] = static_cast<Index>(i);
  Vec<Index> distance[Levels + 1], single[Levels + 1];
  bool has_single[Levels + 1];
  ptrdiff_t taps = 1;
  unroll<Levels>([&](auto l) {
    // A sum's taps come from their binary digits, a maximum's double until they would be too many.
    const ptrdiff_t next = Op::divided ? a.taps >> (Levels - 1 - l) : 2 * taps < a.taps ? 2 * taps : a.taps;
    distance[l] = lane + static_cast<Index>(Op::divided ? taps : next - taps);
    single[l] = lane + static_cast<Index>(2 * taps);
    has_single[l] = Singles && next > 2 * taps;
    taps = next;
  });
  // Copies: for all that is known of vectors they may be stores to the arguments.
  const ptrdiff_t vectors = (a.columns + L - 1) / L, lead = a.lead, in_columns = a.in_columns;
  const T* in = a.in;
  T* out = a.out;
  auto* out_at = a.out_at;
  const auto* const in_at = a.in_at;
  const auto load_line = [&](ptrdiff_t x) CONVPOOL_INLINED {
    const ptrdiff_t from = x - lead;
    if (from >= 0 && from + L <= in_columns) {
      // The rows after this one are wanted next.
      __builtin_prefetch(in + from + far_of_slide / ptrdiff_t{sizeof(T)});
      return load(in + from);
    }
    const ptrdiff_t begin = from >= 0 ? 0 : -from < L ? -from : L;
    const ptrdiff_t end = in_columns <= from ? 0 : in_columns - from < L ? in_columns - from : L;
    return begin < end ? load_between(in + from, begin, end, padding<Op>()) : padding<Op>();
  };
  for (ptrdiff_t r = 0; r < a.rows; ++r) {
    Item level[Levels + 1]{}, raw[Levels + 1]{};
    for (ptrdiff_t n = 0; n < vectors + Levels; ++n) {
      Item item;
      if constexpr (Op::indexed) {
        item = {load_line(n * L), load(in_at + n * L)};
      } else {
        item = load_line(n * L);
      }
      if constexpr (Singles) {
        unroll<Levels>([&](auto l) { raw[Levels - l] = raw[Levels - l - 1]; });
        raw[0] = item;
      }
      unroll<Levels>([&](auto l) {
        const Item before = level[l];
        level[l] = item;
        item = Op::combine(before, shifted_item<Op>(before, item, distance[l]));
        if constexpr (Singles) {
          if (has_single[l]) item = Op::combine(item, shifted_item<Op>(raw[l + 1], raw[l], single[l]));
        }
      });
      if (n < Levels) continue;
      if constexpr (Op::indexed) item.at += static_cast<Index>(a.at_add + r * a.at_add_row);
      store_item<Op>(item, out, out_at, (n - Levels) * L);
    }
    in += a.in_row;
    out += a.out_row;
    if constexpr (Op::indexed) out_at += a.out_row;
  }
}

template <class Op>
CONVPOOL_KERNEL void slide(const SlideArguments<typename Op::Element>& a) {
  static_assert(lanes<typename Op::Element> <= 1 << max_slide_levels);
  // A sum's levels are the digits of its taps after the first.
  const ptrdiff_t last = Op::divided ? a.taps : a.taps - 1;
  const int digits = last == 0 ? 0 : 64 - __builtin_clzll(static_cast<unsigned long long>(last));
  const auto with = [&](auto singles) {
    constexpr bool Singles = decltype(singles)::value != 0;
    switch (Op::divided ? digits - 1 : digits) {
      case 0:
        return slide_levels<Op, 0, Singles>(a);
      case 1:
        return slide_levels<Op, 1, Singles>(a);
      case 2:
        return slide_levels<Op, 2, Singles>(a);
      case 3:
        return slide_levels<Op, 3, Singles>(a);
      default:
        return slide_levels<Op, 4, Singles>(a);
    }
  };
  if constexpr (Op::divided) {
    if ((a.taps & (a.taps - 1)) != 0) return with(Constant<1>{});
  }
  with(Constant<0>{});
}

/// body(x, V) for runs of V vectors, four where they fit; the last one may reach past the columns.
template <class T, class Body>
CONVPOOL_INLINE void over_strips(ptrdiff_t columns, Body&& body) {
  constexpr int L = lanes<T>;
  ptrdiff_t x = 0;
  for (; x + 4 * L <= columns; x += 4 * L) body(x, Constant<4>{});
  for (; x < columns; x += L) body(x, Constant<1>{});
}

template <class Op>
CONVPOOL_KERNEL void suffix_rows(const SuffixArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  constexpr int L = lanes<T>;
  over_strips<T>(a.columns, [&](ptrdiff_t strip, auto vectors) {
    constexpr int V = decltype(vectors)::value;
    typename Op::Item acc[V];
    ptrdiff_t x = strip + (a.count - 1) * a.pitch;
    unroll<V>([&](auto v) { acc[v] = load_item<Op>(a.rows, a.at, x + v * L); });
    for (ptrdiff_t i = a.count - 2; i >= 0; --i) {
      x -= a.pitch;
      unroll<V>([&](auto v) {
        acc[v] = Op::combine(load_item<Op>(a.rows, a.at, x + v * L), acc[v]);
        store_item<Op>(acc[v], a.rows, a.at, x + v * L);
      });
    }
  });
}

template <class Op>
CONVPOOL_KERNEL void prefix_rows(const PrefixArguments<typename Op::Element>& a) {
  using T = typename Op::Element;
  using Index = typename IndexOf<T>::type;
  constexpr int L = lanes<T>;
  constexpr ptrdiff_t ahead = 6;  // rows: a strip stores down the columns, which nothing else foresees
  over_strips<T>(a.columns, [&](ptrdiff_t strip, auto vectors) {
    constexpr int V = decltype(vectors)::value;
    typename Op::Item acc[V];
    const auto load_row = [&](ptrdiff_t i, auto v)
                              CONVPOOL_INLINED { return load_item<Op>(a.rows, a.at, strip + i * a.pitch + v * L); };
    const auto finish_row = [&](ptrdiff_t i) CONVPOOL_INLINED {
      if (a.out[i] == nullptr) return;
      if (a.out_row != 0) {
        unroll<V>([&](auto v) { __builtin_prefetch(a.out[i] + ahead * a.out_row + strip + v * L, 1); });
      }
      const RowDivisor<Op> divisor(a.divisor, a.row_count == nullptr ? T(1) : a.row_count[i]);
      std::int64_t* const wide = Op::indexed ? a.out_wide[i] : nullptr;
      const bool alone = i + 1 >= a.suffix_count;
      const ptrdiff_t after = strip + (i + 1) * a.pitch;
      const bool stream = passes_caches<Op> && a.stream && starts_line<Op>(a.out[i], wide);
      const auto finish = [&](bool streamed) CONVPOOL_INLINED {
        unroll<V>([&](auto v) {
          const auto item = alone ? acc[v] : Op::combine(load_item<Op>(a.suffix, a.suffix_at, after + v * L), acc[v]);
          store_result<Op>(item, divisor, a.out[i], static_cast<Index*>(nullptr), wide, 0, strip + v * L,
                           V > 1 ? L : a.columns - strip, streamed);
        });
      };
      stream ? finish(true) : finish(false);
    };
    unroll<V>([&](auto v) {
      acc[v] = load_row(0, v);
      if (a.continues) acc[v] = Op::combine(load_item<Op>(a.prefix, a.prefix_at, strip + v * L), acc[v]);
    });
    for (ptrdiff_t i = 0;;) {
      finish_row(i);
      if (++i == a.count) break;
      unroll<V>([&](auto v) { acc[v] = Op::combine(acc[v], load_row(i, v)); });
    }
    if (a.prefix != nullptr) {
      unroll<V>([&](auto v) { store_item<Op>(acc[v], a.prefix, a.prefix_at, strip + v * L); });
    }
  });
}

}  // namespace
}  // namespace convpool::kernels
