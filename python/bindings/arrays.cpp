#include "arrays.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "result_memory.hpp"

namespace convpool::bindings {
namespace {

[[noreturn]] void unknown(const char* what, const std::string& name) {
  throw std::invalid_argument(std::string("unknown ") + what + " \"" + name + "\"");
}

}  // namespace

Layout parse_layout(const std::string& name) {
  if (name == "NCHW") return Layout::nchw;
  if (name == "NHWC") return Layout::nhwc;
  unknown("layout", name);
}

PaddingMode parse_padding_mode(const std::string& name) {
  if (name == "zeros") return PaddingMode::zeros;
  if (name == "reflect") return PaddingMode::reflect;
  if (name == "replicate") return PaddingMode::replicate;
  if (name == "circular") return PaddingMode::circular;
  unknown("padding_mode", name);
}

Activation parse_activation(const std::string& name) {
  if (name == "none") return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "relu6") return Activation::relu6;
  if (name == "sigmoid") return Activation::sigmoid;
  if (name == "hardswish") return Activation::hardswish;
  if (name == "silu") return Activation::silu;
  unknown("activation", name);
}

Algorithm parse_algorithm(const std::string& name) {
  if (name == "auto") return Algorithm::automatic;
  if (name == "naive") return Algorithm::naive;
  if (name == "im2col") return Algorithm::im2col;
  if (name == "implicit_gemm") return Algorithm::implicit_gemm;
  if (name == "direct") return Algorithm::direct;
  if (name == "winograd") return Algorithm::winograd;
  if (name == "depthwise") return Algorithm::depthwise;
  if (name == "benchmark") return Algorithm::benchmark;
  unknown("algorithm", name);
}

Padding parse_padding(const py::object& padding, bool nested) {
  if (py::isinstance<py::str>(padding)) {
    const auto name = padding.cast<std::string>();
    if (name == "valid") return Padding::valid();
    if (name == "same") return Padding::same();
    if (name == "same_lower") return Padding::same_lower();
    if (name == "full") return Padding::full();
    unknown("padding", name);
  }
  const auto [rows, columns] = padding.cast<std::pair<Pair, Pair>>();
  Padding p = Padding::sides(rows[0], rows[1], columns[0], columns[1]);
  if (!nested) p.kind = Padding::Kind::symmetric;
  return p;
}

void require_dimensions(const py::handle& shape) {
  if (py::len(shape) != 3 && py::len(shape) != 4) {
    throw std::invalid_argument("input must have 4 dimensions, or 3 without a batch, got shape " +
                                py::str(shape).cast<std::string>());
  }
}

void require_input(const py::array& input) {
  if (input.ndim() != 3 && input.ndim() != 4) require_dimensions(input.attr("shape"));
}

Shape4 logical_shape(const py::handle& shape, Layout layout) {
  require_dimensions(shape);
  const auto sizes = shape.cast<std::vector<std::int64_t>>();
  const std::size_t first = sizes.size() - 3;
  const std::int64_t n = first == 0 ? 1 : sizes[0];
  if (layout == Layout::nchw) return {n, sizes[first], sizes[first + 1], sizes[first + 2]};
  return {n, sizes[first + 2], sizes[first], sizes[first + 1]};
}

py::tuple layout_shape(const Shape4& s, Layout layout, bool batched) {
  const Shape4 order = layout == Layout::nchw ? s : Shape4{s[0], s[2], s[3], s[1]};
  py::tuple shape(batched ? 4 : 3);
  for (std::size_t i = 0; i < shape.size(); ++i) shape[i] = order[batched ? i : i + 1];
  return shape;
}

py::array result_array(const py::array& input, const py::dtype& dtype, const Shape4& logical, Layout layout,
                       bool batched, const std::optional<py::array>& out) {
  const Shape4 order = layout == Layout::nchw ? logical : Shape4{logical[0], logical[2], logical[3], logical[1]};
  const auto first = order.begin() + (batched ? 0 : 1);
  if (!out) return new_array(dtype, {first, order.end()}, input.data());
  if (!std::equal(first, order.end(), out->shape(), out->shape() + out->ndim())) {
    throw std::invalid_argument("out has shape " + py::str(out->attr("shape")).cast<std::string>() +
                                ", but the result has " +
                                py::str(py::handle(layout_shape(logical, layout, batched))).cast<std::string>());
  }
  return *out;
}

bool is_plain_output(const py::handle& out, const py::dtype& dtype, const py::tuple& inputs) {
  // The addresses [first, second) that an array's elements lie in.
  const auto extent = [](const py::array& array) {
    auto low = reinterpret_cast<std::uintptr_t>(array.data()), high = low + static_cast<std::size_t>(array.itemsize());
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
      if (array.shape(i) == 0) return std::pair(low, low);
      const py::ssize_t reach = array.strides(i) * (array.shape(i) - 1);
      (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
    }
    return std::pair(low, high);
  };
  if (!py::isinstance<py::array>(out)) return false;
  const auto result = py::reinterpret_borrow<py::array>(out);
  constexpr int wanted = py::detail::npy_api::NPY_ARRAY_WRITEABLE_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((result.flags() & wanted) != wanted || !result.dtype().is(dtype)) return false;
  const auto [low, high] = extent(result);
  for (const py::handle input : inputs) {
    if (input.is_none()) continue;
    const auto [other_low, other_high] = extent(py::reinterpret_borrow<py::array>(input));
    if (low < other_high && other_low < high) return false;
  }
  return true;
}

}  // namespace convpool::bindings
