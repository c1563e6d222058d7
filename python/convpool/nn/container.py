"""Layers made of layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex, TypeVar, overload

from convpool.nn.module import Module

__all__ = ["Sequential"]

Self = TypeVar("Self", bound="Sequential")


class Sequential(Module):
    """Layers one after the other, as ``torch.nn.Sequential``.

    They are given in order, or as a mapping of names to layers. Raises TypeError for what is no layer,
    ValueError for a name that can't be used.

    >>> from convpool import nn
    >>> net = nn.Sequential({"conv": nn.Conv2d(1, 5, 5), "pool": nn.MaxPool2d(2)})
    >>> len(net)
    2
    >>> net[-1]
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    >>> net.conv is net[0]
    True
    """

    @overload
    def __init__(self, *layers: Module) -> None: ...
    @overload
    def __init__(self, layers: Mapping[str, Module], /) -> None: ...
    def __init__(self, *layers: Any) -> None:
        mapping = len(layers) == 1 and isinstance(layers[0], Mapping)
        named = layers[0] if mapping else {str(index): layer for index, layer in enumerate(layers)}
        for name, layer in named.items():
            self.add_module(name, layer)

    def forward(self, input: Any) -> Any:
        """What the last layer makes of it."""
        value = input
        for layer in self.children():
            value = layer(value)
        return value

    def __len__(self) -> int:
        return len(self._child_names)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def _name(self, index: SupportsIndex) -> str:
        try:
            return list(self._child_names)[operator.index(index)]
        except IndexError:
            raise IndexError(f"index {index} is out of range for {len(self)} layers") from None

    @overload
    def __getitem__(self, index: SupportsIndex) -> Module: ...
    @overload
    def __getitem__(self: Self, index: slice) -> Self: ...
    def __getitem__(self, index: Any) -> Module:
        if isinstance(index, slice):
            return type(self)(dict(list(self.named_children())[index]))
        layer: Module = self.__dict__[self._name(index)]
        return layer

    def __setitem__(self, index: SupportsIndex, layer: Module) -> None:
        self.add_module(self._name(index), layer)

    def append(self: Self, layer: Module) -> Self:
        """Adds a layer at the end."""
        self.add_module(str(len(self)), layer)
        return self
