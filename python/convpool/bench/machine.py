"""The machine: what it is called, and what it can do at most."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import convpool
from convpool import _core

_SYSTEM = Path("/sys/devices/system/cpu")


def describe() -> dict[str, Any]:
    """CPU, caches in bytes, instruction sets, system, and how convpool was built."""
    config = convpool.show_config("dicts")
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": len(usable_cpus()),
        "isa": convpool.isa(),
        "caches": caches(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "convpool": {key: list(v) if isinstance(v, tuple) else v for key, v in config.items()},
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str:
    """The processor's name as it gives it."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
        name = re.sub(r"\s+", " ", fields.get("model name", "")).strip()
        if name and not re.search(r"\d", name):  # a virtual machine may hide which one it is
            name += f" (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
        if name:
            return name
    return platform.processor() or platform.machine()


def usable_cpus() -> list[int]:
    """The CPUs this process may run on, one of each core first."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    cpus = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for cpu in cpus:
        siblings = str(cpu)
        with contextlib.suppress(OSError):
            siblings = (_SYSTEM / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        (second if siblings in seen else first).append(cpu)
        seen.add(siblings)
    return first + second


def busy(seconds: float = 0.2) -> float | None:
    """How many CPUs others keep busy while this process sleeps; None where the system doesn't tell."""

    def used() -> float | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
            return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and iowait
        return None

    before = used()
    start = time.monotonic()
    time.sleep(seconds)
    after = used()
    return None if before is None or after is None else (after - before) / (time.monotonic() - start)


def caches() -> dict[str, int]:
    """Bytes of each data cache that a CPU sees: ``{"L1d": ..., "L2": ..., "L3": ...}``."""
    found: dict[str, int] = {}
    for index in sorted(_SYSTEM.glob("cpu0/cache/index*")):
        with contextlib.suppress(OSError, ValueError):
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
            if kind != "Instruction":
                unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1], 1)
                found[f"L{level}" + ("d" if kind == "Data" else "")] = int(size.rstrip("KMG")) * unit
    return found


def last_level_cache() -> int:
    """Bytes of the largest cache; 32 MB where the system doesn't tell."""
    return max(caches().values(), default=32 << 20)


def _memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def measure_limits(threads: int, cpus: list[int], seconds: float = 0.2) -> dict[str, Any]:
    """The peak of fused multiply-adds in float32 and the bandwidth of a copy, in this moment.

    ``isa_peaks`` gives FLOP/s of one thread for each instruction set; ``peak`` FLOP/s and ``bandwidth`` bytes
    a second, read and written, of all threads together, each on a CPU of its own.
    """
    isa_peaks = {isa: _peak(isa, seconds) for isa in convpool.available_isas()}
    isa = convpool.isa()
    return {
        "threads": threads,
        "isa_peaks": isa_peaks,
        "peak": _together(threads, cpus, lambda: _peak(isa, seconds)),
        "bandwidth": _together(threads, cpus, lambda: _bandwidth(seconds)),
    }


def _together(threads: int, cpus: list[int], measure: Callable[[], float]) -> float:
    results: list[float] = []
    barrier = threading.Barrier(threads)

    def run(cpu: int | None) -> None:
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {cpu})
        barrier.wait()
        results.append(measure())

    pool = [threading.Thread(target=run, args=(cpus[i] if i < len(cpus) else None,)) for i in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return sum(results)


def _peak(isa: str, seconds: float) -> float:
    return float(_core.measure_fma_peak(isa, seconds))


def _bandwidth(seconds: float) -> float:
    return float(_core.measure_memory_bandwidth(seconds))
