// A window's reduction is the reduction of its rows' reductions: down the columns first, in whole rows, then along the
// row. The work for an output is kh + kw steps instead of kh * kw.

#include <algorithm>
#include <limits>

#include "padded_rows.hpp"
#include "parallel.hpp"
#include "pool2d_algorithm.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {
namespace {

using kernels::ReduceArguments;
using kernels::Reduction;
using std::int64_t;
using std::ptrdiff_t;

/// The rows between the two passes stay in the L1 cache.
constexpr int64_t scratch_bytes = 16 << 10;

/// The part of an average's divisor that one axis contributes: the taps of an output that count.
int64_t counted_taps(const Axis& axis, int64_t output, bool count_include_pad) {
  if (!count_include_pad) {
    const Range taps = axis.taps_inside(output);
    return taps.end - taps.begin;
  }
  // What ceil_mode adds beyond the padding doesn't count.
  const int64_t room = axis.in + axis.pad_end - axis.start(output);
  return std::min(axis.kernel, (room - 1) / axis.dilation + 1);
}

template <class T>
class SeparablePool {
 public:
  SeparablePool(const Pool2dRun<T>& run, Reduction reduction, const DivisorRule& divisor)
      : run_(run), g_(run.geometry), reduction_(reduction), divisor_(divisor) {
    // Channels-last is the same two passes over rows whose elements are runs of `inner_` channels.
    inner_ = run.channels_last ? g_.channels : 1;
    splits_phases_ = !run.channels_last && g_.w.stride > 1;
    const int64_t row_elements = size_product(padded_columns(g_.w.out), inner_);
    const int64_t fitting = scratch_bytes / int64_t{sizeof(T)};
    const int64_t reach = g_.w.effective_kernel() - 1;
    // Rows too long for the scratch are cut into columns, but not so short that their overlap dominates.
    const int64_t columns = (fitting / inner_ - reach) / g_.w.stride;
    column_split_ = EvenSplit(g_.w.out, std::max<int64_t>({columns, 2 * reach / g_.w.stride, 16}));
    const int64_t piece = row_elements / column_split_.pieces + size_product(reach, inner_);
    rows_ = std::clamp<int64_t>(fitting / std::max<int64_t>(1, piece), 1, g_.h.out);
    phased_ = PhasedRows(g_.w, 0, column_split_.largest(), run.kernels.lanes);
    row_pitch_ = size_product(splits_phases_ ? phased_.row_pitch() : padded_columns(column_split_.largest()), inner_);
  }

  void operator()() const {
    const int64_t planes = run_.channels_last ? g_.batch : g_.batch * g_.channels;
    if (whole_planes()) return reduce_whole_planes(planes);
    const int64_t row_tasks = ceil_div(g_.h.out, rows_ * 4);
    const int64_t divisors = reduction_ == Reduction::sum ? size_product(column_split_.largest(), inner_) : 0;
    const int64_t offsets = std::min(g_.h.kernel, unaffordable) + std::min(g_.w.kernel, unaffordable);
    const int64_t block = size_product(rows_, row_pitch_);
    const SlottedWorkspace<T> scratch(block * (splits_phases_ ? 2 : 1) + 2 * divisors, run_.threads);
    const SlottedWorkspace<ptrdiff_t> offset_scratch(offsets, run_.threads);
    const Divisors usual = make_usual_divisors();
    if (pads_once()) {
      for (int thread = 0; thread < run_.threads; ++thread) pad_rows(columns_read({0, g_.w.out}), scratch.slot(thread));
    }
    parallel_for(planes * row_tasks * column_split_.pieces, run_.threads, [&](int64_t task, int thread) {
      Task t;
      t.columns = {column_split_.begin(task % column_split_.pieces), column_split_.end(task % column_split_.pieces)};
      task /= column_split_.pieces;
      t.rows.begin = task % row_tasks * rows_ * 4;
      t.rows.end = std::min(g_.h.out, t.rows.begin + rows_ * 4);
      task /= row_tasks;
      const int64_t n = run_.channels_last ? task : task / g_.channels, c = run_.channels_last ? 0 : task % g_.channels;
      t.in = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
      t.out = run_.output.data + n * run_.output.stride(0) + c * run_.output.stride(1);
      t.buffer = scratch.slot(thread);
      t.unsplit = t.buffer + (splits_phases_ ? block : 0);
      t.other_divisors = t.buffer + block * (splits_phases_ ? 2 : 1);
      t.offsets = offset_scratch.slot(thread);
      run_task(t, usual);
    });
  }

 private:
  struct Task {
    Range rows, columns;
    const T* in;
    T* out;
    T* buffer;   // rows between the passes
    T* unsplit;  // the same, unpadded, before they are taken apart by the stride
    T* other_divisors;
    ptrdiff_t* offsets;
  };

  /// The input columns that some outputs read, and how many of them lie before the input.
  struct Columns {
    Range inside;
    int64_t before, all;
  };

  /// What the sums of a row of results are divided by, for the rows that most are, with their whole height counted.
  struct Divisors {
    Workspace memory;
    T *column_counts = nullptr, *divisors = nullptr, *reciprocals = nullptr;
    int64_t counted_rows = 0;
  };

  /// One window that covers the plane exactly: a reduction of contiguous runs.
  bool whole_planes() const {
    return !run_.channels_last && g_.h.out == 1 && g_.w.out == 1 && g_.h.kernel == g_.h.in && g_.w.kernel == g_.w.in &&
           g_.h.dilation == 1 && g_.w.dilation == 1 && g_.h.pad_begin == 0 && g_.w.pad_begin == 0 &&
           (g_.h.in == 1 || run_.input.stride(2) == g_.w.in);
  }

  void reduce_whole_planes(int64_t planes) const {
    constexpr int64_t planes_per_task = 64;
    const EvenSplit channels(g_.channels, planes_per_task);
    parallel_for(planes / g_.channels * channels.pieces, run_.threads, [&](int64_t task, int) {
      const int64_t n = task / channels.pieces, c = channels.begin(task % channels.pieces);
      kernels::ReduceRunArguments<T> a{};
      a.in = run_.input.data + n * run_.input.stride(0) + c * run_.input.stride(1);
      a.in_row = run_.input.stride(1);
      a.count = g_.h.in * g_.w.in;
      a.out = run_.output.data + n * run_.output.stride(0) + c * run_.output.stride(1);
      a.out_step = run_.output.stride(1);
      a.rows = channels.end(task % channels.pieces) - c;
      a.divisor = static_cast<T>(divisor_.divisor_override.value_or(counted_taps(g_.h, 0, divisor_.count_include_pad) *
                                                                    counted_taps(g_.w, 0, divisor_.count_include_pad)));
      run_.kernels.reduce_run(reduction_, a);
    });
  }

  int64_t padded_columns(int64_t outputs) const { return (outputs - 1) * g_.w.stride + g_.w.effective_kernel(); }

  T identity() const { return reduction_ == Reduction::max ? -std::numeric_limits<T>::infinity() : T(0); }

  /// The padding around the rows between the passes is the same for every task and never written over.
  bool pads_once() const { return !splits_phases_ && column_split_.pieces == 1; }

  Columns columns_read(const Range& outputs) const {
    const int64_t first = g_.w.start(outputs.begin), count = padded_columns(outputs.end - outputs.begin);
    const Range inside{std::clamp<int64_t>(first, 0, g_.w.in), std::clamp<int64_t>(first + count, 0, g_.w.in)};
    return {inside, inside.begin - first, count};
  }

  void pad_rows(const Columns& columns, T* rows) const {
    const int64_t lead = columns.before * inner_, after = lead + (columns.inside.end - columns.inside.begin) * inner_;
    for (int64_t r = 0; r < rows_; ++r) {
      std::fill_n(rows + r * row_pitch_, lead, identity());
      std::fill(rows + r * row_pitch_ + after, rows + (r + 1) * row_pitch_, identity());
    }
  }

  void run_task(const Task& t, const Divisors& usual) const {
    const Columns columns = columns_read(t.columns);
    if (!splits_phases_ && !pads_once()) pad_rows(columns, t.buffer);
    T* const to = splits_phases_ ? t.unsplit : t.buffer + columns.before * inner_;
    ptrdiff_t* const row_offsets = t.offsets;
    ptrdiff_t* const column_offsets = t.offsets + g_.h.kernel;
    for (int64_t j = 0; j < g_.w.kernel; ++j) {
      column_offsets[j] = splits_phases_ ? phased_.tap_offset(g_.w, j) : j * g_.w.dilation * inner_;
    }
    for (int64_t block = t.rows.begin; block < t.rows.end; block += rows_) {
      const int64_t end = std::min(t.rows.end, block + rows_);
      for (int64_t oh = block, run; oh < end; oh += run) {
        run = rows_alike(oh, end);
        reduce_down(t, oh, run, columns.inside, to + (oh - block) * row_pitch_, row_offsets);
      }
      if (splits_phases_) {
        run_.kernels.split_phases({t.unsplit, row_pitch_, t.buffer, row_pitch_, phased_.phase_pitch, end - block,
                                   columns.before, columns.inside.end - columns.inside.begin, phased_.used, g_.w.stride,
                                   identity()});
      }
      if (reduction_ == Reduction::max) {
        reduce_along(t, block, block, end, column_offsets, nullptr, nullptr);
        continue;
      }
      for (int64_t oh = block, next; oh < end; oh = next) {
        const int64_t counted = counted_taps(g_.h, oh, divisor_.count_include_pad);
        next = oh + 1;
        while (next < end && counted_taps(g_.h, next, divisor_.count_include_pad) == counted) ++next;
        if (counted == usual.counted_rows || divisor_.divisor_override) {
          const int64_t first = t.columns.begin * inner_;
          reduce_along(t, block, oh, next, column_offsets, usual.divisors + first, usual.reciprocals + first);
          continue;
        }
        const int64_t count = (t.columns.end - t.columns.begin) * inner_;
        fill_divisors(usual.column_counts + t.columns.begin * inner_, count, counted, t.other_divisors,
                      t.other_divisors + count);
        reduce_along(t, block, oh, next, column_offsets, t.other_divisors, t.other_divisors + count);
      }
    }
  }

  /// How many rows of results from oh on have the same taps inside and the same divisor.
  int64_t rows_alike(int64_t oh, int64_t end) const {
    const auto whole = [&](int64_t o) {
      return g_.h.start(o) >= 0 && g_.h.start(o) + g_.h.effective_kernel() <= g_.h.in;
    };
    if (!whole(oh)) return 1;
    int64_t run = 1;
    while (run < rows_ && oh + run < end && whole(oh + run)) ++run;
    return run;
  }

  void reduce_down(const Task& t, int64_t oh, int64_t run, const Range& inside, T* to, ptrdiff_t* offsets) const {
    const Range taps = g_.h.taps_inside(oh);
    const int64_t body = (inside.end - inside.begin) * inner_;
    if (taps.empty() || body == 0) {
      for (int64_t r = 0; r < run; ++r) std::fill_n(to + r * row_pitch_, body, identity());
      return;
    }
    const int64_t pixel = run_.channels_last ? run_.input.stride(3) : 1;
    for (int64_t i = taps.begin; i < taps.end; ++i) offsets[i - taps.begin] = i * g_.h.dilation * run_.input.stride(2);
    ReduceArguments<T> a{};
    a.in = t.in + g_.h.start(oh) * run_.input.stride(2) + inside.begin * pixel;
    a.in_row = g_.h.stride * run_.input.stride(2);
    a.offset = offsets;
    a.taps = taps.end - taps.begin;
    a.out = to;
    a.out_row = row_pitch_;
    a.columns = body;
    a.rows = run;
    run_.kernels.reduce(reduction_, a);
  }

  Divisors make_usual_divisors() const {
    Divisors d;
    if (reduction_ == Reduction::max) return d;
    const int64_t count = g_.w.out * inner_;
    d.memory = Workspace(static_cast<std::size_t>(3 * count) * sizeof(T));
    d.column_counts = d.memory.template as<T>();
    d.divisors = d.column_counts + count;
    d.reciprocals = d.divisors + count;
    for (int64_t ow = 0; ow < g_.w.out; ++ow) {
      std::fill_n(d.column_counts + ow * inner_, inner_,
                  static_cast<T>(counted_taps(g_.w, ow, divisor_.count_include_pad)));
    }
    d.counted_rows = counted_taps(g_.h, g_.h.out / 2, divisor_.count_include_pad);
    fill_divisors(d.column_counts, count, d.counted_rows, d.divisors, d.reciprocals);
    return d;
  }

  void fill_divisors(const T* column_counts, int64_t count, int64_t counted_rows, T* divisors, T* reciprocals) const {
    const bool overridden = divisor_.divisor_override.has_value();
    const T override_value = static_cast<T>(divisor_.divisor_override.value_or(1)), rows = static_cast<T>(counted_rows);
    for (int64_t x = 0; x < count; ++x) {
      // A dilated window can miss the input altogether; its sum is 0, and so is its average.
      divisors[x] = overridden ? override_value : std::max(T(1), column_counts[x] * rows);
      reciprocals[x] = T(1) / divisors[x];
    }
  }

  /// Rows [oh, end) of results, from the rows of the buffer, which start with `block`.
  void reduce_along(const Task& t, int64_t block, int64_t oh, int64_t end, const ptrdiff_t* offsets, const T* divisors,
                    const T* reciprocals) const {
    ReduceArguments<T> a{};
    a.in = t.buffer + (oh - block) * row_pitch_;
    a.in_row = row_pitch_;
    a.offset = offsets;
    a.taps = g_.w.kernel;
    a.out = t.out + oh * run_.output.stride(2) + t.columns.begin * (run_.channels_last ? run_.output.stride(3) : 1);
    a.out_row = run_.output.stride(2);
    a.rows = end - oh;
    const int64_t outputs = t.columns.end - t.columns.begin;
    a.columns = outputs * inner_;
    a.divisor = divisors;
    a.reciprocal = reciprocals;
    if (inner_ == 1 || g_.w.stride == 1) {
      run_.kernels.reduce(reduction_, a);
      return;
    }
    // Channels-last with a stride: pixel by pixel, the channels of each in whole vectors.
    a.columns = inner_;
    a.rows = 1;
    for (int64_t r = 0; r < end - oh; ++r) {
      for (int64_t o = 0; o < outputs; ++o) {
        ReduceArguments<T> pixel = a;
        pixel.in = a.in + r * row_pitch_ + o * g_.w.stride * inner_;
        pixel.out = a.out + r * run_.output.stride(2) + o * inner_;
        if (divisors != nullptr) pixel.divisor = divisors + o * inner_, pixel.reciprocal = reciprocals + o * inner_;
        run_.kernels.reduce(reduction_, pixel);
      }
    }
  }

  const Pool2dRun<T>& run_;
  const Pool2dGeometry& g_;
  Reduction reduction_;
  DivisorRule divisor_;
  int64_t inner_ = 1;
  bool splits_phases_ = false;
  EvenSplit column_split_{1, 1};
  int64_t rows_ = 1;
  PhasedRows phased_{Axis{}, 0, 1, 1};
  int64_t row_pitch_ = 0;
};

}  // namespace

template <class T>
void run_separable_pool(const Pool2dRun<T>& run, Reduction reduction, const DivisorRule& divisor) {
  SeparablePool<T>{run, reduction, divisor}();
}

template void run_separable_pool(const Pool2dRun<float>&, Reduction, const DivisorRule&);
template void run_separable_pool(const Pool2dRun<double>&, Reduction, const DivisorRule&);

}  // namespace convpool
