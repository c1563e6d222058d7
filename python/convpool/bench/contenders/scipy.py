"""SciPy, for images whose channels are filtered one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run, UnsupportedError


class SciPy(Contender):
    """The fastest of SciPy's own ways for the case, plane by plane; strides by leaving pixels out."""

    name = "scipy"
    modules = ("scipy",)
    distributions = ("scipy",)
    how = "the fastest of scipy.ndimage and scipy.signal for the case, one plane at a time"
    dtypes = ("float32", "float64")

    _chosen = ""

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """``ndimage.correlate``, ``signal.correlate2d`` or ``signal.oaconvolve``."""
        from scipy import ndimage, signal

        if case.groups != case.c or case.k != case.c:
            raise UnsupportedError("single channels only")
        if case.dilation != (1, 1):
            raise UnsupportedError("no dilation")
        top, left = case.kernel[0] // 2, case.kernel[1] // 2
        # A filter centred on each pixel of the padded image; those whose window doesn't fit are cut off.
        bottom, right = case.kernel[0] - 1 - top, case.kernel[1] - 1 - left

        def with_ndimage(plane: Array, kernel: Array) -> Array:
            full: Array = ndimage.correlate(plane, kernel, mode="constant")
            return full[top : full.shape[0] - bottom, left : full.shape[1] - right]

        def with_correlate2d(plane: Array, kernel: Array) -> Array:
            result: Array = signal.correlate2d(plane, kernel, mode="valid")
            return result

        def with_oaconvolve(plane: Array, kernel: Array) -> Array:
            result: Array = signal.oaconvolve(plane, kernel[::-1, ::-1], mode="valid")
            return result

        def runner(correlate: Callable[[Array, Array], Array]) -> Run:
            def run() -> Array:
                result = np.empty(case.output_shape, input.dtype)
                padded = _padded(case, input, 0)
                for n in range(case.n):
                    for c in range(case.c):
                        found = correlate(padded[n, c], weight[c, 0])[:: case.stride[0], :: case.stride[1]]
                        np.add(found, 0 if bias is None else bias[c], out=result[n, c])
                return result

            return run

        return self._fastest(
            {
                "ndimage.correlate": runner(with_ndimage),
                "signal.correlate2d": runner(with_correlate2d),
                "signal.oaconvolve": runner(with_oaconvolve),
            }
        )

    def pool2d(self, case: Pool, input: Array) -> Run:
        """``ndimage.maximum_filter`` and ``ndimage.uniform_filter``."""
        from scipy import ndimage

        if case.dilation != (1, 1):
            raise UnsupportedError("no dilation")
        if case.ceil_mode:
            raise UnsupportedError("no ceil_mode")
        if case.mode == "avg" and not case.count_include_pad and case.padding != ((0, 0), (0, 0)):
            raise UnsupportedError("no padding that isn't counted")
        top, left = case.kernel[0] // 2, case.kernel[1] // 2
        maxima = case.mode == "max"
        filter2d: Any = ndimage.maximum_filter if maxima else ndimage.uniform_filter
        oh, ow = case.output_shape[2:]
        stop = top + (oh - 1) * case.stride[0] + 1, left + (ow - 1) * case.stride[1] + 1
        fill = -np.inf if maxima else 0

        def run() -> Array:
            result = np.empty(case.output_shape, input.dtype)
            padded = _padded(case, input, fill)
            for n in range(case.n):
                for c in range(case.c):
                    found = filter2d(padded[n, c], case.kernel, mode="constant", cval=fill)
                    result[n, c] = found[top : stop[0] : case.stride[0], left : stop[1] : case.stride[1]]
            return result

        self._chosen = f"ndimage.{filter2d.__name__}"
        return run

    def _fastest(self, ways: dict[str, Run]) -> Run:
        times = {}
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            times[name] = time.perf_counter() - start
        self._chosen = min(times, key=lambda name: times[name])
        return ways[self._chosen]

    def explain(self) -> str:
        """The function that was fastest."""
        return self._chosen


def _padded(case: Case, input: Array, value: float) -> Array:
    if case.padding == ((0, 0), (0, 0)):
        return input
    return np.pad(input, ((0, 0), (0, 0), *case.padding), constant_values=value)
