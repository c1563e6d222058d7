#include "arrays.hpp"
#include "plain_arguments.hpp"

namespace convpool::bindings {
namespace {

template <class Params>
Params make_params(const Pair& kernel, const Pair& stride, const py::object& padding, const Pair& dilation,
                   bool ceil_mode, bool padding_nested) {
  Params params;
  params.kernel = kernel;
  params.stride = stride;
  params.padding = parse_padding(padding, padding_nested);
  params.dilation = dilation;
  params.ceil_mode = ceil_mode;
  return params;
}

py::object run_max_pool2d(const py::array& input, const Pool2dParams& params, bool return_indices, Layout layout,
                          const std::optional<py::array>& out, int num_threads) {
  require_input(input);
  return with_ordered_type(input, [&]<class T>(T) -> py::object {
    const TensorView<const T> in = const_view<T>(input, layout);
    const Shape4 shape = pool2d_output_shape(in.shape, params);
    const bool batched = input.ndim() == 4;
    py::array result = result_array(input, input.dtype(), shape, layout, batched, out);
    const TensorView<T> to = mutable_view<T>(result, layout);
    py::array indices;
    TensorView<std::int64_t> positions;
    if (return_indices) {
      indices = result_array(input, py::dtype::of<std::int64_t>(), shape, layout, batched, std::nullopt);
      positions = mutable_view<std::int64_t>(indices, layout);
    }
    {
      py::gil_scoped_release release;
      max_pool2d<T>(in, to, positions, params, num_threads);
    }
    if (return_indices) return py::make_tuple(result, indices);
    return std::move(result);
  });
}

py::array run_avg_pool2d(const py::array& input, const AvgPool2dParams& params, Layout layout,
                         const std::optional<py::array>& out, int num_threads) {
  require_input(input);
  return with_element_type(input, [&]<class T>(T) {
    const TensorView<const T> in = const_view<T>(input, layout);
    py::array result =
        result_array(input, input.dtype(), pool2d_output_shape(in.shape, params), layout, input.ndim() == 4, out);
    const TensorView<T> to = mutable_view<T>(result, layout);
    {
      py::gil_scoped_release release;
      avg_pool2d<T>(in, to, params, num_threads);
    }
    return result;
  });
}

py::object max_pool2d_array(const py::array& input, const Pair& kernel, const Pair& stride, const py::object& padding,
                            const Pair& dilation, bool ceil_mode, bool return_indices, const std::string& layout,
                            const std::optional<py::array>& out, int num_threads, bool padding_nested) {
  const auto params = make_params<Pool2dParams>(kernel, stride, padding, dilation, ceil_mode, padding_nested);
  return run_max_pool2d(input, params, return_indices, parse_layout(layout), out, num_threads);
}

py::array avg_pool2d_array(const py::array& input, const Pair& kernel, const Pair& stride, const py::object& padding,
                           const Pair& dilation, bool ceil_mode, bool count_include_pad,
                           const std::optional<std::int64_t>& divisor_override, const std::string& layout,
                           const std::optional<py::array>& out, int num_threads, bool padding_nested) {
  auto params = make_params<AvgPool2dParams>(kernel, stride, padding, dilation, ceil_mode, padding_nested);
  params.count_include_pad = count_include_pad;
  params.divisor_override = divisor_override;
  return run_avg_pool2d(input, params, parse_layout(layout), out, num_threads);
}

/// What both poolings have in common, where all of it is plain.
bool plain_params(const py::handle& kernel, const py::handle& stride, const py::handle& padding,
                  const py::handle& dilation, const py::handle& ceil_mode, Pool2dParams& params) {
  if (!plain::pair(kernel, params.kernel) || !plain::padding(padding, params.padding) ||
      !plain::pair(dilation, params.dilation) || !plain::truth(ceil_mode, params.ceil_mode)) {
    return false;
  }
  return stride.is_none() || plain::pair(stride, params.stride.emplace());
}

// The functions of the package with their arguments as they came; None where one isn't plain.

py::object plain_max_pool2d(const py::handle& input, const py::handle& kernel, const py::handle& stride,
                            const py::handle& padding, const py::handle& dilation, const py::handle& ceil_mode,
                            const py::handle& return_indices, const py::handle& layout, const py::handle& out,
                            const py::handle& num_threads) {
  py::array array = plain::no_array();
  Pool2dParams params;
  bool with_indices = false;
  Layout order{};
  int threads = 0;
  if (!out.is_none() || !plain::array(input, array) ||
      !plain_params(kernel, stride, padding, dilation, ceil_mode, params) ||
      !plain::truth(return_indices, with_indices) || !plain::layout(layout, order) ||
      !plain::threads(num_threads, threads)) {
    return py::none();
  }
  return run_max_pool2d(array, params, with_indices, order, std::nullopt, threads);
}

py::object plain_avg_pool2d(const py::handle& input, const py::handle& kernel, const py::handle& stride,
                            const py::handle& padding, const py::handle& ceil_mode, const py::handle& count_include_pad,
                            const py::handle& divisor_override, const py::handle& dilation, const py::handle& layout,
                            const py::handle& out, const py::handle& num_threads) {
  py::array array = plain::no_array();
  AvgPool2dParams params;
  Layout order{};
  int threads = 0;
  if (!out.is_none() || !divisor_override.is_none() || !plain::array(input, array) ||
      !plain_params(kernel, stride, padding, dilation, ceil_mode, params) ||
      !plain::truth(count_include_pad, params.count_include_pad) || !plain::layout(layout, order) ||
      !plain::threads(num_threads, threads)) {
    return py::none();
  }
  return run_avg_pool2d(array, params, order, std::nullopt, threads);
}

}  // namespace

void bind_pool2d(py::module_& m) {
  m.def("max_pool2d", &max_pool2d_array);
  m.def("avg_pool2d", &avg_pool2d_array);
  m.def("plain_max_pool2d", &plain_max_pool2d);
  m.def("plain_avg_pool2d", &plain_avg_pool2d);
  m.def("pool2d_output_shape",
        [](const py::object& input_shape, const Pair& kernel, const Pair& stride, const py::object& padding,
           const Pair& dilation, bool ceil_mode, const std::string& layout_name, bool padding_nested) {
          const Layout layout = parse_layout(layout_name);
          const auto params = make_params<Pool2dParams>(kernel, stride, padding, dilation, ceil_mode, padding_nested);
          return layout_shape(pool2d_output_shape(logical_shape(input_shape, layout), params), layout,
                              py::len(input_shape) == 4);
        });
}

}  // namespace convpool::bindings
