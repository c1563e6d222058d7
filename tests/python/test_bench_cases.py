from __future__ import annotations

import pytest

from convpool.bench import Conv, Pool, parse_conv, parse_pool, suite
from convpool.bench.suites import is_network, names, summary
from convpool.bench.sweeps import parse_sweep, sweep


def test_notation() -> None:
    case = parse_conv("n2c64h56w28k32r3x5s2x1p1x2d1x2g4")
    assert case == Conv(2, 64, 56, 28, (3, 5), (2, 1), ((1, 1), (2, 2)), (1, 2), k=32, groups=4)
    assert case.output_shape == (2, 32, 28, 24)


def test_notation_defaults() -> None:
    assert parse_conv("c8h7r3") == Conv(1, 8, 7, 7, (3, 3), k=8)
    assert parse_pool("max:c8h7r3").stride == (3, 3)
    assert parse_conv("c8h7r3nobias").parameters == parse_conv("c8h7r3").parameters - 8


def test_padding_by_side() -> None:
    case = parse_conv("c8h7r3p0+1x2+0")
    assert case.padding == ((0, 1), (2, 0))
    assert case.symmetric is None
    assert case.notation == "n1c8h7w7k8r3s1p0+1x2+0"


@pytest.mark.parametrize("text", ["c8h7r3", "c8h9w7k3r1x3s2p0x1d1x2", "c8h7r3g8nobias", "c8h7r3p1+0x0+2"])
def test_conv_notation_is_read_back(text: str) -> None:
    case = parse_conv(text)
    assert parse_conv(case.notation) == case


@pytest.mark.parametrize("name", names())
def test_suites_can_be_written_down(name: str) -> None:
    assert summary(name)
    for case in suite(name):
        parse = parse_conv if isinstance(case, Conv) else parse_pool
        assert parse(case.notation) == case
        assert min(case.output_shape) > 0
        assert case.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n1c64h56", "'r' is missing"),
        ("c64h56r3q5", "'q5' isn't known here"),
        ("c64c3h56r3", "'c' is given twice"),
        ("c64h56r3g7", "groups"),
        ("c64h3r9", "kernel"),
        ("c64h3.r9", "can't read it from '.r9'"),
        ("c64x3h56r3", "'c' takes one number"),
        ("ic16ih56kh3", "'oc' is missing"),
        ("ic16ih56oc32", "'kh' is missing"),
        ("ic16id5ih56oc32kh3", "third spatial axis"),
        ("ic16ih56oc32kh3zz1", "doesn't have 'zz1'"),
        ("ic16ih56oh10oc32kh3ph1", "crop"),
    ],
)
def test_conv_notation_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_conv(text)


@pytest.mark.parametrize("text", ["c8h7r3", "sum:c8h7r3", "max:", "max:c8h7r3k4", "max:c8h7r3p2"])
def test_pool_notation_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_pool(text)


@pytest.mark.parametrize(
    ("benchdnn", "ours"),
    [
        ("ic16ih56oc32kh3ph1", "n2c16h56k32r3p1"),
        ("mb1ic3ih227iw227_oc96oh55ow55_kh11kw11_sh4sw4ph0pw0", "c3h227k96r11s4"),
        ("g32mb1ic32ih112oc32oh112kh3ph1", "c32h112r3p1g32"),
        # Its dilation counts what lies between the taps.
        ("mb1ic64ih33oc64oh33kh3ph2dh1", "c64h33r3p2d2"),
        # Padding that isn't given follows from the result's size.
        ("mb1ic64ih28oc64oh28kh3", "c64h28r3p1"),
        ("mb1ic192ih17oc192oh17kh1kw7ph0pw3", "c192h17r1x7p0x3"),
        # As ResNet's stem: 3 + 2 pixels would do, and 3 + 3 give the same.
        ("mb1ic3ih224oc64oh112kh7sh2ph3", "c3h224k64r7s2p3"),
        # Here the sides really differ.
        ("mb1ic8ih8oc8oh8kh2ph0", "c8h8r2p0+1"),
        ("mb1ic16ih20iw50oc33oh9ow50kh3kw5sh2sw1ph0pw2", "c16h20w50k33r3x5s2x1p0x2"),
    ],
)
def test_benchdnn(benchdnn: str, ours: str) -> None:
    assert parse_conv(benchdnn) == parse_conv(ours)


def test_benchdnn_name_and_pool() -> None:
    assert parse_conv('mb1ic16ih56oc32kh3ph1n"stem:conv"').name == "stem:conv"
    assert parse_pool("max:mb1ic64ih112oh56kh3sh2ph1") == parse_pool("max:c64h112r3s2p1")


# Convolutions alone, multiply-adds and weights as the papers and torchvision give them.
@pytest.mark.parametrize(
    ("name", "giga_macs", "mega_weights"),
    [
        ("resnet50", 4.087, 23.455),
        ("vgg16", 15.347, 14.715),
        ("mobilenetv2", 0.299, 2.190),
        ("googlenet", 1.582, 5.974),
        ("resnext50", 4.228, 22.912),
        ("convnext", 4.455, 27.797),
        ("efficientnet", 0.384, 3.329),
        ("replknet", 15.353, 78.364),
    ],
)
def test_networks_have_their_published_size(name: str, giga_macs: float, mega_weights: float) -> None:
    cases = suite(name)
    assert is_network(name)
    assert sum(case.count * case.flops for case in cases) / 2e9 == pytest.approx(giga_macs, abs=6e-4)
    assert sum(case.count * case.parameters for case in cases) / 1e6 == pytest.approx(mega_weights, abs=6e-4)


def test_unknown_suite() -> None:
    with pytest.raises(ValueError, match=r"no suite 'resnet51'; there are resnet50"):
        suite("resnet51")


def test_work() -> None:
    case = parse_conv("c64h56k128r3p1")
    assert case.flops == 2 * 128 * 56 * 56 * 64 * 9
    assert case.bytes == 4 * (64 * 56 * 56 + 128 * 64 * 9 + 128 + 128 * 56 * 56)
    pool = parse_pool("max:c64h56r2")
    assert pool.flops == 0
    assert pool.bytes == 4 * 64 * (56 * 56 + 28 * 28)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("stride=1..4", [1, 2, 3, 4]),
        ("image=8..64*2", [8, 16, 32, 64]),
        ("batch=1,2,8..10", [1, 2, 8, 9, 10]),
        ("padding=0..6..3", [0, 3, 6]),
    ],
)
def test_parse_sweep(text: str, values: list[int]) -> None:
    assert parse_sweep(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    "text", ["depth=1..3", "kernel", "kernel=a", "kernel=3..1", "kernel=0..4*2", "kernel=1..9..0"]
)
def test_parse_sweep_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r"sweep|values|grow"):
        parse_sweep(text)


def test_sweep_of_the_kernel_keeps_the_image() -> None:
    rows = sweep(parse_conv("c8h14r3p1"), "kernel", [1, 2, 3, 5])
    assert [row.case.output_shape for row in rows] == [(1, 8, 14, 14)] * 4
    assert [row.case.padding[0] for row in rows] == [(0, 0), (0, 1), (1, 1), (2, 2)]
    assert [row.value for row in rows] == [1, 2, 3, 5]
    unpadded = sweep(parse_conv("c8h14r3"), "kernel", [1, 5])
    assert [row.case.output_shape[2] for row in unpadded] == [14, 10]


def test_sweeps_of_the_rest() -> None:
    case = parse_conv("c8h14r3p1g8")
    assert sweep(case, "dilation", [2])[0].case.notation == "n1c8h14w14k8r3s1p2d2g8"
    depthwise = sweep(case, "channels", [16])[0].case
    assert isinstance(depthwise, Conv)
    assert (depthwise.k, depthwise.groups) == (16, 16)
    widening = sweep(parse_conv("c8h14k32r1"), "channels", [16])[0].case
    assert isinstance(widening, Conv)
    assert (widening.c, widening.k) == (16, 32)
    assert [row.threads for row in sweep(case, "threads", [1, 2])] == [1, 2]
    assert sweep(parse_pool("max:c8h14r2"), "channels", [4])[0].case.c == 4
    with pytest.raises(ValueError, match="a pooling has no groups"):
        sweep(parse_pool("max:c8h14r2"), "groups", [2])
    with pytest.raises(ValueError, match="kernel 20"):
        sweep(parse_conv("c8h14r3"), "kernel", [20])


def test_cases_are_plain_data() -> None:
    from convpool.bench.cases import from_dict

    case = Pool(1, 8, 9, 9, (3, 3), (2, 2), ((0, 1), (1, 0)), name="p", count=3, mode="avg", ceil_mode=True)
    again = from_dict(case.to_dict())
    assert again == case
    assert (again.name, again.count) == ("p", 3)
