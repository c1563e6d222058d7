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

GENERAL = ("auto", "naive", "im2col", "implicit_gemm")
SPECIAL = ("direct", "winograd", "depthwise")
ACTIVATIONS = (None, "relu", "relu6", "sigmoid", "hardswish", "silu")
MODES = ("zeros", "reflect", "replicate", "circular")


def run(algorithm: str, *args: Any, **options: Any) -> Any:
    """The result of a named algorithm, or None if it says that it can't do the case."""
    if algorithm in GENERAL:
        return convpool.conv2d(*args, algorithm=algorithm, **options)
    try:
        return convpool.conv2d(*args, algorithm=algorithm, **options)
    except ValueError as error:
        if algorithm not in str(error):
            raise
        return None


pairs = (
    st.integers(1, 3)
    | st.tuples(st.integers(1, 3), st.integers(1, 3))
    | st.lists(st.integers(1, 3), min_size=2, max_size=2)
)
paddings = st.one_of(
    st.integers(0, 4),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.tuples(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(0, 4), st.integers(0, 4))
    ),
    st.sampled_from(["valid", "same", "same_lower", "full"]),
)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    group_channels = draw(st.sampled_from([1, 1, 2, 3, 5, 17]))
    channels = groups * group_channels
    out_channels = groups * draw(st.sampled_from([1, 1, 2, 3, 8, 17]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    height, width = draw(st.integers(1, 12)), draw(st.sampled_from([2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33]))
    batch = draw(st.sampled_from([None, 0, 1, 1, 2, 3]))
    return {
        "input": (*(() if batch is None else (batch,)), channels, height, width),
        "weight": (out_channels, group_channels, *kernel),
        "bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from([np.float32, np.float64])),
        "kind": draw(st.sampled_from(["normal", "small", "wide"])),
        "seed": draw(st.integers(0, 99)),
        "forms": draw(st.tuples(*[st.sampled_from(list(FORMS))] * 3)),
        "options": {
            "stride": draw(pairs),
            "padding": draw(paddings),
            "dilation": draw(pairs),
            "groups": groups,
            "padding_mode": draw(st.sampled_from(MODES)),
            "layout": draw(st.sampled_from(["NCHW", "NHWC"])),
        },
        "activation": draw(st.sampled_from(ACTIVATIONS)),
        "algorithm": draw(st.sampled_from(GENERAL + SPECIAL)),
        "num_threads": draw(st.sampled_from([None, 1, 2])),
        "prepared": draw(st.booleans()),
    }


@pytest.mark.usefixtures("isa")
@given(convolutions())
def test_any_convolution_is_the_reference(case: dict[str, Any]) -> None:
    options, activation = case["options"], case["activation"]
    input = to_layout(values(case["input"], case["dtype"], case["seed"], case["kind"]), options["layout"])
    weight = values(case["weight"], case["dtype"], case["seed"] + 1, case["kind"])
    bias = values(case["weight"][:1], case["dtype"], case["seed"] + 2) if case["bias"] else None
    input = FORMS[case["forms"][0]](input)
    weight = FORMS[case["forms"][1]](weight)
    bias = FORMS[case["forms"][2]](bias) if bias is not None else None
    try:
        shape = reference.conv2d_output_shape(input.shape, weight.shape, **options)
    except ValueError:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.conv2d(input, weight, bias, **options)
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.conv2d_output_shape(input.shape, weight.shape, **options)
        return
    assert convpool.conv2d_output_shape(input.shape, weight.shape, **options) == shape
    got = run(
        case["algorithm"],
        input,
        weight,
        bias,
        activation=activation,
        num_threads=case["num_threads"],
        **options,
    )
    if got is None:
        return
    assert got.shape == shape
    assert got.flags.c_contiguous
    assert got.flags.writeable
    check_conv2d(got, input, weight, bias, activation=activation, algorithm=case["algorithm"], **options)
    if case["prepared"]:
        layer = nn.Conv2d.from_weights(
            weight, bias, activation=activation, algorithm=case["algorithm"], **options
        )
        check_conv2d(
            layer(input),
            input,
            weight,
            bias,
            activation=activation,
            algorithm=case["algorithm"],
            **options,
        )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", GENERAL + SPECIAL)
def test_sizes_around_the_vector_widths(algorithm: str, dtype: Any, layout: str) -> None:
    """4, 8 or 16 numbers fill a vector, up to 4 vectors a tile: what is left over must come out right too."""
    widths = [*range(1, 20), 31, 32, 33, 47, 48, 49, 63, 64, 65, 66]
    for width in widths:
        for in_shape, weight_shape, groups in [
            ((1, 2, 4, width), (3, 2, 3, 3), 1),
            ((1, 3, 2, width), (2, 3, 1, 1), 1),
            ((1, width, 3, 5), (2, width, 3, 3), 1),
            ((1, 2, 3, 5), (width, 2, 3, 3), 1),
            ((1, width, 4, 5), (width, 1, 3, 3), width),
        ]:
            input = to_layout(values(in_shape, dtype), layout)
            weight, bias = values(weight_shape, dtype, 1), values(weight_shape[:1], dtype, 2)
            options = {"padding": weight_shape[2] // 2, "groups": groups, "layout": layout}
            got = run(algorithm, input, weight, bias, **options)
            if got is not None:
                check_conv2d(got, input, weight, bias, algorithm=algorithm, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("out_channels", [5, 17, 33])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride"), [(1, 5, 1), (3, 3, 1), (3, 3, 2), (2, 4, 3), (9, 3, 1)]
)
def test_rows_of_many_tiles(
    channels: int, kernel: int, stride: int, out_channels: int, dtype: Any, layout: str
) -> None:
    """Tiles run along a row for a few output channels after the others, from panels and without."""
    input = to_layout(values((2, channels, 7, 230), dtype), layout)
    weight = values((out_channels, channels, kernel, kernel), dtype, 1)
    bias = values((out_channels,), dtype, 2)
    for options in [
        {"padding": kernel // 2},
        {"padding": (1, 0), "activation": "silu"},
        {"padding_mode": "reflect", "padding": 1},
    ]:
        options = {"stride": stride, "layout": layout, **options}
        for algorithm in ("auto", "direct"):
            got = convpool.conv2d(input, weight, bias, algorithm=algorithm, num_threads=1, **options)
            check_conv2d(got, input, weight, bias, algorithm=algorithm, **options)
            again = convpool.conv2d(input, weight, bias, algorithm=algorithm, num_threads=3, **options)
            assert_same_bits(got, again)
            if "activation" not in options:
                add = values(got.shape, dtype, 3)
                added = convpool.conv2d(input, weight, bias, algorithm=algorithm, add=add, **options)
                assert_same_bits(added, got + add)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "out_channels"), [(1, 64), (3, 24), (3, 5)])
def test_whole_tiles_of_padding(kernel: int, out_channels: int, dtype: Any, layout: str) -> None:
    """No tap of a row shows them anything but zeros: beside the image, and between taps far apart."""
    weight = values((out_channels, 8, kernel, kernel), dtype, 1)
    bias = values((out_channels,), dtype, 2)
    for padding, dilation, width in [((0, 140), 1, 8), ((0, 150), (1, 140), 9), ((3, 70), (2, 1), 8)]:
        input = to_layout(values((1, 8, 8, width), dtype), layout)
        options = {"padding": padding, "dilation": dilation, "layout": layout}
        for algorithm in ("auto", "direct"):
            got = convpool.conv2d(input, weight, bias, algorithm=algorithm, **options)
            check_conv2d(got, input, weight, bias, algorithm=algorithm, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
def test_winograd_of_any_kernel(stride: Any, dtype: Any, layout: str) -> None:
    """Pieces of the kernel, phases of the stride and of the dilation, sizes around the tiles'."""
    for kernel in [(1, 2), (2, 2), (3, 3), (4, 1), (4, 4), (5, 2), (7, 3), (1, 9)]:
        for dilation in [1, 2, 3, (1, 2)] if stride == 1 else [1, (3, 1)]:
            for size in [1, 2, 3, 4, 5, 6, 7, 8, 17, 25]:
                input = to_layout(values((2, 5, size, size + 1), dtype), layout)
                weight, bias = values((7, 5, *kernel), dtype, 1), values((7,), dtype, 2)
                options = {"stride": stride, "padding": "full", "dilation": dilation, "layout": layout}
                got = run("winograd", input, weight, bias, **options)
                if got is not None:
                    check_conv2d(got, input, weight, bias, algorithm="winograd", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_winograd_of_few_channels_with_large_strides(dtype: Any, padding_mode: str, layout: str) -> None:
    """Rows that are taken apart by shuffles and one by one, whose parts are phases alone and aren't."""
    for kernel, stride, padding in [
        ((11, 11), 4, 2),
        ((9, 9), (4, 16), 4),
        ((9, 7), (3, 5), 1),
        ((5, 1), (1, 8), 0),
        ((9, 5), 4, 3),
        ((4, 6), 2, 2),
    ]:
        input = to_layout(values((2, 3, 33, 70), dtype), layout)
        weight, bias = values((18, 3, *kernel), dtype, 1), values((18,), dtype, 2)
        options = {"stride": stride, "padding": padding, "padding_mode": padding_mode, "layout": layout}
        got = convpool.conv2d(input, weight, bias, algorithm="winograd", num_threads=2, **options)
        check_conv2d(got, input, weight, bias, algorithm="winograd", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_winograd_of_rows_that_tiles_share(padding_mode: str, layout: str) -> None:
    """Rows of tiles that begin where rows of the last one are, of axes that are transformed and aren't."""
    for kernel, stride, dilation in [
        (3, (4, 1), (2, 1)),
        (3, 1, 1),
        (5, 1, 1),
        (3, 2, 1),
        (4, (1, 2), 1),
        (3, 1, 2),
    ]:
        for rows in (11, 14, 18):
            input = to_layout(values((2, 20, rows, 13), np.float32), layout)
            weight, bias = values((18, 20, kernel, kernel), np.float32, 1), values((18,), np.float32, 2)
            options = {"padding": 2, "stride": stride, "dilation": dilation, "layout": layout}
            options["padding_mode"] = padding_mode
            got = convpool.conv2d(input, weight, bias, algorithm="winograd", **options)
            check_conv2d(got, input, weight, bias, algorithm="winograd", **options)


def test_auto_compares_groups_of_few_channels_with_winograd(isa: str) -> None:
    def chosen(shape: tuple[int, ...], weight_shape: tuple[int, ...], groups: int) -> str:
        layer = nn.Conv2d.from_weights(values(weight_shape, np.float32), padding=1, groups=groups)
        return layer.explain(shape).algorithm

    assert chosen((1, 96, 20, 20), (96, 12, 3, 3), 8) == "winograd"
    fewer = chosen((1, 128, 28, 28), (128, 4, 3, 3), 32)
    assert fewer == ("depthwise" if isa == "avx512" else "direct")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_winograd_of_short_tiles_begins_before_the_padding(padding_mode: str, layout: str) -> None:
    for channels in (3, 20):
        for kernel, stride, dilation in [(3, 1, 1), (3, 1, 2), (5, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 1)]:
            padding = kernel // 2 * dilation
            weight = values((7, channels, kernel, kernel), np.float32, 1)
            for size in range(padding + 1, 12):
                input = to_layout(values((1, channels, size, size + 1), np.float32), layout)
                options = {"padding": padding, "stride": stride, "dilation": dilation, "layout": layout}
                options["padding_mode"] = padding_mode
                got = convpool.conv2d(input, weight, algorithm="winograd", **options)
                check_conv2d(got, input, weight, algorithm="winograd", **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (2, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_winograd_keeps_what_is_not_finite_to_its_windows(
    value: float, kernel: int, stride: int, layout: str
) -> None:
    """One pixel at every place that it can have in a tile."""
    weight = values((7, 20, kernel, kernel), np.float32, 1)
    for y in range(3, 12):
        for x in range(3, 12):
            image = values((1, 20, 19, 23))
            image[0, 4, y, x] = value
            input = to_layout(image, layout)
            got = convpool.conv2d(input, weight, stride=stride, layout=layout, algorithm="winograd")
            seen = convpool.conv2d(input, weight, stride=stride, layout=layout, algorithm="naive")
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(seen))
            np.testing.assert_array_equal(got[np.isinf(seen)], seen[np.isinf(seen)])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("size", "stride"), [((7, 7), 1), ((5, 9), 1), ((14, 14), 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_few_results_of_many_weights(
    batch: int, size: tuple[int, int], stride: int, layout: str, isa: str
) -> None:
    """Along both axes 36 MB, fetched ahead; an image along rows alone with 32 registers or strided planes."""
    input = to_layout(values((batch, 512, *size), np.float32), layout)
    weight, bias = values((512, 512, 3, 3), np.float32, 1), values((512,), np.float32, 2)
    options: dict[str, Any] = {"padding": 1, "stride": stride, "layout": layout}
    layer = convpool.nn.Conv2d.from_weights(weight, bias, **options)
    rows = batch == 1 and (isa in ("avx512", "neon") or (layout == "NCHW" and stride == 2))
    assert ("winograd tile: 1 x 4" in str(layer.explain(input.shape))) == rows
    got = layer(input, num_threads=1)
    check_conv2d(got, input, weight, bias, **options)
    for threads in (2, 3):
        assert_same_bits(layer(input, num_threads=threads), got)
    named = convpool.conv2d(input, weight, bias, **options, algorithm="winograd", num_threads=1)
    check_conv2d(named, input, weight, bias, algorithm="winograd", **options)
    # What worst cases allow is much of 512 channels; their mean is held to what auto promises.
    expected = reference.conv2d(input, weight, bias, **options)
    direct = convpool.conv2d(input, weight, bias, **options, algorithm="direct")
    allowed = 4 * np.sqrt(np.mean((direct - expected) ** 2))
    assert all(np.sqrt(np.mean((each - expected) ** 2)) <= allowed for each in (got, named))
    one = convpool.conv2d(input[:1], weight, bias, **options, algorithm="winograd")
    assert_same_bits(named[:1], one)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_large_blocks_of_tiles_for_many_weights(layout: str) -> None:
    """Weights of 37 MB, which a block of up to 64 tiles reads; two of 48 here."""
    batch = to_layout(values((24, 512, 7, 7), np.float32), layout)
    layer = convpool.nn.Conv2d.from_weights(
        values((512, 512, 3, 3), np.float32, 1), padding=1, layout=layout, algorithm="winograd"
    )
    together = layer(batch, num_threads=1)
    assert_same_bits(layer(batch, num_threads=3), together)
    for i in (0, 11, 12, 23):
        alone = layer(batch[i : i + 1])
        assert_same_bits(alone[0], together[i])
    check_conv2d(alone, batch[23:], layer.weight, algorithm="winograd", padding=1, layout=layout)


@pytest.mark.usefixtures("isa")
def test_short_planes_of_channels_that_crowd_the_caches() -> None:
    """Planes of 1x1 layers beyond the L2 cache are copied, pixels of 4 KB a vector apart."""
    input, bias = values((3, 1024, 7, 7), np.float32), values((520,), np.float32, 2)
    weight = values((520, 1024, 1, 1), np.float32, 1)
    got = convpool.conv2d(input, weight, bias, num_threads=1)
    check_conv2d(got, input, weight, bias)
    assert_same_bits(convpool.conv2d(input, weight, bias, num_threads=2), got)


def test_winograd_says_what_it_cannot_do() -> None:
    for kernel, options in [
        ((1, 1), {}),
        ((3, 3), {"stride": 3, "dilation": 2}),
        ((3, 3), {"stride": 2, "dilation": 2}),
        ((3, 3), {"stride": 17}),
    ]:
        with pytest.raises(ValueError, match="it needs an axis whose stride or dilation is 1"):
            convpool.conv2d(values((1, 2, 40, 40)), values((2, 2, *kernel)), algorithm="winograd", **options)


STEPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "alike": ((3, 3), {"stride": 2, "dilation": 2, "padding": 2}),
    "a common factor": ((3, 2), {"stride": (4, 6), "dilation": (6, 4), "padding": (5, 1)}),
    "an odd padding": ((2, 3), {"stride": 2, "dilation": 4, "padding": 3}),
    "one axis": ((3, 3), {"stride": (2, 1), "dilation": (2, 1), "padding": ((1, 0), (0, 2))}),
    "same": ((3, 3), {"stride": 3, "dilation": 3, "padding": "same"}),
    "a phase of the padding": ((3, 3), {"stride": 16, "dilation": 16, "padding": 17}),
    "another padding mode": ((3, 3), {"stride": 2, "dilation": 2, "padding": 2, "padding_mode": "reflect"}),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [(9, 20, 1), (16, 8, 4), (12, 12, 12), (3, 5, 1)])
@pytest.mark.parametrize("case", STEPS)
def test_strides_and_dilations_with_a_common_factor(case: str, channels: Any, layout: str) -> None:
    """Windows see one phase of the image; images of one and many results in turn through one layer."""
    kernel, options = STEPS[case]
    inputs, outputs, groups = channels
    weight, bias = (
        values((outputs, inputs // groups, *kernel), np.float32, 1),
        values((outputs,), np.float32, 2),
    )
    options = {**options, "groups": groups}
    for algorithm in ("auto", "direct", "implicit_gemm", "winograd"):
        try:
            layer = nn.Conv2d.from_weights(weight, bias, layout=layout, algorithm=algorithm, **options)
            layer(to_layout(values((1, inputs, 40, 40)), layout))
        except ValueError:
            reduced = inputs >= 8 and inputs > groups and case in ("alike", "same", "a phase of the padding")
            if algorithm != "winograd" or reduced:
                raise
            continue
        for size in [(40, 41), (17, 16), (16, 33), (35, 14)]:
            input = values((2, inputs, *size), np.float32)
            got = layer(to_layout(input, layout))
            check_conv2d(
                got, to_layout(input, layout), weight, bias, layout=layout, algorithm=algorithm, **options
            )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("options", [{"stride": 2}, {"stride": (1, 2)}, {"stride": 3}, {"stride": 40}])
def test_one_layer_for_single_and_many_results(options: Any) -> None:
    """The weights of strided layers have one form, whether a step is ever taken or not."""
    weight, bias = values((20, 9, 5, 5), np.float32, 1), values((20,), np.float32, 2)
    sizes = [(64, 64), (5, 5), (5, 64), (64, 6)]
    for algorithm in ("auto", "winograd", "direct"):
        for order in (sizes, sizes[::-1]):
            layer = nn.Conv2d.from_weights(weight, bias, algorithm=algorithm, **options)
            for size in order:
                input = values((3, 9, *size), np.float32)
                try:
                    got = layer(input)
                except ValueError:
                    if (algorithm, options) != ("winograd", {"stride": 40}):
                        raise
                    continue
                check_conv2d(got, input, weight, bias, algorithm=algorithm, **options)


LAYERS = {
    "first layer": ((1, 3, 224, 224), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
    "3x3": ((2, 32, 28, 28), (48, 32, 3, 3), {"padding": 1}),
    "3x3 stride 2": ((1, 32, 56, 56), (64, 32, 3, 3), {"padding": 1, "stride": 2}),
    "1x1": ((1, 128, 28, 28), (64, 128, 1, 1), {}),
    "1x7": ((1, 64, 17, 17), (48, 64, 1, 7), {"padding": (0, 3)}),
    "7x1": ((2, 64, 17, 17), (48, 64, 7, 1), {"padding": (3, 0)}),
    "5x5": ((1, 32, 28, 28), (48, 32, 5, 5), {"padding": 2}),
    "dilation 2": ((1, 64, 33, 33), (64, 64, 3, 3), {"padding": 2, "dilation": 2}),
    "small image": ((1, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    "depthwise": ((1, 64, 56, 56), (64, 1, 5, 5), {"padding": 2, "groups": 64}),
    "multiplier": ((1, 32, 28, 28), (64, 1, 3, 3), {"padding": "same", "groups": 32}),
    "depthwise stride 2": ((1, 40, 30, 57), (40, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 40}),
    "depthwise 7x7 on 7x7": ((2, 33, 7, 7), (33, 1, 7, 7), {"padding": 3, "groups": 33}),
    "depthwise 31x31": ((1, 17, 14, 30), (17, 1, 31, 31), {"padding": 15, "groups": 17}),
    "depthwise dilated": ((1, 32, 29, 28), (32, 1, 3, 5), {"padding": 3, "dilation": (2, 3), "groups": 32}),
    "depthwise, rows far apart": (
        (1, 32, 29, 28),
        (32, 1, 3, 3),
        {"padding": 6, "dilation": 6, "groups": 32},
    ),
    "depthwise, columns far apart": (
        (2, 24, 20, 40),
        (24, 1, 3, 5),
        {"padding": (2, 6), "dilation": (2, 3), "groups": 24},
    ),
    "depthwise, strided and dilated": (
        (1, 24, 41, 40),
        (48, 1, 3, 3),
        {"padding": 2, "dilation": 2, "stride": 2, "groups": 24},
    ),
    "depthwise of two tall planes": ((1, 2, 900, 33), (4, 1, 3, 3), {"padding": (2, 1), "groups": 2}),
    "groups of 4": ((1, 64, 28, 28), (64, 4, 3, 3), {"padding": 1, "groups": 16}),
    "groups of 4, stride 2": ((1, 64, 27, 29), (64, 4, 3, 3), {"padding": 1, "stride": 2, "groups": 16}),
    "groups of 2 to 4": ((1, 24, 15, 20), (48, 2, 5, 5), {"padding": 2, "groups": 12}),
    "dilated": ((1, 32, 33, 33), (32, 32, 3, 3), {"padding": 12, "dilation": 12}),
    "image filter": ((1, 1, 270, 480), (1, 1, 15, 15), {"padding": "same", "padding_mode": "reflect"}),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_networks(name: str, layout: str) -> None:
    in_shape, weight_shape, options = LAYERS[name]
    input, weight = to_layout(values(in_shape), layout), values(weight_shape, seed=1)
    bias = values(weight_shape[:1], seed=2)
    options = {**options, "layout": layout}
    got = convpool.conv2d(input, weight, bias, num_threads=1, activation="relu", **options)
    check_conv2d(got, input, weight, bias, activation="relu", **options)
    for num_threads in (2, 3, 8):
        again = convpool.conv2d(input, weight, bias, num_threads=num_threads, activation="relu", **options)
        assert_same_bits(got, again)
    layer = nn.Conv2d.from_weights(weight, bias, activation="relu", **options)
    prepared = layer(input, num_threads=1)
    check_conv2d(prepared, input, weight, bias, activation="relu", **options)
    assert_same_bits(prepared, layer(input, num_threads=2))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_weights_packed_where_they_are_used(algorithm: str, dtype: Any, layout: str) -> None:
    """With few pixels the functional form packs a part of the weights at a time: several parts of the input
    channels, output channels that don't fill the last vector, groups, images and threads."""
    for in_shape, weight_shape, options in [
        ((1, 300, 7, 7), (50, 300, 3, 3), {"padding": 1}),
        ((3, 300, 5, 6), (33, 300, 3, 3), {"padding": 1}),
        ((1, 130, 9, 9), (40, 65, 3, 3), {"padding": 1, "groups": 2}),
        ((1, 70, 14, 14), (70, 70, 5, 5), {"padding": 2}),
        ((1, 200, 14, 13), (40, 200, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 1500, 1, 3), (17, 1500, 1, 1), {}),
        ((1, 1100, 7, 7), (70, 1100, 1, 1), {}),
        ((1, 33, 32, 32), (65, 33, 3, 3), {"padding": 1}),
    ]:
        if algorithm == "winograd" and weight_shape[2] == 1:
            continue
        input = to_layout(values(in_shape, dtype), layout)
        weight, bias = values(weight_shape, dtype, 1), values(weight_shape[:1], dtype, 2)
        options = {**options, "layout": layout, "algorithm": algorithm}
        got = convpool.conv2d(input, weight, bias, num_threads=1, **options)
        check_conv2d(got, input, weight, bias, **options)
        assert_same_bits(got, convpool.conv2d(input, weight, bias, num_threads=2, **options))
        assert_same_bits(got, nn.Conv2d.from_weights(weight, bias, **options)(input))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("algorithm", GENERAL[1:] + SPECIAL)
@pytest.mark.parametrize("groups", [1, 6])
def test_an_image_gives_the_same_bits_in_any_batch(algorithm: str, groups: int) -> None:
    batch, weight = values((5, 6, 19, 23)), values((12, 6 // groups, 3, 3), seed=1)
    together = run(algorithm, batch, weight, None, 1, 1, 1, groups)
    for i in range(len(batch)):
        alone = run(algorithm, batch[i : i + 1], weight, None, 1, 1, 1, groups)
        if together is not None and alone is not None:
            assert_same_bits(together[i], alone[0])
            assert_same_bits(together[i], run(algorithm, batch[i], weight, None, 1, 1, 1, groups))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("out_channels", [4, 7, 17])
def test_outputs_of_a_single_channel(out_channels: int, dtype: Any, layout: str) -> None:
    for seed, (size, kernel, options) in enumerate(
        [
            ((28, 28), (3, 3), {"padding": 1}),
            ((13, 37), (5, 5), {"padding": 2, "activation": "silu"}),
            ((30, 19), (3, 3), {"stride": 2, "padding": (1, 0)}),
            ((21, 64), (5, 3), {"padding": ((2, 0), (1, 1))}),
            ((17, 33), (7, 7), {"padding": "same"}),
            ((9, 512), (3, 3), {"padding": 1, "padding_mode": "circular"}),
        ]
    ):
        input = to_layout(values((3, 1, *size), dtype, seed), layout)
        weight, bias = values((out_channels, 1, *kernel), dtype, 1), values((out_channels,), dtype, 2)
        options = {"layout": layout, **options}
        got = convpool.conv2d(input, weight, bias, num_threads=1, **options)
        check_conv2d(got, input, weight, bias, **options)
        assert_same_bits(got, convpool.conv2d(input, weight, bias, num_threads=3, **options))
        assert_same_bits(got[1], convpool.conv2d(input[1], weight, bias, **options))


def test_every_call_gives_the_same_bits() -> None:
    input, weight = values((2, 16, 30, 31)), values((24, 16, 3, 3), seed=1)
    first = convpool.conv2d(input, weight, padding=1)
    for _ in range(5):
        assert_same_bits(first, convpool.conv2d(input, weight, padding=1))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("argument", ["input", "weight", "bias"])
def test_any_form_in_memory_gives_what_a_copy_gives(form: str, argument: str) -> None:
    for dtype in (np.float32, np.float64):
        arrays = {
            "input": values((2, 4, 9, 18), dtype),
            "weight": values((6, 4, 3, 3), dtype, 1),
            "bias": values((6,), dtype, 2),
        }
        arrays[argument] = FORMS[form](arrays[argument])
        before = arrays[argument].tobytes()
        got = convpool.conv2d(**arrays, padding=1, stride=(1, 2))
        check_conv2d(got, **arrays, padding=1, stride=(1, 2))
        copies = {name: plain(array) for name, array in arrays.items()}
        np.testing.assert_allclose(
            got, convpool.conv2d(**copies, padding=1, stride=(1, 2)), rtol=1e-4, atol=1e-4
        )
        assert arrays[argument].tobytes() == before


def test_strides_of_axes_of_size_one_mean_nothing() -> None:
    memory = np.arange(400, dtype=np.float32)
    input = np.lib.stride_tricks.as_strided(memory, (1, 1, 5, 6), (7, 13, 24, 4))
    weight = np.lib.stride_tricks.as_strided(memory, (1, 1, 3, 3), (5, 2**40, 12, 4))
    check_conv2d(convpool.conv2d(input, weight), input, weight)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("form", OUT_FORMS)
def test_out_takes_the_result(form: str, layout: str) -> None:
    input, weight, bias = values((2, 5, 9, 18)), values((6, 5, 3, 3), seed=1), values((6,), seed=2)
    input = to_layout(input, layout)
    for algorithm in GENERAL + SPECIAL:
        fresh = run(algorithm, input, weight, bias, padding=1, layout=layout)
        if fresh is None:
            continue
        out = FORMS[form](np.full(fresh.shape, np.nan, np.float32))
        surroundings = out.base.copy() if form in ("every second", "inside a larger one") else None
        result = convpool.conv2d(input, weight, bias, padding=1, layout=layout, algorithm=algorithm, out=out)
        assert result is out
        check_conv2d(result, input, weight, bias, padding=1, layout=layout, algorithm=algorithm)
        if surroundings is not None:
            out[...] = np.nan
            np.testing.assert_array_equal(out.base, surroundings)


def test_out_may_be_another_part_of_the_same_memory() -> None:
    joint = values((1, 6, 8, 8))
    input, out = joint[:, :4], joint[:, 4:]
    before, weight = input.copy(), values((2, 4, 3, 3), seed=1)
    assert convpool.conv2d(input, weight, padding=1, out=out) is out
    check_conv2d(out, before, weight, padding=1)
    interleaved = values((1, 2, 8, 16))
    weight = values((2, 2, 1, 1), seed=1)
    convpool.conv2d(interleaved[..., ::2], weight, out=interleaved[..., 1::2])
    check_conv2d(interleaved[..., 1::2], interleaved[..., ::2], weight)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str | None, dtype: Any) -> None:
    x = np.concatenate(
        [np.linspace(-120, 120, 997), [0.0, -0.0, 3.0, -3.0, 6.0, 1e-30, -1e-30, 1e5, -1e5]]
    ).astype(dtype)
    got = convpool.conv2d(x.reshape(1, 1, -1), np.ones((1, 1, 1, 1), dtype), activation=activation)
    check_conv2d(got, x.reshape(1, 1, -1), np.ones((1, 1, 1, 1), dtype), activation=activation)
    special = np.array([[[np.nan, np.inf, -np.inf]]], dtype)
    got = convpool.conv2d(special, np.ones((1, 1, 1, 1), dtype), activation=activation)
    assert np.isnan(got[0, 0, 0])
    if activation is not None and activation != "sigmoid":
        assert got[0, 0, 1] == (6 if activation == "relu6" else np.inf)
    if activation in ("relu", "relu6", "sigmoid"):
        assert 0 <= got[0, 0, 2] < np.finfo(dtype).tiny


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("padding_mode", MODES)
@pytest.mark.parametrize("algorithm", GENERAL + SPECIAL)
def test_nan_and_inf_reach_the_windows_that_cover_them(algorithm: str, padding_mode: str) -> None:
    for in_shape, weight_shape, groups in [
        ((2, 4, 13, 21), (5, 4, 3, 3), 1),
        ((1, 16, 10, 17), (16, 1, 3, 3), 16),
        ((1, 3, 9, 40), (20, 3, 5, 5), 1),
        ((1, 20, 8, 16), (20, 20, 1, 1), 1),
        ((1, 4, 9, 40), (5, 4, 1, 7), 1),
    ]:
        for layout in ("NCHW", "NHWC"):
            weight = values(weight_shape, seed=1)
            for special in (np.nan, np.inf, -np.inf):
                for position in [(0, 0, 0, 0), (0, 2, 5, 7), (-1, -1, -1, -1), (0, 1, 7, 15)]:
                    input = values(in_shape)
                    input[position] = special
                    input = to_layout(input, layout)
                    options = {
                        "padding": (weight_shape[2] // 2, weight_shape[3] // 2),
                        "groups": groups,
                        "padding_mode": padding_mode,
                    }
                    got = run(algorithm, input, weight, None, layout=layout, **options)
                    if got is None:
                        continue
                    expected = reference.conv2d(input, weight, layout=layout, **options)
                    assert_same_specials(got, expected)


def test_infinities_of_both_signs_make_nan() -> None:
    input = np.ones((1, 5, 9), np.float32)
    input[0, 2, 3], input[0, 2, 5] = np.inf, -np.inf
    for algorithm in GENERAL:
        got = convpool.conv2d(input, np.ones((1, 1, 3, 3), np.float32), algorithm=algorithm)
        expected = reference.conv2d(input, np.ones((1, 1, 3, 3)))
        assert np.isnan(expected).any()
        assert_same_specials(got, expected)


@pytest.mark.usefixtures("isa")
def test_streamed_results_whose_planes_start_anywhere() -> None:
    """Rows of a phase of the dilation start lines, the planes of a group's other outputs don't."""
    batch, weight = values((48, 32, 63, 24)), values((64, 1, 3, 3), seed=1)
    layer = nn.Conv2d.from_weights(weight, None, padding=(2, 1), dilation=(2, 1), groups=32)
    together = layer(batch)
    assert together.nbytes > 12 << 20
    for i in range(0, len(batch), 7):
        assert_same_bits(together[i], layer(batch[i]))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("width", [64, 16, 52, 63])
@pytest.mark.parametrize(
    ("kernel", "dilation", "dtype"),
    [(3, 1, np.float32), (7, 1, np.float32), (3, 3, np.float32), (3, 1, np.float64)],
)
def test_streamed_results_of_winograd(
    layout: Any, width: int, kernel: int, dilation: int, dtype: Any
) -> None:
    """Rows of whole cache lines, of half ones and of any length; tiles of four and of three results, and
    such that interleave; outputs that fill vectors and that don't; a tile that is done again."""
    size = 25 << 20  # is streamed whatever the last cache has
    for outputs in (64, 36):
        images = values((1 + size // (64 * width * outputs * np.dtype(dtype).itemsize), 3, 64, width), dtype)
        images[7, 1, 30, 5] = np.nan
        batch, weight = to_layout(images, layout), values((outputs, 3, kernel, kernel), dtype, 1)
        padding = kernel // 2 * dilation
        layer = nn.Conv2d.from_weights(
            weight, None, padding=padding, dilation=dilation, layout=layout, algorithm="winograd"
        )
        together = layer(batch)
        assert together.nbytes > size
        for i in (0, 7, len(batch) - 1):
            assert_same_bits(together[i], layer(batch[i]))


def test_an_empty_batch_gives_an_empty_result() -> None:
    for algorithm in GENERAL:
        got = convpool.conv2d(np.zeros((0, 3, 8, 9), np.float32), values((4, 3, 3, 3)), algorithm=algorithm)
        assert got.shape == (0, 4, 6, 7)
        assert got.dtype == np.float32


@pytest.mark.usefixtures("isa")
def test_auto_is_about_as_exact_as_the_plain_sum() -> None:
    for in_shape, weight_shape, stride in [
        ((1, 256, 14, 14), (64, 256, 3, 3), 1),
        ((1, 64, 28, 28), (64, 64, 3, 3), 1),
        ((1, 128, 20, 20), (64, 128, 2, 2), 1),
        ((1, 512, 7, 7), (128, 512, 1, 1), 1),
        ((1, 8, 40, 40), (8, 8, 7, 7), 1),
        ((1, 128, 28, 28), (128, 128, 3, 3), 2),
        ((1, 64, 32, 32), (64, 64, 4, 4), 2),
    ]:
        input, weight = values(in_shape), values(weight_shape, seed=1)
        expected = reference.conv2d(input, weight, padding="same", stride=stride)

        error = {}
        for algorithm in ("naive", "auto", "winograd") if weight_shape[2] > 1 else ("naive", "auto"):
            got = convpool.conv2d(input, weight, padding="same", stride=stride, algorithm=algorithm)
            error[algorithm] = np.sqrt(np.mean((got - expected) ** 2))
        assert max(error.values()) <= 4 * error["naive"]


def test_other_libraries_arrays() -> None:
    weight = values((2, 3, 3, 3), seed=1)
    data = values((3, 8, 8))

    class WithArray:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return data

    class WithDLPack:
        def __dlpack__(self, **options: Any) -> Any:
            return data.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return data.__dlpack_device__()

    expected = convpool.conv2d(data, weight)
    for other in (WithArray(), WithDLPack(), memoryview(data), data.view(np.memmap)):
        assert_same_bits(convpool.conv2d(other, weight), expected)


def test_which_isa_ran(isa: str) -> None:
    """A fused multiply-add keeps the product's last bits, two instructions don't: the result tells which ones
    ran.

    (1 + 2**-12)**2 is 1 + 2**-11 + 2**-24, which float32 rounds to 1 + 2**-11; minus 1 that leaves 2**-11,
    fused 2**-11 + 2**-24. It shows when the product is added to a sum that already has the -1, so the two are
    put into every two of 8 channels: kernels sum in different orders.
    """
    results = set()
    for i in range(8):
        for j in range(8):
            if i != j:
                input, weight = np.zeros((8, 4, 32), np.float32), np.ones((16, 8, 1, 1), np.float32)
                input[i], weight[:, i], input[j] = 1 + 2.0**-12, 1 + 2.0**-12, -1
                results.update(np.unique(convpool.conv2d(input, weight, algorithm="implicit_gemm")).tolist())
    separate, fused = 2.0**-11, 2.0**-11 + 2.0**-24
    assert results <= {separate, fused}
    assert (fused in results) == (isa != "sse2")
    assert convpool.show_config(mode="dicts")["isa"] == isa
    assert convpool.isa() == isa
