"""The same calls in PyTorch, over random arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convpool
from arrays import values
from convpool import nn

torch = pytest.importorskip("torch")
functional = torch.nn.functional
pytestmark = pytest.mark.torch

pairs = st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3))
small_paddings = st.integers(0, 3) | st.tuples(st.integers(0, 3), st.integers(0, 3))


def torch_result(call: Any) -> Any:
    """PyTorch's result as arrays, or None where it refuses."""
    try:
        result = call()
    except (RuntimeError, ValueError):
        return None
    return [t.detach().numpy() for t in result] if isinstance(result, tuple) else result.detach().numpy()


@given(
    st.sampled_from([(1, 4, 9, 11), (4, 9, 11), (2, 6, 5, 17), (3, 8, 8, 8), (0, 4, 5, 5)]),
    st.sampled_from([1, 1, 2, 4]),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.booleans(),
    pairs,
    small_paddings | st.sampled_from(["valid", "same"]),
    pairs,
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d(
    shape: Any, groups: int, kernel: Any, bias: bool, stride: Any, padding: Any, dilation: Any, mode: str
) -> None:
    channels = shape[-3]
    if channels % groups or (padding == "same" and stride not in (1, (1, 1))):
        return
    args = (channels, 2 * groups, kernel, stride, padding, dilation, groups, bias, mode)
    theirs = torch.nn.Conv2d(*args, dtype=torch.float64)
    ours = nn.Conv2d(*args, dtype="float64")
    assert repr(ours) == repr(theirs)[:-1] + ", dtype=float64)"
    ours.load_state_dict(theirs.state_dict())
    input = values(shape, np.float64)
    expected = torch_result(lambda: theirs(torch.from_numpy(input)))
    if expected is None:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            ours(input)
        return
    np.testing.assert_allclose(ours(input), expected, rtol=1e-10, atol=1e-10)
    if mode == "zeros":
        weight, offsets = theirs.weight.detach(), None if theirs.bias is None else theirs.bias.detach()
        got = convpool.conv2d(torch.from_numpy(input), weight, offsets, stride, padding, dilation, groups)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@given(
    st.sampled_from([(1, 2, 9, 11), (2, 9, 11), (2, 3, 5, 17), (0, 4, 5, 5), (2, 3, 3)]),
    pairs,
    st.none() | pairs,
    small_paddings,
    pairs,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 3, -2]),
)
def test_pooling(
    shape: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
    include: bool,
    divisor: int | None,
) -> None:
    input = values(shape, np.float32, kind="small")
    tensor = torch.from_numpy(input)
    expected = torch_result(
        lambda: functional.max_pool2d(tensor, kernel, stride, padding, dilation, ceil, return_indices=True)
    )
    try:
        got = convpool.max_pool2d(input, kernel, stride, padding, dilation, ceil, return_indices=True)
    except ValueError:
        assert expected is None
    else:
        if expected is None:  # its bound on padding doesn't count the dilation
            assert dilation not in (1, (1, 1))
        else:
            inside = got[1] >= 0  # a window in the padding altogether: its index is beyond the plane
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1][inside], expected[1][inside])
    args = (kernel, stride, padding, ceil, include, divisor)
    expected = torch_result(lambda: functional.avg_pool2d(tensor, *args))
    if expected is None:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.avg_pool2d(input, *args)
    else:
        np.testing.assert_allclose(convpool.avg_pool2d(input, *args), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["same", "same_lower", "full"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_named_and_nested_paddings(name: str, stride: int) -> None:
    """PyTorch has them by padding beforehand."""
    input, weight = values((2, 3, 10, 13)), values((4, 3, 4, 5), seed=1)
    dilation = 2
    sides: list[int] = []
    for size, kernel in ((13, 5), (10, 4)):  # the last axis first
        effective = dilation * (kernel - 1) + 1
        total = max(0, (-(-size // stride) - 1) * stride + effective - size)
        smaller, larger = total // 2, total - total // 2
        sides += {
            "same": [smaller, larger],
            "same_lower": [larger, smaller],
            "full": [effective - 1] * 2,
        }[name]
    padded = functional.pad(torch.from_numpy(input), sides)
    expected = functional.conv2d(padded, torch.from_numpy(weight), stride=stride, dilation=dilation).numpy()
    got = convpool.conv2d(input, weight, stride=stride, padding=name, dilation=dilation)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    left, right, top, bottom = sides
    nested = convpool.conv2d(
        input, weight, stride=stride, padding=((top, bottom), (left, right)), dilation=dilation
    )
    np.testing.assert_array_equal(nested, got)


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "hardswish", "silu"])
def test_activations(name: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 601), [np.nan, np.inf]]).astype(np.float32)
    expected = (torch.sigmoid if name == "sigmoid" else getattr(functional, name))(
        torch.from_numpy(x)
    ).numpy()
    got = convpool.conv2d(x.reshape(1, 1, -1), np.ones((1, 1, 1, 1), np.float32), activation=name)
    np.testing.assert_allclose(got[0, 0], expected, rtol=2e-6, atol=1e-6)


def test_max_pooling_of_special_values() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        input = generator.choice(
            [0.0, 1.0, -np.inf, np.inf, np.nan], (1, 2, 7, 9), p=[0.4, 0.3, 0.1, 0.1, 0.1]
        )
        expected = functional.max_pool2d(torch.from_numpy(input), 3, 2, 1, return_indices=True)
        got = convpool.max_pool2d(input, 3, 2, 1, return_indices=True)
        np.testing.assert_array_equal(got[0], expected[0].numpy())
        np.testing.assert_array_equal(got[1], expected[1].numpy())


LAYERS = [
    ("Conv2d", (1, 1, 11), {"stride": 4}),
    ("Conv2d", (4, 8, (3, 5)), {"padding": (1, 2), "dilation": (2, 1), "groups": 4, "bias": False}),
    ("Conv2d", (4, 8, 3), {"padding": "same", "padding_mode": "reflect"}),
    ("Conv2d", (4, 8, 3), {"padding": "valid"}),
    ("MaxPool2d", (2,), {}),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "dilation": 2, "ceil_mode": True}),
    ("MaxPool2d", ([3, 2],), {"stride": 1, "return_indices": True}),
    ("AvgPool2d", (2,), {}),
    ("AvgPool2d", ((3, 3),), {"stride": 2, "padding": 1, "count_include_pad": False}),
    ("ReLU", (), {}),
    ("ReLU", (), {"inplace": True}),
    ("Sigmoid", (), {}),
    ("Flatten", (), {}),
    ("Flatten", (0, 2), {}),
    ("Linear", (10, 4), {}),
    ("Linear", (10, 4), {"bias": False}),
]


def test_reprs() -> None:
    for name, args, options in LAYERS:
        assert repr(getattr(nn, name)(*args, **options)) == repr(getattr(torch.nn, name)(*args, **options))

    def network(layers: Any) -> Any:
        inner = layers.Sequential(
            layers.Conv2d(3, 4, 3), layers.Sequential(layers.ReLU()), layers.Sequential()
        )
        return layers.Sequential(inner, layers.Flatten(), layers.Linear(4, 2))

    assert repr(network(nn)) == repr(network(torch.nn))


def test_state_from_torch() -> None:
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 5),
    )
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = values((6, 3, 10, 10))
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_initial_values_have_the_same_bounds() -> None:
    nn.manual_seed(0)
    torch.manual_seed(0)
    # Of 2048 values uniform on +-b, the largest is below .98 b once in 10^18 draws.
    for ours, theirs in (
        (nn.Conv2d(8, 2048, 3, groups=2), torch.nn.Conv2d(8, 2048, 3, groups=2)),
        (nn.Linear(50, 2048), torch.nn.Linear(50, 2048)),
    ):
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other = other.detach().numpy()
            assert parameter.shape == other.shape
            assert parameter.dtype == other.dtype
            assert abs(parameter).max() == pytest.approx(abs(other).max(), rel=0.02)
            assert parameter.std() == pytest.approx(other.std(), rel=0.1)
