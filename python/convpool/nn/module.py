"""The base class of all layers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from convpool import _arguments as args
from convpool._arguments import Array, ArrayLike

__all__ = ["IncompatibleKeys", "Module"]

Self = TypeVar("Self", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` found amiss: parameters without a value, and values without a parameter."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer, or a network of layers: subclass it, assign layers to attributes, and define ``forward``.

    Layers assigned to attributes are found by ``parameters()`` and shown by ``repr``, as in
    ``torch.nn.Module``. Arrays become parameters through ``register_parameter``.

    >>> import numpy as np
    >>> from convpool import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         self.features = nn.Conv2d(1, 4, 3)
    ...         self.readout = nn.Linear(4, 2)
    ...
    ...     def forward(self, x):
    ...         return self.readout(self.features(x).mean(axis=(2, 3)))
    >>> net = Net()
    >>> net
    Net(
      (features): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
      (readout): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> {name: parameter.shape for name, parameter in net.named_parameters() if "weight" in name}
    {'features.weight': (4, 1, 3, 3), 'readout.weight': (2, 4)}
    >>> net(np.zeros((8, 1, 6, 6), dtype=np.float32)).shape
    (8, 2)
    """

    training: bool

    # The names of the attributes that are parameters and layers, in order; their values are attributes.
    _parameter_names: dict[str, None]
    _child_names: dict[str, None]

    _required: frozenset[str] = frozenset()  # parameters that can't be None

    def __new__(cls: type[Self], *args: Any, **kwargs: Any) -> Self:
        """Makes a layer without parameters, so that a subclass need not call ``__init__`` first."""
        self = super().__new__(cls)
        self.__dict__.update(training=True, _parameter_names={}, _child_names={})
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls ``forward``."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes; each subclass says."""
        raise NotImplementedError(f"{type(self).__name__} doesn't define forward()")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._parameter_names:
            value = self._adopt(name, value)
        elif isinstance(value, Module):
            self._child_names[name] = None
        else:
            self._child_names.pop(name, None)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._parameter_names.pop(name, None)
        self._child_names.pop(name, None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for registry in ("_parameter_names", "_child_names"):  # copy.copy would share them
            self.__dict__[registry] = dict(state[registry])

    def _adopt(self, name: str, value: ArrayLike | None) -> Array | None:
        """A new value of a parameter, as it will be stored."""
        if value is None:
            if name in self._required:
                raise TypeError(f"{name} of {type(self).__name__} must be an array, got None")
            return None
        value = args.array(value, name)
        current = self.__dict__.get(name)
        if current is not None and value.shape != current.shape:
            raise ValueError(
                f"{name} must keep its shape {current.shape}, got {value.shape}; "
                f"make a new {type(self).__name__}"
            )
        return value

    def register_parameter(self, name: str, value: ArrayLike | None) -> None:
        """Makes an attribute that ``parameters()`` lists, of a float32 or float64 array, or None."""
        _check_name(self, name)
        self._parameter_names[name] = None
        try:
            setattr(self, name, value)
        except BaseException:
            del self._parameter_names[name]
            raise

    def add_module(self, name: str, module: Module) -> None:
        """Assigns a layer to an attribute, whose name need not be an identifier."""
        if not isinstance(module, Module):
            raise TypeError(f"module must be a convpool.nn.Module, got {type(module).__name__}")
        _check_name(self, name)
        setattr(self, name, module)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The layers assigned to this one, with their names."""
        for name in self._child_names:
            yield name, self.__dict__[name]

    def children(self) -> Iterator[Module]:
        """The layers assigned to this one."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """The layer itself and all below it, each once, with dotted names."""
        yield from self._walk(prefix, set())

    def modules(self) -> Iterator[Module]:
        """The layer itself and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_join(prefix, name), seen)

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Array]]:
        """The parameters of this layer and all below it, each once, with dotted names; no copies."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name in module._parameter_names:
                value = module.__dict__[name]
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def parameters(self, recurse: bool = True) -> Iterator[Array]:
        """The parameters of this layer and all below it, each once; no copies."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def _owners(self, prefix: str = "") -> Iterator[tuple[str, Module, str]]:
        """Each parameter's dotted name, layer and name there; a shared layer comes under all its names."""
        for name in self._parameter_names:
            if self.__dict__[name] is not None:
                yield _join(prefix, name), self, name
        for name, child in self.named_children():
            yield from child._owners(_join(prefix, name))

    def state_dict(self) -> dict[str, Array]:
        """All parameters by dotted name: the arrays themselves.

        ``np.savez(path, **net.state_dict())`` saves them.

        >>> from convpool import nn
        >>> list(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).state_dict())
        ['0.weight', '0.bias']
        """
        return {key: module.__dict__[name] for key, module, name in self._owners()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Copies values into the parameters.

        They come from ``state_dict()``, ``np.load``, or a PyTorch network's state. With ``strict`` the names
        must be the same; without, what has no counterpart is passed over. Returns the names that didn't
        match. Raises ValueError, before anything is changed, for such names and for shapes that differ, and
        TypeError for what is no float array.

        >>> from convpool import nn
        >>> a, b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        >>> b.load_state_dict(a.state_dict())
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        >>> bool((a.weight == b.weight).all())
        True
        """
        owners = {key: (module, name) for key, module, name in self._owners()}
        result = IncompatibleKeys(
            [key for key in owners if key not in state_dict], [key for key in state_dict if key not in owners]
        )
        problems = []
        if strict and result.missing_keys:
            problems.append(f"missing keys: {', '.join(result.missing_keys)}")
        if strict and result.unexpected_keys:
            problems.append(f"unexpected keys: {', '.join(result.unexpected_keys)}")
        values = {key: args.array(state_dict[key], key) for key in owners if key in state_dict}
        for key, value in values.items():
            module, name = owners[key]
            shape = module.__dict__[name].shape
            if value.shape != shape:
                problems.append(f"{key} has shape {value.shape}, the parameter {shape}")
        if problems:
            hint = "; strict=False passes over names" if strict and any(result) else ""
            raise ValueError(f"state_dict doesn't fit {type(self).__name__}: {'; '.join(problems)}{hint}")
        for key, value in values.items():
            module, name = owners[key]
            current = module.__dict__[name]
            if current.flags.writeable:
                np.copyto(current, value, casting="same_kind")
            else:
                setattr(module, name, value.astype(current.dtype))
        return result

    def train(self: Self, mode: bool = True) -> Self:
        """Sets the attribute ``training`` of this layer and all below it."""
        mode = args.switch(mode, "mode")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Sets the attribute ``training`` of this layer and all below it to False."""
        return self.train(False)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not children and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        lines = textwrap.indent("\n".join([*([extra] if extra else []), *children]), "  ")
        return f"{type(self).__name__}(\n{lines}\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _check_name(module: Module, name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {name!r} ({type(name).__name__})")
    taken = hasattr(module, name) and name not in module._child_names and name not in module._parameter_names
    if not name or "." in name or taken:
        reason = "is taken" if taken else "must not be empty or contain a dot"
        raise ValueError(f"name {reason}, got {name!r}")
