from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convpool
from arrays import values
from comparison import assert_same_bits, check_conv2d
from convpool import nn, reference


def check(layer: nn.Conv2d, x: Any) -> None:
    """The layer must give what its weights of this moment give."""
    options = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
        "layout": layer.layout,
        "activation": layer.activation,
    }
    check_conv2d(layer(x), x, layer.weight, layer.bias, **options)


# -------------------------------------------------------------------------------- a weight that changed


X = values((2, 4, 9, 10))


def test_changes_in_place_take_effect() -> None:
    layer = nn.Conv2d(4, 300, 3, padding=1)  # several blocks of weights
    view, flat = layer.weight[17, 2], layer.weight.reshape(-1)
    check(layer, X)
    changes = [
        lambda: layer.weight.__setitem__((0, 0, 0, 0), 5),
        lambda: layer.weight.__setitem__((-1, -1, -1, -1), 5),
        lambda: layer.weight.__imul__(2),
        lambda: view.__setitem__((1, 1), -3),
        lambda: flat.__setitem__(4321, 8),
        lambda: layer.bias.__setitem__(299, 4),
        lambda: np.negative(layer.weight, out=layer.weight),
        lambda: [p.fill(0.5) for p in layer.parameters()],
        lambda: memoryview(layer.weight).cast("B").__setitem__(0, 1),
    ]
    for change in changes:
        change()
        check(layer, X)
        check(layer, X)


def test_changes_that_compare_equal_take_effect() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    layer.weight[...] = 0.0
    x = np.full((1, 1, 1), -1, np.float32)
    assert np.signbit(layer(x)) == np.signbit(reference.conv2d(x, layer.weight))
    layer.weight[...] = np.nan
    assert np.isnan(layer(x))
    layer.weight[...] = 2
    assert layer(x) == -2


def test_assignments_take_effect() -> None:
    layer = nn.Conv2d(4, 6, 3)
    check(layer, X)
    mine = values(layer.weight.shape, seed=5)
    layer.weight = mine
    check(layer, X)
    mine[0] = 7  # the layer has this array, not a copy
    check(layer, X)
    assert layer.weight is mine
    layer.weight = np.asfortranarray(values(layer.weight.shape, seed=6))
    check(layer, X)
    layer.weight[3, 1] = 0
    check(layer, X)
    layer.bias = None
    check(layer, X)
    assert "bias=False" in repr(layer)
    layer.bias = np.ones(6, np.float32)
    check(layer, X)
    layer.weight, layer.bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
    check(layer, X.astype(np.float64))
    for name, value in {
        "stride": 2,
        "padding": [1, 2],
        "dilation": (1, 2),
        "padding_mode": "circular",
        "activation": "silu",
        "algorithm": "naive",
    }.items():
        setattr(layer, name, value)
        check(layer, X.astype(np.float64))
    layer.layout = "NHWC"
    check(layer, np.ascontiguousarray(X.astype(np.float64).transpose(0, 2, 3, 1)))


def test_an_assigned_option_can_not_change_behind_the_layers_back() -> None:
    layer, stride = nn.Conv2d(4, 6, 3), [1, 1]
    layer.stride = stride
    shape = layer(X).shape
    stride[0] = 2
    assert layer(X).shape == shape
    assert layer.stride == (1, 1)


def test_a_prepared_layer_has_its_own_weights() -> None:
    weight, bias = values((6, 4, 3, 3)), values((6,))
    layer = nn.Conv2d.from_weights(weight, bias)
    expected = layer(X)
    weight[...] = 0
    bias[...] = 0
    assert_same_bits(layer(X), expected)
    for parameter in layer.parameters():
        with pytest.raises(ValueError, match="read-only"):
            parameter[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            parameter.flags.writeable = True
    replacement = values((6, 4, 3, 3), seed=7)
    layer.weight = replacement
    check(layer, X)
    replacement[...] = 0
    check(layer, X)
    assert layer.weight.any()
    layer.load_state_dict({"weight": weight, "bias": np.ones(6)})
    check(layer, X)
    assert (layer(X) == 1).all()


def test_assignments_while_other_threads_compute() -> None:
    layer = nn.Conv2d.from_weights(np.zeros((4, 4, 3, 3), np.float32))
    stop = threading.Event()
    errors: list[BaseException] = []

    def compute() -> None:
        try:
            while not stop.is_set():
                layer(X)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=compute) for _ in range(3)]
    for worker in workers:
        worker.start()
    ones = np.ones((1, 4, 3, 3), np.float32)
    for i in range(200):
        layer.weight = np.full((4, 4, 3, 3), i, np.float32)
        assert (layer(ones) == 36 * i).all()
    stop.set()
    for worker in workers:
        worker.join()
    assert not errors


@pytest.mark.parametrize("prepared", [False, True])
def test_copies_are_independent(prepared: bool) -> None:
    layer = nn.Conv2d(4, 6, 3)
    if prepared:
        layer = nn.Conv2d.from_weights(layer.weight, layer.bias, activation="relu")
    expected = layer(X)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert repr(other) == repr(layer)
        assert_same_bits(other(X), expected)
        assert other.weight.flags.writeable != prepared
        other.weight = other.weight * 2
        check(other, X)
        other.scale = nn.ReLU()
        assert not list(layer.children())
        assert_same_bits(layer(X), expected)


# -------------------------------------------------------------------------------- the convolution layer


def test_a_layer_is_the_function() -> None:
    layer = nn.Conv2d(
        4, 8, (3, 2), (1, 2), ((0, 1), (2, 0)), 2, 2, activation="relu6", padding_mode="replicate"
    )
    check(layer, X)
    check(layer, X[0])
    out = np.empty(layer(X).shape, np.float32)
    assert layer(X, out=out, num_threads=2) is out
    assert_same_bits(out, layer(X, num_threads=1))
    with pytest.raises(ValueError, match="share memory with weight"):
        layer(np.ones((4, 4, 3), np.float32), out=layer.weight.reshape(-1)[:16].reshape(8, 2, 1))


def test_padding_is_shown_as_given() -> None:
    for padding, shown in [
        (0, None),
        (2, "(2, 2)"),
        ([1, 2], "(1, 2)"),
        ("same", "same"),
        ("full", "full"),
        (((0, 1), (2, 3)), "((0, 1), (2, 3))"),
    ]:
        text = repr(nn.Conv2d(1, 1, 3, padding=padding))
        assert (
            text == f"Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1){f', padding={shown}' if shown else ''})"
        )


def test_what_pytorch_lacks_comes_last() -> None:
    layer = nn.Conv2d(
        2, 4, 3, dilation=2, groups=2, bias=False, padding_mode="circular", layout="NHWC",
        activation="silu", algorithm="im2col", dtype=np.float64,
    )  # fmt: skip
    assert repr(layer) == (
        "Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), dilation=(2, 2), groups=2, bias=False, "
        "padding_mode=circular, layout=NHWC, activation=silu, algorithm=im2col, dtype=float64)"
    )
    assert repr(nn.AvgPool2d(2, dilation=3, layout="NHWC")).endswith("padding=0, dilation=3, layout=NHWC)")


def test_explain_names_the_algorithm() -> None:
    for algorithm in ("auto", "naive", "im2col", "implicit_gemm"):
        text = nn.Conv2d(3, 8, 3, algorithm=algorithm).explain((1, 3, 32, 32))
        names = ("naive", "im2col", "implicit_gemm", "direct", "winograd", "depthwise")
        assert any(name in text for name in (names if algorithm == "auto" else (algorithm,)))
    with pytest.raises(ValueError, match="C=4"):
        nn.Conv2d(3, 8, 3).explain((1, 4, 32, 32))
    with pytest.raises(TypeError, match="input_shape"):
        nn.Conv2d(3, 8, 3).explain("shape")


def test_many_shapes_through_one_prepared_layer() -> None:
    layer = nn.Conv2d.from_weights(values((5, 3, 3, 3)), padding=1)
    for size in range(1, 80):
        x = values((1, 3, 2, size))
        check(layer, x)


# -------------------------------------------------------------------------------- initial values


def test_initial_values_are_uniform_on_the_documented_interval() -> None:
    for layer, fan_in in ((nn.Conv2d(8, 512, (3, 5), groups=2), 60), (nn.Linear(60, 512), 60)):
        bound = fan_in**-0.5
        for parameter in layer.parameters():
            assert parameter.dtype == np.float32
            assert bound * 0.95 < abs(parameter).max() <= np.nextafter(np.float32(bound), np.float32(1))
            assert abs(parameter.mean()) < 0.1 * bound
            assert parameter.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_seeds() -> None:
    def draw(**options: Any) -> list[bytes]:
        layers = nn.Sequential(nn.Conv2d(2, 3, 3, **options), nn.Linear(4, 5, **options))
        return [p.tobytes() for p in layers.parameters()]

    nn.manual_seed(3)
    first = draw()
    assert draw() != first
    nn.manual_seed(3)
    assert draw() == first
    nn.manual_seed(4)
    assert draw() != first
    assert draw(generator=np.random.default_rng(3)) == first


# -------------------------------------------------------------------------------- modules


class Net(nn.Module):
    def __init__(self) -> None:  # does without super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.head = nn.Linear(2, 3)
        self.register_parameter("scale", np.ones(3, np.float32))
        self.register_parameter("shift", None)
        self.note = "not a layer"

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x).mean(axis=(2, 3))) * self.scale


def test_names() -> None:
    net = Net()
    names = ["scale", "body.0.weight", "body.0.bias", "head.weight", "head.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert [name for name, _ in net.named_parameters("net", recurse=False)] == ["net.scale"]
    assert list(net.state_dict()) == names
    assert [name for name, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "head"]
    assert [type(m).__name__ for m in net.modules()] == ["Net", "Sequential", "Conv2d", "ReLU", "Linear"]
    assert [name for name, _ in net.named_children()] == ["body", "head"]
    assert list(net.children()) == [net.body, net.head]
    assert net(np.ones((5, 1, 6, 6), np.float32)).shape == (5, 3)
    assert repr(net) == (
        "Net(\n"
        "  (body): Sequential(\n"
        "    (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (head): Linear(in_features=2, out_features=3, bias=True)\n"
        ")"
    )


def test_attributes() -> None:
    net = Net()
    net.head = nn.Linear(2, 4)
    assert list(net.state_dict()) == ["scale", "body.0.weight", "body.0.bias", "head.weight", "head.bias"]
    del net.head
    assert [name for name, _ in net.named_children()] == ["body"]
    net.body = None
    assert not list(net.children())
    with pytest.raises(ValueError, match=r"scale must keep its shape \(3,\), got \(4,\)"):
        net.scale = np.ones(4)
    with pytest.raises(TypeError, match="scale"):
        net.scale = nn.ReLU()
    with pytest.raises(TypeError, match=r"weight of Conv2d must be an array, got None"):
        nn.Conv2d(1, 1, 1).weight = None
    with pytest.raises(ValueError, match="taken"):
        net.register_parameter("note", np.ones(1))
    with pytest.raises(ValueError, match="dot"):
        net.add_module("a.b", nn.ReLU())
    with pytest.raises(TypeError, match="Module"):
        net.add_module("a", 3)
    with pytest.raises(NotImplementedError, match="Empty"):
        type("Empty", (nn.Module,), {})()(1)


def test_shared_layers_are_counted_once() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    net = nn.Sequential(layer, layer, nn.ReLU())
    assert len(list(net.parameters())) == 2
    assert len(list(net.modules())) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net.load_state_dict(net.state_dict())


def test_training_flag() -> None:
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())


def test_state(tmp_path: Path) -> None:
    a, b = Net(), Net()
    x = values((2, 1, 6, 6))
    np.savez(tmp_path / "net.npz", **a.state_dict())
    with np.load(tmp_path / "net.npz") as state:
        result = b.load_state_dict(state)
    assert result.missing_keys == result.unexpected_keys == []
    np.testing.assert_array_equal(a(x), b(x))
    assert a.state_dict()["head.bias"] is a.head.bias
    b.head.weight[...] = 0
    assert a.head.weight.any()


def test_wrong_states_change_nothing() -> None:
    net = Net()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    good = {name: array + 1 for name, array in before.items()}
    extra = {**good, "tail.weight": np.ones(1)}
    short = {name: array for name, array in good.items() if name != "head.bias"}
    for state, message in [
        (extra, "unexpected keys: tail.weight"),
        (short, "missing keys: head.bias.*strict=False"),
        ({**good, "head.bias": np.ones(4)}, r"head.bias has shape \(4,\), the parameter \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.load_state_dict(state)
        for name, array in net.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match=r"head\.bias.*int64"):
        net.load_state_dict({**good, "head.bias": np.arange(3)})
    assert net.load_state_dict(extra, strict=False).unexpected_keys == ["tail.weight"]
    assert net.load_state_dict(short, strict=False).missing_keys == ["head.bias"]
    np.testing.assert_array_equal(net.head.weight, good["head.weight"])


def test_sequential() -> None:
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*layers)
    assert list(net) == layers
    assert len(net) == 3
    assert net[0] is layers[0]
    assert net[np.int64(-1)] is layers[2]
    assert list(net[:2]) == layers[:2]
    assert isinstance(net[1:], nn.Sequential)
    with pytest.raises(IndexError, match="3 is out of range for 3"):
        net[3]
    net[1] = nn.Sigmoid()
    assert repr(net[1]) == "Sigmoid()"
    assert net.append(nn.Linear(2, 2)) is net
    assert [name for name, _ in net.named_children()] == ["0", "1", "2", "3"]
    named = nn.Sequential({"a": layers[0], "b": layers[1]})
    assert (
        repr(named) == "Sequential(\n  (a): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))\n  (b): ReLU()\n)"
    )
    assert named.a is layers[0]
    assert repr(nn.Sequential()) == "Sequential()"
    with pytest.raises(TypeError, match="Module"):
        nn.Sequential(np.tanh)
    with pytest.raises(ValueError, match="forward"):
        nn.Sequential({"forward": nn.ReLU()})


# -------------------------------------------------------------------------------- the other layers


def test_pooling_layers_are_the_functions() -> None:
    assert_same_bits(
        nn.MaxPool2d(3, 2, 1, ceil_mode=True)(X), convpool.max_pool2d(X, 3, 2, 1, ceil_mode=True)
    )
    got, indices = nn.MaxPool2d((2, 3), return_indices=True)(X)
    expected, expected_indices = convpool.max_pool2d(X, (2, 3), return_indices=True)
    assert_same_bits(got, expected)
    assert_same_bits(indices, expected_indices)
    for options in ({"count_include_pad": False}, {"divisor_override": 3}, {"ceil_mode": True}):
        assert_same_bits(nn.AvgPool2d(3, 2, 1, **options)(X), convpool.avg_pool2d(X, 3, 2, 1, **options))
    assert_same_bits(nn.AvgPool2d(2, layout="NHWC")(X), convpool.avg_pool2d(X, 2, layout="NHWC"))
    out = np.empty((2, 4, 4, 5), np.float32)
    assert nn.MaxPool2d(2)(X, out=out, num_threads=1) is out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_layers(dtype: Any) -> None:
    x = np.array([-np.inf, -1000, -1, -0.0, 0, 0.5, 1000, np.inf, np.nan], dtype)
    before = x.copy()
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        for layer, name in ((nn.ReLU(), "relu"), (nn.Sigmoid(), "sigmoid")):
            got = layer(x)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, reference.activate(x, name), rtol=1e-6)
            np.testing.assert_array_equal(x, before)
    assert nn.ReLU(inplace=True)(x) is x
    np.testing.assert_array_equal(x, nn.ReLU()(before))
    with pytest.raises(ValueError, match="writeable"):
        nn.ReLU(inplace=True)(np.broadcast_to(x, (2, 9)))


def test_flatten_and_linear() -> None:
    x = values((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0)(x).shape == (120,)
    assert nn.Flatten(1, 2)(x).shape == (2, 12, 5)
    assert nn.Flatten(-3, -2)(x).shape == (2, 12, 5)
    assert nn.Flatten()(x[:0]).shape == (0, 60)
    layer = nn.Linear(5, 7)
    assert layer.bias is not None
    np.testing.assert_allclose(layer(x), x @ layer.weight.T + layer.bias, rtol=1e-6)
    assert layer(x[0, 0, 0]).shape == (7,)
    layer.weight[...] = 0
    layer.bias = None
    assert not layer(x).any()
    with pytest.raises(TypeError, match="input float64, weight float32"):
        layer(x.astype(np.float64))
