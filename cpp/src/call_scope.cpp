#include "call_scope.hpp"

#include <cstdint>
#include <stdexcept>

#include "workspace.hpp"

namespace convpool {
namespace {

constinit thread_local CallScope* innermost = nullptr;

}  // namespace

CallScope::CallScope(const ExecutionContext& context)
    : allocator_(context.allocator), parallel_for_(context.parallel_for), outer_(innermost) {
  if ((allocator_.allocate == nullptr) != (allocator_.release == nullptr)) {
    throw std::invalid_argument("allocator has only one of allocate and release; set both or neither");
  }
  if (context.workspace == nullptr && context.workspace_bytes != 0) {
    throw std::invalid_argument("workspace is null, but workspace_bytes is not 0");
  }
  const std::size_t lead =
      (workspace_alignment - reinterpret_cast<std::uintptr_t>(context.workspace)) % workspace_alignment;
  if (lead < context.workspace_bytes) {
    free_ = static_cast<char*>(context.workspace) + lead;
    end_ = static_cast<char*>(context.workspace) + context.workspace_bytes;
  }
  innermost = this;
}

CallScope::CallScope(Measuring) noexcept : measures_(true), outer_(innermost) { innermost = this; }

CallScope::~CallScope() { innermost = outer_; }

CallScope* CallScope::current() noexcept { return innermost; }

void* CallScope::take(std::size_t bytes) noexcept {
  if (bytes > static_cast<std::size_t>(end_ - free_)) return nullptr;
  void* const data = free_;
  free_ += bytes;
  return data;
}

void CallScope::give_back(void* data, std::size_t bytes) noexcept {
  // Scratch dies in the opposite order; what doesn't comes free with the call.
  if (static_cast<char*>(data) + bytes == free_) free_ = static_cast<char*>(data);
}

void CallScope::count(std::size_t bytes) noexcept {
  measured_ += bytes;
  if (measured_ > measured_peak_) measured_peak_ = measured_;
}

std::size_t MeasuringScope::bytes() const noexcept {
  return measured_peak() == 0 ? 0 : measured_peak() + workspace_alignment - 1;
}

}  // namespace convpool
