"""The pooling functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, SupportsIndex, overload

from convpool import _arguments as args
from convpool import _core
from convpool._arguments import Array, ArrayLike, Int64Array, IntPair, Padding

__all__ = ["avg_pool2d", "max_pool2d", "pool2d_output_shape"]


def _stride(stride: IntPair | None, kernel: tuple[int, int]) -> tuple[int, int]:
    """PyTorch takes the kernel's size for a stride of None and for an empty one."""
    if stride is None or (isinstance(stride, (tuple, list)) and not stride):
        return kernel
    return args.pair(stride, "stride")


@overload
def max_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
    *,
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> Array: ...
@overload
def max_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
    return_indices: Literal[True],
    *,
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> tuple[Array, Int64Array]: ...
@overload
def max_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> tuple[Array, Int64Array]: ...
@overload
def max_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> Array | tuple[Array, Int64Array]: ...
def max_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> Array | tuple[Array, Int64Array]:
    """The largest value of each window of an image, or a batch of images.

    Names, order, defaults and results are those of ``torch.nn.functional.max_pool2d``; what follows the ``*``
    it doesn't have. NaN wins over everything. Padding counts as minus infinity, or as the least integer.

    Parameters
    ----------
    input
        The image (C, H, W) or images (N, C, H, W); with ``layout="NHWC"`` (H, W, C) or (N, H, W, C).
        float32, float64, int8, uint8, int16, int32 or int64, with any strides and byte order: a NumPy array,
        or an object with ``__array__`` or ``__dlpack__``.
    kernel_size
        The window's size in pixels: an int, or a pair (height, width).
    stride
        Step of the window in pixels: an int, or a pair (height, width); None: the kernel's size.
    padding
        What is added around the image in pixels: an int or (height, width), at most half of the effective
        kernel ``dilation * (kernel - 1) + 1`` (PyTorch's rule); ((top, bottom), (left, right)), each smaller
        than the effective kernel; or ``"valid"``, ``"same"``, ``"same_lower"``, ``"full"``, as for
        :func:`conv2d`.
    dilation
        Distance between the window's taps in pixels: an int, or a pair (height, width).
    ceil_mode
        Round the result's size up: a last window may reach beyond the padding, if it starts before the end of
        the image.
    return_indices
        Return also where each value was found.
    layout
        ``"NCHW"`` or ``"NHWC"``: the order of axes of input and result.
    out
        Where the values go: an array of the result's shape and the input's dtype that shares no memory with
        the input.
    num_threads
        How many threads may share the work; None: what ``get_num_threads`` says. The result is the same to
        the last bit.

    Returns
    -------
    numpy.ndarray, or (numpy.ndarray, numpy.ndarray)
        The values, a new C-contiguous array or ``out``; with ``return_indices`` also an int64 array of the
        same shape: ``row * W + column`` of each value in its plane, the lowest of equal ones. See
        :func:`pool2d_output_shape`.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or a dtype other than those.
    ValueError
        A value out of range, a window larger than the padded image, or an ``out`` that can't take the result.
    MemoryError
        The result can't be had.

    Examples
    --------
    >>> import numpy as np
    >>> import convpool
    >>> image = np.arange(16.0).reshape(1, 4, 4)
    >>> convpool.max_pool2d(image, 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    >>> values, indices = convpool.max_pool2d(image, 3, stride=2, padding=1, return_indices=True)
    >>> indices
    array([[[ 5,  7],
            [13, 15]]])
    """
    result = _core.plain_max_pool2d(
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
        layout,
        out,
        num_threads,
    )
    if result is not None:
        return result
    image = args.ordered_array(input, "input")
    if out is not None:
        args.check_output(out, image.dtype, image)
    kernel = args.pair(kernel_size, "kernel_size")
    sides, nested = args.pool_padding_sides(padding)
    return _core.max_pool2d(
        image,
        kernel,
        _stride(stride, kernel),
        sides,
        args.pair(dilation, "dilation"),
        args.switch(ceil_mode, "ceil_mode"),
        args.switch(return_indices, "return_indices"),
        args.layout_name(layout),
        out,
        args.thread_count(num_threads),
        nested,
    )


def avg_pool2d(
    input: ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: SupportsIndex | None = None,
    *,
    dilation: IntPair = 1,
    layout: str = "NCHW",
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> Array:
    """The mean of each window of an image, or a batch of images.

    Names, order, defaults and results are those of ``torch.nn.functional.avg_pool2d``; what follows the ``*``
    it doesn't have.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode, dilation, layout, out, num_threads
        As for :func:`max_pool2d` (whose order differs, as in PyTorch).
    count_include_pad
        Whether padding counts in the divisor. What lies beyond the padding, where ``ceil_mode`` lets the last
        window reach, never does.
    divisor_override
        What each sum is divided by, instead of the number of pixels in the window; not 0.

    Returns
    -------
    numpy.ndarray
        A new C-contiguous array, or ``out``. See :func:`pool2d_output_shape`.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or a dtype other than float32 and float64.
    ValueError
        A value out of range, a window larger than the padded image, or an ``out`` that can't take the result.
    MemoryError
        The result can't be had.

    Examples
    --------
    >>> import numpy as np
    >>> import convpool
    >>> image = np.arange(16.0).reshape(1, 4, 4)
    >>> convpool.avg_pool2d(image, 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    >>> convpool.avg_pool2d(np.ones((1, 2, 2)), 2, padding=1, count_include_pad=False)
    array([[[1., 1.],
            [1., 1.]]])
    """
    result = _core.plain_avg_pool2d(
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
        dilation,
        layout,
        out,
        num_threads,
    )
    if result is not None:
        return result
    image = args.array(input, "input")
    if out is not None:
        args.check_output(out, image.dtype, image)
    kernel = args.pair(kernel_size, "kernel_size")
    sides, nested = args.pool_padding_sides(padding)
    return _core.avg_pool2d(
        image,
        kernel,
        _stride(stride, kernel),
        sides,
        args.pair(dilation, "dilation"),
        args.switch(ceil_mode, "ceil_mode"),
        args.switch(count_include_pad, "count_include_pad"),
        args.optional_integer(divisor_override, "divisor_override"),
        args.layout_name(layout),
        out,
        args.thread_count(num_threads),
        nested,
    )


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
    """The shape of the result of ``max_pool2d`` or ``avg_pool2d``, without computing or allocating it.

    Along each axis it is ``floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1``, ``padding``
    counting both sides. With ``ceil_mode`` the division rounds up, and a last window that would start in the
    end padding is dropped. Arguments as :func:`max_pool2d`'s; ``input_shape`` has 3 or 4 sizes. Raises what
    the functions would: TypeError for an argument of the wrong kind, ValueError for sizes that don't fit
    together or that pass 64 bits.

    >>> import convpool
    >>> convpool.pool2d_output_shape((1, 64, 112, 112), 3, stride=2, padding=1)
    (1, 64, 56, 56)
    >>> convpool.pool2d_output_shape((6, 24, 24), 2)
    (6, 12, 12)
    """
    kernel = args.pair(kernel_size, "kernel_size")
    sides, nested = args.pool_padding_sides(padding)
    return _core.pool2d_output_shape(
        args.input_shape(input_shape),
        kernel,
        _stride(stride, kernel),
        sides,
        args.pair(dilation, "dilation"),
        args.switch(ceil_mode, "ceil_mode"),
        args.layout_name(layout),
        nested,
    )
