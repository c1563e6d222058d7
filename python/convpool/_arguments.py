"""What callers pass, made into what the C++ module takes.

Only *kinds* are checked here: what is no int, no array, no known name. Whether a value or a shape will do is
decided in C++, once for both languages. Most calls of a function never come here: the module takes the usual
kinds as they are (``_core.plain_conv2d`` and the like, a microsecond less) and leaves all others to this.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, SupportsIndex, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from convpool import _core


class SupportsDLPack(Protocol):
    """An array of another library: anything NumPy's ``from_dlpack`` takes."""

    def __dlpack__(self, *, stream: None = None) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class SupportsArray(Protocol):
    """Anything that can show itself as a NumPy array."""

    def __array__(self) -> npt.NDArray[Any]: ...


Array: TypeAlias = npt.NDArray[Any]
Int64Array: TypeAlias = npt.NDArray[np.int64]
ArrayLike: TypeAlias = npt.NDArray[Any] | SupportsArray | SupportsDLPack
IntPair: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]]
Padding: TypeAlias = str | IntPair | Sequence[Sequence[SupportsIndex]]
Pair: TypeAlias = tuple[int, int]
Sides: TypeAlias = str | tuple[Pair, Pair]

_ndarray = np.ndarray
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_FLOATS = (_FLOAT32, _FLOAT64)
_ORDERED: tuple[np.dtype[Any], ...] = (
    *_FLOATS,
    *(np.dtype(name) for name in ("int8", "uint8", "int16", "int32", "int64")),
)
_ORDERED_NAMES = "float32, float64, int8, uint8, int16, int32 or int64"
_INT64_MAX = 2**63 - 1

_LAYOUTS = {"NCHW": "NCHW", "NHWC": "NHWC"}
_PADDINGS = {name: name for name in ("valid", "same", "same_lower", "full")}
_PADDING_MODES = {name: name for name in ("zeros", "reflect", "replicate", "circular")}
_ACTIVATIONS = {name: name for name in ("none", "relu", "relu6", "sigmoid", "hardswish", "silu")}
_ALGORITHMS = {
    name: name
    for name in ("auto", "naive", "im2col", "implicit_gemm", "direct", "winograd", "depthwise", "benchmark")
}


def _is_sequence(value: object) -> bool:
    """Whether a list, a tuple, or a NumPy array with axes: the forms that several ints may come in."""
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _kind(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


def _index(value: Any, name: str, form: str) -> int:
    """One int, of any type with ``__index__`` but bool."""
    if not isinstance(value, (bool, np.bool_)):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if -_INT64_MAX <= number <= _INT64_MAX:
                return number
            raise ValueError(
                f"{name} must fit in 64 bits, got {number}; sizes end at 2**63 - 1 = {_INT64_MAX}"
            )
    hint = ""
    if isinstance(value, (bool, np.bool_)):
        hint = f"; a bool is not taken for a number, write {int(value)} if that is meant"
    elif isinstance(value, (float, np.floating)) and float(value).is_integer():
        hint = f"; write {int(value)}"
    raise TypeError(f"{name} must be {form}, got {_kind(value)}{hint}")


def integer(value: SupportsIndex, name: str) -> int:
    """One int."""
    if type(value) is int and -_INT64_MAX <= value <= _INT64_MAX:
        return value
    return _index(value, name, "an int")


def positive_number(value: object, name: str) -> float:
    """A finite number above 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {_kind(value)}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
    return float(value)


def optional_integer(value: SupportsIndex | None, name: str) -> int | None:
    """One int, or None."""
    return None if value is None else _index(value, name, "an int or None")


_PAIR_FORM = "an int or a pair (height, width) of ints"


def _is_plain_pair(value: object) -> TypeGuard[Pair]:
    """Whether a tuple of two ints that fit: the usual form, found fast."""
    return (
        type(value) is tuple
        and len(value) == 2
        and type(value[0]) is int
        and type(value[1]) is int
        and -_INT64_MAX <= value[0] <= _INT64_MAX
        and -_INT64_MAX <= value[1] <= _INT64_MAX
    )


def pair(value: IntPair, name: str) -> Pair:
    """An int for both axes, or (height, width)."""
    if type(value) is int:
        if -_INT64_MAX <= value <= _INT64_MAX:
            return value, value
    elif _is_plain_pair(value):
        return value
    return _pair(value, name, _PAIR_FORM)


def _pair(value: Any, name: str, form: str) -> Pair:
    if not _is_sequence(value):
        number = _index(value, name, form)
        return number, number
    if len(value) not in (1, 2) or any(_is_sequence(item) for item in value):
        raise ValueError(f"{name} must be {form}, got {value!r}")
    height, width = value if len(value) == 2 else (value[0], value[0])
    return _index(height, name, form), _index(width, name, form)


_PADDING_FORM = (
    "an int, a pair (height, width), a nested pair ((top, bottom), (left, right)), "
    "or one of 'valid', 'same', 'same_lower', 'full'"
)


def padding_sides(value: Padding) -> Sides:
    """A padding's name, or ((top, bottom), (left, right))."""
    return pool_padding_sides(value)[0]


def pool_padding_sides(value: Padding) -> tuple[Sides, bool]:
    """As ``padding_sides``, and whether the nested form was used, for which pooling has another bound."""
    if type(value) is int and -_INT64_MAX <= value <= _INT64_MAX:
        return ((value, value), (value, value)), False
    if _is_plain_pair(value):
        height, width = value
        return ((height, height), (width, width)), False
    if isinstance(value, str):
        return _name(value, "padding", _PADDINGS, _PADDING_FORM), False
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0):
        if any(_is_sequence(item) for item in value):
            return _nested_sides(value), True
        if len(value) == 4:
            a, b, c, d = (_index(item, "padding", _PADDING_FORM) for item in value)
            raise ValueError(
                f"padding must be {_PADDING_FORM}, got the flat {value!r}; "
                f"write padding=(({a}, {b}), ({c}, {d})) "
                f"if that is (top, bottom, left, right), or padding=(({a}, {c}), ({b}, {d})) "
                "if it is (top, left, bottom, right)"
            )
    height, width = _pair(value, "padding", _PADDING_FORM)
    return ((height, height), (width, width)), False


def _nested_sides(value: Any) -> tuple[Pair, Pair]:
    if len(value) != 2 or any(not _is_sequence(side) or len(side) != 2 for side in value):
        raise ValueError(f"padding must be {_PADDING_FORM}, got {value!r}")
    (top, bottom), (left, right) = value
    return (
        (_index(top, "padding", _PADDING_FORM), _index(bottom, "padding", _PADDING_FORM)),
        (_index(left, "padding", _PADDING_FORM), _index(right, "padding", _PADDING_FORM)),
    )


def _name(value: object, name: str, choices: Iterable[str], form: str | None = None) -> str:
    """One of some names; the error lists them, and the nearest."""
    choices = list(choices)
    if isinstance(value, str) and value in choices:
        return str(value)
    form = form or "one of " + ", ".join(repr(choice) for choice in choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {form}, got {_kind(value)}")
    near = get_close_matches(value.lower(), choices, 1) or get_close_matches(value.upper(), choices, 1)
    raise ValueError(
        f"{name} must be {form}, got {value!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def layout_name(value: str) -> str:
    """The name of a memory layout."""
    return value if type(value) is str and value in _LAYOUTS else _name(value, "layout", _LAYOUTS)


def padding_mode_name(value: str) -> str:
    """The name of a padding mode."""
    return (
        value
        if type(value) is str and value in _PADDING_MODES
        else _name(value, "padding_mode", _PADDING_MODES)
    )


def activation_name(value: str | None) -> str:
    """The name of an activation, "none" for None."""
    if value is None:
        return "none"
    return value if type(value) is str and value in _ACTIVATIONS else _name(value, "activation", _ACTIVATIONS)


def algorithm_name(value: str) -> str:
    """The name of an algorithm."""
    return value if type(value) is str and value in _ALGORITHMS else _name(value, "algorithm", _ALGORITHMS)


def switch(value: object, name: str) -> bool:
    """True or False. An int is refused: more often than not it is an argument in the wrong place."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {_kind(value)}")


def thread_count(value: SupportsIndex | None) -> int:
    """A number of threads; 0 stands for the default."""
    if value is None:
        return 0
    count = integer(value, "num_threads")
    if not 1 <= count < 2**31:
        raise ValueError(f"num_threads must be at least 1 (or None for the default), got {count}")
    return count


def shape(value: Sequence[SupportsIndex], name: str, *axes: str) -> tuple[int, ...]:
    """The sizes of an array's axes, of which there must be as many as one of the descriptions says."""
    if not _is_sequence(value):
        raise TypeError(f"{name} must be a tuple of ints, such as an array's shape, got {_kind(value)}")
    if len(value) not in [description.count(",") + 1 for description in axes]:
        raise ValueError(f"{name} must be {' or '.join(axes)}, got {value!r}")
    return tuple(_index(size, f"{name}[{axis}]", "an int") for axis, size in enumerate(value))


def input_shape(value: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """The sizes of an image's axes, or of a batch's."""
    return shape(value, "input_shape", "(N, C, H, W)", "(C, H, W)")


def _as_ndarray(value: Any, name: str) -> Array:
    """The data of an array of any library as a plain ndarray, copied only if its owner does."""
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(
            f"{name} must not be a masked array; fill it first, for example with {name}.filled(0)"
        )
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    converters: list[Callable[[Any], Array]] = []
    if _has_buffer(value) or any(
        hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__")
    ):
        converters.append(np.asarray)
    if hasattr(value, "__dlpack__"):
        converters.append(np.from_dlpack)
    reason: Exception | None = None
    for convert in converters:
        try:
            return convert(value)
        except (TypeError, ValueError, RuntimeError, BufferError) as error:  # the owner's own objection
            reason = reason or error
    if reason is not None:
        raise TypeError(
            f"{name} can't be had as a NumPy array, got {type(value).__name__}: {reason}"
        ) from reason
    hint = (
        f"; np.asarray({name}, dtype=np.float32) makes one of a list"
        if isinstance(value, (list, tuple))
        else ""
    )
    raise TypeError(
        f"{name} must be a NumPy array, or an object with __array__ or __dlpack__, "
        f"got {type(value).__name__}{hint}"
    )


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def array(value: ArrayLike, name: str) -> Array:
    """A native-endian, aligned ndarray of floats with the data of ``value``, copied only where it must be."""
    if (
        type(value) is _ndarray
        and value.flags.aligned
        and ((dtype := value.dtype) is _FLOAT32 or dtype is _FLOAT64)
    ):
        return value
    return _native(_as_ndarray(value, name), name, _FLOATS, "float32 or float64")


def ordered_array(value: ArrayLike, name: str) -> Array:
    """The same, of any dtype whose values can be compared without being added up."""
    return _native(_as_ndarray(value, name), name, _ORDERED, _ORDERED_NAMES)


def _native(value: Array, name: str, dtypes: tuple[np.dtype[Any], ...], names: str) -> Array:
    # NumPy compares the byte order too, so a swapped one isn't among the dtypes.
    if value.dtype in dtypes:
        return value if value.flags.aligned else value.copy()
    swapped = value.dtype.newbyteorder("=")
    if swapped not in dtypes:
        raise TypeError(
            f"{name} must have dtype {names}, got {value.dtype}; "
            f"convert it, for example with {name}.astype(np.float32)"
        )
    return value.astype(swapped)


def common_dtype(input: Array, weight: Array, bias: Array | None, add: Array | None = None) -> None:
    """Refuses arguments of differing dtypes."""
    dtype = input.dtype
    if (
        dtype != weight.dtype
        or (bias is not None and dtype != bias.dtype)
        or (add is not None and dtype != add.dtype)
    ):
        got = f"input {dtype}, weight {weight.dtype}" + ("" if bias is None else f", bias {bias.dtype}")
        names = "input, weight and bias"
        if add is not None:
            got, names = f"{got}, add {add.dtype}", "input, weight, bias and add"
        raise TypeError(f"{names} must have the same dtype, got {got}; convert with .astype(...)")


def float_dtype(value: object) -> np.dtype[Any]:
    """A dtype that can be computed in, from its name, type, or dtype."""
    try:
        dtype = np.dtype(value)  # type: ignore[call-overload]
    except TypeError:
        dtype = None
    if value is None or dtype not in (_FLOAT32, _FLOAT64):
        raise TypeError(f"dtype must be float32 or float64, got {value!r}")
    return _FLOAT32 if dtype == _FLOAT32 else _FLOAT64


def check_output(out: object, dtype: np.dtype[Any], *inputs: Array | None) -> None:
    """Refuses an array that no result can be written into; its shape is looked at in C++."""
    if _core.is_plain_output(out, dtype, inputs):  # nearly always, and ten times as fast as what follows
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array or None, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(
            f"out must have the input's dtype {dtype}, got {out.dtype}; "
            f"np.empty(shape, {str(dtype)!r}) would do"
        )
    flags = out.flags
    if not flags.writeable:
        raise ValueError("out is read-only; pass an array that may be written, such as out.copy()")
    if not flags.aligned:
        raise ValueError(
            f"out must be aligned to its items, got strides {out.strides}; np.empty(shape) would do"
        )
    for name, other in zip(("input", "weight", "bias", "add"), inputs, strict=False):
        if other is not None and _share_memory(out, other):
            raise ValueError(
                f"out must not share memory with {name}; pass another array, or a copy of {name}"
            )


def _share_memory(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):  # compares the outer bounds only, so interleaved views come further
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def covered(kernel: Pair, dilation: Pair) -> Pair:
    """How many pixels a dilated kernel covers, at most what an int64 holds."""
    height, width = (min(d * (k - 1) + 1, _INT64_MAX) for k, d in zip(kernel, dilation, strict=True))
    return max(1, height), max(1, width)
