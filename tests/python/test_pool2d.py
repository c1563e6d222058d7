from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convpool
from arrays import FORMS, OUT_FORMS, to_layout, values
from comparison import assert_same_bits, assert_same_specials, check_avg_pool2d, plain
from convpool import reference
from guarded import guarded_memory, needs_guards


def check_max_pool2d(input: Any, *args: Any, num_threads: int | None = None, **options: Any) -> None:
    """Values and indices must be the reference's to the bit, and the same without indices."""
    expected, expected_indices = reference.max_pool2d(plain(input), *args, return_indices=True, **options)
    alone = convpool.max_pool2d(input, *args, num_threads=num_threads, **options)
    got, indices = convpool.max_pool2d(input, *args, return_indices=True, num_threads=num_threads, **options)
    for result in (alone, got):
        assert result.dtype == expected.dtype
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, expected)  # any NaN for a NaN, either zero for a zero
    assert indices.dtype == np.int64
    assert indices.flags.c_contiguous
    np.testing.assert_array_equal(indices, expected_indices)


pairs = st.one_of(
    st.integers(1, 4),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.lists(st.integers(1, 4), min_size=2, max_size=2),
)


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def paddings(effective: list[int]) -> st.SearchStrategy[Any]:
    """Mostly what the kernel allows, in every form."""
    height, width = (size // 2 for size in effective)
    sides = [st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)) for size in effective]
    return st.one_of(
        st.integers(0, min(height, width)),
        st.tuples(st.integers(0, height), st.integers(0, width)),
        st.tuples(*sides),
        st.sampled_from(["valid", "same", "same_lower", "full"]),
        st.integers(0, 4),
    )


FLOATS = (np.float32, np.float64)
INTEGERS = (np.int8, np.uint8, np.int16, np.int32, np.int64)


@st.composite
def poolings(draw: st.DrawFn, dtypes: tuple[Any, ...] = FLOATS) -> dict[str, Any]:
    batch = draw(st.sampled_from([None, 0, 1, 1, 2]))
    channels = draw(st.sampled_from([1, 1, 2, 3, 4, 9, 17]))
    height, width = draw(st.integers(2, 12)), draw(st.sampled_from([2, 3, 4, 5, 7, 8, 9, 16, 17, 18]))
    kernel, dilation = draw(pairs), draw(st.just(1) | pairs)
    effective = [d * (k - 1) + 1 for k, d in zip(pair(kernel), pair(dilation), strict=True)]
    return {
        "shape": (*(() if batch is None else (batch,)), channels, height, width),
        "kernel_size": kernel,
        "stride": draw(st.none() | st.just(()) | pairs),
        "padding": draw(paddings(effective)),
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
        "layout": draw(st.sampled_from(["NCHW", "NHWC"])),
        "dtype": draw(st.sampled_from(dtypes)),
        "kind": draw(st.sampled_from(["normal", "small", "wide"])),
        "seed": draw(st.integers(0, 99)),
        "form": draw(st.sampled_from(list(FORMS))),
        "specials": draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=6)),
        "num_threads": draw(st.sampled_from([None, 1, 2])),
    }


def prepare(case: dict[str, Any]) -> tuple[Any, tuple[Any, ...] | None]:
    """The input of a case, and the result's shape, or None where the arguments are refused."""
    input = to_layout(values(case["shape"], case["dtype"], case["seed"], case["kind"]), case["layout"])
    args = [case[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    try:
        shape = reference.pool2d_output_shape(input.shape, *args, layout=case["layout"])
    except ValueError:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.pool2d_output_shape(input.shape, *args, layout=case["layout"])
        return input, None
    assert convpool.pool2d_output_shape(input.shape, *args, layout=case["layout"]) == shape
    return input, shape


@pytest.mark.usefixtures("isa")
@given(poolings())
def test_any_max_pooling_is_the_reference(case: dict[str, Any]) -> None:
    input, shape = prepare(case)
    args = [case[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    if shape is None:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.max_pool2d(input, *args, layout=case["layout"])
        return
    if input.size:
        where = np.random.default_rng(case["seed"]).integers(0, input.size, len(case["specials"]))
        input.reshape(-1)[where] = case["specials"]
    with np.errstate(invalid="ignore"):
        input = FORMS[case["form"]](input)
    check_max_pool2d(input, *args, layout=case["layout"], num_threads=case["num_threads"])


@pytest.mark.usefixtures("isa")
@given(
    poolings(),
    st.booleans(),
    st.sampled_from([None, None, 1, 7, -3]),
)
def test_any_average_pooling_is_the_reference(
    case: dict[str, Any], count_include_pad: bool, divisor_override: int | None
) -> None:
    input, shape = prepare(case)
    args = [case[name] for name in ("kernel_size", "stride", "padding", "ceil_mode")]
    args += [count_include_pad, divisor_override]
    options = {"dilation": case["dilation"], "layout": case["layout"]}
    if shape is None:
        with pytest.raises(ValueError, match=r"kernel|padding"):
            convpool.avg_pool2d(input, *args, **options)
        return
    input = FORMS[case["form"]](input)
    got = convpool.avg_pool2d(input, *args, num_threads=case["num_threads"], **options)
    assert got.shape == shape
    assert got.flags.c_contiguous
    check_avg_pool2d(got, input, pair(case["kernel_size"]), *args[1:], **options)
    if input.size:
        input = to_layout(values(case["shape"], case["dtype"], case["seed"]), case["layout"])
        where = np.random.default_rng(case["seed"]).integers(0, input.size, len(case["specials"]))
        input.reshape(-1)[where] = case["specials"]
        assert_same_specials(
            convpool.avg_pool2d(input, *args, **options), reference.avg_pool2d(input, *args, **options)
        )


@pytest.mark.usefixtures("isa")
@given(poolings(INTEGERS), st.booleans())
def test_any_max_pooling_of_integers_is_the_reference(case: dict[str, Any], extreme: bool) -> None:
    _, shape = prepare({**case, "kind": "small"})
    args = [case[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    if shape is None:
        return
    limits = np.iinfo(case["dtype"])
    low, high = (limits.min, limits.min + 2) if extreme else (limits.min, limits.max)
    generator = np.random.default_rng(case["seed"])
    input = to_layout(
        generator.integers(low, high, case["shape"], case["dtype"], endpoint=True), case["layout"]
    )
    input = FORMS[case["form"]](input)
    check_max_pool2d(input, *args, layout=case["layout"], num_threads=case["num_threads"])


@pytest.mark.usefixtures("isa")
@settings(deadline=None)
@given(
    st.data(),
    st.sampled_from([*FLOATS, np.int32]),
    st.sampled_from(["NCHW", "NHWC"]),
    st.integers(0, 99),
)
def test_any_large_window_is_the_reference(data: st.DataObject, dtype: Any, layout: str, seed: int) -> None:
    """Windows of more taps than are taken one by one, along each axis or both."""
    kernel = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    dilation = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    effective = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(data.draw(st.integers(0, size // 2)) for size in effective)
    size = [max(2, e - p + data.draw(st.integers(0, 9))) for e, p in zip(effective, padding, strict=True)]
    input = values(
        (data.draw(st.sampled_from([1, 3])), *size), dtype, seed, "normal" if seed % 2 else "small"
    )
    if dtype in FLOATS and seed % 3 == 0:
        where = np.random.default_rng(seed).integers(0, input.size, 5)
        input.reshape(-1)[where] = [np.nan, np.nan, np.inf, -np.inf, -np.inf]
    input = to_layout(input, layout)
    check_max_pool2d(input, kernel, stride, padding, dilation, layout=layout)
    if dtype in FLOATS:
        options = {"dilation": dilation, "layout": layout}
        got = convpool.avg_pool2d(input, kernel, stride, padding, **options)
        assert_same_specials(got, reference.avg_pool2d(input, kernel, stride, padding, **options))
        if seed % 3:
            check_avg_pool2d(got, input, kernel, stride, padding, **options)


WINDOWS = {
    "2x2": {"kernel_size": 2},
    "3x3 stride 1": {"kernel_size": 3, "stride": 1, "padding": 1},
    "3x3 stride 2": {"kernel_size": 3, "stride": 2, "padding": 1},
    "2x3 stride 1x3": {"kernel_size": (2, 3), "stride": (1, 3)},
    "5x5 stride 1": {"kernel_size": 5, "stride": 1, "padding": 2},
    "ceil": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "dilated": {"kernel_size": 2, "stride": 1, "dilation": 2},
    "3x3 dilated": {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2},
    "3x3 dilated, same size": {"kernel_size": 3, "stride": 1, "padding": 2, "dilation": 2},
    "3x3 padded below": {"kernel_size": 3, "stride": 1, "padding": ((0, 2), (1, 1))},
    "3x3 padded far": {"kernel_size": 3, "stride": 1, "padding": ((2, 2), (1, 1))},
    "3x3 stride 3": {"kernel_size": 3},
    "3x4 stride 4": {"kernel_size": (3, 4), "stride": 4, "padding": 1},
    "5x5 stride 2": {"kernel_size": 5, "stride": 2, "padding": 2},
    "1x5 stride 1x2, padded unevenly": {"kernel_size": (1, 5), "stride": (1, 2), "padding": ((0, 0), (1, 4))},
    "5x5 stride 3": {"kernel_size": 5, "stride": 3, "padding": 2},
    "8x8 stride 8": {"kernel_size": 8, "padding": 4, "ceil_mode": True},
    "3x10 stride 9": {"kernel_size": (3, 10), "stride": (1, 9), "padding": (1, 5)},
    "2x4 dilated, stride 3": {"kernel_size": (2, 4), "stride": 3, "padding": (1, 3), "dilation": 2},
    "1x5": {"kernel_size": (1, 5), "stride": 1, "padding": (0, 2)},
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", WINDOWS)
def test_sizes_around_the_vector_widths(window: str, dtype: Any, layout: str) -> None:
    options = {**WINDOWS[window], "layout": layout}
    for size in [*range(3, 20), 31, 32, 33, 34, 63, 64, 65, 66, 67, 129, 256, 257]:
        for shape in [(1, 5, size), (size, 4, 5)]:
            input = to_layout(values(shape, dtype, kind="small"), layout)
            check_max_pool2d(input, **options)
            check_avg_pool2d(
                convpool.avg_pool2d(input, **options),
                input,
                options["kernel_size"],
                **{k: v for k, v in options.items() if k != "kernel_size"},
            )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 32, 64, 65), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((1, 64, 57, 57), {"kernel_size": 2}),
        ((1, 3, 2000, 40), {"kernel_size": 3, "stride": 1, "padding": 1}),
        ((2, 50, 28, 28), {"kernel_size": 5, "stride": 1, "padding": 2}),
        ((1, 20, 100, 100), {"kernel_size": 5, "stride": 4}),
        ((1, 20, 101, 100), {"kernel_size": 5, "stride": 2, "padding": 1}),
        ((1, 16, 40, 40), {"kernel_size": 13, "stride": 1, "padding": 6}),
        ((1, 3, 100, 90), {"kernel_size": 31, "stride": 1, "padding": 15}),
        ((4, 100, 7, 7), {"kernel_size": 7}),
    ],
)
def test_the_same_bits_for_any_number_of_threads(shape: Any, options: Any, layout: str) -> None:
    input = to_layout(values(shape), layout)
    options = {**options, "layout": layout}
    most, where = convpool.max_pool2d(input, return_indices=True, num_threads=1, **options)
    mean = convpool.avg_pool2d(input, num_threads=1, **options)
    tap_count = pair(options["kernel_size"])
    check_avg_pool2d(mean, input, tap_count, **{k: v for k, v in options.items() if k != "kernel_size"})
    for num_threads in (2, 3, 8):
        again, where_again = convpool.max_pool2d(
            input, return_indices=True, num_threads=num_threads, **options
        )
        assert_same_bits(most, again)
        assert_same_bits(where, where_again)
        assert_same_bits(most, convpool.max_pool2d(input, num_threads=num_threads, **options))
        assert_same_bits(mean, convpool.avg_pool2d(input, num_threads=num_threads, **options))


NARROW: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "two rows to a vector": ((5, 14, 14), 2, {}),
    "an odd row": ((5, 13, 13), 3, {"stride": 2}),
    "padded": ((5, 15, 15), 3, {"stride": 2, "padding": 1}),
    "two vectors to a row": ((5, 29, 31), 3, {"stride": 2, "padding": 1}),
    "a lane beyond one vector": ((5, 17, 17), 5, {"stride": 3}),
    "tall padding": ((5, 6, 7), (8, 3), {"stride": (1, 2), "padding": (4, 1)}),
    "cut windows": ((5, 12, 15), 4, {"stride": 3, "padding": 2, "ceil_mode": True}),
    "dilated": ((5, 16, 15), 3, {"stride": 2, "padding": 1, "dilation": 2}),
    "one result": ((5, 3, 5), 3, {"stride": 2**60}),
    "pairs over planes": ((37, 7, 7), 2, {}),
    "pairs over planes, padded": ((37, 7, 8), 2, {"padding": 1}),
}

# Rows of results that stand one after another before their columns are combined, a few KB of them at a time.
JOINED: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "without gaps": ((24, 33, 33), 3, {}),
    "without gaps, padded": ((24, 30, 31), 3, {"padding": 1}),
    "with gaps": ((130, 17, 17), 5, {"stride": 3}),
    "a gap at the end": ((1, 4, 25), 4, {"stride": 3}),
    "a gap at the end, wider": ((1, 4, 49), 4, {"stride": 3}),
    "with gaps, padded": ((30, 40, 57), 4, {"stride": 2, "padding": 1}),
    "with gaps, an end of their own": ((7, 25, 64), (3, 6), {"stride": (1, 4), "padding": (1, 3)}),
    "half a vector": ((24, 49, 49), 7, {}),
    "a vector and a result": ((24, 12, 35), 2, {}),
    "many columns apart": ((9, 45, 50), 11, {}),
    "two results": ((19, 28, 28), 14, {}),
    "one result, wide": ((19, 30, 30), 20, {"stride": 2**40, "padding": 1}),
    "columns alone": ((40, 9, 25), (2, 1), {}),
    "columns alone, padded": ((40, 9, 25), (3, 1), {"stride": (2, 1), "padding": (1, 0)}),
    "wide rows": ((3, 13, 301), 3, {}),
    "wider than a batch": ((2, 7, 2500), (2, 3), {}),
    "cut windows": ((24, 34, 35), 3, {"ceil_mode": True}),
    "cut windows, padded": ((24, 20, 36), 5, {"stride": 4, "padding": 2, "ceil_mode": True}),
    "dilated": ((24, 20, 70), 3, {"stride": 4, "dilation": 2}),
    "dilated, two columns apart": ((24, 20, 35), (3, 2), {"stride": 2, "dilation": (1, 3)}),
    "dilated, wide": ((2, 20, 241), (2, 3), {"stride": 3, "dilation": 2, "padding": 1}),
    "dilated, many columns apart": ((2, 20, 141), (2, 3), {"stride": (1, 9), "dilation": (1, 2)}),
    "a column apart": ((24, 6, 13), (1, 3), {"stride": 1}),
    "a column apart, padded": ((24, 9, 17), (3, 2), {"stride": 1, "padding": (1, 1)}),
    "a column apart, wide": ((3, 12, 99), 4, {"stride": 1, "padding": 2}),
    "a column apart, dilated": ((3, 13, 90), (2, 5), {"stride": 1, "dilation": (1, 2), "padding": (0, 2)}),
    "a column apart, a plane a task": ((2, 40, 1100), (3, 6), {"stride": 1}),
    "gaps as wide as a batch": ((2, 1, 2017), (1, 3), {"stride": (1, 32), "dilation": (1, 992)}),
    "gaps wider than a vector": ((4, 2, 505), (1, 3), {"stride": (1, 8), "dilation": (1, 248)}),
    "gaps, many columns apart": ((2, 2, 1009), (1, 3), {"stride": (1, 16), "dilation": (1, 496)}),
    "high": ((5, 35, 37), 17, {"stride": 2, "padding": 8}),
    "rows in the padding alone": ((9, 4, 40), (6, 3), {"stride": (2, 3), "padding": ((5, 5), (0, 0))}),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", NARROW)
def test_strided_windows_over_narrow_planes(case: str, dtype: Any) -> None:
    """Several rows of results to a vector, and stores that reach into the rows that come next."""
    shape, kernel_size, options = NARROW[case]
    input = values(shape, dtype)
    check_avg_pool2d(convpool.avg_pool2d(input, kernel_size, **options), input, kernel_size, **options)
    input.reshape(-1)[::17] = np.nan
    input.reshape(-1)[::5] = -np.inf
    check_max_pool2d(input, kernel_size, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("case", JOINED)
def test_strided_windows_in_joined_rows(case: str, dtype: Any) -> None:
    shape, kernel_size, options = JOINED[case]
    input = values(shape, dtype)
    if dtype == np.int32:
        check_max_pool2d(input, kernel_size, **options)
        return
    mean = convpool.avg_pool2d(input, kernel_size, **options)
    check_avg_pool2d(mean, input, kernel_size, **options)
    # Each plane as it is alone, and where planes and rows aren't neighbours; nothing beside it is touched.
    apart = np.empty((*shape[:1], shape[1] + 2, *shape[2:]), dtype)
    apart[:, 1:-1] = input
    alone = convpool.avg_pool2d(input[-1:], kernel_size, **options)
    assert_same_bits(mean[-1:], alone)
    assert_same_bits(convpool.avg_pool2d(apart[:, 1:-1], kernel_size, **options), mean)
    for num_threads in (1, 2):
        memory = np.full((mean.shape[0], mean.shape[1] + 2, mean.shape[2] + 3), 7, dtype)
        out = memory[:, 1:-1, 2:-1]
        convpool.avg_pool2d(input, kernel_size, out=out, num_threads=num_threads, **options)
        assert_same_bits(np.ascontiguousarray(out), mean)
        out[...] = 7
        assert (memory == 7).all()
    without = convpool.avg_pool2d(input, kernel_size, count_include_pad=False, **options)
    check_avg_pool2d(without, input, kernel_size, count_include_pad=False, **options)
    input.reshape(-1)[::17] = np.nan
    input.reshape(-1)[::5] = -np.inf
    check_max_pool2d(input, kernel_size, **options)


# Planes a few columns wide, of which a vector's lanes and more are transposed.
TRANSPOSED: dict[str, tuple[tuple[int, int], Any, dict[str, Any]]] = {
    "halved": ((4, 4), 2, {}),
    "halved, an odd row": ((5, 7), 2, {}),
    "padded": ((7, 6), 2, {"padding": 1}),
    "two rows apart": ((7, 7), 3, {"stride": 2, "padding": 1}),
    "two rows apart, without padding": ((8, 10), 3, {"stride": 2}),
    "separate": ((6, 6), 3, {"padding": 1}),
    "high and separate": ((9, 7), (5, 3), {"stride": (5, 3)}),
    "skipping pixels": ((7, 4), (1, 2), {"stride": 3}),
    "a pixel apart": ((4, 7), (2, 3), {"stride": 1}),
    "keeping their size": ((6, 6), 3, {"stride": 1, "padding": 1}),
    "cut windows": ((8, 9), 3, {"stride": 2, "ceil_mode": True}),
    "windows in the padding alone": (
        (2, 4),
        2,
        {"stride": 1, "dilation": (3, 1), "padding": ((3, 3), (1, 1))},
    ),
    "one result of many columns": ((6, 5), (3, 4), {"stride": (3, 2), "padding": (1, 0)}),
    "tall": ((25, 4), 2, {"stride": 1}),
}


@needs_guards
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", TRANSPOSED)
def test_small_windows_over_many_narrow_planes(case: str, dtype: Any) -> None:
    """Whole groups of planes and a rest, neighbours or not; a channel's results are as if alone."""
    (height, width), kernel_size, options = TRANSPOSED[case]
    with guarded_memory() as place, guarded_memory() as place_out:
        for channels in (8, 16, 67):
            shape = (3, channels, height, width)
            input = values(shape, dtype)
            mean = convpool.avg_pool2d(input, kernel_size, **options)
            check_avg_pool2d(mean, input, kernel_size, **options)
            alone = convpool.avg_pool2d(input[1:2, 3:4], kernel_size, **options)
            assert_same_bits(np.ascontiguousarray(mean[1:2, 3:4]), alone)
            without = convpool.avg_pool2d(input, kernel_size, count_include_pad=False, **options)
            check_avg_pool2d(without, input, kernel_size, count_include_pad=False, **options)
            for at_end in (True, False):
                guarded = place(shape, dtype, at_end)
                guarded[...] = input
                out = place_out(mean.shape, dtype, at_end)
                for num_threads in (1, 2):
                    convpool.avg_pool2d(guarded, kernel_size, out=out, num_threads=num_threads, **options)
                    assert_same_bits(out, mean)
            apart = np.empty((4, channels + 2, height, width), dtype)
            apart[:3, 1:-1] = input
            assert_same_bits(convpool.avg_pool2d(apart[:3, 1:-1], kernel_size, **options), mean)
            input.reshape(-1)[::17] = np.nan
            input.reshape(-1)[::5] = -np.inf
            for num_threads in (1, 2):
                check_max_pool2d(input, kernel_size, num_threads=num_threads, **options)


@needs_guards
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    "case",
    [
        "without gaps",
        "with gaps",
        "a gap at the end",
        "a gap at the end, wider",
        "columns alone",
        "pairs over planes",
    ],
)
def test_joined_rows_stay_inside_their_memory(case: str) -> None:
    shape, kernel_size, options = {**NARROW, **JOINED}[case]
    input = values(shape, np.float32)
    expected = convpool.max_pool2d(input, kernel_size, **options)
    with guarded_memory() as place, guarded_memory() as place_out:
        for at_end in (True, False):
            guarded = place(shape, np.float32, at_end)
            guarded[...] = input
            out = place_out(expected.shape, np.float32, at_end)
            convpool.max_pool2d(guarded, kernel_size, out=out, num_threads=1, **options)
            assert_same_bits(out, expected)


@needs_guards
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("height", [8, 9])
@pytest.mark.parametrize("columns", [6, 7, 10, 14, 15, 28, 34, 35, 46, 56, 61])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 1, 0), (3, 1, 0), ((1, 2), (1, 2), 0)],
)
def test_last_vectors_of_rows_leave_nothing_behind(
    kernel_size: Any, stride: Any, padding: int, columns: int, height: int, dtype: Any
) -> None:
    """Windows that end inside the row: its last vector may run on, but not past what is written later."""
    input = values((2, 3, height, columns), dtype)
    options = {"stride": stride, "padding": padding}
    check_max_pool2d(input, kernel_size, **options)
    check_avg_pool2d(convpool.avg_pool2d(input, kernel_size, **options), input, kernel_size, **options)
    expected = convpool.max_pool2d(input, kernel_size, **options)
    images, planes, rows, width = expected.shape
    for more_planes, more_rows, more_columns in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        memory = np.full((images, planes + more_planes, rows + more_rows, width + more_columns), 7, dtype)
        out = memory[:, :planes, :rows, :width]
        for num_threads in (1, 2, 5):
            convpool.max_pool2d(input, kernel_size, out=out, num_threads=num_threads, **options)
            assert_same_bits(out, expected)
        out[...] = 7
        assert (memory == 7).all()
    with guarded_memory() as place, guarded_memory() as place_out:
        for at_end in (True, False):
            guarded = place(input.shape, dtype, at_end)
            guarded[...] = input
            out = place_out(expected.shape, dtype, at_end)
            convpool.max_pool2d(guarded, kernel_size, out=out, **options)
            assert_same_bits(out, expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "small"])
@pytest.mark.parametrize(
    ("shape", "kernel_size", "options"),
    [
        ((2, 19, 20, 20), 13, {"stride": 1, "padding": 6}),
        ((2, 19, 11, 12), 5, {"stride": 1, "padding": 2}),
        ((33, 14, 14), 2, {}),
        ((33, 13, 13), 3, {"stride": 2}),
        ((33, 9, 20), (3, 4), {"stride": (2, 3), "padding": 1, "ceil_mode": True}),
        ((19, 12, 15), 3, {"stride": 1, "padding": 3, "dilation": 4}),
        ((19, 1, 40), (1, 9), {"stride": 1, "padding": (0, 4)}),
    ],
)
def test_positions_in_small_planes(shape: Any, kernel_size: Any, options: Any, kind: str, dtype: Any) -> None:
    """Many equal values, NaN, and windows without anything above -inf; one and several groups of planes."""
    input = values(shape, dtype, kind=kind)
    check_max_pool2d(input, kernel_size, **options)
    input.reshape(-1)[::29] = np.nan
    input[..., : shape[-1] // 2] = -np.inf
    for num_threads in (1, 3):
        check_max_pool2d(input, kernel_size, num_threads=num_threads, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 5, 5),
        (2, 7, 16),
        (2, 6, 31),
        (2, 90, 24),
        (1, 300, 17),
        (1, 70, 63),
        (1, 40, 64),
        (1, 31, 127),
        (1, 9, 129),
    ],
)
def test_positions_in_planes_that_keep_their_size(
    shape: Any, kernel_size: int, dilation: int, dtype: Any
) -> None:
    """Planes taken as one run in bands of rows: ties, NaN, and windows that hold nothing above -inf."""
    options = {"stride": 1, "padding": kernel_size // 2 * dilation, "dilation": dilation}
    for input in (values(shape, dtype, kind="small"), values(shape, dtype)):
        check_max_pool2d(input, kernel_size, **options)
        input[..., shape[-1] // 2 :] = -np.inf
        input.reshape(-1)[::13] = np.nan
        check_max_pool2d(input, kernel_size, **options)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(9, 310, 301), (2, 9, 701, 130)])
def test_positions_far_apart_in_planes_too_large_to_be_transposed_whole(shape: Any, dtype: Any) -> None:
    """From 64K elements on, input and results, they are for every instruction set and cache."""
    input = values(shape, dtype, kind="small")
    input[..., 40:60, :] = -np.inf
    input.reshape(-1)[::1013] = np.nan
    for window in ((3, 3, 1, 1), (2, 4, 0, 3), ((9, 3), (3, 5), (4, 1), 2), ((12, 3), (3, 5), (4, 1), 1)):
        expected, expected_indices = reference.max_pool2d(input, *window, return_indices=True)
        for num_threads in (1, 2):
            result, indices = convpool.max_pool2d(
                input, *window, return_indices=True, num_threads=num_threads
            )
            np.testing.assert_array_equal(result, expected)
            np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.usefixtures("isa")
def test_rows_of_windows_further_apart_than_any_plane_is_high() -> None:
    far = 2**63
    for threads in (1, 2):
        check_max_pool2d(
            values((1, 16, 4, 9), np.float32),
            kernel_size=(2, 3),
            stride=(far - 2, 3),
            padding=((far - 5, 0), (0, 0)),
            dilation=(far - 3, 1),
            ceil_mode=True,
            num_threads=threads,
        )


# Arrays that pass a last cache of 32 MB; test_runtime.py lets smaller ones pass one of 4 MB.
STREAMED = {
    "whole lines": ((48, 256, 256), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "rows off the lines": ((48, 250, 251), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "stride 2": ((128, 256, 256), {"kernel_size": 2}),
    "overlap, stride 2": ((128, 254, 256), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "small planes": ((16, 96, 56, 56), {"kernel_size": 2, "stride": 1}),
    "narrow planes": ((16, 96, 56, 56), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "narrow planes off the lines": ((16, 250, 35, 35), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "sliding in blocks": ((14, 500, 512), {"kernel_size": 19, "stride": 1, "padding": 9}),
    "positions in two passes": ((5, 96, 100, 100), {"kernel_size": 5, "stride": 1, "padding": 2}),
    "sliding by rows": ((14, 500, 500), {"kernel_size": (5, 9), "stride": 1, "padding": (0, 4)}),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", STREAMED)
def test_large_arrays(case: str, layout: str) -> None:
    """Each plane as it is alone, wherever the result lies, and nothing beside it is touched."""
    shape, options = STREAMED[case]
    options = {**options, "layout": layout}
    input = values(shape, np.float32)
    input.reshape(-1)[::9973] = np.nan
    planes = input.reshape(-1, *shape[-2:])
    expected, expected_indices = convpool.max_pool2d(
        to_layout(planes[:40], layout), return_indices=True, **options
    )
    alone = convpool.avg_pool2d(to_layout(planes[:40], layout), **options)
    input = to_layout(input, layout)

    def first_planes(result: Any) -> Any:
        moved = result if layout == "NCHW" else np.moveaxis(result, -1, -3)
        return moved.reshape(-1, *moved.shape[-2:])[:40]

    def moved(result: Any) -> Any:
        return result if layout == "NCHW" else np.moveaxis(result, -1, -3)

    fresh, indices = convpool.max_pool2d(input, return_indices=True, num_threads=1, **options)
    assert_same_bits(first_planes(fresh), moved(expected))
    assert_same_bits(first_planes(indices), moved(expected_indices))
    again, indices_again = convpool.max_pool2d(input, return_indices=True, num_threads=2, **options)
    assert_same_bits(again, fresh)
    assert_same_bits(indices_again, indices)
    mean = convpool.avg_pool2d(input, num_threads=1, **options)
    np.testing.assert_allclose(first_planes(mean), moved(alone), rtol=1e-5, atol=1e-6)
    for shift in (0, 1, 16):
        memory = np.full(fresh.size + 64, 7, np.float32)
        begin = -memory.ctypes.data % 64 // 4 + shift
        out = memory[begin : begin + fresh.size].reshape(fresh.shape)
        for num_threads in (1, 2):
            convpool.max_pool2d(input, out=out, num_threads=num_threads, **options)
            assert_same_bits(out, fresh)
            convpool.avg_pool2d(input, out=out, num_threads=num_threads, **options)
            assert_same_bits(out, mean)
        assert (memory[:begin] == 7).all()
        assert (memory[begin + fresh.size :] == 7).all()


@needs_guards
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_beside_the_input_is_read(dtype: Any) -> None:
    with guarded_memory() as place:
        for width in [*range(5, 37), 63, 64, 65, 66, 67, 129, 256]:
            for layout, shape in (("NCHW", (2, 6, width)), ("NHWC", (6, 5, width))):
                for at_end in (False, True):
                    input = place(shape, dtype, at_end)
                    input[...] = 1
                    for window in WINDOWS.values():
                        convpool.max_pool2d(input, layout=layout, **window)
                        convpool.max_pool2d(input, layout=layout, return_indices=True, **window)
                        convpool.avg_pool2d(input, layout=layout, **window)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel", [3, 5])
def test_averages_have_the_same_bits_in_any_batch(kernel: int) -> None:
    """Those beyond the caches are computed row by row, those of one image over the ends of rows."""
    images = np.concatenate([values((1, 8, 96, 100), seed=seed) for seed in range(4)] * 33)
    options: dict[str, Any] = {"kernel_size": kernel, "stride": 1, "padding": kernel // 2}
    together = convpool.avg_pool2d(images, **options)
    for n in range(4):
        assert_same_bits(together[n : n + 1], convpool.avg_pool2d(images[n : n + 1], **options))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
def test_small_planes_with_large_windows(dtype: Any) -> None:
    """As many planes as a vector has lanes go together: one more of them, and one less."""
    for channels in (1, 3, 4, 5, 8, 9, 15, 16, 17, 33):
        for size, options in (
            ((9, 11), {"kernel_size": 9, "stride": 1, "padding": 4}),
            ((13, 8), {"kernel_size": (5, 4), "stride": (1, 2), "padding": (2, 1)}),
            ((14, 14), {"kernel_size": 7, "stride": 1}),
        ):
            input = values((2, channels, *size), dtype, seed=channels)
            input[1, channels // 2, 4, 5] = np.nan
            check_max_pool2d(input, **options)
            got = convpool.avg_pool2d(input, **options)
            assert_same_specials(got, reference.avg_pool2d(input, **options))
            one, two = (convpool.avg_pool2d(input, num_threads=n, **options) for n in (1, 2))
            assert_same_bits(one, two)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
def test_windows_around_the_vector_width_along_a_row(dtype: Any) -> None:
    for taps in (8, 9, 11, 15, 16, 17, 31, 33, 48, 51, 64, 65, 129):
        for width in (taps, taps + 15):
            input = values((1, 3, width), dtype, seed=taps, kind="small")
            for options in (
                {"kernel_size": (1, taps), "stride": 1, "padding": (0, taps // 2)},
                {"kernel_size": (2, taps), "stride": 1},
            ):
                check_max_pool2d(input, **options)
                check_avg_pool2d(
                    convpool.avg_pool2d(input, **options),
                    input,
                    options["kernel_size"],
                    **{k: v for k, v in options.items() if k != "kernel_size"},
                )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_whole_plane_has_one_sum_wherever_it_stands(dtype: Any) -> None:
    for size in (1, 2, 3, 4, 5, 7, 8, 14, 16):
        plane = values((1, size, size), dtype, seed=size)
        alone = convpool.avg_pool2d(plane, size)
        for channels in (2, 3, 4, 7, 8, 9, 15, 16, 17, 35):
            together = convpool.avg_pool2d(np.repeat(plane, channels, axis=0), size)
            assert_same_bits(together, np.repeat(alone, channels, axis=0))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_large_windows(layout: str) -> None:
    input = values((2, 40, 45), seed=3)
    input[0, 20, 22], input[1, 3, 44] = np.nan, np.inf
    input = to_layout(input, layout)
    for options in (
        {"kernel_size": 21, "stride": 1, "padding": 10},
        {"kernel_size": (40, 45)},
        {"kernel_size": (1, 33)},
    ):
        check_max_pool2d(input, layout=layout, **options)
        got = convpool.avg_pool2d(input, layout=layout, **options)
        assert_same_specials(got, reference.avg_pool2d(input, layout=layout, **options))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_ties_take_the_lowest_index_and_nan_the_last(layout: str) -> None:
    for dtype in (np.float32, np.float64):
        for window in WINDOWS.values():
            for seed in range(4):
                input = np.random.default_rng(seed).integers(0, 2, (2, 9, 37)).astype(dtype)
                check_max_pool2d(to_layout(input, layout), layout=layout, **window)
                input[input == 1] = np.nan
                check_max_pool2d(to_layout(input, layout), layout=layout, **window)
                input[input == 0] = -np.inf
                check_max_pool2d(to_layout(input, layout), layout=layout, **window)


def test_minus_infinity_alone_gives_the_first_position_inside() -> None:
    values_, indices = convpool.max_pool2d(np.full((1, 3, 3), -np.inf), 2, 1, 1, return_indices=True)
    assert (values_ == -np.inf).all()
    assert indices.tolist() == [[[0, 0, 1, 2], [0, 0, 1, 2], [3, 3, 4, 5], [6, 6, 7, 8]]]


def test_divisor_rules() -> None:
    """The last window of each axis reaches one beyond the padding, which no rule counts."""
    input = np.ones((1, 4, 4))
    args = (3, 2, 1, True)
    assert convpool.avg_pool2d(input, *args)[0].tolist() == reference.avg_pool2d(input, *args)[0].tolist()
    np.testing.assert_allclose(
        convpool.avg_pool2d(input, *args)[0], np.outer([2 / 3, 1, 1 / 2], [2 / 3, 1, 1 / 2]), rtol=1e-15
    )
    np.testing.assert_allclose(convpool.avg_pool2d(input, *args, False), np.ones((1, 3, 3)), rtol=1e-15)
    np.testing.assert_allclose(
        convpool.avg_pool2d(input, *args, True, 2)[0], np.outer([2, 3, 1], [2, 3, 1]) / 2, rtol=1e-15
    )


def test_an_average_does_not_drift_after_a_large_value() -> None:
    input = np.ones((1, 1, 4000), np.float32)
    input[0, 0, 5] = 1e7
    got = convpool.avg_pool2d(input, (1, 9), 1)
    assert (got[0, 0, 6:] == 1).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_form_in_memory_gives_what_a_copy_gives(form: str, layout: str) -> None:
    for dtype in (np.float32, np.float64):
        input = FORMS[form](to_layout(values((2, 5, 9, 18), dtype), layout))
        for window in WINDOWS.values():
            copy = plain(input)
            assert_same_bits(
                convpool.max_pool2d(input, layout=layout, **window),
                convpool.max_pool2d(copy, layout=layout, **window),
            )
            np.testing.assert_allclose(
                convpool.avg_pool2d(input, layout=layout, **window),
                convpool.avg_pool2d(copy, layout=layout, **window),
                rtol=1e-5,
                atol=1e-6,
            )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("form", OUT_FORMS)
def test_out_takes_the_result(form: str, layout: str) -> None:
    input = to_layout(values((2, 5, 9, 18)), layout)
    for window in WINDOWS.values():
        fresh, indices = convpool.max_pool2d(input, layout=layout, return_indices=True, **window)
        out = FORMS[form](np.full(fresh.shape, np.nan, np.float32))
        assert convpool.max_pool2d(input, layout=layout, out=out, **window) is out
        np.testing.assert_array_equal(out, fresh)
        out[...] = np.nan
        result, again = convpool.max_pool2d(input, layout=layout, out=out, return_indices=True, **window)
        assert result is out
        np.testing.assert_array_equal(out, fresh)
        assert_same_bits(again, indices)
        out[...] = np.nan
        assert convpool.avg_pool2d(input, layout=layout, out=out, **window) is out
        np.testing.assert_allclose(
            out, reference.avg_pool2d(input, layout=layout, **window), rtol=1e-5, atol=1e-6
        )


def test_an_empty_batch_gives_an_empty_result() -> None:
    input = np.zeros((0, 3, 8, 9), np.float32)
    most, indices = convpool.max_pool2d(input, 2, return_indices=True)
    assert most.shape == indices.shape == convpool.avg_pool2d(input, 2).shape == (0, 3, 4, 4)
    assert indices.dtype == np.int64
