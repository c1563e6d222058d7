#pragma once

// How a row of results is cut into register tiles, with output channels in the vectors: where taps leave the image, and
// into parts beside the padding.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "geometry.hpp"
#include "kernels/kernel_table.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {

/// Which taps of a row some of its outputs see.
class SeenTaps {
 public:
  SeenTaps() = default;
  explicit SeenTaps(const Conv2dGeometry& g)
      : axis_(g.w), seeing_all_(g.padding_mode == PaddingMode::zeros ? g.w.outputs_all_inside() : Range{0, g.w.out}) {}

  /// Those that don't show only zeros to the outputs [ow, ow + count).
  Range operator()(std::int64_t ow, std::int64_t count) const {
    Range taps{0, axis_.kernel};
    if (ow >= seeing_all_.begin && ow + count <= seeing_all_.end) return taps;
    const auto is_zero = [&](std::int64_t j) {
      const Range inside = axis_.outputs_inside(j);
      return ow + count <= inside.begin || ow >= inside.end;
    };
    while (taps.begin < taps.end && is_zero(taps.begin)) ++taps.begin;
    while (taps.begin < taps.end && is_zero(taps.end - 1)) --taps.end;
    return taps;
  }

 private:
  Axis axis_;
  Range seeing_all_{0, 0};
};

/// Some outputs of a tile, and the taps that see the image from each of them, as an index to RowTiles::taps().
struct TilePart {
  std::int64_t begin, count, taps;
};

/// Neighbouring tiles of a row, of `count` outputs each, and the taps that they take, as an index to RowTiles::taps():
/// all that some output sees; or, of a single tile that goes in parts, what all of them see.
struct TileRun {
  std::int64_t ow, count, tiles, taps;
  std::int64_t first;                           ///< how many tiles of the row lie before it
  std::int64_t parts_begin = 0, parts_end = 0;  ///< its parts with the other taps, in RowTiles::part()

  std::int64_t pixels() const { return count * tiles; }
  bool whole() const { return parts_begin == parts_end; }
  /// Those of the tiles [begin, end) of the row.
  TileRun within(Range piece) const {
    const std::int64_t begin = std::max(first, piece.begin), end = std::min(first + tiles, piece.end);
    return {ow + (begin - first) * count, count, end - begin, taps, begin, parts_begin, parts_end};
  }
};

class RowTiles {
 public:
  RowTiles() = default;

  /// For `vectors` vectors of output channels. Runs take at most so many pixels; `plane_cost` is what each vector of a
  /// tile costs once, as in choose_tile().
  template <class T>
  RowTiles(const Conv2dGeometry& g, const kernels::Table<T>& kernels, std::int64_t vectors, double plane_cost,
           std::int64_t most_pixels, bool in_parts)
      : seen_(g), all_inside_(g.w.outputs_all_inside()), cuts_(size_product(2, g.w.kernel) + 2) {
    list_cuts(g);
    shape_ = choose_shape(g, kernels, vectors, plane_cost);
    const std::int64_t tallest = kernels.tile_rows[shape_.vectors];
    const std::int64_t tiles_at_most = 2 * ceil_div(g.w.out, ceil_div(tallest, 2));
    // Each end of a tap's outputs lies in one tile.
    const std::int64_t edges = in_parts ? size_product(2, g.w.kernel) : 0;
    runs_ = ScratchList<TileRun>(tiles_at_most);
    parts_ = ScratchList<TilePart>(edges);
    taps_ = ScratchList<Range>(tiles_at_most + edges);
    for_each_piece(g, tallest, [&](std::int64_t first, std::int64_t end) {
      for_each_equal_pieces(EvenSplit(end - first, tallest), [&](std::int64_t begin, std::int64_t height,
                                                                 std::int64_t tiles) {
        for (std::int64_t ow = first + begin, at_once; tiles > 0; tiles -= at_once, ow += at_once * height) {
          at_once = inside(ow, height, tiles);
          if (at_once > 0) {
            add({ow, height, at_once, index_of({0, g.w.kernel}), count_, parts_.size(), parts_.size()}, most_pixels);
          } else {
            add_tile(g, ow, height, most_pixels, in_parts);
            at_once = 1;
          }
        }
      });
    });
  }

  /// The tallest tile, and its vectors.
  TileShape shape() const { return shape_; }
  std::int64_t count() const { return count_; }
  /// Whether no run has several of them.
  bool are_single() const { return runs_.size() == count_; }
  /// The ranges of taps that tiles and parts take.
  const ScratchList<Range>& taps() const { return taps_; }
  const TilePart& part(std::int64_t i) const { return parts_[i]; }
  /// Whether no tile, whole as it is, takes a tap that lies beside the image's columns.
  bool need_no_padding() const { return stay_inside_ && parts_.size() == 0; }

  /// Some tiles, and the runs that hold them.
  struct Piece {
    Range tiles;
    const TileRun *begin, *end;
  };
  Piece piece(Range tiles) const {
    const auto begin = std::partition_point(runs_.begin(), runs_.end(),
                                            [&](const TileRun& run) { return run.first + run.tiles <= tiles.begin; });
    const auto end =
        std::partition_point(begin, runs_.end(), [&](const TileRun& run) { return run.first < tiles.end; });
    return {tiles, begin, end};
  }

  /// Has every tile take all taps, those in the padding too. Not of tiles in parts.
  void share_taps() {
    Range all = taps_[0];
    for (const Range& taps : taps_) all = {std::min(all.begin, taps.begin), std::max(all.end, taps.end)};
    for (TileRun& run : runs_) run.taps = 0;
    taps_[0] = all;
    taps_.resize_down(1);
  }

 private:
  /// Where a tap leaves the image: a row is cut there, if the pieces are worth a tile. With wide dilations most taps
  /// fall wholly into the padding then.
  void list_cuts(const Conv2dGeometry& g) {
    cuts_.push_back(0);
    cuts_.push_back(g.w.out);
    if (g.padding_mode == PaddingMode::zeros) {
      for (std::int64_t j = 0; j < g.w.kernel; ++j) {
        const Range inside = g.w.outputs_inside(j);
        for (const std::int64_t cut : {inside.begin, inside.end}) {
          if (cut > 0 && cut < g.w.out) cuts_.push_back(cut);
        }
      }
    }
    std::sort(cuts_.begin(), cuts_.end());
  }

  /// f(first, end) for the pieces of a row whose tiles are so tall at most.
  template <class F>
  void for_each_piece(const Conv2dGeometry& g, std::int64_t tallest, F&& f) const {
    const std::int64_t least = ceil_div(tallest, 2);
    for (std::int64_t i = 1, from = 0; i < cuts_.size(); ++i) {
      const bool last = i + 1 == cuts_.size();
      if (!last && (cuts_[i] - cuts_[from] < least || g.w.out - cuts_[i] < least)) continue;
      f(cuts_[from], cuts_[i]);
      from = i;
    }
  }

  /// As choose_tile(), by the taps that the pieces' tiles see: lower tiles leave out more of them.
  template <class T>
  TileShape choose_shape(const Conv2dGeometry& g, const kernels::Table<T>& kernels, std::int64_t vectors,
                         double plane_cost) const {
    TileShape best{1, 1};
    double best_cost = std::numeric_limits<double>::infinity();
    for (int v = 1; v <= std::min<std::int64_t>(kernels::max_tile_vectors, vectors); ++v) {
      const int tallest = kernels.tile_rows[v];
      double cost = 0;
      for_each_piece(g, tallest, [&](std::int64_t first, std::int64_t end) {
        const Range taps = seen_(first, end - first);
        cost += static_cast<double>((end - first) * (taps.end - taps.begin)) *
                tiling_cost(EvenSplit(end - first, tallest), EvenSplit(vectors, v), cost_of_load(kernels), plane_cost);
      });
      if (cost < best_cost) {
        best_cost = cost;
        best = {static_cast<int>(EvenSplit(g.w.out, tallest).largest()), v};
      }
    }
    return best;
  }

  /// Of `tiles` neighbouring tiles of a height, how many from the first on have all their taps inside the image.
  std::int64_t inside(std::int64_t ow, std::int64_t height, std::int64_t tiles) const {
    if (ow < all_inside_.begin || ow + height > all_inside_.end) return 0;
    return std::min(tiles, (all_inside_.end - ow) / height);
  }

  void add_tile(const Conv2dGeometry& g, std::int64_t ow, std::int64_t count, std::int64_t most_pixels, bool in_parts) {
    Range taps = seen_(ow, count);
    const std::int64_t parts_begin = parts_.size();
    if (in_parts) list_parts(g, ow, count, taps);
    const std::int64_t index = index_of(taps);
    if (taps.begin < taps.end) {
      const std::int64_t first = g.w.start(ow) + taps.begin * g.w.dilation;
      const std::int64_t last = g.w.start(ow + count - 1) + (taps.end - 1) * g.w.dilation;
      stay_inside_ = stay_inside_ && first >= 0 && last < g.w.in;
    }
    add({ow, count, 1, index, count_, parts_begin, parts_.size()}, most_pixels);
  }

  /// To the last run, if they are alike, and the rest as runs of their own.
  void add(TileRun tiles, std::int64_t most_pixels) {
    shape_.rows = std::max(shape_.rows, static_cast<int>(tiles.count));
    count_ += tiles.tiles;
    const auto pass = [&](std::int64_t passed) {
      tiles.ow += passed * tiles.count, tiles.first += passed, tiles.tiles -= passed;
    };
    if (runs_.size() > 0) {
      TileRun& run = runs_[runs_.size() - 1];
      if (tiles.whole() && run.whole() && run.count == tiles.count && run.taps == tiles.taps) {
        const std::int64_t room = std::max<std::int64_t>(0, most_pixels - run.pixels());
        const std::int64_t fitting = std::min(tiles.tiles, room / tiles.count);
        run.tiles += fitting;
        pass(fitting);
      }
    }
    while (tiles.tiles > 0) {
      TileRun run = tiles;
      run.tiles = std::min(tiles.tiles, std::max<std::int64_t>(1, most_pixels / tiles.count));
      runs_.push_back(run);
      pass(run.tiles);
    }
  }

  /// Leaves in `taps` those that all of the tile's outputs see, and lists the others with the outputs that do.
  void list_parts(const Conv2dGeometry& g, std::int64_t ow, std::int64_t count, Range& taps) {
    const auto outputs_of = [&](std::int64_t j) {
      const Range inside = g.w.outputs_inside(j);
      return Range{std::max(inside.begin, ow), std::min(inside.end, ow + count)};
    };
    Range shared{0, 0};
    for (std::int64_t j = taps.begin, end; j < taps.end; j = end) {
      const Range outputs = outputs_of(j);
      for (end = j + 1; end < taps.end; ++end) {
        const Range next = outputs_of(end);
        if (next.begin != outputs.begin || next.end != outputs.end) break;
      }
      if (outputs.end - outputs.begin == count) {
        shared = {j, end};
      } else if (outputs.begin < outputs.end) {
        parts_.push_back({outputs.begin - ow, outputs.end - outputs.begin, index_of({j, end})});
      }
    }
    taps = shared;
  }

  std::int64_t index_of(const Range& taps) {
    const auto same = [&](const Range& other) { return other.begin == taps.begin && other.end == taps.end; };
    const Range* const known = std::find_if(taps_.begin(), taps_.end(), same);
    const std::int64_t index = known - taps_.begin();
    if (known == taps_.end()) taps_.push_back(taps);
    return index;
  }

  SeenTaps seen_;
  Range all_inside_{0, 0};
  TileShape shape_{1, 1};
  std::int64_t count_ = 0;
  bool stay_inside_ = true;
  ScratchList<std::int64_t> cuts_;
  ScratchList<TileRun> runs_;
  ScratchList<TilePart> parts_;
  ScratchList<Range> taps_;
};

}  // namespace convpool
