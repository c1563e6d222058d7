"""Arguments of the usual kinds are taken without a closer look; all others get it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from comparison import assert_same_bits
from convpool import _core, reference


class Five:
    def __index__(self) -> int:
        return 5


USUAL: list[tuple[Any, ...]] = [
    (np.ones((1, 2, 9, 9), np.float32), 3, None, 1, 1, False),
    (np.ones((2, 9, 9)), (3, 2), (2, 1), (1, 0), (1, 1), True),
]
UNUSUAL: list[tuple[Any, ...]] = [
    (np.ones((1, 2, 9, 9), np.int32), 3, None, 1, 1, False),
    (np.ones((1, 2, 9, 9), ">f4"), 3, None, 1, 1, False),
    (np.ma.ones((1, 2, 9, 9)), 3, None, 1, 1, False),
    ([[[1.0]]], 1, None, 0, 1, False),
    (np.ones((1, 2, 9, 9)), np.int64(3), None, 1, 1, False),
    (np.ones((1, 2, 9, 9)), [3, 3], None, 1, 1, False),
    (np.ones((1, 2, 9, 9)), (3, Five()), None, 1, 1, False),
    (np.ones((1, 2, 9, 9)), True, None, 0, 1, False),
    (np.ones((1, 2, 9, 9)), 2**63, None, 0, 1, False),
    (np.ones((1, 2, 9, 9)), 3, (), 1, 1, False),
    (np.ones((1, 2, 9, 9)), 3, None, "same", 1, False),
    (np.ones((1, 2, 9, 9)), 3, None, ((1, 0), (0, 1)), 1, False),
    (np.ones((1, 2, 9, 9)), 3, None, 1, 1, np.True_),
]


@pytest.mark.parametrize("index", range(len(USUAL)))
def test_usual_arguments_are_taken_as_they_are(index: int) -> None:
    input, kernel, stride, padding, dilation, ceil = USUAL[index]
    got = _core.plain_max_pool2d(input, kernel, stride, padding, dilation, ceil, False, "NCHW", None, 1)
    assert_same_bits(got, reference.max_pool2d(input, kernel, stride, padding, dilation, ceil))
    mean = _core.plain_avg_pool2d(
        input, kernel, stride, padding, ceil, True, None, dilation, "NCHW", None, None
    )
    assert mean is not None
    looked_at = convpool.avg_pool2d(input, kernel, stride, padding, ceil, out=np.empty_like(mean))
    assert_same_bits(mean, looked_at)
    weight = np.ones((3, 2, 1, 2), input.dtype)
    for bias in (None, np.ones(3, input.dtype)):
        got = _core.plain_conv2d(
            input, weight, bias, 2, padding, dilation, 1, "zeros", "NCHW", None, "auto", None, None, 2
        )
        looked_at = convpool.conv2d(input, weight, bias, np.int64(2), padding, dilation)
        assert_same_bits(got, looked_at)


@pytest.mark.parametrize("index", range(len(UNUSUAL)))
def test_unusual_arguments_are_left_to_a_closer_look(index: int) -> None:
    input, kernel, stride, padding, dilation, ceil = UNUSUAL[index]
    assert (
        _core.plain_max_pool2d(input, kernel, stride, padding, dilation, ceil, False, "NCHW", None, None)
        is None
    )
    assert (
        _core.plain_avg_pool2d(input, kernel, stride, padding, ceil, True, None, dilation, "NCHW", None, None)
        is None
    )


X, W = np.ones((1, 2, 9, 9), np.float32), np.ones((3, 2, 3, 3), np.float32)
UNUSUAL_CONV: dict[str, dict[str, Any]] = {
    "a weight of another dtype": {"weight": np.ones((3, 2, 3, 3))},
    "a bias of another dtype": {"bias": np.ones(3)},
    "a list": {"bias": [0.0, 0.0, 0.0]},
    "an int of NumPy": {"groups": np.int64(1)},
    "a name": {"padding": "same"},
    "a mode": {"padding_mode": "reflect"},
    "a layout that isn't there": {"layout": "CHWN"},
    "an activation": {"activation": "relu"},
    "an algorithm": {"algorithm": "direct"},
    "a residual": {"add": np.ones((1, 3, 9, 9), np.float32)},
    "a place": {"out": np.ones((1, 3, 9, 9), np.float32)},
    "no thread": {"num_threads": 0},
    "too many threads": {"num_threads": 2**31},
}


@pytest.mark.parametrize("name", UNUSUAL_CONV)
def test_unusual_arguments_of_conv2d_are_left_to_a_closer_look(name: str) -> None:
    usual = {
        "input": X,
        "weight": W,
        "bias": None,
        "stride": 1,
        "padding": 1,
        "dilation": 1,
        "groups": 1,
        "padding_mode": "zeros",
        "layout": "NCHW",
        "activation": None,
        "algorithm": "auto",
        "add": None,
        "out": None,
        "num_threads": None,
    }
    assert _core.plain_conv2d(*usual.values()) is not None
    assert _core.plain_conv2d(*(usual | UNUSUAL_CONV[name]).values()) is None
