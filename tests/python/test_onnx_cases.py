"""ONNX's published cases for Conv, MaxPool, AveragePool, GlobalAveragePool, with their expected results."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import convpool

onnx = pytest.importorskip("onnx")
node_cases = pytest.importorskip("onnx.backend.test.case.node")

OPERATORS = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool")

# What 2-D operators on float32 and float64 don't have, by ONNX's name for the case.
NOT_EXPRESSIBLE = {
    "test_averagepool_3d_default": "three spatial axes",
    "test_averagepool_3d_dilations_small": "three spatial axes",
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True": "three spatial axes",
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False": "three spatial axes",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": "three spatial axes",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False": "three spatial axes",
    "test_maxpool_3d_default": "three spatial axes",
    "test_maxpool_3d_dilations": "three spatial axes",
    "test_maxpool_3d_dilations_use_ref_impl": "three spatial axes",
    "test_maxpool_3d_dilations_use_ref_impl_large": "three spatial axes",
    "test_maxpool_2d_uint8": "uint8 input",
}

# Expected results that are published with four digits.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 5e-4}


def collect() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators of other operators' cases divide by zero
        cases = node_cases.collect_testcases(None)
    found = {}
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS:
            found[case.name] = case
    return [found[name] for name in sorted(found)]


CASES = collect()


def spatial(values: Any, default: int, axes: int) -> tuple[int, int]:
    """An attribute for each spatial axis; one axis alone becomes the width of an image of height 1."""
    values = list(values) if values is not None else [default] * axes
    return (1 if axes == 1 else values[0], values[-1])


def padding(attributes: dict[str, Any], axes: int) -> Any:
    name = attributes.get("auto_pad", b"NOTSET").decode()
    if name != "NOTSET":
        return {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}[name]
    pads = list(attributes.get("pads", [0] * 2 * axes))
    if axes == 1:
        return ((0, 0), tuple(pads))
    return ((pads[0], pads[2]), (pads[1], pads[3]))


def run(node: Any, inputs: list[Any]) -> list[Any]:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x, axes = inputs[0], inputs[0].ndim - 2
    if axes == 1:
        x = x[:, :, np.newaxis]
    if node.op_type == "GlobalAveragePool":
        return [convpool.avg_pool2d(x, x.shape[2:])]
    strides = spatial(attributes.get("strides"), 1, axes)
    dilations = spatial(attributes.get("dilations"), 1, axes)
    if node.op_type == "Conv":
        results = [
            convpool.conv2d(
                x,
                *inputs[1:],
                stride=strides,
                padding=padding(attributes, axes),
                dilation=dilations,
                groups=attributes.get("group", 1),
            )
        ]
    else:
        kernel, ceil = spatial(attributes["kernel_shape"], 1, axes), bool(attributes.get("ceil_mode", 0))
        pads = padding(attributes, axes)
        if node.op_type == "AveragePool":
            include = bool(attributes.get("count_include_pad", 0))
            results = [convpool.avg_pool2d(x, kernel, strides, pads, ceil, include, dilation=dilations)]
        else:
            values, indices = convpool.max_pool2d(
                x, kernel, strides, pads, dilations, ceil, return_indices=True
            )
            height, width = x.shape[2:]
            if attributes.get("storage_order", 0):
                indices = indices % width * height + indices // width  # columns first
            # ONNX counts through the whole array, not through each plane.
            planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1)
            results = [values, indices + planes * height * width]
    return [result[:, :, 0] for result in results] if axes == 1 else results


def test_the_list_of_exceptions_is_exact() -> None:
    assert len(CASES) >= 40
    assert set(NOT_EXPRESSIBLE) <= {case.name for case in CASES}
    for case in CASES:
        for inputs, _ in case.data_sets:
            expressible = inputs[0].ndim in (3, 4) and inputs[0].dtype in (np.float32, np.float64)
            assert expressible == (case.name not in NOT_EXPRESSIBLE), case.name


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name not in NOT_EXPRESSIBLE], ids=lambda case: case.name
)
def test_case(case: Any) -> None:
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        for dtype in (np.float32, np.float64):
            got = run(case.model.graph.node[0], [array.astype(dtype) for array in inputs])
            for result, expected in zip(got, outputs, strict=False):  # MaxPool's indices are optional
                assert result.shape == expected.shape
                np.testing.assert_allclose(result, expected, rtol=ROUNDED.get(case.name, 1e-6), atol=1e-6)
