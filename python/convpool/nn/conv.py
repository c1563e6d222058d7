"""The convolution layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeVar

import numpy as np

from convpool import _arguments as args
from convpool import _core
from convpool._arguments import Array, ArrayLike, IntPair, Padding
from convpool.nn.explanation import Explanation
from convpool.nn.initialization import fan_in_uniform
from convpool.nn.module import Module

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Conv2d"]

Self = TypeVar("Self", bound="Conv2d")

# How many bytes of a weight are looked at together: what stays in the first-level cache.
_BLOCK_BYTES = 16384


class _Prepared(NamedTuple):
    """Packed weights, and what they were packed from."""

    version: int
    plan: _core.Conv2dPlan
    weight: list[tuple[slice, bytes]]  # some output channels, and their content
    bias: bytes | None


def _padding(value: Padding) -> str | tuple[Any, Any]:
    """A padding as the attribute shows it: a name, (height, width), or ((top, bottom), (left, right))."""
    sides, nested = args.pool_padding_sides(value)
    return sides if nested or isinstance(sides, str) else (sides[0][0], sides[1][0])


# The attributes that make up the convolution, and how each is made uniform when it is assigned.
_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "stride": lambda value: args.pair(value, "stride"),
    "padding": _padding,
    "dilation": lambda value: args.pair(value, "dilation"),
    "groups": lambda value: args.integer(value, "groups"),
    "padding_mode": args.padding_mode_name,
    "layout": args.layout_name,
    "activation": lambda value: None if args.activation_name(value) == "none" else value,
    "algorithm": args.algorithm_name,
}


class Conv2d(Module):
    """A convolution with weights of its own, as ``torch.nn.Conv2d``.

    :func:`convpool.conv2d` says what it computes. The weights start uniform on +-1/sqrt(in_channels / groups
    * kH * kW), as PyTorch's; :func:`convpool.nn.manual_seed` or ``generator`` make them repeatable.

    The layer keeps its weights packed for the kernels. ``weight`` and ``bias`` are ordinary arrays that may
    change at any time, in place too, through any view; so each call compares them byte by byte with what was
    packed, and packs again if they differ. That reads the weights once more: next to nothing for images of
    more than some hundred pixels, but up to half of the time for a big layer on a tiny image. A layer made by
    :meth:`from_weights` doesn't need it.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and result.
    kernel_size
        Size in pixels: an int, or a pair (height, width).
    stride, padding, dilation, groups, padding_mode, layout, activation, algorithm
        As for :func:`convpool.conv2d`. They are attributes, and may be assigned too. ``algorithm`` may be
        ``"benchmark"``, too: the first call for a shape of input and a number of threads times auto's choice
        and the others that would do, and the layer goes on with the fastest. See the notes.
    bias
        Whether there is a bias; without, ``bias`` is None.
    dtype
        float32 or float64.
    generator
        A ``numpy.random.Generator`` to draw the weights from.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or another dtype.
    ValueError
        A value out of range, or groups that don't divide the channels.

    Notes
    -----
    With ``algorithm="benchmark"``, measuring takes four runs of each algorithm, or as many as fit into 40 ms,
    on the arrays of that call. Those measured are as exact as auto's choice: Winograd only where auto might
    take it, ``naive`` and ``im2col`` never. What won stays with the layer for that shape, and with it the
    bits of its results; another process may find another winner. A layer keeps 16 such choices, and takes
    auto's for shapes beyond them. Packed weights of what lost are released. Weights that change are packed
    anew, and measured anew.

    Examples
    --------
    >>> import numpy as np
    >>> from convpool import nn
    >>> layer = nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))
    >>> layer
    Conv2d(16, 33, kernel_size=(3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))
    >>> layer(np.zeros((20, 16, 50, 100), dtype=np.float32)).shape
    (20, 33, 26, 100)
    """

    weight: Array
    bias: Array | None
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | tuple[Any, Any]
    dilation: tuple[int, int]
    groups: int
    padding_mode: str
    layout: str
    activation: str | None
    algorithm: str

    _required = frozenset({"weight"})
    _version = 0  # counts assignments, so that what was prepared before one is known to be old
    _prepared: _Prepared | None = None
    _frozen = False

    def __init__(
        self,
        in_channels: SupportsIndex,
        out_channels: SupportsIndex,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: Padding = 0,
        dilation: IntPair = 1,
        groups: SupportsIndex = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: npt.DTypeLike = "float32",
        layout: str = "NCHW",
        activation: str | None = None,
        algorithm: str = "auto",
        generator: np.random.Generator | None = None,
    ) -> None:
        self.in_channels = args.integer(in_channels, "in_channels")
        self.out_channels = args.integer(out_channels, "out_channels")
        self.kernel_size = args.pair(kernel_size, "kernel_size")
        self._set_options(stride, padding, dilation, groups, padding_mode, layout, activation, algorithm)
        with_bias = args.switch(bias, "bias")
        numpy_dtype = args.float_dtype(dtype)
        self._check()
        group_channels = self.in_channels // self.groups
        fan_in = group_channels * self.kernel_size[0] * self.kernel_size[1]
        shape = (self.out_channels, group_channels, *self.kernel_size)
        self.register_parameter("weight", fan_in_uniform(shape, fan_in, numpy_dtype, generator))
        self.register_parameter(
            "bias",
            fan_in_uniform((self.out_channels,), fan_in, numpy_dtype, generator) if with_bias else None,
        )

    @classmethod
    def from_weights(
        cls: type[Self],
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        stride: IntPair = 1,
        padding: Padding = 0,
        dilation: IntPair = 1,
        groups: SupportsIndex = 1,
        padding_mode: str = "zeros",
        *,
        layout: str = "NCHW",
        activation: str | None = None,
        algorithm: str = "auto",
    ) -> Self:
        """The prepared form, for inference: weights packed once, and a plan kept for each shape of input.

        The layer has copies of ``weight``, (K, C / groups, kH, kW), and ``bias``, (K,), of the same dtype.
        They are read-only, so that nothing has to be compared in each call; assigning another array to
        ``layer.weight`` packs that.

        >>> import numpy as np
        >>> from convpool import nn
        >>> layer = nn.Conv2d.from_weights(np.ones((1, 1, 3, 3)), padding="same")
        >>> layer
        Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False, dtype=float64)
        >>> layer(np.ones((1, 3, 3)))
        array([[[4., 6., 4.],
                [6., 9., 6.],
                [4., 6., 4.]]])
        """
        weight = args.array(weight, "weight")
        bias = None if bias is None else args.array(bias, "bias")
        args.common_dtype(weight, weight, bias)
        if weight.ndim != 4:
            raise ValueError(f"weight must have 4 dimensions (K, C/groups, kH, kW), got shape {weight.shape}")
        self = cls.__new__(cls)
        self._set_options(stride, padding, dilation, groups, padding_mode, layout, activation, algorithm)
        self.in_channels = weight.shape[1] * self.groups
        self.out_channels = weight.shape[0]
        self.kernel_size = (weight.shape[2], weight.shape[3])
        self._frozen = True
        self.register_parameter("weight", weight)
        self.register_parameter("bias", bias)
        self._plan()
        return self

    def _set_options(self, *values: object) -> None:
        for name, value in zip(_OPTIONS, values, strict=True):
            setattr(self, name, value)

    def _check(self) -> None:
        """Refuses values that no input would suit, by the rules of the function."""
        for name in ("in_channels", "out_channels", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"groups must divide {name} = {getattr(self, name)}, got groups={self.groups}"
                )
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size must be at least 1 along both axes, got {self.kernel_size}")
        sizes = args.covered(self.kernel_size, self.dilation)
        _core.conv2d_output_shape(
            (1, self.in_channels, *sizes),
            (self.out_channels, self.in_channels // self.groups, *self.kernel_size),
            self.stride,
            args.padding_sides(self.padding),
            self.dilation,
            self.groups,
            "zeros",
            "NCHW",
        )

    def __setattr__(self, name: str, value: Any) -> None:
        normalize = _OPTIONS.get(name)
        super().__setattr__(name, value if normalize is None else normalize(value))
        if normalize is not None or name in self._parameter_names:
            self.__dict__["_version"] = self._version + 1

    def _adopt(self, name: str, value: ArrayLike | None) -> Array | None:
        value = super()._adopt(name, value)
        # Memory that belongs to a bytes object can't be made writeable again.
        return (
            np.ndarray(value.shape, value.dtype, value.tobytes())
            if self._frozen and value is not None
            else value
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_prepared", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._frozen:  # unpickled arrays are writeable
            self.weight, self.bias = self.weight, self.bias

    def _plan(self) -> _core.Conv2dPlan:
        """Packed weights that are those of this moment."""
        prepared = self._prepared
        if (
            prepared is None
            or prepared.version != self._version
            or not (self._frozen or self._unchanged(prepared))
        ):
            prepared = self._prepare()
            self.__dict__["_prepared"] = prepared
        return prepared.plan

    def _unchanged(self, prepared: _Prepared) -> bool:
        weight, bias = self.weight, self.bias
        for rows, content in prepared.weight:
            if weight[rows].tobytes() != content:
                return False
        return bias is None or bias.tobytes() == prepared.bias

    def _prepare(self) -> _Prepared:
        version = (
            self._version
        )  # read first: an assignment from another thread while this goes on must make it old
        weight, bias = self.weight, self.bias
        args.common_dtype(weight, weight, bias)
        # Both the packed form and what later calls compare with come from one copy, whoever writes meanwhile.
        content = weight.tobytes()
        bias_content = None if bias is None else bias.tobytes()
        plan = _core.Conv2dPlan(
            np.ndarray(weight.shape, weight.dtype, content),
            None if bias is None else np.ndarray(bias.shape, bias.dtype, bias_content),
            self.stride,
            args.padding_sides(self.padding),
            self.dilation,
            self.groups,
            self.padding_mode,
            self.layout,
            args.activation_name(self.activation),
            self.algorithm,
        )
        if self._frozen:
            return _Prepared(version, plan, [], None)
        row = max(1, weight.nbytes // len(weight))
        step = max(1, _BLOCK_BYTES // row)
        blocks = [
            (slice(i, i + step), content[i * row : (i + step) * row]) for i in range(0, len(weight), step)
        ]
        return _Prepared(version, plan, blocks, bias_content)

    def forward(
        self,
        input: ArrayLike,
        *,
        add: ArrayLike | None = None,
        out: Array | None = None,
        num_threads: SupportsIndex | None = None,
    ) -> Array:
        """The convolution of the input; arguments, result and errors as of :func:`convpool.conv2d`.

        >>> import numpy as np
        >>> from convpool import nn
        >>> layer = nn.Conv2d.from_weights(np.ones((1, 1, 1, 1)), activation="relu")
        >>> layer(np.array([[[1.0, 2.0]]]), add=np.array([[[-3.0, 4.0]]]))
        array([[[0., 6.]]])
        """
        plan = self._plan()
        if add is None and out is None:
            result = plan.plain(input, num_threads)
            if result is not None:
                return result
        image = args.array(input, "input")
        residual = None if add is None else args.array(add, "add")
        if image.dtype != self.weight.dtype or (residual is not None and residual.dtype != image.dtype):
            args.common_dtype(image, self.weight, self.bias, residual)
        if out is not None:
            args.check_output(out, image.dtype, image, self.weight, self.bias, residual)
        return plan(image, residual, out, args.thread_count(num_threads))

    def explain(
        self,
        input_shape: Sequence[SupportsIndex],
        *,
        num_threads: SupportsIndex | None = None,
        flops_per_byte: float | None = None,
    ) -> Explanation:
        """What runs for contiguous inputs of that shape, why, and what it costs: a text, and its values.

        ``flops_per_byte`` is the machine's arithmetic for each byte of memory traffic, by which the bound is
        expected; None stands for a typical core's, 4 in float32 and 2 in float64 for each thread (100 GFLOP/s
        and 25 GB/s, say). ``python -m convpool bench`` measures it.

        Raises ValueError for a shape that doesn't fit, and MemoryError where a call would.

        >>> from convpool import nn
        >>> explanation = nn.Conv2d(3, 8, 3).explain((1, 3, 32, 32))
        >>> explanation.output_shape, explanation.flops
        ((1, 8, 30, 30), 388800)
        >>> print(explanation.splitlines()[-1])
        result: (1, 8, 30, 30)
        """
        ratio = 0.0
        if flops_per_byte is not None:
            ratio = args.positive_number(flops_per_byte, "flops_per_byte")
        return Explanation._of(
            *self._plan().explain(args.input_shape(input_shape), args.thread_count(num_threads), ratio)
        )

    def extra_repr(self) -> str:
        """As PyTorch's, and then what PyTorch doesn't have."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}",
            "" if self.padding == (0, 0) else f"padding={self.padding}",
            "" if self.dilation == (1, 1) else f"dilation={self.dilation}",
            "" if self.groups == 1 else f"groups={self.groups}",
            "bias=False" if self.bias is None else "",
            "" if self.padding_mode == "zeros" else f"padding_mode={self.padding_mode}",
            "" if self.layout == "NCHW" else f"layout={self.layout}",
            "" if self.activation is None else f"activation={self.activation}",
            "" if self.algorithm == "auto" else f"algorithm={self.algorithm}",
            "" if self.weight.dtype == np.float32 else f"dtype={self.weight.dtype}",
        ]
        return ", ".join(part for part in parts if part)
