"""``python -m convpool bench``."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convpool.bench import contenders, machine, suites
from convpool.bench.cases import Case, parse_conv, parse_pool
from convpool.bench.comparison import compare
from convpool.bench.results import Report, Row
from convpool.bench.runner import Settings, run
from convpool.bench.sweeps import PARAMETERS, parse_sweep, sweep
from convpool.bench.tables import microseconds

# Those that are compared unless told otherwise: one of each library that is installed.
_DEFAULT_AGAINST = ("torch", "torch:nhwc", "onnxruntime", "openvino", "ncnn", "opencv")
_DEFAULT_SWEEP_CASE = "n1c64h56w56k64r3s1p1"

_EPILOG = """\
examples:
  python -m convpool bench --suite resnet50 --against torch,onnxruntime --threads 1 --plot resnet50.png
  python -m convpool bench --conv n1c64h56w56k64r3s1p1 --against convpool:im2col,convpool:direct
  python -m convpool bench --onnx model.onnx --json model.json
  python -m convpool bench --sweep kernel=1..15 --against torch --plot kernel.svg
  python -m convpool bench compare old.json new.json
"""


def parser() -> argparse.ArgumentParser:
    """The options of the measurement."""
    bench = argparse.ArgumentParser(
        prog="python -m convpool bench",
        description="Compare convolutions and poolings of convpool and other libraries on this machine. "
        "`bench compare OLD NEW` compares two runs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    work = bench.add_argument_group("what to measure (each may be given several times)")
    work.add_argument(
        "--suite", action="append", default=[], metavar="NAME", help=f"{', '.join(suites.names())}"
    )
    work.add_argument(
        "--conv", action="append", default=[], metavar="CASE",
        help="a convolution, as n1c64h56w56k64r3s1p1 or in benchdnn's notation",
    )  # fmt: skip
    work.add_argument(
        "--pool", action="append", default=[], metavar="CASE", help="a pooling, as max:c64h112r3s2p1"
    )
    work.add_argument(
        "--onnx",
        action="append",
        default=[],
        metavar="FILE",
        help="the convolutions and poolings of a network",
    )
    work.add_argument(
        "--input-shape", action="append", default=[], metavar="NAME=1,3,224,224",
        help="the shape of an ONNX file's input, where the file leaves it open",
    )  # fmt: skip
    work.add_argument(
        "--sweep", metavar="PARAMETER=1..15",
        help=f"one case with one number growing: {', '.join(PARAMETERS)}; the case is --conv's or --pool's, "
        f"else {_DEFAULT_SWEEP_CASE}",
    )  # fmt: skip
    work.add_argument("--filter", metavar="TEXT", help="only layers whose name or notation contains this")
    form = bench.add_argument_group("how it is laid out")
    form.add_argument(
        "--threads", type=int, metavar="N", help="threads of each contender (default: all CPUs)"
    )
    form.add_argument("--batch", type=int, metavar="N", help="images at a time, whatever the case says")
    form.add_argument("--dtype", choices=("float32", "float64"), help="default: float32")
    form.add_argument("--layout", choices=("NCHW", "NHWC"), help="of input and result (default: NCHW)")
    form.add_argument(
        "--cold", action="store_true", help="measure with cold caches, too: a row more for each case"
    )
    who = bench.add_argument_group("who")
    who.add_argument(
        "--against", metavar="A,B,...",
        help="contenders, or all; file.py:Class takes one of your own (default: those installed of "
        f"{', '.join(_DEFAULT_AGAINST)})",
    )  # fmt: skip
    who.add_argument("--base", default="convpool", metavar="NAME", help="whom the others are compared with")
    who.add_argument("--list", action="store_true", help="list contenders and suites, and end")
    how = bench.add_argument_group("how long")
    defaults = Settings()
    how.add_argument("--rounds", type=int, default=defaults.rounds, help="(default: %(default)s)")
    how.add_argument(
        "--turn", type=float, default=defaults.turn, metavar="S",
        help="seconds for each contender in each round (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--budget", type=float, default=defaults.budget, metavar="S",
        help="seconds for each contender on a row, after which two samples are enough (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--timeout", type=float, default=defaults.timeout, metavar="S",
        help="seconds until a contender that doesn't answer is ended (default: %(default)s)",
    )  # fmt: skip
    out = bench.add_argument_group("output")
    out.add_argument("--json", metavar="FILE", help="everything, with raw samples")
    out.add_argument("--markdown", metavar="FILE", help="the table")
    out.add_argument("--plot", metavar="FILE", help="a picture, .png, .svg or .pdf")
    out.add_argument("--title", help="of table and picture")
    out.add_argument("--quiet", action="store_true", help="no progress")
    return bench


def compare_parser() -> argparse.ArgumentParser:
    """The options of ``bench compare``."""
    usage = argparse.ArgumentParser(
        prog="python -m convpool bench compare",
        description="What got faster or slower between two runs, beyond the noise.",
    )
    usage.add_argument("old", help="a file that --json wrote")
    usage.add_argument("new", help="another")
    usage.add_argument("--contender", default="convpool", metavar="NAME", help="(default: %(default)s)")
    usage.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        metavar="PART",
        help="the least that counts (default: %(default)s)",
    )
    usage.add_argument("--fail", action="store_true", help="exit with 1 if something got slower")
    return usage


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    bench = parser()
    options = bench.parse_args(arguments)
    if options.list:
        _list()
        return 0
    try:
        for name in ("json", "markdown", "plot"):
            _check_writable(getattr(options, name))
        rows, title, notes = _work(options)
        names = [options.base, *_against(options)]
        settings = Settings(
            rounds=options.rounds, turn=options.turn, budget=options.budget, timeout=options.timeout
        )
        # Ended from outside, a run writes what it has as after Ctrl-C.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            report = run(
                rows,
                names,
                caches=("hot", "cold") if options.cold else ("hot",),
                title=options.title or title,
                settings=settings,
                progress=_progress(options.quiet),
                sweep=options.sweep.partition("=")[0] if options.sweep else "",
                network=_is_network(options),
                notes=notes,
            )
        finally:
            signal.signal(signal.SIGTERM, before)
    except ValueError as error:
        bench.error(str(error))
    report.settings["command"] = ["python", "-m", "convpool", "bench", *arguments]
    return _output(report, options)


def _progress(quiet: bool) -> Any:
    if quiet:
        return None
    from convpool.bench.display import choose

    return choose()


def _output(report: Report, options: argparse.Namespace) -> int:
    from convpool.bench.display import show
    from convpool.bench.tables import markdown

    if options.json:
        report.save(options.json)
    if options.markdown:
        Path(options.markdown).write_text(markdown(report))
    status = 0
    if options.plot and report.rows:
        try:
            from convpool.bench.plots import plot

            plot(report, options.plot)
        except ImportError as error:
            print(f"no picture: {error} (pip install matplotlib)", file=sys.stderr)
            status = 1
    if report.rows:
        show(report)
    else:
        print("nothing was measured", file=sys.stderr)
    for path in (options.json, options.markdown, options.plot):
        if path and Path(path).is_file():
            print(f"written: {path}", file=sys.stderr)
    if report.interrupted:
        return 130
    failed = any(
        row.results[report.base].status in ("wrong", "crashed", "timeout", "error") for row in report.rows
    )
    return 1 if failed or not report.rows else status


def _check_writable(path: str | None) -> None:
    if path is not None and not Path(path).resolve().parent.is_dir():
        raise ValueError(f"there is no directory for {path!r}")


def _is_network(options: argparse.Namespace) -> bool:
    parts = [suites.is_network(name) for name in options.suite] + [True for _ in options.onnx]
    return parts == [True] and not (options.conv or options.pool or options.sweep or options.filter)


def _work(options: argparse.Namespace) -> tuple[list[Row], str, list[str]]:
    """Rows, title, and remarks."""
    threads = options.threads or len(machine.usable_cpus())
    single = [parse_conv(text) for text in options.conv] + [parse_pool(text) for text in options.pool]
    single = [_adapted(case, options) for case in single]
    if options.sweep:
        if options.suite or options.onnx or len(single) > 1:
            raise ValueError("--sweep takes one --conv or --pool")
        case = single[0] if single else _adapted(parse_conv(_DEFAULT_SWEEP_CASE), options)
        name, values = parse_sweep(options.sweep)
        return sweep(case, name, values, threads), f"{name} of {case.notation}", []
    cases: list[Case] = []
    titles, notes = [], []
    if not (options.suite or options.onnx or single):
        options.suite = ["resnet50"]
    for suite_name in options.suite:
        cases += suites.suite(suite_name)
        titles.append(suites.summary(suite_name).partition(":")[0].rstrip("."))
    for path in options.onnx:
        from convpool.bench.onnx_models import read_network

        network = read_network(path, options.batch, _input_shapes(options.input_shape))
        cases += network.cases
        titles.append(network.name)
        notes += [f"{network.name}: passed over: {reason}" for reason in network.skipped]
        if not network.cases:
            raise ValueError(f"{path!r} has no 2-D convolution or pooling that can be measured: {notes}")
    cases = [_adapted(case, options) for case in cases] + single
    if single:
        titles.append(single[0].notation if len(single) == 1 else f"{len(single)} cases")
    if options.filter:
        cases = [case for case in cases if options.filter in case.name or options.filter in case.notation]
        if not cases:
            raise ValueError(f"no layer contains {options.filter!r}")
    return [Row(case, threads) for case in cases], " + ".join(titles), notes


def _adapted(case: Case, options: argparse.Namespace) -> Case:
    return dataclasses.replace(
        case,
        n=options.batch or case.n,
        dtype=options.dtype or case.dtype,
        layout=options.layout or case.layout,
    )


def _input_shapes(texts: Sequence[str]) -> dict[str, list[int]]:
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        try:
            shapes[name] = [int(size) for size in sizes.split(",")]
        except ValueError:
            raise ValueError(f"--input-shape is NAME=1,3,224,224, got {text!r}") from None
    return shapes


def _against(options: argparse.Namespace) -> list[str]:
    if options.against is None:
        chosen = [name for name in _DEFAULT_AGAINST if contenders.find(name).missing() is None]
    elif options.against == "all":
        chosen = [name for name, contender in contenders.known().items() if contender.missing() is None]
    else:
        chosen = [name.strip() for name in options.against.split(",") if name.strip()]
    return [name for name in chosen if name != options.base]


def _list() -> None:
    print("contenders")
    for name, contender in contenders.known().items():
        missing = contender.missing()
        print(f"  {name:<24}{missing or f'{contender.version():<14} {contender.how}'}")
    print("suites")
    for name in suites.names():
        cases = suites.suite(name)
        print(f"  {name:<24}{len(cases):>3} layers  {suites.summary(name)}")


def _compare(arguments: Sequence[str]) -> int:
    usage = compare_parser()
    options = usage.parse_args(arguments)
    try:
        found = compare(
            Report.load(options.old), Report.load(options.new), options.contender, options.threshold
        )
    except ValueError as error:
        usage.error(str(error))
    for note in found.notes:
        print(note)
    for verdict in ("slower", "faster"):
        changes = found.of(verdict)
        if changes:
            print(f"\n{verdict}: {len(changes)} of {len(found.changes)}")
            width = max(len(change.label) for change in changes)
            for change in changes:
                times = f"{microseconds(change.old):>8} -> {microseconds(change.new):>8} us"
                noise = f"(noise {100 * change.noise:.0f} %)"
                print(f"  {change.label:<{width}}  {times}  x{change.factor:.2f}  {noise}")
    unclear = found.of("unclear")
    if unclear:
        labels = ", ".join(change.label for change in unclear)
        print(f"\nunclear, because something disturbed the measurement: {labels}")
    same = len(found.of("same"))
    print(f"\nno change beyond the noise: {same} of {len(found.changes)} rows")
    return 1 if options.fail and found.of("slower") else 0


if __name__ == "__main__":
    sys.exit(main())
