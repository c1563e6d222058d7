"""What is measured: one convolution or one pooling, its notation, its work in FLOPs and bytes.

A case is written as letters and numbers, here a 3x3 convolution of 64 channels to 64 on 56x56 pixels:

>>> case = parse_conv("n1c64h56w56k64r3s1p1")
>>> case.output_shape, case.flops, case.parameters
((1, 64, 56, 56), 231211008, 36928)
>>> case.notation
'n1c64h56w56k64r3s1p1'
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from convpool import conv2d_output_shape, pool2d_output_shape

Pair: TypeAlias = tuple[int, int]
Sides: TypeAlias = tuple[Pair, Pair]


@dataclasses.dataclass(frozen=True)
class _Case:
    """What convolution and pooling share. All sizes in pixels, pairs as (height, width)."""

    n: int
    c: int
    h: int
    w: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    dtype: str = "float32"
    layout: str = "NCHW"
    name: str = dataclasses.field(default="", compare=False)
    count: int = dataclasses.field(default=1, compare=False)

    kind: ClassVar[str]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W), whatever the layout."""
        return self.n, self.c, self.h, self.w

    @property
    def symmetric(self) -> Pair | None:
        """The padding as (height, width), if both sides of each axis have the same."""
        (top, bottom), (left, right) = self.padding
        return (top, left) if (top, left) == (bottom, right) else None

    @property
    def short_padding(self) -> Pair | Sides:
        """The padding as a pair where it is symmetric, else by side."""
        return self.symmetric or self.padding

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    @property
    def label(self) -> str:
        """The name, or else the notation."""
        return self.name or self.notation

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, K, OH, OW), whatever the layout."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many numbers are learned: weights and bias."""
        raise NotImplementedError

    @property
    def flops(self) -> int:
        """Nominal operations: a multiplication and an addition for every tap, in the padding too."""
        raise NotImplementedError

    @property
    def notation(self) -> str:
        """The case in letters and numbers, as the parsers take it."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """What must be read and written at least once: input, parameters and result."""
        return self.itemsize * (
            int(np.prod(self.input_shape)) + self.parameters + int(np.prod(self.output_shape))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    def _window_notation(self) -> str:
        def pair(letter: str, values: tuple[Any, Any]) -> str:
            first, second = values
            return f"{letter}{first}" if first == second else f"{letter}{first}x{second}"

        sides = tuple(str(a) if a == b else f"{a}+{b}" for a, b in self.padding)
        text = pair("r", self.kernel) + pair("s", self.stride) + pair("p", (sides[0], sides[1]))
        return text if self.dilation == (1, 1) else text + pair("d", self.dilation)


@dataclasses.dataclass(frozen=True)
class Conv(_Case):
    """A convolution: ``k`` output channels in ``groups`` groups; always with a bias unless it says no.

    ``count`` is how often it occurs in its network, and weighs it in sums.
    """

    k: int = 1
    groups: int = 1
    bias: bool = True

    kind: ClassVar[str] = "conv"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, C / groups, kH, kW)."""
        return self.k, self.c // self.groups, *self.kernel

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, K, OH, OW), whatever the layout. Raises ValueError for sizes that don't fit together."""
        n, k, h, w = conv2d_output_shape(
            self.input_shape, self.weight_shape, self.stride, self.padding, self.dilation, self.groups
        )
        return n, k, h, w

    @property
    def parameters(self) -> int:
        """How many numbers are learned: weights and bias."""
        return int(np.prod(self.weight_shape)) + (self.k if self.bias else 0)

    @property
    def terms(self) -> int:
        """How many products are summed for each result."""
        return int(np.prod(self.weight_shape[1:]))

    @property
    def flops(self) -> int:
        """Nominal operations: a multiplication and an addition for every tap, in the padding too."""
        return 2 * int(np.prod(self.output_shape)) * self.terms

    @property
    def notation(self) -> str:
        """The case in letters and numbers, as :func:`parse_conv` takes it."""
        groups = "" if self.groups == 1 else f"g{self.groups}"
        bias = "" if self.bias else "nobias"
        return f"n{self.n}c{self.c}h{self.h}w{self.w}k{self.k}{self._window_notation()}{groups}{bias}"


@dataclasses.dataclass(frozen=True)
class Pool(_Case):
    """A pooling, ``mode`` max or avg.

    It has no nominal FLOPs: how many operations a window needs is the algorithm's choice. What it must move
    in memory is what it is measured by.
    """

    mode: str = "max"
    ceil_mode: bool = False
    count_include_pad: bool = True

    kind: ClassVar[str] = "pool"

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, C, OH, OW), whatever the layout. Raises ValueError for sizes that don't fit together."""
        n, c, h, w = pool2d_output_shape(
            self.input_shape, self.kernel, self.stride, self.short_padding, self.dilation, self.ceil_mode
        )
        return n, c, h, w

    @property
    def parameters(self) -> int:
        """None."""
        return 0

    @property
    def terms(self) -> int:
        """How many values are compared or summed for each result."""
        return self.kernel[0] * self.kernel[1]

    @property
    def flops(self) -> int:
        """0, see the class."""
        return 0

    @property
    def notation(self) -> str:
        """The case in letters and numbers, as :func:`parse_pool` takes it."""
        flags = ("ceil" if self.ceil_mode else "") + ("" if self.count_include_pad else "nopad")
        return f"{self.mode}:n{self.n}c{self.c}h{self.h}w{self.w}{self._window_notation()}{flags}"


Case: TypeAlias = Conv | Pool
_C = TypeVar("_C", Conv, Pool)


def from_dict(values: Mapping[str, Any]) -> Case:
    """The case that ``to_dict`` made plain.

    >>> from_dict(parse_pool("avg:c8h7r7").to_dict()) == parse_pool("avg:c8h7r7")
    True
    """
    fields = dict(values)
    kind = fields.pop("kind")
    for name in ("kernel", "stride", "dilation"):
        fields[name] = tuple(fields[name])
    fields["padding"] = tuple(tuple(side) for side in fields["padding"])
    return Conv(**fields) if kind == "conv" else Pool(**fields)


# ---- this notation

_TOKEN = re.compile(r"(ceil|nopad|nobias|[a-z])(\d+(?:\+\d+)?(?:x\d+(?:\+\d+)?)?)?")


def _tokens(text: str, known: str, flags: tuple[str, ...] = ()) -> tuple[dict[str, str], set[str]]:
    values: dict[str, str] = {}
    given: set[str] = set()
    position = 0
    body = text.replace("_", "").replace(" ", "")
    while position < len(body):
        match = _TOKEN.match(body, position)
        if match is None:
            raise ValueError(f"{text!r}: can't read it from {body[position:]!r} on")
        word, number = match.groups()
        if word in flags and number is None:
            given.add(word)
        elif len(word) == 1 and word in known and number is not None:
            if word in values:
                raise ValueError(f"{text!r}: {word!r} is given twice")
            values[word] = number
        else:
            choices = ", ".join([*known, *flags])
            raise ValueError(f"{text!r}: {match.group()!r} isn't known here; there are {choices}")
        position = match.end()
    return values, given


def _number(text: str, letter: str, number: str) -> int:
    if not number.isdigit():
        raise ValueError(f"{text!r}: {letter!r} takes one number, got {number!r}")
    return int(number)


def _pair(text: str, letter: str, value: str) -> Pair:
    parts = value.split("x")
    return _number(text, letter, parts[0]), _number(text, letter, parts[-1])


def _sides(value: str) -> Sides:
    def side(part: str) -> Pair:
        numbers = part.split("+")
        return int(numbers[0]), int(numbers[-1])

    parts = value.split("x")
    return side(parts[0]), side(parts[-1])


def _common(text: str, values: Mapping[str, str], default_stride: bool) -> dict[str, Any]:
    for letter in "chr":
        if letter not in values:
            raise ValueError(f"{text!r}: {letter!r} is missing; at least c, h and r must be given")
    kernel = _pair(text, "r", values["r"])
    height = _number(text, "h", values["h"])
    return {
        "n": _number(text, "n", values.get("n", "1")),
        "c": _number(text, "c", values["c"]),
        "h": height,
        "w": _number(text, "w", values["w"]) if "w" in values else height,
        "kernel": kernel,
        "stride": _pair(text, "s", values["s"]) if "s" in values else ((1, 1) if default_stride else kernel),
        "padding": _sides(values.get("p", "0")),
        "dilation": _pair(text, "d", values.get("d", "1")),
    }


def parse_conv(text: str) -> Conv:
    """A convolution from its notation, or from benchdnn's.

    Letters: ``n`` images, ``c`` channels, ``h`` and ``w`` pixels, ``k`` output channels, ``r`` kernel, ``s``
    stride, ``p`` padding, ``d`` dilation (1: none), ``g`` groups. The last five take a pair too, height first
    (``r1x7``), and the padding its two sides (``p0+1``: none before, 1 after). Left out are: n = 1, w = h,
    k = c, s = 1, p = 0, d = 1, g = 1. ``nobias`` at the end leaves the bias out. A text that has ``ic`` and
    ``ih`` is in the notation of benchdnn, oneDNN's benchmark: there the batch is 2 unless ``mb`` says
    otherwise, and ``dh`` counts from 0. Raises ValueError.

    >>> parse_conv("c32h112r3p1g32") == parse_conv("n1c32h112w112k32r3s1p1d1g32")
    True
    >>> parse_conv("mb1ic16ih56oc32kh3ph1").notation
    'n1c16h56w56k32r3s1p1'
    """
    if re.search(r"ic\d", text) and re.search(r"ih\d", text):
        values, rest = _parse_benchdnn(text)
        if "k" not in rest:
            raise ValueError(f"{text!r}: 'oc' is missing")
        return _checked(Conv(**values, **rest), text)
    body, name = _split_name(text)
    values, flags = _tokens(body, "nchwkrspdg", ("nobias",))
    common = _common(text, values, default_stride=True)
    k = _number(text, "k", values["k"]) if "k" in values else common["c"]
    groups = _number(text, "g", values.get("g", "1"))
    return _checked(Conv(**common, k=k, groups=groups, bias="nobias" not in flags, name=name), text)


def parse_pool(text: str) -> Pool:
    """A pooling from its notation, ``max:`` or ``avg:`` and then letters as :func:`parse_conv`'s.

    The stride is the kernel's size unless given. ``ceil`` rounds the size up, ``nopad`` leaves the padding
    out of an average. Raises ValueError.

    >>> parse_pool("max:n1c64h112r3s2p1").output_shape
    (1, 64, 56, 56)
    >>> parse_pool("avg:c8h7r3s2p1nopadceil").notation
    'avg:n1c8h7w7r3s2p1ceilnopad'
    """
    mode, _, rest = text.partition(":")
    if mode not in ("max", "avg") or not rest:
        raise ValueError(f"{text!r}: a pooling starts with 'max:' or 'avg:'")
    if re.search(r"ic\d", rest) and re.search(r"ih\d", rest):
        return _checked(Pool(**_parse_benchdnn(rest)[0], mode=mode), text)
    body, name = _split_name(rest)
    values, flags = _tokens(body, "nchwrspd", ("ceil", "nopad"))
    case = Pool(
        **_common(text, values, default_stride=False),
        mode=mode,
        ceil_mode="ceil" in flags,
        count_include_pad="nopad" not in flags,
        name=name,
    )
    return _checked(case, text)


def _split_name(text: str) -> tuple[str, str]:
    """Splits what benchdnn calls a name, ``n"..."`` at the end, from the rest."""
    match = re.fullmatch(r"(.*?)_?n[\"']([^\"']*)[\"']", text)
    return (match.group(1), match.group(2)) if match else (text, "")


def _checked(case: _C, text: str) -> _C:
    try:
        shape = case.output_shape
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if min(shape) < 1:
        raise ValueError(f"{text!r}: the result would be empty, {shape}")
    return case


# ---- benchdnn's

_BENCHDNN = re.compile(r"(g|mb|ic|oc|[iokspd][dhw])(\d+)|_|(n)(.*)$")


def _parse_benchdnn(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a case, and those of a convolution alone."""
    values: dict[str, int] = {}
    name, position = "", 0
    while position < len(text):
        match = _BENCHDNN.match(text, position)
        if match is None:
            raise ValueError(f"{text!r}: benchdnn's notation doesn't have {text[position:]!r}")
        key, number, is_name, rest = match.groups()
        if key and key[-1] == "d" and key != "mb":
            raise ValueError(f"{text!r}: {key!r} asks for a third spatial axis")
        if key:
            values[key] = int(number)
        elif is_name:
            name = rest.strip("\"'")
        position = match.end()

    def axis(letter: str) -> tuple[int, int, int, Pair, int]:
        # Along the width, what isn't given at all is as along the height.
        def get(prefix: str, default: int) -> int:
            return values.get(prefix + letter, values.get(prefix + "h", default))

        size, kernel, stride, dilation = get("i", 0), get("k", 0), get("s", 1), get("d", 0) + 1
        covered = dilation * (kernel - 1) + 1
        out, before = get("o", 0), get("p", -1)
        if kernel < 1:
            raise ValueError(f"{text!r}: 'kh' is missing")
        if out:
            total = (out - 1) * stride + covered - size
            if before < 0:
                before = max(0, total) // 2
            symmetric = (size + 2 * before - covered) // stride + 1 == out
            after = before if symmetric else total - before
            if after < 0:
                raise ValueError(f"{text!r}: 'o{letter}{out}' would crop the input")
        else:
            before = after = max(0, before)
        return size, kernel, stride, (before, after), dilation

    height, width = axis("h"), axis("w")
    common: dict[str, Any] = {
        "n": values.get("mb", 2),
        "c": values["ic"],
        "h": height[0],
        "w": width[0],
        "kernel": (height[1], width[1]),
        "stride": (height[2], width[2]),
        "padding": (height[3], width[3]),
        "dilation": (height[4], width[4]),
        "name": name,
    }
    convolution: dict[str, Any] = {"groups": values.get("g", 1)}
    if "oc" in values:
        convolution["k"] = values["oc"]
    return common, convolution
