"""Wrong calls: which exception, and that its message names the argument, what it got, and what would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import convpool
from convpool import nn

X = np.zeros((1, 4, 8, 9), np.float32)
W = np.zeros((6, 4, 3, 3), np.float32)
B = np.zeros(6, np.float32)
READ_ONLY = np.zeros((1, 6, 6, 7), np.float32)
READ_ONLY.flags.writeable = False


def conv(input: Any = X, weight: Any = W, *args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: convpool.conv2d(input, weight, *args, **options)


def most(input: Any = X, kernel_size: Any = 3, *args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: convpool.max_pool2d(input, kernel_size, *args, **options)


def mean(input: Any = X, kernel_size: Any = 3, *args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: convpool.avg_pool2d(input, kernel_size, *args, **options)


# what is called, the exception, and what its message must contain
CASES: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    # steps and sizes
    "stride 0": (conv(stride=0), ValueError, ["stride", "0", "at least 1"]),
    "stride -1": (conv(stride=(1, -1)), ValueError, ["stride", "-1", "at least 1"]),
    "stride True": (conv(stride=True), TypeError, ["stride", "True", "bool", "write 1"]),
    "stride np.True_": (conv(stride=np.True_), TypeError, ["stride", "True", "write 1"]),
    "stride with a bool": (conv(stride=(1, False)), TypeError, ["stride", "False", "bool"]),
    "stride 2.0": (conv(stride=2.0), TypeError, ["stride", "2.0", "float", "write 2"]),
    "stride 1.5": (conv(stride=1.5), TypeError, ["stride", "1.5", "int or a pair (height, width)"]),
    "stride inf": (conv(stride=float("inf")), TypeError, ["stride", "inf"]),
    "stride nan": (conv(stride=(float("nan"), 1)), TypeError, ["stride", "nan"]),
    "stride None": (conv(stride=None), TypeError, ["stride", "None"]),
    "stride str": (conv(stride="2"), TypeError, ["stride", "'2'", "str"]),
    "stride of three": (conv(stride=(1, 1, 1)), ValueError, ["stride", "(1, 1, 1)", "pair"]),
    "stride of none": (conv(stride=()), ValueError, ["stride", "()", "pair"]),
    "stride nested": (conv(stride=((1, 1), (1, 1))), ValueError, ["stride", "((1, 1), (1, 1))", "pair"]),
    "stride a set": (conv(stride={1, 2}), TypeError, ["stride", "{1, 2}", "set"]),
    "stride a float array": (conv(stride=np.array([1.0, 2.0])), TypeError, ["stride", "1.0"]),
    "stride 2^63": (conv(stride=2**63), ValueError, ["stride", str(2**63), "64 bits"]),
    "dilation 0": (conv(dilation=0), ValueError, ["dilation", "0", "at least 1"]),
    "dilation 2^62": (conv(dilation=2**62), ValueError, ["dilation", str(2**62)]),
    "dilation 2^62, full": (conv(dilation=2**62, padding="full"), ValueError, ["dilation", str(2**62)]),
    "dilation 2^64": (conv(dilation=(1, 2**64)), ValueError, ["dilation", str(2**64), "64 bits"]),
    "kernel too large": (
        conv(weight=np.zeros((6, 4, 9, 3), np.float32)),
        ValueError,
        ["kernel", "9", "height of 8", "padding"],
    ),
    "dilated kernel too large": (
        conv(dilation=(1, 5)),
        ValueError,
        ["kernel", "dilation", "11", "width of 9"],
    ),
    # padding
    "padding -1": (conv(padding=-1), ValueError, ["padding", "-1", "negative"]),
    "padding True": (conv(padding=True), TypeError, ["padding", "True", "bool"]),
    "padding 0.5": (conv(padding=0.5), TypeError, ["padding", "0.5", "((top, bottom), (left, right))"]),
    "padding None": (conv(padding=None), TypeError, ["padding", "None"]),
    "padding flat": (
        conv(padding=(1, 2, 3, 4)),
        ValueError,
        ["padding", "(1, 2, 3, 4)", "padding=((1, 2), (3, 4))", "(top, bottom, left, right)"],
    ),
    "padding flat list": (
        conv(padding=[1, 2, 3, 4]),
        ValueError,
        ["[1, 2, 3, 4]", "padding=((1, 2), (3, 4))"],
    ),
    "padding flat, pooling": (most(padding=(0, 1, 0, 1)), ValueError, ["padding=((0, 1), (0, 1))"]),
    "padding of three": (conv(padding=(1, 2, 3)), ValueError, ["padding", "(1, 2, 3)"]),
    "padding half nested": (conv(padding=((1, 1), 2)), ValueError, ["padding", "((1, 1), 2)"]),
    "padding deep": (conv(padding=((1, 1, 1), (1, 1))), ValueError, ["padding", "((1, 1, 1), (1, 1))"]),
    "padding nested float": (conv(padding=((1, 1.0), (1, 1))), TypeError, ["padding", "1.0"]),
    "padding name": (
        conv(padding="smae"),
        ValueError,
        ["padding", "'smae'", "'same_lower'", "did you mean 'same'"],
    ),
    "padding name case": (conv(padding="VALID"), ValueError, ["padding", "'VALID'", "did you mean 'valid'"]),
    "padding 2^62": (conv(padding=2**62), ValueError, [str(2**62)]),
    "padding 2^62 pair": (conv(padding=(2**62, 0)), ValueError, [str(2**62)]),
    "padding 2^63 - 1": (conv(padding=((2**63 - 1, 0), (0, 0))), ValueError, [str(2**63 - 1)]),
    "padding 2^70": (conv(padding=2**70), ValueError, ["padding", str(2**70), "64 bits"]),
    "padding 2^31 makes too much": (conv(padding=2**31), (ValueError, MemoryError), []),
    "reflect too far": (
        conv(padding=8, padding_mode="reflect"),
        ValueError,
        ["padding", "8", "reflect", "at most 7"],
    ),
    "circular too far": (
        conv(padding=(0, 10), padding_mode="circular"),
        ValueError,
        ["padding", "10", "circular", "at most 9"],
    ),
    "pool padding over half": (most(padding=2), ValueError, ["padding", "2", "half", "kernel", "at most 1"]),
    "pool padding over half, mean": (mean(padding=(0, 2)), ValueError, ["padding", "2", "half", "at most 1"]),
    "pool padding nested too large": (
        most(padding=((3, 0), (0, 0))),
        ValueError,
        ["padding", "3", "kernel", "at most 2"],
    ),
    # names and switches
    "padding_mode": (
        conv(padding_mode="zero"),
        ValueError,
        ["padding_mode", "'zero'", "did you mean 'zeros'"],
    ),
    "padding_mode None": (conv(padding_mode=None), TypeError, ["padding_mode", "None", "'reflect'"]),
    "layout": (conv(layout="nchw"), ValueError, ["layout", "'nchw'", "did you mean 'NCHW'"]),
    "layout other": (most(layout="CHWN"), ValueError, ["layout", "'CHWN'", "'NHWC'"]),
    "activation": (conv(activation="gelu"), ValueError, ["activation", "'gelu'", "'hardswish'"]),
    "activation function": (conv(activation=np.tanh), TypeError, ["activation", "ufunc", "'relu'"]),
    "algorithm": (conv(algorithm="gemm"), ValueError, ["algorithm", "'gemm'", "'implicit_gemm'"]),
    "depthwise of a dense one": (conv(algorithm="depthwise"), ValueError, ["depthwise"]),
    "ceil_mode 1": (most(ceil_mode=1), TypeError, ["ceil_mode", "1", "True or False"]),
    "mean with max's order": (mean(X, 3, 1, 0, 2), TypeError, ["ceil_mode", "2"]),
    "return_indices": (most(return_indices=None), TypeError, ["return_indices", "None"]),
    "count_include_pad": (mean(count_include_pad="no"), TypeError, ["count_include_pad", "'no'"]),
    # channels and groups
    "groups 0": (conv(groups=0), ValueError, ["groups", "0", "at least 1"]),
    "groups 3": (conv(groups=3), ValueError, ["groups", "3", "C=4"]),
    "groups 4": (conv(groups=4), ValueError, ["groups", "4", "6"]),
    "groups True": (conv(groups=True), TypeError, ["groups", "True", "bool"]),
    "groups a pair": (conv(groups=(1, 1)), TypeError, ["groups", "(1, 1)", "an int"]),
    "channels": (
        conv(weight=np.zeros((6, 3, 3, 3), np.float32)),
        ValueError,
        ["weight", "(6, 3, 3, 3)", "C=4"],
    ),
    "channels of groups": (conv(groups=2), ValueError, ["weight", "(6, 4, 3, 3)", "groups=2", "8"]),
    # shapes of arrays
    "input of two axes": (conv(input=X[0, 0]), ValueError, ["input", "(8, 9)"]),
    "input of five axes": (conv(input=X[None]), ValueError, ["input", "(1, 1, 4, 8, 9)"]),
    "input of no axes": (conv(input=np.float32(1)), ValueError, ["input", "()"]),
    "weight of three axes": (conv(weight=W[0]), ValueError, ["weight", "(4, 3, 3)"]),
    "bias of another length": (conv(bias=B[:5]), ValueError, ["bias", "5", "6"]),
    "bias of two axes": (conv(bias=B[:, None]), ValueError, ["bias", "(6, 1)"]),
    "no channels": (conv(input=X[:, :0], weight=W[:, :0]), ValueError, ["channels"]),
    "no rows": (conv(input=X[:, :, :0]), ValueError, ["input", "empty"]),
    "no output channels": (conv(weight=W[:0]), ValueError, ["weight", "output channels"]),
    "no kernel": (conv(weight=W[..., :0]), ValueError, ["weight", "(6, 4, 3, 0)"]),
    "pooling no channels": (most(input=X[:, :0]), ValueError, ["input", "0"]),
    "pooling two axes": (mean(input=X[0, 0]), ValueError, ["input", "(8, 9)"]),
    "pool kernel 0": (most(kernel_size=0), ValueError, ["kernel_size", "0", "at least 1"]),
    "pool kernel too large": (mean(kernel_size=(3, 10)), ValueError, ["kernel_size", "10", "width of 9"]),
    "pool kernel None": (most(kernel_size=None), TypeError, ["kernel_size", "None"]),
    "pool kernel 2^62": (most(kernel_size=2**62, dilation=3), ValueError, ["kernel", "64 bits", "smaller"]),
    "pool stride 0": (most(stride=0), ValueError, ["stride", "0", "at least 1"]),
    "divisor 0": (mean(divisor_override=0), ValueError, ["divisor_override", "0"]),
    "divisor 1.5": (mean(divisor_override=1.5), TypeError, ["divisor_override", "1.5", "int or None"]),
    "divisor True": (mean(divisor_override=True), TypeError, ["divisor_override", "True"]),
    # dtypes and kinds of arrays
    "mixed dtypes": (
        conv(weight=W.astype(np.float64)),
        TypeError,
        ["same dtype", "input float32", "weight float64", "astype"],
    ),
    "mixed bias": (conv(bias=B.astype(np.float64)), TypeError, ["input float32", "bias float64"]),
    "integers": (
        conv(input=X.astype(np.int64)),
        TypeError,
        ["input", "float32 or float64", "int64", "astype"],
    ),
    "half": (conv(weight=W.astype(np.float16)), TypeError, ["weight", "float16"]),
    "complex": (most(input=X.astype(np.complex64)), TypeError, ["input", "complex64"]),
    "objects": (mean(input=X.astype(object)), TypeError, ["input", "object"]),
    "booleans": (most(input=X > 0), TypeError, ["input", "bool"]),
    "a list": (conv(input=X.tolist()), TypeError, ["input", "list", "np.asarray(input"]),
    "a float": (conv(weight=1.0), TypeError, ["weight", "float"]),
    "no array": (conv(bias="bias"), TypeError, ["bias", "str"]),
    "None": (most(input=None), TypeError, ["input", "NoneType"]),
    "masked": (conv(input=np.ma.masked_equal(X, 0)), TypeError, ["input", "masked", "filled"]),
    # out and threads
    "out dtype": (conv(out=np.zeros((1, 6, 6, 7))), TypeError, ["out", "float32", "float64"]),
    "out shape": (
        conv(out=np.zeros((1, 6, 6, 6), np.float32)),
        ValueError,
        ["out", "(1, 6, 6, 6)", "(1, 6, 6, 7)"],
    ),
    "out without batch": (conv(out=np.zeros((6, 6, 7), np.float32)), ValueError, ["out", "(6, 6, 7)"]),
    "out read-only": (conv(out=READ_ONLY), ValueError, ["out", "read-only", "copy"]),
    "out a list": (conv(out=[]), TypeError, ["out", "list"]),
    "out byte order": (conv(out=np.zeros((1, 6, 6, 7), ">f4")), TypeError, ["out", ">f4"]),
    "out is input": (conv(weight=W[:4, :, :1, :1], out=X), ValueError, ["out", "input", "share memory"]),
    "out is weight": (
        conv(input=W[:1], weight=W, padding=1, out=W.reshape(-1)[:54].reshape(1, 6, 3, 3)),
        ValueError,
        ["out", "share memory", "input"],
    ),
    "out overlaps itself": (
        conv(out=np.lib.stride_tricks.as_strided(np.zeros(7, np.float32), (1, 6, 6, 7), (0, 0, 0, 4))),
        ValueError,
        ["out"],
    ),
    "pool out is input": (most(kernel_size=1, out=X), ValueError, ["out", "input", "share memory"]),
    "pool out shape": (mean(out=np.zeros((4, 2, 3), np.float32)), ValueError, ["out", "(4, 2, 3)"]),
    "threads 0": (conv(num_threads=0), ValueError, ["num_threads", "0", "at least 1"]),
    "threads -2": (most(num_threads=-2), ValueError, ["num_threads", "-2"]),
    "threads 1.0": (mean(num_threads=1.0), TypeError, ["num_threads", "1.0"]),
    "set threads 0": (lambda: convpool.set_num_threads(0), ValueError, ["n ", "0", "at least 1"]),
    "set threads None": (lambda: convpool.set_num_threads(None), TypeError, ["n ", "None"]),
    # shapes without arrays
    "shape an int": (lambda: convpool.conv2d_output_shape(3, (1, 1, 1, 1)), TypeError, ["input_shape", "3"]),
    "shape with a float": (
        lambda: convpool.conv2d_output_shape((1, 4.0, 4), (1, 1, 1, 1)),
        TypeError,
        ["input_shape[1]", "4.0"],
    ),
    "shape negative": (lambda: convpool.pool2d_output_shape((1, -4, 4), 1), ValueError, ["input", "-4"]),
    "shape of two": (lambda: convpool.pool2d_output_shape((4, 4), 1), ValueError, ["input_shape", "(4, 4)"]),
    "weight shape of three": (
        lambda: convpool.conv2d_output_shape((1, 4, 4), (1, 1, 1)),
        ValueError,
        ["weight_shape", "(1, 1, 1)"],
    ),
    "shape beyond memory": (
        lambda: convpool.conv2d_output_shape((2**40, 1, 2**20, 2**20), (1, 1, 1, 1)),
        ValueError,
        [str(2**40)],
    ),
    "config mode": (lambda: convpool.show_config("yaml"), ValueError, ["mode", "'yaml'", "'dicts'"]),
    # layers
    "layer channels 0": (lambda: nn.Conv2d(0, 1, 3), ValueError, ["in_channels", "0"]),
    "layer groups": (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, ["groups", "out_channels = 6", "4"]),
    "layer stride": (lambda: nn.Conv2d(4, 6, 3, stride=0), ValueError, ["stride", "0"]),
    "layer kernel": (lambda: nn.Conv2d(4, 6, (3, 0)), ValueError, ["kernel_size", "(3, 0)"]),
    "layer padding": (lambda: nn.Conv2d(4, 6, 3, padding=-1), ValueError, ["padding", "-1"]),
    "layer flat padding": (
        lambda: nn.Conv2d(4, 6, 3, padding=(1, 1, 1, 1)),
        ValueError,
        ["((1, 1), (1, 1))"],
    ),
    "layer dilation": (lambda: nn.Conv2d(4, 6, 3, dilation=2**62), ValueError, [str(2**62)]),
    "layer bias": (lambda: nn.Conv2d(4, 6, 3, bias=1), TypeError, ["bias", "1", "True or False"]),
    "layer dtype": (lambda: nn.Conv2d(4, 6, 3, dtype="float16"), TypeError, ["dtype", "float16", "float32"]),
    "layer dtype None": (lambda: nn.Linear(4, 6, dtype=None), TypeError, ["dtype", "None"]),
    "layer input": (lambda: nn.Conv2d(3, 6, 3)(X), ValueError, ["(6, 3, 3, 3)", "C=4"]),
    "layer input dtype": (
        lambda: nn.Conv2d(4, 6, 3)(X.astype(np.float64)),
        TypeError,
        ["input float64", "weight float32"],
    ),
    "from_weights dtypes": (
        lambda: nn.Conv2d.from_weights(W, B.astype(np.float64)),
        TypeError,
        ["weight float32", "bias float64"],
    ),
    "from_weights shape": (lambda: nn.Conv2d.from_weights(W[0]), ValueError, ["weight", "(4, 3, 3)"]),
    "from_weights bias": (lambda: nn.Conv2d.from_weights(W, B[:2]), ValueError, ["bias", "2", "6"]),
    "from_weights algorithm": (
        lambda: nn.Conv2d.from_weights(W, algorithm="depthwise")(X),
        ValueError,
        ["depthwise"],
    ),
    "pool layer": (lambda: nn.MaxPool2d(3, padding=2), ValueError, ["padding", "2", "half"]),
    "pool layer stride": (lambda: nn.AvgPool2d(3, stride=-1), ValueError, ["stride", "-1"]),
    "linear input": (lambda: nn.Linear(4, 2)(X), ValueError, ["input", "4", "(1, 4, 8, 9)"]),
    "flatten": (lambda: nn.Flatten(2, 1)(X), ValueError, ["start_dim=2", "end_dim=1"]),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_call(name: str) -> None:
    call, kind, parts = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) in ((kind,) if isinstance(kind, type) else kind)
    for part in parts:
        assert part in message, message


def test_a_misaligned_out_is_refused() -> None:
    out = np.zeros(6 * 6 * 7 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(1, 6, 6, 7)
    with pytest.raises(ValueError, match="out must be aligned"):
        convpool.conv2d(X, W, out=out)


def test_an_object_with_an_objection_of_its_own() -> None:
    class Elsewhere:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("the data is on another device")

    with pytest.raises(TypeError, match=r"input .* Elsewhere: the data is on another device"):
        convpool.conv2d(Elsewhere(), W)


def test_a_refused_call_leaves_out_alone() -> None:
    out = np.full((1, 6, 6, 7), 7, np.float32)
    with pytest.raises(ValueError, match="stride"):
        convpool.conv2d(X, W, stride=0, out=out)
    assert (out == 7).all()


def test_after_an_error_the_next_call_works() -> None:
    for _ in range(3):
        with pytest.raises((ValueError, MemoryError)):
            convpool.conv2d(X, W, padding=2**31)
        assert convpool.conv2d(X, W).shape == (1, 6, 6, 7)


def test_every_spelling_of_a_pair() -> None:
    x = np.random.default_rng(0).standard_normal((1, 4, 8, 9)).astype(np.float32)
    expected = convpool.conv2d(x, W + 1, stride=(2, 2), padding=((1, 1), (1, 1)))
    for two in (
        2,
        (2,),
        [2],
        (2, 2),
        [2, 2],
        np.int8(2),
        np.array(2),
        np.array([2]),
        np.array([2, 2], np.uint8),
    ):
        np.testing.assert_array_equal(convpool.conv2d(x, W + 1, stride=two, padding=1), expected)
    for one in (
        1,
        (1,),
        [1, 1],
        ((1, 1), (1, 1)),
        [[1, 1], [1, 1]],
        np.ones((2, 2), int),
        (np.array([1, 1]), [1, 1]),
    ):
        np.testing.assert_array_equal(convpool.conv2d(x, W + 1, stride=2, padding=one), expected)
    expected = convpool.max_pool2d(x, 3, 3)
    for stride in (None, (), [], 3, (3,)):
        np.testing.assert_array_equal(convpool.max_pool2d(x, 3, stride), expected)
