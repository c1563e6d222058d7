#include <exception>
#include <new>

#include "arrays.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  pybind11::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
      PyErr_SetString(
          PyExc_MemoryError,
          "not enough memory for the result or the scratch of this call; use a smaller input or kernel, less "
          "padding, or out=");
    }
  });
  convpool::bindings::bind_conv2d(m);
  convpool::bindings::bind_pool2d(m);
  convpool::bindings::bind_runtime(m);
}
