#pragma once

#include <pybind11/numpy.h>

#include <vector>

namespace convpool::bindings {

/// A new C-contiguous array with undefined contents, for results of what is read from `read` on.
///
/// Fresh pages cost about 0.5 us per KB, more than pooling takes to fill them. So the memory of results from 64 KB to
/// 64 MB goes, when the array dies, to a cache of at most 8 blocks and 128 MB in all; the oldest make room.
///
/// They lie half a page from `read` within theirs: cores compare the last 12 bits of addresses alone before a load may
/// pass the stores before it, and one that is read where a result was just written a multiple of 4 KB away waits for
/// nothing (depthwise 3x3 of 120x40x40 on Zen 5, results 0 to 800 bytes behind: 1.1 to 1.25 times the time).
pybind11::array new_array(const pybind11::dtype& dtype, const std::vector<pybind11::ssize_t>& shape, const void* read);

}  // namespace convpool::bindings
