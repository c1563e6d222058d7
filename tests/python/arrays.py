"""Arrays to test with: their values, and the forms they may have in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def values(shape: Any, dtype: Any = np.float32, seed: int = 0, kind: str = "normal") -> Any:
    """Repeatable numbers: ``normal``, ``small`` integers (exact sums), or ``wide`` over twelve magnitudes."""
    generator = np.random.default_rng([seed, *shape])
    if kind == "small":
        return generator.integers(-8, 9, shape).astype(dtype)
    numbers = generator.standard_normal(shape)
    if kind == "wide":
        numbers *= 10.0 ** generator.integers(-6, 7, shape)
    return numbers.astype(dtype)


def to_layout(array: Any, layout: str) -> Any:
    """An NCHW array, or an image of one, in that layout."""
    return array if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(array, -3, -1))


def _not_to_be_read(dtype: Any) -> Any:
    return np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max


def _every_second(array: Any) -> Any:
    wide = np.full([2 * size for size in array.shape], _not_to_be_read(array.dtype), array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def _inside(array: Any) -> Any:
    large = np.full([size + 3 for size in array.shape], _not_to_be_read(array.dtype), array.dtype)
    view = large[tuple(slice(1, size + 1) for size in array.shape)]
    view[...] = array
    return view


def _reversed(array: Any) -> Any:
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[backwards])[backwards]


def _misaligned(array: Any) -> Any:
    memory = np.empty(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert array.size == 0 or array.itemsize == 1 or not view.flags.aligned
    return view


def _field(array: Any) -> Any:
    records = np.zeros(
        array.shape, np.dtype([("flag", np.uint8), ("value", array.dtype)])
    )  # items of odd size
    records["value"] = array
    return records["value"]


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def _repeated_along(axis: int) -> Callable[[Any], Any]:
    def repeat(array: Any) -> Any:
        if array.ndim < -axis:
            return array
        first = array[(..., slice(1), *[slice(None)] * (-axis - 1))]
        return np.broadcast_to(first, array.shape)

    return repeat


# What each does to an array: the values stay, save in those "repeated", which have zero strides.
FORMS: dict[str, Callable[[Any], Any]] = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "every second": _every_second,
    "inside a larger one": _inside,
    "reversed": _reversed,
    "read-only": _read_only,
    "misaligned": _misaligned,
    "field of a record": _field,
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "repeated": lambda array: np.broadcast_to(array[..., :1], array.shape),
    "repeated down": _repeated_along(-2),
    "repeated across planes": _repeated_along(-3),
    "one value": lambda array: np.broadcast_to(array.reshape(-1)[:1].sum(dtype=array.dtype), array.shape),
}

# Forms that can take a result.
OUT_FORMS = ("contiguous", "fortran", "every second", "inside a larger one", "reversed")
