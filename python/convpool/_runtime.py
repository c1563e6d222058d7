"""What runs: threads, instruction sets, and how the package was built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, SupportsIndex, overload

from convpool import _arguments as args
from convpool import _core

if TYPE_CHECKING:
    from convpool._core import Config

__all__ = ["available_isas", "get_num_threads", "isa", "set_num_threads", "show_config"]


def set_num_threads(n: SupportsIndex) -> None:
    """Sets how many threads a call may use from now on, in the whole process.

    A call's own ``num_threads=`` goes before it. At the start it is what the environment says
    (``CONVPOOL_NUM_THREADS``, then ``OMP_NUM_THREADS``), or else the number of CPUs the process may use.
    Results don't depend on it. Raises ValueError for less than 1, TypeError for what is no int.

    >>> import convpool
    >>> before = convpool.get_num_threads()
    >>> convpool.set_num_threads(1)
    >>> convpool.get_num_threads()
    1
    >>> convpool.set_num_threads(before)
    """
    count = args.integer(n, "n")
    if not 1 <= count < 2**31:
        raise ValueError(f"n must be at least 1, got {count}")
    _core.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads a call may use."""
    return _core.get_num_threads()


def isa() -> str:
    """The instruction set in use: ``"sse2"``, ``"avx2"`` or ``"avx512"`` on x86-64, ``"neon"`` on aarch64.

    It is the best the machine has; the environment variable ``CONVPOOL_ISA`` forces a lower one.

    >>> import convpool
    >>> convpool.isa() in convpool.available_isas()
    True
    """
    return _core.isa()


def available_isas() -> tuple[str, ...]:
    """The instruction sets that the package was built for and this machine has."""
    return tuple(_core.available_isas())


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> Config: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Prints version, compiler, flags, instruction sets and threads.

    ``mode="dicts"`` returns them instead. Raises ValueError for another mode.

    >>> import convpool
    >>> convpool.show_config(mode="dicts")["version"] == convpool.__version__
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    config = _core.config()
    if mode == "dicts":
        return config
    lines = {
        "version": config["version"],
        "compiler": config["compiler"],
        "build type": config["build_type"],
        "flags": config["flags"],
        "ISAs built": ", ".join(config["isas_built"]),
        "ISAs available": ", ".join(config["isas_available"]),
        "ISA in use": config["isa"],
        "threads": config["num_threads"] if config["threads"] else "1, built without threads",
    }
    print("convpool")
    for name, value in lines.items():
        print(f"  {name + ':':<16}{value}")
    return None
