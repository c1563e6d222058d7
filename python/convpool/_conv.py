"""The convolution functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

from convpool import _arguments as args
from convpool import _core
from convpool._arguments import Array, ArrayLike, IntPair, Padding

__all__ = ["conv2d", "conv2d_output_shape"]


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    add: ArrayLike | None = None,
    out: Array | None = None,
    num_threads: SupportsIndex | None = None,
) -> Array:
    """2-D convolution of an image or a batch of images, as deep learning means it: the kernel isn't flipped.

    Names, order, defaults and results are those of ``torch.nn.functional.conv2d``; what follows the ``*`` it
    doesn't have. With stride s and dilation d, result pixel (y, x) of output channel k is::

        bias[k] + sum over c, i, j of padded_input[c, y * s + i * d, x * s + j * d] * weight[k, c, i, j]

    Parameters
    ----------
    input
        The image (C, H, W) or images (N, C, H, W); with ``layout="NHWC"`` (H, W, C) or (N, H, W, C). float32
        or float64, with any strides and byte order: a NumPy array, or an object with ``__array__`` or
        ``__dlpack__``.
    weight
        The filters, (K, C / groups, kH, kW) in either layout, of the input's dtype.
    bias
        What is added to each output channel: (K,), of the input's dtype, or None.
    stride
        Step of the window in pixels: an int, or a pair (height, width).
    padding
        What is added around the image in pixels: an int; (height, width); ((top, bottom), (left, right));
        ``"valid"``: nothing; ``"same"``: so much that ceil(size / stride) pixels come out, an odd pixel at
        the end, as TensorFlow's SAME at any stride and PyTorch's at stride 1; ``"same_lower"``: the odd pixel
        at the start, as ONNX's SAME_LOWER; ``"full"``: dilation * (k - 1) on each side, so that every tap
        meets every pixel.
    dilation
        Distance between the kernel's taps in pixels: an int, or a pair (height, width).
    groups
        Into how many independent groups the channels are split; as many as input channels make a depthwise
        convolution.
    padding_mode
        What the padding shows: ``"zeros"``; ``"reflect"``, ``"replicate"`` or ``"circular"``, as
        ``torch.nn.Conv2d``'s.
    layout
        ``"NCHW"`` or ``"NHWC"``: the order of axes of input and result.
    activation
        Applied to each result as it is written: None, ``"relu"``, ``"relu6"``, ``"sigmoid"``, ``"hardswish"``
        or ``"silu"``.
    algorithm
        ``"auto"``; or ``"naive"``, ``"im2col"``, ``"implicit_gemm"``, which do every case; or ``"direct"``,
        ``"winograd"``, ``"depthwise"``, which raise ValueError where they can't. No other one runs in its
        place. ``"benchmark"`` is for layers (:class:`convpool.nn.Conv2d`), which can keep what it measures.
    add
        An array of the result's shape and the input's dtype, with any strides, that is added before the
        activation: activation(conv + bias + add), as at the end of a residual block. None: nothing is. It is
        added while the result is in the cache, and so costs less than in a step of its own.
    out
        Where the result goes: an array of the result's shape and the input's dtype that shares no memory with
        the arguments, ``add`` included (sums stand there before ``add`` is read). It saves the time that
        fresh memory costs, which for large results is most of it.
    num_threads
        How many threads may share the work; None: what ``get_num_threads`` says. The result is the same to
        the last bit.

    Returns
    -------
    numpy.ndarray
        A new C-contiguous array (N, K, OH, OW), or in the axes the input has; or ``out``. See
        :func:`conv2d_output_shape`.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or a dtype other than float32 and float64, or several dtypes.
    ValueError
        A value out of range, shapes that don't fit together, or an ``out`` that can't take the result.
    MemoryError
        The result, or what an algorithm needs besides, can't be had.

    Examples
    --------
    >>> import numpy as np
    >>> import convpool
    >>> image = [[1, 2, 3, 0, 1], [0, 1, 5, 1, 0], [1, 0, 2, 2, 1], [1, 1, 2, 0, 0], [1, 0, 1, 1, 1]]
    >>> image = np.array([image], dtype=np.float64)
    >>> weight = np.array([[[[1, 0, 1], [0, 1, 0], [1, 0, 1]]]], dtype=float)
    >>> convpool.conv2d(image, weight)
    array([[[8., 9., 8.],
            [8., 5., 9.],
            [6., 5., 5.]]])
    >>> batch = np.ones((20, 16, 50, 100), dtype=np.float32)
    >>> filters = np.ones((33, 16, 3, 5), dtype=np.float32)
    >>> convpool.conv2d(batch, filters, stride=(2, 1), padding=(4, 2), dilation=(3, 1)).shape
    (20, 33, 26, 100)
    """
    result = _core.plain_conv2d(
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        activation,
        algorithm,
        add,
        out,
        num_threads,
    )
    if result is not None:
        return result
    image = args.array(input, "input")
    filters = args.array(weight, "weight")
    offsets = None if bias is None else args.array(bias, "bias")
    residual = None if add is None else args.array(add, "add")
    args.common_dtype(image, filters, offsets, residual)
    if out is not None:
        args.check_output(out, image.dtype, image, filters, offsets, residual)
    return _core.conv2d(
        image,
        filters,
        offsets,
        args.pair(stride, "stride"),
        args.padding_sides(padding),
        args.pair(dilation, "dilation"),
        args.integer(groups, "groups"),
        args.padding_mode_name(padding_mode),
        args.layout_name(layout),
        args.activation_name(activation),
        args.algorithm_name(algorithm),
        residual,
        out,
        args.thread_count(num_threads),
    )


def conv2d_output_shape(
    input_shape: Sequence[SupportsIndex],
    weight_shape: Sequence[SupportsIndex],
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
) -> tuple[int, ...]:
    """The shape of the result of ``conv2d`` on arrays of such shapes, without computing or allocating it.

    Along each axis it is ``floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1``, ``padding``
    counting both sides. Arguments as :func:`conv2d`'s; ``input_shape`` has 3 or 4 sizes, ``weight_shape`` 4.
    Raises what ``conv2d`` would: TypeError for an argument of the wrong kind, ValueError for sizes that don't
    fit together or that pass 64 bits.

    >>> import convpool
    >>> convpool.conv2d_output_shape((3, 227, 227), (96, 3, 11, 11), stride=4)
    (96, 55, 55)
    >>> convpool.conv2d_output_shape((1, 64, 64, 3), (8, 3, 3, 3), stride=2, padding="same", layout="NHWC")
    (1, 32, 32, 8)
    """
    return _core.conv2d_output_shape(
        args.input_shape(input_shape),
        args.shape(weight_shape, "weight_shape", "(K, C/groups, kH, kW)"),
        args.pair(stride, "stride"),
        args.padding_sides(padding),
        args.pair(dilation, "dilation"),
        args.integer(groups, "groups"),
        args.padding_mode_name(padding_mode),
        args.layout_name(layout),
    )
