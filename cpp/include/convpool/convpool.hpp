#pragma once

/// 2-D convolution and pooling on CPUs, with PyTorch's semantics.

#include "convpool/conv2d.hpp"
#include "convpool/execution.hpp"
#include "convpool/machine.hpp"
#include "convpool/pool2d.hpp"
#include "convpool/runtime.hpp"
#include "convpool/tensor_view.hpp"
#include "convpool/version.hpp"
