"""PyTorch, NCHW and channels-last."""

from __future__ import annotations

from typing import Any

from convpool.bench.cases import Case, Conv, Pool
from convpool.bench.contenders.base import Array, Contender, Run, UnsupportedError


class Torch(Contender):
    """``torch.nn.functional`` in inference mode on tensors that share the arrays' memory."""

    name = "torch"
    modules = ("torch",)
    distributions = ("torch",)
    how = "torch.nn.functional, inference mode"
    layouts = ("NCHW", "NHWC")
    dtypes = ("float32", "float64")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.inference_mode().__enter__()  # once for the process, so that no call pays for it

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """``conv2d``, which takes its weights anew in each call; channels-last weights for NHWC."""
        import torch
        from torch.nn.functional import conv2d, pad

        image = _tensor(case, input)
        filters = torch.from_numpy(weight)
        if case.layout == "NHWC":
            filters = filters.to(memory_format=torch.channels_last)
        offsets = None if bias is None else torch.from_numpy(bias)
        stride, dilation, groups = case.stride, case.dilation, case.groups
        if case.symmetric is not None:
            padding = case.symmetric
            return lambda: conv2d(image, filters, offsets, stride, padding, dilation, groups)
        (top, bottom), (left, right) = case.padding
        sides = (left, right, top, bottom)
        return lambda: conv2d(pad(image, sides), filters, offsets, stride, 0, dilation, groups)

    def pool2d(self, case: Pool, input: Array) -> Run:
        """``max_pool2d`` and ``avg_pool2d``; padding that differs by side is a call of its own."""
        from torch.nn.functional import avg_pool2d, max_pool2d, pad

        image = _tensor(case, input)
        kernel, stride, dilation, ceil = case.kernel, case.stride, case.dilation, case.ceil_mode
        padding = case.symmetric
        if padding is None and ceil:
            raise UnsupportedError("no ceil_mode with padding by side")
        (top, bottom), (left, right) = case.padding
        sides = (left, right, top, bottom)
        # Releases up to 2.13 allow half of the kernel, later ones half of what it covers.
        sizes = zip(case.kernel, dilation, padding or (0, 0), strict=True)
        if any(2 * p > d * (k - 1) + 1 or (2 * p > k and _release() <= (2, 13)) for k, d, p in sizes):
            raise UnsupportedError("padding is at most half of the kernel")
        if case.mode == "max":
            if padding is not None:
                return lambda: max_pool2d(image, kernel, stride, padding, dilation, ceil)
            lowest = -float("inf")
            return lambda: max_pool2d(pad(image, sides, value=lowest), kernel, stride, 0, dilation)
        if dilation != (1, 1):
            raise UnsupportedError("no dilation in average pooling")
        include = case.count_include_pad
        if padding is not None:
            return lambda: avg_pool2d(image, kernel, stride, padding, ceil, include)
        if not include:
            raise UnsupportedError("no padding by side that isn't counted")
        return lambda: avg_pool2d(pad(image, sides), kernel, stride)

    def to_numpy(self, result: Any) -> Array:
        """Channels-last tensors show themselves as NCHW; the caller has NHWC arrays."""
        array: Array = result.numpy()
        return array.transpose(0, 2, 3, 1) if self._nhwc else array

    _nhwc = False

    def laid_out(self, case: Case) -> Case:
        """Remembers the layout for the results."""
        case = super().laid_out(case)
        self._nhwc = case.layout == "NHWC"
        return case


class TorchChannelsLast(Torch):
    """The same on channels-last tensors: NHWC in memory, in and out."""

    name = "torch:nhwc"
    how = "torch.nn.functional, channels-last tensors in and out"
    own_layout = "NHWC"


def _release() -> tuple[int, ...]:
    import torch

    return tuple(int(number) for number in torch.__version__.split(".")[:2])


def _tensor(case: Case, input: Array) -> Any:
    import torch

    # An NHWC array seen as NCHW is what PyTorch calls channels-last.
    return torch.from_numpy(input if case.layout == "NCHW" else input.transpose(0, 3, 1, 2))
