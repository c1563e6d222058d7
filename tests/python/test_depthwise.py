"""The depthwise algorithm: planes, runs of pixels, blocks and channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from arrays import to_layout, values
from comparison import assert_same_bits, assert_same_specials, check_conv2d
from convpool import nn, reference


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("columns", "outputs", "stride"), [(112, 1, 1), (107, 1, 1), (112, 2, 1), (112, 4, 2), (112, 1, 2)]
)
def test_depthwise_results_too_large_for_the_caches_have_the_same_bits(
    layout: str, columns: int, outputs: int, stride: int
) -> None:
    """From 12 MB on they are stored past the caches, in whole cache lines."""
    groups = 32 // outputs
    batch = to_layout(values((9, groups, 112 * stride, columns * stride)), layout)
    weight = values((32, 1, 3, 3), seed=1)
    options: dict[str, Any] = {"groups": groups, "layout": layout, "activation": "relu"}
    layer = nn.Conv2d.from_weights(weight, None, stride, 1, **options)
    together = layer(batch)
    assert together.nbytes > 12 << 20
    for i in range(len(batch)):
        assert_same_bits(together[i], layer(batch[i]))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("stride", [1, 2])
def test_channels_last_depthwise_that_is_too_large_with_its_input_has_the_same_bits(stride: int) -> None:
    batch, weight = to_layout(values((4, 64, 112, 107)), "NHWC"), values((64, 1, 3, 3), seed=1)
    layer = nn.Conv2d.from_weights(weight, None, stride, 1, groups=64, layout="NHWC")
    together = layer(batch)
    assert together.nbytes + batch.nbytes > 12 << 20
    check_conv2d(together[:1], batch[:1], weight, None, stride=stride, padding=1, groups=64, layout="NHWC")
    for i in range(len(batch)):
        assert_same_bits(together[i], layer(batch[i]))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_depthwise_of_planes_without_gaps(kernel: int, dtype: Any) -> None:
    """Vectors then reach over the ends of rows, whose pixels must not reach each other's results."""
    sizes = [
        (1, 1),
        (1, 5),
        (4, 4),
        (2, 7),
        (7, 7),
        (5, 16),
        (4, 33),
        (9, 23),
        (3, 40),
        (6, 65),
        (2, 256),
        (2, 257),
    ]
    for height, width in sizes:
        for dilation in [1, 2, 6, 16, 17] if kernel == 3 else [1, 2]:
            side = (kernel - 1) * dilation // 2
            for rows in [(side, side), (0, 0), (side + 5, 2 * side), (40, 0)]:
                if height + sum(rows) <= 2 * side:
                    continue
                input, weight = (
                    values((1, 5, height, width), dtype),
                    values((10, 1, kernel, kernel), dtype, 1),
                )
                bias = values((10,), dtype, 2)
                options = {"padding": (rows, (side, side)), "dilation": dilation, "groups": 5}
                got = convpool.conv2d(input, weight, bias, algorithm="depthwise", **options)
                check_conv2d(got, input, weight, bias, algorithm="depthwise", **options)
                input[0, 2, 0, -1], input[0, 3, -1, 0] = np.nan, np.inf
                got = convpool.conv2d(input, weight, bias, algorithm="depthwise", **options)
                expected = reference.conv2d(input, weight, bias, **options)
                assert_same_specials(got, expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 7])
def test_depthwise_of_planes_without_gaps_that_become_narrower(kernel: int, dtype: Any) -> None:
    """Vectors hold columns that no result stands in; what is kept of them follows what came before."""
    for height, width in [
        (3, 4),
        (8, 8),
        (7, 9),
        (9, 15),
        (5, 17),
        (6, 23),
        (11, 33),
        (2, 41),
        (4, 70),
        (3, 150),
    ]:
        for dilation in [1, 2, 5] if kernel == 3 else [1]:
            before = (kernel - 1) // 2 * dilation
            for columns in [
                (0, 0),
                (before, 0),
                (0, before),
                (before, kernel - 1 - before),
                (before // 2, 1),
            ]:
                for rows in [(0, 0), (before, 0), (1, 2 * before + 1)]:
                    reach = (kernel - 1) * dilation
                    if height + sum(rows) <= reach or width + sum(columns) <= reach or min(columns) < 0:
                        continue
                    input, weight = (
                        values((2, 3, height, width), dtype),
                        values((6, 1, kernel, kernel), dtype, 1),
                    )
                    bias = values((6,), dtype, 2)
                    options = {"padding": (rows, columns), "dilation": dilation, "groups": 3}
                    expected = reference.conv2d(input, weight, bias, **options)
                    around = np.full(expected.size + 64, 7, dtype)
                    out = around[32:-32].reshape(expected.shape)
                    convpool.conv2d(input, weight, bias, algorithm="depthwise", out=out, **options)
                    check_conv2d(out, input, weight, bias, algorithm="depthwise", **options)
                    np.testing.assert_array_equal(np.concatenate([around[:32], around[-32:]]), 7)
                    input[0, 1, 0, -1], input[1, 2, -1, 0] = np.nan, np.inf
                    got = convpool.conv2d(input, weight, bias, algorithm="depthwise", **options)
                    assert_same_specials(got, reference.conv2d(input, weight, bias, **options))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 7])
def test_rows_that_become_narrower_have_the_same_bits_on_any_threads(kernel: int, columns: int) -> None:
    """Planes of two groups are cut into pieces of rows."""
    input, weight = values((2, 2, 61, 9)), values((4, 1, kernel, kernel), seed=1)
    add = values((2, 4, 62 - kernel, 10 - kernel + columns), seed=2)
    options: dict[str, Any] = {"padding": ((0, 0), (0, columns)), "groups": 2, "activation": "relu"}
    alone, shared = (
        convpool.conv2d(input, weight, add=add, algorithm="depthwise", num_threads=threads, **options)
        for threads in (1, 4)
    )
    assert_same_bits(alone, shared)
    assert_same_bits(
        alone[1], convpool.conv2d(input[1], weight, add=add[1], algorithm="depthwise", **options)
    )
    check_conv2d(alone, input, weight, None, add=add, algorithm="depthwise", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_of_rows_that_crowd_the_caches(multiplier: int, dtype: Any) -> None:
    """Rows a multiple of 2 KB apart are copied first, and so are the results on their way back."""
    for kernel, options in [
        ((3, 3), {}),
        ((9, 9), {"padding": 4}),
        ((1, 15), {"padding": (0, 7)}),
        ((15, 1), {"padding": (7, 0), "activation": "silu"}),
        ((3, 3), {"padding": 1, "stride": 2}),
        ((3, 2), {"padding": "same", "dilation": (4, 1)}),
    ]:
        for height in (9, 35):
            input = values((2, 3, height, 512), dtype)
            weight, bias = values((3 * multiplier, 1, *kernel), dtype, 1), values((3 * multiplier,), dtype, 2)
            case: dict[str, Any] = {"groups": 3, **options}
            activation = case.pop("activation", None)
            add = values(convpool.conv2d_output_shape(input.shape, weight.shape, **case), dtype, 3)
            got = convpool.conv2d(input, weight, bias, algorithm="depthwise", activation=activation, **case)
            check_conv2d(got, input, weight, bias, algorithm="depthwise", activation=activation, **case)
            sums = convpool.conv2d(input, weight, bias, add=add, algorithm="depthwise", num_threads=2, **case)
            again = convpool.conv2d(
                input, weight, bias, add=add, algorithm="depthwise", num_threads=1, **case
            )
            assert_same_bits(sums, again)
            plain_sums = convpool.conv2d(input, weight, bias, algorithm="depthwise", **case)
            np.testing.assert_allclose(sums, plain_sums + add, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((3, 3), {"padding": 1}),
        ((3, 3), {"padding": 1, "stride": 2}),
        ((3, 3), {"padding": 2, "dilation": 2}),
        ((5, 3), {"padding": (40, 0)}),
    ],
)
def test_depthwise_of_pixels_that_crowd_the_caches(kernel: Any, options: dict[str, Any], dtype: Any) -> None:
    """Pixels a multiple of 2 KB apart are copied, some rows of a few channels at a time."""
    images = values((2, 23, 30, 2048 // np.dtype(dtype).itemsize), dtype)
    for channels in [images.shape[-1], 37, 16]:
        input, weight = images[..., :channels], values((channels, 1, *kernel), dtype, 1)
        case = {**options, "groups": channels, "layout": "NHWC", "algorithm": "depthwise"}
        got = convpool.conv2d(input, weight, num_threads=1, **case)
        check_conv2d(got, input, weight, None, **case)
        assert_same_bits(got, convpool.conv2d(input, weight, num_threads=2, **case))
        assert_same_bits(got[1:], convpool.conv2d(input[1:], weight, **case))
        if channels < images.shape[-1]:
            assert_same_bits(got, convpool.conv2d(input.copy(), weight, **case))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((1, 1), {"stride": 2}),
        ((1, 3), {"padding": (0, 1)}),
        ((1, 3), {"padding": (0, 1), "stride": 2}),
        ((1, 4), {"padding": (1, 3), "stride": (1, 2)}),
        ((1, 7), {"padding": (0, 9), "dilation": (1, 3)}),
        ((1, 150), {"padding": (0, 80)}),
        ((2, 2), {"stride": 2}),
        ((2, 3), {"padding": (1, 1)}),
        ((3, 2), {"padding": (2, 1)}),
        ((3, 3), {"padding": 1, "stride": (2, 1)}),
        ((3, 3), {"padding": 2, "stride": (1, 2), "dilation": (3, 1)}),
        ((4, 1), {"padding": (3, 0)}),
        ((5, 5), {"padding": 2, "stride": (3, 2)}),
    ],
)
def test_depthwise_of_rows_that_share_little(kernel: Any, options: dict[str, Any], dtype: Any) -> None:
    """They go row by row; columns beside the plane are not touched, whatever lies there."""
    for height, width in [(1, 40), (3, 9), (5, 7), (9, 33), (10, 16), (21, 17), (6, 64), (4, 2100)]:
        if height < kernel[0] or width < 17 < kernel[1]:
            continue
        image = np.full((2, 4, height + 8, width + 40), np.nan, dtype)
        input = image[..., 4 : height + 4, 20 : width + 20]
        input[...] = values(input.shape, dtype)
        for multiplier in (1, 2):
            weight = values((4 * multiplier, 1, *kernel), dtype, 1)
            bias = values((4 * multiplier,), dtype, 2)
            case = {**options, "groups": 4, "activation": "relu", "algorithm": "depthwise"}
            got = convpool.conv2d(input, weight, bias, num_threads=1, **case)
            check_conv2d(got, input, weight, bias, **case)
            assert_same_bits(got, convpool.conv2d(input, weight, bias, num_threads=2, **case))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((3, 1), {"padding": (1, 0)}),
        ((7, 1), {"padding": (3, 0)}),
        ((5, 1), {"stride": (2, 1)}),
        ((6, 1), {"padding": ((9, 0), (0, 0)), "dilation": (2, 1)}),
        ((5, 1), {"padding": (0, 2), "activation": "silu"}),
    ],
)
def test_depthwise_of_one_column_whose_rows_crowd_the_caches(
    kernel: Any, options: dict[str, Any], dtype: Any
) -> None:
    """Channels-last rows a multiple of 2 KB apart are copied first; a few are read one by one."""
    for height, width, channels in [(35, 32, 48), (18, 2048, 3), (40, 64, 8)]:
        input = values((2, height, width, channels), dtype)
        weight, bias = values((channels, 1, *kernel), dtype, 1), values((channels,), dtype, 2)
        case = {**options, "groups": channels, "layout": "NHWC", "algorithm": "depthwise"}
        got = convpool.conv2d(input, weight, bias, num_threads=1, **case)
        check_conv2d(got, input, weight, bias, **case)
        assert_same_bits(got, convpool.conv2d(input, weight, bias, num_threads=2, **case))
        assert_same_bits(got[1:], convpool.conv2d(input[1:], weight, bias, **case))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("shape", [(14, 14, 96), (7, 33, 37), (3, 40, 64), (1, 50, 96), (20, 500, 20)])
def test_threads_share_the_columns_of_low_channels_last_images(
    shape: tuple[int, ...], activation: str
) -> None:
    input, channels = values((1, *shape)), shape[-1]
    add = values((1, *shape), seed=3)
    for rows in (1, 5, 7):
        weight, bias = values((channels, 1, rows, 1), seed=1), values((channels,), seed=2)
        case = {"padding": (rows // 2, 0), "groups": channels, "layout": "NHWC", "activation": activation}
        got = convpool.conv2d(input, weight, bias, add=add, algorithm="depthwise", num_threads=1, **case)
        check_conv2d(got, input, weight, bias, add=add, algorithm="depthwise", **case)
        for threads in (2, 3, 8):
            again = convpool.conv2d(
                input, weight, bias, add=add, algorithm="depthwise", num_threads=threads, **case
            )
            assert_same_bits(got, again)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [(6, 6), (7, 7), (7, 10), (9, 6), (11, 11), (13, 8)])
def test_depthwise_with_tall_kernels(kernel: tuple[int, int], dtype: Any) -> None:
    """What lies inside a plane may go by larger tiles than its edges, copied with its padding or in place."""
    side = (kernel[0] // 2, kernel[1] // 2)
    for seed, (height, width, channels, options) in enumerate(
        [
            (13, 14, (3, 1), {"padding": side}),
            (26, 31, (3, 2), {"padding": side, "activation": "relu"}),
            (16, 40, (2, 1), {"padding": ((3, 0), (0, 5)), "dilation": (1, 2)}),
            (60, 33, (2, 4), {}),
            (75, 150, (2, 1), {"padding": side, "activation": "silu"}),
            (14, 300, (4, 1), {"padding": (side[0], 0)}),
            (31, 144, (2, 2), {"padding": side, "padding_mode": "reflect"}),
            (20, 23, (16, 1), {"padding": side}),
            (40, 57, (17, 2), {"padding": side, "activation": "relu"}),
        ]
    ):
        groups, outputs = channels
        shape = (2, groups * 2 if kernel == (9, 6) else groups, height, width)
        input = values(shape, dtype, seed)
        weight = values((groups * outputs, shape[1] // groups, *kernel), dtype, seed + 1)
        bias = values((groups * outputs,), dtype, seed + 2)
        got = convpool.conv2d(input, weight, bias, groups=groups, algorithm="depthwise", **options)
        check_conv2d(got, input, weight, bias, groups=groups, algorithm="depthwise", **options)
        for i in range(2):
            alone = convpool.conv2d(
                input[i], weight, bias, groups=groups, algorithm="depthwise", num_threads=2 - i, **options
            )
            assert_same_bits(got[i], alone)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("columns", [90, 204, 205, 212])
def test_a_tap_that_is_not_finite_reaches_the_same_results_on_any_threads(columns: int) -> None:
    """Which taps a tile leaves out, wholly in the padding, doesn't depend on how rows are shared out."""
    input, weight = values((1, 3, 64, columns)), values((3, 1, 15, 15), seed=1)
    weight[..., 13] = np.inf
    alone, shared = (
        convpool.conv2d(input, weight, padding=7, groups=3, algorithm="depthwise", num_threads=threads)
        for threads in (1, 4)
    )
    np.testing.assert_array_equal(alone, shared)


@pytest.mark.usefixtures("isa")
def test_tall_depthwise_results_too_large_for_the_caches_have_the_same_bits() -> None:
    batch, weight = values((9, 32, 112, 112)), values((32, 1, 7, 7), seed=1)
    for padding in (0, 3):
        layer = nn.Conv2d.from_weights(weight, None, padding=padding, groups=32, activation="relu")
        together = layer(batch)
        assert together.nbytes > 12 << 20
        for i in range(len(batch)):
            assert_same_bits(together[i], layer(batch[i]))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("kernel", "columns"), [((1, 3), 112), ((2, 5), 112), ((1, 5), 107)])
def test_depthwise_results_by_rows_too_large_for_the_caches_have_the_same_bits(
    kernel: tuple[int, int], columns: int
) -> None:
    batch, weight = values((9, 32, 112, columns)), values((32, 1, *kernel), seed=1)
    padding = (0, kernel[1] // 2)
    layer = nn.Conv2d.from_weights(weight, None, padding=padding, groups=32, activation="relu")
    together = layer(batch)
    assert together.nbytes > 12 << 20
    check_conv2d(together[:1], batch[:1], weight, None, padding=padding, groups=32, activation="relu")
    for i in range(len(batch)):
        assert_same_bits(together[i], layer(batch[i]))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [2, 3, 5, 7, 11, 12])
def test_depthwise_of_few_interleaved_channels(channels: int, dtype: Any) -> None:
    """Channels-last rows whose elements have weights of their own, column by column."""
    bias = values((channels,), dtype, seed=2)
    for seed, (height, width, kernel, options) in enumerate(
        [
            (15, 33, (3, 3), {"padding": 1}),
            (30, 17, (5, 5), {"padding": 2, "activation": "relu"}),
            (9, 70, (4, 1), {"padding": ((0, 3), (2, 1)), "activation": "silu"}),
            (16, 40, (7, 6), {"padding": "same", "padding_mode": "reflect"}),
            (40, 41, (3, 5), {"padding": 2, "padding_mode": "circular", "stride": (2, 1)}),
            (20, 30, (2, 3), {"padding": 3, "dilation": (3, 2), "activation": "relu6"}),
            (31, 5, (9, 3), {"padding": 4, "padding_mode": "replicate", "stride": (3, 1), "dilation": 2}),
            (1, 1, (3, 3), {"padding": 1}),
        ]
    ):
        input = values((2, height, width, channels), dtype, seed=seed)
        weight = values((channels, 1, *kernel), dtype, seed=seed + 1)
        case = {"groups": channels, "layout": "NHWC", "algorithm": "depthwise", **options}
        got = convpool.conv2d(input, weight, bias, **case)
        check_conv2d(got, input, weight, bias, **options, groups=channels, layout="NHWC")
        assert_same_bits(convpool.conv2d(input, weight, bias, num_threads=2, **case), got)
        add = values(got.shape, dtype, seed=seed + 2)
        added = convpool.conv2d(input, weight, None, add=add, **case)
        check_conv2d(added, input, weight, None, add=add, **options, groups=channels, layout="NHWC")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("group_channels", [2, 4, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_of_small_groups(group_channels: int, stride: int, layout: str) -> None:
    """Outputs of a group share what they read."""
    groups = 4
    for seed, (height, width, kernel, padding) in enumerate(
        [(8, 40, 3, 1), (15, 33, 3, 0), (28, 14, 5, 2), (29, 7, (2, 4), 2), (7, 65, (4, 3), 3)]
    ):
        channels = groups * group_channels
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        for multiplier in (1, 2):
            input = to_layout(values((2, channels, height, width), seed=seed), layout)
            weight = values((channels * multiplier, group_channels, *kernel), seed=seed + 1)
            bias = values((channels * multiplier,), seed=2)
            case: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "layout": layout}
            got = convpool.conv2d(input, weight, bias, algorithm="depthwise", **case)
            check_conv2d(got, input, weight, bias, **case)
