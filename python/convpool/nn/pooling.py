"""The pooling layers."""

from __future__ import annotations

from typing import SupportsIndex

from convpool import _arguments as args
from convpool._arguments import Array, ArrayLike, Int64Array, IntPair, Padding
from convpool._pool import avg_pool2d, max_pool2d, pool2d_output_shape
from convpool.nn.module import Module

__all__ = ["AvgPool2d", "MaxPool2d"]


class _Pool2d(Module):
    kernel_size: IntPair
    stride: IntPair
    padding: Padding
    dilation: IntPair
    ceil_mode: bool
    layout: str

    def _set(
        self,
        kernel_size: IntPair,
        stride: IntPair | None,
        padding: Padding,
        dilation: IntPair,
        ceil_mode: bool,
        layout: str,
    ) -> None:
        # Kept in the caller's form, which PyTorch's repr shows; each call makes them uniform.
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = args.switch(ceil_mode, "ceil_mode")
        self.layout = args.layout_name(layout)
        # An image of the window's size shows what is wrong with the values for any image.
        sizes = args.covered(args.pair(kernel_size, "kernel_size"), args.pair(dilation, "dilation"))
        pool2d_output_shape((1, 1, *sizes), kernel_size, stride, padding, dilation)

    def _layout_repr(self) -> str:
        return "" if self.layout == "NCHW" else f", layout={self.layout}"


class MaxPool2d(_Pool2d):
    """The largest value of each window, as ``torch.nn.MaxPool2d``.

    The arguments are those of :func:`convpool.max_pool2d`. With ``return_indices`` a call returns (values,
    indices). Raises TypeError for arguments of the wrong kind, ValueError for values out of range.

    >>> import numpy as np
    >>> from convpool import nn
    >>> pool = nn.MaxPool2d(2)
    >>> pool
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    >>> pool(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 5.,  7.],
            [13., 15.]]])
    """

    return_indices: bool

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        dilation: IntPair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, dilation, ceil_mode, layout)
        self.return_indices = args.switch(return_indices, "return_indices")

    def forward(
        self, input: ArrayLike, *, out: Array | None = None, num_threads: SupportsIndex | None = None
    ) -> Array | tuple[Array, Int64Array]:
        """The pooled input; arguments, result and errors as of :func:`convpool.max_pool2d`."""
        return max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
            layout=self.layout,
            out=out,
            num_threads=num_threads,
        )

    def extra_repr(self) -> str:
        """As PyTorch's, and the layout if it is NHWC."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}{self._layout_repr()}"
        )


class AvgPool2d(_Pool2d):
    """The mean of each window, as ``torch.nn.AvgPool2d``.

    The arguments are those of :func:`convpool.avg_pool2d`. Raises TypeError for arguments of the wrong kind,
    ValueError for values out of range.

    >>> import numpy as np
    >>> from convpool import nn
    >>> pool = nn.AvgPool2d((3, 2), stride=(2, 1))
    >>> pool
    AvgPool2d(kernel_size=(3, 2), stride=(2, 1), padding=0)
    >>> pool(np.zeros((16, 50, 32))).shape
    (16, 24, 31)
    """

    count_include_pad: bool
    divisor_override: int | None

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: SupportsIndex | None = None,
        *,
        dilation: IntPair = 1,
        layout: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, dilation, ceil_mode, layout)
        self.count_include_pad = args.switch(count_include_pad, "count_include_pad")
        self.divisor_override = args.optional_integer(divisor_override, "divisor_override")

    def forward(
        self, input: ArrayLike, *, out: Array | None = None, num_threads: SupportsIndex | None = None
    ) -> Array:
        """The pooled input; arguments, result and errors as of :func:`convpool.avg_pool2d`."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
            dilation=self.dilation,
            layout=self.layout,
            out=out,
            num_threads=num_threads,
        )

    def extra_repr(self) -> str:
        """As PyTorch's, then the dilation and the layout unless they are the default."""
        dilation = "" if self.dilation in (1, (1, 1)) else f", dilation={self.dilation}"
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
            f"{dilation}{self._layout_repr()}"
        )
