#pragma once

// What an instruction set offers to the algorithms: plain structs and function pointers. This header and everything
// that the per-ISA translation units include must stay free of standard headers with inline functions: the linker keeps
// one copy of such a function for the whole library, and it could be the one compiled for the strongest ISA.

#include <cstddef>
#include <cstdint>

#include "pool_table.hpp"
#include "row_arguments.hpp"

namespace convpool::kernels {

using std::ptrdiff_t;

inline constexpr int max_tile_vectors = 4;
inline constexpr int max_tile_rows = 14;
inline constexpr int vector_alignment = 64, cache_line = 64;  // bytes

/// How often a tile of several vectors fetches lines ahead while there are any left: once for so many steps of a
/// segment, for its last ones up to twice as many; of one vector as much at once for each segment.
inline constexpr ptrdiff_t steps_of_a_fetch = 8;
static constexpr ptrdiff_t fetches_of(ptrdiff_t steps) {
  return steps <= 2 * steps_of_a_fetch ? 1 : (steps - 1) / steps_of_a_fetch;
}

/// A run of `count` steps of a reduction, at least one: where A and B start, in elements from the tile's base pointers.
struct Segment {
  ptrdiff_t a, b, count;
};

/// C[r][x] = clamp(init + sum over segments s and steps k of A[s.a + r * a_row + k * a_step] * B[s.b + x' + k *
/// b_step])
///
/// for R rows and V vectors of columns, both fixed by the kernel; x = v * lanes + lane and x' = v * b_vector + lane.
/// A is broadcast, element by element; B is read in whole vectors, also in the columns from `columns` on, which are
/// never stored. `tiles` of them are done, one after another, `a_tile`, `b_tile` and `c_tile` apart (row_bias R where A
/// moves), with the same segments; 0 means one. init is C itself where `accumulate`, else row_bias[r] or column_bias[x]
/// (V whole vectors) or 0. No pointer needs more than its element's alignment. The sum of an element runs through the
/// segments in order, whatever R and V are, so that the shape of a tile leaves no trace in the bits.
template <class T>
struct TileArguments {
  const Segment* segments;
  ptrdiff_t segment_count;
  const T* a;
  ptrdiff_t a_row, a_step;
  const T* b;
  ptrdiff_t b_vector, b_step;
  T* c;
  ptrdiff_t c_row;
  ptrdiff_t columns;
  const T* row_bias;
  const T* column_bias;
  T low, high;
  bool accumulate;
  bool stream;  ///< whole cache lines of C, of tiles that write no others, go past the caches; see finish_streaming
  ptrdiff_t tiles, a_tile, b_tile, c_tile;
  /// Lines that are written soon, one in each of `fetched_rows` rows for each tile, to be fetched while the sums run;
  /// where null, those of C. No rows: none.
  T* fetched;
  ptrdiff_t fetched_row, fetched_rows, fetched_tile;
  /// What is read soon, to be fetched to the L2 cache: `ahead_pieces` of `ahead_lines` cache lines, in rows of
  /// `ahead_row_pieces`, with `ahead_gap` on top from one row to the next; `ahead_left_in_row` are left of the first.
  /// Pieces of one line are neighbours, and each fetch takes `ahead_each`; of longer ones, `ahead_step` apart, it takes
  /// one, and at least one is left.
  const T* ahead;
  ptrdiff_t ahead_pieces, ahead_each, ahead_lines, ahead_step, ahead_row_pieces, ahead_left_in_row, ahead_gap;
  /// Where a packing tile writes what it reads of B, V vectors for each step: a panel for the tiles that follow.
  T* panel;
  /// Where the steps of a listed tile read B, in elements from its base pointer.
  const ptrdiff_t* list;
};

/// What a tile reads of B, V vectors for each step, in the order of A:
/// to[(s.a + k * a_step - first) * V * lanes + x] = B[s.b + x' + k * b_step], with the names of TileArguments.
template <class T>
struct PanelArguments {
  const Segment* segments;
  ptrdiff_t segment_count;
  ptrdiff_t first, a_step;
  const T* b;
  ptrdiff_t b_vector, b_step;
  T* to;
};

/// out[p][k] = clamp(bias[k] + sum over c of in[p][c] * weight[k][c]) for pixels in_pixel apart and at most half a
/// vector of outputs, whose results follow one another without gaps, as the weights do. Channels lie beside each other;
/// bias may be null.
template <class T>
struct ChannelSumArguments {
  const T* in;
  ptrdiff_t in_pixel, pixels, channels;
  const T* weight;
  const T* bias;
  T* out;
  ptrdiff_t outputs;
  T low, high;
};

enum class Curve { sigmoid, hardswish, silu };

/// data[r][x] = clamp(data[r][x] + add[r][x]); columns of data are neighbours, those of add lie add_column apart.
/// Neither is touched beyond its rows and columns, and no pointer needs more than its element's alignment.
template <class T>
struct AddArguments {
  T* data;
  ptrdiff_t data_row;
  const T* add;
  ptrdiff_t add_row, add_column;
  ptrdiff_t rows, columns;
  T low, high;
};

/// Columns of the kernel that are taken at once. Tap column `first` reads `in` columns behind where a result's window
/// starts. Only where the column stride is 2: `second` is the one after it or -1, and beside both `third` is the one
/// before the first or after the second, or -1.
struct TapColumns {
  ptrdiff_t in, first, second, third;
};

/// Convolution of few channels, pixels in the vectors, the planes read in place:
///
/// out[g][k][r][x] = clamp(bias[g][k] + sum over channels c, tap rows i and columns j of weight[g][k][c][i][j] *
///                         in[g][c][first_row + r * row_stride + i * row_dilation]
///                           [first_column + x * column_stride + (in of column j)])
///
/// where whatever lies outside the in_rows x in_columns of a plane is left out and not touched. column_stride is 1
/// or 2. Pixels of a row are neighbours on both sides. Fastest with a row_dilation of 1 and a row_stride of at most 2,
/// since rows of results then share the rows they read. bias may be null. The sum of a result runs through the
/// channels, then through the columns in the order given, then through the rows; how results are cut into tiles leaves
/// no trace in it.
///
/// The table's `interleaved` takes a plane whose columns are the pixels' channels, one after another, as a
/// channels-last image has them: weights and biases differ from column to column then, and come back after `phases`
/// vectors: weight[phase][i][j][lane], behind those of a phase bias[lane]. There is one channel, output and group, and
/// the column stride is 1.
template <class T>
struct DepthwisePlaneArguments {
  const T* in;
  ptrdiff_t in_group, in_channel, in_row;
  ptrdiff_t in_rows, in_columns;
  ptrdiff_t first_row, first_column;
  ptrdiff_t row_stride, row_dilation, column_stride;
  const T* weight;
  const TapColumns* taps;
  ptrdiff_t tap_count;
  ptrdiff_t kernel_rows, kernel_columns;
  const T* bias;
  T* out;
  ptrdiff_t out_channel, out_row;
  ptrdiff_t groups, outputs_per_group, channels_per_group;
  ptrdiff_t rows, columns;
  T low, high;
  bool stream;         ///< whole cache lines of results go past the caches
  bool fetch_results;  ///< the lines of results that follow below those of a tile
  ptrdiff_t phases;
};

/// Convolution of few channels, channels in the vectors, the image read in place; rows and columns as above:
///
/// out[r][x][k] = clamp(bias[k] + sum over c, i, j of weight[v][c][i][j][lane] *
///                      in[first_row + ...][first_column + x * column_stride + j * column_dilation][v * in_vector + l])
///
/// for output channel k = v * lanes + lane. Where there is one channel for each output, `permutation` is null and l =
/// lane. Otherwise channel c of an output takes lane l = permutation[c * lanes + lane] of the input's vector; the table
/// counts in words of 32 bits, so that a double has two entries. Where `permutes_sums`, lane l takes the input's lane l
/// for every c, and between two of them lane l takes the sum of lane permutation[l]: so groups of as many channels in
/// as out need no permutation of what they read. Weights are whole vectors, bias too; in and out are touched below
/// in_channels and out_channels only.
template <class T>
struct DepthwiseChannelsArguments {
  const T* in;
  ptrdiff_t in_row, in_pixel, in_vector;
  ptrdiff_t in_rows, in_columns, in_channels;
  ptrdiff_t first_row, first_column;
  ptrdiff_t row_stride, row_dilation, column_stride, column_dilation;
  const T* weight;
  ptrdiff_t kernel_rows, kernel_columns;
  ptrdiff_t channels_per_output;
  const std::int32_t* permutation;
  bool permutes_sums;
  const T* bias;
  T* out;
  ptrdiff_t out_row, out_pixel;
  ptrdiff_t rows, columns, out_channels;
  T low, high;
  bool stream;        ///< whole cache lines of results go past the caches
  bool fetches_next;  ///< fetch what the next rows of results read: pays where that comes from memory
};

/// What Winograd's algorithm does along an axis: nothing; for tiles of results of so many taps, products at 5, 6 and 6
/// points; or for three taps with stride 2, those of the even pixels' two taps at 5 points and 4 of the odd ones' tap.
/// Axes that are both transformed have as many points each.
enum class WinogradTransform : std::uint8_t { none, two_taps, three_taps, four_taps, three_taps_stride_2 };
inline constexpr int winograd_transforms = 5;

/// What a transform makes of an axis: windows of so many pixels and as many products, of which the last ones may share
/// a weight, for tiles of results.
struct WinogradLine {
  int points, weights, taps, results;
};
static constexpr WinogradLine winograd_line(WinogradTransform transform) {
  switch (transform) {
    case WinogradTransform::two_taps:
      return {5, 5, 2, 4};
    case WinogradTransform::three_taps:
      return {6, 6, 3, 4};
    case WinogradTransform::four_taps:
      return {6, 6, 4, 3};
    case WinogradTransform::three_taps_stride_2:
      return {9, 6, 3, 4};
    default:
      return {1, 1, 1, 1};
  }
}

/// The way in: windows of points, in_row and in_pixel apart, for tiles in_tile apart; the elements of a tile go
/// out_element apart.
template <class T>
struct WinogradInputArguments {
  const T* in;
  ptrdiff_t in_row, in_pixel, in_tile;
  T* out;
  ptrdiff_t out_element, out_tile;
  ptrdiff_t tiles;
};

/// The way back: the products of each tile and output channel to its results, bias added and clamped.
template <class T>
struct WinogradOutputArguments {
  const T* in;
  ptrdiff_t in_element, in_tile;
  const T* bias;  ///< `vectors` whole vectors
  T* out;
  ptrdiff_t out_row, out_pixel, out_tile;
  ptrdiff_t tiles, vectors;
  T low, high;
};

template <class T>
struct WinogradKernels {
  /// Weights, in[channel][tap][lane], to out[element * element_pitch + channel * lanes + lane].
  void (*weight)(const T* in, ptrdiff_t channels, T* out, ptrdiff_t element_pitch);
  void (*input)(const WinogradInputArguments<T>&);
  /// False where a result, before the clamp, wasn't finite: then a NaN or infinity has spread over its tile.
  bool (*output)(const WinogradOutputArguments<T>&);
};

template <class T>
using TileKernel = void (*)(const TileArguments<T>&);

/// Rows that are a multiple of this apart, in bytes, fall into so few sets of the L1 cache that tiles of several rows
/// wait for them: 3x3 on 1024 x 1024 floats takes them six times as long as runs.
inline constexpr ptrdiff_t crowded_row_bytes = 2048;

/// Pixels or planes that are a multiple of this apart, in bytes, all fall into the same sets of the L1 cache.
inline constexpr ptrdiff_t same_set_bytes = 4096;
/// Rows of results that tiles of interleaved channels take together, where there are as many.
inline constexpr int interleaved_tile_rows = 7;
/// So few rows of interleaved channels are read in place although they crowd the sets of the L1 cache.
inline constexpr ptrdiff_t most_crowded_rows = 4;

/// Neighbouring pixels of a row of results that DepthwiseChannelTable's kernel takes together.
inline constexpr int depthwise_tile_pixels = 7;

template <class T>
using DepthwisePlaneKernel = void (*)(const DepthwisePlaneArguments<T>&);

/// Kernels of at least so many rows and columns, with strides and a row dilation of 1, run in blocks where the table
/// has them.
inline constexpr ptrdiff_t least_block_kernel = 7;

template <class T>
struct DepthwisePlaneTable {
  DepthwisePlaneKernel<T> plane;
  /// Whether `plane` takes what lies inside a plane in blocks: so much faster than its edges that planes of few columns
  /// are worth a padded copy.
  bool has_blocks;
  DepthwisePlaneKernel<T> interleaved;
  /// Whether `plane` takes what lies inside a plane row by row: where rows of results share none that they read, or so
  /// few products that sharing them costs more.
  bool (*by_rows)(ptrdiff_t kernel_rows, ptrdiff_t kernel_columns, ptrdiff_t row_stride, ptrdiff_t column_stride);
  /// For square kernels over planes that are runs of pixels: strides of 1, input and results without gaps between their
  /// rows, `width` columns wide, of which results have `kept`; where tap (kernel - 1) / 2 lies on a column of the plane
  /// for each of them. `edge_rows`: rows of results whose windows reach over the top or the bottom. Null where `plane`
  /// serves better.
  DepthwisePlaneKernel<T> (*run)(ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t width, ptrdiff_t kept,
                                 ptrdiff_t edge_rows);
};
template <class T>
struct DepthwiseChannelTable {
  void (*channels)(const DepthwiseChannelsArguments<T>&);
  /// Whether tiles go through the channels by themselves, see channels_in_turn(): of 3, 5 and 7 columns, with 16
  /// registers of any number from 3 on, with strides up to 2 and no column dilation, where each output has one channel.
  bool has_channels_in_turn;
};

template <class T>
struct Table {
  int lanes;
  /// The most rows of a tile that keeps its accumulators in registers, by its number of column vectors.
  int tile_rows[max_tile_vectors + 1];
  /// tile[V][R], null outside 1 <= R <= tile_rows[V].
  TileKernel<T> tile[max_tile_vectors + 1][max_tile_rows + 1];
  /// The same for steps that don't lie at even distances in B: a segment's `b` is an index to the list, whose entries
  /// from there on stand for s.b + k * b_step. They fetch the lines of C and nothing else, and never stream. With
  /// AVX2 alone, for 2 and 3 vectors, those of whole rows; else null.
  TileKernel<T> listed_tile[max_tile_vectors + 1][max_tile_rows + 1];
  /// The tallest tiles, which pack a panel while they compute, and what packs it before: where registers are few null
  /// but for 2 and 3 vectors, those of whole rows; where they are many null.
  TileKernel<T> packing_tile[max_tile_vectors + 1];
  void (*pack_panel[max_tile_vectors + 1])(const PanelArguments<T>&);
  /// What was streamed is seen by other threads as other stores are.
  void (*finish_streaming)();
  /// to[c][r] = from[r][c].
  void (*transpose)(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, T* to, ptrdiff_t to_row);
  /// The same, and whole cache lines of the target go past the caches where a vector fills one; see finish_streaming.
  void (*stream_transposed)(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, T* to,
                            ptrdiff_t to_row);
  /// A vector of output channels of weights that lie channel by channel, to tap by tap: to[(t * channels + c) * lanes +
  /// r] = from[r * from_row + c * taps + t] for r < rows <= lanes, zeros in the other lanes.
  void (*pack_taps)(const T* from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t taps, T* to);
  void (*sum_channels)(const ChannelSumArguments<T>&);
  void (*apply_curve)(Curve curve, T* data, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t columns);
  void (*add_rows)(const AddArguments<T>&);
  const DepthwisePlaneTable<T>* depthwise_planes;
  const DepthwiseChannelTable<T>* depthwise_channels;
  void (*split_phases)(const SplitArguments<T>&);
  void (*pad_rows)(const PadArguments<T>&);
  /// By what is done along each axis, null where neither is transformed or both in ways that don't go together.
  WinogradKernels<T> winograd[winograd_transforms][winograd_transforms];
  /// Runs `steps` rounds of multiply-adds on registers and returns how many operations that was.
  double (*multiply_add_rounds)(ptrdiff_t steps, T* result);
};

/// Everything of one ISA.
struct IsaKernels {
  const char* name;
  const Table<float>& f32;
  const Table<double>& f64;
  const PoolTables& pool;
};

// clang-format off
namespace sse2 { extern const IsaKernels kernels; }
namespace avx2 { extern const IsaKernels kernels; }
namespace avx512 { extern const IsaKernels kernels; }
namespace neon { extern const IsaKernels kernels; }
// clang-format on

template <class T>
const Table<T>& table_of(const IsaKernels& kernels);
template <>
inline const Table<float>& table_of<float>(const IsaKernels& kernels) {
  return kernels.f32;
}
template <>
inline const Table<double>& table_of<double>(const IsaKernels& kernels) {
  return kernels.f64;
}

template <class T>
const PoolTable<T>& pool_table_of(const IsaKernels& kernels) {
  return kernels.pool;
}

}  // namespace convpool::kernels
