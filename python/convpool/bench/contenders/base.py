"""What a contender is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from convpool.bench.cases import Case, Conv, Pool

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[], Any]


class UnsupportedError(Exception):
    """A case that the contender can't do. The message says why, and stands in the report."""


class Contender:
    """A library, or one way to call it. Each lives in a process of its own, made for a number of threads.

    A subclass says what it needs, and turns a case into a callable without arguments that computes a new
    result. Everything that may be done once (converting inputs, packing weights, compiling) is done before.
    """

    #: What the command line and the tables call it.
    name: ClassVar[str] = ""
    #: The modules it imports. It is left out where one isn't there.
    modules: ClassVar[tuple[str, ...]] = ()
    #: What pip calls the packages that can provide it; the first is named in "pip install".
    distributions: ClassVar[tuple[str, ...]] = ()
    #: How it is called, in a few words.
    how: ClassVar[str] = ""
    #: The layouts and dtypes of arrays that it takes.
    layouts: ClassVar[tuple[str, ...]] = ("NCHW",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    #: A layout that it keeps to, whatever the case says.
    own_layout: ClassVar[str | None] = None

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't run here, or None."""
        absent = [module for module in cls.modules if importlib.util.find_spec(module) is None]
        if not absent:
            return None
        packages = [*cls.distributions[:1], *absent[1:]] if absent[0] == cls.modules[0] else absent
        return f"{', '.join(absent)} not installed (pip install {' '.join(packages)})"

    @classmethod
    def version(cls) -> str:
        """The installed version, or ''."""
        for distribution in cls.distributions:
            try:
                return importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""

    def conv2d(self, case: Conv, input: Array, weight: Array, bias: Array | None) -> Run:
        """Prepares a convolution of ``input``, in the case's layout; ``weight`` is (K, C/groups, kH, kW)."""
        raise UnsupportedError("no convolution")

    def pool2d(self, case: Pool, input: Array) -> Run:
        """Prepares a pooling of ``input``, in the case's layout."""
        raise UnsupportedError("no pooling")

    def to_numpy(self, result: Any) -> Array:
        """A result as an array in the case's layout. Not timed."""
        return np.asarray(result)

    def explain(self) -> str:
        """What the library chose for the case prepared last, where it tells."""
        return ""

    def laid_out(self, case: Case) -> Case:
        """The case in the layout that this contender will have it. Raises UnsupportedError."""
        if case.dtype not in self.dtypes:
            raise UnsupportedError(f"{' and '.join(self.dtypes)} only")
        if self.own_layout is not None:
            from dataclasses import replace

            return replace(case, layout=self.own_layout)
        if case.layout not in self.layouts:
            raise UnsupportedError(f"{' and '.join(self.layouts)} only")
        return case
