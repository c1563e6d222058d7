"""2-D convolution and pooling for NumPy arrays on CPUs, with PyTorch's semantics.

>>> import numpy as np
>>> import convpool
>>> image = np.arange(25.0).reshape(1, 5, 5)
>>> blur = np.full((1, 1, 3, 3), 1 / 9)
>>> convpool.conv2d(image, blur)
array([[[ 6.,  7.,  8.],
        [11., 12., 13.],
        [16., 17., 18.]]])

Functions: :func:`conv2d`, :func:`max_pool2d`, :func:`avg_pool2d`, and their arithmetic alone in
:func:`conv2d_output_shape` and :func:`pool2d_output_shape`. Layers are in :mod:`convpool.nn`, the same rules
in plain NumPy in :mod:`convpool.reference`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convpool._conv import conv2d, conv2d_output_shape
from convpool._pool import avg_pool2d, max_pool2d, pool2d_output_shape
from convpool._runtime import available_isas, get_num_threads, isa, set_num_threads, show_config

if TYPE_CHECKING:
    from convpool import nn, reference

    __version__: str

__all__ = [
    "__version__",
    "available_isas",
    "avg_pool2d",
    "conv2d",
    "conv2d_output_shape",
    "get_num_threads",
    "isa",
    "max_pool2d",
    "nn",
    "pool2d_output_shape",
    "reference",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> object:
    # The rest costs milliseconds to load, or a look at the machine, so it waits until it is asked for.
    if name in ("nn", "reference"):
        import importlib

        return importlib.import_module(f"convpool.{name}")
    if name == "__version__":
        from convpool import _core

        return _core.config()["version"]
    raise AttributeError(f"module 'convpool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
