"""algorithm="benchmark": a layer measures what is fastest."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import convpool
from arrays import to_layout, values
from comparison import assert_same_bits, check_conv2d
from convpool import nn
from test_conv2d import LAYERS


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_first_call_is_right_and_later_ones_have_its_bits(name: str, layout: str) -> None:
    in_shape, weight_shape, options = LAYERS[name]
    options = {**options, "layout": layout}
    input, weight = to_layout(values(in_shape), layout), values(weight_shape, seed=1)
    bias = values(weight_shape[:1], seed=2)
    layer = nn.Conv2d.from_weights(weight, bias, algorithm="benchmark", activation="relu", **options)
    before = layer.explain(input.shape, num_threads=2)
    assert before.timings == ()
    assert "until the first call has measured" in before.why
    first = layer(input, num_threads=2)
    # Winograd's may be what was taken.
    check_conv2d(first, input, weight, bias, activation="relu", **options)
    assert_same_bits(first, layer(input, num_threads=2))
    add = values(first.shape, seed=3)
    check_conv2d(
        layer(input, add=add, num_threads=2), input, weight, bias, activation="relu", add=add, **options
    )
    after = layer.explain(input.shape, num_threads=2)
    assert len({(algorithm, vectors) for algorithm, vectors, _ in after.timings}) == len(after.timings) >= 2
    assert "naive" not in after
    assert "im2col" not in [algorithm for algorithm, _, _ in after.timings]
    assert (after.algorithm, after.in_vectors) in [timing[:2] for timing in after.timings]
    best = min(seconds for _, _, seconds in after.timings)
    taken = [t[2] for t in after.timings if t[:2] == (after.algorithm, after.in_vectors)]
    assert taken[0] <= best * 1.04
    assert f"measured: {after.algorithm}" in after


def test_what_won_has_the_bits_of_that_algorithm() -> None:
    input, weight = values((1, 32, 28, 28)), values((32, 32, 3, 3), seed=1)
    layer = nn.Conv2d.from_weights(weight, padding=1, algorithm="benchmark")
    first = layer(input)
    taken = layer.explain(input.shape).algorithm
    named = [nn.Conv2d.from_weights(weight, padding=1, algorithm=taken)(input).tobytes()]
    if taken == "direct":  # either orientation may have won
        check_conv2d(first, input, weight, padding=1)
    else:
        assert first.tobytes() in named


def test_only_so_many_shapes_are_measured() -> None:
    weight = values((3, 2, 3, 3), seed=1)
    layer = nn.Conv2d.from_weights(weight, algorithm="benchmark")
    for width in range(8, 28):
        input = values((1, 2, 8, width))
        first = layer(input)
        check_conv2d(first, input, weight)
        assert_same_bits(first, layer(input))
        assert (layer.explain(input.shape).timings != ()) == (width < 8 + 16)
    assert "as many cases as it keeps" in layer.explain((1, 2, 8, 27)).why


def test_threads_may_make_the_first_call_at_once() -> None:
    weight = values((24, 16, 3, 3), seed=1)
    for attempt in range(4):
        layer = nn.Conv2d.from_weights(weight, padding=1, algorithm="benchmark")
        inputs = [values((1, 16, 20, 20 + i), seed=attempt) for i in range(3)] * 4
        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(lambda x, layer=layer: layer(x, num_threads=1), inputs))
        for input, result in zip(inputs, results, strict=True):
            check_conv2d(result, input, weight, padding=1)
            assert_same_bits(result, layer(input, num_threads=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_layers(dtype: Any) -> None:
    layer = nn.Conv2d(4, 6, 3, algorithm="benchmark", dtype=dtype)
    input = values((2, 4, 9, 9), dtype)
    check_conv2d(layer(input), input, layer.weight, layer.bias)
    layer.weight[:] = 1
    check_conv2d(layer(input), input, layer.weight, layer.bias)
    copy = pickle.loads(pickle.dumps(layer))
    check_conv2d(copy(input), input, layer.weight, layer.bias)
    assert layer(np.zeros((0, 4, 9, 9), dtype)).shape == (0, 6, 7, 7)
    special = values((2, 4, 9, 9), dtype)
    special[0, 1, 4, 4] = np.nan
    assert np.isnan(layer(special)).sum() == 6 * 9
    assert "algorithm=benchmark" in repr(layer)


def test_the_function_has_nowhere_to_keep_it() -> None:
    with pytest.raises(ValueError, match=r"prepared layer; use convpool\.nn\.Conv2d\.from_weights") as info:
        convpool.conv2d(values((1, 3, 8, 8)), values((2, 3, 3, 3)), algorithm="benchmark")
    assert 'algorithm="benchmark"' in str(info.value)
    assert "auto" in str(info.value)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("channels", "groups", "kernel"), [(64, 1, 1), (2, 2, 3), (3, 3, 3)])
def test_what_was_settled_for_dense_pixels_leaves_slices_alone(
    channels: int, groups: int, kernel: int
) -> None:
    out_channels = 2 if groups == 1 else channels
    weight = values((out_channels, channels // groups, kernel, kernel), seed=1)
    layer = nn.Conv2d.from_weights(weight, groups=groups, layout="NHWC", algorithm="benchmark")
    dense = values((1, 20, 20, channels))
    check_conv2d(layer(dense), dense, weight, groups=groups, layout="NHWC")
    sliced = np.concatenate([dense, dense], axis=-1)[..., :channels]
    every_other = values((1, 20, 40, channels))[:, :, ::2]
    for image in (dense, sliced, every_other):
        around = np.full((1, 21 - kernel, 21 - kernel, out_channels + 3), 7, np.float32)
        layer(image, out=around[..., :out_channels])
        check_conv2d(around[..., :out_channels], image, weight, groups=groups, layout="NHWC")
        assert (around[..., out_channels:] == 7).all()
