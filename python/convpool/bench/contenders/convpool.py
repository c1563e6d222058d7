"""convpool: prepared, as functions, in NHWC, and each algorithm by itself."""

from __future__ import annotations

from typing import ClassVar

import convpool
from convpool import nn
from convpool.bench.cases import Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run, UnsupportedError


class Prepared(Contender):
    """Weights packed once by ``nn.Conv2d.from_weights``, NumPy arrays in and out."""

    name = "convpool"
    modules = ("convpool",)
    distributions = ("convpool",)
    how = "nn.Conv2d.from_weights, weights packed once"
    layouts = ("NCHW", "NHWC")
    dtypes = ("float32", "float64")
    algorithm: ClassVar[str] = "auto"

    _explanation = ""

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """``layer(input)``."""
        layer = nn.Conv2d.from_weights(
            weight, bias, case.stride, case.padding, case.dilation, case.groups,
            layout=case.layout, algorithm=self.algorithm,
        )  # fmt: skip
        threads = self.threads
        try:
            layer(input, num_threads=threads)
        except ValueError as error:  # a named algorithm says what it can't do
            raise UnsupportedError(str(error)) from None
        self._explanation = layer.explain(input.shape)
        return lambda: layer(input, num_threads=threads)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """``max_pool2d`` and ``avg_pool2d``: there is nothing to prepare."""
        return _pool2d(case, input, self.threads)

    def explain(self) -> str:
        """``layer.explain``."""
        return self._explanation


class Functional(Prepared):
    """``conv2d`` with the weights as they lie, in each call."""

    name = "convpool:functional"
    how = "conv2d, unpacked weights in each call"

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """``conv2d(input, weight, bias)``."""
        threads = self.threads
        return lambda: convpool.conv2d(
            input, weight, bias, case.stride, case.padding, case.dilation, case.groups,
            layout=case.layout, num_threads=threads,
        )  # fmt: skip


class Nhwc(Prepared):
    """The prepared form on NHWC arrays."""

    name = "convpool:nhwc"
    how = "nn.Conv2d.from_weights, NHWC arrays in and out"
    own_layout = "NHWC"


class _Algorithm(Prepared):
    """The prepared form with one algorithm for every case; it has no poolings."""

    def pool2d(self, case: Pool, input: Array) -> Run:
        raise UnsupportedError("algorithms are of convolutions")


class Naive(_Algorithm):
    """Plain loops."""

    name = "convpool:naive"
    algorithm = "naive"
    how = "plain loops"


class Im2col(_Algorithm):
    """The explicit matrix, then a product."""

    name = "convpool:im2col"
    algorithm = "im2col"
    how = "explicit matrix, then a product"


class ImplicitGemm(_Algorithm):
    """The product with panels packed on the fly."""

    name = "convpool:implicit_gemm"
    algorithm = "implicit_gemm"
    how = "product with panels packed on the fly"


class Direct(_Algorithm):
    """Blocked loops over the input in place."""

    name = "convpool:direct"
    algorithm = "direct"
    how = "blocked loops over the input in place"


class Winograd(_Algorithm):
    """Fewer multiplications by transforms."""

    name = "convpool:winograd"
    algorithm = "winograd"
    how = "fewer multiplications by transforms"


class Depthwise(_Algorithm):
    """Each channel by itself."""

    name = "convpool:depthwise"
    algorithm = "depthwise"
    how = "each channel by itself"


def _pool2d(case: Pool, input: Array, threads: int) -> Run:
    layout = case.layout
    if case.mode == "max":
        return lambda: convpool.max_pool2d(
            input, case.kernel, case.stride, case.short_padding, case.dilation, case.ceil_mode,
            layout=layout, num_threads=threads,
        )  # fmt: skip
    return lambda: convpool.avg_pool2d(
        input, case.kernel, case.stride, case.short_padding, case.ceil_mode, case.count_include_pad,
        dilation=case.dilation, layout=layout, num_threads=threads,
    )  # fmt: skip
