"""The parent's side of a contender's process: start it, ask it, and notice when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["ProcessDiedError", "ProcessTimeoutError", "Process"]


class ProcessDiedError(Exception):
    """The process ended without an answer. The message says how, and what it wrote last."""


class ProcessTimeoutError(Exception):
    """No answer came in time, and the process was ended."""


class Process:
    """One contender's process, pinned to its CPUs. The kernel stops it whenever it isn't asked anything.

    Libraries keep threads spinning for a while after a call, in wait for the next one; stopped, they can't
    take the CPU from the contender that is timed meanwhile.
    """

    def __init__(self, contender: str, threads: int, cpus: Sequence[int]) -> None:
        environment = dict(os.environ)
        for variable in (
            "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
            "CONVPOOL_NUM_THREADS",
        ):  # fmt: skip
            environment[variable] = str(threads)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "convpool.bench.worker",
                contender,
                str(threads),
                ",".join(map(str, cpus)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which still wants their answers
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def started(self, timeout: float) -> dict[str, Any]:
        """The first message, which comes when the library is imported."""
        answer = self._answer(timeout)
        self._pause()
        return answer

    def ask(self, command: str, timeout: float, **values: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer. Raises ProcessDiedError or ProcessTimeoutError."""
        self._resume()
        try:
            self._input.write(json.dumps({"command": command, **values}).encode() + b"\n")
            self._input.flush()
        except (BrokenPipeError, OSError):
            raise self._death() from None
        answer = self._answer(timeout)
        self._pause()
        return answer

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError, OSError):
            self._input.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._selector.close()
        self._output.close()
        self._errors.close()

    def _answer(self, timeout: float) -> dict[str, Any]:
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                self._process.kill()
                raise ProcessTimeoutError(f"no answer within {timeout:g} s")
            part = os.read(self._output.fileno(), 1 << 16)
            if not part:
                raise self._death()
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> ProcessDiedError:
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return ProcessDiedError(
                    f"its process died of {signal.Signals(-code).name}{self._last_words()}"
                )
        return ProcessDiedError(f"its process ended with code {code}{self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""

    # A stopped process whose parent dies would stay for ever where the kernel can't be told to kill it then.
    def _pause(self) -> None:
        if sys.platform == "linux":
            self._process.send_signal(signal.SIGSTOP)

    def _resume(self) -> None:
        if sys.platform == "linux":
            self._process.send_signal(signal.SIGCONT)
