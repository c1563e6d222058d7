// A window's reduction is the reduction of its rows' reductions, at a cost for each output that hardly grows with the
// window. Rows come first, so that everything is combined in the order of the plane, which positions need.
//
// Along a row: tap by tap for short windows; for long ones from rows that hold the reductions of 4, 16, 64, ... taps,
// of which a window takes at most a few. Every window is reduced from its own taps alone: no running sum that drifts,
// or that carries a NaN further.
//
// Down the columns: row by row for short windows. Long ones by van Herk and Gil-Werman: with the rows cut into blocks
// as high as the window, a window is the end of one block and the beginning of the next.

#include <algorithm>
#include <limits>
#include <new>
#include <numeric>

#include "block_sizes.hpp"
#include "first_position.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "pool_divisors.hpp"
#include "pool_streaming.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using std::int64_t;
using std::ptrdiff_t;

/// Up to this many taps are taken one by one: as many steps as the ways for long windows have.
constexpr int64_t few_taps = 7;

/// Lines of rows that are reduced along together.
constexpr int64_t lines_at_once_bytes = 32 << 10;

/// At most so many rows of the input do `rows` rows of results read.
int64_t rows_read(const Axis& h, int64_t rows) { return std::min(h.in, h.covered_span(rows)); }

/// How many rows of results are made of transposed planes at once, or none: all of them where the planes fit; else,
/// with positions and columns more than 2 apart, as many as a strip holds, unless strips would share most of their rows
/// or windows skip most. Taking rows apart by such strides goes element by element (3x3 with stride 3 of 32 channels on
/// 112x112 420 us, in strips 145, Emerald Rapids; with stride 2 strips lose a tenth).
template <class T>
int64_t transposed_rows(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  // A position of 64 bits counts as two floats.
  const auto bytes = [&](int64_t rows) {
    const int64_t elements =
        size_product(rows_read(g.h, rows), g.w.in) + size_product(rows, g.w.out, run.positions ? 3 : 1);
    return size_product(elements, run.kernels.lanes, int64_t{sizeof(T)});
  };
  // Measured on Zen 4: three times as fast on 20x20, still a third faster on 80x80.
  if (bytes(g.h.out) <= block_sizes().transposed_pool_planes / (run.positions ? 2 : 1)) return g.h.out;
  if (!run.positions || g.w.stride <= 2) return 0;
  const int64_t room = block_sizes().transposed_pool_planes / 4;
  int64_t rows = 0;
  for (int64_t step = int64_t{1} << 20; step > 0; step /= 2) {
    if (rows + step <= g.h.out && bytes(rows + step) <= room) rows += step;
  }
  const int64_t new_rows = size_product(rows, g.h.stride);
  return rows_read(g.h, rows) <= 2 * new_rows && g.h.stride / 2 <= g.h.effective_kernel() ? rows : 0;
}

template <class T>
class SlidingPool {
  using Index = typename kernels::IndexOf<T>::type;
  /// Of what lies outside the plane: stays negative when a position is added.
  static constexpr Index outside_position = std::numeric_limits<Index>::min();

 public:
  explicit SlidingPool(const Pool2dRun<T>& run)
      : run_(run),
        g_(run.geometry),
        kernels_(run.reduction_kernels()),
        positions_(run.positions),
        transposed_(transposes_planes(run)),
        channels_last_(run.channels_last || transposed_),
        inner_(transposed_         ? run.kernels.lanes
               : run.channels_last ? g_.channels
                                   : 1),
        in_row_(transposed_ ? g_.w.in * inner_ : run.input.stride(2)),
        in_pixel_(transposed_ ? inner_ : run.input.stride(3)),
        out_row_(transposed_ ? g_.w.out * inner_ : run.output.stride(2)),
        at_row_(transposed_ ? out_row_ : run.indices.stride(2)),
        identity_(run.averages() ? T(0) : kernels::lowest<T>),
        divisors_(run, inner_),
        streams_(!transposed_ && streams(run)),
        rows_inside_(g_.h.outputs_all_inside()),
        columns_inside_(g_.w.outputs_all_inside()) {
    // Rows whose distance is the dilation, and windows as many such rows apart.
    const int64_t common = std::gcd(g_.h.stride, g_.h.dilation);
    phases_ = g_.h.dilation / common;
    const int64_t apart = g_.h.stride / common;
    in_blocks_ = g_.h.kernel > few_taps && g_.h.kernel / 3 > apart;
    const int64_t kept_rows = in_blocks_ ? size_product(2, g_.h.kernel) + 1 : g_.h.kernel;

    splits_ = !channels_last_ && g_.w.stride > 1 && (g_.w.kernel - 1) / few_taps < g_.w.stride;
    in_levels_ = !splits_ && g_.w.kernel > few_taps;
    slides_ = in_levels_ && !channels_last_ && g_.w.dilation == 1 && kernels_.slide != nullptr;
    // A window of at most a vector needs no level above the input.
    const int64_t lowest = slides_ ? run.kernels.lanes : 4;
    if (in_levels_ && !(slides_ && g_.w.kernel <= lowest)) {
      // From a level whose windows make up few of a whole one, the last step takes them all.
      for (int64_t rest = g_.w.kernel / lowest; rest > 0; rest = rest > few_taps ? rest / 4 : 0) ++levels_;
    }

    const int64_t element = static_cast<int64_t>(sizeof(T)) + (positions_ ? static_cast<int64_t>(sizeof(Index)) : 0);
    const int64_t fitting = block_sizes().sliding_rows / size_product(element, kept_rows + lines_of_a_row(), inner_);
    const int64_t reach = std::min(g_.w.effective_kernel() / g_.w.stride, unaffordable);
    columns_ = EvenSplit(g_.w.out, transposed_ ? g_.w.out : std::max<int64_t>({fitting, 2 * reach, 64}));
    const int64_t most = columns_.largest(), lanes = run.kernels.lanes;
    row_pitch_ = odd_lines<T>(size_product(most, inner_));
    line_pitch_ = round_up(size_product(g_.w.covered_span(most), inner_), 2 * lanes) + 2 * lanes;
    phase_pitch_ = round_up(ceil_div(line_pitch_, g_.w.stride), lanes) + lanes;
    if (slides_) line_pitch_ += (kernels::max_slide_levels + 1) * lanes;
    if (splits_) line_pitch_ = size_product(phase_pitch_, g_.w.stride);
    kept_rows_ = kept_rows;
    // Measured on Zen 4: a tenth faster where a block is beyond the L1 cache and a row isn't; else up to that slower.
    const int64_t row_bytes = size_product(row_pitch_, element);
    results_follow_rows_ = in_blocks_ && row_bytes <= 4 << 10 && size_product(row_bytes, g_.h.kernel) > 64 << 10;
    // What a kernel starts with takes as long as a few hundred elements; their lines stay in the L1 cache.
    if (in_blocks_ && slides_) {
      const int64_t bytes = size_product(element, line_pitch_, lines_of_a_row());
      rows_at_once_ = std::clamp<int64_t>(lines_at_once_bytes / bytes, 1, 4);
    }
    if (size_product(line_pitch_, lines_of_a_row()) >= unaffordable) throw std::bad_alloc();
    make_along_taps();
  }

  void operator()() const {
    const EvenSplit blocks(g_.channels, transposed_ ? inner_ : 1);
    const int64_t planes = g_.batch * (run_.channels_last ? 1 : blocks.pieces);
    const EvenSplit rows(g_.h.out, transposed_ ? transposed_rows(run_) : rows_per_task(planes));
    const int64_t lines = size_product(line_pitch_, lines_of_a_row(), rows_at_once_),
                  kept = size_product(kept_rows_, row_pitch_);
    const int64_t in_strip = transposed_ ? rows_read(g_.h, rows.largest()) * g_.w.in * inner_ : 0;
    const int64_t out_strip = transposed_ ? rows.largest() * g_.w.out * inner_ : 0;
    const SlottedWorkspace<T> images(in_strip + out_strip, run_.threads);
    const SlottedWorkspace<int64_t> wide_images(positions_ ? out_strip : 0, run_.threads);
    const SlottedWorkspace<T> values(lines + kept, run_.threads);
    const SlottedWorkspace<Index> positions(positions_ ? lines + kept : 0, run_.threads);
    const SlottedWorkspace<int64_t> counters(size_product(4, g_.h.kernel), run_.threads);
    parallel_for(planes * columns_.pieces * rows.pieces, run_.threads, [&](int64_t task, int thread) {
      Task t;
      t.rows = {rows.begin(task % rows.pieces), rows.end(task % rows.pieces)};
      task /= rows.pieces;
      t.columns = {columns_.begin(task % columns_.pieces), columns_.end(task % columns_.pieces)};
      task /= columns_.pieces;
      t.lines = {values.slot(thread), positions_ ? positions.slot(thread) : nullptr};
      t.kept = t.lines + lines;
      t.counters = counters.slot(thread);
      const int64_t n = run_.channels_last ? task : task / blocks.pieces;
      const int64_t c = run_.channels_last ? 0 : blocks.begin(task % blocks.pieces);
      const T* const in = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
      T* const out = run_.output.data + n * run_.output.stride(0) + c * run_.output.stride(1);
      if (transposed_) {
        const int64_t channels = blocks.end(task % blocks.pieces) - c;
        const int64_t first_read = std::clamp<int64_t>(g_.h.start(t.rows.begin), 0, g_.h.in);
        const int64_t last_start = g_.h.start(t.rows.end - 1);
        const int64_t read_end =
            std::max(first_read, last_start + std::min(g_.h.effective_kernel(), g_.h.in - last_start));
        const int64_t first = t.rows.begin * g_.w.out, results = t.rows.end * g_.w.out - first;
        T* const image = images.slot(thread);
        run_.kernels.transpose(in + first_read * g_.w.in, run_.input.stride(1), channels,
                               (read_end - first_read) * g_.w.in, image, inner_);
        // As if all rows were there.
        t.in = image - first_read * in_row_;
        t.out = image + in_strip - first * inner_;
        t.at = positions_ ? wide_images.slot(thread) - first * inner_ : nullptr;
        run_task(t);
        if (positions_) {
          int64_t* const at = run_.indices.data + n * run_.indices.stride(0) + c * run_.indices.stride(1) + first;
          run_.kernels.transpose_positions(wide_images.slot(thread), inner_, results, channels, at,
                                           run_.indices.stride(1));
        }
        run_.kernels.transpose(image + in_strip, inner_, results, channels, out + first, run_.output.stride(1));
        return;
      }
      const int64_t first = t.columns.begin * (run_.channels_last ? run_.output.stride(3) : 1);
      t.in = in;
      t.out = out + first;
      if (positions_) t.at = run_.indices.data + n * run_.indices.stride(0) + c * run_.indices.stride(1) + first;
      run_task(t);
      if (streams_) run_.kernels.finish_streaming();
    });
  }

 private:
  /// Rows of values and, where they are wanted, of positions, laid out alike.
  struct Rows {
    T* values = nullptr;
    Index* at = nullptr;
    Rows operator+(int64_t elements) const { return {values + elements, at == nullptr ? nullptr : at + elements}; }
  };

  struct Task {
    Range rows, columns;
    const T* in;
    T* out;
    int64_t* at = nullptr;
    Rows lines;  ///< a row of the input with its padding, its levels, and a spare one
    Rows kept;   ///< rows reduced along, for the windows that still need them
    int64_t* counters;

    // The input columns that the results read: where they start, how many, and which of them lie inside.
    int64_t first = 0, count = 0;
    Range inside{0, 0};
    bool in_place = false;
  };

  int64_t rows_per_task(int64_t planes) const {
    if (run_.threads == 1) return g_.h.out;
    constexpr int64_t tasks_per_thread = 4;
    const int64_t tasks = ceil_div(tasks_per_thread * run_.threads, planes * columns_.pieces);
    // Rows that two tasks both need are reduced along twice.
    return std::max({ceil_div(g_.h.out, tasks), g_.h.effective_kernel() / g_.h.stride * 2, int64_t{4}});
  }

  /// A row of the input with its padding, its levels, a spare one, and one for what a sum takes beyond its levels.
  int64_t lines_of_a_row() const { return levels_ + 3; }
  int64_t level_taps(int64_t level) const {
    return level == 0 ? 1 : (slides_ ? int64_t{run_.kernels.lanes} : int64_t{4}) << (2 * (level - 1));
  }

  /// Where the taps of a window, or the levels that stand for them, lie from the first of its line on.
  void make_along_taps() {
    const int64_t taps = in_levels_ ? 4 * (levels_ + 1) + 1 : g_.w.kernel;
    along_memory_ = Workspace(static_cast<std::size_t>(size_product(taps, int64_t{sizeof(ptrdiff_t)})));
    along_ = along_memory_.as<ptrdiff_t>();
    const int64_t tap = size_product(g_.w.dilation, inner_);
    if (slides_ && levels_ == 0) return;
    if (!in_levels_) {
      for (int64_t j = 0; j < g_.w.kernel; ++j) {
        const int64_t x = j * g_.w.dilation;
        along_[along_taps_++] = splits_ ? x % g_.w.stride * phase_pitch_ + x / g_.w.stride : j * tap;
      }
      return;
    }
    int64_t covered = 0;
    if (!run_.averages()) {
      // Pieces of a maximum may overlap.
      const int64_t piece = level_taps(levels_);
      for (; covered < g_.w.kernel; covered += piece) {
        along_[along_taps_++] = levels_ * line_pitch_ + std::min(covered, g_.w.kernel - piece) * tap;
      }
      return;
    }
    for (int64_t level = levels_; level >= (slides_ ? 1 : 0); --level) {
      for (; g_.w.kernel - covered >= level_taps(level); covered += level_taps(level)) {
        along_[along_taps_++] = level * line_pitch_ + covered * tap;
      }
    }
    rest_ = g_.w.kernel - covered;
    if (rest_ > 0) along_[along_taps_++] = (levels_ + 2) * line_pitch_ + covered * tap;
  }

  void run_task(Task& t) const {
    t.first = g_.w.start(t.columns.begin);
    t.count = (t.columns.end - t.columns.begin - 1) * g_.w.stride + g_.w.effective_kernel();
    t.inside = {std::clamp<int64_t>(t.first, 0, g_.w.in), std::clamp<int64_t>(t.first + t.count, 0, g_.w.in)};
    const bool dense = channels_last_ ? in_pixel_ == inner_ : true;
    t.in_place = dense && !splits_ && !in_levels_ && (channels_last_ || g_.w.stride == 1) &&
                 t.inside.end - t.inside.begin == t.count;
    if (positions_) number_columns(t);
    for (int64_t phase = 0; phase < std::min(phases_, t.rows.end - t.rows.begin); ++phase) {
      if (in_blocks_) {
        reduce_down_in_blocks(t, t.rows.begin + phase);
      } else {
        reduce_down_by_taps(t, t.rows.begin + phase);
      }
    }
  }

  /// The columns' numbers, beside the line that they are the same for every row of.
  void number_columns(const Task& t) const {
    Index* const line = t.lines.at;
    const auto number = [&](int64_t x) {
      return x >= t.inside.begin && x < t.inside.end ? static_cast<Index>(x) : outside_position;
    };
    if (!splits_) {
      for (int64_t x = 0; x < t.count; ++x) std::fill_n(line + x * inner_, inner_, number(t.first + x));
      return;
    }
    for (int64_t p = 0; p < g_.w.stride; ++p) {
      for (int64_t i = 0; i < phase_pitch_; ++i) line[p * phase_pitch_ + i] = number(t.first + i * g_.w.stride + p);
    }
  }

  /// Row y of the input with its padding, taken apart by the stride where the taps expect that.
  void fill_line(const Task& t, int64_t y) const {
    const T* const row = t.in + y * in_row_;
    const int64_t lead = t.inside.begin - t.first, columns = t.inside.end - t.inside.begin;
    if (splits_) {
      run_.kernels.split_phases({row + t.inside.begin, 0, t.lines.values, 0, phase_pitch_, 1, lead, columns,
                                 round_up(t.count, 2 * int64_t{run_.kernels.lanes}), g_.w.stride, identity_});
      return;
    }
    if (!channels_last_ || in_pixel_ == inner_) {
      run_.kernels.pad_rows({row + t.inside.begin * inner_, 0, t.lines.values, 0, 1, lead * inner_, columns * inner_,
                             t.count * inner_, identity_});
      return;
    }
    std::fill_n(t.lines.values, lead * inner_, identity_);
    for (int64_t x = 0; x < columns; ++x) {
      std::copy_n(row + (t.inside.begin + x) * in_pixel_, inner_, t.lines.values + (lead + x) * inner_);
    }
    std::fill(t.lines.values + (lead + columns) * inner_, t.lines.values + t.count * inner_, identity_);
  }

  /// The reductions of `rows` input rows' parts of each window of a row of results, from row y on, a dilation apart;
  /// several where they slide.
  void reduce_along(const Task& t, int64_t y, int64_t rows, const Rows& to) const {
    kernels::ReduceArguments<T> a{};
    a.in = t.lines.values;
    if (t.in_place) {
      a.in = t.in + y * in_row_ + t.first * inner_;
    } else if (!slides_) {
      fill_line(t, y);
    }
    a.in_at = t.lines.at;
    a.rows = rows;
    a.in_row = a.out_row = lines_of_a_row() * line_pitch_;
    const int64_t apart = rows > 1 ? g_.h.dilation : 0;  // which may be too large to be multiplied
    const int64_t row_positions = apart * g_.w.in;
    const Rows spare = t.lines + (levels_ + 1) * line_pitch_;
    const auto slide = [&](int64_t taps, const Rows& into, int64_t pitch, int64_t columns, int64_t at_add,
                           int64_t at_add_row) {
      kernels_.slide({t.in + y * in_row_ + t.inside.begin, apart * in_row_, rows, t.inside.begin - t.first,
                      t.inside.end - t.inside.begin, t.lines.at, taps, into.values, into.at, pitch, columns, at_add,
                      at_add_row});
    };
    for (int64_t level = 1; level <= levels_; ++level) {
      const Rows from = t.lines + (level - 1) * line_pitch_, into = from + line_pitch_;
      if (slides_ && level == 1) {
        slide(level_taps(1), into, a.in_row, t.count - level_taps(1) + 1, 0, 0);
        continue;
      }
      const int64_t taps = level_taps(level - 1), tap = taps * g_.w.dilation * inner_;
      const ptrdiff_t offsets[4] = {0, tap, 2 * tap, 3 * tap};
      kernels::ReduceArguments<T> next = a;
      next.in = from.values;
      next.in_at = from.at;
      next.offset = offsets;
      next.taps = 4;
      next.out = into.values;
      next.out_at = into.at;
      next.columns = (t.count - (4 * taps - 1) * g_.w.dilation) * inner_;
      kernels_.reduce(next);
    }
    if (slides_ && levels_ > 0 && rest_ > 0) slide(rest_, spare + line_pitch_, a.in_row, t.count - rest_ + 1, 0, 0);
    const int64_t results = t.columns.end - t.columns.begin;
    a.offset = along_;
    a.taps = along_taps_;
    a.at_add = y * g_.w.in;
    a.at_add_row = row_positions;
    a.out = to.values;
    a.out_at = to.at;
    a.out_row = row_pitch_;
    a.columns = results * inner_;
    if (g_.w.stride > 1 && channels_last_) {
      a.rows = results;
      a.columns = inner_;
      a.in_row = g_.w.stride * inner_;
      a.out_row = inner_;
      a.at_add_row = 0;
    } else if (g_.w.stride > 1 && !splits_) {
      // Long windows with a stride: all of them, then those that are wanted.
      a.out = spare.values;
      a.out_at = spare.at;
      a.out_row = a.in_row;
      a.columns = (results - 1) * g_.w.stride + 1;
      if (slides_ && levels_ == 0) {
        slide(g_.w.kernel, spare, a.in_row, a.columns, a.at_add, row_positions);
      } else {
        kernels_.reduce(a);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const Rows all = spare + r * a.in_row, row = to + r * row_pitch_;
        for (int64_t o = 0; o < results; ++o) row.values[o] = all.values[o * g_.w.stride];
        for (int64_t o = 0; positions_ && o < results; ++o) row.at[o] = all.at[o * g_.w.stride];
      }
      return;
    }
    if (slides_ && levels_ == 0) {
      slide(g_.w.kernel, to, a.out_row, a.columns, a.at_add, row_positions);
    } else {
      kernels_.reduce(a);
    }
  }

  void reduce_down_by_taps(const Task& t, int64_t first_output) const {
    // The rows of one window are a dilation apart, those of the next window in this phase among them.
    int64_t* const row_in_slot = t.counters;
    ptrdiff_t* const offsets = reinterpret_cast<ptrdiff_t*>(t.counters + g_.h.kernel);
    std::fill_n(row_in_slot, g_.h.kernel, int64_t{-1});
    for (int64_t oh = first_output; oh < t.rows.end; oh += phases_) {
      const Range taps = g_.h.taps_inside(oh);
      if (taps.empty()) {
        std::fill_n(t.out + oh * out_row_, (t.columns.end - t.columns.begin) * inner_, identity_);
        if (positions_) {
          std::fill_n(t.at + oh * at_row_, (t.columns.end - t.columns.begin) * inner_, no_position);
        }
        continue;
      }
      int64_t y = g_.h.start(oh) + taps.begin * g_.h.dilation, slot = y / g_.h.dilation % g_.h.kernel;
      for (int64_t i = taps.begin; i < taps.end; ++i, y += g_.h.dilation) {
        if (row_in_slot[slot] != y) {
          reduce_along(t, y, 1, t.kept + slot * row_pitch_);
          row_in_slot[slot] = y;
        }
        offsets[i - taps.begin] = slot * row_pitch_;
        if (++slot == g_.h.kernel) slot = 0;  // a division for each tap took two fifths of 4x4 windows' time
      }
      kernels::ReduceArguments<T> a{};
      a.in = t.kept.values;
      a.in_at = t.kept.at;
      a.offset = offsets;
      a.taps = taps.end - taps.begin;
      a.out = t.out + oh * out_row_;
      if (positions_) a.out_wide = t.at + oh * at_row_;
      a.rows = 1;
      a.columns = (t.columns.end - t.columns.begin) * inner_;
      a.divisor = divisors_.of(t.columns);
      if (divisors_.rows() != nullptr) a.divisor.row_count = divisors_.rows()[oh];
      a.stream = streams_;
      kernels_.reduce(a);
      place_missing_positions(t, oh);
    }
  }

  void reduce_down_in_blocks(const Task& t, int64_t first_output) const {
    const int64_t kernel = g_.h.kernel,
                  last_output = first_output + (t.rows.end - 1 - first_output) / phases_ * phases_;
    // Row number r of this phase is row r * dilation + phase of the input. Blocks start at multiples of the kernel,
    // wherever the task does, so that its size leaves no trace in the bits.
    const int64_t phase = g_.h.start(first_output) - floor_div(g_.h.start(first_output), g_.h.dilation) * g_.h.dilation;
    const auto row_number = [&](int64_t oh) { return (g_.h.start(oh) - phase) / g_.h.dilation; };
    const int64_t apart = g_.h.stride / std::gcd(g_.h.stride, g_.h.dilation);
    const int64_t first_row = row_number(first_output), last_row = row_number(last_output);
    const int64_t results = (t.columns.end - t.columns.begin) * inner_;
    Rows block = t.kept, previous = t.kept + kernel * row_pitch_;
    const Rows prefix = t.kept + 2 * kernel * row_pitch_;
    T** const out = reinterpret_cast<T**>(t.counters);
    int64_t** const at = reinterpret_cast<int64_t**>(t.counters + kernel);
    T* const row_counts = reinterpret_cast<T*>(t.counters + 2 * kernel);
    for (int64_t number = floor_div(first_row, kernel); number * kernel <= last_row + kernel - 1; ++number) {
      const int64_t begin = number * kernel;
      const Range needed{std::max(begin, first_row) - begin, std::min(begin + kernel, last_row + kernel) - begin};
      // A window that ends with row i of this block starts with row i + 1 of the one before.
      const auto finish_rows = [&](int64_t first, int64_t end) {
        bool any = false;
        for (int64_t i = first; i < end; ++i) {
          const int64_t start = begin + i - kernel + 1 - first_row;
          const bool wanted = start >= 0 && start % apart == 0 && start <= last_row - first_row;
          const int64_t oh = first_output + (wanted ? start / apart * phases_ : 0);
          out[i] = wanted ? t.out + oh * out_row_ : nullptr;
          if (positions_) at[i] = wanted ? t.at + oh * at_row_ : nullptr;
          if (divisors_.rows() != nullptr) row_counts[i] = divisors_.rows()[oh];
          any = any || wanted;
        }
        if (!any && !results_follow_rows_) return;
        kernels::PrefixArguments<T> a{};
        const Rows rows = block + first * row_pitch_, suffix = previous + first * row_pitch_;
        a.rows = rows.values;
        a.at = rows.at;
        a.suffix = suffix.values;
        a.suffix_at = suffix.at;
        a.suffix_count = kernel - first;
        a.pitch = row_pitch_;
        a.count = end - first;
        a.columns = results;
        if (results_follow_rows_) {
          a.prefix = prefix.values;
          a.prefix_at = prefix.at;
          a.continues = first > 0;
        }
        a.out = out + first;
        a.out_wide = at + first;
        a.out_row = streams_ || transposed_ ? 0 : size_product(out_row_, phases_);
        a.divisor = divisors_.of(t.columns);
        if (divisors_.rows() != nullptr) a.row_count = row_counts + first;
        a.stream = streams_;
        kernels_.prefix_rows(a);
      };
      for (int64_t i = needed.begin; i < needed.end;) {
        const int64_t y = (begin + i) * g_.h.dilation + phase;
        const Rows row = block + i * row_pitch_;
        int64_t rows = 1;
        if (y >= 0 && y < g_.h.in) {
          rows = std::min({rows_at_once_, needed.end - i, ceil_div(g_.h.in - y, g_.h.dilation)});
          reduce_along(t, y, rows, row);
        } else {
          std::fill_n(row.values, results, identity_);
          if (positions_) std::fill_n(row.at, results, outside_position);
        }
        // No window ends in a block whose first row no window needs.
        if (results_follow_rows_ && needed.begin == 0) finish_rows(i, i + rows);
        i += rows;
      }
      if (!results_follow_rows_ && needed.begin == 0) finish_rows(0, needed.end);
      if (needed.end == kernel) {
        const Rows from = block + needed.begin * row_pitch_;
        kernels_.suffix_rows({from.values, from.at, row_pitch_, kernel - needed.begin, results});
      }
      std::swap(block, previous);
    }
    for (int64_t oh = first_output; oh < t.rows.end; oh += phases_) place_missing_positions(t, oh);
  }

  /// Windows in which nothing was larger than the padding; those that saw none of it aren't looked at.
  void place_missing_positions(const Task& t, int64_t oh) const {
    if (!positions_) return;
    int64_t* const row = t.at + oh * at_row_;
    const auto place = [&](int64_t begin, int64_t end) {
      int64_t* const at = row + (begin - t.columns.begin) * inner_;
      const int64_t results = (end - begin) * inner_;
      int64_t signs = 0;
      for (int64_t x = 0; x < results; ++x) signs |= at[x];
      if (signs >= 0) return;
      for (int64_t x = 0; x < results; ++x) {
        if (at[x] < 0) at[x] = first_position(g_, oh, begin + x / inner_);
      }
    };
    // One by one, only a window's rows inside the plane were taken.
    const bool rows_inside = !in_blocks_ || (oh >= rows_inside_.begin && oh < rows_inside_.end);
    const int64_t begin =
        rows_inside ? std::clamp(columns_inside_.begin, t.columns.begin, t.columns.end) : t.columns.end;
    const int64_t end = std::clamp(columns_inside_.end, begin, t.columns.end);
    place(t.columns.begin, begin);
    place(end, t.columns.end);
  }

  const Pool2dRun<T>& run_;
  const Pool2dGeometry& g_;
  const kernels::ReductionKernels<T>& kernels_;
  bool positions_;
  bool transposed_;  ///< planes to pixels that hold an element of each, in scratch
  bool channels_last_;
  int64_t inner_;  ///< elements to a pixel of a row
  int64_t in_row_, in_pixel_, out_row_, at_row_;
  T identity_;
  PoolDivisors<T> divisors_;
  bool streams_;
  Range rows_inside_, columns_inside_;  ///< of results whose windows reach no padding
  int64_t phases_ = 1;
  bool in_blocks_ = false;
  bool results_follow_rows_ = false;  ///< in blocks: results right after the last row of their windows
  int64_t rows_at_once_ = 1;          ///< in blocks: rows reduced along together
  bool splits_ = false, in_levels_ = false;
  bool slides_ = false;  ///< windows of up to a vector in registers
  int64_t levels_ = 0;
  int64_t rest_ = 0;
  EvenSplit columns_{1, 1};
  int64_t row_pitch_ = 0, line_pitch_ = 0, phase_pitch_ = 0, kept_rows_ = 0;
  Workspace along_memory_;
  ptrdiff_t* along_ = nullptr;
  int64_t along_taps_ = 0;
};

}  // namespace

template <class T>
bool transposes_planes(const Pool2dRun<T>& run) {
  const Pool2dGeometry& g = run.geometry;
  return run.kernels.transpose != nullptr && !run.channels_last && 2 * g.channels > run.kernels.lanes &&
         (run.input.stride(2) == g.w.in || g.h.in == 1) && (run.output.stride(2) == g.w.out || g.h.out == 1) &&
         (!run.positions || run.indices.stride(2) == g.w.out || g.h.out == 1) && transposed_rows(run) > 0;
}

template <class T>
void run_sliding_pool(const Pool2dRun<T>& run) {
  SlidingPool<T>{run}();
}

#define CONVPOOL_INSTANTIATE(T)                         \
  template bool transposes_planes(const Pool2dRun<T>&); \
  template void run_sliding_pool(const Pool2dRun<T>&);
CONVPOOL_FOR_POOL_TYPES(CONVPOOL_INSTANTIATE)
#undef CONVPOOL_INSTANTIATE

}  // namespace convpool
