from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convpool.bench import Case, Conv, parse_conv, parse_pool, read_network, suite
from convpool.bench.check import make_inputs
from convpool.bench.onnx_models import single_node

onnx = pytest.importorskip("onnx")
helper = onnx.helper

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def network(
    tmp_path: Path, nodes: list[Any], shape: Any, weights: dict[str, tuple[int, ...]], opset: int = 13
) -> Path:
    """A file with an input ``x``, a result ``y`` and zeros for weights."""
    float32 = onnx.TensorProto.FLOAT
    tensors = [onnx.numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float32, shape)],
        [helper.make_tensor_value_info("y", float32, None)],
        tensors,
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    "case",
    [
        parse_conv("n2c6h9w11k4r3x2s2x1p1+0x0+2d1x2g2"),
        parse_conv("c8h14r3p1nobias"),
        parse_pool("max:c5h9r3s2p1d2ceil"),
        parse_pool("avg:c5h9r3s2p1+0nopad"),
        parse_pool("avg:c5h9r3s2p1ceil"),
        parse_pool("avg:c5h9r2s1d3"),
    ],
    ids=lambda case: case.notation,
)
def test_a_case_survives_as_a_model(case: Case, tmp_path: Path) -> None:
    inputs = make_inputs(case)
    onnx.save(single_node(case, inputs.weight, inputs.bias), tmp_path / "case.onnx")
    read = read_network(tmp_path / "case.onnx")
    assert read.cases == [case]
    assert read.skipped == []
    assert read.name == "case"


def test_equal_layers_are_counted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    read = read_network(network(tmp_path, nodes, (1, 4, 8, 8), {"w": (4, 4, 3, 3), "v": (4, 4, 3, 3)}))
    assert [(case.notation, case.count) for case in read.cases] == [
        ("n1c4h8w8k4r3s1p1nobias", 2),
        ("max:n1c4h8w8r2s2p0", 1),
        ("avg:n1c4h4w4r4s4p0", 1),
    ]
    assert read.cases[0].name == "first"


@pytest.mark.parametrize(
    ("auto_pad", "sides"),
    [("SAME_UPPER", ((0, 1), (1, 1))), ("SAME_LOWER", ((1, 0), (1, 1))), ("VALID", ((0, 0), (0, 0)))],
)
def test_auto_pad(tmp_path: Path, auto_pad: str, sides: Any) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=auto_pad, strides=[2, 2])
    read = read_network(network(tmp_path, [node], (1, 4, 8, 9), {"w": (4, 4, 3, 3)}))
    assert read.cases[0].padding == sides


def test_open_sizes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="c")]
    path = network(tmp_path, nodes, ("batch", 3, "height", "width"), {"w": (4, 3, 3, 3)})
    read = read_network(path)
    assert read.cases == []
    assert len(read.skipped) == 1
    (case,) = read_network(path, input_shapes={"x": (2, 3, 32, 24)}).cases
    assert case.notation == "n2c3h32w24k4r3s1p0nobias"
    assert read_network(path, batch=5, input_shapes={"x": (2, 3, 32, 24)}).cases[0].n == 5
    with pytest.raises(ValueError, match="no input 'z'; it has x"):
        read_network(path, input_shapes={"z": (1, 3, 8, 8)})


def test_one_spatial_axis_is_an_image_of_height_1(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[4, 0], dilations=[2])
    (case,) = read_network(network(tmp_path, [node], (1, 4, 100), {"w": (6, 4, 3)})).cases
    assert case.notation == "n1c4h1w100k6r1x3s1p0x4+0d1x2nobias"


def test_what_cannot_be_measured_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="volume"),
        helper.make_node("ConvTranspose", ["a", "v"], ["y"], name="up"),
    ]
    read = read_network(
        network(tmp_path, nodes, (1, 4, 8, 8, 8), {"w": (4, 4, 3, 3, 3), "v": (4, 4, 3, 3, 3)})
    )
    assert read.cases == []
    assert read.skipped == ["volume: Conv on 3 spatial axes", "up: ConvTranspose isn't measured"]


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        read_network(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match="isn't an ONNX model"):
        read_network(tmp_path / "text.onnx")


def test_weights_in_other_files_need_not_be_there(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = network(tmp_path, [node], (1, 64, 8, 8), {"w": (64, 64, 3, 3)})
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert read_network(path).cases[0].notation == "n1c64h8w8k64r3s1p0nobias"


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this release of onnx ships no networks")
def test_the_networks_that_onnx_ships() -> None:
    files = sorted(LIGHT.glob("*.onnx"))
    assert len(files) >= 9
    for file in files:
        read = read_network(file)
        assert read.skipped == []
        assert any(isinstance(case, Conv) for case in read.cases)
    # The same network from a file and from the suite.
    read = read_network(LIGHT / "light_resnet50.onnx")
    ours = suite("resnet50")
    assert sum(case.count * case.flops for case in read.cases) == sum(
        case.count * case.flops for case in ours
    )
    assert {case.weight_shape for case in read.cases if isinstance(case, Conv)} == {
        case.weight_shape for case in ours if isinstance(case, Conv)
    }
