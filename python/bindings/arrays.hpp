#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "convpool/convpool.hpp"

namespace convpool::bindings {

namespace py = pybind11;

using Pair = std::array<std::int64_t, 2>;
using Shape4 = std::array<std::int64_t, 4>;

/// A named layout is an order of axes; unbatched arrays lack the first.
enum class Layout { nchw, nhwc };

Layout parse_layout(const std::string& name);
PaddingMode parse_padding_mode(const std::string& name);
Activation parse_activation(const std::string& name);
Algorithm parse_algorithm(const std::string& name);
/// A name or ((top, bottom), (left, right)). `nested` tells whether the caller wrote the nested form.
Padding parse_padding(const py::object& padding, bool nested = true);

/// std::invalid_argument unless an input has 4 dimensions, or 3 without a batch.
void require_dimensions(const py::handle& shape);
void require_input(const py::array& input);

/// (N, C, H, W) of an array's shape in a layout; 1 for the N that an unbatched one lacks.
Shape4 logical_shape(const py::handle& shape, Layout layout);
/// The other way round, as a tuple.
py::tuple layout_shape(const Shape4& logical, Layout layout, bool batched);

template <class T>
TensorView<T> view_of(const py::array& array, Layout layout, T* data) {
  TensorView<T> view;
  view.data = data;
  const bool batched = array.ndim() == 4;
  const py::ssize_t first = batched ? 1 : 0;
  const py::ssize_t c = layout == Layout::nchw ? first : first + 2, h = layout == Layout::nchw ? first + 1 : first;
  const std::array<py::ssize_t, 4> axes{0, c, h, h + 1};
  for (std::size_t i = 0; i < 4; ++i) {
    if (i == 0 && !batched) {
      view.shape[0] = 1;
      view.strides[0] = 0;
      continue;
    }
    view.shape[i] = array.shape(axes[i]);
    view.strides[i] = array.strides(axes[i]) / static_cast<py::ssize_t>(sizeof(T));
  }
  return view;
}

template <class T>
TensorView<const T> const_view(const py::array& array, Layout layout) {
  return view_of<const T>(array, layout, static_cast<const T*>(array.data()));
}

template <class T>
TensorView<T> mutable_view(py::array& array, Layout layout) {
  return view_of<T>(array, layout, static_cast<T*>(array.mutable_data()));
}

/// `out` if there is one, else a new C-contiguous array; big ones come from a bounded cache of memory, see
/// result_memory.hpp.
py::array result_array(const py::array& input, const py::dtype& dtype, const Shape4& logical, Layout layout,
                       bool batched, const std::optional<py::array>& out);

/// Whether a result can be written there, at a glance: an ndarray of that dtype, writeable, aligned, and apart from the
/// inputs. Where this says no, a closer look may still say yes.
bool is_plain_output(const py::handle& out, const py::dtype& dtype, const py::tuple& inputs);

/// f(T{}) with T the array's element type: float or double.
template <class F>
decltype(auto) with_element_type(const py::array& array, F&& f) {
  switch (array.dtype().num()) {
    case py::detail::npy_api::NPY_FLOAT_:
      return f(float{});
    case py::detail::npy_api::NPY_DOUBLE_:
      return f(double{});
    default:
      throw py::type_error("input has dtype " + py::str(array.dtype()).cast<std::string>() +
                           "; use float32 or float64");
  }
}

/// The same for every type that can be compared: integers, too.
template <class F>
decltype(auto) with_ordered_type(const py::array& array, F&& f) {
  const py::dtype dtype = array.dtype();
  switch (dtype.kind()) {
    case 'i':
      switch (dtype.itemsize()) {
        case 1:
          return f(std::int8_t{});
        case 2:
          return f(std::int16_t{});
        case 4:
          return f(std::int32_t{});
        default:
          return f(std::int64_t{});
      }
    case 'u':
      if (dtype.itemsize() == 1) return f(std::uint8_t{});
      throw py::type_error("input has dtype " + py::str(dtype).cast<std::string>() +
                           "; of unsigned integers use uint8");
    default:
      return with_element_type(array, f);
  }
}

void bind_conv2d(py::module_& m);
void bind_pool2d(py::module_& m);
void bind_runtime(py::module_& m);

}  // namespace convpool::bindings
