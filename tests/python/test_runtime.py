"""Threads, instruction sets, processes: what is the same for every operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convpool
from arrays import values
from convpool import __main__ as command_line
from convpool import _core

ISAS = ("sse2", "avx2", "avx512", "neon")


def python(code: str, *, timeout: float = 60, **environment: str) -> Any:
    """Runs code in a fresh interpreter; what it prints is JSON."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("CONVPOOL_", "OMP_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


# -------------------------------------------------------------------------------- caches

BITS = """
import hashlib, json
import numpy as np
import convpool

rng = np.random.default_rng(0)
bits = hashlib.sha256()
for layout in ("NCHW", "NHWC"):
    for n, c, height, width, k, kernel, groups in (
        (1, 64, 40, 40, 64, 3, 1), (2, 96, 33, 35, 200, 3, 1), (1, 300, 30, 31, 40, 1, 1),
        (1, 40, 96, 97, 2, 1, 1), (1, 600, 30, 31, 260, 1, 1), (1, 24, 64, 64, 2, 1, 1),
        (1, 160, 20, 21, 192, 3, 1), (1, 200, 60, 61, 21, 1, 1),
        (1, 3, 120, 121, 20, 7, 1), (1, 96, 40, 41, 96, 5, 96), (1, 64, 30, 30, 64, 3, 8),
        (1, 1, 200, 300, 1, 9, 1), (1, 16, 200, 200, 16, 7, 16), (1, 1, 60, 61, 40, 3, 1),
    ):
        shape = (n, c, height, width) if layout == "NCHW" else (n, height, width, c)
        image = rng.standard_normal(shape, dtype=np.float32)
        weight = rng.standard_normal((k, c // groups, kernel, kernel), dtype=np.float32)
        for stride in (1, 2):
            for algorithm in ("auto", "direct", "implicit_gemm"):
                options = {"stride": stride, "padding": kernel // 2, "groups": groups, "layout": layout}
                bits.update(convpool.conv2d(image, weight, algorithm=algorithm, **options))
        for window in (3, 25):
            pooled = convpool.max_pool2d(
                image, window, stride=1, padding=window // 2, return_indices=True, layout=layout
            )
            bits.update(pooled[0])
            bits.update(pooled[1])
# A few channels of weights at a time, and several elements of a tile in one call.
for n, c, size, k in ((1, 64, 9, 16), (1, 96, 13, 40)):
    image = rng.standard_normal((n, c, size, size), dtype=np.float32)
    weight = rng.standard_normal((k, c, 3, 3), dtype=np.float32)
    bits.update(convpool.conv2d(image, weight, padding=1, algorithm="winograd"))
wide = rng.standard_normal((1, 24, 1414, 32), dtype=np.float32)
weight = rng.standard_normal((32, 32, 3, 3), dtype=np.float32)
options = {"padding": (8, 1), "dilation": (8, 1), "layout": "NHWC", "algorithm": "direct"}
bits.update(convpool.conv2d(wide, weight, **options))
print(json.dumps(bits.hexdigest()))
"""


def test_the_size_of_the_caches_leaves_no_trace_in_the_results() -> None:
    results = {
        python(BITS, CONVPOOL_CACHE_SIZES=sizes)
        for sizes in (
            "32,1024,32768",
            "32,2048,32768",
            "16,256,2048",
            "16,256,4096",
            "128,4096,262144",
            "nonsense",
        )
    }
    assert len(results) == 1


# From 3 MB on with their results, which then go past a last cache of 4 MB, from any place in memory on.
POOLED = """
import hashlib, json
import numpy as np
import convpool

rng = np.random.default_rng(0)
bits = []
for shape, options in (
    ((3, 24, 160, 161), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ((2, 24, 150, 192), {"kernel_size": 3, "stride": 1}),
    ((3, 32, 150, 150), {"kernel_size": 2}),
    ((3, 32, 150, 128), {"kernel_size": 2}),
    ((3, 40, 151, 200), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((3, 40, 152, 200), {"kernel_size": (1, 2)}),
    ((44, 48, 28, 28), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ((44, 48, 28, 28), {"kernel_size": 2}),
    ((90, 48, 21, 21), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ((90, 48, 14, 14), {"kernel_size": 3, "stride": 1, "padding": 1}),
    ((6, 48, 70, 70), {"kernel_size": 5, "stride": 1, "padding": 2}),
    ((6, 48, 64, 64), {"kernel_size": 3, "stride": 1, "padding": 2, "dilation": 2}),
    ((4, 40, 90, 190), {"kernel_size": (4, 5), "stride": (1, 2), "padding": (2, 1)}),
    ((4, 40, 90, 190), {"kernel_size": (1, 3), "stride": 1, "padding": (0, 1)}),
    ((8, 32, 160, 160), {"kernel_size": 3}),
    ((6, 60, 100, 101), {"kernel_size": 4, "stride": 3, "padding": 2}),
    ((24, 40, 42, 42), {"kernel_size": (2, 3), "stride": 1}),
    ((1, 9, 400, 410), {"kernel_size": 25, "stride": 1, "padding": 12}),
    ((2, 2, 700, 620), {"kernel_size": 2, "stride": 1}),
):
    for layout in ("NCHW", "NHWC"):
        for dtype in ("float32", "float64", "int16"):
            if dtype == "float64" and shape[0] > 2:
                continue
            place = shape if layout == "NCHW" else (shape[0], *shape[2:], shape[1])
            image = (rng.standard_normal(place) * 1000).astype(dtype)
            options = {**options, "layout": layout}
            poolings = [("max", convpool.max_pool2d, options)]
            if dtype != "int16" and "dilation" not in options:
                for padded in (False, True):
                    poolings.append(("avg", convpool.avg_pool2d, {**options, "count_include_pad": padded}))
            for name, pool, given in poolings:
                digest = hashlib.sha256(fresh := pool(image, **given))
                if name == "max" and dtype != "int16":
                    for result in pool(image, return_indices=True, **given):
                        digest.update(result)
                for shift, num_threads in ((0, 2), (1, 1), (13, 2)):
                    memory = np.full(fresh.size + 96, 7, dtype)
                    begin = -memory.ctypes.data % 64 // memory.itemsize + shift
                    out = memory[begin : begin + fresh.size].reshape(fresh.shape)
                    pool(image, out=out, num_threads=num_threads, **given)
                    digest.update(memory[begin - shift : begin + fresh.size + 16])
                bits.append([name, layout, dtype, shape, str(given["kernel_size"]), digest.hexdigest()])
print(json.dumps(bits))
"""


@pytest.mark.parametrize("isa", convpool.available_isas())
def test_poolings_past_the_caches_are_the_same(isa: str) -> None:
    through = python(POOLED, timeout=300, CONVPOOL_ISA=isa, CONVPOOL_CACHE_SIZES="48,2048,65536")
    past = python(POOLED, timeout=300, CONVPOOL_ISA=isa, CONVPOOL_CACHE_SIZES="32,1024,4096")
    assert past == through


# -------------------------------------------------------------------------------- threads


def test_set_num_threads(threads: None) -> None:
    for count in (1, 3, np.int64(2)):
        convpool.set_num_threads(count)
        assert convpool.get_num_threads() == count
        assert convpool.show_config(mode="dicts")["num_threads"] == count
        convpool.conv2d(values((2, 8, 30, 30)), values((8, 8, 3, 3)))


COUNT = "import convpool; print(convpool.get_num_threads())"


def test_the_environment_sets_the_number_of_threads() -> None:
    assert python(COUNT, CONVPOOL_NUM_THREADS="3") == 3
    assert python(COUNT, OMP_NUM_THREADS="5") == 5
    assert python(COUNT, CONVPOOL_NUM_THREADS="3", OMP_NUM_THREADS="5") == 3
    default = python(COUNT)
    assert 1 <= default <= (os.cpu_count() or 1)
    for nonsense in ("", "many", "0", "-1", "99999999999999999999"):
        assert python(COUNT, CONVPOOL_NUM_THREADS=nonsense) >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_the_affinity_sets_the_number_of_threads() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + COUNT
    assert python(code) == 1


def test_many_python_threads_at_once() -> None:
    x, weight = values((2, 16, 40, 40)), values((16, 16, 3, 3), seed=1)
    expected = convpool.conv2d(x, weight, padding=1, num_threads=1).tobytes()
    expected_most = convpool.max_pool2d(x, 3, 2, 1).tobytes()
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def work(i: int) -> None:
        try:
            start.wait()
            for _ in range(20):
                assert convpool.conv2d(x, weight, padding=1, num_threads=1 + i % 3).tobytes() == expected
                assert convpool.max_pool2d(x, 3, 2, 1, num_threads=1 + i % 2).tobytes() == expected_most
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


FORK = """
import json, os
import numpy as np, convpool
x, w = np.ones((4, 32, 64, 64), np.float32), np.ones((32, 32, 3, 3), np.float32)

def compute():
    convpool.max_pool2d(x, 3, 1, num_threads=2)
    return convpool.conv2d(x, w, num_threads=2).tobytes()

before = compute()
child = os.fork()
if child == 0:
    same = compute() == before
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if compute() == before else 1)
    os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
status = os.waitpid(child, 0)[1]
print(json.dumps([status, compute() == before]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes() -> None:
    assert python(FORK) == [0, True]


# -------------------------------------------------------------------------------- instruction sets


def test_isas_are_known_and_ordered() -> None:
    available = convpool.available_isas()
    assert isinstance(available, tuple)
    assert available
    assert list(available) == [name for name in ISAS if name in available]
    assert convpool.isa() in available


WHICH = "import convpool, json; print(json.dumps([convpool.isa(), convpool.available_isas()]))"


@pytest.mark.parametrize("name", convpool.available_isas())
def test_the_environment_forces_an_isa(name: str) -> None:
    assert python(WHICH, CONVPOOL_ISA=name) == [name, list(convpool.available_isas())]


def test_the_best_isa_is_the_default() -> None:
    assert python(WHICH)[0] == convpool.available_isas()[-1]


def test_a_wrong_isa_is_an_error() -> None:
    with pytest.raises(ValueError, match=convpool.available_isas()[0] + ".*riscv"):
        _core.force_isa("riscv")
    assert convpool.isa() in convpool.available_isas()


# -------------------------------------------------------------------------------- the package


def test_import_is_quick() -> None:
    code = """
import time
import numpy
start = time.perf_counter()
import convpool
print(time.perf_counter() - start)
"""
    best = min(python(code) for _ in range(7))
    assert best <= 0.025


def test_import_brings_in_nothing_but_numpy() -> None:
    code = """
import json, sys
import numpy
before = set(sys.modules)
import convpool
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - set(sys.stdlib_module_names) - {"convpool", "numpy"})))
"""
    assert python(code) == []


def test_everything_public_is_there() -> None:
    for name in convpool.__all__:
        assert getattr(convpool, name) is not None
        assert name in dir(convpool)
    with pytest.raises(AttributeError, match="conv3d"):
        convpool.conv3d  # noqa: B018


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    convpool.show_config()
    printed = capsys.readouterr().out
    config = convpool.show_config(mode="dicts")
    for key in ("version", "compiler", "flags", "isa"):
        assert str(config[key]) in printed
    assert ", ".join(convpool.available_isas()) in printed
    assert set(config["isas_available"]) <= set(config["isas_built"])


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["info"]) == 0
    assert convpool.__version__ in capsys.readouterr().out
    assert command_line.main([]) == 2
    assert "demo" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"convpool {convpool.__version__}\n"
    with pytest.raises(SystemExit) as caught:
        command_line.main(["info", "--colour"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("option", "directory", "file"),
    [
        ("--cmakedir", "lib/cmake/convpool", "*onfig.cmake"),
        ("--include", "include", "convpool/convpool.hpp"),
    ],
)
def test_directories_for_cpp(
    option: str,
    directory: str,
    file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = command_line.main([option])
    printed = capsys.readouterr()
    if status == 0:  # an installation with the C++ library
        path = Path(printed.out.strip())
        assert path.as_posix().endswith(directory)
        assert list(path.glob(file))
    else:
        assert printed.out == ""
        assert directory in printed.err.replace("\\", "/")
    monkeypatch.setattr(command_line, "PACKAGE", Path("/nowhere"))
    monkeypatch.setattr(_core, "__file__", "/nowhere/_core.so")
    assert command_line.main([option]) == 1
    assert "there is no" in capsys.readouterr().err


# -------------------------------------------------------------------------------- memory


def test_what_memory_can_not_hold_is_an_error_and_the_next_call_works() -> None:
    x, weight = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    for padding in (2**24, 2**27):
        with pytest.raises((MemoryError, ValueError)):
            convpool.conv2d(x, weight, padding=padding)
        assert convpool.conv2d(x, weight).tolist() == [[[[9, 9], [9, 9]]]]


@pytest.mark.parametrize("size", [130, 700, 1100])
def test_results_lie_half_a_page_from_their_input(size: int) -> None:
    """From 64 KB on, of memory that is new or used again, and whole cache lines of it."""
    memory = values((size * size + 1024,), np.float32)
    kept = []
    for shift in (0, 1, 300, 1023):
        image = memory[shift : shift + size * size].reshape(1, 1, size, size)
        pooled, indices = convpool.max_pool2d(image, 1, return_indices=True)
        for result in (pooled, indices, convpool.conv2d(image, np.ones((1, 1, 1, 1), np.float32))):
            assert result.ctypes.data % 64 == 0
            assert 0 <= (image.ctypes.data + 2048 - result.ctypes.data) % 4096 < 64
            kept.append(result)
        if shift == 300:
            kept.clear()


def test_arguments_cost_microseconds() -> None:
    """A bound that only a slow path of its own would miss: the call on one pixel is all overhead."""
    import timeit

    x, weight = np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    best = min(timeit.repeat(lambda: convpool.conv2d(x, weight), number=1000, repeat=9)) / 1000
    assert best < 50e-6
