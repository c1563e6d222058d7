"""The direct algorithm: both orientations, in place, from copies and from panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convpool
from arrays import to_layout, values
from comparison import assert_same_bits, check_conv2d
from convpool import nn


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_rows_cut_at_the_taps_of_a_wide_dilation(padding_mode: str, layout: str) -> None:
    """They are read in place where no tile sees padding; where one does, it goes in parts or reads a copy."""
    for size, dilation, channels in [
        (33, 12, 70),
        (33, 6, 33),
        (20, 9, 40),
        (40, 7, 65),
        (33, 16, 8),
        (65, 24, 64),
    ]:
        input = to_layout(values((2, channels, size, size + 1)), layout)
        weight, bias = values((20, channels, 3, 3), seed=1), values((20,), seed=2)
        options = {"padding": dilation, "dilation": dilation, "padding_mode": padding_mode, "layout": layout}
        got = convpool.conv2d(input, weight, bias, algorithm="direct", num_threads=1, **options)
        check_conv2d(got, input, weight, bias, algorithm="direct", **options)
        again = convpool.conv2d(input, weight, bias, algorithm="direct", num_threads=2, **options)
        assert_same_bits(got, again)


def check_direct(
    in_shape: Any, weight_shape: Any, options: dict[str, Any], layout: str, dtype: Any
) -> nn.Conv2d:
    """Checks the direct algorithm, also that threads, a layer and a single image give the same bits."""
    input = to_layout(values(in_shape, dtype), layout)
    weight, bias = values(weight_shape, dtype, 1), values(weight_shape[:1], dtype, 2)
    options = {**options, "layout": layout, "algorithm": "direct"}
    got = convpool.conv2d(input, weight, bias, num_threads=1, **options)
    check_conv2d(got, input, weight, bias, **options)
    assert_same_bits(got, convpool.conv2d(input, weight, bias, num_threads=2, **options))
    assert_same_bits(got[:1], convpool.conv2d(input[:1], weight, bias, num_threads=1, **options))
    layer = nn.Conv2d.from_weights(weight, bias, **options)
    assert_same_bits(got, layer(input))
    return layer


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_rows_fetched_ahead_from_the_next_group_and_image(layout: str) -> None:
    """Inputs beyond the L2 cache: below, and where a group or the last image ends."""
    for in_shape, weight_shape, options in [
        ((5, 192, 29, 33), (64, 96, 3, 3), {"groups": 2, "padding": 1, "stride": 2}),
        ((40, 128, 13, 11), (48, 128, 2, 2), {"stride": 2}),
        ((3, 70, 97, 91), (24, 70, 3, 3), {"padding": 2, "stride": 3, "dilation": 2}),
    ]:
        check_direct(in_shape, weight_shape, options, layout, np.float32)


def check_addition(
    in_shape: Any, weight_shape: Any, options: dict[str, Any], layout: str, dtype: Any
) -> None:
    """The same with an array that is added before the activation."""
    input, weight = to_layout(values(in_shape, dtype), layout), values(weight_shape, dtype, 1)
    options = {**options, "layout": layout, "algorithm": "direct"}
    add = values(convpool.conv2d(input, weight, **options).shape, dtype, 3)
    got = convpool.conv2d(input, weight, add=add, **options)
    check_conv2d(got, input, weight, None, add=add, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_tiles_beside_the_padding(layout: str, dtype: Any) -> None:
    """They go in parts: all outputs with the taps that see the image from each, and some with others."""
    for in_shape, weight_shape, options in [
        ((2, 130, 9, 31), (40, 130, 3, 3), {"stride": 2, "padding": 1, "activation": "relu"}),
        ((1, 70, 7, 7), (24, 70, 3, 3), {"padding": 1, "activation": "silu"}),
        ((1, 96, 5, 6), (17, 96, 5, 5), {"padding": 2}),
        ((1, 64, 4, 45), (33, 64, 2, 7), {"padding": ((1, 0), (6, 3)), "activation": "relu6"}),
        ((1, 65, 6, 3), (16, 65, 3, 9), {"padding": (1, 4)}),
        ((1, 40, 12, 50), (9, 40, 3, 3), {"padding": 5, "dilation": 5}),
        ((1, 100, 4, 8), (16, 100, 1, 3), {"padding": (0, 20), "stride": (1, 3), "dilation": 4}),
        ((2, 192, 14, 14), (96, 64, 3, 3), {"groups": 3, "padding": 1, "stride": (1, 2)}),
        ((1, 128, 10, 64), (48, 128, 3, 3), {"padding": 1, "padding_mode": "circular"}),
        ((1, 128, 64, 64), (20, 128, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 512, 6, 20), (32, 512, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 9, 160, 640), (16, 9, 5, 3), {"padding": 1, "stride": 2}),
    ]:
        check_direct(in_shape, weight_shape, options, layout, dtype)
        check_addition(in_shape, weight_shape, options, layout, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("axes", [(1, 2, 3), (1,), (2,), (3,)])
def test_elements_that_stand_for_many(axes: tuple[int, ...], layout: str) -> None:
    """Along axes whose stride is 0 all taps read the same elements."""
    one = values(tuple(1 if axis in axes else size for axis, size in enumerate((1, 130, 9, 31))))
    input = np.broadcast_to(one, (1, 130, 9, 31))
    weight = values((40, 130, 3, 3), seed=1)
    for stride in (1, 2):
        case: dict[str, Any] = {"stride": stride, "padding": 1, "layout": layout, "algorithm": "direct"}
        view = input if layout == "NCHW" else np.moveaxis(input, 1, -1)
        check_conv2d(convpool.conv2d(view, weight, **case), view, weight, None, **case)


def strided_images(array: Any, form: str) -> Any:
    """The same images with gaps between them or their channels, in reverse, or with the batch innermost."""
    batch, channels = array.shape[:2]
    if form == "gaps":
        view = np.full((2 * batch, *array.shape[1:]), 7, array.dtype)[::2]
    elif form == "channel gaps":
        view = np.full((batch, 2 * channels, *array.shape[2:]), 7, array.dtype)[:, ::2]
    elif form == "reversed":
        view = np.full(array.shape, 7, array.dtype)[::-1, ::-1]
    else:
        view = np.full(array.shape[::-1], 7, array.dtype).transpose(3, 2, 1, 0)
    view[...] = array
    return view


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1)])
def test_small_images_of_a_batch(size: tuple[int, int], dtype: Any) -> None:
    """A 1x1 takes those of one pixel as one image."""
    for batch, channels, out_channels, groups in [
        (9, 70, 33, 1),
        (30, 64, 2, 1),
        (2, 24, 40, 4),
        (17, 1, 5, 1),
        (16, 64, 1, 1),
    ]:
        in_shape, weight_shape = (batch, channels, *size), (out_channels, channels // groups, 1, 1)
        options = {"groups": groups, "activation": "relu"}
        for layout in ("NCHW", "NHWC"):
            check_direct(in_shape, weight_shape, options, layout, dtype)
            check_addition(in_shape, weight_shape, options, layout, dtype)
        input, weight = values(in_shape, dtype), values(weight_shape, dtype, 1)
        case: dict[str, Any] = {"groups": groups, "algorithm": "direct"}
        joined = convpool.conv2d(input, weight, **case)
        add = values(joined.shape, dtype, 3)
        added = convpool.conv2d(input, weight, add=add, **case)
        for i in range(0, batch, 4):
            assert_same_bits(joined[i], convpool.conv2d(input[i], weight, **case))
        for form in ("gaps", "channel gaps", "reversed", "batch innermost"):
            out = strided_images(np.zeros_like(joined), form)
            memory = out.base if out.base.base is None else out.base.base
            before = memory.size - out.size
            gaps = int((memory == 7).sum())
            assert gaps == before
            convpool.conv2d(
                strided_images(input, form), weight, add=strided_images(add, form), out=out, **case
            )
            np.testing.assert_allclose(out, added, rtol=1e-5, atol=1e-4)
            assert int((memory == 7).sum()) == gaps
            np.testing.assert_allclose(
                convpool.conv2d(strided_images(input, form), weight, **case), joined, rtol=1e-5, atol=1e-4
            )
    # An axis of one row may have any stride.
    input, weight = values((4, 5, 8), dtype)[:, None], values((16, 8, 1, 1), dtype, 1)
    out = np.empty((1, 4, 5, 16), dtype).transpose(1, 0, 2, 3)
    convpool.conv2d(input, weight, layout="NHWC", algorithm="direct", out=out)
    check_conv2d(out, input, weight, layout="NHWC", algorithm="direct")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("hop", "channels"), [(16, 112), (32, 100), (4, 100), (8, 104)])
def test_frames_that_overlap(hop: int, channels: int) -> None:
    """Neighbouring taps of the last channels, or of the others, may follow one another in memory."""
    frames = np.lib.stride_tricks.sliding_window_view(values((1000,)), channels)[::hop][:40][None, None]
    for weight_shape, padding in [((32, channels, 1, 3), (0, 1)), ((20, channels, 1, 4), (0, 2))]:
        weight = values(weight_shape, seed=1)
        case: dict[str, Any] = {"padding": padding, "layout": "NHWC", "algorithm": "direct"}
        check_conv2d(convpool.conv2d(frames, weight, **case), frames, weight, None, **case)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_single_rows_copied_in_pieces(layout: str, dtype: Any) -> None:
    """Maps that read as one row, and images of one: pieces of it, a part of the channels at a time."""
    for in_shape, weight_shape, options in [
        ((1, 1100, 7, 7), (70, 1100, 1, 1), {}),
        ((2, 700, 11, 11), (48, 700, 1, 1), {}),
        ((1, 96, 9, 53), (40, 48, 1, 1), {"groups": 2}),
        ((1, 600, 1, 250), (33, 600, 1, 5), {"padding": (0, 2)}),
        ((2, 300, 1, 301), (40, 300, 1, 3), {"stride": (1, 2), "padding": (0, 1)}),
        ((1, 70, 1, 260), (64, 70, 1, 7), {"padding": (0, 6), "dilation": 2, "padding_mode": "reflect"}),
        ((1, 64, 3, 240), (48, 64, 3, 1), {"stride": 2}),
        ((1, 65, 28, 29), (40, 65, 1, 1), {"stride": 2}),
        ((2, 300, 13, 14), (48, 300, 1, 1), {"stride": 3, "padding": 1}),
        ((2, 200, 31, 37), (260, 200, 1, 1), {"stride": 2, "padding": (0, 1)}),
        ((2, 200, 31, 37), (260, 200, 1, 1), {"stride": 2}),
        ((2, 200, 31, 37), (260, 200, 1, 1), {"stride": (2, 1)}),
        ((1, 33, 9, 40), (40, 33, 3, 1), {"stride": (1, 3), "padding": (1, 2), "padding_mode": "reflect"}),
    ]:
        check_direct(in_shape, weight_shape, options, layout, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_few_outputs_of_planes_that_end_with_the_array(layout: str, dtype: Any) -> None:
    """The last image's last channels are copied where the others are read in place, past the ends of rows."""
    for in_shape, weight_shape, options in [
        ((2, 70, 3, 5), (4, 70, 1, 1), {}),
        ((2, 70, 9, 21), (4, 70, 3, 3), {}),
        ((2, 140, 9, 21), (6, 70, 3, 3), {"groups": 2}),
    ]:
        check_direct(in_shape, weight_shape, options, layout, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_many_output_channels_that_read_the_same_pixels(isa: str, layout: str, dtype: Any) -> None:
    """Pixels in the vectors, packed once for all output channels where registers are few."""
    for in_shape, weight_shape, options in [
        ((2, 3, 19, 45), (33, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 1, 12, 131), (40, 1, 5, 3), {"stride": (1, 2), "padding": (4, 2)}),
        ((1, 2, 16, 257), (90, 2, 3, 5), {"stride": 4, "padding": 1, "padding_mode": "reflect"}),
        ((1, 3, 13, 128), (70, 3, 3, 3), {"padding": 9, "dilation": 9}),
        ((1, 6, 10, 60), (64, 3, 3, 2), {"padding": (0, 1), "dilation": (2, 3), "groups": 2}),
        ((1, 7, 8, 61), (24, 7, 3, 1), {"padding": (2, 0), "padding_mode": "circular"}),
        ((2, 300, 23, 25), (67, 300, 1, 1), {}),
        ((2, 6000, 3, 23), (21, 6000, 1, 1), {}),
        ((1, 130, 1, 23), (12, 130, 1, 1), {}),
        ((2, 260, 9, 35), (30, 130, 1, 1), {"groups": 2, "activation": "relu"}),
        ((2, 20, 19, 48), (70, 20, 1, 1), {"stride": (2, 1)}),
        ((1, 20, 9, 33), (65, 20, 1, 1), {"padding": 1}),
        ((1, 12, 1, 130), (72, 12, 1, 3), {"padding": (0, 2), "dilation": 2}),
    ]:
        layer = check_direct(in_shape, weight_shape, options, layout, dtype)
        if layout == "NCHW" and isa in ("sse2", "avx2"):  # these pack, or with AVX2 list steps
            assert layer.explain(in_shape).in_vectors == "pixels"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_few_channels_whose_steps_are_listed(isa: str, layout: str, dtype: Any) -> None:
    """With AVX2: rows in place and copied, cut, taken apart, the last channels of a batch."""
    for in_shape, weight_shape, options in [
        ((1, 1, 21, 50), (6, 1, 7, 5), {"padding": (5, 2), "activation": "relu6"}),
        ((2, 4, 11, 47), (9, 4, 3, 3), {}),
        ((2, 34, 9, 45), (5, 34, 3, 3), {}),
        ((1, 5, 9, 66), (13, 5, 3, 3), {"padding": 1, "padding_mode": "replicate"}),
        ((2, 6, 14, 70), (10, 3, 4, 4), {"stride": (2, 1), "padding": 2, "groups": 2}),
        ((1, 3, 9, 1400), (7, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 2, 3, 700), (5, 2, 2, 9), {"dilation": (1, 40), "padding": (1, 90)}),
        ((1, 3, 1, 240), (8, 3, 1, 3), {"stride": (6148914691236517205, 1)}),
        # Rows enough for panels again.
        ((1, 7, 24, 96), (33, 7, 17, 3), {}),
        ((2, 6, 20, 96), (33, 6, 19, 3), {"padding": 1}),
    ]:
        layer = check_direct(in_shape, weight_shape, options, layout, dtype)
        if layout == "NCHW" and isa == "avx2":
            assert layer.explain(in_shape).in_vectors == "pixels"


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (37, 128)])
def test_planes_that_crowd_the_caches(size: tuple[int, int], dtype: Any) -> None:
    for channels, out_channels in [(40, 2), (40, 5), (40, 70), (130, 128)]:
        input, weight = values((1, channels, *size), dtype), values((out_channels, channels, 1, 1), dtype, 1)
        got = convpool.conv2d(input, weight, algorithm="direct")
        check_conv2d(got, input, weight, algorithm="direct")
        # The same plane with a gap behind each row, which reads as rows.
        apart = np.zeros((1, channels, size[0], size[1] + 3), dtype)[..., : size[1]]
        apart[...] = input
        assert_same_bits(got, convpool.conv2d(apart, weight, algorithm="direct"))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("channels", "size", "out_channels"), [(72, (83, 75), 47), (72, (83, 75), 50), (700, (25, 27), 400)]
)
def test_planes_that_the_caches_do_not_hold(
    channels: int, size: tuple[int, int], out_channels: int, dtype: Any
) -> None:
    input = values((1, channels, *size), dtype)
    weight = values((out_channels, channels, 1, 1), dtype, 1)
    got = convpool.conv2d(input, weight, algorithm="direct", num_threads=1)
    check_conv2d(got, input, weight, algorithm="direct")
    assert_same_bits(got, convpool.conv2d(input, weight, algorithm="direct", num_threads=2))
    # A part of the image is summed in the same order, whatever reads it.
    part = convpool.conv2d(np.ascontiguousarray(input[:, :, :20]), weight, algorithm="direct")
    assert_same_bits(got[:, :, :20], part)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(32, 32), (16, 128), (35, 1024)])
def test_transposition_to_planes_that_crowd_the_caches(size: tuple[int, int], dtype: Any) -> None:
    """Planes of results a multiple of 4 KB apart, and channels that fill no vector."""
    for channels, out_channels, kernel, stride, groups in [
        (3, 20, 5, 1, 1),
        (17, 36, 3, 1, 1),
        (32, 32, 7, 2, 32),
        (16, 35, 2, 2, 1),
    ]:
        input = values((1, channels, *(stride * n for n in size)), dtype)
        weight = values((out_channels, channels // groups, kernel, kernel), dtype, 1)
        options = {"padding": (kernel - 1) // 2, "stride": stride, "groups": groups}
        for algorithm in ["auto", "depthwise" if groups > 1 else "winograd" if stride == 1 else "direct"]:
            got = convpool.conv2d(input, weight, algorithm=algorithm, **options)
            check_conv2d(got, input, weight, algorithm=algorithm, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "out_channels"),
    [((8, 384, 14, 14), 64), ((6, 300, 17, 13), 70), ((7, 64, 56, 56), 20), ((3, 700, 14, 15), 133)],
)
def test_pixels_that_are_fetched_ahead_give_the_same_bits(
    shape: tuple[int, ...], out_channels: int, dtype: Any
) -> None:
    """A batch beyond the caches is fetched ahead, and may take the other orientation than an image alone."""
    batch, weight = values(shape, dtype), values((out_channels, shape[1], 1, 1), dtype, 1)
    bias, add = values((out_channels,), dtype, 2), values((shape[0], out_channels, *shape[2:]), dtype, 3)
    layer = nn.Conv2d.from_weights(weight, bias, activation="relu")
    together = layer(batch, num_threads=1)
    check_conv2d(together[:1], batch[:1], weight, bias, activation="relu")
    assert_same_bits(together, layer(batch, num_threads=3))
    assert_same_bits(together, convpool.conv2d(batch, weight, bias, activation="relu"))
    added = layer(batch, add=add)
    for i in range(0, len(batch), 2):
        assert_same_bits(together[i], layer(batch[i]))
        assert_same_bits(added[i], layer(batch[i], add=add[i]))
