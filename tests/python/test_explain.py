from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from arrays import values
from convpool import nn
from test_conv2d import GENERAL, LAYERS, SPECIAL


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("algorithm", GENERAL + SPECIAL)
def test_the_values_of_an_explanation(algorithm: str, layout: str, isa: str) -> None:
    for in_shape, weight_shape, options in LAYERS.values():
        weight, bias = values(weight_shape), values(weight_shape[:1])
        layer = nn.Conv2d.from_weights(weight, bias, algorithm=algorithm, layout=layout, **options)
        shape = in_shape if layout == "NCHW" else (in_shape[0], *in_shape[2:], in_shape[1])
        try:
            got = layer.explain(shape, num_threads=2)
        except ValueError:  # one that can't do this case
            if algorithm not in SPECIAL:
                raise
            continue
        result = np.prod(got.output_shape)
        assert algorithm in ("auto", got.algorithm)
        assert got.startswith(f"algorithm: {got.algorithm}\nwhy: {got.why}\nisa: {isa} ({got.lanes} lanes)")
        assert got.flops == 2 * result * np.prod(weight_shape[1:])
        assert got.bytes == 4 * (np.prod(in_shape) + weight.size + bias.size + result)
        assert got.intensity == pytest.approx(got.flops / got.bytes)
        assert got.num_threads in (1, 2)
        assert got.balance == 4 * got.num_threads
        assert got.bound == ("memory" if got.intensity < got.balance else "compute")
        assert got.timings == ()
        assert (got.winograd_tile is not None) == (got.algorithm == "winograd")
        assert (got.tile is None) == (got.algorithm in ("naive", "depthwise"))
        if got.algorithm == "naive":
            assert got.block is None
            assert got.workspace_bytes == 0
        else:
            pixels, channels, terms = got.block
            assert pixels >= 1
            assert 1 <= channels <= weight_shape[0]
            assert 1 <= terms <= np.prod(weight_shape[1:])
        if got.tile:
            assert 1 <= got.tile[0] <= 14
            assert 1 <= got.tile[1] <= 4
        for name in ("flops", "bytes", "workspace", "packed weights"):
            assert f"\n{name}: " in got


def test_the_bound_goes_by_the_machine() -> None:
    layer = nn.Conv2d(16, 16, 3)
    intensity = layer.explain((1, 16, 30, 30)).intensity
    assert layer.explain((1, 16, 30, 30), flops_per_byte=intensity * 2).bound == "memory"
    assert layer.explain((1, 16, 30, 30), flops_per_byte=intensity / 2).bound == "compute"
    wrong: Any
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="flops_per_byte must be above 0"):
            layer.explain((1, 16, 30, 30), flops_per_byte=wrong)
    for wrong in ("4", True):
        with pytest.raises(TypeError, match="flops_per_byte must be a number"):
            layer.explain((1, 16, 30, 30), flops_per_byte=wrong)


def test_an_explanation_is_a_string_and_can_be_kept() -> None:
    got = nn.Conv2d(3, 8, 3).explain((3, 32, 32))
    assert isinstance(got, str)
    assert got.output_shape == (8, 30, 30)
    again = pickle.loads(pickle.dumps(got))
    assert again == got
    assert again.__dict__ == got.__dict__


def test_an_empty_batch_costs_nothing() -> None:
    got = nn.Conv2d(3, 8, 3).explain((0, 3, 32, 32))
    assert (got.flops, got.bytes, got.intensity, got.workspace_bytes) == (0, 0, 0, 0)


def test_counts_beyond_64_bits_stand_in_full() -> None:
    explanation = nn.Conv2d(1, 1, 11, bias=False).explain((2**28, 1, 2**15, 2**15))
    assert explanation.flops == pytest.approx(2 * 11**2 * 2**28 * (2**15 - 10) ** 2, rel=1e-12)
    assert f"flops: {explanation.flops}\n" in explanation


def test_a_balance_too_large_for_a_float_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="flops_per_byte"):
        nn.Conv2d(1, 1, 3).explain((1, 1, 8, 8), flops_per_byte=10**400)


def test_the_choice_for_images_of_any_size() -> None:
    """Estimates of images that no memory holds don't overflow."""
    layer = nn.Conv2d.from_weights(values((4, 4, 31, 31)), dilation=3)
    chosen = {layer.explain((1, 4, size, size)).algorithm for size in (2**12, 2**20, 2**28)}
    assert len(chosen) == 1
