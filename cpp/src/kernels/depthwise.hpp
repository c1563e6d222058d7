#pragma once

// Convolution of few channels: depthwise, small groups, image filters. Nothing is shared between output channels, or
// too little to make a matrix product of it, so results share what lies beside them: rows of results the rows they
// read, neighbouring pixels the weights.

#include "vector.hpp"

namespace convpool::kernels {
namespace {

/// N lanes: a whole vector, or half of one for narrow maps and the ends of rows.
template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using VecN = typename VectorOf<T, N>::type;

#if defined(CONVPOOL_ISA_AVX512) || defined(CONVPOOL_ISA_AVX2)
template <class T>
inline constexpr int shortest_vector = lanes<T> / 2;
#else
template <class T>
inline constexpr int shortest_vector = lanes<T>;
#endif

/// The lanes of N elements from `column` on that lie inside a row of `columns`. A load gives zeros for the others and
/// doesn't touch them. Measured on Zen 4: as fast as plain loads, also where a mask leaves nothing out.
template <class T, int N>
class InsideRow {
 public:
  CONVPOOL_INLINE InsideRow(ptrdiff_t column, ptrdiff_t columns) {
    const ptrdiff_t first = column >= 0 ? 0 : column > -N ? -column : N;
    const ptrdiff_t left = columns - column;
    const ptrdiff_t last = left >= N ? N : left > first ? left : first;
#if defined(CONVPOOL_ISA_AVX512)
    mask_ = static_cast<__mmask16>((1u << last) - (1u << first));
#elif defined(CONVPOOL_ISA_AVX2)
    static constexpr int edge[24] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    constexpr ptrdiff_t words = sizeof(T) / 4;
    Mask from, until;
    __builtin_memcpy(&from, edge + 8 - first * words, sizeof from);
    __builtin_memcpy(&until, edge + 16 - last * words, sizeof until);
    mask_ = from & until;
#else
    first_ = first;
    last_ = last;
#endif
  }

  CONVPOOL_INLINE VecN<T, N> load(const T* p) const {
    using V = VecN<T, N>;
#if defined(CONVPOOL_ISA_AVX512)
    if constexpr (sizeof(T) == 4 && N == 16) {
      return (V)_mm512_maskz_loadu_ps(mask_, p);
    } else if constexpr (sizeof(T) == 4) {
      return (V)_mm256_maskz_loadu_ps(static_cast<__mmask8>(mask_), p);
    } else if constexpr (N == 8) {
      return (V)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask_), p);
    } else {
      return (V)_mm256_maskz_loadu_pd(static_cast<__mmask8>(mask_), p);
    }
#elif defined(CONVPOOL_ISA_AVX2)
    if constexpr (sizeof(T) == 4 && N == 8) {
      return (V)_mm256_maskload_ps(p, (__m256i)mask_);
    } else if constexpr (sizeof(T) == 4) {
      return (V)_mm_maskload_ps(p, (__m128i)mask_);
    } else if constexpr (N == 4) {
      return (V)_mm256_maskload_pd(p, (__m256i)mask_);
    } else {
      return (V)_mm_maskload_pd(p, (__m128i)mask_);
    }
#else
    V x;
    if (last_ - first_ == N) {
      __builtin_memcpy(&x, p, sizeof x);
    } else {
      load_piece(p, first_, last_, &x);
    }
    return pinned(x);
#endif
  }

 private:
#if defined(CONVPOOL_ISA_AVX512)
  __mmask16 mask_;
#elif defined(CONVPOOL_ISA_AVX2)
  typedef int Mask __attribute__((vector_size(N * sizeof(T))));
  Mask mask_;
#else
  [[gnu::noinline]] static void load_piece(const T* p, ptrdiff_t first, ptrdiff_t last, VecN<T, N>* x) {
    T stage[N] = {};
    for (ptrdiff_t i = first; i < last; ++i) stage[i] = p[i];
    __builtin_memcpy(x, stage, sizeof *x);
  }
  ptrdiff_t first_, last_;
#endif
};

template <class T, int N>
CONVPOOL_INLINE void store_columns(T* p, VecN<T, N> v, ptrdiff_t left) {
  if (left >= N) {
    __builtin_memcpy(p, &v, sizeof v);
  } else if constexpr (N == lanes<T>) {
    store_first<T>(p, v, left);
  } else {
    alignas(vector_alignment) T stage[N];
    __builtin_memcpy(stage, &v, sizeof v);
    copy_short<T, N>(stage, left, p);
  }
}

template <class T, class V>
CONVPOOL_INLINE V clamp_to(V v, T low, T high) {
  const V l = low - V{}, h = high - V{};
  v = v < l ? l : v;
  return v > h ? h : v;
}

template <class V, int Odd, int... I>
CONVPOOL_INLINE V alternate(V a, V b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + Odd)...);
}

/// Taps of one axis go in chunks of Chunk and Chunk - 1, compiled for a few sizes of Chunk that serve any count.
constexpr int tap_chunk(ptrdiff_t taps) {
  if (taps == 1) return 1;
  if (taps <= 3) return 3;
  return taps == 6 || taps == 7 || taps == 11 ? 4 : 5;
}
/// The first so many taps go in whole chunks, the rest in chunks that are one shorter.
template <int Chunk>
CONVPOOL_INLINE ptrdiff_t taps_in_whole_chunks(ptrdiff_t taps) {
  return taps - (Chunk - taps % Chunk) % Chunk * (Chunk - 1);
}

// Pixels in the vectors

/// What a tile of R rows and one vector of columns of one output works on. `row` and `column` are where the window of
/// its first result starts in the input.
template <class T>
struct PlaneTile {
  const T* in;
  const T* weight;
  T bias;
  T* out;
  ptrdiff_t row, column, left;
};

/// Tap rows [i, i + Chunk) of a column of the kernel: the weights stay in registers, each row of the input is loaded
/// once for all rows of results that it serves. Stride is that of the rows, 0 where they don't share.
template <class T, int N, int R, int Chunk, int Stride, bool Second>
CONVPOOL_INLINE void plane_tap_rows(const DepthwisePlaneArguments<T>& d, const T* in, ptrdiff_t row, ptrdiff_t i,
                                    const T* first, const T* second, InsideRow<T, N> inside, InsideRow<T, N> inside_b,
                                    bool strided, VecN<T, N> (&acc)[R]) {
  using V = VecN<T, N>;
  V w[Chunk], w2[Chunk];
  unroll<Chunk>([&](auto m) {
    w[m] = pinned(first[(i + m) * d.kernel_columns] - V{});
    if constexpr (Second) w2[m] = pinned(second[(i + m) * d.kernel_columns] - V{});
  });
  const auto add = [&](const T* p, auto&& use) {
    if (!strided) return use(inside.load(p), V{});
    const V a = inside.load(p), b = inside_b.load(p + N);
    using All = typename MakeIndices<N>::type;
    if constexpr (Second) {
      use(alternate<V, 0>(a, b, All{}), alternate<V, 1>(a, b, All{}));
    } else {
      use(alternate<V, 0>(a, b, All{}), V{});
    }
  };
  if constexpr (Stride == 0) {
    static_assert(Chunk == 1);
    unroll<R>([&](auto r) {
      const ptrdiff_t y = row + r * d.row_stride + i * d.row_dilation;
      if (static_cast<std::size_t>(y) < static_cast<std::size_t>(d.in_rows)) {
        add(in + y * d.in_row, [&](V x, V x2) {
          acc[r] += w[0] * x;
          if constexpr (Second) acc[r] += w2[0] * x2;
        });
      }
    });
  } else {
    row += i;
    const T* p = in + row * d.in_row;
    unroll<Stride*(R - 1) + Chunk>([&](auto y) {
      if (static_cast<std::size_t>(row + y) < static_cast<std::size_t>(d.in_rows)) {
        add(p, [&](V x, V x2) {
          unroll<Chunk>([&](auto m) {
            constexpr int distance = y - m, r = distance / Stride;
            if constexpr (distance >= 0 && distance % Stride == 0 && r < R) {
              acc[r] += w[m] * x;
              if constexpr (Second) acc[r] += w2[m] * x2;
            }
          });
        });
      }
      p += d.in_row;
    });
  }
}

template <class T, int N, int R, int Chunk, int Stride, int ColumnStride>
CONVPOOL_KERNEL void plane_tile(const DepthwisePlaneArguments<T>& d, const PlaneTile<T>& t) {
  VecN<T, N> acc[R];
  unroll<R>([&](auto r) { acc[r] = t.bias - VecN<T, N>{}; });
  constexpr bool strided = ColumnStride == 2;
  const ptrdiff_t taps = d.kernel_rows * d.kernel_columns;
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_rows);
  const ptrdiff_t width = (t.left < N ? t.left : N) * ColumnStride;
  for (ptrdiff_t c = 0; c < d.channels_per_group; ++c) {
    const T* const weight = t.weight + c * taps;
    for (const TapColumns *tap = d.taps, *end = tap + d.tap_count; tap != end; ++tap) {
      const ptrdiff_t column = t.column + tap->in;
      if (column >= d.in_columns || column + width <= 0) continue;
      const InsideRow<T, N> inside(column, d.in_columns), inside_b(column + N, d.in_columns);
      const T* const in = t.in + c * d.in_channel + column;
      const T* const first = weight + tap->first;
      const auto run = [&](auto second) {
        constexpr bool Second = second;
        ptrdiff_t i = 0;
        for (; i < whole; i += Chunk) {
          plane_tap_rows<T, N, R, Chunk, Stride, Second>(d, in, t.row, i, first, weight + tap->second, inside, inside_b,
                                                         strided, acc);
        }
        if constexpr (Chunk > 1) {
          for (; i < d.kernel_rows; i += Chunk - 1) {
            plane_tap_rows<T, N, R, Chunk - 1, Stride, Second>(d, in, t.row, i, first, weight + tap->second, inside,
                                                               inside_b, strided, acc);
          }
        }
      };
      if constexpr (strided) {
        if (tap->second >= 0) {
          run(Constant<1>{});
          continue;
        }
      }
      run(Constant<0>{});
    }
  }
  unroll<R>([&](auto r) { store_columns<T, N>(t.out + r * d.out_row, clamp_to(acc[r], d.low, d.high), t.left); });
}

template <class T, int R, int Chunk, int Stride, int ColumnStride>
void plane_tile_row(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out,
                    ptrdiff_t row) {
  constexpr int L = lanes<T>, S = shortest_vector<T>;
  const ptrdiff_t weights = d.channels_per_group * d.kernel_rows * d.kernel_columns;
  for (ptrdiff_t x = 0; x < d.columns; x += L) {
    PlaneTile<T> tile{in,
                      weight,
                      T(0),
                      out + row * d.out_row + x,
                      d.first_row + row * d.row_stride,
                      d.first_column + x * ColumnStride,
                      d.columns - x};
    for (ptrdiff_t k = 0; k < d.outputs_per_group; ++k) {
      tile.bias = bias == nullptr ? T(0) : bias[k];
      if (S < L && tile.left <= S) {
        plane_tile<T, S, R, Chunk, Stride, ColumnStride>(d, tile);
      } else {
        plane_tile<T, L, R, Chunk, Stride, ColumnStride>(d, tile);
      }
      tile.weight += weights;
      tile.out += d.out_channel;
    }
  }
}

/// Rows in the tallest tiles that fit. The last ones go back over rows that are done already rather than stop short.
template <class T, int Chunk, int Stride, int ColumnStride>
void plane_rows(const DepthwisePlaneArguments<T>& d, const T* in, const T* weight, const T* bias, T* out) {
  constexpr bool many_registers = CONVPOOL_VECTOR_REGISTERS >= 32;
  for (ptrdiff_t row = 0; row < d.rows;) {
    const ptrdiff_t left = d.rows - row;
    const auto run = [&](auto height) {
      constexpr int R = height;
      const ptrdiff_t at = left < R ? d.rows - R : row;
      plane_tile_row<T, R, Chunk, Stride, ColumnStride>(d, in, weight, bias, out, at);
      row = at + R;
    };
    if constexpr (Stride != 0) {
      if (many_registers && d.rows >= 14 && left > 7) {
        run(Constant<many_registers ? 14 : 7>{});
        continue;
      }
      if (d.rows >= 7 && left > 4) {
        run(Constant<7>{});
        continue;
      }
    }
    if (d.rows >= 4 && left > 1) {
      run(Constant<4>{});
    } else if (Stride != 0 && d.rows >= 2 && left > 1) {
      run(Constant<2>{});
    } else {
      run(Constant<1>{});
    }
  }
}

template <class T>
void depthwise_plane(const DepthwisePlaneArguments<T>& d) {
  const ptrdiff_t weights = d.outputs_per_group * d.channels_per_group * d.kernel_rows * d.kernel_columns;
  const auto run = [&](auto chunk, auto stride, auto column_stride) {
    const T* in = d.in;
    const T* weight = d.weight;
    const T* bias = d.bias;
    T* out = d.out;
    for (ptrdiff_t g = 0; g < d.groups; ++g) {
      plane_rows<T, chunk, stride, column_stride>(d, in, weight, bias, out);
      in += d.in_group;
      weight += weights;
      if (bias != nullptr) bias += d.outputs_per_group;
      out += d.outputs_per_group * d.out_channel;
    }
  };
  const auto run_chunk = [&](auto stride, auto column_stride) {
    switch (tap_chunk(d.kernel_rows)) {
      case 1:
        return run(Constant<1>{}, stride, column_stride);
      case 3:
        return run(Constant<3>{}, stride, column_stride);
      case 4:
        return run(Constant<4>{}, stride, column_stride);
      default:
        return run(Constant<5>{}, stride, column_stride);
    }
  };
  if (d.row_dilation == 1 && d.row_stride == d.column_stride) {
    if (d.row_stride == 1) return run_chunk(Constant<1>{}, Constant<1>{});
    return run_chunk(Constant<2>{}, Constant<2>{});
  }
  if (d.column_stride == 1) return run(Constant<1>{}, Constant<0>{}, Constant<1>{});
  run(Constant<1>{}, Constant<0>{}, Constant<2>{});
}

// Channels in the vectors

template <class T>
CONVPOOL_INLINE Vec<T> permuted(Vec<T> x, const std::int32_t* words) {
#if defined(CONVPOOL_ISA_AVX512)
  return (Vec<T>)_mm512_permutexvar_ps(_mm512_loadu_si512(words), (__m512)x);
#elif defined(CONVPOOL_ISA_AVX2)
  return (Vec<T>)_mm256_permutevar8x32_ps((__m256)x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
#else
  constexpr int words_each = sizeof(T) / 4;
  Vec<T> y{};
  for (int l = 0; l < lanes<T>; ++l) y[l] = x[words[l * words_each] / words_each];
  return y;
#endif
}

template <class T>
struct ChannelsTile {
  const T* in;
  const T* weight;
  const T* bias;
  T* out;
  ptrdiff_t row, column;
  ptrdiff_t in_left, out_left;
};

/// R rows x P pixels of one vector of channels. An input pixel is loaded once for all tap columns of a chunk and all
/// rows of results that it serves; ColumnStride 0 stands for any, where each tap column loads its own.
template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted>
CONVPOOL_KERNEL void channels_tile(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& t) {
  constexpr int L = lanes<T>;
  alignas(vector_alignment) static constexpr T zeros[L] = {};
  Vec<T> acc[R][P];
  const Vec<T> bias = load(t.bias);
  unroll<R>([&](auto r) { unroll<P>([&](auto p) { acc[r][p] = bias; }); });
  const InsideRow<T, L> inside(0, t.in_left);
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_columns);
  const ptrdiff_t column_stride = ColumnStride == 0 ? d.column_stride : ColumnStride;
  const ptrdiff_t column_dilation = ColumnStride == 0 ? d.column_dilation : 1;
  for (ptrdiff_t c = 0; c < d.channels_per_output; ++c) {
    const T* const weight = t.weight + c * d.kernel_rows * d.kernel_columns * L;
    // Row y of those that the tile reads, for the results [First, First + Count).
    const auto row = [&](ptrdiff_t y, ptrdiff_t source, auto first_row, auto row_count) {
      constexpr int First = first_row, Count = row_count;
      const T* const in = t.in + source * d.in_row;
      const T* const row_weight = weight + (y - First * d.row_stride) * d.kernel_columns * L;
      const ptrdiff_t next_row = d.row_stride * d.kernel_columns * L;
      const auto chunk = [&](ptrdiff_t j, auto columns) {
        constexpr int J = columns, S = ColumnStride == 0 ? 1 : ColumnStride;
        const ptrdiff_t column = t.column + j * column_dilation;
        if (column >= d.in_columns || column + (P - 1) * column_stride + J <= 0) return;
        Vec<T> x[(P - 1) * S + J];
        unroll<J>([&](auto m) {
          unroll<P>([&](auto p) {
            constexpr int at = p * S + m;
            if constexpr (m < S || p == P - 1) {
              const ptrdiff_t from = column + (ColumnStride == 0 ? p * column_stride : at);
              const T* const pixel = static_cast<std::size_t>(from) < static_cast<std::size_t>(d.in_columns)
                                         ? in + from * d.in_pixel
                                         : zeros;
              x[at] = inside.load(pixel);
              if constexpr (Permuted) x[at] = permuted<T>(x[at], d.permutation + c * L * ptrdiff_t(sizeof(T) / 4));
            }
          });
          unroll<Count>([&](auto r) {
            const Vec<T> w = pinned(load(row_weight - r * next_row + (j + m) * L));
            unroll<P>([&](auto p) { acc[First + r][p] += w * x[p * S + m]; });
          });
        });
      };
      ptrdiff_t j = 0;
      for (; j < whole; j += Chunk) chunk(j, Constant<Chunk>{});
      if constexpr (Chunk > 1) {
        for (; j < d.kernel_columns; j += Chunk - 1) chunk(j, Constant<Chunk - 1>{});
      }
    };
    const auto rows = [&](ptrdiff_t begin, ptrdiff_t end, auto first_row, auto row_count) {
      for (ptrdiff_t y = begin; y < end; ++y) {
        const ptrdiff_t source = t.row + y * d.row_dilation;
        if (static_cast<std::size_t>(source) < static_cast<std::size_t>(d.in_rows))
          row(y, source, first_row, row_count);
      }
    };
    if constexpr (R == 1) {
      rows(0, d.kernel_rows, Constant<0>{}, Constant<1>{});
    } else {
      static_assert(R == 2);
      rows(0, d.row_stride, Constant<0>{}, Constant<1>{});
      rows(d.row_stride, d.kernel_rows, Constant<0>{}, Constant<2>{});
      rows(d.kernel_rows, d.kernel_rows + d.row_stride, Constant<1>{}, Constant<1>{});
    }
  }
  unroll<R>([&](auto r) {
    unroll<P>([&](auto p) {
      store_columns<T, L>(t.out + r * d.out_row + p * d.out_pixel, clamp_to(acc[r][p], d.low, d.high), t.out_left);
    });
  });
}

template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted>
void channels_pixels(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row, ptrdiff_t column) {
  constexpr int L = lanes<T>;
  ChannelsTile<T> tile{d.in,
                       d.weight,
                       d.bias,
                       d.out + row * d.out_row + column * d.out_pixel,
                       d.first_row + row * d.row_stride,
                       d.first_column + column * d.column_stride,
                       d.in_channels,
                       d.out_channels};
  for (; tile.out_left > 0; tile.out_left -= L) {
    channels_tile<T, R, P, Chunk, ColumnStride, Permuted>(d, tile);
    tile.in += d.in_vector;
    tile.in_left -= d.in_vector;
    tile.weight += d.channels_per_output * d.kernel_rows * d.kernel_columns * L;
    tile.bias += L;
    tile.out += L;
  }
}

template <class T, int R, int Chunk, int ColumnStride, bool Permuted>
void channels_row(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row) {
  constexpr int widest = CONVPOOL_VECTOR_REGISTERS >= 32 ? 7 : 4;
  for (ptrdiff_t x = 0; x < d.columns;) {
    const ptrdiff_t left = d.columns - x;
    const auto run = [&](auto pixels) {
      constexpr int P = pixels;
      const ptrdiff_t at = left < P ? d.columns - P : x;
      channels_pixels<T, R, P, Chunk, ColumnStride, Permuted>(d, row, at);
      x = at + P;
    };
    if (d.columns >= widest && left > 2) {
      run(Constant<widest>{});
    } else if (d.columns >= 2 && left > 1) {
      run(Constant<2>{});
    } else {
      run(Constant<1>{});
    }
  }
}

template <class T, bool Permuted>
void depthwise_channels_of(const DepthwiseChannelsArguments<T>& d) {
  const auto run = [&](auto chunk, auto column_stride) {
    ptrdiff_t row = 0;
    if (d.row_dilation == 1 && d.row_stride < d.kernel_rows) {
      for (; row + 2 <= d.rows; row += 2) channels_row<T, 2, chunk, column_stride, Permuted>(d, row);
    }
    for (; row < d.rows; ++row) channels_row<T, 1, chunk, column_stride, Permuted>(d, row);
  };
  const auto run_chunk = [&](auto column_stride) {
    switch (tap_chunk(d.kernel_columns)) {
      case 3:
        return run(Constant<3>{}, column_stride);
      case 4:
        return run(Constant<4>{}, column_stride);
      default:
        return run(Constant<5>{}, column_stride);
    }
  };
  if (d.kernel_columns > 1 && d.column_dilation == 1) {
    if (d.column_stride == 1) return run_chunk(Constant<1>{});
    if (d.column_stride == 2) return run_chunk(Constant<2>{});
  }
  run(Constant<1>{}, Constant<0>{});
}

template <class T>
void depthwise_channels(const DepthwiseChannelsArguments<T>& d) {
  if (d.permutation == nullptr) {
    depthwise_channels_of<T, false>(d);
  } else {
    depthwise_channels_of<T, true>(d);
  }
}

}  // namespace
}  // namespace convpool::kernels
