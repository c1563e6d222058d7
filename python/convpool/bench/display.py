"""Progress while a run goes on: a live table with rich in a terminal, a line for each row elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any, TextIO

from convpool.bench import tables
from convpool.bench.results import Report, Row
from convpool.bench.runner import Progress, Silent

__all__ = ["Lines", "Live", "choose", "show"]


class Lines(Silent):
    """One line for each finished row."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.report: Report | None = None
        self.rows = self.done = 0

    def begin(self, report: Report, rows: int) -> None:
        """Keeps the report, which the lines are in relation to."""
        self.report, self.rows = report, rows

    def finished(self, row: Row) -> None:
        """Prints the row."""
        assert self.report is not None
        self.done += 1
        line = tables.row_line(self.report, row)
        print(f"[{self.done:>{len(str(self.rows))}}/{self.rows}] {line}", file=self.stream, flush=True)


class Live(Silent):
    """A table that grows, and a bar, until the final table takes their place.

    It is drawn between turns, never by a thread of its own, so that it takes no time from what is measured.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = Console(stderr=True)
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            auto_refresh=False,
        )
        self.live: Any = RichLive(console=self.console, auto_refresh=False, transient=True)
        self.report: Report | None = None
        self.rows: list[Row] = []
        self.drawn = 0.0

    def begin(self, report: Report, rows: int) -> None:
        """Shows the bar."""
        self.report = report
        self.task = self.bar.add_task("starting the contenders", total=rows)
        self.live.start()
        self._draw()

    def at(self, row: Row, doing: str) -> None:
        """Says what is going on, a few times a second at most."""
        self.bar.update(self.task, description=f"{row.label}: {doing}")
        if time.monotonic() - self.drawn > 0.2:
            self._draw()

    def finished(self, row: Row) -> None:
        """Adds a row."""
        self.rows.append(row)
        self.bar.update(self.task, advance=1)
        self._draw()

    def end(self) -> None:
        """Leaves the screen to the final table."""
        self.live.stop()

    def _draw(self) -> None:
        from rich.console import Group

        assert self.report is not None
        room = max(1, self.console.size.height - 6)
        content = tables.table(self.report, self.rows[-room:], both=False, sums=False)
        self.live.update(Group(tables.rich_table(content), self.bar) if self.rows else self.bar, refresh=True)
        self.drawn = time.monotonic()


def _rich(stream: TextIO) -> bool:
    return stream.isatty() and importlib.util.find_spec("rich") is not None


def choose() -> Progress:
    """What suits standard error."""
    return Live() if _rich(sys.stderr) else Lines()


def show(report: Report) -> None:
    """Prints the final table."""
    if not _rich(sys.stdout):
        print(tables.text(report))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    title, *context = tables.heading(report)
    console.print(Text(title, style="bold"))
    for line in context:
        console.print(Text(line, style="dim"))
    console.print(tables.rich_table(tables.table(report, both=console.size.width >= 120)))
    for line in tables.summary(report):
        console.print(Text(tables.typeset(line)))
    for line in tables.legend(report):
        console.print(Text(tables.typeset(line), style="dim"))
    for line in [*tables.problems(report), *report.notes]:
        console.print(Text(f"! {line}", style="yellow"))
