"""A contender's process: it reads commands as lines of JSON, and answers each with one line.

It prepares a case and checks its answer, then times calls when it is told to. Between commands it sleeps on
the pipe, so that nothing of it runs while others are timed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from convpool.bench import machine
from convpool.bench.cases import Conv, from_dict
from convpool.bench.check import Expectation, make_inputs
from convpool.bench.contenders import Contender, Run, UnsupportedError, find

# A turn begins with this long of calls that don't count: clocks, caches and sleeping threads.
_WAKE_UP = 0.005
# A call of this length is awake for nearly all of it.
_NEEDS_NO_WAKE_UP = 0.2


class Worker:
    """The commands; each is a method that takes and gives plain values."""

    def __init__(self, contender: Contender | None, cpus: list[int]) -> None:
        self.contender = contender
        self.cpus = cpus
        self.run: Run | None = None
        self._evict: Callable[[], None] | None = None

    def prepare(self, case: dict[str, Any], expectation: str) -> dict[str, Any]:
        """Builds a case, and compares its first answer with the right one."""
        self.release()
        assert self.contender is not None
        try:
            wanted = self.contender.laid_out(from_dict(case))
            inputs = make_inputs(wanted)
            image = inputs.input
            if wanted.layout == "NHWC":
                image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
            start = time.perf_counter()
            if isinstance(wanted, Conv):
                assert inputs.weight is not None
                run = self.contender.conv2d(wanted, image, inputs.weight, inputs.bias)
            else:
                run = self.contender.pool2d(wanted, image)
            first = run()
            seconds = time.perf_counter() - start
        except UnsupportedError as reason:
            return {"status": "unsupported", "reason": str(reason)}
        except Exception as error:
            return {"status": "error", "reason": _one_line(error)}
        result = self.contender.to_numpy(first)
        if wanted.layout == "NHWC" and result.ndim == 4:
            result = result.transpose(0, 3, 1, 2)
        if result.dtype != wanted.dtype:
            return {"status": "wrong", "reason": f"the result is {result.dtype}"}
        verdict = Expectation.load(Path(expectation)).check(result)
        answer = {"error": verdict.error, "prepare_seconds": seconds, "explain": self.contender.explain()}
        if not verdict.right:
            return {"status": "wrong", "reason": verdict.reason, **answer}
        self.run = run
        return {"status": "ok", **answer}

    def calibrate(self, cache: str, sample: float, limit: float) -> dict[str, Any]:
        """Warms up, and finds how many calls last ``sample`` seconds."""
        assert self.run is not None
        if cache == "cold":
            seconds = min(self._cold(1) + self._cold(1))
            return {"status": "ok", "loops": 1, "call": seconds}
        best, spent, loops = math.inf, 0.0, 1
        while spent < limit and not (spent >= 10 * sample and loops * best >= sample / 2):
            seconds = self._hot(loops)
            spent += seconds * loops
            best = min(best, seconds)
            loops = max(1, min(2 * loops, math.ceil(sample / best)))
        return {"status": "ok", "loops": max(1, math.ceil(sample / best)), "call": best}

    def turn(self, cache: str, loops: int, samples: int, call: float) -> dict[str, Any]:
        """Times; gives seconds a call, one number a sample. ``call`` says about how long one takes."""
        assert self.run is not None
        gc.collect()
        gc.disable()
        try:
            if cache == "cold":
                self._cold(1)
                return {"status": "ok", "samples": self._cold(samples)}
            start = time.perf_counter()
            while call < _NEEDS_NO_WAKE_UP and time.perf_counter() - start < _WAKE_UP:
                self._hot(1)
            return {"status": "ok", "samples": [self._hot(loops) for _ in range(samples)]}
        finally:
            gc.enable()

    def release(self) -> dict[str, Any]:
        """Forgets the case."""
        self.run = None
        gc.collect()
        return {"status": "ok"}

    def limits(self, threads: int, seconds: float) -> dict[str, Any]:
        """What the machine can do at most."""
        return {"status": "ok", **machine.measure_limits(threads, self.cpus, seconds)}

    def _hot(self, loops: int) -> float:
        run = self.run
        assert run is not None
        calls = range(loops)
        start = time.perf_counter_ns()
        for _ in calls:
            run()
        return (time.perf_counter_ns() - start) * 1e-9 / loops

    def _cold(self, samples: int) -> list[float]:
        run = self.run
        assert run is not None
        if self._evict is None:
            self._evict = _evictor(self.cpus)
        times = []
        for _ in range(samples):
            self._evict()
            start = time.perf_counter_ns()
            run()
            times.append((time.perf_counter_ns() - start) * 1e-9)
        return times


def _evictor(cpus: list[int]) -> Callable[[], None]:
    """A function that fills every cache of the CPUs with something else."""
    size = max(2 * machine.last_level_cache(), 16 << 20)
    waiting = iter(cpus)

    def pin() -> None:
        cpu = next(waiting, None)
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {cpu})  # of this thread alone

    pool = ThreadPoolExecutor(len(cpus), initializer=pin)
    buffers = [np.zeros(size // 8 // len(cpus) + (1 << 18)) for _ in cpus]

    def touch(buffer: Any) -> None:
        np.add(buffer, 1.0, out=buffer)

    def evict() -> None:
        list(pool.map(touch, buffers))

    return evict


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


@contextlib.contextmanager
def _answers() -> Iterator[TextIO]:
    """Standard output for answers alone: what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        yield channel
    finally:
        with contextlib.suppress(BrokenPipeError):
            channel.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(argv: list[str]) -> int:
    """Runs the commands of standard input until it ends: ``worker.py CONTENDER THREADS CPU,CPU,...``."""
    name, threads, cpu_list = argv
    _die_with_parent()
    cpus = [int(cpu) for cpu in cpu_list.split(",")]
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)
    with _answers() as channel:

        def answer(values: dict[str, Any]) -> None:
            channel.write(json.dumps(values) + "\n")
            channel.flush()

        try:
            contender = _start(name, int(threads))
            described = {} if contender is None else {"version": contender.version(), "how": contender.how}
        except Exception as error:
            answer({"status": "error", "reason": _one_line(error)})
            return 1
        gc.collect()
        gc.freeze()  # a library's hundreds of thousands of objects aren't looked through again
        worker = Worker(contender, cpus)
        answer({"status": "ok", **described})
        for line in sys.stdin:
            message = json.loads(line)
            command = getattr(worker, message.pop("command"))
            try:
                answer(command(**message))
            except Exception as error:
                answer({"status": "error", "reason": _one_line(error)})
    return 0


def _start(name: str, threads: int) -> Contender | None:
    if name == "-":
        return None
    contender_type = find(name)
    missing = contender_type.missing()
    if missing:
        raise RuntimeError(missing)
    for module in contender_type.modules:
        importlib.import_module(module)
    return contender_type(threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
