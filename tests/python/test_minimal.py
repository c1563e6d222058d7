"""What every built wheel must do, in a few seconds and with nothing but NumPy and pytest."""

from __future__ import annotations

import numpy as np
import pytest

import convpool
from convpool import _core, nn, reference


@pytest.fixture(params=convpool.available_isas())
def any_isa(request: pytest.FixtureRequest):
    before = convpool.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_operators(any_isa: str, layout: str, dtype: type) -> None:
    assert convpool.isa() == any_isa
    generator = np.random.default_rng(1)
    tolerance = 1e-4 if dtype is np.float32 else 1e-12
    for groups, stride, padding in [(1, 1, 1), (4, 1, "same"), (1, 2, "full"), (2, (1, 2), ((0, 1), (2, 0)))]:
        input = generator.standard_normal((2, 4, 11, 19) if layout == "NCHW" else (2, 11, 19, 4)).astype(
            dtype
        )
        weight = generator.standard_normal((8, 4 // groups, 3, 3)).astype(dtype)
        bias = generator.standard_normal(8).astype(dtype)
        args = (stride, padding, 1, groups)
        expected = reference.conv2d(input, weight, bias, *args, layout=layout, activation="relu")
        for num_threads in (1, 2):
            got = convpool.conv2d(
                input, weight, bias, *args, layout=layout, activation="relu", num_threads=num_threads
            )
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        layer = nn.Conv2d.from_weights(weight, bias, *args, layout=layout, activation="relu")
        np.testing.assert_allclose(layer(input), expected, rtol=tolerance, atol=tolerance)
        values, indices = convpool.max_pool2d(input, 3, 2, 1, return_indices=True, layout=layout)
        expected_values, expected_indices = reference.max_pool2d(
            input, 3, 2, 1, return_indices=True, layout=layout
        )
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_allclose(
            convpool.avg_pool2d(input, 3, 2, 1, layout=layout),
            reference.avg_pool2d(input, 3, 2, 1, layout=layout),
            rtol=tolerance,
            atol=tolerance,
        )


def test_errors_are_python_exceptions() -> None:
    with pytest.raises(ValueError, match="stride"):
        convpool.conv2d(np.zeros((1, 5, 5)), np.zeros((1, 1, 3, 3)), stride=0)
    with pytest.raises(TypeError, match="float32"):
        convpool.conv2d(np.zeros((1, 5, 5), np.int32), np.zeros((1, 1, 3, 3), np.int32))


def test_the_package_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    convpool.show_config()
    printed = capsys.readouterr().out
    assert convpool.__version__ in printed
    assert convpool.isa() in printed
