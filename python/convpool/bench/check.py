"""Correct results: the inputs of a case, and what a contender has to answer, in float64."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convpool.bench.cases import Case, Conv, Pool

Array = npt.NDArray[Any]

# How many numbers of input are gathered and how many products summed for one check: some tenths of a second.
_GATHERED, _PRODUCTS = 6_000_000, 200_000_000


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a case computes on: ``input`` (N, C, H, W), and for a convolution ``weight`` and ``bias``."""

    input: Array
    weight: Array | None = None
    bias: Array | None = None


def make_inputs(case: Case) -> Inputs:
    """Normal numbers, the same in every process."""
    generator = np.random.default_rng(20)

    def normal(shape: tuple[int, ...]) -> Array:
        return generator.standard_normal(shape, np.float32).astype(case.dtype, copy=False)

    image = normal(case.input_shape)
    if isinstance(case, Pool):
        return Inputs(image)
    return Inputs(image, normal(case.weight_shape), normal((case.k,)) if case.bias else None)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a result is right; if not, why. ``error`` is its largest error in units of eps * scale."""

    right: bool
    reason: str = ""
    error: float = 0.0


@dataclasses.dataclass(frozen=True)
class Expectation:
    """The right values at some pixels, all channels: corners, edges, and others at random.

    ``points`` is (3, P): image, row, column. ``values`` is (P, K), and ``scale`` the root of the sum of the
    squares of the terms of each, which rounding errors are proportional to when signs are random.
    """

    shape: tuple[int, ...]
    points: Array
    values: Array
    scale: Array
    tolerance: float

    def check(self, result: Array) -> Verdict:
        """Compares a result (N, K, OH, OW)."""
        if result.shape != self.shape:
            return Verdict(False, f"shape {result.shape}, expected {self.shape}")
        n, y, x = self.points
        got = result[n, :, y, x].astype(np.float64)
        error = np.abs(got - self.values)
        error[got == self.values] = 0  # infinities too
        # Transforms spread the errors of a pixel over its neighbours, so the mean counts where it is larger.
        scale = np.maximum(self.scale, self.scale.mean())
        wrong = ~(error <= self.tolerance * scale)
        relative = error / np.where(scale > 0, scale, 1)
        worst = float(np.nan_to_num(relative, nan=np.inf).max(initial=0)) / float(np.finfo(result.dtype).eps)
        if not wrong.any():
            return Verdict(True, error=worst)
        p, k = (int(i[0]) for i in np.nonzero(wrong))
        place = (int(n[p]), k, int(y[p]), int(x[p]))
        return Verdict(
            False,
            f"{np.count_nonzero(wrong)} of {wrong.size} checked values are wrong; at {place} "
            f"{got[p, k]:.7g} instead of {self.values[p, k]:.7g}",
            worst,
        )

    def save(self, path: Path) -> None:
        """Writes it to a file for the contenders' processes."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: Path) -> Expectation:
        """Reads what ``save`` wrote."""
        with np.load(path) as values:
            shape = tuple(int(size) for size in values["shape"])
            points, right, scale = values["points"], values["values"], values["scale"]
            return cls(shape, points, right, scale, float(values["tolerance"]))


def tolerance(case: Case) -> float:
    """How large an error may be in relation to the root of the sum of the squared terms.

    The partial sums of numbers with random signs are a random walk, so a rounding of each adds up to about
    the square root of the number of terms, in eps. The factors leave room for any order of summation, and for
    the transforms of Winograd (F(6,3) on a few terms is off by 200 eps) and Fourier. Inputs rounded to half
    precision are off by 9000 eps. Maxima must be exact.

    >>> from convpool.bench.cases import parse_conv, parse_pool
    >>> round(tolerance(parse_conv("c64h8r3")) / 2**-23)
    704
    >>> tolerance(parse_pool("max:c64h8r2"))
    0.0
    """
    if isinstance(case, Pool) and case.mode == "max":
        return 0.0
    return float(np.finfo(case.dtype).eps) * (512 + 8 * float(np.sqrt(case.terms)))


def expect(case: Case, inputs: Inputs) -> Expectation:
    """Computes the right values of a case in float64 at as many pixels as is quick."""
    shape = case.output_shape
    points = _points(case, shape)
    patches = _patches(case, inputs.input, points)
    if isinstance(case, Conv):
        assert inputs.weight is not None
        values = _products(case, patches, inputs.weight, inputs.bias)
        squared_bias = None if inputs.bias is None else inputs.bias.astype(np.float64) ** 2
        scale = np.sqrt(_products(case, patches**2, inputs.weight.astype(np.float64) ** 2, squared_bias))
    elif case.mode == "max":
        values = patches.max(axis=(1, 2))
        scale = np.abs(values)
    else:
        divisor = divisors(case)[points[1], points[2]][:, np.newaxis]
        values = patches.sum(axis=(1, 2)) / divisor
        scale = np.sqrt((patches**2).sum(axis=(1, 2))) / divisor
    return Expectation(shape, points, values, scale, tolerance(case))


def _points(case: Case, shape: tuple[int, ...]) -> Array:
    """Image, row and column of the pixels to check, (3, P)."""
    n, k, height, width = shape
    total = n * height * width
    patch = case.c * case.kernel[0] * case.kernel[1]
    products = patch * (k // case.groups if isinstance(case, Conv) else 1)
    count = min(total, 4096, max(32, min(_GATHERED // patch, _PRODUCTS // products)))
    if count == total:
        chosen = np.arange(total)
    else:
        corners = [
            np.ravel_multi_index((image, row, column), (n, height, width))
            for image in (0, n - 1)
            for row in (0, height - 1)
            for column in (0, width - 1)
        ]
        random = np.random.default_rng(7).integers(0, total, count - len(corners))
        chosen = np.unique(np.concatenate([corners, random]))
    return np.stack(np.unravel_index(chosen, (n, height, width)))


def _patches(case: Case, image: Array, points: Array) -> Array:
    """The window of each point in float64, (P, kH, kW, C); outside the image is zero, or -inf for maxima."""
    positions, inside = [], []
    for axis in (0, 1):
        taps = np.arange(case.kernel[axis]) * case.dilation[axis] - case.padding[axis][0]
        where = points[axis + 1][:, np.newaxis] * case.stride[axis] + taps
        size = (case.h, case.w)[axis]
        inside.append((where >= 0) & (where < size))
        positions.append(np.clip(where, 0, size - 1))
    rows, columns = positions[0][:, :, np.newaxis], positions[1][:, np.newaxis, :]
    patches = image[points[0][:, np.newaxis, np.newaxis], :, rows, columns].astype(np.float64)
    outside = ~(inside[0][:, :, np.newaxis] & inside[1][:, np.newaxis, :])
    patches[outside] = -np.inf if isinstance(case, Pool) and case.mode == "max" else 0
    return patches


def _products(case: Conv, patches: Array, weight: Array, bias: Array | None) -> Array:
    """(P, K): each patch with each filter of its group."""
    points, groups = len(patches), case.groups
    split = patches.reshape(points, case.kernel[0] * case.kernel[1], groups, case.c // groups)
    matrix = split.transpose(2, 0, 3, 1).reshape(groups, points, -1)
    filters = weight.astype(np.float64).reshape(groups, case.k // groups, -1)
    result = (matrix @ filters.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(points, case.k)
    return np.asarray(result if bias is None else result + bias)


def divisors(case: Pool) -> Array:
    """What each sum of an average pooling is divided by, (OH, OW).

    >>> from convpool.bench.cases import parse_pool
    >>> divisors(parse_pool("avg:c1h2r2p1s1nopad"))
    array([[1, 2, 1],
           [2, 4, 2],
           [1, 2, 1]])
    """
    counts = []
    for axis in (0, 1):
        size, (before, after) = (case.h, case.w)[axis], case.padding[axis]
        taps = np.arange(case.kernel[axis]) * case.dilation[axis] - before
        positions = np.arange(case.output_shape[2 + axis])[:, np.newaxis] * case.stride[axis] + taps
        first, last = (-before, size + after) if case.count_include_pad else (0, size)
        counts.append(((positions >= first) & (positions < last)).sum(axis=1))
    return np.asarray(np.multiply.outer(counts[0], counts[1]))
