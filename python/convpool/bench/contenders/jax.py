"""JAX."""

from __future__ import annotations

from typing import Any

import numpy as np

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.check import divisors
from convpool.bench.contenders.base import Array, Contender, Run


class Jax(Contender):
    """A jitted function on an array that lies on JAX's CPU device, waited for."""

    name = "jax"
    modules = ("jax",)
    distributions = ("jax",)
    how = "jax.jit, weights as constants of the function"
    layouts = ("NCHW", "NHWC")
    dtypes = ("float32", "float64")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        # XLA takes as many threads as the process has CPUs, and those are pinned.
        import jax

        jax.config.update("jax_platforms", "cpu")

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """``lax.conv_general_dilated`` and an addition."""
        from jax import lax

        nhwc = case.layout == "NHWC"
        filters = weight.transpose(2, 3, 1, 0) if nhwc else weight
        numbers = ("NHWC", "HWIO", "NHWC") if nhwc else ("NCHW", "OIHW", "NCHW")
        offsets = None if bias is None else bias.reshape((1, 1, 1, -1) if nhwc else (1, -1, 1, 1))

        def convolve(x: Any) -> Any:
            y = lax.conv_general_dilated(
                x, filters, case.stride, case.padding, rhs_dilation=case.dilation, dimension_numbers=numbers,
                feature_group_count=case.groups, precision=lax.Precision.HIGHEST,
            )  # fmt: skip
            return y if offsets is None else y + offsets

        return self._jitted(case, convolve, input)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """``lax.reduce_window``; averages are divided by the number of taps."""
        from jax import lax

        padding = _reached(case)

        def spatial(pair: Any, other: Any) -> tuple[Any, ...]:
            return (other, *pair, other) if case.layout == "NHWC" else (other, other, *pair)

        window, strides = spatial(case.kernel, 1), spatial(case.stride, 1)
        sides, dilation = spatial(padding, (0, 0)), spatial(case.dilation, 1)

        def maxima(x: Any) -> Any:
            return lax.reduce_window(x, -np.inf, lax.max, window, strides, sides, window_dilation=dilation)

        if case.mode == "max":
            return self._jitted(case, maxima, input)
        counts = divisors(case).astype(case.dtype)
        divisor = counts[:, :, np.newaxis] if case.layout == "NHWC" else counts

        def averages(x: Any) -> Any:
            return (
                lax.reduce_window(x, 0.0, lax.add, window, strides, sides, window_dilation=dilation) / divisor
            )

        return self._jitted(case, averages, input)

    def _jitted(self, case: Case, function: Any, input: Array) -> Run:
        import jax

        if case.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        image = jax.device_put(input)
        compiled = jax.jit(function)
        return lambda: compiled(image).block_until_ready()


class JaxNhwc(Jax):
    """The same on NHWC arrays."""

    name = "jax:nhwc"
    how = "jax.jit, NHWC arrays in and out"
    own_layout = "NHWC"


def _reached(case: Pool) -> tuple[tuple[int, int], ...]:
    """The padding, with what ``ceil_mode`` lets the last window reach beyond it."""
    sides = []
    for size, kernel, stride, (before, after), dilation, out in zip(
        (case.h, case.w),
        case.kernel,
        case.stride,
        case.padding,
        case.dilation,
        case.output_shape[2:],
        strict=True,
    ):
        reach = (out - 1) * stride + dilation * (kernel - 1) + 1 - size - before
        sides.append((before, max(after, reach)))
    return tuple(sides)
