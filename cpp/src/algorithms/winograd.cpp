// Winograd's F(4x4, 3x3): 36 products for 16 results of a 3x3 kernel, instead of 144.
//
// A block of tiles (4x4 pixels, counted across images and rows) is transformed for all its channels; then, for each few
// vectors of output channels, the 36 elements are multiplied by the transformed weights, each as tiles x channels, and
// transformed back at once, while the products are in the cache. A tile that holds a NaN or an infinity would spread it
// over all its results: those tiles are found by their results and done again by the definition.

#include <algorithm>
#include <limits>

#include "conv2d_algorithm.hpp"
#include "conv2d_weights.hpp"
#include "epilogue.hpp"
#include "padded_rows.hpp"
#include "parallel.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;

constexpr int64_t tile_size = 4, window = 6;
/// Tiles transformed together: their 36 elements of all channels should fit the L2 cache beside the weights of an
/// element.
constexpr int64_t transformed_bytes = 768 << 10;
constexpr int64_t least_tiles = 28, most_tiles = 64;
/// Neighbouring tiles that share a transposed strip of the input.
constexpr int64_t strip_tiles = 14;

template <class T>
class Winograd {
 public:
  explicit Winograd(const Conv2dRun<T>& run)
      : run_(run), g_(run.geometry), epilogue_(run.activation), lanes_(run.kernels.lanes) {
    tile_columns_ = ceil_div(g_.w.out, tile_size);
    tile_rows_ = ceil_div(g_.h.out, tile_size);
    const int64_t tiles = g_.batch * tile_rows_ * tile_columns_;
    vectors_ = ceil_div(g_.group_out_channels(), lanes_);
    // Rows of 2^n bytes would all fall into the same sets of the L1 cache.
    channel_pitch_ = round_up(g_.group_channels(), lanes_) + lanes_;
    const int64_t fitting = transformed_bytes / (elements * channel_pitch_ * int64_t{sizeof(T)});
    shape_ = choose_tile(run.kernels, std::min(tiles, most_tiles), vectors_);
    const int64_t block = std::clamp<int64_t>(fitting, least_tiles, most_tiles);
    blocks_ = EvenSplit(tiles, std::min(block, std::max(ceil_div(tiles, run.threads), least_tiles)));
    // With few tiles the threads share out the output channels, and with them the weights, which are read once then.
    const int64_t tasks = g_.groups * blocks_.pieces, steps = ceil_div(vectors_, shape_.vectors);
    const int64_t pieces = tasks >= run.threads ? 1 : std::min(steps, ceil_div(run.threads, tasks));
    channel_split_ = EvenSplit(steps, ceil_div(steps, pieces));
  }

  void operator()() const {
    const int64_t transformed = elements * blocks_.largest() * channel_pitch_;
    const int64_t columns = shape_.vectors * lanes_;
    const int64_t products = elements * blocks_.largest() * columns;
    const int64_t strip = std::max(window * strip_pixels() * lanes_, tile_size * strip_tiles * tile_size * columns);
    const SlottedWorkspace<T> scratch(transformed + products + strip, run_.threads);
    parallel_for(g_.groups * blocks_.pieces * channel_split_.pieces, run_.threads, [&](int64_t task, int thread) {
      Task t;
      const int64_t piece = task % channel_split_.pieces;
      task /= channel_split_.pieces;
      t.begin = blocks_.begin(task % blocks_.pieces);
      t.count = blocks_.end(task % blocks_.pieces) - t.begin;
      t.group = task / blocks_.pieces;
      t.transformed = scratch.slot(thread);
      t.products = t.transformed + transformed;
      t.strip = t.products + products;
      transform_input(t);
      for (int64_t p = channel_split_.begin(piece); p < channel_split_.end(piece); ++p) {
        const int64_t v = p * shape_.vectors;
        const int64_t width = std::min<int64_t>(shape_.vectors, vectors_ - v);
        multiply(t, v, width);
        transform_output(t, v, width);
      }
    });
  }

 private:
  static constexpr int64_t elements = window * window;

  struct Task {
    int64_t group, begin, count;
    T *transformed, *products, *strip;
  };

  /// Neighbouring tiles of one row of tiles.
  struct Run {
    int64_t n, row, column, count;
    int64_t first;  ///< the first one's number in its block
  };

  static int64_t strip_pixels() { return strip_tiles * tile_size + window - tile_size; }

  template <class F>
  void for_each_run(const Task& t, F&& f) const {
    for (int64_t i = 0; i < t.count;) {
      const int64_t tile = t.begin + i;
      Run run;
      run.column = tile % tile_columns_;
      run.row = tile / tile_columns_ % tile_rows_;
      run.n = tile / tile_columns_ / tile_rows_;
      run.first = i;
      run.count = std::min({t.count - i, tile_columns_ - run.column, strip_tiles});
      f(run);
      i += run.count;
    }
  }

  void transform_input(const Task& t) const {
    for (int64_t c = 0; c < g_.group_channels(); c += lanes_) {
      for_each_run(t, [&](const Run& run) {
        const int64_t pixels = run.count * tile_size + window - tile_size;
        copy_strip(t, run, c, pixels);
        run_.kernels.winograd_input({t.strip, pixels * lanes_, t.transformed + run.first * channel_pitch_ + c,
                                     blocks_.largest() * channel_pitch_, channel_pitch_, run.count});
      });
    }
  }

  /// Six padded rows of one vector of channels, pixel by pixel.
  void copy_strip(const Task& t, const Run& run, int64_t c, int64_t pixels) const {
    const int64_t channels = std::min(lanes_, g_.group_channels() - c);
    const int64_t left = g_.w.start(run.column * tile_size);
    const int64_t begin = std::clamp<int64_t>(-left, 0, pixels),
                  end = std::clamp<int64_t>(g_.w.in - left, begin, pixels);
    const TensorView<const T>& in = run_.input;
    const T* const image = in.data + run.n * in.stride(0) + (t.group * g_.group_channels() + c) * in.stride(1);
    for (int64_t i = 0; i < window; ++i) {
      T* const strip = t.strip + i * pixels * lanes_;
      const int64_t y = source_index_or_zero(g_.h, run.row * tile_size, i);
      if (y < 0) {
        std::fill_n(strip, pixels * lanes_, T(0));
        continue;
      }
      const T* const row = image + y * in.stride(2);
      if (channels < lanes_) std::fill_n(strip, pixels * lanes_, T(0));
      if (in.stride(3) == 1) {
        run_.kernels.transpose(row + left + begin, in.stride(1), channels, end - begin, strip + begin * lanes_, lanes_);
      } else if (in.stride(1) == 1) {
        run_.kernels.pad_rows({row + (left + begin) * in.stride(3), in.stride(3), strip + begin * lanes_, lanes_,
                               end - begin, 0, channels, channels, T(0)});
      } else {
        for (int64_t x = begin; x < end; ++x) copy_pixel(row, left + x, channels, strip + x * lanes_);
      }
      const auto edge = [&](int64_t from, int64_t until) {
        for (int64_t x = from; x < until; ++x) {
          const int64_t source = source_index_or_zero(g_.w, run.column * tile_size, x);
          if (source < 0) {
            std::fill_n(strip + x * lanes_, lanes_, T(0));
          } else {
            copy_pixel(row, source, channels, strip + x * lanes_);
          }
        }
      };
      edge(0, begin);
      edge(end, pixels);
    }
  }

  void copy_pixel(const T* row, int64_t x, int64_t channels, T* to) const {
    for (int64_t c = 0; c < channels; ++c) to[c] = row[x * run_.input.stride(3) + c * run_.input.stride(1)];
  }

  /// Where pixel `offset` of a window that starts at an output comes from; -1 for a zero. The last tiles reach past the
  /// padding: what they read there serves only results that are dropped.
  int64_t source_index_or_zero(const Axis& axis, int64_t output, int64_t offset) const {
    const int64_t position = axis.start(output) + offset;
    if (position >= axis.in + axis.pad_end) return -1;
    return source_index(position, axis.in, g_.padding_mode);
  }

  void multiply(const Task& t, int64_t v, int64_t width) const {
    const int64_t columns = width * lanes_;
    const kernels::Segment segment{0, 0, g_.group_channels()};
    const EvenSplit rows(t.count, run_.kernels.tile_rows[width]);
    kernels::TileArguments<T> tile{};
    tile.segments = &segment;
    tile.segment_count = 1;
    tile.a_row = channel_pitch_;
    tile.a_step = 1;
    tile.b_vector = elements * winograd_element_pitch(g_, lanes_);
    tile.b_step = lanes_;
    tile.c_row = columns;
    tile.columns = columns;
    tile.low = -std::numeric_limits<T>::infinity();
    tile.high = std::numeric_limits<T>::infinity();
    for (int64_t e = 0; e < elements; ++e) {
      tile.b = run_.weights.data + ((t.group * vectors_ + v) * elements + e) * winograd_element_pitch(g_, lanes_);
      for (int64_t r = 0; r < rows.pieces; ++r) {
        tile.a = t.transformed + (e * blocks_.largest() + rows.begin(r)) * channel_pitch_;
        tile.c = t.products + (e * t.count + rows.begin(r)) * columns;
        run_.kernels.tile[width][rows.end(r) - rows.begin(r)](tile);
      }
    }
  }

  void transform_output(const Task& t, int64_t v, int64_t width) const {
    const int64_t columns = width * lanes_;
    const int64_t first_channel = t.group * g_.group_out_channels() + v * lanes_;
    const int64_t channels = std::min(columns, g_.group_out_channels() - v * lanes_);
    const TensorView<T>& out = run_.output;
    for_each_run(t, [&](const Run& run) {
      const int64_t oh = run.row * tile_size, ow = run.column * tile_size;
      const int64_t rows = std::min(tile_size, g_.h.out - oh), pixels = std::min(run.count * tile_size, g_.w.out - ow);
      const int64_t stage_row = run.count * tile_size * columns;
      const bool finite =
          run_.kernels.winograd_output({t.products + run.first * columns, t.count * columns, columns,
                                        run_.weights.bias + (t.group * vectors_ + v) * lanes_, t.strip, stage_row,
                                        columns, run.count, width, epilogue_.low, epilogue_.high});
      for (int64_t r = 0; r < rows; ++r) {
        T* const to = out.data + run.n * out.stride(0) + first_channel * out.stride(1) + (oh + r) * out.stride(2) +
                      ow * out.stride(3);
        const T* const stage = t.strip + r * stage_row;
        if (out.stride(1) == 1) {
          run_.kernels.pad_rows({stage, columns, to, out.stride(3), pixels, 0, channels, channels, T(0)});
          if (epilogue_.has_curve) run_.kernels.apply_curve(epilogue_.curve, to, out.stride(3), pixels, channels);
        } else {
          run_.kernels.transpose(stage, columns, pixels, channels, to, out.stride(1));
          if (epilogue_.has_curve) run_.kernels.apply_curve(epilogue_.curve, to, out.stride(1), channels, pixels);
        }
      }
      if (!finite) redo(t, run, first_channel, channels, rows, pixels);
    });
  }

  /// The run's results by the definition, in tiles whose own results, before the activation, are not all finite.
  void redo(const Task& t, const Run& run, int64_t first_channel, int64_t channels, int64_t rows,
            int64_t pixels) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t oh = run.row * tile_size + r;
      for (int64_t x = 0; x < pixels; ++x) {
        const int64_t ow = run.column * tile_size + x;
        for (int64_t k = first_channel; k < first_channel + channels; ++k) {
          T& result = run_.output.data[run.n * run_.output.stride(0) + k * run_.output.stride(1) +
                                       oh * run_.output.stride(2) + ow * run_.output.stride(3)];
          if (tile_is_finite(t, run, x / tile_size, k - first_channel, channels)) continue;
          T value = direct_sum(run.n, t.group, k, oh, ow);
          value = value < epilogue_.low ? epilogue_.low : value;
          value = value > epilogue_.high ? epilogue_.high : value;
          if (epilogue_.has_curve) run_.kernels.apply_curve(epilogue_.curve, &value, 1, 1, 1);
          result = value;
        }
      }
    }
  }

  /// Whether the products of a tile and channel are finite and small enough for the way back; what isn't finite in them
  /// shows where the input wasn't.
  bool tile_is_finite(const Task& t, const Run& run, int64_t tile, int64_t channel, int64_t channels) const {
    const int64_t columns = round_up(channels, lanes_);
    T zero = 0;
    for (int64_t e = 0; e < elements; ++e) {
      zero += t.products[(e * t.count + run.first + tile) * columns + channel] * T(64) * T(0);
    }
    return zero == T(0);
  }

  T direct_sum(int64_t n, int64_t group, int64_t k, int64_t oh, int64_t ow) const {
    T sum = run_.weights.bias[group * vectors_ * lanes_ + k - group * g_.group_out_channels()];
    const T* weight = run_.weights.plain + k * g_.reduction();
    for (int64_t c = 0; c < g_.group_channels(); ++c) {
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t y = source_index(g_.h.start(oh) + i, g_.h.in, g_.padding_mode);
        for (int64_t j = 0; j < 3; ++j, ++weight) {
          const int64_t x = source_index(g_.w.start(ow) + j, g_.w.in, g_.padding_mode);
          if (y >= 0 && x >= 0) sum += run_.input(n, group * g_.group_channels() + c, y, x) * *weight;
        }
      }
    }
    return sum;
  }

  const Conv2dRun<T>& run_;
  const Conv2dGeometry& g_;
  Epilogue<T> epilogue_;
  int64_t lanes_, tile_columns_ = 0, tile_rows_ = 0, vectors_ = 0, channel_pitch_ = 0;
  TileShape shape_{};
  EvenSplit blocks_{1, 1}, channel_split_{1, 1};
};

}  // namespace

template <class T>
void run_winograd(const Conv2dRun<T>& run) {
  Winograd<T>{run}();
}

template void run_winograd(const Conv2dRun<float>&);
template void run_winograd(const Conv2dRun<double>&);

}  // namespace convpool
