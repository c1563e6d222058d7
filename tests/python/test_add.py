"""An array added before the activation, as at the end of a residual block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convpool
from arrays import FORMS, OUT_FORMS, to_layout, values
from comparison import assert_same_bits, assert_same_specials, check_conv2d, plain
from convpool import nn, reference
from test_conv2d import ACTIVATIONS, GENERAL, LAYERS, SPECIAL, convolutions, run


@pytest.mark.usefixtures("isa")
@given(convolutions(), st.sampled_from(list(FORMS)))
def test_any_convolution_with_add_is_the_reference(case: dict[str, Any], form: str) -> None:
    options, activation = {**case["options"]}, case["activation"]
    input = to_layout(values(case["input"], case["dtype"], case["seed"], case["kind"]), options["layout"])
    weight = values(case["weight"], case["dtype"], case["seed"] + 1, case["kind"])
    bias = values(case["weight"][:1], case["dtype"], case["seed"] + 2) if case["bias"] else None
    try:
        shape = reference.conv2d_output_shape(input.shape, weight.shape, **options)
    except ValueError:
        return
    add = FORMS[form](values(shape, case["dtype"], case["seed"] + 3, case["kind"]))
    before = plain(add)
    calls = {"activation": activation, "num_threads": case["num_threads"], **options}
    got = run(case["algorithm"], input, weight, bias, add=add, **calls)
    if got is None:
        return
    expectation = {"activation": activation, "algorithm": case["algorithm"], "add": before, **options}
    check_conv2d(got, input, weight, bias, **expectation)
    np.testing.assert_array_equal(plain(add), before)
    # What is added is rounded in a step of its own: to the last bit what two steps give.
    if activation is None:
        separate = run(case["algorithm"], input, weight, bias, **calls)
        np.testing.assert_array_equal(got, separate + before)
    if case["prepared"]:
        layer = nn.Conv2d.from_weights(
            weight, bias, activation=activation, algorithm=case["algorithm"], **options
        )
        check_conv2d(layer(input, add=add), input, weight, bias, **expectation)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_networks_with_add(name: str, layout: str) -> None:
    in_shape, weight_shape, options = LAYERS[name]
    options = {**options, "layout": layout}
    input, weight = to_layout(values(in_shape), layout), values(weight_shape, seed=1)
    bias = values(weight_shape[:1], seed=2)
    for algorithm in ("auto", "direct", "implicit_gemm", "winograd", "depthwise"):
        plain_result = run(algorithm, input, weight, bias, **options)
        if plain_result is None:
            continue
        add = values(plain_result.shape, seed=3)
        for activation, after in (("relu6", lambda x: np.minimum(np.maximum(x, 0), 6)), (None, lambda x: x)):
            got = run(
                algorithm, input, weight, bias, add=add, activation=activation, num_threads=1, **options
            )
            np.testing.assert_array_equal(got, after(plain_result + add))
            for num_threads in (2, 3, 8):
                again = run(
                    algorithm,
                    input,
                    weight,
                    bias,
                    add=add,
                    activation=activation,
                    num_threads=num_threads,
                    **options,
                )
                assert_same_bits(got, again)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_form_of_add_and_out(layout: str, dtype: Any) -> None:
    """Also rows of the added array that don't follow one another, beside a result whose rows do."""
    # 3x3 gives 17 columns: the last of Winograd's tiles is short.
    input, bias = to_layout(values((2, 5, 9, 19), dtype), layout), values((19,), dtype, 2)
    for kernel in (1, 3):
        weight = values((19, 5, kernel, kernel), dtype, 1)
        for algorithm in GENERAL + SPECIAL:
            fresh = run(algorithm, input, weight, bias, layout=layout)
            if fresh is None:
                continue
            for form in FORMS:
                add = FORMS[form](values(fresh.shape, dtype, 3))
                for out_form in OUT_FORMS:
                    out = FORMS[out_form](np.full(fresh.shape, np.nan, dtype))
                    options = {"add": add, "layout": layout, "activation": "relu", "out": out}
                    assert run(algorithm, input, weight, bias, **options) is out
                    options = {"add": plain(add), "layout": layout, "activation": "relu"}
                    check_conv2d(out, input, weight, bias, algorithm=algorithm, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_specials_are_those_of_a_sum(layout: str, activation: str | None) -> None:
    """NaN and infinities on both sides, also where Winograd's algorithm has to look for them in its tiles."""
    for in_shape, weight_shape, groups in [
        ((2, 20, 13, 21), (18, 20, 3, 3), 1),
        ((1, 16, 10, 17), (16, 1, 3, 3), 16),
    ]:
        weight = values(weight_shape, seed=1)
        for special in (np.nan, np.inf, -np.inf):
            input = values(in_shape)
            input[0, 2, 5, 7] = special
            input = to_layout(input, layout)
            options = {"padding": 1, "groups": groups, "layout": layout}
            for algorithm in GENERAL + SPECIAL:
                sums = run(algorithm, input, weight, None, **options)
                if sums is None:
                    continue
                add = values(sums.shape, seed=3)
                flat = add.reshape(-1)
                flat[::7], flat[3::11], flat[5::13] = np.nan, np.inf, -np.inf
                got = run(algorithm, input, weight, None, add=add, activation=activation, **options)
                with np.errstate(invalid="ignore"):
                    expected = reference.activate(sums + add, activation)
                assert_same_specials(got, expected)
                finite = np.isfinite(expected)
                np.testing.assert_allclose(got[finite], expected[finite], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("isa")
def test_results_that_would_go_past_the_caches() -> None:
    """12 MB and more of results are streamed otherwise."""
    input, weight = values((1, 3, 300, 300)), values((40, 3, 1, 1), seed=1)
    for layout in ("NCHW", "NHWC"):
        image = to_layout(input, layout)
        sums = convpool.conv2d(image, weight, layout=layout, algorithm="direct")
        add = values(sums.shape, seed=3)
        got = convpool.conv2d(image, weight, layout=layout, algorithm="direct", add=add, activation="relu")
        np.testing.assert_array_equal(got, np.maximum(sums + add, 0))


def test_add_may_share_memory_with_the_input() -> None:
    input, weight = values((1, 4, 8, 9)), values((4, 4, 3, 3), seed=1)
    for layer in (nn.Conv2d.from_weights(weight, padding=1), nn.Conv2d(4, 4, 3, padding=1)):
        got = layer(input, add=input)
        check_conv2d(got, input, layer.weight, layer.bias, padding=1, add=input)


X, W = np.ones((1, 3, 8, 8), np.float32), np.ones((5, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("add", "error", "parts"),
    [
        (np.ones((1, 5, 6, 7), np.float32), ValueError, ["add", "(1, 5, 6, 7)", "(1, 5, 6, 6)"]),
        (np.ones((5, 6, 6), np.float32), ValueError, ["add", "(5, 6, 6)", "(1, 5, 6, 6)", "broadcast_to"]),
        (np.ones((1, 5, 6, 6)), TypeError, ["add float64", "float32", "astype"]),
        (np.ones((1, 5, 6, 6), np.int32), TypeError, ["add", "int32", "astype"]),
        (1.0, TypeError, ["add", "float"]),
    ],
)
def test_a_wrong_add_is_named(add: Any, error: type[Exception], parts: list[str]) -> None:
    layer = nn.Conv2d.from_weights(W)
    for call in (lambda: convpool.conv2d(X, W, add=add), lambda: layer(X, add=add)):
        with pytest.raises(error) as info:
            call()
        for part in parts:
            assert part in str(info.value)


def test_out_must_not_be_add() -> None:
    add = np.ones((1, 5, 6, 6), np.float32)
    layer = nn.Conv2d.from_weights(W)
    with pytest.raises(ValueError, match="out must not share memory with add; pass another array, or a copy"):
        convpool.conv2d(X, W, add=add, out=add)
    with pytest.raises(ValueError, match="out must not share memory with add"):
        layer(X, add=add[:, ::-1], out=add)
    assert (add == 1).all()


def test_the_reference_adds_before_the_activation() -> None:
    got = reference.conv2d([[[1.0, 2.0]]], [[[[3.0]]]], add=[[[-4.0, 1.0]]], activation="relu")
    np.testing.assert_array_equal(got, [[[0.0, 7.0]]])
    with pytest.raises(ValueError, match="add must have the result's shape"):
        reference.conv2d([[[1.0, 2.0]]], [[[[3.0]]]], add=[[1.0]])
