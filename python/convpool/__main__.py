"""``python -m convpool``: a demonstration, comparisons of speed, and what the installed package is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import convpool
from convpool import _core

PACKAGE = Path(__file__).resolve().parent


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(prog="python -m convpool", description=__doc__)
    main_parser.add_argument("--version", action="version", version=f"convpool {convpool.__version__}")
    main_parser.add_argument(
        "--cmakedir", action="store_true", help="print the directory that CMake finds the C++ library by"
    )
    main_parser.add_argument("--include", action="store_true", help="print the directory of the C++ headers")
    commands = main_parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser(
        "demo", add_help=False, help="filters and poolings on a photograph, and a small digit classifier"
    )
    commands.add_parser(
        "bench", add_help=False, help="compare convpool with other libraries on this machine, layer by layer"
    )
    commands.add_parser("info", help="print version, compiler, instruction sets and threads")
    return main_parser


def _print_directory(name: str, purpose: str) -> int:
    # In an editable installation the compiled parts lie elsewhere than the Python files.
    candidates = [root / name for root in dict.fromkeys((PACKAGE, Path(_core.__file__).resolve().parent))]
    for directory in candidates:
        if directory.is_dir():
            print(directory)
            return 0
    print(
        f"convpool: there is no {candidates[-1]}; this installation comes without {purpose}", file=sys.stderr
    )
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    main_parser = parser()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:  # it has options like --version's and --help's of its own
        from convpool.bench import cli

        return cli.main(arguments[1:])
    options, rest = main_parser.parse_known_args(arguments)
    if options.command == "demo":
        from convpool import demo

        return int(demo.main(rest) or 0)
    if rest:
        main_parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "info":
        convpool.show_config()
        print(f"  {'package:':<16}{PACKAGE}")
        return 0
    if not (options.cmakedir or options.include):
        main_parser.print_help()
        return 2
    status = 0
    if options.cmakedir:
        status |= _print_directory("lib/cmake/convpool", "the CMake package")
    if options.include:
        status |= _print_directory("include", "the C++ headers")
    return status


if __name__ == "__main__":
    sys.exit(main())
