"""A report as text: tables for terminals and Markdown, totals, and what didn't work."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from convpool.bench.results import Report, Result, Row, is_conv
from convpool.bench.statistics import geometric_mean

__all__ = ["LEVEL", "Table", "markdown", "microseconds", "plain", "row_line", "summary", "table"]

#: Ratios closer to 1 than this count as level.
LEVEL = 0.05

_STATUS = {
    "wrong": "WRONG",
    "crashed": "CRASHED",
    "timeout": "TIMEOUT",
    "error": "ERROR",
    "unsupported": "-",
    "missing": "-",
    "interrupted": "-",
}


def status(result: Result) -> str:
    """What stands in the place of a time."""
    return _STATUS.get(result.status, result.status)


@dataclasses.dataclass
class Table:
    """Cells of text; the first columns are flush left as ``left`` says, the others flush right.

    ``tones`` has a tone for each cell: ``good`` where the base is faster, ``bad`` where it is slower,
    ``alarm`` for a wrong answer or a crash, or nothing.
    """

    headers: list[str]
    rows: list[list[str]]
    tones: list[list[str]]
    left: int


def microseconds(seconds: float) -> str:
    """Three digits or all before the point.

    >>> microseconds(1.234e-3), microseconds(45.67e-6), microseconds(7.654e-6)
    ('1234', '45.7', '7.65')
    """
    value = seconds * 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def _tone(ratio: float) -> str:
    if ratio > 1 + LEVEL:
        return "good"
    return "bad" if ratio < 1 / (1 + LEVEL) else ""


def _measure(report: Report, row: Row) -> list[str]:
    """Nominal GFLOP/s, GB/s and part of the roofline: the base's, or the fastest's if that has no time."""
    name = report.base if row.results[report.base].ok else row.fastest()
    if name is None:
        return ["", "", ""]
    seconds = row.results[name].time.median
    attainable = report.attainable(row)
    return [
        _number(row.case.flops / seconds / 1e9) if is_conv(row) else "",
        _number(row.case.bytes / seconds / 1e9),
        "" if attainable is None else f"{100 * attainable / seconds:.0f} %",
    ]


def _time_cell(result: Result | None) -> tuple[str, str]:
    if result is None:
        return "", ""
    if result.ok:
        return microseconds(result.time.median), ""
    return status(result), "alarm" if result.status in (
        "wrong", "crashed", "timeout", "error",
    ) else ""  # fmt: skip


def _other_cell(report: Report, row: Row, name: str, both: bool) -> tuple[str, str]:
    result = row.results.get(name)
    ratio = row.ratio(name, report.base)
    text, tone = _time_cell(result)
    if result is None or not result.ok or ratio is None:
        return text, tone
    times = f"x{_ratio_text(ratio.median)}"
    return (f"{text} ({times})" if both else times), _tone(ratio.median)


def table(
    report: Report,
    rows: Sequence[Row] | None = None,
    notation: bool = False,
    both: bool = True,
    sums: bool = True,
) -> Table:
    """The rows of a report; ``notation`` adds what exactly was computed, ``both`` times beside ratios."""
    rows = report.rows if rows is None else rows
    counted = any(row.case.count > 1 for row in report.rows)
    several_threads = len({row.threads for row in report.rows}) > 1 or bool(report.sweep == "threads")
    others = [name for name in report.shown if name != report.base]
    base = report.base
    headers = ["layer"] + (["case"] if notation else [])
    left = len(headers)
    headers += (["times"] if counted else []) + (["threads"] if several_threads else [])
    headers += ["parameters"] if report.sweep else []
    headers += [f"{base} us", "+-", "GFLOP/s", "GB/s", "roof"]
    headers += [f"{name} us (x)" if both else f"{name} x" for name in others]
    cells: list[list[str]] = []
    tones: list[list[str]] = []
    for row in rows:
        line = [(row.label, "")] + ([(row.case.notation, "")] if notation else [])
        line += [(str(row.case.count), "")] if counted else []
        line += [(str(row.threads), "")] if several_threads else []
        line += [(str(row.case.parameters), "")] if report.sweep else []
        mine = row.results.get(base)
        line.append(_time_cell(mine))
        line.append((f"{100 * mine.time.relative:.0f} %" if mine is not None and mine.ok else "", ""))
        line += [(text, "") for text in (_measure(report, row) if mine is not None else ["", "", ""])]
        line += [_other_cell(report, row, name, both) for name in others]
        cells.append([text for text, _ in line])
        tones.append([tone for _, tone in line])
    for cache in dict.fromkeys(row.cache for row in rows) if sums else ():
        total = _total_line(report, rows, cache, others, both)
        if total is not None:
            blanks = len(headers) - left - len(others) - 5
            first = [total[2] + (" (cold)" if cache == "cold" else "")] + [""] * (left - 1 + blanks)
            cells.append(first + [total[0], "", "", "", ""] + [text for text, _ in total[1]])
            tones.append([""] * (len(first) + 5) + [tone for _, tone in total[1]])
    return Table(headers, cells, tones, left)


def _total_line(
    report: Report, rows: Sequence[Row], cache: str, others: Sequence[str], both: bool
) -> tuple[str, list[tuple[str, str]], str] | None:
    """The sums, where the rows are parts of one thing."""
    if not report.network:
        return None
    totals = report.totals(cache)
    if report.base not in totals or totals[report.base][2] == 0:
        return None
    complete = totals[report.base][2]
    cells = []
    for name in others:
        seconds, ratio, count = totals[name]
        if ratio is None:
            cells.append(("", ""))
            continue
        # A sum over fewer rows can only be told as a ratio.
        times = f"x{_ratio_text(ratio)}" + ("" if count == complete else "*")
        cells.append(
            (f"{microseconds(seconds)} ({times})" if both and count == complete else times, _tone(ratio))
        )
    whole = complete == sum(row.cache == cache for row in rows) and not report.interrupted
    return microseconds(totals[report.base][0]), cells, "sum" if whole else f"sum of {complete} rows"


def plain(content: Table) -> str:
    """Aligned columns."""
    return _aligned(content, "  ", lambda widths: "  ".join("-" * width for width in widths))


def _aligned(content: Table, gap: str, rule: Callable[[list[int]], str]) -> str:
    widths = [
        max(len(row[i]) for row in [content.headers, *content.rows]) for i in range(len(content.headers))
    ]

    def line(cells: Sequence[str]) -> str:
        return gap.join(
            cell.ljust(width) if i < content.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(content.headers), rule(widths), *(line(row) for row in content.rows)])


def row_line(report: Report, row: Row) -> str:
    """One finished row in one line.

    ``layer1.3x3: convpool 664 us, 348 GFLOP/s; torch x2.33, ncnn x1.00``
    """
    text, _ = _time_cell(row.results.get(report.base))
    rate, memory, _ = _measure(report, row)
    speed = f"{rate} GFLOP/s" if rate else f"{memory} GB/s"
    others = [
        f"{name} {_other_cell(report, row, name, both=False)[0]}"
        for name in report.shown
        if name != report.base
    ]
    ok = row.results[report.base].ok
    unit = f" us, {speed}" if ok else ""
    return f"{row.label}: {report.base} {text}{unit}" + ("; " + ", ".join(others) if others else "")


def heading(report: Report) -> list[str]:
    """Title, machine and method, a line each."""
    machine = report.machine
    threads = sorted({row.threads for row in report.rows}) or sorted(report.limits)
    kinds = sorted({f"{row.case.dtype} {row.case.layout}" for row in report.rows})
    counts = ", ".join(map(str, threads))
    lines = [
        report.title,
        f"{machine.get('cpu', '?')}, {machine.get('isa', '?')}; "
        f"{counts} thread{'' if counts == '1' else 's'}; {', '.join(kinds)}",
    ]
    for count in threads:
        peak, bandwidth = report.peak(count), report.bandwidth(count)
        if peak and bandwidth:
            on = f" on {count} threads" if count > 1 else " on 1 thread"
            lines.append(
                f"limits measured{on}: {peak / 1e9:.0f} GFLOP/s (float32 FMA), "
                f"{bandwidth / 1e9:.0f} GB/s (copy)"
            )
    return lines


def summary(report: Report) -> list[str]:
    """Who was faster how often, in sentences."""
    lines = []
    for name in report.shown:
        if name == report.base:
            continue
        ratios = [ratio.median for row in report.rows if (ratio := row.ratio(name, report.base)) is not None]
        if not ratios:
            continue
        faster = sum(ratio > 1 + LEVEL for ratio in ratios)
        slower = sum(ratio < 1 / (1 + LEVEL) for ratio in ratios)
        level = len(ratios) - faster - slower
        lines.append(
            f"{report.base} against {name}: faster on {faster}, level on {level}, slower on {slower} of "
            f"{len(ratios)} rows; geometric mean x{geometric_mean(ratios):.2f}"
        )
    return lines


def legend(report: Report) -> list[str]:
    """What the columns mean."""
    rounds = report.settings.get("rounds", "?")
    lines = [
        f"us: median of a call in microseconds, over {rounds} interleaved rounds; +-: interquartile range as "
        "a part of it.",
        f"x: how many times as long as {report.base}; above 1, {report.base} is faster. Paired by rounds.",
        "GFLOP/s are nominal (every tap counts): Winograd, and taps skipped in the padding, can pass 100 % "
        "of the roof. GB/s counts input, weights and result once; what fits into a cache can pass 100 % too.",
    ]
    if any(row.case.count > 1 for row in report.rows):
        lines.append("times: how often the layer occurs; sums are weighed by it.")
    totals = report.totals()
    complete = totals.get(report.base, (0.0, None, 0))[2]
    if report.network and any(0 < count < complete for _, _, count in totals.values()):
        lines.append("*: over the rows that it did, against the same rows.")
    return lines


def problems(report: Report) -> list[str]:
    """Everything that has no time or an uncertain one, with the reason, equal ones together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in report.rows:
        for name, result in row.results.items():
            if not result.ok and result.status != "missing":
                found.setdefault((name, result.status, result.reason), []).append(row.label)
    lines = []
    for (name, status, reason), labels in found.items():
        where = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        lines.append(f"{name}: {_STATUS[status].replace('-', status)}: {reason} ({where})")
    disturbed: dict[str, list[str]] = {}
    for row in report.rows:
        for name, result in row.results.items():
            if result.disturbed:
                disturbed.setdefault(row.label, []).append(name)
    if len(disturbed) > 5:
        lines.append(
            f"on {len(disturbed)} of {len(report.rows)} rows the times scatter widely: something else was "
            "running; measure again"
        )
    else:
        for label, names in disturbed.items():
            lines.append(f"{label}: the times of {', '.join(names)} scatter widely; measure again")
    return lines


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    content = table(report, notation=any(row.case.name for row in report.rows))
    marks = {"good": "{}", "bad": "**{}**", "alarm": "**{}**", "": "{}"}
    title, *context = heading(report)
    lines = [f"### {title}", "", *(f"{line}  " for line in context), ""]
    lines.append("| " + " | ".join(typeset(header) for header in content.headers) + " |")
    lines.append(
        "|" + "|".join("---" if i < content.left else "---:" for i in range(len(content.headers))) + "|"
    )
    for cells, tones in zip(content.rows, content.tones, strict=True):
        shown = [
            marks[tone].format(typeset(cell).replace("|", "\\|")) if cell else ""
            for cell, tone in zip(cells, tones, strict=True)
        ]
        lines.append("| " + " | ".join(shown) + " |")
    lines += ["", *(f"- {typeset(line)}" for line in summary(report))]
    lines += ["", *(f"- {typeset(line)}" for line in legend(report))]
    lines.append(f"- Bold: faster than {report.base} by more than {100 * LEVEL:.0f} %, or no right answer.")
    lines += [f"- {line}" for line in [*problems(report), *report.notes]]
    lines += ["", _versions(report), ""]
    return "\n".join(lines)


def typeset(text: str) -> str:
    """Signs that every screen and file that is UTF-8 can show."""
    text = re.sub(r"\bus\b", "µs", text).replace("+-", "±")
    return re.sub(r"(?<![\w])x(?=\d|\)|$|:)", "×", text)


def _versions(report: Report) -> str:
    parts = [
        f"{name} {about.get('version', '')} ({about.get('how', '')})"
        for name, about in report.contenders.items()
        if about.get("status") == "ok"
    ]
    built = report.machine.get("convpool", {})
    return (
        f"{'; '.join(parts)}. convpool built with {built.get('compiler', '?')}. "
        f"{report.machine.get('system', '?')}, Python {report.machine.get('python', '?')}, {report.created}."
    )


def text(report: Report) -> str:
    """The whole report for a screen without colours."""
    parts = ["\n".join(heading(report)), plain(table(report))]
    parts += ["\n".join(lines) for lines in (summary(report), legend(report)) if lines]
    trouble = [*problems(report), *report.notes]
    if trouble:
        parts.append("\n".join(f"! {line}" for line in trouble))
    return "\n\n".join(parts)


def rich_table(content: Table) -> Any:
    """The table as rich draws it, with colours."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    styles = {"good": "green", "bad": "red", "alarm": "bold white on red", "": ""}
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, header in enumerate(content.headers):
        drawn.add_column(
            typeset(header), justify="left" if i < content.left else "right", no_wrap=i >= content.left
        )
    for cells, tones in zip(content.rows, content.tones, strict=True):
        drawn.add_row(
            *(Text(typeset(cell), style=styles[tone]) for cell, tone in zip(cells, tones, strict=True))
        )
    return drawn
