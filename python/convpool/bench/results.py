"""What a run found, as data: it goes to JSON and comes back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convpool.bench.cases import Case, Conv, from_dict
from convpool.bench.statistics import Spread, paired_ratio, spread

__all__ = ["DISTURBED", "FORMAT", "Report", "Result", "Row"]

#: The version of the JSON form.
FORMAT = 1

#: From this interquartile range on, relative to the median, a measurement was disturbed.
DISTURBED = 0.3


@dataclasses.dataclass
class Result:
    """One contender on one row.

    ``status`` is ``ok``; ``wrong``: its answer was, and it wasn't timed; ``unsupported``: it can't do the
    case; ``error``: it raised; ``crashed``: its process died; ``timeout``; ``missing``: it isn't here; or
    ``interrupted``, before there was a time. ``reason`` says more. ``rounds`` holds seconds a call: a list of
    samples for each round.
    """

    status: str
    reason: str = ""
    rounds: list[list[float]] = dataclasses.field(default_factory=list)
    loops: int = 0
    error: float | None = None
    explain: str = ""
    prepare_seconds: float | None = None

    @property
    def ok(self) -> bool:
        """Whether there are times."""
        return self.status == "ok" and any(self.rounds)

    @property
    def disturbed(self) -> bool:
        """Whether the times scatter so much that something must have interfered."""
        return self.ok and self.time.relative > DISTURBED

    @property
    def time(self) -> Spread:
        """Seconds a call: median and quartiles of all samples."""
        return spread(sample for samples in self.rounds for sample in samples)


@dataclasses.dataclass
class Row:
    """One case at one number of threads, caches ``hot`` or ``cold``, and what each contender made of it."""

    case: Case
    threads: int = 1
    cache: str = "hot"
    value: int | None = None
    results: dict[str, Result] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the row is called."""
        return self.case.label + (" (cold)" if self.cache == "cold" else "")

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same row in another run."""
        case = self.case
        return case.notation, case.dtype, case.layout, str(self.threads), self.cache

    def ratio(self, contender: str, base: str) -> Spread | None:
        """How many times as long as ``base`` a contender takes, or None where one of them has no time."""
        mine, other = self.results.get(contender), self.results.get(base)
        if mine is None or other is None or not mine.ok or not other.ok:
            return None
        return paired_ratio(mine.rounds, other.rounds)

    def fastest(self) -> str | None:
        """The contender with the smallest median."""
        times = {name: result.time.median for name, result in self.results.items() if result.ok}
        return min(times, key=lambda name: times[name]) if times else None


@dataclasses.dataclass
class Report:
    """A whole run.

    ``contenders`` describes each, in the order asked for, the one that the others are compared with first.
    ``limits`` has what the machine could do at most at each number of threads, before and after the run.
    """

    title: str
    contenders: dict[str, dict[str, Any]]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    limits: dict[int, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    sweep: str = ""
    network: bool = False
    interrupted: bool = False
    created: str = ""

    @property
    def base(self) -> str:
        """The contender that the others are compared with."""
        return next(iter(self.contenders))

    @property
    def names(self) -> list[str]:
        """The contenders that ran at all."""
        return [name for name, about in self.contenders.items() if about.get("status") != "missing"]

    @property
    def shown(self) -> list[str]:
        """The base, and those others that could do any of the cases or failed at one."""
        useful = {
            name
            for row in self.rows
            for name, result in row.results.items()
            if result.status not in ("unsupported", "missing", "interrupted")
        }
        return [name for name in self.names if name == self.base or name in useful or not self.rows]

    def peak(self, threads: int, dtype: str = "float32") -> float | None:
        """FLOP/s at most, of all threads together; for float64, half of float32's."""
        values = [limits["peak"] for limits in self.limits.get(threads, []) if limits.get("peak")]
        return max(values) * (0.5 if dtype == "float64" else 1.0) if values else None

    def isa_peaks(self, threads: int) -> dict[str, float]:
        """FLOP/s at most for each instruction set, of so many threads if they don't slow each other."""
        found: dict[str, float] = {}
        for limits in self.limits.get(threads, []):
            for isa, rate in limits.get("isa_peaks", {}).items():
                found[isa] = max(found.get(isa, 0.0), rate * threads)
        return found

    def bandwidth(self, threads: int) -> float | None:
        """Bytes a second at most, read and written, of all threads together."""
        values = [limits["bandwidth"] for limits in self.limits.get(threads, []) if limits.get("bandwidth")]
        return max(values) if values else None

    def attainable(self, row: Row) -> float | None:
        """The seconds that a row must take at least, by its nominal FLOPs and the bytes it must move."""
        peak = self.peak(row.threads, row.case.dtype)
        bandwidth = self.bandwidth(row.threads)
        if peak is None or bandwidth is None:
            return None
        return max(row.case.flops / peak, row.case.bytes / bandwidth)

    def totals(self, cache: str = "hot") -> dict[str, tuple[float, float | None, int]]:
        """What each contender takes for all rows that it and the base did, weighed by how often each occurs.

        Seconds; how many times the base's time on the same rows that is; and how many rows those are.
        """
        found: dict[str, tuple[float, float | None, int]] = {}
        for name in self.names:
            mine = other = 0.0
            count = 0
            for row in self.rows:
                ratio = row.ratio(name, self.base)
                if row.cache != cache or ratio is None:
                    continue
                count += 1
                mine += row.case.count * row.results[name].time.median
                other += row.case.count * row.results[self.base].time.median
            found[name] = (mine, mine / other if other > 0 else None, count)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with what is derived beside the raw samples, for other tools to read."""
        values: dict[str, Any] = {"format": FORMAT}
        for field in dataclasses.fields(self):
            if field.name not in ("rows", "limits"):
                values[field.name] = getattr(self, field.name)
        values["limits"] = {str(threads): found for threads, found in self.limits.items()}
        values["rows"] = [self._row_dict(row) for row in self.rows]
        return values

    def _row_dict(self, row: Row) -> dict[str, Any]:
        case = row.case
        results: dict[str, Any] = {}
        for name, result in row.results.items():
            entry = dataclasses.asdict(result)
            entry["rounds"] = [[float(f"{sample:.5g}") for sample in samples] for samples in result.rounds]
            if result.ok:
                time = result.time
                entry.update(median=time.median, quartiles=[time.low, time.high])
                ratio = row.ratio(name, self.base)
                entry["ratio"] = None if ratio is None else ratio.median
            results[name] = entry
        return {
            "label": row.label,
            "notation": case.notation,
            "case": case.to_dict(),
            "threads": row.threads,
            "cache": row.cache,
            "value": row.value,
            "flops": case.flops,
            "bytes": case.bytes,
            "parameters": case.parameters,
            "attainable": self.attainable(row),
            "results": results,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The report that ``to_dict`` made plain. Raises ValueError for another format."""
        if values.get("format") != FORMAT:
            raise ValueError(f"not a report of format {FORMAT}, got {values.get('format')!r}")
        names = {field.name for field in dataclasses.fields(cls)} - {"rows", "limits"}
        report = cls(**{name: values[name] for name in names if name in values})
        report.limits = {int(threads): found for threads, found in values.get("limits", {}).items()}
        fields = {field.name for field in dataclasses.fields(Result)}
        for row in values["rows"]:
            results = {
                name: Result(**{key: value for key, value in entry.items() if key in fields})
                for name, entry in row["results"].items()
            }
            report.rows.append(
                Row(from_dict(row["case"]), row["threads"], row["cache"], row["value"], results)
            )
        return report

    def save(self, path: str | Path) -> None:
        """Writes JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Reads JSON. Raises ValueError for a file that isn't a report."""
        try:
            values = json.loads(Path(path).read_text())
            return cls.from_dict(values)
        except FileNotFoundError:
            raise ValueError(f"there is no file {str(path)!r}") from None
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} isn't a report: {error}") from error


def is_conv(row: Row) -> bool:
    """Whether the row is a convolution, and so has FLOPs."""
    return isinstance(row.case, Conv)
