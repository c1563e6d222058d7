"""Suites of real layers: whole networks with how often each layer occurs, and selections by subject.

>>> sum(case.count for case in suite("vgg16"))  # 13 convolutions, 5 poolings
18
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from convpool.bench.cases import Case, Conv, Pair, Pool, parse_conv, parse_pool

__all__ = ["is_network", "merge", "names", "suite", "summary"]


class _Network:
    """Walks through a network and writes down its layers, keeping track of the image's size."""

    def __init__(self, channels: int, size: int) -> None:
        self.c, self.h, self.w = channels, size, size
        self.cases: list[Case] = []

    def conv(
        self,
        name: str,
        k: int,
        kernel: int | Pair,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding: int | None = None,
    ) -> _Network:
        """A convolution; unless told otherwise, padded so that at stride 1 the size stays."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        ph, pw = (dilation * (k - 1) // 2 if padding is None else padding for k in (kh, kw))
        case = Conv(
            1, self.c, self.h, self.w, (kh, kw), (stride, stride), ((ph, ph), (pw, pw)), (dilation, dilation),
            name=name, k=k, groups=groups, bias=bias,
        )  # fmt: skip
        return self._add(case)

    def depthwise(self, name: str, kernel: int, stride: int = 1) -> _Network:
        return self.conv(name, self.c, kernel, stride, groups=self.c)

    def pool(
        self, name: str, mode: str, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False
    ) -> _Network:
        sides = (padding, padding)
        case = Pool(
            1, self.c, self.h, self.w, (kernel, kernel), (stride, stride), (sides, sides),
            name=name, mode=mode, ceil_mode=ceil_mode,
        )  # fmt: skip
        return self._add(case)

    def global_average(self, name: str = "global.avg") -> _Network:
        return self.pool(name, "avg", self.h, 1)

    def beside(self) -> _Network:
        """A branch that starts here; its layers are written down in the same list."""
        branch = _Network(self.c, self.h)
        branch.h, branch.w, branch.cases = self.h, self.w, self.cases
        return branch

    def concatenated(self, channels: int) -> None:
        self.c = channels

    def _add(self, case: Case) -> _Network:
        self.cases.append(case)
        _, self.c, self.h, self.w = case.output_shape
        return self


def merge(cases: Iterable[Case]) -> list[Case]:
    """Equal cases become one, with the first's name and the sum of the counts."""
    merged: dict[Case, Case] = {}
    for case in cases:
        first = merged.get(case)
        merged[case] = case if first is None else dataclasses.replace(first, count=first.count + case.count)
    return list(merged.values())


def _short(r: int | Pair) -> str:
    return f"{r}x{r}" if isinstance(r, int) else f"{r[0]}x{r[1]}"


def _resnet(width: int, groups: int) -> list[Case]:
    """ResNet-50 as torchvision builds it, with the stride in the 3x3; with groups, ResNeXt."""
    net = _Network(3, 224).conv("stem.7x7s2", 64, 7, 2, bias=False).pool("stem.max3s2", "max", 3, 2, 1)
    for stage, (blocks, planes) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            inner, outer = planes * width // 64 * groups, planes * 4
            at = f"layer{stage}"
            shortcut = net.beside()
            net.conv(f"{at}.1x1{'a' if block == 0 else 'b'}", inner, 1, bias=False)
            grouped = f"g{groups}" if groups > 1 else ""
            net.conv(
                f"{at}.3x3{grouped}" + ("s2" if stride == 2 else ""),
                inner,
                3,
                stride,
                groups=groups,
                bias=False,
            )
            net.conv(f"{at}.1x1up", outer, 1, bias=False)
            if block == 0:
                shortcut.conv(f"{at}.short1x1" + ("s2" if stride == 2 else ""), outer, 1, stride, bias=False)
    return net.global_average().cases


def _resnet50() -> list[Case]:
    """ResNet-50, 224x224."""
    return _resnet(64, 1)


def _resnext50() -> list[Case]:
    """ResNeXt-50 32x4d, 224x224: 3x3 in 32 groups."""
    return _resnet(4, 32)


def _vgg16() -> list[Case]:
    """VGG-16, 224x224: 3x3 only, the classic of large layers."""
    net = _Network(3, 224)
    for stage, (layers, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for layer in range(1, layers + 1):
            net.conv(f"conv{stage}_{layer}", channels, 3)
        net.pool(f"pool{stage}", "max", 2, 2)
    return net.cases


def _mobilenetv2() -> list[Case]:
    """MobileNetV2 1.0, 224x224: depthwise 3x3 between 1x1."""
    net = _Network(3, 224).conv("stem.3x3s2", 32, 3, 2, bias=False)
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for stage, (expand, channels, blocks, stride) in enumerate(stages, 1):
        for block in range(blocks):
            _inverted_residual(net, f"b{stage}.{block + 1}", expand, channels, 3, stride if block == 0 else 1)
    return net.conv("head.1x1", 1280, 1, bias=False).global_average().cases


def _inverted_residual(net: _Network, at: str, expand: int, channels: int, kernel: int, stride: int) -> None:
    if expand > 1:
        net.conv(f"{at}.1x1up", net.c * expand, 1, bias=False)
    strided = "s2" if stride == 2 else ""
    net.conv(f"{at}.dw{kernel}{strided}", net.c, kernel, stride, groups=net.c, bias=False)
    net.conv(f"{at}.1x1dn", channels, 1, bias=False)


def _efficientnet() -> list[Case]:
    """EfficientNet-B0, 224x224, without squeeze-and-excitation: depthwise 3x3 and 5x5."""
    net = _Network(3, 224).conv("stem.3x3s2", 32, 3, 2, bias=False)
    stages = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip
    for stage, (expand, channels, blocks, stride, kernel) in enumerate(stages, 1):
        for block in range(blocks):
            _inverted_residual(
                net, f"b{stage}.{block + 1}", expand, channels, kernel, stride if block == 0 else 1
            )
    return net.conv("head.1x1", 1280, 1, bias=False).global_average().cases


def _googlenet() -> list[Case]:
    """GoogLeNet (Inception v1), 224x224, as published: 1x1, 3x3, 5x5 and pooling side by side."""
    net = _Network(3, 224).conv("conv1.7x7s2", 64, 7, 2).pool("pool1", "max", 3, 2, ceil_mode=True)
    net.conv("conv2.1x1", 64, 1).conv("conv2.3x3", 192, 3).pool("pool2", "max", 3, 2, ceil_mode=True)
    blocks = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    for at, (one, reduce3, three, reduce5, five, pooled) in blocks.items():
        if at in ("4a", "5a"):
            net.pool(f"pool{int(at[0]) - 1}", "max", 3, 2, ceil_mode=True)
        net.beside().conv(f"{at}.1x1", one, 1)
        net.beside().conv(f"{at}.3x3reduce", reduce3, 1).conv(f"{at}.3x3", three, 3)
        net.beside().conv(f"{at}.5x5reduce", reduce5, 1).conv(f"{at}.5x5", five, 5)
        net.beside().pool(f"{at}.max3s1", "max", 3, 1, 1).conv(f"{at}.poolproj", pooled, 1)
        net.concatenated(one + three + five + pooled)
    return net.global_average().cases


def _deeplab() -> list[Case]:
    """DeepLabv3 on ResNet-50 at output stride 16, 513x513: dilated 3x3 (the backbone from layer 3 on)."""
    net = _Network(512, 65)
    net.beside().conv("layer3.short1x1s2", 1024, 1, 2, bias=False)
    net.conv("layer3.1x1a", 256, 1, bias=False).conv("layer3.3x3s2", 256, 3, 2, bias=False)
    net.conv("layer3.1x1up", 1024, 1, bias=False)
    for _ in range(5):
        net.conv("layer3.1x1b", 256, 1, bias=False).conv("layer3.3x3", 256, 3, bias=False)
        net.conv("layer3.1x1up", 1024, 1, bias=False)
    net.beside().conv("layer4.short1x1", 2048, 1, bias=False)
    for block in range(3):
        net.conv(f"layer4.1x1{'ab'[block > 0]}", 512, 1, bias=False)
        net.conv(f"layer4.3x3d{2 if block else 1}", 512, 3, dilation=2 if block else 1, bias=False)
        net.conv("layer4.1x1up", 2048, 1, bias=False)
    net.beside().conv("aspp.1x1", 256, 1, bias=False)
    for rate in (6, 12, 18):
        net.beside().conv(f"aspp.3x3d{rate}", 256, 3, dilation=rate, bias=False)
    net.beside().global_average("aspp.avg33").conv("aspp.pooled1x1", 256, 1, bias=False)
    net.concatenated(5 * 256)
    return (
        net.conv("aspp.project", 256, 1, bias=False)
        .conv("head.3x3", 256, 3, bias=False)
        .conv("head.1x1", 21, 1)
        .cases
    )


def _convnext() -> list[Case]:
    """ConvNeXt-T, 224x224: depthwise 7x7, its linear layers as 1x1."""
    net = _Network(3, 224).conv("stem.4x4s4", 96, 4, 4, padding=0)
    for stage, (blocks, channels) in enumerate(((3, 96), (3, 192), (9, 384), (3, 768)), 1):
        if stage > 1:
            net.conv(f"down{stage - 1}.2x2s2", channels, 2, 2, padding=0)
        for _ in range(blocks):
            net.depthwise(f"stage{stage}.dw7", 7)
            net.conv(f"stage{stage}.1x1up", 4 * channels, 1).conv(f"stage{stage}.1x1dn", channels, 1)
    return net.global_average().cases


def _replknet() -> list[Case]:
    """RepLKNet-31B, 224x224: depthwise 31x31, 29x29, 27x27 and 13x13, each beside a 5x5 merged into it."""
    net = _Network(3, 224).conv("stem.3x3s2", 128, 3, 2).depthwise("stem.dw3", 3)
    net.conv("stem.1x1", 128, 1).depthwise("stem.dw3s2", 3, 2)
    stages = ((2, 128, 31), (2, 256, 29), (18, 512, 27), (2, 1024, 13))
    for stage, (blocks, channels, kernel) in enumerate(stages, 1):
        if stage > 1:
            net.conv(f"down{stage - 1}.1x1", channels, 1).depthwise(f"down{stage - 1}.dw3s2", 3, 2)
        for _ in range(blocks):
            net.conv(f"stage{stage}.1x1", channels, 1).depthwise(f"stage{stage}.dw{kernel}", kernel)
            net.conv(f"stage{stage}.1x1", channels, 1)
            net.conv(f"stage{stage}.ffn1x1up", 4 * channels, 1).conv(f"stage{stage}.ffn1x1dn", channels, 1)
    return net.global_average().cases


def _deepbench() -> list[Case]:
    """Baidu DeepBench's inference set at batch 1: speech, faces, and the vision networks of its time."""
    # Width, height, channels, output channels; then each as width, height: kernel, padding, stride.
    problems = (
        (700, 161, 1, 32, 20, 5, 0, 0, 2, 2), (341, 79, 32, 32, 10, 5, 0, 0, 2, 2),
        (151, 40, 1, 32, 20, 5, 8, 8, 8, 2), (480, 48, 1, 16, 3, 3, 1, 1, 1, 1),
        (240, 24, 16, 32, 3, 3, 1, 1, 1, 1), (120, 12, 32, 64, 3, 3, 1, 1, 1, 1),
        (60, 6, 64, 128, 3, 3, 1, 1, 1, 1), (108, 108, 3, 64, 3, 3, 1, 1, 2, 2),
        (54, 54, 64, 64, 3, 3, 1, 1, 1, 1), (27, 27, 128, 128, 3, 3, 1, 1, 1, 1),
        (14, 14, 128, 256, 3, 3, 1, 1, 1, 1), (7, 7, 256, 512, 3, 3, 1, 1, 1, 1),
        (224, 224, 3, 64, 3, 3, 1, 1, 1, 1), (112, 112, 64, 128, 3, 3, 1, 1, 1, 1),
        (56, 56, 128, 256, 3, 3, 1, 1, 1, 1), (28, 28, 256, 512, 3, 3, 1, 1, 1, 1),
        (14, 14, 512, 512, 3, 3, 1, 1, 1, 1), (7, 7, 512, 512, 3, 3, 1, 1, 1, 1),
        (224, 224, 3, 64, 7, 7, 3, 3, 2, 2), (28, 28, 192, 32, 5, 5, 2, 2, 1, 1),
        (28, 28, 192, 64, 1, 1, 0, 0, 1, 1), (14, 14, 512, 48, 5, 5, 2, 2, 1, 1),
        (14, 14, 512, 192, 1, 1, 0, 0, 1, 1), (7, 7, 832, 256, 1, 1, 0, 0, 1, 1),
        (7, 7, 832, 128, 5, 5, 2, 2, 1, 1), (56, 56, 64, 64, 3, 3, 1, 1, 1, 1),
        (56, 56, 64, 256, 1, 1, 0, 0, 1, 1), (56, 56, 256, 128, 1, 1, 0, 0, 2, 2),
        (28, 28, 128, 512, 1, 1, 0, 0, 1, 1), (28, 28, 512, 1024, 1, 1, 0, 0, 2, 2),
        (14, 14, 256, 1024, 1, 1, 0, 0, 1, 1), (14, 14, 1024, 2048, 1, 1, 0, 0, 2, 2),
        (7, 7, 2048, 512, 1, 1, 0, 0, 1, 1), (700, 161, 1, 64, 5, 5, 1, 1, 2, 2),
        (350, 80, 64, 64, 3, 3, 1, 1, 1, 1), (175, 40, 128, 256, 5, 5, 1, 1, 2, 2),
        (84, 20, 256, 256, 3, 3, 1, 1, 1, 1), (42, 10, 512, 512, 3, 3, 1, 1, 1, 1),
    )  # fmt: skip
    return [
        Conv(1, c, h, w, (kh, kw), (sh, sw), ((ph, ph), (pw, pw)), k=k, name=f"{w}x{h}x{c}.{kw}x{kh}.{k}")
        for w, h, c, k, kw, kh, pw, ph, sw, sh in problems
    ]


def _named(parse: Callable[[str], Case], cases: dict[str, str]) -> list[Case]:
    return [dataclasses.replace(parse(text), name=name) for name, text in cases.items()]


def _pooling() -> list[Case]:
    """Poolings of networks, and windows up to 51x51."""
    return _named(
        parse_pool,
        {
            "vgg.max2s2": "max:c64h224r2",
            "resnet.max3s2": "max:c64h112r3s2p1",
            "inception.max3s1": "max:c192h28r3s1p1",
            "squeezenet.max3s2": "max:c64h111r3s2",
            "vgg.max2s2.b16": "max:n16c64h112r2",
            "spp.max5": "max:c512h20r5s1p2",
            "spp.max9": "max:c512h20r9s1p4",
            "spp.max13": "max:c512h20r13s1p6",
            "dilated.max3d2": "max:c64h56r3s1p2d2",
            "image.max31": "max:c8h512r31s1p15",
            "image.max51": "max:c8h512r51s1p25",
            "densenet.avg2s2": "avg:c128h56r2",
            "inception.avg3s1": "avg:c192h35r3s1p1",
            "inception.avg3s1.nopad": "avg:c192h35r3s1p1nopad",
            "resnet.global7": "avg:c2048h7r7",
            "image.avg15": "avg:c8h512r15s1p7",
            "image.avg51": "avg:c8h512r51s1p25",
        },
    )


def _filters() -> list[Case]:
    """Image filters on photographs: one plane, or each colour by itself."""
    return _named(
        parse_conv,
        {
            "gray1080.sobel3": "c1h1080w1920r3p1",
            "gray1080.gauss5": "c1h1080w1920r5p2",
            "gray1080.gauss9": "c1h1080w1920r9p4",
            "gray1080.gauss15": "c1h1080w1920r15p7",
            "gray1080.row1x15": "c1h1080w1920r1x15p0x7",
            "gray1080.column15x1": "c1h1080w1920r15x1p7x0",
            "gray512.gabor31": "c1h512r31p15",
            "gray1080.bank16": "c1h1080w1920k16r3p1",
            "rgb1080.sharpen3": "c3h1080w1920r3p1g3",
            "rgb1080.blur7": "c3h1080w1920r7p3g3",
            "rgb512.mix1x1": "c3h512k3r1",
            "gray4k.laplace3": "c1h2160w3840r3p1",
        },
    ) + _named(
        parse_pool,
        {
            "gray1080.dilate5": "max:c1h1080w1920r5s1p2",
            "gray1080.dilate31": "max:c1h1080w1920r31s1p15",
            "rgb1080.box3": "avg:c3h1080w1920r3s1p1",
            "rgb1080.box31": "avg:c3h1080w1920r31s1p15",
            "gray4k.halve": "avg:c1h2160w3840r2",
        },
    )


def _readme() -> list[Case]:
    """Layers of every kind, one each: what the README's table shows."""
    return _named(
        parse_conv,
        {
            "ResNet-50 stem 7x7 s2": "c3h224k64r7s2p3",
            "VGG-16 conv1_1": "c3h224k64r3p1",
            "VGG-16 conv3_2": "c256h56r3p1",
            "ResNet-50 3x3, 64 ch": "c64h56r3p1",
            "ResNet-50 3x3, 128 ch": "c128h28r3p1",
            "ResNet-50 3x3, 256 ch": "c256h14r3p1",
            "ResNet-50 3x3, 512 ch": "c512h7r3p1",
            "ResNet-50 3x3 s2": "c128h56r3s2p1",
            "ResNet-50 1x1 up": "c64h56k256r1",
            "ResNet-50 1x1 down": "c1024h14k256r1",
            "MobileNetV2 1x1": "c32h112k16r1",
            "MobileNetV2 depthwise 3x3": "c144h56r3p1g144",
            "EfficientNet depthwise 5x5": "c240h28r5p2g240",
            "ConvNeXt depthwise 7x7": "c96h56r7p3g96",
            "RepLKNet depthwise 31x31": "c128h56r31p15g128",
            "ResNeXt-50 3x3, 32 groups": "c128h56r3p1g32",
            "Inception 1x7": "c192h17r1x7p0x3",
            "GoogLeNet 5x5": "c32h28k96r5p2",
            "DeepLab 3x3, dilation 2": "c256h33r3p2d2",
            "15x15 filter, 1080p": "c1h1080w1920r15p7",
        },
    ) + _named(
        parse_pool,
        {
            "VGG-16 max 2x2": "max:c64h224r2",
            "ResNet-50 max 3x3 s2": "max:c64h112r3s2p1",
            "SPP max 13x13": "max:c512h20r13s1p6",
            "Inception average 3x3": "avg:c192h35r3s1p1",
            "ResNet-50 global average": "avg:c2048h7r7",
            "box 31x31, 1080p": "avg:c3h1080w1920r31s1p15",
        },
    )


_SUITES: dict[str, Callable[[], list[Case]]] = {
    "resnet50": _resnet50,
    "vgg16": _vgg16,
    "mobilenetv2": _mobilenetv2,
    "efficientnet": _efficientnet,
    "googlenet": _googlenet,
    "resnext50": _resnext50,
    "deeplab": _deeplab,
    "convnext": _convnext,
    "replknet": _replknet,
    "deepbench": _deepbench,
    "pooling": _pooling,
    "filters": _filters,
    "readme": _readme,
}


# Those that are no network, so that the sum of their times means nothing.
_SELECTIONS = ("deepbench", "pooling", "filters", "readme")


def is_network(name: str) -> bool:
    """Whether a suite is all layers of one network, so that the sum of their times means something."""
    return name not in _SELECTIONS


def names() -> tuple[str, ...]:
    """All suites."""
    return tuple(_SUITES)


def summary(name: str) -> str:
    """One line about a suite."""
    return (_SUITES[name].__doc__ or "").strip().splitlines()[0]


def suite(name: str) -> list[Case]:
    """A suite's cases, each once, with how often it occurs. Raises ValueError for an unknown name.

    >>> stem = suite("resnet50")[0]
    >>> stem.name, stem.notation
    ('stem.7x7s2', 'n1c3h224w224k64r7s2p3nobias')
    """
    if name not in _SUITES:
        raise ValueError(f"there is no suite {name!r}; there are {', '.join(_SUITES)}")
    return merge(_SUITES[name]())
