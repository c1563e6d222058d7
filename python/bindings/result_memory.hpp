#pragma once

#include <pybind11/numpy.h>

#include <vector>

namespace convpool::bindings {

/// A new C-contiguous array with undefined contents, for results of what is read from `read` on.
///
/// Fresh pages cost about 0.5 us per KB, more than pooling takes to fill them. So the memory of results from 64 KB to
/// 64 MB goes, when the array dies, to a cache of at most 8 blocks and 128 MB in all; the oldest make room.
///
/// It begins half a page behind `read`, modulo a page: a load is held up by an earlier store whose address has the same
/// last 12 bits, whatever the others are (depthwise 3x3 of 120x40x40, Zen 5: results that begin 0 to 800 bytes behind
/// take 1.1 to 1.25 times as long).
pybind11::array new_array(const pybind11::dtype& dtype, const std::vector<pybind11::ssize_t>& shape, const void* read);

}  // namespace convpool::bindings
