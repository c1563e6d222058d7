"""Pictures of a report with matplotlib: ratio bars beside the roofline, or the curves of a sweep."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convpool.bench import tables
from convpool.bench.results import Report, Result, Row, is_conv
from convpool.bench.statistics import geometric_mean

__all__ = ["plot"]

# Okabe and Ito's colours, which people with colour-blindness can tell apart; black is the base's.
_COLOURS = (
    "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999999", "#7B4FA3", "#8C6D31",
    "#17BECF", "#B5BD00", "#5D3A1A", "#F78FA7", "#2F4B7C", "#6FBF73", "#A05195", "#C7A252",
)  # fmt: skip
_BASE_COLOUR = "#000000"
_PAPER: dict[str, Any] = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "*")

# Bars end here, with the value beside them: beyond, a few extremes would flatten all others.
_LARGEST_RATIO = 8.0


def plot(report: Report, path: str | Path) -> None:
    """Writes a picture; the file's ending says which kind. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(layout="constrained")
        if report.sweep:
            _draw_sweep(figure, report)
        else:
            _draw_comparison(figure, report)
        figure.savefig(path, dpi=150, facecolor="white")


def _colour(report: Report, name: str) -> str:
    others = [other for other in report.shown if other != report.base]
    return _BASE_COLOUR if name == report.base else _COLOURS[others.index(name) % len(_COLOURS)]


def _marker(report: Report, name: str) -> str:
    others = [other for other in report.shown if other != report.base]
    return "o" if name == report.base else _MARKERS[others.index(name) % len(_MARKERS)]


def _version(report: Report, name: str) -> str:
    version = str(report.contenders[name].get("version", "")).split("+")[0]
    return f"{name} {version}".strip()


def _draw_comparison(figure: Any, report: Report) -> None:
    others = [name for name in report.shown if name != report.base]
    lines = len(report.rows) + (1 if others else 0)
    height = max(6.2, 2.0 + lines * (0.13 + 0.068 * max(1, len(others))))
    figure.set_size_inches(15, height)
    _head(figure, report, f"how long others take compared with {report.base}" if others else "speed")
    if not others:
        _draw_roof(figure.subplots(), report)
        return
    columns = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
    totals_height = 0.5 + 0.26 * len(report.shown)
    roof_height = min(8.0, max(3.0, height - 2.4 - totals_height))
    rest = max(0.01, height - 2.4 - totals_height - roof_height)
    right = columns[1].subgridspec(3, 1, height_ratios=(roof_height, totals_height, rest))
    _draw_ratios(figure.add_subplot(columns[0]), report, others)
    _draw_roof(figure.add_subplot(right[0]), report)
    _draw_totals(figure.add_subplot(right[1]), report, others)


def _draw_roof(axes: Any, report: Report) -> None:
    if any(is_conv(row) for row in report.rows):
        _draw_roofline(axes, report)
    else:
        _draw_memory(axes, report)


def _head(figure: Any, report: Report, subject: str) -> None:
    """The title, and the machine below it; blank lines make room for what stands there by itself."""
    title, *context = tables.heading(report)
    height = figure.get_figheight()
    figure.suptitle(
        f"{title}: {subject}\n" if title else f"{subject}\n",
        fontsize=13,
        fontweight="bold",
        x=0.01,
        ha="left",
    )
    figure.text(0.01, 1 - 0.38 / height, "   |   ".join(context), fontsize=9, color="#444444", va="top")


# ---- bars


def _row_label(report: Report, row: Row) -> str:
    count = f" (×{row.case.count})" if row.case.count > 1 else ""
    result = row.results[report.base]
    time = f"{tables.microseconds(result.time.median)} µs" if result.ok else tables.status(result)
    threads = f", {row.threads} threads" if len({other.threads for other in report.rows}) > 1 else ""
    return f"{row.label}{count}{threads}   {time}"


def _draw_ratios(axes: Any, report: Report, others: Sequence[str]) -> None:
    ratios: list[dict[str, float]] = []
    for row in report.rows:
        found = {name: row.ratio(name, report.base) for name in others}
        ratios.append({name: ratio.median for name, ratio in found.items() if ratio is not None})
    labels = [_row_label(report, row) for row in report.rows]
    last = _summary_bars(report, others)
    labels.append(last[0])
    ratios.append(last[1])

    every = [ratio for row_ratios in ratios for ratio in row_ratios.values()]
    low = min([0.5, *every])
    low = max(1 / _LARGEST_RATIO, low / 1.12)
    high = min(_LARGEST_RATIO, max([2.0, *every]) * 1.12)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.axvspan(low, 1, color="#D55E00", alpha=0.07, linewidth=0)
    thickness = 0.8 / len(others)
    # As high as a bar, in points.
    text_size = min(7.0, 72 * thickness * (axes.figure.get_figheight() - 2.2) / len(labels))
    for line, row_ratios in enumerate(ratios):
        for position, name in enumerate(others):
            y = line - 0.4 + thickness * (position + 0.5)
            if name in row_ratios:
                _bar(axes, y, row_ratios[name], thickness * 0.92, _colour(report, name), text_size)
            elif line < len(report.rows):
                text, failed = _instead(report.rows[line].results.get(name))
                axes.text(
                    1.01, y, f"{name} {text}", fontsize=text_size, va="center",
                    color="#B00000" if failed else "#888888", fontweight="bold" if failed else "normal",
                )  # fmt: skip
    axes.axvline(1, color="black", linewidth=1)
    axes.axhline(len(report.rows) - 0.5, color="#888888", linewidth=0.8)
    for line in range(len(ratios) - 1):
        axes.axhline(line + 0.5, color="#DDDDDD", linewidth=0.5, zorder=0)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    ticks = [tick for tick in (0.125, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="#CCCCCC", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"time / time of {report.base}, median of paired rounds (logarithmic)")
    for text, x, ha in (
        (f"faster than {report.base} ", 0.98, "right"),
        (f" slower than {report.base}", 1.02, "left"),
    ):
        arrow = f"\u2190 {text}" if ha == "right" else f"{text} \u2192"
        axes.text(x, 1.004, arrow, transform=axes.get_xaxis_transform(), ha=ha, va="bottom", fontsize=9)
    from matplotlib.patches import Patch

    handles = [Patch(color=_colour(report, name), label=_version(report, name)) for name in others]
    axes.figure.legend(
        handles=handles, loc="outside lower left", ncols=min(6, len(handles)), frameon=False, fontsize=10
    )


def _summary_bars(report: Report, others: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The line below the layers: weighted sums where the rows are a network's, else the mean ratio."""
    if report.network:
        totals = report.totals(report.rows[0].cache)
        seconds = totals.get(report.base, (0.0, None, 0))[0]
        found = {name: totals[name][1] for name in others}
        return f"all layers, weighed   {seconds * 1e3:.1f} ms", {
            k: v for k, v in found.items() if v is not None
        }
    means = {}
    for name in others:
        ratios = [ratio.median for row in report.rows if (ratio := row.ratio(name, report.base)) is not None]
        if ratios:
            means[name] = geometric_mean(ratios)
    return "geometric mean", means


def _instead(result: Result | None) -> tuple[str, bool]:
    """What stands in the place of a bar, and whether that is a failure."""
    if result is None or result.status in ("unsupported", "missing", "interrupted"):
        return "can't", False
    if result.ok:  # nothing to compare it with
        return f"{tables.microseconds(result.time.median)} µs", False
    return tables.status(result), True


def _bar(axes: Any, y: float, ratio: float, thickness: float, colour: str, text_size: float) -> None:
    low, high = axes.get_xlim()
    end = min(max(ratio, low), high)
    axes.barh(y, end - 1, left=1, height=thickness, color=colour, linewidth=0)
    style: dict[str, Any] = {"va": "center", "fontsize": text_size, "color": "white", "fontweight": "bold"}
    if ratio > high:
        axes.text(high * 0.985, y, f"{ratio:.0f}x", ha="right", **style)
    elif ratio < low:
        axes.text(low * 1.02, y, f"1/{1 / ratio:.0f}x", ha="left", **style)


def _draw_totals(axes: Any, report: Report, others: Sequence[str]) -> None:
    """How long everything takes together, or the mean ratio where the rows are no network."""
    label, ratios = _summary_bars(report, others)
    network = report.network
    names = [report.base, *others]
    complete = len([row for row in report.rows if row.cache == report.rows[0].cache])
    values = {report.base: 1.0, **ratios}
    counts = {name: sum(row.ratio(name, report.base) is not None for row in report.rows) for name in names}
    colours = [_colour(report, name) for name in names]
    axes.barh(
        range(len(names)), [values.get(name, 0) for name in names], color=colours, height=0.7, linewidth=0
    )
    limit = 1.4 * min(_LARGEST_RATIO, max(values.values()))
    axes.set_xlim(0, limit)
    seconds = report.totals(report.rows[0].cache) if network else {}
    for line, name in enumerate(names):
        if name in values:
            text = f"{values[name]:.2f}x"
            if counts[name] < complete:
                text += f" ({counts[name]} of {complete} rows)"
            elif network:
                text += f", {seconds[name][0] * 1e3:.1f} ms"
            place = min(values[name], 0.72 * limit) + 0.01 * limit
            axes.text(place, line, text, va="center", fontsize=8, bbox=_PAPER)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    subject = "all layers, weighed by how often each occurs" if network else label
    axes.set_title(f"Together: {subject}", fontsize=9, loc="left")


# ---- roofs


def _draw_roofline(axes: Any, report: Report) -> None:
    rows = [row for row in report.rows if is_conv(row)]
    threads = max(row.threads for row in rows)
    dtype = rows[0].case.dtype
    intensities = [row.case.flops / row.case.bytes for row in rows]
    x = np.array([min(intensities) / 2, max(intensities) * 2])
    peak, bandwidth = report.peak(threads, dtype), report.bandwidth(threads)
    if peak and bandwidth:
        ridge = peak / bandwidth
        x[0] = min(x[0], ridge / 2)
        edge = np.array([x[0], ridge, max(x[1], ridge * 2)])
        roof = np.minimum(peak, edge * bandwidth) / 1e9
        axes.plot(edge, roof, color="#444444", linewidth=2, zorder=2)
        axes.fill_between(edge, roof, roof.max() * 100, color="#888888", alpha=0.12, linewidth=0)
        note: dict[str, Any] = {
            "textcoords": "offset points", "color": "#444444", "fontsize": 8, "zorder": 5,
            "bbox": _PAPER,
        }  # fmt: skip
        isa = report.machine.get("isa", "")
        axes.annotate(
            f"{peak / 1e9:.0f} GFLOP/s: FMA peak, {isa}",
            (edge[1], peak / 1e9),
            xytext=(0, 5),
            va="bottom",
            **note,
        )
        middle = (np.sqrt(edge[0] * edge[1]), np.sqrt(roof[0] * roof[1]))
        axes.annotate(f"{bandwidth / 1e9:.0f} GB/s: memory", middle, xytext=(8, -8), **note)
        for name, rate in report.isa_peaks(threads).items():
            scaled = rate * (0.5 if dtype == "float64" else 1.0)
            if name != isa and scaled < 0.9 * peak:
                axes.plot(
                    [scaled / bandwidth, edge[2]], [scaled / 1e9] * 2, ":", color="#888888", linewidth=1
                )
                axes.annotate(name, (edge[2], scaled / 1e9), xytext=(-2, 2), ha="right", va="bottom", **note)
    highest = [peak / 1e9] if peak else []
    lowest = []
    for name in [name for name in report.shown if name != report.base] + [report.base]:
        points = [
            (row.case.flops / row.case.bytes, row.case.flops / row.results[name].time.median / 1e9)
            for row in rows
            if name in row.results and row.results[name].ok
        ]
        if not points:
            continue
        _marks(axes, report, name, points)
        highest.append(max(y for _, y in points))
        lowest.append(min(y for _, y in points))
    axes.set_xscale("log")
    axes.set_yscale("log")
    if lowest:
        axes.set_ylim(max(min(lowest) / 1.5, max(highest) / 2000), max(highest) * 1.8)
    axes.set_xlabel("FLOP per byte that must move (nominal)")
    axes.set_ylabel("GFLOP/s (nominal)")
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    axes.set_title(
        "Roofline, a mark for each layer. Above the roof:\nWinograd, or taps skipped in the padding",
        fontsize=9,
        loc="left",
    )
    _plain_ticks(axes)


def _marks(axes: Any, report: Report, name: str, points: Sequence[tuple[float, float]]) -> None:
    base = name == report.base
    axes.scatter(
        [x for x, _ in points],
        [y for _, y in points],
        s=34 if base else 16,
        marker=_marker(report, name),
        color=_colour(report, name),
        alpha=1.0 if base else 0.75,
        linewidths=0,
        label=name,
        zorder=4 if base else 3,
    )


def _draw_memory(axes: Any, report: Report) -> None:
    threads = max(row.threads for row in report.rows)
    bandwidth = report.bandwidth(threads)
    for name in [name for name in report.shown if name != report.base] + [report.base]:
        points = [
            (row.case.bytes / 1e6, row.case.bytes / row.results[name].time.median / 1e9)
            for row in report.rows
            if name in row.results and row.results[name].ok
        ]
        _marks(axes, report, name, points)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if bandwidth:
        axes.axhline(bandwidth / 1e9, color="#444444", linewidth=2)
        axes.annotate(
            f"{bandwidth / 1e9:.0f} GB/s: copy in memory", (1, bandwidth / 1e9),
            xycoords=("axes fraction", "data"), xytext=(-2, 4), textcoords="offset points",
            ha="right", va="bottom", color="#444444", fontsize=8,
        )  # fmt: skip
    axes.set_xlabel("MB of input and result")
    axes.set_ylabel("GB/s")
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    axes.set_title(
        "Throughput, a mark for each layer.\nAbove the line: it fits into a cache", fontsize=9, loc="left"
    )
    _plain_ticks(axes)


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


# ---- sweeps


def _draw_sweep(figure: Any, report: Report) -> None:
    figure.set_size_inches(14.5, 5.2)
    _head(figure, report, "time and size")
    time, speed, size = figure.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
    values = [row.value or 0 for row in report.rows]
    convolution = is_conv(report.rows[0])
    for name in report.shown:
        timed = [
            (row.value or 0, row.results[name].time, row)
            for row in report.rows
            if name in row.results and row.results[name].ok
        ]
        if not timed:
            continue
        x = [value for value, _, _ in timed]
        style: dict[str, Any] = {
            "color": _colour(report, name), "marker": _marker(report, name), "markersize": 4,
            "linewidth": 2 if name == report.base else 1.2, "label": _version(report, name),
        }  # fmt: skip
        time.plot(x, [spread.median * 1e6 for _, spread, _ in timed], **style)
        time.fill_between(
            x, [spread.low * 1e6 for _, spread, _ in timed], [spread.high * 1e6 for _, spread, _ in timed],
            color=style["color"], alpha=0.2, linewidth=0,
        )  # fmt: skip
        work = [
            (row.case.flops if convolution else row.case.bytes) / spread.median / 1e9
            for _, spread, row in timed
        ]
        speed.plot(x, work, **style)
    time.set_title("Time of a call (median; band: quartiles)", fontsize=9, loc="left")
    time.set_ylabel("µs (logarithmic)")
    time.set_yscale("log")
    time.legend(frameon=False, fontsize=8)
    speed.set_title("Speed" + (" (nominal)" if convolution else ""), fontsize=9, loc="left")
    speed.set_ylabel("GFLOP/s" if convolution else "GB/s")
    speed.set_ylim(bottom=0)
    threads = sorted({row.threads for row in report.rows})
    roofs = [
        report.peak(row.threads, row.case.dtype) if convolution else report.bandwidth(row.threads)
        for row in report.rows
    ]
    if all(roofs):
        speed.plot(values, [(roof or 0) / 1e9 for roof in roofs], "--", color="#444444", linewidth=1.2,
                   label="FMA peak" if convolution else "copy in memory")  # fmt: skip
        speed.legend(frameon=False, fontsize=8, loc="best")
    parameters = [row.case.parameters for row in report.rows]
    size.set_title(
        "Parameters (bars) and work (line)" if convolution else "Bytes to move", fontsize=9, loc="left"
    )
    places = range(len(values))
    if convolution:
        size.bar(places, parameters, color="#56B4E9", label="parameters")
        size.set_ylabel("parameters")
        work_axis = size.twinx()
        work_axis.plot(
            places, [row.case.flops / 1e6 for row in report.rows], color="#D55E00", marker=".", linewidth=1.2
        )
        work_axis.set_ylabel("MFLOP a call (nominal)", color="#D55E00")
        work_axis.set_ylim(bottom=0)
        work_axis.spines["right"].set_visible(True)
    else:
        size.bar(places, [row.case.bytes / 1e6 for row in report.rows], color="#56B4E9")
        size.set_ylabel("MB")
    size.set_xticks(places, [str(value) for value in values], rotation=90 if len(values) > 12 else 0)
    geometric = (
        len(values) > 2 and values[0] > 0 and values[-1] / values[0] >= 8 and len(set(np.diff(values))) > 1
    )
    for axes in (time, speed):
        if geometric:
            axes.set_xscale("log", base=2)
        if len(values) <= 20:
            axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.grid(color="#E4E4E4", linewidth=0.6)
    unit = {
        "kernel": "kernel size (pixels)", "stride": "stride (pixels)",
        "padding": "padding on each side (pixels)", "dilation": "dilation (pixels)",
        "image": "image size (pixels)", "batch": "images in the batch",
    }.get(report.sweep, report.sweep.replace("_", " "))  # fmt: skip
    for axes in (time, speed, size):
        axes.set_xlabel("\n".join(textwrap.wrap(unit, 40)))
    assert threads
    _plain_time(time)


def _plain_time(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
