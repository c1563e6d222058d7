#include "arrays.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  convpool::bindings::bind_conv2d(m);
  convpool::bindings::bind_pool2d(m);
  convpool::bindings::bind_runtime(m);
}
