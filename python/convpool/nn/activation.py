"""Activations as layers of their own; convolutions can apply them on the way, which costs nothing."""

from __future__ import annotations

import numpy as np

from convpool import _arguments as args
from convpool._arguments import Array, ArrayLike
from convpool.nn.module import Module

__all__ = ["ReLU", "Sigmoid"]


class ReLU(Module):
    """max(x, 0) of each element, as ``torch.nn.ReLU``; NaN stays NaN.

    With ``inplace`` the input itself is changed.

    >>> import numpy as np
    >>> from convpool import nn
    >>> nn.ReLU()(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = args.switch(inplace, "inplace")

    def forward(self, input: ArrayLike) -> Array:
        """The result, in the input's shape and dtype."""
        if not self.inplace:
            return np.maximum(args.array(input, "input"), 0)
        if not isinstance(input, np.ndarray) or not input.flags.writeable:
            raise ValueError(
                f"input must be a writeable NumPy array for inplace=True, got {type(input).__name__}"
            )
        args.array(input, "input")
        return np.maximum(input, 0, out=input)

    def extra_repr(self) -> str:
        """As PyTorch's."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """1 / (1 + exp(-x)) of each element, as ``torch.nn.Sigmoid``.

    >>> import numpy as np
    >>> from convpool import nn
    >>> nn.Sigmoid()(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """

    def forward(self, input: ArrayLike) -> Array:
        """The result, in the input's shape and dtype."""
        x = args.array(input, "input")
        small = np.exp(-np.abs(x))  # never above 1, so nothing overflows
        result: Array = np.where(x >= 0, x.dtype.type(1), small) / (1 + small)
        return result
