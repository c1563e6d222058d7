"""What got faster or slower between two runs, beyond the noise."""

from __future__ import annotations

import dataclasses
import math

from convpool.bench.results import Report, Result, Row
from convpool.bench.statistics import median

__all__ = ["Change", "Comparison", "compare"]


@dataclasses.dataclass(frozen=True)
class Change:
    """One row in both runs: ``old`` and ``new`` seconds a call.

    ``factor`` is the part of its time that it takes now, after the machine's own drift is taken out;
    ``noise`` is how far from 1 it may be by chance. A ``disturbed`` one scattered too much in either run.
    """

    label: str
    contender: str
    old: float
    new: float
    factor: float
    noise: float
    disturbed: bool = False

    @property
    def verdict(self) -> str:
        """``faster``, ``slower``, ``same`` as far as can be told, or ``unclear``."""
        if abs(math.log(self.factor)) <= math.log1p(self.noise):
            return "same"
        if self.disturbed:
            return "unclear"
        return "faster" if self.factor < 1 else "slower"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All rows that both runs have, and remarks on what makes them more or less comparable.

    ``drift`` is how much longer the contenders take that did not change: the machine's doing.
    """

    changes: list[Change]
    drift: float
    notes: list[str]

    def of(self, verdict: str) -> list[Change]:
        """The changes with a verdict, the largest first."""
        found = [change for change in self.changes if change.verdict == verdict]
        return sorted(found, key=lambda change: -abs(math.log(change.factor)))


def compare(old: Report, new: Report, contender: str = "convpool", threshold: float = 0.05) -> Comparison:
    """Compares one contender's rows in two runs.

    Rows are matched by case, dtype, layout, threads and caches. Contenders that both runs have in the same
    version are the yardstick: the median of their ratios is the machine's drift, and how they scatter around
    it the noise between runs. A change counts from ``threshold`` on, and beyond the noise between the runs
    and within each. Raises ValueError where there is nothing to compare.
    """
    before = {row.key: row for row in old.rows}
    pairs = [(before[row.key], row) for row in new.rows if row.key in before]
    both = [(a, b) for a, b in pairs if _timed(a, contender) and _timed(b, contender)]
    if not both:
        raise ValueError(f"the two runs have no row in common that {contender!r} was timed on")
    notes = []
    if old.machine.get("cpu") != new.machine.get("cpu"):
        notes.append(f"different machines: {old.machine.get('cpu')} and {new.machine.get('cpu')}")
    unchanged = [
        name
        for name, about in old.contenders.items()
        if not name.startswith("convpool")
        and name != contender
        and about.get("version")
        and about.get("version") == new.contenders.get(name, {}).get("version")
    ]
    yardstick: dict[tuple[str, ...], list[float]] = {}
    for a, b in pairs:
        for name in unchanged:
            if _timed(a, name) and _timed(b, name):
                yardstick.setdefault(b.key, []).append(_median(b, name) / _median(a, name))
    ratios = [ratio for found in yardstick.values() for ratio in found]
    if len(ratios) >= 5:
        drift = median(ratios)
        scatter = median(abs(math.log(ratio / drift)) for ratio in ratios)
        between = math.expm1(3 * scatter)
        notes.append(
            f"machine's drift, by {', '.join(unchanged)}: x{drift:.3f} (taken out); noise between runs: "
            f"{100 * between:.0f} %"
        )
    else:
        drift, between = 1.0, 0.0
        notes.append(
            "no contender is the same in both runs on at least five rows: the machine's drift isn't known, "
            "and changes may be its doing"
        )
    changes = []
    for a, b in both:
        first, second = a.results[contender], b.results[contender]
        within = math.hypot(_uncertainty(first), _uncertainty(second))
        changes.append(
            Change(
                label=b.label + (f", {b.threads} threads" if b.threads > 1 else ""),
                contender=contender,
                old=first.time.median,
                new=second.time.median,
                factor=second.time.median / first.time.median / drift,
                noise=max(threshold, between, within),
                disturbed=first.disturbed or second.disturbed,
            )
        )
    return Comparison(changes, drift, notes)


def _timed(row: Row, contender: str) -> bool:
    result = row.results.get(contender)
    return result is not None and result.ok


def _median(row: Row, contender: str) -> float:
    return row.results[contender].time.median


def _uncertainty(result: Result) -> float:
    """How far the median may be off, relative: from how the rounds' medians scatter.

    Samples within a round share its luck, so the rounds are what counts.
    """
    middles = [median(samples) for samples in result.rounds if samples]
    if len(middles) < 2:
        return result.time.relative
    centre = median(middles)
    scatter = median(abs(value - centre) for value in middles) * 1.4826
    return 3 * 1.2533 * scatter / math.sqrt(len(middles)) / centre
