from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import convpool
from convpool import reference

INT64_MAX = 2**63 - 1

# Mostly small, and now and then around the places where 32 and 64 bits end.
sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**61, 2**62, INT64_MAX]),
    st.integers(0, INT64_MAX),
)
steps = st.one_of(st.integers(1, 6), st.integers(-2, 40), st.sampled_from([2**31, 2**62, INT64_MAX]))
paddings = st.one_of(
    st.tuples(steps, steps),
    st.tuples(st.tuples(steps, steps), st.tuples(steps, steps)),
    st.sampled_from(["valid", "same", "same_lower", "full"]),
)


def outcome(function: Any, *args: Any, **options: Any) -> tuple[int, ...] | str:
    try:
        shape: tuple[int, ...] = function(*args, **options)
    except ValueError as error:
        return str(error)
    return shape


def same_outcome(got: tuple[int, ...] | str, expected: tuple[int, ...] | str) -> None:
    """The same shape, or both refused; of large sizes C++ may say that 64 bits don't hold them."""
    if isinstance(got, str):
        assert isinstance(expected, str) or any(word in got for word in ("64 bits", "2^63")), (got, expected)
    else:
        assert got == expected
        assert all(0 <= size <= INT64_MAX for size in got)


@given(
    st.tuples(st.integers(0, 4), st.sampled_from([1, 4, 6, 2**40]), sizes, sizes),
    st.tuples(st.sampled_from([0, 1, 4, 6]), st.sampled_from([1, 2, 4]), sizes, sizes),
    st.tuples(steps, steps),
    paddings,
    st.tuples(steps, steps),
    st.sampled_from([1, 1, 1, 2, 4, 0, -1]),
    st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]),
    st.booleans(),
)
@example((1, 1, INT64_MAX, 1), (1, 1, 1, 1), (1, 1), ((1, 0), (0, 0)), (1, 1), 1, "zeros", True)
@example((1, 1, 5, 5), (1, 1, 3, 3), (1, 1), "full", (2**62, 1), 1, "zeros", True)
@example((1, 1, 5, 5), (1, 1, 3, 3), (2**62, 1), "same", (1, 1), 1, "zeros", True)
def test_conv2d_output_shape(
    input: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, mode: str, batched: bool
) -> None:
    input = input if batched else input[1:]
    args = (weight, stride, padding, dilation, groups)
    same_outcome(
        outcome(convpool.conv2d_output_shape, input, *args, padding_mode=mode),
        outcome(reference.conv2d_output_shape, input, *args, padding_mode=mode),
    )
    channels_last = (*input[:-3], input[-2], input[-1], input[-3])
    same_outcome(
        outcome(convpool.conv2d_output_shape, channels_last, *args, padding_mode=mode, layout="NHWC"),
        outcome(reference.conv2d_output_shape, channels_last, *args, padding_mode=mode, layout="NHWC"),
    )


@given(
    st.tuples(st.integers(0, 4), st.sampled_from([0, 1, 4]), sizes, sizes),
    st.tuples(steps, steps),
    st.none() | st.tuples(steps, steps),
    paddings,
    st.tuples(steps, steps),
    st.booleans(),
    st.booleans(),
)
@example(
    (1, 1, 4, 4), (5, 5), (2, 2), (0, 0), (1, 1), True, True
)  # a window larger than the image, as PyTorch
@example((1, 1, 4, 4), (6, 6), (2, 2), (0, 0), (1, 1), True, True)
@example((1, 1, 7, 7), (1, 1), (INT64_MAX, 1), (0, 0), (1, 1), True, True)
def test_pool2d_output_shape(
    input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, batched: bool
) -> None:
    input = input if batched else input[1:]
    args = (input, kernel, stride, padding, dilation, ceil_mode)
    same_outcome(outcome(convpool.pool2d_output_shape, *args), outcome(reference.pool2d_output_shape, *args))


@pytest.mark.parametrize("size", range(1, 14))
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_same_keeps_the_size_over_the_stride(size: int, stride: int) -> None:
    for kernel in range(1, 7):
        for dilation in (1, 2, 3):
            for name in ("same", "same_lower"):
                shape = convpool.conv2d_output_shape(
                    (1, size, size + 1), (1, 1, kernel, kernel), stride, name, dilation
                )
                assert shape == (1, -(-size // stride), -(-(size + 1) // stride))


def test_shapes_come_as_any_sequence_of_integers() -> None:
    expected = (2, 8, 5, 6)
    for form in (tuple, list, np.array, lambda sizes: [np.int32(size) for size in sizes]):
        assert convpool.conv2d_output_shape(form((2, 3, 7, 8)), form((8, 3, 3, 3))) == expected
    result = convpool.conv2d_output_shape(np.zeros((2, 3, 7, 8)).shape, (8, 3, 3, 3))
    assert all(type(size) is int for size in result)
