"""The libraries that are compared. Each file here holds one, a few lines for each way to call it.

To add one, put a file beside these with a subclass of :class:`Contender` that has a ``name``; nothing else
needs to know. One that lives elsewhere is named by file or module: ``--against my_library.py:MyLibrary``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from convpool.bench.contenders.base import Contender, Run, UnsupportedError

__all__ = ["Contender", "Run", "UnsupportedError", "find", "known"]


def known() -> dict[str, type[Contender]]:
    """All contenders of this package by name, whether their library is installed or not."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[Contender]] = {}
    pending: list[type[Contender]] = [Contender]
    while pending:
        for subclass in pending.pop().__subclasses__():
            pending.append(subclass)
            if "name" in subclass.__dict__ and subclass.__module__.startswith(__name__):
                found[subclass.name] = subclass
    return dict(sorted(found.items()))


def find(name: str) -> type[Contender]:
    """The contender of a name, or of ``file.py:Class`` or ``package.module:Class``.

    Raises ValueError for a name that there isn't.

    >>> find("convpool:im2col").name
    'convpool:im2col'
    """
    contenders = known()
    if name in contenders:
        return contenders[name]
    place, _, class_name = name.rpartition(":")
    if place.endswith(".py") or "." in place:
        module = _load(place)
        contender = getattr(module, class_name, None)
        if not (isinstance(contender, type) and issubclass(contender, Contender)):
            raise ValueError(f"{place!r} has no contender {class_name!r}")
        if "name" not in contender.__dict__:
            contender.name = class_name
        return contender
    raise ValueError(f"there is no contender {name!r}; there are {', '.join(contenders)}, and file.py:Class")


def _load(place: str) -> ModuleType:
    try:
        return _import(place)
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"can't import {place!r}: {error}") from error


def _import(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"there is no file {place!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
