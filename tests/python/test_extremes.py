"""Sizes at the edge of what can be counted, and layers that once overran a scratch buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from arrays import values
from comparison import assert_same_bits, check_conv2d
from convpool import nn, reference
from guarded import guarded_memory, needs_guards

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
        np.zeros((1, 1, 4, 64), f32), (1, 2), stride=1, padding=(0, 2**61), dilation=(1, 2**62)
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


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel", [1, 2, 3, (2, 20)])
@pytest.mark.parametrize("far", [9, 2**20, 2**40, 2**61])
@pytest.mark.parametrize("width", [20, 27])
def test_a_pooling_stride_that_leaves_one_result(kernel: int, far: int, width: int) -> None:
    """What lies between the windows takes no memory."""
    input = np.arange(3 * 2 * width, dtype=f32).reshape(1, 3, 2, width)
    for layout in ("NCHW", "NHWC"):
        image = input if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(input, 1, -1))
        options = {"padding": (1, 0) if kernel == 3 else 0, "layout": layout}
        got = convpool.max_pool2d(image, kernel, (far, far), **options)
        np.testing.assert_array_equal(got, reference.max_pool2d(image, kernel, (far, far), **options))
        got = convpool.avg_pool2d(image, kernel, (far, far), **options)
        np.testing.assert_allclose(got, reference.avg_pool2d(image, kernel, (far, far), **options), rtol=1e-6)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [2, 3, 5, 17])
def test_a_row_dilation_beyond_memory_is_done_or_refused(channels: int) -> None:
    """Which of the two depends on how many channels a vector holds."""
    far = 2**62 + 1
    try:
        got = convpool.conv2d(
            np.ones((1, 5, 18, channels), f32),
            np.ones((channels, 1, 2, 3), f32),
            dilation=(far, 1),
            padding=((far, 0), (0, 0)),
            groups=channels,
            layout="NHWC",
            algorithm="depthwise",
        )
    except MemoryError:
        return
    np.testing.assert_array_equal(got, np.full((1, 5, 16, channels), 3, f32))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("far", [9, 2**20, 2**40, 2**60])
def test_rows_far_apart_of_pixels_that_crowd_the_caches(far: int) -> None:
    """No row is copied that no window reads."""
    image, weight = values((1, 5, 6, 512)), values((512, 1, 3, 3), seed=1)
    options: dict[str, Any] = {"groups": 512, "layout": "NHWC", "algorithm": "depthwise"}
    got = convpool.conv2d(image, weight, dilation=(far, 1), padding=(far, 1), **options)
    middle = convpool.conv2d(image, weight[:, :, 1:2], padding=(0, 1), **options)
    np.testing.assert_allclose(got, middle, rtol=1e-6)


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


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_long_row_of_taps_channels_last(num_threads: int) -> None:
    """Lists of segments that don't fit what a task keeps of them."""
    input = np.ascontiguousarray(values((1, 2, 1, 4000)).transpose(0, 2, 3, 1))
    weight, bias = values((16, 2, 1, 2001), seed=1), values((16,), seed=2)
    options = {"layout": "NHWC", "padding": ((0, 0), (700, 3))}
    got = convpool.conv2d(input, weight, bias, algorithm="direct", num_threads=num_threads, **options)
    check_conv2d(got, input, weight, bias, algorithm="direct", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (2, 1)])
@pytest.mark.parametrize("size", [(30, 41), (7, 47)])
@pytest.mark.parametrize("huge", [1e30, 1e34, 1e36, 1e37])
def test_winograd_gives_the_same_bits_beside_huge_values(
    huge: float, size: tuple[int, int], stride: int, dilation: int, layout: str
) -> None:
    """Which results are done again goes by a tile alone, not by what a thread computes with it."""
    input, weight = values((2, 24, *size)), values((40, 24, 3, 3), seed=1)
    generator = np.random.default_rng(7)
    for value in (np.nan, huge, -huge, np.inf):
        where = tuple(generator.integers(0, size, 12) for size in input.shape)
        input[where] = value
    if layout == "NHWC":
        input = np.ascontiguousarray(input.transpose(0, 2, 3, 1))
    for activation in (None, "relu", "silu"):
        options = {"padding": dilation, "stride": stride, "dilation": dilation, "layout": layout}
        options |= {"algorithm": "winograd", "activation": activation}
        first = convpool.conv2d(input, weight, num_threads=1, **options)
        for num_threads in (2, 3, 5, 8):
            again = convpool.conv2d(input, weight, num_threads=num_threads, **options)
            assert_same_bits(first, again)
        alone = convpool.conv2d(input[1:], weight, num_threads=2, **options)
        assert_same_bits(first[1:], alone)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 32])
def test_depthwise_with_a_column_stride_beyond_32_bits(channels: int, layout: str) -> None:
    input = values((1, channels, 3, 6))
    weight = values((channels, 1, 3, 3), seed=1)
    far = 2**32 + 1
    options = {"stride": (1, far), "padding": ((1, 1), (1, 1)), "groups": channels, "layout": layout}
    image = input if layout == "NCHW" else np.ascontiguousarray(input.transpose(0, 2, 3, 1))
    got = convpool.conv2d(image, weight, algorithm="depthwise", **options)
    check_conv2d(got, image, weight, algorithm="depthwise", **options)


@pytest.mark.usefixtures("isa")
def test_depthwise_of_a_single_row_of_results_under_padding_near_63_bits() -> None:
    image, weight = values((1, 3, 5, 4)), values((3, 1, 3, 3), seed=1)
    options: dict[str, Any] = {"stride": (2**63 - 1, 1), "groups": 3}
    got = convpool.conv2d(image, weight, padding=((2**62, 0), (1, 1)), algorithm="depthwise", **options)
    # Its window ends far above the image.
    assert (got == 0).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("columns", [500, 512])
def test_depthwise_with_gaps_of_many_gigabytes_needs_little_memory(columns: int, axis: int) -> None:
    image, weight = values((1, 3, 16, columns)), values((3, 1, 3, 3), seed=1)
    far = 2**40
    gaps = (far, 1) if axis == 0 else (1, far)
    got = convpool.conv2d(image, weight, dilation=gaps, padding=gaps, groups=3, algorithm="depthwise")
    near = weight[:, :, 1:2, :] if axis == 0 else weight[:, :, :, 1:2]
    check_conv2d(got, image, near, padding=(0, 1) if axis == 0 else (1, 0), groups=3, algorithm="depthwise")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 32])
def test_depthwise_with_a_row_dilation_near_63_bits(channels: int, layout: str) -> None:
    far = 2**62 + 1
    input = values((1, channels, 5, 18))
    image = input if layout == "NCHW" else np.ascontiguousarray(input.transpose(0, 2, 3, 1))
    one_row = values((channels, 1, 1, 3), seed=1)
    options = {"groups": channels, "layout": layout}
    got = convpool.conv2d(image, one_row, dilation=(far, 1), algorithm="depthwise", **options)
    check_conv2d(got, image, one_row, algorithm="depthwise", dilation=(far, 1), **options)
    two_rows = values((channels, 1, 2, 3), seed=1)
    # The window is one row higher than the padded image's far end: of its two rows one lies in the image.
    padding = ((far, 0), (0, 0))
    got = convpool.conv2d(
        image, two_rows, dilation=(far, 1), padding=padding, algorithm="depthwise", **options
    )
    check_conv2d(got, image, two_rows[:, :, 1:], algorithm="depthwise", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_channels_last_with_one_row_of_results(multiplier: int, padding_mode: str) -> None:
    for channels in (16, 24, 48):
        image = np.ascontiguousarray(values((2, channels, 3, 11)).transpose(0, 2, 3, 1))
        weight = values((multiplier * channels, 1, 5, 5), seed=1)
        options = {"padding": ((1, 1), (2, 2)), "padding_mode": padding_mode, "groups": channels}
        got = convpool.conv2d(image, weight, algorithm="depthwise", layout="NHWC", **options)
        assert got.shape[1] == 1
        check_conv2d(got, image, weight, algorithm="depthwise", layout="NHWC", **options)


WIDE: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "padded rows": ((1, 3, 2, 20001), (5, 3, 3, 3), {"padding": 1}),
    "padded rows, far taps": ((1, 40, 1, 9000), (20, 40, 1, 3), {"padding": (0, 300), "dilation": (1, 300)}),
    "strided": ((2, 3, 4, 30011), (6, 3, 3, 3), {"padding": 1, "stride": (2, 3)}),
    "reflected": ((1, 2, 3, 17003), (17, 2, 1, 5), {"padding": (0, 2), "padding_mode": "reflect"}),
    "one row": ((1, 3, 300, 500), (18, 3, 1, 1), {}),
    "one wide row": ((1, 3, 1, 150001), (18, 3, 1, 1), {}),
    "no padding": ((1, 2, 2, 140007), (17, 2, 1, 3), {}),
    "groups": ((1, 8, 2, 20001), (8, 4, 3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((1, 3, 3, 40001), (3, 1, 3, 3), {"padding": 1, "groups": 3, "stride": (1, 4)}),
    "depthwise, reflected": (
        (1, 16, 3, 9001),
        (16, 1, 3, 5),
        {"padding": (1, 2), "groups": 16, "padding_mode": "reflect"},
    ),
    "depthwise, circular, strided": (
        (1, 2, 3, 30001),
        (4, 1, 3, 5),
        {"padding": (1, 2), "groups": 2, "padding_mode": "circular", "stride": (1, 3)},
    ),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", WIDE)
def test_wide_images_are_taken_in_pieces(name: str, layout: str) -> None:
    in_shape, weight_shape, options = WIDE[name]
    input, weight = values(in_shape), values(weight_shape, seed=1)
    bias = values(weight_shape[:1], seed=2)
    if layout == "NHWC":
        input = np.ascontiguousarray(input.transpose(0, 2, 3, 1))
    options = {**options, "layout": layout}
    shape = convpool.conv2d_output_shape(input.shape, weight.shape, **options)
    add = values(shape, seed=3)
    for algorithm in ("direct", "depthwise" if "depthwise" in name else "auto"):
        first = None
        for num_threads in (1, 2, 5):
            layer = nn.Conv2d.from_weights(weight, bias, algorithm=algorithm, activation="relu", **options)
            got = layer(input, add=add, num_threads=num_threads)
            if first is None:
                check_conv2d(
                    got, input, weight, bias, algorithm=algorithm, activation="relu", add=add, **options
                )
                first = got
            assert_same_bits(first, got)
            assert layer.explain(input.shape, num_threads=num_threads).workspace_bytes < num_threads * 6e6


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_scratch_does_not_grow_with_the_image(layout: str) -> None:
    for weight_shape, options in [
        ((64, 64, 3, 3), {"padding": 1}),
        ((64, 64, 3, 3), {"padding": 1, "stride": 2}),
        ((64, 3, 7, 7), {"padding": 3, "stride": 2}),
        ((3, 3, 5, 5), {"padding": 2}),
        ((64, 64, 1, 1), {}),
        ((3, 1, 15, 15), {"padding": "same", "groups": 3, "padding_mode": "reflect"}),
        ((32, 1, 3, 3), {"padding": 1, "groups": 32, "stride": 4}),
    ]:
        layers = [
            nn.Conv2d.from_weights(np.ones(weight_shape, f32), algorithm=algorithm, layout=layout, **options)
            for algorithm in ("auto", "direct")
        ]
        channels = weight_shape[1] * int(options.get("groups", 1))  # type: ignore[call-overload]
        for height, width in [(64, 64), (1080, 1920), (2, 10**6), (10**6, 2), (10**4, 10**4)]:
            shape = (channels, height, width) if layout == "NCHW" else (height, width, channels)
            for layer in layers:
                if "reflect" in options.values() and min(height, width) < 8:
                    continue
                assert layer.explain(shape, num_threads=2).workspace_bytes < 12e6, (shape, layer)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_an_infinite_weight_meets_in_the_padding_is_the_same_for_any_threads_and_batch(
    layout: str,
) -> None:
    """Taps that lie wholly in the padding may be skipped or not: by the geometry alone."""
    images, weight = values((2, 96, 16, 200)), values((32, 96, 2, 200), seed=1)
    weight[:, 0, 0, 0] = np.inf
    images = images if layout == "NCHW" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def run(input: np.ndarray[Any, Any], num_threads: int) -> np.ndarray[Any, Any]:
        return convpool.conv2d(
            input, weight, padding=(0, 100), algorithm="direct", layout=layout, num_threads=num_threads
        )

    once = run(images, 1)
    for num_threads in (2, 4):
        np.testing.assert_array_equal(run(images, num_threads), once)
    np.testing.assert_array_equal(run(images[:1], 1), once[:1])


@pytest.mark.usefixtures("isa")
def test_what_a_single_infinite_tap_meets_in_the_padding_is_the_same_for_any_threads_and_batch() -> None:
    """A tile wholly in the padding leaves the tap out: where tiles lie mustn't depend on threads."""
    for width, pad in ((700, 42), (350, 21)):
        images, weight = values((2, 256, 2, width)), values((2, 256, 1, 1), seed=1)
        weight[0, 0] = np.inf
        once = convpool.conv2d(images, weight, padding=(0, pad), algorithm="direct", num_threads=1)
        for num_threads in (2, 3, 4):
            got = convpool.conv2d(
                images, weight, padding=(0, pad), algorithm="direct", num_threads=num_threads
            )
            np.testing.assert_array_equal(got, once)
        got = convpool.conv2d(images[:1], weight, padding=(0, pad), algorithm="direct", num_threads=1)
        np.testing.assert_array_equal(got, once[:1])


@pytest.mark.usefixtures("isa")
def test_results_that_go_past_the_caches_meet_an_infinite_weight_in_the_padding_as_others_do() -> None:
    images, weight = values((24, 2, 128, 152)), values((12, 2, 1, 1), seed=1)
    weight[0, 0] = np.inf
    options = {"padding": (0, 20), "algorithm": "direct"}
    one = convpool.conv2d(images[:1], weight, **options)
    np.testing.assert_array_equal(convpool.conv2d(images, weight, **options)[:1], one)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_outputs_of_an_image_beyond_the_l2_cache(dtype: Any) -> None:
    """Runs of some planes at a time, for one tile of outputs and several; the array's end is copied."""
    for shape, outputs, groups in [
        ((1, 130, 65, 67), (9, 19, 23), 1),
        ((2, 200, 65, 65), (21,), 1),
        ((1, 300, 47, 59), (23,), 1),
        ((1, 90, 100, 101), (8,), 1),
        ((1, 280, 65, 65), (42,), 2),
    ]:
        image = values(shape, dtype)
        for k in outputs:
            weight, bias = values((k, shape[1] // groups, 1, 1), dtype, 1), values((k,), dtype, 2)
            add = values((shape[0], k, *shape[2:]), dtype, 3)
            options = {"groups": groups, "add": add, "activation": "relu6"}
            got = convpool.conv2d(image, weight, bias, algorithm="direct", num_threads=1, **options)
            check_conv2d(got, image, weight, bias, algorithm="direct", **options)
            for num_threads in (2, 3):
                again = convpool.conv2d(
                    image, weight, bias, algorithm="direct", num_threads=num_threads, **options
                )
                np.testing.assert_array_equal(again, got)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_several_rows_in_one_call(layout: str) -> None:
    """Rows of a single tile: over several blocks of channels, in parts, padded above alone, of one column."""
    for shape, weight_shape, options in [
        ((1, 512, 9, 9), (64, 512, 3, 3), {}),
        ((2, 70, 14, 14), (20, 70, 3, 3), {"padding": 1}),
        ((2, 70, 14, 14), (20, 70, 3, 3), {"padding": 2}),
        ((1, 16, 14, 16), (18, 16, 3, 3), {"padding": (1, 0), "padding_mode": "reflect"}),
        ((1, 16, 14, 16), (18, 16, 3, 3), {"padding": (1, 0), "padding_mode": "circular"}),
        ((1, 20, 200, 1), (18, 20, 3, 1), {"padding": (1, 0)}),
        ((1, 20, 200, 4), (18, 20, 3, 3), {}),
        ((1, 6, 40, 12), (18, 6, 3, 3), {"stride": (3, 1), "dilation": (2, 1)}),
        ((1, 40, 40, 12), (18, 40, 3, 3), {"stride": (3, 1), "dilation": (2, 1), "padding": (2, 1)}),
    ]:
        image, weight = values(shape), values(weight_shape, seed=1)
        bias = values(weight_shape[:1], seed=2)
        input = image if layout == "NCHW" else np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        fresh = convpool.conv2d(input, weight, bias, algorithm="direct", layout=layout, **options)
        # Rows of both arrays don't follow one another.
        n, rows, columns, last = fresh.shape
        add = values((n, rows, columns + 1, last + 1), seed=3)[:, :, :columns, :last]
        out = np.full((n, rows, columns + 2, last + 1), np.nan, np.float32)[:, :, :columns, :last]
        if layout == "NHWC":
            out = np.full((n, rows, columns + 2, last), np.nan, np.float32)[:, :, :columns]
        options = {**options, "layout": layout}
        check_conv2d(fresh, input, weight, bias, algorithm="direct", **options)
        for to in (None, out):
            for num_threads in (1, 2):
                got = convpool.conv2d(
                    input,
                    weight,
                    bias,
                    algorithm="direct",
                    add=add,
                    out=to,
                    num_threads=num_threads,
                    **options,
                )
                check_conv2d(got, input, weight, bias, algorithm="direct", add=add, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_infinite_weight_shows_where_its_tap_is_in_the_image(layout: str) -> None:
    """Tiles beside the padding go in parts, the first of which begins with the bias."""
    image, weight, bias = values((2, 64, 14, 14)), values((24, 64, 3, 3), seed=1), values((24,), seed=2)
    weight[:, 0, 0, 0] = np.inf
    input = image if layout == "NCHW" else np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    for num_threads in (1, 2):
        got = convpool.conv2d(
            input, weight, bias, padding=1, algorithm="direct", layout=layout, num_threads=num_threads
        )
        finite = np.isfinite(got if layout == "NCHW" else got.transpose(0, 3, 1, 2))
        assert not finite[:, :, 1:, 1:].any()
        assert finite[:, :, 0].all()
        assert finite[:, :, :, 0].all()


# Tall enough for several tasks, of widths that fill no vector.
BESIDE: dict[str, tuple[Any, ...]] = {
    "3x1": ((1, 16, 200, 17), (3, 16, 3, 1), ((1, 1), (0, 0)), 1),
    "3x1, two images": ((2, 3, 128, 30), (4, 3, 3, 1), ((1, 1), (0, 0)), 1),
    "5x1": ((1, 8, 100, 33), (6, 8, 5, 1), ((2, 2), (0, 0)), 1),
    "padded far above": ((1, 8, 11, 257), (3, 8, 3, 1), ((10, 0), (0, 0)), 1),
    "padded on the left": ((1, 6, 7, 70), (3, 2, 2, 5), ((1, 1), (3, 0)), 3),
    "1x1": ((1, 5, 13, 19), (7, 5, 1, 1), ((0, 0), (0, 0)), 1),
    "1x1, few outputs": ((2, 70, 3, 5), (4, 70, 1, 1), ((0, 0), (0, 0)), 1),
    "1x1, few outputs of each group": ((1, 140, 3, 5), (4, 70, 1, 1), ((0, 0), (0, 0)), 2),
    "3x3, few outputs": ((2, 70, 9, 21), (4, 70, 3, 3), ((0, 0), (0, 0)), 1),
    "3x3, few outputs of each group": ((1, 140, 9, 21), (6, 70, 3, 3), ((0, 0), (0, 0)), 2),
    "3x1, few outputs": ((1, 70, 40, 17), (4, 70, 3, 1), ((1, 1), (0, 0)), 1),
    "3x3": ((2, 4, 9, 21), (5, 4, 3, 3), ((1, 1), (1, 1)), 1),
    "3x3 with a stride": ((2, 17, 11, 21), (5, 17, 3, 3), ((1, 1), (1, 1)), 1, 2),
    "11x11 with a stride": ((1, 3, 23, 37), (5, 3, 11, 11), ((2, 2), (2, 2)), 1, 4),
    "7x7 with a stride": ((1, 2, 17, 40), (5, 2, 7, 7), ((3, 3), (3, 3)), 1, 2),
    "depthwise": ((1, 9, 13, 21), (9, 1, 3, 3), ((1, 1), (1, 1)), 9),
    "depthwise, narrower": ((1, 9, 13, 8), (9, 1, 4, 4), ((1, 0), (0, 1)), 9),
}


@needs_guards
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("mode", ["zeros", "replicate", "reflect", "circular"])
@pytest.mark.parametrize("case", BESIDE)
def test_nothing_beside_the_image_is_read(case: str, mode: str) -> None:
    shape, filters, padding, groups, stride = (*BESIDE[case], 1)[:5]
    algorithms = ["auto", "direct", "implicit_gemm", *(["depthwise"] if groups > 3 else ["winograd"])]
    if case.startswith("1x1") or case == "padded on the left":
        algorithms.remove("winograd")
    with guarded_memory(256) as place:
        for dtype in (np.float32, np.float64):
            weight = values(filters, dtype, seed=1)
            for layout in ("NCHW", "NHWC"):
                for at_end in (False, True):
                    image = values(shape, dtype)
                    image = image if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(image, 1, -1))
                    guarded = place(image.shape, dtype, at_end)
                    guarded[...] = image
                    for algorithm in algorithms:
                        for num_threads in (1, 2):
                            options = {
                                "padding": padding,
                                "stride": stride,
                                "groups": groups,
                                "padding_mode": mode,
                                "layout": layout,
                                "algorithm": algorithm,
                                "num_threads": num_threads,
                            }
                            got = convpool.conv2d(guarded, weight, **options)
                            assert_same_bits(got, convpool.conv2d(image, weight, **options))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [3, 5])
def test_cuts_do_not_show_where_a_weight_is_infinite(size: int, layout: str) -> None:
    """A tap beside the image adds 0 * inf or nothing, but the same whatever the threads and the batch."""
    input = np.ones((3, 3, 60, 655) if layout == "NCHW" else (3, 60, 655, 3), f32)
    weight = np.zeros((3, 1, size, size), f32)
    weight[..., -1] = np.inf
    options: dict[str, Any] = {"padding": size - 1, "groups": 3, "layout": layout, "algorithm": "depthwise"}
    whole = convpool.conv2d(input, weight, num_threads=1, **options)
    assert_same_bits(whole, convpool.conv2d(input, weight, num_threads=2, **options))
    assert_same_bits(whole[:1], convpool.conv2d(input[:1], weight, num_threads=2, **options))


@pytest.mark.usefixtures("isa")
def test_sums_that_wait_are_bounded_on_low_images_with_tall_padding() -> None:
    layer = nn.Conv2d.from_weights(
        np.ones((64, 64, 3, 3), f32), padding=(34, 20), dilation=(1, 20), algorithm="direct"
    )
    for num_threads in (1, 2):
        assert layer.explain((1, 64, 1, 2000), num_threads=num_threads).workspace_bytes < num_threads * 6e6


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("shape", [(37, 96, 97), (64, 64, 128), (5, 300, 301)])
@pytest.mark.parametrize("out_channels", [1, 2, 3])
def test_few_output_channels_of_many_pixels(out_channels: int, shape: tuple[int, int, int]) -> None:
    """Planes beyond the L2 cache are read a few at a time, their sums kept in the results."""
    input, weight = values((2, *shape)), values((out_channels, shape[0], 1, 1), seed=1)
    bias, residual = values((out_channels,), seed=2), values((2, out_channels, *shape[1:]), seed=3)
    for num_threads in (1, 2):
        got = convpool.conv2d(input, weight, bias, num_threads=num_threads, algorithm="direct")
        check_conv2d(got, input, weight, bias)
        options: dict[str, Any] = {"activation": "silu", "add": residual}
        got = convpool.conv2d(input, weight, bias, num_threads=num_threads, **options)
        check_conv2d(got, input, weight, bias, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [16, 19, 64])
@pytest.mark.parametrize("out_channels", [1, 2, 3, 5, 8])
def test_few_output_channels_channels_last(out_channels: int, channels: int, dtype: Any) -> None:
    """Sums along the channels, for a 1x1; rows transposed on their way, for larger kernels."""
    for kernel, stride, width in ((1, 1, 21), (1, 1, 3), (1, 2, 20), (3, 1, 33), ((2, 1), (2, 1), 17)):
        input = values((2, 11, width, channels), dtype=dtype)
        height, across = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        weight = values((out_channels, channels, height, across), dtype=dtype, seed=1)
        bias, options = values((out_channels,), dtype=dtype, seed=2), {"stride": stride, "layout": "NHWC"}
        for image in (input, np.ascontiguousarray(input[:, :, ::-1])[:, :, ::-1], input[:, ::2, 1:]):
            for padding in (0, 1):
                got = convpool.conv2d(image, weight, bias, padding=padding, activation="relu6", **options)
                check_conv2d(got, image, weight, bias, padding=padding, activation="relu6", **options)
            residual = values(got.shape, dtype=dtype, seed=3)
            options["padding"] = padding
            got = convpool.conv2d(
                image, weight, bias, add=residual, activation="silu", algorithm="direct", **options
            )
            check_conv2d(got, image, weight, bias, add=residual, activation="silu", **options)
            options["algorithm"] = "direct"
            alone = convpool.conv2d(image[:1], weight, bias, num_threads=1, **options)
            assert_same_bits(convpool.conv2d(image, weight, bias, num_threads=2, **options)[:1], alone)
            options.pop("algorithm")
            options.pop("padding")


def test_explain_says_that_sums_run_along_the_channels() -> None:
    layer = nn.Conv2d(64, 2, 1, layout="NHWC")
    explanation = layer.explain((1, 30, 30, 64), num_threads=1)
    assert explanation.algorithm == "direct"
    assert "few output channels" in explanation.why
    assert explanation.packed_weight_bytes == 0


@pytest.mark.usefixtures("isa")
def test_depthwise_of_a_large_image_with_a_row_stride_beyond_it() -> None:
    image, weight = values((1, 64, 64, 1024)), values((1024, 1, 3, 3), seed=1)
    far = 2**24
    options: dict[str, Any] = {"stride": (far, 1), "padding": (far, 1), "groups": 1024, "layout": "NHWC"}
    got = convpool.conv2d(image, weight, algorithm="depthwise", **options)
    assert got.shape == (1, 3, 64, 1024)
    assert not got[:, ::2].any()
    expected = reference.conv2d(image[:, :3], weight, padding=(0, 1), groups=1024, layout="NHWC")
    np.testing.assert_allclose(got[:, 1], expected[:, 0], rtol=1e-4, atol=1e-4)
