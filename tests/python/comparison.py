"""How results are compared with the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convpool import reference

# What a rounding can do to a result below the normal numbers, where errors aren't relative any more.
TINY = {np.dtype(t): float(np.finfo(t).smallest_subnormal) for t in (np.float32, np.float64)}


def plain(array: Any) -> Any:
    """The same values in native order, contiguous: what the reference gets."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def assert_near(
    got: Any, expected: Any, magnitude: Any, terms: int, lipschitz: float = 1.0, extra: Any = 0.0
) -> None:
    """Holds a sum of products to the bound that is proven for it.

    With n products and unit roundoff u = eps / 2, a sum in any order, fused or not, is off by at most n * u *
    magnitude to first order, ``magnitude`` being the sum of the products' absolute values; the reference's
    own sum in float64 is off by as much again when the result is float64 too. Hence eps * n, and no room for
    anything that isn't rounding: the constant is 1. Two terms more are for the bias and a division.
    """
    assert got.shape == expected.shape, (got.shape, expected.shape)
    assert not np.isnan(magnitude).any(), "use assert_same_specials for inputs that aren't finite"
    eps = float(np.finfo(got.dtype).eps)
    bound = lipschitz * (eps * (terms + 2) * magnitude + TINY[got.dtype] * (terms + 2)) + extra * eps
    error = np.abs(got.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else ()
    assert (error <= bound).all(), (
        f"at {tuple(map(int, worst))}: got {got[worst]!r}, expected {expected[worst]!r}, "
        f"off by {error[worst]:.3g} where {bound[worst]:.3g} is allowed"
    )


def may_be_winograd(algorithm: str, weight: Any) -> bool:
    """Whether Winograd's algorithm was asked for, or can have been chosen."""
    return algorithm in ("auto", "winograd") and max(weight.shape[2:]) > 1


def as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def winograd_axis_parts(taps: int) -> int:
    """The most pieces that Winograd's algorithm cuts an axis of the kernel into."""
    return 1 if taps <= 4 else (taps + 1) // 2


def winograd_axis_factor(taps: int, stride: int) -> float:
    if taps == 1:
        return 1.0
    parts = winograd_axis_parts(taps) if stride == 1 else (taps + 1) // 2
    return (25.1 if taps <= 3 else 30.8) * parts


def winograd_magnitude(input: Any, weight: Any, layout: str, groups: int, stride: Any, dilation: Any) -> Any:
    """What stands for the sum of absolute products in Winograd's algorithm.

    A result sums products of transformed tiles and weights. Along one axis, with the points 0, +-sqrt(1/2),
    +-sqrt(2) and infinity, the sizes of the three transforms' rows multiply and add up to at most 25.1 with
    three taps (the last row of the output transform) and 30.8 with four; with 0, 1, -1/2, -2 and infinity to
    13 with two, and 1 more where a third is taken as it is. In two dimensions they multiply, and each part of
    the kernel adds as much, times the largest input and weight of each channel.
    """
    batched = np.abs(input.astype(np.float64)).reshape((-1, *input.shape[-3:]))
    channels = batched.max(axis=(2, 3) if layout == "NCHW" else (1, 2))
    kernels = np.abs(weight.astype(np.float64)).max(axis=(2, 3))
    per_group = channels.reshape(len(channels), groups, -1)
    sums = np.einsum("ngc,gkc->ngk", per_group, kernels.reshape(groups, -1, kernels.shape[1]))
    kernel, stride, dilation = weight.shape[2:], as_pair(stride), as_pair(dilation)
    # The transforms of two taps, along both axes: by taps and stride.
    of_two_taps = {(2, 1): 13.0, (3, 2): 14.0, (4, 2): 26.0}
    cases = {(k, s) if s == 1 or d == 1 else (0, 0) for k, s, d in zip(kernel, stride, dilation, strict=True)}
    if len(cases) == 1 and cases <= of_two_taps.keys():
        factor = of_two_taps[cases.pop()] ** 2
    else:
        factor = math.prod(map(winograd_axis_factor, kernel, stride))
    result = factor * sums.reshape(len(channels), -1)
    result = result[:, :, None, None] if layout == "NCHW" else result[:, None, None, :]
    return result if input.ndim == 4 else result[0]


def check_conv2d(
    got: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: str | None = None,
    algorithm: str = "auto",
    **options: Any,
) -> None:
    """Compares a convolution with the reference."""
    input, weight = plain(input), plain(weight)
    bias = None if bias is None else plain(bias)
    expected = reference.conv2d(input, weight, bias, activation=activation, **options)
    magnitude = reference.conv2d_magnitude(input, weight, bias, **options)
    assert got.dtype == input.dtype
    terms = int(np.prod(weight.shape[1:])) + (options.get("add") is not None)
    if may_be_winograd(algorithm, weight) and got.size:
        # The sum over the channels and parts, and up to 6 + 6 + 3 additions and products in each direction.
        terms += 30
        layout, groups = options.get("layout", "NCHW"), options.get("groups", 1)
        magnitude = magnitude + winograd_magnitude(
            input, weight, layout, groups, options.get("stride", 1), options.get("dilation", 1)
        )
    # hardswish is the steepest, with a slope of 1.5; each adds a few roundings of numbers up to 1 + |x|.
    slope, extra = (1.0, 0.0) if activation in (None, "relu", "relu6") else (1.5, 8 * (1 + magnitude))
    assert_near(got, expected, magnitude, terms, slope, extra)


def check_avg_pool2d(got: Any, input: Any, *args: Any, **options: Any) -> None:
    """Compares an average pooling with the reference."""
    input = plain(input)
    expected = reference.avg_pool2d(input, *args, **options)
    magnitude = reference.avg_pool2d(np.abs(input), *args, **options)
    assert got.dtype == input.dtype
    kernel = args[0] if isinstance(args[0], tuple) else (args[0], args[0])
    assert_near(got, expected, np.abs(magnitude), int(np.prod(kernel)))


def assert_same_bits(a: Any, b: Any) -> None:
    """Two results that must not differ at all, in signs of zeros and NaNs neither."""
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def assert_same_specials(got: Any, expected: Any) -> None:
    """NaN and infinities must stand where the reference has them, and nowhere else."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isposinf(got), np.isposinf(expected))
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(expected))
