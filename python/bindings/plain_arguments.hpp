#pragma once

#include <cstdint>

#include "arrays.hpp"

namespace convpool::bindings {

/// What arguments are in nearly every call: ints, tuples of two ints, True and False, the names of layouts, arrays of
/// NumPy's own class with native, aligned elements. Each of these is false where the argument is anything else, and
/// then Python's own, slower look at it decides what it means or what is wrong with it (_arguments.py). Values are
/// judged later, for both alike.
namespace plain {

/// Within +-(2^63 - 1), as Python's look has it.
inline bool integer(const py::handle& value, std::int64_t& number) {
  if (!PyLong_CheckExact(value.ptr())) return false;
  int overflow = 0;
  number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  return overflow == 0 && number != INT64_MIN;
}

/// An int for both axes, or (height, width).
inline bool pair(const py::handle& value, Pair& sizes) {
  if (integer(value, sizes[0])) {
    sizes[1] = sizes[0];
    return true;
  }
  return PyTuple_CheckExact(value.ptr()) && PyTuple_GET_SIZE(value.ptr()) == 2 &&
         integer(PyTuple_GET_ITEM(value.ptr(), 0), sizes[0]) && integer(PyTuple_GET_ITEM(value.ptr(), 1), sizes[1]);
}

/// The same on both sides of each axis.
inline bool padding(const py::handle& value, Padding& sides) {
  Pair sizes;
  if (!pair(value, sizes)) return false;
  sides = Padding::symmetric(sizes[0], sizes[1]);
  return true;
}

inline bool truth(const py::handle& value, bool& result) {
  result = value.ptr() == Py_True;
  return result || value.ptr() == Py_False;
}

inline bool text(const py::handle& value, const char* expected) {
  return PyUnicode_CheckExact(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), expected) == 0;
}

inline bool layout(const py::handle& value, Layout& order) {
  order = text(value, "NHWC") ? Layout::nhwc : Layout::nchw;
  return order == Layout::nhwc || text(value, "NCHW");
}

inline bool threads(const py::handle& value, int& count) {
  count = 0;
  if (value.is_none()) return true;
  std::int64_t number = 0;
  if (!integer(value, number) || number < 1 || number > INT32_MAX) return false;
  count = static_cast<int>(number);
  return true;
}

/// To be set: py::array's own constructor makes an empty array, which takes a third of a microsecond.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

/// An array of floats.
inline bool array(const py::handle& value, py::array& result) {
  if (Py_TYPE(value.ptr()) != py::detail::npy_api::get().PyArray_Type_) return false;
  result = py::reinterpret_borrow<py::array>(value);
  const py::dtype dtype = result.dtype();
  const int number = dtype.num();
  return (result.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0 && dtype.byteorder() == '=' &&
         (number == py::detail::npy_api::NPY_FLOAT_ || number == py::detail::npy_api::NPY_DOUBLE_);
}

}  // namespace plain
}  // namespace convpool::bindings
