"""How exact `auto` is beside the direct sum, on the layers of real networks.

    python benchmarks/accuracy.py > docs/accuracy.md

For each convolution of the suites: the error (RMS) of float32 results against float64, of auto and of
algorithm="direct", both as fractions of the results' own RMS, and what the one is of the other. Inputs and
weights are normally distributed. It takes half a minute, and ends with status 1 where auto's error is more
than 4 times the direct sum's.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import convpool
from convpool import nn
from convpool.bench import suites
from convpool.bench.cases import Conv

SUITES = (
    "resnet50",
    "vgg16",
    "mobilenetv2",
    "googlenet",
    "resnext50",
    "efficientnet",
    "deeplab",
    "convnext",
    "filters",
)
BOUND = 4.0

PAGE = """\
# How exact the results are

`auto` keeps a promise: its error is at most {bound:g} times that of the direct sum in the same precision, as
RMS against float64. This page holds it to that on {count} convolutions of real networks, prepared, float32,
NCHW, {isa}. It is made by one command, which fails where a row breaks the promise:

    python benchmarks/accuracy.py > docs/accuracy.md

Errors are RMS over all results, as a fraction of the results' own RMS; inputs and weights are normally
distributed. The direct sum adds one product after another, so its error grows with their number. Winograd's
transforms add to it. The other algorithms sum directly, too, in another order.

The largest ratio is **{worst:.2f}**, of `{where}` ({suite}). Where auto takes `winograd`, the median is
{median:.2f}.

| suite | layer | case | auto takes | error of auto | error of direct | ratio |
|---|---|---|---|---:|---:|---:|"""


def rms(values: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def errors(case: Conv) -> tuple[str, float, float]:
    """What auto takes, and the relative errors of auto and of the direct sum."""
    generator = np.random.default_rng(0)
    image = generator.standard_normal(case.input_shape, dtype=np.float32)
    weight = generator.standard_normal(case.weight_shape, dtype=np.float32)
    bias = generator.standard_normal(case.k, dtype=np.float32) if case.bias else None
    options = (case.stride, case.padding, case.dilation, case.groups)

    def layer(algorithm: str, dtype: str = "float32") -> nn.Conv2d:
        offsets = None if bias is None else bias.astype(dtype)
        return nn.Conv2d.from_weights(weight.astype(dtype), offsets, *options, algorithm=algorithm)

    exact = layer("direct", "float64")(image.astype(np.float64))
    size, auto = rms(exact), layer("auto")
    return (
        auto.explain(image.shape).algorithm,
        rms(auto(image) - exact) / size,
        rms(layer("direct")(image) - exact) / size,
    )


def main() -> int:
    """Prints the page."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--suite", action="append", choices=suites.names(), help="only these suites")
    chosen = arguments.parse_args().suite or SUITES
    rows: list[tuple[str, Conv, str, float, float]] = []
    seen: set[Conv] = set()
    for name in chosen:
        for case in suites.suite(name):
            if isinstance(case, Conv) and case not in seen:
                seen.add(case)
                rows.append((name, case, *errors(case)))
    ratio = {id(row): row[3] / row[4] for row in rows}
    worst = max(rows, key=lambda row: ratio[id(row)])
    winograd = [ratio[id(row)] for row in rows if row[2] == "winograd"]
    print(
        PAGE.format(
            bound=BOUND,
            count=len(rows),
            isa=convpool.isa(),
            worst=ratio[id(worst)],
            where=worst[1].notation,
            suite=worst[0],
            median=float(np.median(winograd)) if winograd else 1.0,
        )
    )
    for row in rows:
        name, case, algorithm, of_auto, of_direct = row
        mark = " **too much**" if ratio[id(row)] > BOUND else ""
        print(
            f"| {name} | {case.name} | `{case.notation}` | {algorithm} | {of_auto:.2e} | {of_direct:.2e} | "
            f"{ratio[id(row)]:.2f}{mark} |"
        )
    return int(any(value > BOUND for value in ratio.values()))


if __name__ == "__main__":
    sys.exit(main())
