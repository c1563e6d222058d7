#include "line_stage.hpp"

#include <algorithm>
#include <utility>

namespace convpool {

LineStage::LineStage(std::byte* scratch, std::int64_t most, void* to, void (*store_lines)(kernels::WaitingLines&))
    : now_(scratch),
      before_(scratch + room(most)),
      missing_(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % line)),
      filled_(missing_),
      store_lines_(store_lines) {
  to_ = static_cast<std::byte*>(to) - missing_;
}

void LineStage::send(std::int64_t bytes) {
  store_lines_(waiting_);
  filled_ += bytes;
  const std::int64_t whole = filled_ / line * line;
  if (whole == 0) return;
  const std::int64_t first = missing_ == 0 ? 0 : line;
  std::copy(now_ + missing_, now_ + first, to_ + missing_);
  waiting_ = {now_ + first, to_ + first, (whole - first) / line};
  std::copy(now_ + whole, now_ + filled_, before_);
  std::swap(now_, before_);
  to_ += whole;
  filled_ -= whole;
  missing_ = 0;
}

void LineStage::finish() {
  store_lines_(waiting_);
  std::copy(now_ + missing_, now_ + filled_, to_ + missing_);
}

}  // namespace convpool
