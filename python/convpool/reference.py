"""Convolution and pooling in plain NumPy: slow, obvious, and right.

Every function here has the arguments of its namesake in :mod:`convpool` and none of its code. All sums are
taken in float64, sizes are Python integers that can't overflow, and each rule is written down where it
applies. The tests compare the fast functions with these; they also serve to read what an option means.

>>> import numpy as np
>>> from convpool import reference
>>> reference.conv2d(np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 2, 2)))
array([[[ 8., 12.],
        [20., 24.]]])
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

__all__ = [
    "activate",
    "avg_pool2d",
    "conv2d",
    "conv2d_magnitude",
    "conv2d_output_shape",
    "max_pool2d",
    "pool2d_output_shape",
]

Array: TypeAlias = npt.NDArray[Any]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]
IntPair: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Padding: TypeAlias = str | SupportsIndex | Sequence[SupportsIndex] | Sequence[Sequence[SupportsIndex]]


class Axis(NamedTuple):
    """One axis: output ``o``, tap ``t`` reads position ``o * stride + t * dilation - before``."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int

    def positions(self, output: int) -> list[int]:
        """Where an output's taps lie in the unpadded input: negative or ``>= size`` in the padding."""
        return [output * self.stride + tap * self.dilation - self.before for tap in range(self.kernel)]


def _pair(value: IntPair, name: str) -> tuple[int, int]:
    numbers = (
        [operator.index(v) for v in value]
        if isinstance(value, (Sequence, np.ndarray))
        else [operator.index(value)]
    )
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) != 2:
        raise ValueError(f"{name} must be an int or a pair, got {value!r}")
    return numbers[0], numbers[1]


def _sides(
    padding: Padding, sizes: tuple[int, int], effective: tuple[int, int], stride: tuple[int, int]
) -> list[tuple[int, int]]:
    """The padding before and after each of the two axes."""
    if isinstance(padding, str):
        return [_named_sides(padding, *axis) for axis in zip(sizes, effective, stride, strict=True)]
    if isinstance(padding, Sequence) and any(isinstance(side, (Sequence, np.ndarray)) for side in padding):
        (top, bottom), (left, right) = cast("Sequence[Sequence[SupportsIndex]]", padding)
        return [(operator.index(top), operator.index(bottom)), (operator.index(left), operator.index(right))]
    height, width = _pair(padding, "padding")  # type: ignore[arg-type]
    return [(height, height), (width, width)]


def _named_sides(name: str, size: int, effective: int, stride: int) -> tuple[int, int]:
    if name == "valid":
        return 0, 0
    if name == "full":
        return effective - 1, effective - 1
    outputs = -(-size // stride)  # "same" keeps ceil(size / stride) outputs
    total = max(0, (outputs - 1) * stride + effective - size)
    if name == "same":
        return total // 2, total - total // 2
    if name == "same_lower":
        return total - total // 2, total // 2
    raise ValueError(f"padding must be 'valid', 'same', 'same_lower' or 'full', got {name!r}")


def _axes(
    sizes: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) < 1:
            raise ValueError(f"{name} must be at least 1, got {values}")
    effective = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    axes = []
    for i, (before, after) in enumerate(_sides(padding, sizes, effective, stride)):
        if min(before, after) < 0:
            raise ValueError(f"padding must not be negative, got {padding!r}")
        room = sizes[i] + before + after - effective[i]
        out = room // stride[i] + 1
        # With ceil_mode a last, partial window counts if it starts inside the image or the padding before it.
        if ceil_mode and room % stride[i] != 0 and out * stride[i] < sizes[i] + before:
            out += 1
        if out < 1:
            raise ValueError(
                f"kernel_size covers {effective[i]}, more than the padded input's {room + effective[i]}"
            )
        axes.append(Axis(sizes[i], kernel[i], stride[i], dilation[i], before, after, out))
    return axes[0], axes[1]


def _split(
    shape: Sequence[SupportsIndex], layout: str, name: str = "input"
) -> tuple[tuple[int, ...], int, int, int]:
    """The leading batch sizes, the channels, the height and the width of a shape in either layout."""
    sizes = [operator.index(size) for size in shape]
    if len(sizes) not in (3, 4):
        raise ValueError(f"{name} must have 3 or 4 dimensions, got shape {tuple(sizes)}")
    if min(sizes[-3:]) < 1 or sizes[0] < 0:
        raise ValueError(f"{name} may be empty along the batch only, got shape {tuple(sizes)}")
    if layout == "NCHW":
        channels, height, width = sizes[-3:]
    elif layout == "NHWC":
        height, width, channels = sizes[-3:]
    else:
        raise ValueError(f"layout must be 'NCHW' or 'NHWC', got {layout!r}")
    return tuple(sizes[:-3]), channels, height, width


def _join(batch: tuple[int, ...], channels: int, height: int, width: int, layout: str) -> tuple[int, ...]:
    return (*batch, channels, height, width) if layout == "NCHW" else (*batch, height, width, channels)


def _to_nchw(array: npt.ArrayLike, layout: str) -> Array:
    """The array with axes (N, C, H, W), whatever its layout and whether it has a batch axis or not."""
    array = np.asarray(array)
    _split(array.shape, layout)
    if array.ndim == 3:
        array = array[np.newaxis]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def _from_nchw(array: Array, layout: str, batched: bool) -> Array:
    if layout == "NHWC":
        array = array.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(array if batched else array[0])


def _conv2d_axes(
    input_shape: Sequence[SupportsIndex],
    weight_shape: Sequence[SupportsIndex],
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: int,
    padding_mode: str,
    layout: str,
) -> tuple[Axis, Axis]:
    _, channels, height, width = _split(input_shape, layout)
    if len(weight_shape) != 4 or min(operator.index(size) for size in weight_shape) < 1:
        raise ValueError(f"weight must be a non-empty (K, C/groups, kH, kW), got shape {tuple(weight_shape)}")
    out_channels, group_channels, kernel_height, kernel_width = (
        operator.index(size) for size in weight_shape
    )
    if groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(
            f"groups must divide {channels} input and {out_channels} output channels, got {groups}"
        )
    if group_channels * groups != channels:
        raise ValueError(f"weight expects {group_channels * groups} channels, input has {channels}")
    axes = _axes(
        (height, width),
        (kernel_height, kernel_width),
        _pair(stride, "stride"),
        padding,
        _pair(dilation, "dilation"),
    )
    limits: dict[str, Callable[[int], int | None]] = {
        "zeros": lambda size: None,
        "replicate": lambda size: None,
        "reflect": lambda size: size - 1,
        "circular": lambda size: size,
    }
    if padding_mode not in limits:
        raise ValueError(f"padding_mode must be one of {', '.join(limits)}, got {padding_mode!r}")
    for axis in axes:
        limit = limits[padding_mode](axis.size)
        if limit is not None and max(axis.before, axis.after) > limit:
            raise ValueError(f"padding for padding_mode={padding_mode!r} is at most {limit}, got {padding!r}")
    return axes


def conv2d_output_shape(
    input_shape: Sequence[SupportsIndex],
    weight_shape: Sequence[SupportsIndex],
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
) -> tuple[int, ...]:
    """The shape of ``conv2d``'s result.

    Along each axis it is ``floor((size + padding - dilation * (k - 1) - 1) / stride) + 1``.

    >>> conv2d_output_shape((20, 16, 50, 100), (33, 16, 3, 5), (2, 1), (4, 2), (3, 1))
    (20, 33, 26, 100)
    """
    height, width = _conv2d_axes(
        input_shape, weight_shape, stride, padding, dilation, groups, padding_mode, layout
    )
    return _join(
        _split(input_shape, layout)[0], operator.index(weight_shape[0]), height.out, width.out, layout
    )


def _correlate(
    image: Float64Array, weight: Float64Array, axes: tuple[Axis, Axis], groups: int, padding_mode: str
) -> Float64Array:
    """The cross-correlation, one kernel tap after the other: (N, C, H, W) with (K, C/groups, kH, kW)."""
    height, width = axes
    mode: Any = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[
        padding_mode
    ]
    margins = ((0, 0), (0, 0), (height.before, height.after), (width.before, width.after))
    padded = np.pad(image, margins, mode=mode) if len(image) else np.zeros((0, image.shape[1], 1, 1))
    batch, out_channels = len(image), len(weight)
    result = np.zeros((batch, groups, out_channels // groups, height.out, width.out))
    if batch == 0:
        return result.reshape(0, out_channels, height.out, width.out)
    padded = padded.reshape(batch, groups, -1, *padded.shape[2:])
    weight = weight.reshape(groups, out_channels // groups, *weight.shape[1:])
    for i in range(height.kernel):
        for j in range(width.kernel):
            top, left = i * height.dilation, j * width.dilation
            seen = padded[
                :,
                :,
                :,
                top : top + (height.out - 1) * height.stride + 1 : height.stride,
                left : left + (width.out - 1) * width.stride + 1 : width.stride,
            ]
            result += np.einsum("ngchw,gkc->ngkhw", seen, weight[:, :, :, i, j])
    return result.reshape(batch, out_channels, height.out, width.out)


def activate(values: npt.ArrayLike, activation: str | None) -> Float64Array:
    """The activation of each value in float64, as PyTorch's; NaN stays NaN.

    ``activation`` is None, relu, relu6, sigmoid, hardswish or silu.

    >>> activate([-4.0, -1.0, 3.0, 7.0], "relu6")
    array([0., 0., 3., 6.])
    >>> activate([-4.0, 0.0, 3.0], "hardswish")
    array([-0.,  0.,  3.])
    """
    x = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        if activation is None or activation == "none":
            return x
        if activation == "relu":
            return np.maximum(x, 0.0)
        if activation == "relu6":
            return np.minimum(np.maximum(x, 0.0), 6.0)
        if activation == "sigmoid":
            return 1.0 / (1.0 + np.exp(-x))
        if activation == "hardswish":
            return x * np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0
        if activation == "silu":
            return x / (1.0 + np.exp(-x))
    raise ValueError(f"activation must be None, relu, relu6, sigmoid, hardswish or silu, got {activation!r}")


def conv2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    activation: str | None = None,
    add: npt.ArrayLike | None = None,
) -> Float64Array:
    """2-D cross-correlation in float64, as :func:`convpool.conv2d`.

    ``input`` is (N, C, H, W) or (C, H, W), with ``layout="NHWC"`` (N, H, W, C) or (H, W, C); ``weight`` is
    (K, C/groups, kH, kW), ``bias`` (K,); ``add``, of the result's shape, is added before the activation.
    Raises ValueError where sizes don't fit together.

    >>> image = [[[1, 2, 3, 0, 1], [0, 1, 5, 1, 0], [1, 0, 2, 2, 1], [1, 1, 2, 0, 0], [1, 0, 1, 1, 1]]]
    >>> conv2d(image, [[[[1, 0, 1], [0, 1, 0], [1, 0, 1]]]])
    array([[[8., 9., 8.],
            [8., 5., 9.],
            [6., 5., 5.]]])
    """
    weight = np.asarray(weight, dtype=np.float64)
    shape = np.shape(input)
    axes = _conv2d_axes(shape, weight.shape, stride, padding, dilation, groups, padding_mode, layout)
    with np.errstate(all="ignore"):
        result = _correlate(_to_nchw(input, layout).astype(np.float64), weight, axes, groups, padding_mode)
        if bias is not None:
            bias = np.asarray(bias, dtype=np.float64)
            if bias.shape != (len(weight),):
                raise ValueError(f"bias must have shape ({len(weight)},), got {bias.shape}")
            result = result + bias[:, np.newaxis, np.newaxis]
        result = _from_nchw(result, layout, len(shape) == 4)
        if add is not None:
            add = np.asarray(add, dtype=np.float64)
            if add.shape != result.shape:
                raise ValueError(f"add must have the result's shape {result.shape}, got {add.shape}")
            result = result + add
    return activate(result, activation)


def conv2d_magnitude(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    add: npt.ArrayLike | None = None,
) -> Float64Array:
    """The sum of the absolute values of all terms of each result of ``conv2d``, before any activation.

    Rounding errors of a sum are proportional to it, so it is what a tolerance has to be measured by.

    >>> conv2d_magnitude([[[1.0, -1.0]]], [[[[2.0, 2.0]]]])
    array([[[4.]]])
    """
    return conv2d(
        np.abs(input),
        np.abs(weight),
        None if bias is None else np.abs(bias),
        stride,
        padding,
        dilation,
        groups,
        padding_mode=padding_mode,
        layout=layout,
        add=None if add is None else np.abs(add),
    )


def _pool2d_axes(
    input_shape: Sequence[SupportsIndex],
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
    layout: str,
) -> tuple[Axis, Axis]:
    _, _, height, width = _split(input_shape, layout)
    kernel = _pair(kernel_size, "kernel_size")
    if stride is None or (isinstance(stride, Sequence) and len(stride) == 0):
        stride = kernel
    axes = _axes(
        (height, width), kernel, _pair(stride, "stride"), padding, _pair(dilation, "dilation"), ceil_mode
    )
    nested = isinstance(padding, Sequence) and any(
        isinstance(side, (Sequence, np.ndarray)) for side in padding
    )
    for axis in axes:
        effective = axis.dilation * (axis.kernel - 1) + 1
        # PyTorch's bound for the forms it has; the others need only overlap the image.
        limit = effective - 1 if nested or isinstance(padding, str) else effective // 2
        if max(axis.before, axis.after) > limit:
            raise ValueError(
                f"padding must be at most {limit} for a kernel that covers {effective}, got {padding!r}"
            )
    return axes


def pool2d_output_shape(
    input_shape: Sequence[SupportsIndex],
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    *,
    layout: str = "NCHW",
) -> tuple[int, ...]:
    """The shape of a pooling's result; with ``ceil_mode`` the division by the stride rounds up.

    >>> pool2d_output_shape((1, 3, 32, 32), 3, 2)
    (1, 3, 15, 15)
    >>> pool2d_output_shape((1, 3, 32, 32), 3, 2, ceil_mode=True)
    (1, 3, 16, 16)
    """
    height, width = _pool2d_axes(input_shape, kernel_size, stride, padding, dilation, ceil_mode, layout)
    batch, channels, _, _ = _split(input_shape, layout)
    return _join(batch, channels, height.out, width.out, layout)


def _inside(axis: Axis, output: int) -> list[int]:
    return [position for position in axis.positions(output) if 0 <= position < axis.size]


def _largest(windows: Array) -> Int64Array:
    """Which element of the last axis wins: the last NaN, or else the first of the largest."""
    if not np.issubdtype(windows.dtype, np.floating):
        return np.asarray(np.argmax(windows, axis=-1), np.int64)
    is_nan = np.isnan(windows)
    last_nan = windows.shape[-1] - 1 - np.argmax(is_nan[..., ::-1], axis=-1)
    # -inf for NaN keeps argmax, which would take the first NaN, to the numbers.
    first_largest = np.argmax(np.where(is_nan, -np.inf, windows), axis=-1)
    winner: Int64Array = np.where(is_nan.any(axis=-1), last_nan, first_largest)
    return winner


@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
    *,
    layout: str = "NCHW",
) -> Array: ...
@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
    layout: str = "NCHW",
) -> tuple[Array, Int64Array]: ...
@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
) -> Array | tuple[Array, Int64Array]: ...
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
) -> Array | tuple[Array, Int64Array]:
    """The largest value of each window, exact in the input's dtype, as :func:`convpool.max_pool2d`.

    NaN wins over everything, and among several the last one's index is kept; of equal values the first. A
    window that lies in the padding altogether (a dilated kernel can) gives -inf, or the least integer, and
    index -1.

    >>> values, indices = max_pool2d([[[1.0, 5.0], [5.0, 2.0]]], 2, return_indices=True)
    >>> values.tolist(), indices.tolist()
    ([[[5.0]]], [[[1]]])
    """
    image = _to_nchw(input, layout)
    shape = np.shape(input)
    height, width = _pool2d_axes(shape, kernel_size, stride, padding, dilation, ceil_mode, layout)
    least = -np.inf if np.issubdtype(image.dtype, np.floating) else np.iinfo(image.dtype).min
    values = np.full((*image.shape[:2], height.out, width.out), least, dtype=image.dtype)
    indices = np.full(values.shape, -1, dtype=np.int64)
    for y in range(height.out):
        rows = _inside(height, y)
        for x in range(width.out):
            columns = _inside(width, x)
            if rows and columns:
                where = np.array([row * width.size + column for row in rows for column in columns])
                windows = image.reshape(*image.shape[:2], height.size * width.size)[:, :, where]
                winner = _largest(windows)
                values[:, :, y, x] = np.take_along_axis(windows, winner[..., np.newaxis], axis=-1)[..., 0]
                indices[:, :, y, x] = where[winner]
    values = _from_nchw(values, layout, len(shape) == 4)
    return (values, _from_nchw(indices, layout, len(shape) == 4)) if return_indices else values


def avg_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: IntPair = 1,
    layout: str = "NCHW",
) -> Float64Array:
    """The mean of each window in float64, as :func:`convpool.avg_pool2d`.

    The sum of the taps inside the image is divided by ``divisor_override``, if given; otherwise by the number
    of taps inside the image, to which ``count_include_pad`` adds those in the padding. What lies beyond the
    padding, where ``ceil_mode`` lets the last window reach, never counts. A window without a tap in the image
    gives 0.

    >>> avg_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 2, padding=1)
    array([[[0.25, 0.5 ],
            [0.75, 1.  ]]])
    >>> avg_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 2, padding=1, count_include_pad=False)
    array([[[1., 2.],
            [3., 4.]]])
    """
    image = _to_nchw(input, layout).astype(np.float64)
    shape = np.shape(input)
    height, width = _pool2d_axes(shape, kernel_size, stride, padding, dilation, ceil_mode, layout)
    if divisor_override == 0:
        raise ValueError("divisor_override must not be 0, got 0")
    result = np.zeros((*image.shape[:2], height.out, width.out))
    for y in range(height.out):
        rows = _inside(height, y)
        for x in range(width.out):
            columns = _inside(width, x)
            if divisor_override is not None:
                divisor = divisor_override
            elif count_include_pad:
                divisor = _count_padded(height, y) * _count_padded(width, x)
            else:
                divisor = len(rows) * len(columns)
            if rows and columns:
                with np.errstate(all="ignore"):
                    result[:, :, y, x] = image[:, :, rows][:, :, :, columns].sum(axis=(2, 3)) / divisor
    return _from_nchw(result, layout, len(shape) == 4)


def _count_padded(axis: Axis, output: int) -> int:
    return sum(-axis.before <= position < axis.size + axis.after for position in axis.positions(output))
