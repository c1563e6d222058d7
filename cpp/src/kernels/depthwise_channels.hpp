#pragma once

// Convolution of few channels, channels in the vectors: neighbouring pixels of the results, and two rows of them, share
// the pixels they read and the weights.

#include "depthwise_windows.hpp"

namespace convpool::kernels {
namespace {

template <class T>
CONVPOOL_INLINE Vec<T> permuted(Vec<T> x, const std::int32_t* words) {
#if defined(CONVPOOL_ISA_AVX512)
  // The unmasked form warns in GCC 12: bug 105593.
  return (Vec<T>)_mm512_maskz_permutexvar_ps(0xffff, _mm512_loadu_si512(words), (__m512)x);
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
  T* waiting;  ///< see store_lines()
  Written written;
};

/// R rows x P pixels of one vector of channels. Permuted: the input is, for each of its channels. An input pixel is
/// loaded once for all tap columns of a chunk and all rows of results that it serves; ColumnStride 0 stands for any,
/// where each tap column loads its own.
template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted, bool Inside>
CONVPOOL_KERNEL void channels_tile(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& t) {
  constexpr int L = lanes<T>;
  Vec<T> acc[R][P];
  const Vec<T> bias = load(t.bias);
  unroll<R>([&](auto r)
                CONVPOOL_INLINE_LAMBDA { unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = bias; }); });
  const WindowOf<Inside, T, 1> window(0, t.in_left);
  const ptrdiff_t whole = taps_in_whole_chunks<Chunk>(d.kernel_columns);
  const ptrdiff_t column_stride = ColumnStride == 0 ? d.column_stride : ColumnStride;
  const ptrdiff_t column_dilation = ColumnStride == 0 ? d.column_dilation : 1;
  for (ptrdiff_t c = 0; c < d.channels_per_output; ++c) {
    const T* const weight = t.weight + c * d.kernel_rows * d.kernel_columns * L;
    // Row y of those that the tile reads, for the results [First, First + Count).
    const auto row = [&](ptrdiff_t y, ptrdiff_t source, auto first_row, auto row_count) CONVPOOL_INLINE_LAMBDA {
      constexpr int First = first_row, Count = row_count;
      const T* const in = t.in + source * d.in_row;
      const T* const row_weight = weight + (y - First * d.row_stride) * d.kernel_columns * L;
      const ptrdiff_t next_row = d.row_stride * d.kernel_columns * L;
      const auto chunk = [&](ptrdiff_t j, auto columns) CONVPOOL_INLINE_LAMBDA {
        constexpr int J = columns, S = ColumnStride == 0 ? 1 : ColumnStride;
        const ptrdiff_t column = t.column + j * column_dilation;
        constexpr int pixels = (P - 1) * S + J;
        const T* pixel = in + column * d.in_pixel;
        const ptrdiff_t next_pixel = (ColumnStride == 0 ? column_stride : 1) * d.in_pixel;
        unsigned live = (1u << pixels) - 1;
        if constexpr (!Inside) {
          if constexpr (ColumnStride == 0) {
            live = 0;
            for (int p = 0; p < P; ++p) live |= inside_bits(column + p * column_stride, d.in_columns, 1) << p;
          } else {
            live = inside_bits(column, d.in_columns, pixels);
          }
          if (live == 0) return;
        }
        Vec<T> w[Count][J];
        unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA {
          unroll<J>([&](auto m)
                        CONVPOOL_INLINE_LAMBDA { w[r][m] = pinned(load(row_weight - r * next_row + (j + m) * L)); });
        });
        constexpr Live expected = Inside || pixels == 1 ? Live::all : specialised<T> ? Live::some : Live::any;
        read_pieces<pixels, expected>(
            window, pixel, next_pixel, live, [&](auto at, const T* from) CONVPOOL_INLINE_LAMBDA {
              Vec<T> x = pinned(window.template load<0>(from));
              if constexpr (Permuted) x = permuted<T>(x, d.permutation + c * L * ptrdiff_t(sizeof(T) / 4));
              unroll<J>([&](auto m) CONVPOOL_INLINE_LAMBDA {
                constexpr int distance = at - m, p = distance / S;
                if constexpr (distance >= 0 && distance % S == 0 && p < P) {
                  unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[First + r][p] += w[r][m] * x; });
                }
              });
            });
      };
      ptrdiff_t j = 0;
      for (; j < whole; j += Chunk) chunk(j, Constant<Chunk>{});
      if constexpr (Chunk > 1) {
        for (; j < d.kernel_columns; j += Chunk - 1) chunk(j, Constant<Chunk - 1>{});
      }
    };
    const auto rows = [&](ptrdiff_t begin, ptrdiff_t end, auto first_row, auto row_count) CONVPOOL_INLINE_LAMBDA {
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
    if (!Permuted && d.permutation != nullptr && c + 1 < d.channels_per_output) {
      unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = permuted<T>(acc[r][p], d.permutation); });
      });
    }
  }
  if (bounded(d.low, d.high)) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = clamp_to(acc[r][p], d.low, d.high); });
    });
  }
  if (t.written != Written::alone) {
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA {
        store_lines<T>(t.out + r * d.out_row + p * d.out_pixel, acc[r][p], t.written, t.waiting + (r * P + p) * L);
      });
    });
    return;
  }
  unroll<R>([&](auto r)
                CONVPOOL_INLINE_LAMBDA { store_columns<T>(acc[r], t.out_left, t.out + r * d.out_row, d.out_pixel); });
}

/// Rows of results of a tile that goes through the channels by itself.
inline constexpr int rows_in_turn = CONVPOOL_VECTOR_REGISTERS < 32 ? 1 : 2;

/// Whether kernels of so many columns have such tiles: those of 3, 5 or 7, whose columns are taken at once, and with
/// tiles of one row those that chunks of 3 and 4 columns make up.
template <class T>
constexpr bool takes_channels_in_turn(ptrdiff_t columns) {
  return specialised<T> && (columns == 3 || columns == 5 || columns == 7 || (rows_in_turn == 1 && columns >= 3));
}

/// Tiles of R rows and P pixels for `count` whole vectors of channels one after another: of the rows that a tile reads,
/// [row_begin, row_end) lie inside the image, and unless Edges all tap columns. Columns: those of the kernel, 0 for
/// any. A call for each tile took nearly as many instructions as it has multiply-adds, 3x3 on AVX2.
template <class T, int R, int P, int Columns, int ColumnStride, bool Edges>
CONVPOOL_KERNEL Written channels_in_turn(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& tile,
                                         ptrdiff_t row_begin, ptrdiff_t row_end, ptrdiff_t count, bool streams) {
  constexpr int L = lanes<T>;
  const ptrdiff_t columns = Columns > 0 ? Columns : d.kernel_columns;
  [[maybe_unused]] const ptrdiff_t whole = taps_in_whole_chunks<4>(columns);
  constexpr auto pixels_read = [](int tap_columns) { return (P - 1) * ColumnStride + tap_columns; };
  const auto live_from = [&](ptrdiff_t j, int pixels) {
    return Edges ? inside_bits(tile.column + j, d.in_columns, pixels) : 0u;
  };
  [[maybe_unused]] const unsigned all_live = live_from(0, Columns > 0 ? pixels_read(Columns) : 0);
  const bool clamps = bounded(d.low, d.high);
  const ptrdiff_t in_row = d.row_dilation * d.in_row, in_pixel = d.in_pixel;
  const ptrdiff_t kernel_rows = d.kernel_rows, row_stride = d.row_stride;
  const T* in = tile.in + (tile.row + row_begin * d.row_dilation) * d.in_row + tile.column * in_pixel;
  const T *weight = tile.weight, *bias = tile.bias;
  T* out = tile.out;
  Written written = tile.written;
  for (; count > 0; --count) {
    if (d.fetches_next && reinterpret_cast<std::uintptr_t>(in) % cache_line < sizeof(Vec<T>)) {
      const T* row = in + (kernel_rows + (R - 1) * row_stride - row_begin * d.row_dilation) * d.in_row;
      for (ptrdiff_t y = 0; y < R * row_stride; ++y, row += d.in_row) {
        unroll_steps<P * ColumnStride>(row, in_pixel,
                                       [](auto, const T* p) CONVPOOL_INLINE_LAMBDA { __builtin_prefetch(p); });
      }
    }
    Vec<T> acc[R][P];
    const Vec<T> start = load(bias);
    unroll<R>([&](auto r)
                  CONVPOOL_INLINE_LAMBDA { unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = start; }); });
    // A row that the tile reads, for the results [First, First + Count).
    const auto run = [&](auto chunk, auto first_row, auto row_count, const T* pixel, const T* weights,
                         unsigned live) CONVPOOL_INLINE_LAMBDA {
      constexpr int First = first_row, Count = row_count;
      Vec<T> w[Count][chunk];
      unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA {
        const T* const of_row = weights - r * row_stride * columns * L;
        unroll<chunk>([&](auto j) CONVPOOL_INLINE_LAMBDA { w[r][j] = pinned(load(of_row + j * L)); });
      });
      unroll_steps<pixels_read(chunk)>(pixel, in_pixel, [&](auto at, const T* from) CONVPOOL_INLINE_LAMBDA {
        if (Edges && !(live & (1u << at))) return;
        const Vec<T> x = pinned(load(from));
        unroll<chunk>([&](auto j) CONVPOOL_INLINE_LAMBDA {
          constexpr int distance = at - j, p = distance / ColumnStride;
          if constexpr (distance >= 0 && distance % ColumnStride == 0 && p < P) {
            unroll<Count>([&](auto r) CONVPOOL_INLINE_LAMBDA { acc[First + r][p] += w[r][j] * x; });
          }
        });
      });
    };
    const auto run_rows = [&](ptrdiff_t begin, ptrdiff_t end, auto first_row, auto row_count) CONVPOOL_INLINE_LAMBDA {
      begin = begin > row_begin ? begin : row_begin;
      end = end < row_end ? end : row_end;
      const T *row = in + (begin - row_begin) * in_row,
              *weights = weight + (begin - first_row * row_stride) * columns * L;
      for (ptrdiff_t y = begin; y < end; ++y, row += in_row) {
        if constexpr (Columns > 0) {
          run(Constant<Columns>{}, first_row, row_count, row, weights, all_live);
          weights += Columns * L;
        } else {
          const T* pixel = row;
          const auto run_columns = [&](auto chunk, ptrdiff_t from, ptrdiff_t until) CONVPOOL_INLINE_LAMBDA {
            for (ptrdiff_t j = from; j < until; j += chunk, pixel += chunk * in_pixel, weights += chunk * L) {
              const unsigned live = live_from(j, pixels_read(chunk));
              if (!Edges || live != 0) run(chunk, first_row, row_count, pixel, weights, live);
            }
          };
          run_columns(Constant<4>{}, 0, whole);
          run_columns(Constant<3>{}, whole, columns);
        }
      }
    };
    if constexpr (R == 1) {
      run_rows(0, kernel_rows, Constant<0>{}, Constant<1>{});
    } else {
      static_assert(R == 2);
      run_rows(0, row_stride, Constant<0>{}, Constant<1>{});
      run_rows(row_stride, kernel_rows, Constant<0>{}, Constant<2>{});
      run_rows(kernel_rows, kernel_rows + row_stride, Constant<1>{}, Constant<1>{});
    }
    if (streams) written = streamed(out, written, count > 1);
    unroll<R>([&](auto r) CONVPOOL_INLINE_LAMBDA {
      if (clamps) {
        unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { acc[r][p] = clamp_to(acc[r][p], d.low, d.high); });
      }
      T* const to = out + r * d.out_row;
      if (written != Written::alone) {
        unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA {
          store_lines<T>(to + p * d.out_pixel, acc[r][p], written, tile.waiting + (r * P + p) * L);
        });
      } else {
        unroll<P>([&](auto p) CONVPOOL_INLINE_LAMBDA { store(to + p * d.out_pixel, acc[r][p]); });
      }
    });
    in += d.in_vector;
    weight += kernel_rows * columns * L;
    bias += L;
    out += L;
  }
  return written;
}

/// What the tile of the next rows reads first. Measured on 8 images of 144 x 56 x 56: 2.9 to 1.1 ms.
template <int R, int P, class T>
[[gnu::noinline]] void fetch_next(const DepthwiseChannelsArguments<T>& d, const ChannelsTile<T>& t) {
  __asm__ volatile("");  // GCC otherwise leaves the call out, as one without effect
  const T* row = t.in + (t.row + (R - 1) * d.row_stride + d.kernel_rows) * d.in_row + t.column * d.in_pixel;
  for (ptrdiff_t y = 0; y < R * d.row_stride; ++y, row += d.in_row) {
    const T* p = row;
    for (ptrdiff_t x = 0; x < P * d.column_stride; ++x, p += d.in_pixel) __builtin_prefetch(p);
  }
}

template <class T, int R, int P, int Chunk, int ColumnStride, bool Permuted>
void channels_pixels(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row, ptrdiff_t column) {
  constexpr int L = lanes<T>;
  alignas(vector_alignment) T waiting[R * P * L];
  ChannelsTile<T> tile{d.in,
                       d.weight,
                       d.bias,
                       d.out + row * d.out_row + column * d.out_pixel,
                       d.first_row + row * d.row_stride,
                       d.first_column + column * d.column_stride,
                       d.in_channels,
                       d.out_channels,
                       waiting,
                       Written::alone};
  const bool streams = d.stream && streams_lines(tile.out, d.out_row) && streams_lines(tile.out, d.out_pixel);
  const bool columns_inside =
      tile.column >= 0 &&
      tile.column + (P - 1) * d.column_stride + (d.kernel_columns - 1) * d.column_dilation < d.in_columns;
  if constexpr (R == rows_in_turn && P > 1 && ColumnStride > 0 && !Permuted && takes_channels_in_turn<T>(3)) {
    const ptrdiff_t left = tile.in_left < tile.out_left ? tile.in_left : tile.out_left, count = left / L;
    if (count > 0 && d.permutation == nullptr && takes_channels_in_turn<T>(d.kernel_columns)) {
      const ptrdiff_t gap = d.row_dilation, above = tile.row < 0 ? (-tile.row + gap - 1) / gap : 0;
      const ptrdiff_t room = tile.row < d.in_rows ? (d.in_rows - tile.row - 1) / gap + 1 : 0;
      const ptrdiff_t read = d.kernel_rows + (R - 1) * d.row_stride;
      const ptrdiff_t row_end = room < read ? room : read, row_begin = above < row_end ? above : row_end;
      const auto run = [&](auto columns) {
        tile.written =
            columns_inside
                ? channels_in_turn<T, R, P, columns, ColumnStride, false>(d, tile, row_begin, row_end, count, streams)
                : channels_in_turn<T, R, P, columns, ColumnStride, true>(d, tile, row_begin, row_end, count, streams);
      };
      switch (d.kernel_columns) {
        case 3:
          run(Constant<3>{});
          break;
        case 5:
          if constexpr (takes_channels_in_turn<T>(5)) run(Constant<5>{});
          break;
        case 7:
          if constexpr (takes_channels_in_turn<T>(7)) run(Constant<7>{});
          break;
        default:
          if constexpr (rows_in_turn == 1) run(Constant<0>{});
      }
      tile.in += count * d.in_vector;
      tile.in_left -= count * d.in_vector;
      tile.out_left -= count * L;
      tile.weight += count * d.kernel_rows * d.kernel_columns * L;
      tile.bias += count * L;
      tile.out += count * L;
    }
  }
  for (; tile.out_left > 0; tile.out_left -= L) {
    const bool new_lines = reinterpret_cast<std::uintptr_t>(tile.in) % cache_line < sizeof(Vec<T>);
    if (P > 1 && d.fetches_next && new_lines) fetch_next<R, P>(d, tile);
    if (streams) {
      tile.written = tile.out_left >= L ? streamed(tile.out, tile.written, tile.out_left >= 2 * L) : Written::alone;
    }
    constexpr bool has_inside = specialised<T> && P > 1;
    if (has_inside && columns_inside && tile.in_left >= L) {
      channels_tile<T, R, P, Chunk, ColumnStride, Permuted, has_inside>(d, tile);
    } else {
      channels_tile<T, R, P, Chunk, ColumnStride, Permuted, false>(d, tile);
    }
    tile.in += d.in_vector;
    tile.in_left -= d.in_vector;
    tile.weight += d.channels_per_output * d.kernel_rows * d.kernel_columns * L;
    tile.bias += L;
    tile.out += L;
  }
}

template <class T, int R, int Chunk, int ColumnStride, bool Permuted>
void channels_row(const DepthwiseChannelsArguments<T>& d, ptrdiff_t row) {
  constexpr int widest = depthwise_tile_pixels;
  for (ptrdiff_t x = 0; x < d.columns;) {
    const ptrdiff_t left = d.columns - x;
    if (d.columns >= widest && left > 1) {
      const ptrdiff_t at = left < widest ? d.columns - widest : x;
      channels_pixels<T, R, widest, Chunk, ColumnStride, Permuted>(d, row, at);
      x = at + widest;
    } else {
      // A single pixel shares nothing: one tile serves every chunk and stride. Two of them already take longer than
      // those that overlap what is done.
      for (int r = 0; r < R; ++r) channels_pixels<T, 1, 1, 1, 0, Permuted>(d, row + r, x);
      ++x;
    }
  }
}

template <class T>
void depthwise_channels(const DepthwiseChannelsArguments<T>& d) {
  const auto run = [&](auto chunk, auto column_stride, auto is_permuted) CONVPOOL_INLINE_LAMBDA {
    constexpr bool Permuted = is_permuted;
    ptrdiff_t row = 0;
    if constexpr (specialised<T> && CONVPOOL_VECTOR_REGISTERS >= 32) {
      if (d.row_dilation == 1 && d.row_stride < d.kernel_rows) {
        for (; row + 2 <= d.rows; row += 2) channels_row<T, 2, chunk, column_stride, Permuted>(d, row);
      }
    }
    for (; row < d.rows; ++row) channels_row<T, 1, chunk, column_stride, Permuted>(d, row);
  };
  const auto shares_pixels = [&](auto is_permuted) CONVPOOL_INLINE_LAMBDA {
    constexpr bool Permuted = is_permuted;
    const bool neighbours = d.column_dilation == 1 && d.column_stride <= (Permuted ? 1 : 2);
    with_tap_chunk<double_chunk<T>>(d.kernel_columns, [&](auto chunk) CONVPOOL_INLINE_LAMBDA {
      if constexpr (chunk > 1) {
        if (neighbours && d.column_stride == 1) return run(chunk, Constant<1>{}, Constant<Permuted>{});
        if constexpr (!Permuted) {
          if (neighbours) return run(chunk, Constant<2>{}, Constant<Permuted>{});
        }
      }
      run(Constant<1>{}, Constant<0>{}, Constant<Permuted>{});
    });
  };
  d.permutation != nullptr && !d.permutes_sums ? shares_pixels(Constant<1>{}) : shares_pixels(Constant<0>{});
}

}  // namespace
}  // namespace convpool::kernels
