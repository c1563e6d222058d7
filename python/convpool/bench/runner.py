"""The measurement itself: contenders in processes of their own, asked in turns."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from convpool.bench import machine
from convpool.bench.cases import Case
from convpool.bench.check import expect, make_inputs
from convpool.bench.contenders import find
from convpool.bench.processes import Process, ProcessDiedError, ProcessTimeoutError
from convpool.bench.results import Report, Result, Row

__all__ = ["Progress", "Settings", "run"]

# Seconds: for importing a large library, with others at it at the same time; and from when on a run is long.
_START_TIMEOUT, _LONG_RUN = 60.0, 10.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    In each of ``rounds`` rounds every contender has a turn of about ``turn`` seconds, in samples of at least
    ``sample`` seconds; where times scatter widely, there are up to as many rounds again. One that has had
    more than ``budget`` seconds on a row and has two samples sits out what is left. ``timeout`` is for a
    single command: building a case and its first call, or a turn; for starting there is always a minute.
    ``limit_seconds`` is for each of the machine's limits. Raises ValueError for what isn't above 0.
    """

    rounds: int = 8
    turn: float = 0.04
    sample: float = 0.002
    budget: float = 5.0
    timeout: float = 120.0
    limit_seconds: float = 0.1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be above 0, got {value}")


class Progress(Protocol):
    """What is told about a run while it goes on."""

    def begin(self, report: Report, rows: int) -> None:
        """The contenders have started."""

    def at(self, row: Row, doing: str) -> None:
        """Something is done for a row."""

    def finished(self, row: Row) -> None:
        """A row is complete."""

    def end(self) -> None:
        """The run is over, or interrupted."""


class Silent:
    """Tells nothing."""

    def begin(self, report: Report, rows: int) -> None:
        """Nothing."""

    def at(self, row: Row, doing: str) -> None:
        """Nothing."""

    def finished(self, row: Row) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def run(
    work: Sequence[Case | Row],
    contenders: Sequence[str] = ("convpool",),
    *,
    threads: int = 1,
    caches: Sequence[str] = ("hot",),
    title: str = "",
    settings: Settings | None = None,
    progress: Progress | None = None,
    sweep: str = "",
    network: bool = False,
    notes: Sequence[str] = (),
) -> Report:
    """Measures every case with every contender; the others are compared with the first.

    ``work`` holds cases, or rows that have a number of threads of their own. A contender that is missing,
    dies, hangs or answers wrong is reported as such. ``caches`` may have ``cold`` too, for another row of
    each case; ``sweep`` names the number that grows from row to row; ``network`` says that the rows are parts
    of one thing, so that their sum means something. KeyboardInterrupt ends the run, and what there is by then
    comes back with ``interrupted`` set. Raises ValueError for unknown contenders and for more threads than
    there are CPUs.

    >>> from convpool.bench import parse_conv, run
    >>> report = run([parse_conv("c8h14r3p1")], ["convpool"])  # doctest: +SKIP
    >>> report.rows[0].results["convpool"].time.median  # doctest: +SKIP
    6.1e-06
    """
    if not contenders:
        raise ValueError("at least one contender is needed")
    settings = settings or Settings()
    rows = [
        dataclasses.replace(row, cache=cache, results={})
        for item in work
        for row in [item if isinstance(item, Row) else Row(item, threads)]
        for cache in caches
    ]
    available = machine.usable_cpus()
    most = max((row.threads for row in rows), default=1)
    if not 1 <= min((row.threads for row in rows), default=1) <= most <= len(available):
        raise ValueError(
            f"threads must be from 1 to {len(available)}, the CPUs this process may use, got {most}"
        )
    places: dict[str, str] = {}
    for place in dict.fromkeys(contenders):
        name = find(place).name  # a name that isn't known stops here
        places[place if name in places else name] = place
    report = Report(
        title=title,
        contenders={name: {"place": place} for name, place in places.items()},
        settings={**dataclasses.asdict(settings), "caches": list(caches), "cpus": available[:most]},
        machine=machine.describe(),
        notes=list(notes),
        sweep=sweep,
        network=network,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    others = machine.busy()
    report.machine["busy_cpus"] = others
    if others is not None and others > 0.2:
        report.notes.append(f"others kept {others:.1f} CPUs busy when the run began: times are less certain")
    session = _Session(report, settings, progress or Silent(), available)
    try:
        session.measure(rows)
    except KeyboardInterrupt:
        report.interrupted = True
        report.notes.append(f"interrupted: {len(report.rows)} of {len(rows)} rows were measured")
    finally:
        session.close()
    return report


class _Session:
    def __init__(self, report: Report, settings: Settings, progress: Progress, cpus: Sequence[int]) -> None:
        self.report = report
        self.settings = settings
        self.progress = progress
        self.cpus = cpus
        self.threads = 0
        self.processes: dict[str, Process | None] = {}
        # Contenders that didn't start twice in a row are given up: the reason.
        self.given_up: dict[str, Result] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="convpool-bench-")

    def measure(self, rows: Sequence[Row]) -> None:
        started = time.monotonic()
        self.progress.begin(self.report, len(rows))
        for index, row in enumerate(rows):
            if row.threads != self.threads:
                self._begin(row.threads)
            try:
                self._measure(row, index)
            except KeyboardInterrupt:
                self._keep(row)
                raise
            self.report.rows.append(row)
            self.progress.finished(row)
        if time.monotonic() - started > _LONG_RUN:  # has the machine changed meanwhile?
            self._limits()
            self._compare_limits()

    def close(self) -> None:
        self._stop()
        self.progress.end()
        self.folder.cleanup()

    def _begin(self, threads: int) -> None:
        if self.threads:
            self._limits()
        self._stop()
        self.threads = threads
        self._limits()
        self._start([name for name in self.report.contenders if name not in self.given_up])

    def _start(self, names: Sequence[str]) -> None:
        """Starts several at once: most of what they do first is importing."""
        cpus = self.cpus[: self.threads]
        for name in names:
            place = self.report.contenders[name]["place"]
            missing = find(place).missing()
            if missing:
                self._give_up(name, Result("missing", missing))
            else:
                self.processes[name] = Process(place, self.threads, cpus)
        for name, process in list(self.processes.items()):
            if name not in names or process is None:
                continue
            try:
                answer = process.started(max(_START_TIMEOUT, self.settings.timeout))
            except (ProcessDiedError, ProcessTimeoutError) as problem:
                answer = {"status": "crashed", "reason": f"at the start, {problem}"}
            if answer["status"] == "ok":
                about = self.report.contenders[name]
                about.update(status="ok", version=answer.get("version", ""), how=answer.get("how", ""))
            else:
                process.close()
                self._give_up(name, Result(answer["status"], answer["reason"]))

    def _give_up(self, name: str, result: Result) -> None:
        self.processes.pop(name, None)
        self.given_up[name] = result
        self.report.contenders[name].update(status="missing", reason=result.reason)
        self.report.notes.append(f"{name} is left out: {result.reason}")

    def _stop(self) -> None:
        for process in self.processes.values():
            if process is not None:
                process.close()
        self.processes = {}

    def _limits(self) -> None:
        """What the machine can do, measured in a process that is pinned like the contenders."""
        process = Process("-", self.threads, self.cpus[: self.threads])
        try:
            process.started(_START_TIMEOUT)
            seconds = self.settings.limit_seconds
            found = process.ask("limits", _START_TIMEOUT, threads=self.threads, seconds=seconds)
        except (ProcessDiedError, ProcessTimeoutError) as problem:
            found = {"status": "error", "reason": str(problem)}
        finally:
            process.close()
        if found.pop("status") == "ok":
            self.report.limits.setdefault(self.threads, []).append(found)
        elif not any("limits" in note for note in self.report.notes):
            self.report.notes.append(f"the machine's limits couldn't be measured: {found['reason']}")

    def _compare_limits(self) -> None:
        for threads, found in self.report.limits.items():
            for name, what, most in (("peak", "peak", 0.1), ("bandwidth", "memory bandwidth", 0.25)):
                values = [limits[name] for limits in found]
                if min(values) < (1 - most) * max(values):
                    change = 100 * (values[-1] / values[0] - 1)
                    on = f"{threads} thread{'s' if threads > 1 else ''}"
                    self.report.notes.append(
                        f"the {what} with {on} changed by {change:+.0f} % during the run: the machine wasn't "
                        "quiet"
                    )

    # ---- one row

    def _measure(self, row: Row, index: int) -> None:
        self.progress.at(row, "computing the right answer")
        row.results = dict(self.given_up)
        path = Path(self.folder.name, "expected.npz")
        expect(row.case, make_inputs(row.case)).save(path)
        ready = []
        for name in self.report.contenders:
            if name in self.given_up:
                continue
            self.progress.at(row, f"{name}: prepare and check")
            answer = self._ask(name, row, "prepare", case=row.case.to_dict(), expectation=str(path))
            if answer is None:
                continue
            row.results[name] = Result(
                status=answer["status"],
                reason=answer.get("reason", ""),
                error=answer.get("error"),
                explain=answer.get("explain", ""),
                prepare_seconds=answer.get("prepare_seconds"),
            )
            if answer["status"] == "ok":
                ready.append(name)
        row.results = {name: row.results[name] for name in self.report.contenders if name in row.results}
        self._time(row, ready, index)
        for name in ready:
            if self.processes.get(name) is not None:
                self._ask(name, row, "release")

    def _time(self, row: Row, ready: list[str], index: int) -> None:
        settings = self.settings
        samples: dict[str, int] = {}
        calls: dict[str, float] = {}
        for name in list(ready):
            self.progress.at(row, f"{name}: warm up")
            answer = self._ask(
                name, row, "calibrate", cache=row.cache, sample=settings.sample, limit=settings.budget
            )
            if answer is None or not self._good(row, name, answer):
                ready.remove(name)
                continue
            result = row.results[name]
            result.loops = answer["loops"]
            calls[name] = answer["call"]
            samples[name] = min(50, max(1, round(settings.turn / (answer["loops"] * answer["call"]))))
        spent = dict.fromkeys(ready, 0.0)
        for number in range(2 * settings.rounds):
            # Where something disturbed the measurement, it has as many rounds again to become clear.
            if number >= settings.rounds and not self._worth_more(row):
                break
            self.progress.at(row, f"round {number + 1} of {max(number + 1, settings.rounds)}")
            for name in _rotated(ready, index + number):
                result = row.results[name]
                done = sum(map(len, result.rounds))
                if spent[name] > settings.budget and done >= 2:
                    result.rounds.append([])
                    continue
                answer = self._ask(
                    name,
                    row,
                    "turn",
                    cache=row.cache,
                    loops=result.loops,
                    samples=samples[name],
                    call=calls[name],
                )
                if answer is None or not self._good(row, name, answer):
                    ready.remove(name)
                    continue
                result.rounds.append(answer["samples"])
                spent[name] += sum(answer["samples"]) * result.loops

    def _worth_more(self, row: Row) -> bool:
        """Whether a row was disturbed, on a machine where most are not."""
        before = [any(result.disturbed for result in other.results.values()) for other in self.report.rows]
        return any(result.disturbed for result in row.results.values()) and sum(before) <= max(
            2, len(before) // 3
        )

    def _good(self, row: Row, name: str, answer: dict[str, Any]) -> bool:
        if answer["status"] == "ok":
            return True
        result = row.results[name]
        result.status, result.reason = answer["status"], answer["reason"]
        return False

    def _ask(self, name: str, row: Row, command: str, **values: Any) -> dict[str, Any] | None:
        """An answer, or None after the row has got a result that says why there is none."""
        process = self.processes.get(name)
        if process is None:
            self._start([name])
            process = self.processes.get(name)
            if process is None:
                row.results[name] = self.given_up[name]
                return None
        try:
            return process.ask(command, self.settings.timeout, **values)
        except (ProcessDiedError, ProcessTimeoutError) as problem:
            process.close()
            self.processes[name] = None  # started again for the next row
            status = "crashed" if isinstance(problem, ProcessDiedError) else "timeout"
            row.results[name] = Result(status, str(problem))
            return None

    def _keep(self, row: Row) -> None:
        """Keeps a row that was interrupted, if somebody has a time."""
        for name in self.report.contenders:
            row.results.setdefault(name, Result("interrupted", "interrupted before it was asked"))
        for result in row.results.values():
            if result.status == "ok" and not any(result.rounds):
                result.status, result.reason = "interrupted", "interrupted before there was a time"
        if any(result.ok for result in row.results.values()):
            self.report.rows.append(row)


def _rotated(names: Sequence[str], by: int) -> Iterator[str]:
    """Another order in each round, so that nobody always follows the same one."""
    start = by % len(names) if names else 0
    yield from [*names[start:], *names[:start]]
