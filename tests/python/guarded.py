"""Memory between pages that can't be read: what reads beside an array there ends the process."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

needs_guards = pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")


@contextmanager
def guarded_memory(pages: int = 64) -> Iterator[Callable[[Any, Any, bool], Any]]:
    """Gives a function (shape, dtype, at_end): an array that begins, or ends, where a page can't be read."""
    page = mmap.PAGESIZE
    size = pages * page
    memory = mmap.mmap(-1, size + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None)
    none, both = 0, mmap.PROT_READ | mmap.PROT_WRITE
    guards = [start, start + page + size]

    def place(shape: Any, dtype: Any, at_end: bool) -> Any:
        count, room = int(np.prod(shape)), size // np.dtype(dtype).itemsize
        elements = np.frombuffer(memory, dtype, room, page)
        offset = room - count if at_end else 0
        return elements[offset : offset + count].reshape(shape)

    for guard in guards:
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), none) == 0
    try:
        yield place
    finally:
        for guard in guards:
            libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), both)
