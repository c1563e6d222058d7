"""Sweeps: one case again and again with one of its numbers growing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from convpool.bench.cases import Case, Conv, Pair, Sides
from convpool.bench.results import Row

__all__ = ["PARAMETERS", "parse_sweep", "sweep"]


def _keeps_size(case: Case) -> bool:
    """Whether at stride 1 the result is as large as the input."""
    return all(
        sum(sides) == d * (k - 1)
        for sides, k, d in zip(case.padding, case.kernel, case.dilation, strict=True)
    )


def _fitting(case: Case, kernel: Pair, dilation: Pair) -> Case:
    """Another kernel or dilation; if the size was kept before, the padding grows along."""
    padding = case.padding
    if _keeps_size(case):
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
        padding = (sides[0], sides[1])
    return dataclasses.replace(case, kernel=kernel, dilation=dilation, padding=padding)


def _channels(case: Case, value: int) -> Case:
    if not isinstance(case, Conv):
        return dataclasses.replace(case, c=value)
    return dataclasses.replace(
        case,
        c=value,
        k=value if case.k == case.c else case.k,
        groups=value if case.groups == case.c and case.c > 1 else case.groups,
    )


def _padding(case: Case, value: int) -> Case:
    sides: Sides = ((value, value), (value, value))
    return dataclasses.replace(case, padding=sides)


def _convolution(case: Case, **changes: int) -> Case:
    if not isinstance(case, Conv):
        raise ValueError(f"a pooling has no {', '.join(changes)} to sweep")
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


#: What can be swept, and how a case gets a value of it.
PARAMETERS: dict[str, Callable[[Case, int], Case]] = {
    "kernel": lambda case, v: _fitting(case, (v, v), case.dilation),
    "stride": lambda case, v: dataclasses.replace(case, stride=(v, v)),
    "padding": _padding,
    "dilation": lambda case, v: _fitting(case, case.kernel, (v, v)),
    "channels": _channels,
    "out_channels": lambda case, v: _convolution(case, k=v),
    "groups": lambda case, v: _convolution(case, groups=v),
    "batch": lambda case, v: dataclasses.replace(case, n=v),
    "image": lambda case, v: dataclasses.replace(case, h=v, w=v),
    "threads": lambda case, v: case,
}


def parse_sweep(text: str) -> tuple[str, list[int]]:
    """A parameter and its values: ``1..15``, ``1..15..2``, doubling ``16..512*2``, or ``1,3,7``.

    Raises ValueError.

    >>> parse_sweep("kernel=1..15..2")
    ('kernel', [1, 3, 5, 7, 9, 11, 13, 15])
    >>> parse_sweep("channels=16..128*2")
    ('channels', [16, 32, 64, 128])
    """
    name, _, values = text.partition("=")
    if name not in PARAMETERS:
        raise ValueError(f"can't sweep {name!r}; there are {', '.join(PARAMETERS)}")
    found: list[int] = []
    for part in values.split(","):
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+)(?:\.\.(\d+)|\*(\d+))?)?", part.strip())
        if match is None:
            raise ValueError(f"{text!r}: values are 1..15, 1..15..2, 16..512*2 or 1,3,7, got {part!r}")
        first, last, step, factor = (None if group is None else int(group) for group in match.groups())
        assert first is not None
        if step == 0 or (factor is not None and (factor < 2 or first < 1)):
            raise ValueError(f"{text!r}: {part!r} doesn't grow")
        value = first
        while value <= (first if last is None else last):
            found.append(value)
            value = value * factor if factor else value + (step or 1)
    if not found:
        raise ValueError(f"{text!r} has no values")
    return name, found


def sweep(case: Case, parameter: str, values: list[int], threads: int = 1) -> list[Row]:
    """One row for each value. Raises ValueError for values that the case can't have.

    With ``kernel`` and ``dilation`` a padding that keeps the image's size goes on keeping it; ``channels``
    are input and output channels where those are as many, and groups of a depthwise convolution.
    """
    rows = []
    for value in values:
        label = f"{parameter} {value}"
        try:
            changed = dataclasses.replace(PARAMETERS[parameter](case, value), name=label)
            if min(changed.output_shape) < 1:
                raise ValueError("the result would be empty")
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from None
        rows.append(Row(changed, value if parameter == "threads" else threads, value=value))
    return rows
