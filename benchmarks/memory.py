"""How much the memory of a process grows while a prepared layer runs (Linux).

    python benchmarks/memory.py

Each layer runs once with ``out=`` on two threads, in a process of its own. Input and result are there before,
so what grows is packed weights, scratch, and the stacks of threads. Prints the table of docs/algorithms.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import convpool
from convpool import nn

LAYERS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("3x3, 64 to 64 channels, 1080 x 1920", (64, 1080, 1920), (64, 64, 3, 3), {"padding": 1}),
    ("3x3, 512 to 512 channels, 56 x 56", (512, 56, 56), (512, 512, 3, 3), {"padding": 1}),
    ("3x3 stride 2, 64 to 64, 1080 x 1920", (64, 1080, 1920), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ("7x7 stride 2, 3 to 64, 8192 x 8192", (3, 8192, 8192), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    ("1x1, 64 to 64 channels, 1080 x 1920", (64, 1080, 1920), (64, 64, 1, 1), {}),
    (
        "15x15 filter, reflected, 8192 x 8192",
        (1, 8192, 8192),
        (1, 1, 15, 15),
        {"padding": "same", "padding_mode": "reflect"},
    ),
    ("3x3, 16 to 16 channels, 2 x 1000000", (16, 2, 1_000_000), (16, 16, 3, 3), {"padding": 1}),
    (
        "3x3 stride 4 depthwise, 64 channels, 4 x 250000",
        (64, 4, 250_000),
        (64, 1, 3, 3),
        {"padding": 1, "stride": 4, "groups": 64},
    ),
]
THREADS = 2
MB = 2**20


def resident(what: str) -> float:
    """A figure of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def measure(
    name: str, shape: tuple[int, ...], weight_shape: tuple[int, ...], layout: str, **options: Any
) -> str:
    """A row of the table."""
    image = np.ones(shape if layout == "NCHW" else (*shape[1:], shape[0]), np.float32)
    layer = nn.Conv2d.from_weights(np.ones(weight_shape, np.float32), layout=layout, **options)
    explanation = layer.explain(image.shape, num_threads=THREADS)
    out = np.ones(explanation.output_shape, np.float32)
    # Threads are there already, and take no scratch for this.
    busy = np.ones((64, 100, 100), np.float32), np.ones((64, 64, 1, 1), np.float32)
    convpool.conv2d(*busy, algorithm="naive", num_threads=THREADS)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    layer(image, out=out, num_threads=THREADS)
    growth = resident("VmHWM") - before
    return (
        f"| {name} | {layout} | {explanation.algorithm} | {(image.nbytes + out.nbytes) / MB:.0f} MB | "
        f"{explanation.packed_weight_bytes / MB:.1f} MB | {explanation.workspace_bytes / MB:.1f} MB | "
        f"{growth:.1f} MB |"
    )


def main() -> None:
    """The table, or one row of it for the process that was started for that."""
    if len(sys.argv) == 3:
        name, shape, weight_shape, options = LAYERS[int(sys.argv[1])]
        print(measure(name, shape, weight_shape, sys.argv[2], **options))
        return
    print("| layer | layout | takes | input and result | packed weights | scratch | the process grows by |")
    print("|---|---|---|---:|---:|---:|---:|")
    for i in range(len(LAYERS)):
        for layout in ("NCHW", "NHWC"):
            command = [sys.executable, __file__, str(i), layout]
            print(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(),
                flush=True,
            )


if __name__ == "__main__":
    main()
