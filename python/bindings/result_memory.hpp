#pragma once

#include <pybind11/numpy.h>

#include <vector>

namespace convpool::bindings {

/// A new C-contiguous array with undefined contents.
///
/// Fresh pages cost about 0.5 us per KB, more than pooling takes to fill them. So the memory of results from 64 KB to
/// 64 MB goes, when the array dies, to a cache of at most 8 blocks and 128 MB in all; the oldest make room.
pybind11::array new_array(const pybind11::dtype& dtype, const std::vector<pybind11::ssize_t>& shape);

}  // namespace convpool::bindings
