#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "line_stage.hpp"
#include "pool2d_algorithm.hpp"
#include "tiling.hpp"
#include "workspace.hpp"

namespace convpool {

/// A pooling's results past the caches: its kernels make some rows of them, or some planes, after others.
template <class T>
class StagedResults {
 public:
  /// row: how many results make a row. wanted: bytes of them that a kernel is to make at once. stages: whether results
  /// pass the caches, and those of an image follow one another without a gap. Where so few rows as kernels take at once
  /// hold too many, they go through the caches.
  StagedResults(const Pool2dRun<T>& run, std::int64_t row, std::int64_t wanted, bool stages) : run_(run), row_(row) {
    if (!stages || run.kernels.store_lines == nullptr) return;
    const std::int64_t bytes = std::int64_t{sizeof(T)} + (run.positions ? std::int64_t{sizeof(std::int64_t)} : 0);
    const std::int64_t plane = size_product(run.geometry.h.out, row);
    // What window_pixels takes at once, and what others do, at most.
    const std::int64_t at_once = run.channels_last && !run.positions ? 2 : 4;
    const auto fitting = [&](std::int64_t results) {
      return std::max<std::int64_t>(1, wanted / bytes / std::max<std::int64_t>(1, results));
    };
    rows_ = fitting(size_product(at_once, row)) * at_once;
    planes_ = run.channels_last ? 1 : fitting(plane);
    most_ = std::max(size_product(rows_, row), planes_ > 1 ? size_product(planes_, plane) : 0);
    if (size_product(most_, bytes) > most_bytes) return;
    values_.emplace(LineStage::scratch(most_ * std::int64_t{sizeof(T)}), run.threads);
    if (run.positions) positions_.emplace(LineStage::scratch(most_ * std::int64_t{sizeof(std::int64_t)}), run.threads);
  }

  /// kernel(task), in pieces unless it stores_lines itself.
  template <class Arguments>
  void run(void (*kernel)(const Arguments&), const Arguments& task, bool stores_lines, int thread) const {
    if (!values_ || stores_lines) {
      kernel(task);
      return;
    }
    const std::int64_t first = task.row_begin * row_;
    LineStage values = stage(*values_, task.out + first, thread);
    std::optional<LineStage> positions;
    if (positions_) positions.emplace(stage(*positions_, task.out_at + first, thread));
    Arguments a = task;
    const auto run_pieces = [&](std::int64_t planes, std::int64_t rows) {
      for (std::int64_t begin = task.row_begin; begin < task.row_end; begin += rows) {
        a.row_begin = begin;
        a.row_end = std::min(task.row_end, begin + rows);
        a.out = values.next<T>() - begin * row_;
        if (positions) a.out_at = positions->next<std::int64_t>() - begin * row_;
        kernel(a);
        const std::int64_t count = planes * (a.row_end - begin) * row_;
        values.send(count * std::int64_t{sizeof(T)});
        if (positions) positions->send(count * std::int64_t{sizeof(std::int64_t)});
      }
    };
    if constexpr (requires { a.planes; }) {
      a.waiting = &values.waiting();
      if (positions) a.waiting_at = &positions->waiting();
      a.out_plane = (task.row_end - task.row_begin) * row_;
      for (std::int64_t plane = 0; plane < task.planes; plane += planes_) {
        a.in = task.in + plane * task.in_plane;
        a.planes = std::min(planes_, task.planes - plane);
        run_pieces(a.planes, planes_ > 1 ? task.row_end - task.row_begin : rows_);
      }
    } else {
      run_pieces(1, rows_);
    }
    values.finish();
    if (positions) positions->finish();
    run_.kernels.finish_streaming();
  }

 private:
  template <class Element>
  LineStage stage(const SlottedWorkspace<std::byte>& memory, Element* to, int thread) const {
    return {memory.slot(thread), most_ * std::int64_t{sizeof(Element)}, to, run_.kernels.store_lines};
  }

  /// Twice that stays in the L2 cache.
  static constexpr std::int64_t most_bytes = 256 << 10;

  const Pool2dRun<T>& run_;
  std::int64_t row_, rows_ = 0, planes_ = 1, most_ = 0;
  std::optional<SlottedWorkspace<std::byte>> values_, positions_;
};

}  // namespace convpool
