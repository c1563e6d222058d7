"""ONNX files: the convolutions and poolings of a network as cases, and a case as a network of one node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convpool.bench.cases import Case, Conv, Pair, Pool, Sides
from convpool.bench.suites import merge

Array = npt.NDArray[Any]

# The last opset whose Conv, MaxPool and AveragePool all the libraries here read; 19 brought dilated averages.
_OPSET, _DILATED_AVERAGE_OPSET, _IR_VERSION = 13, 19, 8

POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")


def single_node(case: Case, weight: Array | None = None, bias: Array | None = None) -> Any:
    """An ``onnx.ModelProto`` of one node with input ``x`` and result ``y``; weights are its constants."""
    import onnx
    from onnx import helper, numpy_helper

    (top, bottom), (left, right) = case.padding
    attributes: dict[str, Any] = {
        "kernel_shape": case.kernel,
        "strides": case.stride,
        "pads": [top, left, bottom, right],
    }
    names = ["x"]
    constants = []
    opset = _OPSET
    if isinstance(case, Conv):
        operator = "Conv"
        attributes.update(dilations=case.dilation, group=case.groups)
        for name, value in (("w", weight), ("b", bias)):
            if value is not None:
                names.append(name)
                constants.append(numpy_helper.from_array(value, name))
    elif case.mode == "max":
        operator = "MaxPool"
        attributes.update(dilations=case.dilation, ceil_mode=int(case.ceil_mode))
    else:
        operator = "AveragePool"
        attributes.update(count_include_pad=int(case.count_include_pad), ceil_mode=int(case.ceil_mode))
        if case.dilation != (1, 1):
            attributes["dilations"] = case.dilation
            opset = _DILATED_AVERAGE_OPSET
    element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], **attributes)],
        "layer",
        [helper.make_tensor_value_info("x", element, case.input_shape)],
        [helper.make_tensor_value_info("y", element, case.output_shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


@dataclasses.dataclass(frozen=True)
class Network:
    """What a file holds of interest: cases, each once, and what was passed over with the reason."""

    name: str
    cases: list[Case]
    skipped: list[str]


def read_network(
    path: str | Path, batch: int | None = None, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Network:
    """The 2-D convolutions and poolings of an ONNX file, with shapes inferred, each with how often it occurs.

    Layers on one spatial axis become images of height 1. Sizes that the file leaves open count as 1;
    ``input_shapes`` gives the shapes of inputs by name instead, and ``batch`` overrides the batch of every
    layer. Files beside the model, which hold the weights of large ones, need not be there. Raises ValueError
    for a file that can't be read.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}") from None
    except Exception as error:  # protobuf's DecodeError has no public base class
        raise ValueError(f"{str(path)!r} isn't an ONNX model: {error}") from error
    _close_shapes(model, input_shapes or {})
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise ValueError(f"can't infer the shapes of {str(path)!r}: {error}") from error
    graph = model.graph
    shapes = dict(_shapes(graph))
    cases: list[Case] = []
    skipped = []
    for index, node in enumerate(graph.node):
        if node.op_type not in ("Conv", *POOLS):
            if "Conv" in node.op_type or "Pool" in node.op_type:
                skipped.append(f"{node.name or node.output[0]}: {node.op_type} isn't measured")
            continue
        name = node.name or node.output[0] or f"{node.op_type}{index}"
        try:
            case = _case(node, shapes, name)
            if batch is not None:
                case = dataclasses.replace(case, n=batch)
            if min(case.output_shape) < 1:
                raise ValueError("empty result")
        except ValueError as error:
            skipped.append(f"{name}: {error}")
            continue
        cases.append(case)
    return Network(Path(path).stem, merge(cases), skipped)


def _close_shapes(model: Any, given: Mapping[str, Sequence[int]]) -> None:
    """Gives every input a size along every axis."""
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constants]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"the model has no input {unknown[0]!r}; it has {', '.join(names)}")
    for value in model.graph.input:
        if value.name in constants or not value.type.HasField("tensor_type"):
            continue
        dimensions = value.type.tensor_type.shape.dim
        shape = given.get(value.name)
        if shape is not None:
            del dimensions[:]
            for size in shape:
                dimensions.add().dim_value = size
        for dimension in dimensions:
            if dimension.dim_value < 1:
                dimension.dim_value = 1
    if given:  # what the file says of the values inside was for other sizes
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")


def _shapes(graph: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for values in (graph.input, graph.value_info, graph.output):
        for value in values:
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                yield value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], tuple(attribute.t.dims)


def _known(shapes: Mapping[str, tuple[int, ...]], name: str, what: str) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or not shape or min(shape) < 1:
        raise ValueError(f"the shape of its {what} isn't known; --input-shape may help")
    return shape


def _case(node: Any, shapes: Mapping[str, tuple[int, ...]], name: str) -> Case:
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shape = _known(shapes, node.input[0], "input")
    axes = len(shape) - 2
    if axes not in (1, 2):
        raise ValueError(f"{node.op_type} on {axes} spatial axes")
    n, c = shape[:2]
    size: Pair = (shape[2], shape[3]) if axes == 2 else (1, shape[2])

    def spatial(key: str, default: int) -> Pair:
        values = list(attributes.get(key, [default] * axes))
        return (values[0], values[1]) if axes == 2 else (default, values[0])

    if node.op_type.startswith("Global"):
        mode = "max" if node.op_type == "GlobalMaxPool" else "avg"
        return Pool(n, c, *size, size, size, name=name, mode=mode)
    weight = _known(shapes, node.input[1], "weight") if node.op_type == "Conv" else ()
    kernel = spatial("kernel_shape", 1) if "kernel_shape" in attributes else (1, 1, *weight[2:])[-2:]
    kernel = (kernel[0], kernel[1])
    stride, dilation = spatial("strides", 1), spatial("dilations", 1)
    padding = _padding(attributes, axes, size, kernel, stride, dilation)
    common: dict[str, Any] = {
        "n": n, "c": c, "h": size[0], "w": size[1], "kernel": kernel, "stride": stride, "padding": padding,
        "dilation": dilation, "name": name,
    }  # fmt: skip
    if node.op_type == "Conv":
        groups = int(attributes.get("group", 1))
        bias = len(node.input) > 2 and node.input[2] != ""
        if weight[1] * groups != c:
            raise ValueError(f"a weight of shape {weight} doesn't fit {c} channels in {groups} groups")
        return Conv(**common, k=weight[0], groups=groups, bias=bias)
    return Pool(
        **common,
        mode="max" if node.op_type == "MaxPool" else "avg",
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=node.op_type == "MaxPool" or bool(attributes.get("count_include_pad", 0)),
    )


def _padding(
    attributes: Mapping[str, Any], axes: int, size: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> Sides:
    auto = attributes.get("auto_pad", b"NOTSET")
    name = auto.decode() if isinstance(auto, bytes) else str(auto)
    if name == "VALID":
        return (0, 0), (0, 0)
    if name in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for length, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max(0, (-(-length // s) - 1) * s + d * (k - 1) + 1 - length)
            small, large = total // 2, total - total // 2
            sides.append((small, large) if name == "SAME_UPPER" else (large, small))
        return sides[0], sides[1]
    if name != "NOTSET":
        raise ValueError(f"auto_pad {name} isn't known")
    pads = list(attributes.get("pads", [0] * (2 * axes)))
    if min(pads, default=0) < 0:
        raise ValueError(f"negative pads {pads}")
    if axes == 1:
        return (0, 0), (pads[0], pads[1])
    return (pads[0], pads[2]), (pads[1], pads[3])
