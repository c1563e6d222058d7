#pragma once

// Transposition in registers: a square of lanes x lanes elements at a time; vectors of 64 bytes a piece of 16 bytes of
// as many rows as they have lanes. Pieces are loaded to where they belong, which two ports do, while one alone shuffles
// across 16 bytes, and any width from 16 bytes on goes without masks: 1.2 to 1.4 times as fast, planes of 7 to 14
// columns 1.5 to 6 times (AVX-512, Emerald Rapids; with AVX2 squares are faster).

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// Blocks of D elements: of a and b the even ones (Half 0) or the odd ones (Half 1), in turn.
template <class T, int D, int Half, int... I>
CONVPOOL_INLINE Vec<T> blocks_in_turn(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int L = lanes<T>;
  return __builtin_shufflevector(a, b, (I / D % 2 == 0 ? I + Half * D : L + I - D + Half * D)...);
}

/// Swaps the blocks of D x D elements that lie across the diagonal of each block of 2D x 2D.
template <class T, int D>
CONVPOOL_INLINE void transpose_blocks(Vec<T> (&rows)[lanes<T>]) {
  constexpr int L = lanes<T>;
  using All = typename MakeIndices<L>::type;
  if constexpr (D < L) {
    unroll<L>([&](auto i) {
      if constexpr ((i & D) == 0) {
        const Vec<T> a = rows[i], b = rows[i + D];
        rows[i] = blocks_in_turn<T, D, 0>(a, b, All{});
        rows[i + D] = blocks_in_turn<T, D, 1>(a, b, All{});
      }
    });
  }
}

/// Large blocks first: the last passes stay within 16 bytes, which are the cheaper shuffles.
template <class T>
CONVPOOL_INLINE void transpose_square(Vec<T> (&rows)[lanes<T>]) {
  static_assert(lanes<T> <= 16);
  transpose_blocks<T, 8>(rows);
  transpose_blocks<T, 4>(rows);
  transpose_blocks<T, 2>(rows);
  transpose_blocks<T, 1>(rows);
}

/// Elements of the 16 bytes within which shuffles are cheap.
template <class T>
inline constexpr int piece = 16 / int(sizeof(T));

/// Of each piece of a and b the lower (Half 0) or upper (Half 1) halves, element by element in turn.
template <class T, int Half, int... I>
CONVPOOL_INLINE Vec<T> interleave_pieces(Vec<T> a, Vec<T> b, Indices<I...>) {
  constexpr int E = piece<T>;
  return __builtin_shufflevector(a, b, (I % 2 * lanes<T> + I / E * E + Half * (E / 2) + I % E / 2)...);
}

/// Of E vectors of pieces of E elements, each square of pieces.
template <class T, int Stages = piece<T>>
CONVPOOL_INLINE void transpose_pieces(Vec<T> (&rows)[piece<T>]) {
  if constexpr (Stages > 1) {
    constexpr int H = piece<T> / 2;
    using All = typename MakeIndices<lanes<T>>::type;
    Vec<T> next[piece<T>];
    unroll<H>([&](auto i) {
      next[2 * i] = interleave_pieces<T, 0>(rows[i], rows[i + H], All{});
      next[2 * i + 1] = interleave_pieces<T, 1>(rows[i], rows[i + H], All{});
    });
    unroll<piece<T>>([&](auto i) { rows[i] = next[i]; });
    transpose_pieces<T, Stages / 2>(rows);
  }
}

/// A piece's columns of as many rows as a vector has lanes: column i, from `first` on, to put(i, vector). Row r begins
/// at(r).
template <class T, class At, class Put>
CONVPOOL_INLINE void transpose_columns(At&& at, ptrdiff_t first, Put&& put) {
  constexpr int E = piece<T>;
  Vec<T> columns[E];
  unroll<E>(
      [&](auto i) { columns[i] = load_pieces<T>([&](auto n) CONVPOOL_INLINED { return at(Constant<n * E + i>{}); }); });
  transpose_pieces<T>(columns);
  unroll<E>([&](auto i) {
    if (i >= first) put(i, columns[i]);
  });
}

/// f(x, first) for pieces of `width` >= piece<T> columns; the last one may lie over the one before it, and counts from
/// column `first` on.
template <class T, class F>
CONVPOOL_INLINE void for_each_piece(ptrdiff_t width, F&& f) {
  constexpr ptrdiff_t E = piece<T>;
  for (ptrdiff_t x = 0; x < width; x += E) {
    const ptrdiff_t over = x + E > width ? x + E - width : 0;
    f(x - over, over);
  }
}

/// Vector Part of R vectors taken element by element in turn.
template <class T, int R, int Part, int... I>
CONVPOOL_INLINE Vec<T> taken_in_turn(const Vec<T> (&rows)[R], Indices<I...>) {
  constexpr int L = lanes<T>;
  Vec<T> result = rows[0];
  unroll<R - 1>([&](auto i) {
    constexpr int row = decltype(i)::value + 1;
    // Elements of the rows before stand in place already, but for those of the first.
    result = __builtin_shufflevector(result, rows[row],
                                     ((Part * L + I) % R == row ? L + (Part * L + I) / R
                                      : row == 1                ? (Part * L + I) / R
                                                                : I)...);
  });
  return result;
}

/// A few rows to a run: to[c * R + r] = from[r][c].
template <class T, int R>
CONVPOOL_KERNEL void interleave_rows(const T* from, ptrdiff_t from_row, ptrdiff_t columns, T* to) {
  constexpr int L = lanes<T>;
  ptrdiff_t c = 0;
  for (; c + L <= columns; c += L) {
    Vec<T> rows[R];
    unroll<R>([&](auto r) { rows[r] = load(from + r * from_row + c); });
    unroll<R>([&](auto part) {
      store(to + c * R + part * L, taken_in_turn<T, R, decltype(part)::value>(rows, typename MakeIndices<L>::type{}));
    });
  }
  for (; c < columns; ++c) {
    for (int r = 0; r < R; ++r) to[c * R + r] = from[r * from_row + c];
  }
}

/// A square that isn't full.
template <class T>
CONVPOOL_KERNEL void transpose_part(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t width, T* to,
                                    ptrdiff_t to_row) {
  constexpr int L = lanes<T>;
  if (2 * rows <= L || 2 * width <= L) {
    for (ptrdiff_t x = 0; x < width; ++x) {
      for (ptrdiff_t y = 0; y < rows; ++y) to[x * to_row + y] = from[y * from_row + x];
    }
    return;
  }
  Vec<T> square[L];
  if (width == L) {
    unroll<L>([&](auto i) { square[i] = i < rows ? load(from + i * from_row) : Vec<T>{}; });
  } else {
    unroll<L>([&](auto i) { square[i] = i < rows ? load_first(from + i * from_row, width) : Vec<T>{}; });
  }
  transpose_square<T>(square);
  if (rows == L) {
    for (int i = 0; i < width; ++i) store(to + i * to_row, square[i]);
  } else {
    alignas(vector_alignment) T stage[L * L];
    unroll<L>([&](auto i) { store(stage + i * L, square[i]); });
    copy_rows(stage, L, width, rows, to, to_row);
  }
}

/// Down the rows first: neighbours in the target are written one after another. A square that isn't full begins as far
/// before the end as a full one, unless it has only a few elements. store_square(target, square, alone): whether
/// the next one down the rows doesn't overlap it.
template <class T, class Store>
CONVPOOL_INLINE void transpose_squares(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns, T* to,
                                       ptrdiff_t to_row, Store&& store_square) {
  constexpr int L = lanes<T>;
  constexpr ptrdiff_t few = L / 8;
  for (ptrdiff_t c = 0; c < columns; c += L) {
    if (c + L > columns && columns > L && columns - c > few) c = columns - L;
    const ptrdiff_t width = columns - c < L ? columns - c : L;
    const T* source = from + c;
    T* target = to + c * to_row;
    ptrdiff_t left = row_count;
    if (width == L) {
      while (left >= L) {
        Vec<T> square[L];
        unroll<L>([&](auto i) { square[i] = load(source + i * from_row); });
        transpose_square<T>(square);
        const ptrdiff_t step = left < 2 * L && left > L + few ? left - L : L;
        store_square(target, square, step == L);
        left -= step, source += step * from_row, target += step;
      }
    }
    for (; left > 0; left -= L, source += L * from_row, target += L) {
      transpose_part(source, from_row, left < L ? left : L, width, target, to_row);
    }
  }
}

/// Fewer rows than lanes.
template <class T>
CONVPOOL_INLINE void transpose_few_rows(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t width, T* to,
                                        ptrdiff_t to_row) {
  constexpr int L = lanes<T>;
  const T* row[L];
  for (int r = 0; r < L; ++r) row[r] = from + (r < rows ? r : rows - 1) * from_row;
  for_each_piece<T>(width, [&](ptrdiff_t x, ptrdiff_t first) CONVPOOL_INLINED {
    transpose_columns<T>([&](auto r) CONVPOOL_INLINED { return row[r] + x; }, first,
                         [&](auto i, Vec<T> column)
                             CONVPOOL_INLINED { store_first(to + (x + i) * to_row, column, rows); });
  });
}

/// Down the rows first: neighbours in the target are written one after another. Rows that don't fill a last vector are
/// taken with those before them. put(target, vector, alone): whether the next one down the rows doesn't overlap it.
template <class T, class Put>
CONVPOOL_INLINE void transpose_by_pieces(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns,
                                         T* to, ptrdiff_t to_row, Put&& put) {
  constexpr ptrdiff_t L = lanes<T>, E = piece<T>;
  if (columns < E || row_count == 0) {
    for (ptrdiff_t x = 0; x < columns; ++x) {
      for (ptrdiff_t y = 0; y < row_count; ++y) to[x * to_row + y] = from[y * from_row + x];
    }
    return;
  }
  for (ptrdiff_t c = 0; c < columns; c += L) {
    if (c + E > columns) c = columns - E;
    const ptrdiff_t width = columns - c < L ? columns - c : L;
    if (row_count < L) {
      transpose_few_rows(from + c, from_row, row_count, width, to + c * to_row, to_row);
      continue;
    }
    const T* source = from + c;
    T* target = to + c * to_row;
    for (ptrdiff_t left = row_count; left > 0;) {
      const ptrdiff_t step = left > L && left < 2 * L ? left - L : L;
      for_each_piece<T>(width, [&](ptrdiff_t x, ptrdiff_t first) CONVPOOL_INLINED {
        transpose_columns<T>([&](auto r) CONVPOOL_INLINED { return source + x + r * from_row; }, first,
                             [&](auto i, Vec<T> column)
                                 CONVPOOL_INLINED { put(target + (x + i) * to_row, column, step == L); });
      });
      left -= step, source += step * from_row, target += step;
    }
  }
}

/// By pieces or squares, whichever suits the vectors; put(target, vector, alone) as in transpose_by_pieces().
template <class T, class Put>
CONVPOOL_INLINE void transpose_vectors(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns, T* to,
                                       ptrdiff_t to_row, Put&& put) {
  if constexpr (sizeof(Vec<T>) == 64) {
    transpose_by_pieces(from, from_row, row_count, columns, to, to_row, put);
  } else {
    transpose_squares(from, from_row, row_count, columns, to, to_row,
                      [&](T* target, const Vec<T>(&square)[lanes<T>], bool alone) CONVPOOL_INLINED {
                        unroll<lanes<T>>([&](auto i) { put(target + i * to_row, square[i], alone); });
                      });
  }
}

/// To targets a multiple of same_set_bytes apart: runs of them, which are in several sets, are written one after
/// another from a stage. Measured with AVX-512 (Zen 5): 3x3 of 16 to 64 channels on 32x32 and 64x64 1.18 times as fast.
template <class T>
CONVPOOL_KERNEL void transpose_in_runs(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns, T* to,
                                       ptrdiff_t to_row) {
  constexpr ptrdiff_t L = lanes<T>, few = L / 8, run = 512 / sizeof(T), pitch = run + cache_line / sizeof(T);
  alignas(vector_alignment) T stage[L * pitch];
  for (ptrdiff_t r = 0; r < row_count; r += run) {
    const ptrdiff_t count = row_count - r < run ? row_count - r : run;
    for (ptrdiff_t c = 0; c < columns; c += L) {
      if (c + L > columns && columns - c > few) c = columns - L;
      const ptrdiff_t width = columns - c < L ? columns - c : L;
      transpose_vectors(from + r * from_row + c, from_row, count, width, stage, pitch,
                        [&](T* target, Vec<T> column, bool) CONVPOOL_INLINED { store(target, column); });
      for (ptrdiff_t i = 0; i < width; ++i) copy_run(stage + i * pitch, count, to + (c + i) * to_row + r);
    }
  }
}

/// Not inlined: the registers it takes would push out its user's.
template <class T>
CONVPOOL_KERNEL void transpose(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns, T* to,
                               ptrdiff_t to_row) {
  constexpr int L = lanes<T>;
  if (to_row == row_count) {
    if (row_count == 1) return copy_run(from, columns, to);
    if (row_count == 2) return interleave_rows<T, 2>(from, from_row, columns, to);
    if (row_count == 3) return interleave_rows<T, 3>(from, from_row, columns, to);
    if (row_count == 4) return interleave_rows<T, 4>(from, from_row, columns, to);
  }
  if constexpr (specialised<T>) {
    if (to_row % (same_set_bytes / ptrdiff_t{sizeof(T)}) == 0 && row_count >= 2 * L && columns >= L) {
      return transpose_in_runs(from, from_row, row_count, columns, to, to_row);
    }
  }
  // Vectors of half a line, of rows that share a set of the L1 cache: as many rows at once as it has ways, or the other
  // half would be gone before it is read (16 channels to 32 with stride 2 on 320x320 1.1 times as fast, 64x64 1.1, Zen
  // 3; the results of more rows are too far apart to be written in parts, of 9 to 15 it wasn't measured).
  constexpr ptrdiff_t ways = 8;
  const bool crowded = 2 * sizeof(Vec<T>) == cache_line && L == ways && row_count == 2 * ways &&
                       from_row % (same_set_bytes / ptrdiff_t{sizeof(T)}) == 0;
  const ptrdiff_t together = crowded ? ways : row_count;
  for (ptrdiff_t r = 0; r < row_count; r += together) {
    transpose_vectors(from + r * from_row, from_row, together, columns, to + r, to_row,
                      [&](T* target, Vec<T> column, bool) CONVPOOL_INLINED { store(target, column); });
  }
}

/// See Table::stream_transposed.
template <class T>
CONVPOOL_KERNEL void stream_transposed(const T* from, ptrdiff_t from_row, ptrdiff_t row_count, ptrdiff_t columns, T* to,
                                       ptrdiff_t to_row) {
  constexpr int L = lanes<T>;
  if (to_row % L != 0) return transpose(from, from_row, row_count, columns, to, to_row);
  transpose_vectors(from, from_row, row_count, columns, to, to_row,
                    [&](T* target, Vec<T> column, bool alone) CONVPOOL_INLINED {
                      if (alone && reinterpret_cast<std::uintptr_t>(target) % cache_line == 0) {
                        store_streaming(target, column);
                      } else {
                        store(target, column);
                      }
                    });
}

/// See Table::pack_taps.
template <class T>
CONVPOOL_KERNEL void pack_taps(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t taps,
                               T* to) {
  constexpr int L = lanes<T>;
  const ptrdiff_t columns = channels * taps, next_tap = channels * L, next_channel = (1 - (taps - 1) * channels) * L;
  ptrdiff_t tap = 0;
  const auto next = [&]() CONVPOOL_INLINED {
    const bool last = ++tap == taps;
    to += last ? next_channel : next_tap;
    tap = last ? 0 : tap;
  };
  for (ptrdiff_t x = 0; x < columns; x += L, from += L) {
    const ptrdiff_t width = columns - x < L ? columns - x : L;
    Vec<T> square[L];
    unroll<L>([&](auto i) { __builtin_prefetch(from + i * from_row + 512 / sizeof(T), 0, 2); });
    if (width == L && rows == L) {
      unroll<L>([&](auto i) { square[i] = load(from + i * from_row); });
    } else {
      unroll<L>([&](auto i) {
        square[i] = i >= rows    ? Vec<T>{}
                    : width == L ? load(from + i * from_row)
                                 : load_first(from + i * from_row, width);
      });
    }
    transpose_square<T>(square);
    if (width == L) {
      unroll<L>([&](auto i) {
        store(to, square[i]);
        next();
      });
    } else {
      for (int i = 0; i < width; ++i, next()) store(to, square[i]);
    }
  }
}

}  // namespace
}  // namespace convpool::kernels
