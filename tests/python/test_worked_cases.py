"""The figures that convolution and pooling are taught with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from convpool import nn

IMAGE = [[1, 2, 3, 0, 1], [0, 1, 5, 1, 0], [1, 0, 2, 2, 1], [1, 1, 2, 0, 0], [1, 0, 1, 1, 1]]
ALGORITHMS = ("auto", "naive", "im2col", "implicit_gemm")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cross_on_a_small_image(dtype: Any, algorithm: str) -> None:
    weight = np.array([[[[1, 0, 1], [0, 1, 0], [1, 0, 1]]]], dtype)
    got = convpool.conv2d(np.array([[IMAGE]], dtype), weight, algorithm=algorithm)
    assert got.tolist() == [[[[8, 9, 8], [8, 5, 9], [6, 5, 5]]]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_window(algorithm: str) -> None:
    weight = np.array([[[[0, 0, 0], [0, 0.3, 0.5], [0, 0.8, 1]]]])
    got = convpool.conv2d(np.arange(1.0, 10).reshape(1, 1, 3, 3), weight, algorithm=algorithm)
    assert got.shape == (1, 1, 1, 1)
    assert got.item() == pytest.approx(19.9, rel=1e-15)


def test_the_kernel_is_not_flipped() -> None:
    image = np.zeros((1, 3, 3))
    image[0, 1, 1] = 1
    weight = np.arange(9.0).reshape(1, 1, 3, 3)
    assert convpool.conv2d(image, weight, padding=1)[0].tolist() == weight[0, 0, ::-1, ::-1].tolist()


# input (C, H, W), weight (K, C, kH, kW), arguments, output (K, H, W)
SIZES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], tuple[int, ...]]] = [
    ((3, 227, 227), (96, 3, 11, 11), {"stride": 4}, (96, 55, 55)),
    ((3, 64, 64), (8, 3, 7, 7), {"stride": 2}, (8, 29, 29)),
    ((3, 32, 32), (10, 3, 5, 5), {"padding": 2}, (10, 32, 32)),
    ((1, 32, 64), (6, 1, 5, 5), {}, (6, 28, 60)),
    ((1, 64, 32), (6, 1, 3, 3), {"padding": 1}, (6, 64, 32)),
    ((3, 7, 7), (2, 3, 3, 3), {"stride": 2, "padding": 1, "dilation": 2}, (2, 3, 3)),
    ((3, 7, 7), (2, 3, 3, 3), {"stride": 2, "padding": 1}, (2, 4, 4)),
    ((1, 7, 9), (1, 1, 5, 2), {"padding": ((0, 0), (0, 1))}, (1, 3, 9)),
    ((1, 9, 9), (1, 1, 3, 3), {"stride": (1, 3)}, (1, 7, 3)),
    # No padding, arbitrary, half ("same") and full; at stride 1, at strides, for odd and even sizes.
    ((1, 4, 4), (1, 1, 3, 3), {}, (1, 2, 2)),
    ((1, 5, 5), (1, 1, 4, 4), {"padding": 2}, (1, 6, 6)),
    ((1, 5, 5), (1, 1, 3, 3), {"padding": "same"}, (1, 5, 5)),
    ((1, 6, 6), (1, 1, 4, 4), {"padding": "same"}, (1, 6, 6)),
    ((1, 5, 5), (1, 1, 3, 3), {"padding": "full"}, (1, 7, 7)),
    ((1, 5, 6), (1, 1, 4, 2), {"padding": "full"}, (1, 8, 7)),
    ((1, 5, 5), (1, 1, 3, 3), {"stride": 2}, (1, 2, 2)),
    ((1, 5, 5), (1, 1, 3, 3), {"stride": 2, "padding": 1}, (1, 3, 3)),
    ((1, 6, 6), (1, 1, 3, 3), {"stride": 2, "padding": 1}, (1, 3, 3)),
    ((1, 6, 7), (1, 1, 3, 4), {"stride": 2, "padding": "same"}, (1, 3, 4)),
    ((1, 6, 7), (1, 1, 3, 4), {"stride": (2, 3), "padding": "full"}, (1, 4, 4)),
    ((1, 7, 7), (1, 1, 3, 3), {"dilation": 2}, (1, 3, 3)),
    ((1, 7, 7), (1, 1, 3, 3), {"dilation": 2, "padding": "full"}, (1, 11, 11)),
]


@pytest.mark.parametrize(("input", "weight", "options", "output"), SIZES)
def test_output_sizes(input: Any, weight: Any, options: Any, output: Any) -> None:
    assert convpool.conv2d_output_shape(input, weight, **options) == output
    assert convpool.conv2d_output_shape((4, *input), weight, **options) == (4, *output)
    got = convpool.conv2d(np.ones(input, np.float32), np.ones(weight, np.float32), **options)
    assert got.shape == output
    layer = nn.Conv2d(weight[1], weight[0], weight[2:], **options)
    assert layer(np.ones(input, np.float32)).shape == output


def test_a_batch_with_everything_uneven() -> None:
    layer = nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))
    assert layer(np.zeros((20, 16, 50, 100), np.float32)).shape == (20, 33, 26, 100)


def test_reprs() -> None:
    assert repr(nn.Conv2d(1, 1, 11, stride=4)) == "Conv2d(1, 1, kernel_size=(11, 11), stride=(4, 4))"
    assert (
        repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    )


def test_the_start_of_lenet() -> None:
    image = np.ones((1, 1, 28, 28), np.float32)
    features = nn.Conv2d(1, 5, 5)(image)
    assert features.shape == (1, 5, 24, 24)
    assert nn.MaxPool2d(2)(features).shape == (1, 5, 12, 12)
    assert nn.AvgPool2d(2)(features).shape == (1, 5, 12, 12)


SHAPES = {
    "weight": [(10, 3, 3, 3), (20, 10, 3, 3), (30, 20, 3, 3)],
    "bias": [(10,), (20,), (30,)],
}


def test_three_layers_in_a_row() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 20, 3), nn.ReLU(), nn.Conv2d(20, 30, 3), nn.ReLU()
    )
    for kind, shapes in SHAPES.items():
        assert [p.shape for name, p in net.named_parameters() if name.endswith(kind)] == shapes
    assert [name for name, _ in net.named_parameters()] == [f"{i}.{k}" for i in (0, 2, 4) for k in SHAPES]
    result = net(np.ones((32, 3, 28, 28), np.float32))
    assert result.shape == (32, 30, 22, 22)
    assert (result >= 0).all()


def test_three_layers_in_a_class() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 10, 3)
            self.conv2 = nn.Conv2d(10, 20, 3)
            self.conv3 = nn.Conv2d(20, 30, 3)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            for conv in (self.conv1, self.conv2, self.conv3):
                x = self.relu(conv(x))
            return x

    net = Net()
    for kind, shapes in SHAPES.items():
        assert [p.shape for name, p in net.named_parameters() if name.endswith(kind)] == shapes
    x = np.random.default_rng(0).standard_normal((32, 3, 28, 28)).astype(np.float32)
    result = net(x)
    assert result.shape == (32, 30, 22, 22)
    row = nn.Sequential(net.conv1, net.relu, net.conv2, net.relu, net.conv3, net.relu)
    np.testing.assert_array_equal(row(x), result)
    assert repr(net) == (
        "Net(\n"
        "  (conv1): Conv2d(3, 10, kernel_size=(3, 3), stride=(1, 1))\n"
        "  (conv2): Conv2d(10, 20, kernel_size=(3, 3), stride=(1, 1))\n"
        "  (conv3): Conv2d(20, 30, kernel_size=(3, 3), stride=(1, 1))\n"
        "  (relu): ReLU()\n"
        ")"
    )


def test_pooling_by_hand() -> None:
    image = np.array([IMAGE], np.float32)
    assert convpool.max_pool2d(image, 3, 1)[0].tolist() == [[5, 5, 5], [5, 5, 5], [2, 2, 2]]
    assert convpool.max_pool2d(image, 2)[0].tolist() == [[2, 5], [1, 2]]
    assert convpool.max_pool2d(image, 2, ceil_mode=True)[0].tolist() == [[2, 5, 1], [1, 2, 1], [1, 1, 1]]
    assert convpool.avg_pool2d(image, 2)[0].tolist() == [[1, 2.25], [0.75, 1.5]]
    values, indices = convpool.max_pool2d(image, 2, return_indices=True)
    assert indices[0].tolist() == [[1, 7], [10, 12]]
    assert image[0].reshape(-1)[indices[0]].tolist() == values[0].tolist()
