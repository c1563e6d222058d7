"""What a call from Python costs more than the same call in C++.

    cmake --preset release -DCONVPOOL_BENCHMARKS=ON && cmake --build build/release --target timing
    python benchmarks/binding_overhead.py build/release/benchmarks/cpp/timing

Small layers, so that the difference is more than noise: a prepared convolution with a new result and with
``out=``, on one thread. C++ and Python take turns; of each, the fastest round counts.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable

import numpy as np

import convpool
from convpool import nn
from convpool.bench.cases import Conv, parse_conv

ROWS = ["n1c1h8w8k1r3s1p1", "n1c3h16w16k8r3s1p1", "n1c8h14w14k16r1s1p0"]


def best(call: Callable[[], object], calls: int = 20_000) -> float:
    """Microseconds for a call, in the fastest of three rounds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
    return min(times)


def from_cpp(program: str, rows: list[str]) -> list[float]:
    """The fastest rounds of the C++ program."""
    command = [program, "--threads", "1", "--seconds", "0.3", *rows]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [float(line.split()[-1]) for line in lines[-len(rows) :]]


def from_python(case: Conv) -> tuple[float, float]:
    """Without and with ``out=``."""
    generator = np.random.default_rng(1)
    image = generator.random(case.input_shape, dtype=np.float32)
    weight = generator.random((case.k, case.c // case.groups, *case.kernel), dtype=np.float32)
    layer = nn.Conv2d.from_weights(
        weight, stride=case.stride, padding=case.short_padding, dilation=case.dilation, groups=case.groups
    )
    out = layer(image)
    return best(lambda: layer(image)), best(lambda: layer(image, out=out))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("timing", help="the C++ timing program")
    parser.add_argument("rows", nargs="*", default=ROWS, help="convolutions, as the benchmark writes them")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    convpool.set_num_threads(1)
    cpp = np.full(len(arguments.rows), np.inf)
    python = np.full((len(arguments.rows), 2), np.inf)
    for _ in range(arguments.rounds):
        cpp = np.minimum(cpp, from_cpp(arguments.timing, arguments.rows))
        python = np.minimum(python, [from_python(parse_conv(row)) for row in arguments.rows])
    print(f"{'microseconds':<28}{'C++':>8}{'Python':>10}{'more':>8}{'out=':>10}{'more':>8}")
    for row, below, (new, given) in zip(arguments.rows, cpp, python, strict=True):
        print(f"{row:<28}{below:>8.2f}{new:>10.2f}{new - below:>8.2f}{given:>10.2f}{given - below:>8.2f}")


if __name__ == "__main__":
    main()
