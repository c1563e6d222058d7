from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import convpool
from convpool import reference
from convpool.bench import Case, Conv, Pool, parse_conv, parse_pool
from convpool.bench.check import Expectation, expect, make_inputs

CASES: list[Case] = [
    parse_conv("c8h14r3p1"),
    parse_conv("n2c6h9w11k4r3x2s2x1p1+0x0+2d1x2g2"),
    parse_conv("n3c4h7r3g4nobias"),
    parse_conv("c1h20r15p7"),
    parse_pool("max:n2c5h9r3s2p1"),
    parse_pool("max:c5h9r2s2p0+1d2"),
    parse_pool("avg:n2c5h9r3s2p1"),
    parse_pool("avg:c5h8w9r3s2p1nopadceil"),
    parse_pool("avg:c5h7r7"),
]


def right_answer(case: Case) -> np.ndarray:
    inputs = make_inputs(case)
    if isinstance(case, Conv):
        assert inputs.weight is not None
        return reference.conv2d(
            inputs.input, inputs.weight, inputs.bias, case.stride, case.padding, case.dilation, case.groups
        )
    if case.mode == "max":
        return reference.max_pool2d(
            inputs.input, case.kernel, case.stride, case.padding, case.dilation, case.ceil_mode
        )
    return reference.avg_pool2d(
        inputs.input, case.kernel, case.stride, case.padding, case.ceil_mode, case.count_include_pad
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.notation)
def test_expected_values_are_the_references(case: Case) -> None:
    expected = expect(case, make_inputs(case))
    right = right_answer(case)
    assert expected.shape == right.shape
    assert expected.points.shape[1] == right.shape[0] * right.shape[2] * right.shape[3]  # small: all of them
    n, y, x = expected.points
    np.testing.assert_allclose(expected.values, right[n, :, y, x], rtol=1e-12, atol=1e-12)
    assert expected.check(right.astype(np.float32)).right


def test_large_cases_are_checked_at_some_points() -> None:
    case = parse_conv("c64h40k16r3p1")
    expected = expect(
        dataclasses.replace(case, h=300, w=300), make_inputs(dataclasses.replace(case, h=300, w=300))
    )
    count = expected.points.shape[1]
    assert 32 <= count < 300 * 300
    points = {tuple(point) for point in expected.points.T.tolist()}
    assert {(0, 0, 0), (0, 0, 299), (0, 299, 0), (0, 299, 299)} <= points


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.notation)
def test_one_wrong_value_is_found(case: Case) -> None:
    expected = expect(case, make_inputs(case))
    result = right_answer(case).astype(np.float32)
    place = tuple(size // 2 for size in result.shape)
    for wrong in (result[place] + 0.01, np.nan, np.inf):
        broken = result.copy()
        broken[place] = wrong
        verdict = expected.check(broken)
        assert not verdict.right
        assert "1 of" in verdict.reason
        assert f"{place}" in verdict.reason


def test_wrong_shape_is_found() -> None:
    case = CASES[0]
    verdict = expect(case, make_inputs(case)).check(np.zeros((1, 8, 13, 13), np.float32))
    assert not verdict.right
    assert verdict.reason == "shape (1, 8, 13, 13), expected (1, 8, 14, 14)"


@pytest.mark.parametrize("text", ["c1h20r3p1", "c512h7r3p1", "c2048h5k64r3p1"])
@pytest.mark.parametrize("algorithm", ["naive", "im2col", "auto"])
def test_single_precision_is_right_and_half_is_not(text: str, algorithm: str) -> None:
    case = parse_conv(text)
    inputs = make_inputs(case)
    assert inputs.weight is not None
    expected = expect(case, inputs)
    options = {"padding": case.padding, "algorithm": algorithm}
    single = convpool.conv2d(inputs.input, inputs.weight, inputs.bias, **options)
    assert expected.check(single).right
    halves = [array.astype(np.float16).astype(np.float32) for array in (inputs.input, inputs.weight)]
    assert not expected.check(convpool.conv2d(*halves, inputs.bias, **options)).right


def test_double_precision_is_held_to_its_own_bound() -> None:
    case = dataclasses.replace(parse_conv("c8h14r3p1"), dtype="float64")
    inputs = make_inputs(case)
    assert inputs.weight is not None
    assert inputs.input.dtype == np.float64
    expected = expect(case, inputs)
    result = convpool.conv2d(inputs.input, inputs.weight, inputs.bias, padding=1)
    assert expected.check(result).right
    assert not expected.check(result.astype(np.float32).astype(np.float64)).right


def test_inputs_are_the_same_each_time() -> None:
    first, second = make_inputs(CASES[1]), make_inputs(CASES[1])
    assert first.weight is not None
    assert second.weight is not None
    np.testing.assert_array_equal(first.input, second.input)
    np.testing.assert_array_equal(first.weight, second.weight)
    assert make_inputs(parse_conv("c4h7r3nobias")).bias is None


def test_expectations_travel_through_files(tmp_path: Path) -> None:
    case = parse_pool("avg:c5h7r3")
    assert isinstance(case, Pool)
    expected = expect(case, make_inputs(case))
    expected.save(tmp_path / "e.npz")
    again = Expectation.load(tmp_path / "e.npz")
    assert again.shape == expected.shape
    assert again.tolerance == expected.tolerance
    np.testing.assert_array_equal(again.values, expected.values)
