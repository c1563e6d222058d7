"""Compare convolutions and poolings on this machine: ``python -m convpool bench``, or from Python.

>>> from convpool.bench import parse_conv, run
>>> report = run([parse_conv("c64h56r3p1")], ["convpool", "torch"], threads=1)  # doctest: +SKIP
>>> report.rows[0].ratio("torch", "convpool").median  # doctest: +SKIP
2.31
>>> report.save("run.json")  # doctest: +SKIP

``docs/benchmarking.md`` has the method, the notation, and how to add a contender.
"""

from __future__ import annotations

from convpool.bench.cases import Case, Conv, Pool, parse_conv, parse_pool
from convpool.bench.comparison import Change, Comparison, compare
from convpool.bench.contenders import Contender, UnsupportedError
from convpool.bench.onnx_models import Network, read_network
from convpool.bench.results import Report, Result, Row
from convpool.bench.runner import Progress, Settings, run
from convpool.bench.suites import suite

__all__ = [
    "Case",
    "Change",
    "Comparison",
    "Contender",
    "Conv",
    "Network",
    "Pool",
    "Progress",
    "Report",
    "Result",
    "Row",
    "Settings",
    "UnsupportedError",
    "compare",
    "parse_conv",
    "parse_pool",
    "read_network",
    "run",
    "suite",
]
