"""Sizes at the edge of what can be counted, and layers that once overran a scratch buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from arrays import values
from comparison import check_conv2d

f32 = np.float32


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("channels", [512, 2048])
def test_many_channels_in_place_beside_a_copied_piece(channels: int, num_threads: int) -> None:
    input, weight = values((1, channels, 16, 64)), values((6, channels, 1, 1), seed=1)
    for algorithm in ("auto", "direct"):
        got = convpool.conv2d(input, weight, algorithm=algorithm, num_threads=num_threads)
        check_conv2d(got, input, weight)


@pytest.mark.parametrize("algorithm", ["auto", "naive", "im2col", "implicit_gemm", "direct"])
def test_a_single_column_with_gaps(algorithm: str) -> None:
    input, weight = values((1, 3, 24, 1)), values((5, 3, 1, 1), seed=1)
    around = np.full((1, 5, 24, 5), 7, f32)
    convpool.conv2d(input, weight, algorithm=algorithm, out=around[..., ::5])
    check_conv2d(around[..., ::5], input, weight)
    assert (around[..., 1:] == 7).all()
    spread = np.full((1, 3, 24, 5), 7, f32)
    spread[..., ::5] = input
    check_conv2d(convpool.conv2d(spread[..., ::5], weight, algorithm=algorithm), input, weight)


FEW = np.arange(16, dtype=f32).reshape(1, 1, 4, 4)
EXTREMES: dict[str, Any] = {
    "max, dilation 2^62": lambda: convpool.max_pool2d(
        FEW, (1, 2), stride=1, padding=(0, 2**61), dilation=(1, 2**62)
    ),
    "avg, kernel 2^62": lambda: convpool.avg_pool2d(FEW, (1, 2**62), stride=1, padding=(0, 2**61)),
    "avg, kernel 2^61 high": lambda: convpool.avg_pool2d(FEW, (2**61, 1), stride=1, padding=(2**60, 0)),
    "max with indices, kernel 2^32": lambda: convpool.max_pool2d(
        np.ones((1, 4, 8, 4)), 2**32, stride=1, padding=2**31, return_indices=True, layout="NHWC"
    ),
    "max, stride and dilation 2^63": lambda: convpool.max_pool2d(
        FEW[:, :, :1, :],
        (1, 2),
        stride=(1, 2**63 - 2),
        dilation=(1, 2**63 - 3),
        padding=((0, 0), (2**63 - 5, 0)),
        ceil_mode=True,
    ),
    "max, channels-last, stride and dilation 2^63": lambda: convpool.max_pool2d(
        FEW.reshape(1, 1, 4, 4),
        (1, 2),
        stride=(1, 2**63 - 2),
        dilation=(1, 2**63 - 3),
        padding=((0, 0), (2**63 - 5, 0)),
        ceil_mode=True,
        layout="NHWC",
    ),
    "conv, stride 2^59": lambda: convpool.conv2d(
        np.ones((1, 32, 1, 4), f32),
        np.ones((16, 32, 1, 1), f32),
        stride=(1, 2**59),
        padding=((0, 0), (0, 2**59)),
        algorithm="direct",
    ),
    "conv, a view of 2^60 columns": lambda: convpool.conv2d(
        np.broadcast_to(f32(1), (1, 1, 1, 2**60)), np.ones((1, 1, 1, 1), f32), stride=(1, 2**59)
    ),
    "depthwise, padding 2^40": lambda: convpool.conv2d(
        FEW, np.ones((1, 1, 3, 3), f32), padding=2**40, stride=2**40, algorithm="depthwise"
    ),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_what_cannot_be_held_is_refused(name: str) -> None:
    with pytest.raises((MemoryError, ValueError), match=r"memory|bytes|64 bits"):
        EXTREMES[name]()
    assert convpool.max_pool2d(FEW, 2).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("algorithm", ["auto", "naive", "im2col", "implicit_gemm"])
@pytest.mark.parametrize("far", [2**20, 2**40, 2**60, 2**62 + 5])
def test_two_results_far_apart(algorithm: str, far: int) -> None:
    got = convpool.conv2d(
        np.ones((1, 1, 1, 4), f32),
        np.ones((1, 1, 1, 1), f32),
        stride=(1, far),
        padding=((0, 0), (far, 0)),
        algorithm=algorithm,
    )
    np.testing.assert_array_equal(got, [[[[0, 1]]]])


def test_taps_far_apart() -> None:
    far = 2**62 + 5
    got = convpool.max_pool2d(FEW, (2, 1), stride=1, dilation=(far, 1), padding=((far - 1, 0), (0, 0)))
    np.testing.assert_array_equal(got, FEW[:, :, 1:])
