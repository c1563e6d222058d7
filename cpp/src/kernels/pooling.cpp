#include "isa_tables.hpp"
#include "narrow_windows.hpp"
#include "plane_positions.hpp"
#include "reduce_runs.hpp"
#include "row_layout.hpp"
#include "sliding_rows.hpp"
#include "transpose.hpp"
#include "window_lines.hpp"
#include "window_pixels.hpp"
#include "window_planes.hpp"
#include "window_positions.hpp"
#include "window_rows.hpp"

namespace convpool::kernels {
namespace {

template <class Op, class T>
WindowRowsKernel<T> choose_rows(const WindowAxis& h, const WindowAxis& w) {
  WindowRowsKernel<T> kernel = choose_window_lines<Op>(h, w);
  if (kernel == nullptr) kernel = choose_window_rows<Op>(h, w);
  return kernel;
}

template <class Op, class T>
WindowRowsKernel<T> choose_planes(const WindowAxis& h, const WindowAxis& w) {
  WindowRowsKernel<T> kernel = choose_window_planes<Op>(h, w);
  if (kernel == nullptr) kernel = choose_joined_rows<Op>(h, w);
  if (kernel == nullptr) kernel = choose_narrow_windows<Op>(h, w);
  return kernel;
}

/// The widest planes of which a vector's lanes are transposed: narrow ones leave most of a vector of pixels empty.
/// Measured on Zen 5 with AVX2 and AVX-512, planes of 4 to 56 columns: 1.1 to 6 times as fast up to there.
template <class Op>
constexpr ptrdiff_t widest_transposed(const WindowAxis& h, const WindowAxis& w) {
  using T = typename Op::Element;
  constexpr bool is_float = sizeof(T) == 4;
  constexpr ptrdiff_t L = lanes<T>;
  const bool keeps_size = is_window(w, 3, 1, 1) && h.kernel == 3 && w.in == w.out;
  // Wider windows are summed along the rows first where planes aren't transposed.
  if (Op::divided && (h.kernel > highest_down_first || w.kernel > 3)) return 0;
  if (Op::indexed) return keeps_size ? 6 : w.stride == 1 ? 10 : is_float ? 20 : 14;
  if (keeps_size) return is_float ? 7 : 4;
  if (w.stride == 1) return h.kernel == 1 ? 7 : is_float ? 10 : 8;
  if (is_halved(h) && is_halved(w)) return shuffles_by_index<T> ? L / 4 : 7;
  const bool skips_pixels = w.kernel < w.stride || h.kernel < h.stride;
  if (masks_are_cheap) return skips_pixels ? L / 4 : 6 + L / 4;
  if (w.kernel > 3) return 0;
  return skips_pixels ? (h.kernel == 1 ? 0 : 4) : w.kernel == 2 ? 4 : w.stride == 2 ? 12 : 7;
}

template <class Op>
WindowPixelsKernel<typename Op::Element> choose_transposed(const WindowAxis& h, const WindowAxis& w) {
  constexpr ptrdiff_t most_pixels = (Op::indexed ? 128 : 16) * lanes<typename Op::Element>;
  if (w.in > widest_transposed<Op>(h, w) || h.in > most_pixels / w.in) return nullptr;
  if constexpr (Op::indexed) {
    return choose_window_pixel_positions<typename Op::Element>(h, w);
  } else {
    return choose_window_pixels<Op>(h, w);
  }
}

template <class Op, class T>
constexpr ReductionKernels<T> make_reduction() {
  ReductionKernels<T> kernels{};
  kernels.reduce = reduce<Op>;
#if defined(CONVPOOL_ISA_AVX512)
  if constexpr (is_floating<T>) kernels.slide = slide<Op>;
#endif
  kernels.suffix_rows = suffix_rows<Op>;
  kernels.prefix_rows = prefix_rows<Op>;
  if constexpr (!Op::indexed) {
    kernels.window_rows = choose_rows<Op, T>;
    kernels.window_pixels = choose_window_pixels<Op>;
    if constexpr (is_floating<T>) {
      kernels.window_planes = choose_planes<Op, T>;
      kernels.transposed_windows = choose_transposed<Op>;
    }
    kernels.reduce_run = reduce_run<Op>;
  } else if constexpr (is_floating<T>) {
    kernels.window_rows = choose_window_row_positions<T>;
    kernels.window_planes = choose_window_plane_positions<T>;
    kernels.window_pixels = choose_window_pixel_positions<T>;
    kernels.transposed_windows = choose_transposed<MaxAtOf<T>>;
  }
  return kernels;
}

[[maybe_unused]] CONVPOOL_KERNEL void store_lines(WaitingLines& waiting) {
  while (waiting.count > 0) store_waiting_lines<float, 1>(waiting);
}

template <class T>
constexpr PoolTable<T> make_pool_table() {
  PoolTable<T> table{};
  table.lanes = lanes<T>;
  table.max = make_reduction<MaxOf<T>, T>();
  if constexpr (is_floating<T>) table.sum = make_reduction<SumOf<T>, T>();
  if constexpr (has_index<T>) table.max_at = make_reduction<MaxAtOf<T>, T>();
  table.split_phases = split_phases<T>;
  table.pad_rows = pad_rows<T>;
#if !defined(CONVPOOL_ISA_NEON)
  table.store_lines = store_lines;
#endif
  table.streamed_channels = static_cast<int>(streamed_channels<T>);
  table.streamed_positions = positions_are_streamed<T> ? lanes<T> : 0;
  table.finish_streaming = finish_streaming;
  if constexpr (is_floating<T>) {
    table.transpose = transpose<T>;
    table.transpose_positions = transpose<std::int64_t>;
  }
  return table;
}

}  // namespace

namespace CONVPOOL_ISA {

constinit const PoolTables pool{make_pool_table<float>(),        make_pool_table<double>(),
                                make_pool_table<std::int8_t>(),  make_pool_table<std::uint8_t>(),
                                make_pool_table<std::int16_t>(), make_pool_table<std::int32_t>(),
                                make_pool_table<std::int64_t>()};

}  // namespace CONVPOOL_ISA
}  // namespace convpool::kernels
