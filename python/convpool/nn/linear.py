"""The readout of a network: flattening and the fully connected layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsIndex

from convpool import _arguments as args
from convpool._arguments import Array, ArrayLike
from convpool.nn.initialization import fan_in_uniform
from convpool.nn.module import Module

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Flatten", "Linear"]


class Flatten(Module):
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, as ``torch.nn.Flatten``.

    >>> import numpy as np
    >>> from convpool import nn
    >>> nn.Flatten()(np.zeros((32, 5, 12, 12))).shape
    (32, 720)
    """

    def __init__(self, start_dim: SupportsIndex = 1, end_dim: SupportsIndex = -1) -> None:
        self.start_dim = args.integer(start_dim, "start_dim")
        self.end_dim = args.integer(end_dim, "end_dim")

    def forward(self, input: ArrayLike) -> Array:
        """The input with fewer axes: a view where possible. Raises ValueError for axes it doesn't have."""
        x = args.array(input, "input")
        start, end = (dim + x.ndim if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            raise ValueError(
                f"start_dim={self.start_dim} and end_dim={self.end_dim} don't fit input of shape {x.shape}"
            )
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def extra_repr(self) -> str:
        """As PyTorch's."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(Module):
    """``input @ weight.T + bias`` over the last axis, as ``torch.nn.Linear``.

    ``weight`` is (out_features, in_features). The weights start uniform on +-1/sqrt(in_features), as
    PyTorch's. Raises ValueError and TypeError for values and kinds of arguments that won't do.

    >>> import numpy as np
    >>> from convpool import nn
    >>> layer = nn.Linear(720, 10)
    >>> layer
    Linear(in_features=720, out_features=10, bias=True)
    >>> layer(np.zeros((32, 720), dtype=np.float32)).shape
    (32, 10)
    """

    weight: Array
    bias: Array | None

    _required = frozenset({"weight"})

    def __init__(
        self,
        in_features: SupportsIndex,
        out_features: SupportsIndex,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = "float32",
        generator: np.random.Generator | None = None,
    ) -> None:
        self.in_features = args.integer(in_features, "in_features")
        self.out_features = args.integer(out_features, "out_features")
        for name in ("in_features", "out_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        with_bias = args.switch(bias, "bias")
        numpy_dtype = args.float_dtype(dtype)
        shape = (self.out_features, self.in_features)
        self.register_parameter("weight", fan_in_uniform(shape, self.in_features, numpy_dtype, generator))
        self.register_parameter(
            "bias", fan_in_uniform(shape[:1], self.in_features, numpy_dtype, generator) if with_bias else None
        )

    def forward(self, input: ArrayLike) -> Array:
        """The result (..., out_features) for an input (..., in_features)."""
        x = args.array(input, "input")
        args.common_dtype(x, self.weight, self.bias)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"input must have {self.in_features} features along its last axis, got shape {x.shape}"
            )
        result: Array = x @ self.weight.T
        if self.bias is not None:
            result += self.bias
        return result

    def extra_repr(self) -> str:
        """As PyTorch's, and the dtype if it is float64."""
        dtype = "" if self.weight.dtype == "float32" else f", dtype={self.weight.dtype}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}{dtype}"
        )
