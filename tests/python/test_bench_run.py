"""Whole runs, short ones: processes, contenders good and bad, what is written, the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from convpool.bench import Report, Settings, parse_conv, parse_pool, run, tables
from convpool.bench.cli import main
from convpool.bench.contenders import find, known

QUICK = Settings(rounds=2, turn=0.002, sample=0.0005, budget=0.5, timeout=60.0, limit_seconds=0.01)
FAST = ["--threads", "1", "--rounds", "2", "--turn", "0.002", "--timeout", "30", "--quiet"]

CASES = [
    parse_conv("c6h9w11k4r3x2s2x1p1+0x0+2d1x2g2"),
    parse_conv("n2c8h9k4r3p1"),
    parse_conv("c4h9r5p2g4nobias"),
    parse_pool("max:c4h9r3s2p1"),
    parse_pool("avg:c4h9r3s2p1nopad"),
    parse_pool("avg:c4h9r3s2p1"),
]

BAD = """
import os, signal, sys, time
import convpool
from convpool.bench import Contender, UnsupportedError


class Bad(Contender):
    def conv2d(self, case, input, weight, bias):
        answer = convpool.conv2d(input, weight, bias, padding=case.padding)
        return lambda: self.spoil(answer)

    def spoil(self, answer):
        return answer


class Dies(Bad):
    def spoil(self, answer):
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class DiesLater(Bad):
    calls = 0

    def spoil(self, answer):
        self.calls += 1
        return answer if self.calls < 5 else os._exit(3)


class Wrong(Bad):
    def spoil(self, answer):
        return answer + 0.01


class Transposed(Bad):
    def spoil(self, answer):
        return answer.transpose(0, 2, 3, 1)


class Double(Bad):
    def spoil(self, answer):
        return answer.astype("float64")


class Hangs(Bad):
    def spoil(self, answer):
        time.sleep(1000)


class Raises(Bad):
    def spoil(self, answer):
        raise RuntimeError("no luck")


class Refuses(Bad):
    def conv2d(self, case, input, weight, bias):
        raise UnsupportedError("not on a Monday")


class NeverStarts(Bad):
    def __init__(self, threads):
        raise OSError("no start")


class Missing(Bad):
    modules = ("a_library_that_is_not_there",)
    distributions = ("its-package",)


class Chatty(Bad):
    def spoil(self, answer):
        print("noise that must not be taken for an answer")
        os.write(1, b"more of it\\n")
        return answer


class Named(Bad):
    name = "named"
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("contenders") / "bad.py"
    path.write_text(BAD)
    return str(path)


@pytest.fixture(scope="module")
def report() -> Report:
    """Every contender that is installed, on cases that some of them can't do."""
    return run(CASES, ["convpool", *(set(known()) - {"convpool"})], settings=QUICK)


@pytest.mark.parametrize("name", known())
def test_contenders_answer_right(report: Report, name: str) -> None:
    about = report.contenders[name]
    if about.get("status") == "missing":
        pytest.skip(about["reason"])
    results = [row.results[name] for row in report.rows]
    assert {result.status for result in results} <= {"ok", "unsupported"}, [r.reason for r in results]
    assert any(result.ok for result in results) or name == "convpool:winograd"
    for result in results:
        if result.ok:
            assert QUICK.rounds <= len(result.rounds) <= 2 * QUICK.rounds
            assert all(sample > 0 for samples in result.rounds for sample in samples)
        else:
            assert result.reason


def test_who_can_do_what(report: Report) -> None:
    def status(name: str) -> list[str]:
        return [row.results[name].status for row in report.rows]

    for name in ("convpool", "convpool:functional", "convpool:nhwc", "onnxruntime"):
        if report.contenders[name].get("status") != "missing":
            assert status(name) == ["ok"] * len(CASES), name
    assert status("convpool:im2col")[3:] == ["unsupported"] * 3
    if "torch" in report.names:
        assert status("torch") == ["ok"] * len(CASES)
    if "ncnn" in report.names:
        assert report.rows[1].results["ncnn"].reason == "batch 1 only"
    if "scipy" in report.names:
        assert report.rows[0].results["scipy"].reason == "single channels only"
        assert report.rows[2].results["scipy"].ok


def test_limits_and_machine(report: Report) -> None:
    assert (report.peak(1) or 0) > 1e9
    assert (report.bandwidth(1) or 0) > 1e8
    assert report.peak(1, "float64") == (report.peak(1) or 0) / 2
    assert report.machine["cpu"]
    assert report.machine["isa"] in report.machine["convpool"]["isas_available"]


def test_json_comes_back(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "r.json")
    again = Report.load(tmp_path / "r.json")
    assert again.base == "convpool"
    assert [row.key for row in again.rows] == [row.key for row in report.rows]
    for mine, other in zip(report.rows, again.rows, strict=True):
        for name, result in mine.results.items():
            assert other.results[name].status == result.status
            if result.ok:
                assert other.results[name].time.median == pytest.approx(result.time.median, rel=1e-4)
    assert tables.markdown(again).splitlines()[2] == tables.markdown(report).splitlines()[2]
    raw = json.loads((tmp_path / "r.json").read_text())
    first = raw["rows"][0]
    assert first["flops"] == CASES[0].flops
    assert first["results"]["convpool"]["rounds"]
    assert first["results"]["convpool"]["explain"]
    assert raw["machine"]["convpool"]["compiler"]
    assert raw["settings"]["rounds"] == QUICK.rounds


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        Report.load(tmp_path / "nothing.json")
    for text in ("{", "[]", "{}", '{"format": 1}', '{"format": 99, "rows": []}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match="report"):
            Report.load(tmp_path / "x.json")


def test_tables(report: Report) -> None:
    plain = tables.text(report)
    assert CASES[0].notation in plain
    assert "nominal" in plain
    content = tables.table(report)
    assert all(len(row) == len(content.headers) for row in content.rows)
    marked = tables.markdown(report)
    lines = [line for line in marked.splitlines() if line.startswith("|")]
    assert len(lines) == len(CASES) + 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_bad_contenders_are_told_and_the_run_goes_on(bad: str) -> None:
    names = [*re.findall(r"^class (\w+)\(Bad\)", BAD, re.MULTILINE)]
    settings = Settings(rounds=2, turn=0.002, sample=0.0005, budget=0.5, timeout=2.0, limit_seconds=0.01)
    cases = [parse_conv("c4h9k6r3p1"), parse_conv("c8h9k6r3p1")]
    found = run(cases, ["convpool", *(f"{bad}:{name}" for name in names)], settings=settings)
    assert len(found.rows) == 2
    for row in found.rows:
        results = row.results
        assert results["convpool"].ok
        assert {name: result.status for name, result in results.items()} == {
            "convpool": "ok",
            "Dies": "crashed",
            "DiesLater": "crashed",
            "Wrong": "wrong",
            "Transposed": "wrong",
            "Double": "wrong",
            "Hangs": "timeout",
            "Raises": "error",
            "Refuses": "unsupported",
            "NeverStarts": "error",
            "Missing": "missing",
            "Chatty": "ok",
            "named": "ok",
        }
        assert results["Dies"].reason == "its process died of SIGSEGV: last words"
        assert "code 3" in results["DiesLater"].reason
        assert "checked values are wrong" in results["Wrong"].reason
        assert "shape (1, 9, 9, 6)" in results["Transposed"].reason
        assert "float64" in results["Double"].reason
        assert results["Raises"].reason == "RuntimeError: no luck"
        assert results["Refuses"].reason == "not on a Monday"
        assert not any(
            result.rounds for name, result in results.items() if not result.ok and name != "DiesLater"
        )
    assert any("Missing is left out" in note and "pip install its-package" in note for note in found.notes)
    assert any("NeverStarts is left out: OSError: no start" in note for note in found.notes)
    text = tables.text(found)
    for sign in ("CRASHED", "WRONG", "TIMEOUT", "ERROR", "not on a Monday"):
        assert sign in text
    assert "**WRONG**" in tables.markdown(found)


def test_a_base_without_times(bad: str) -> None:
    found = run([parse_conv("c4h9k6r3p1")], [f"{bad}:Wrong", "convpool"], settings=QUICK)
    assert found.base == "Wrong"
    assert found.rows[0].ratio("convpool", "Wrong") is None
    assert "WRONG" in tables.text(found)
    assert "WRONG" in tables.row_line(found, found.rows[0])


def test_cold_caches_and_threads_and_layouts() -> None:
    case = parse_conv("c16h14r3p1")
    found = run([case], ["convpool"], caches=("hot", "cold"), settings=QUICK)
    hot, cold = found.rows
    assert (hot.cache, cold.cache) == ("hot", "cold")
    assert cold.label.endswith("(cold)")
    assert cold.results["convpool"].loops == 1
    assert cold.results["convpool"].time.median > hot.results["convpool"].time.median


@pytest.mark.parametrize(("layout", "dtype"), [("NHWC", "float32"), ("NCHW", "float64")])
def test_layouts_and_dtypes(layout: str, dtype: str, tmp_path: Path) -> None:
    options = [
        "--layout",
        layout,
        "--dtype",
        dtype,
        "--json",
        str(tmp_path / "r.json"),
        "--against",
        "onnxruntime",
    ]
    assert main(["--conv", "c8h9r3p1", "--pool", "avg:c8h9r3", *options, *FAST]) == 0
    found = Report.load(tmp_path / "r.json")
    for row in found.rows:
        assert (row.case.layout, row.case.dtype) == (layout, dtype)
        assert row.results["convpool"].ok
        if "onnxruntime" in found.names:
            assert row.results["onnxruntime"].reason == ("NCHW only" if layout == "NHWC" else "float32 only")


def test_wrong_calls() -> None:
    case = parse_conv("c4h9r3")
    with pytest.raises(ValueError, match="no contender 'tensorflow'; there are convpool"):
        run([case], ["convpool", "tensorflow"])
    with pytest.raises(ValueError, match=r"threads must be from 1 to \d+"):
        run([case], ["convpool"], threads=10_000)
    with pytest.raises(ValueError, match="at least one contender"):
        run([case], [])
    with pytest.raises(ValueError, match="rounds must be above 0, got 0"):
        Settings(rounds=0)


def test_finding_contenders(bad: str, tmp_path: Path) -> None:
    assert find(f"{bad}:Named").name == "named"
    for place, message in (
        ("nowhere.py:Thing", "no file"),
        (f"{bad}:Nobody", "has no contender 'Nobody'"),
        ("no.such.module:Thing", "can't import"),
    ):
        with pytest.raises(ValueError, match=message):
            find(place)
    (tmp_path / "broken.py").write_text("import a_library_that_is_not_there")
    with pytest.raises(ValueError, match="a_library_that_is_not_there"):
        find(f"{tmp_path}/broken.py:Thing")


# ---- the command line


def test_the_command_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: str(tmp_path / f"out.{kind}") for kind in ("json", "md")}
    status = main(
        ["--conv", "c8h9r3p1", "--pool", "max:c8h9r2", "--against", "convpool:im2col",
         "--json", files["json"],
         "--markdown", files["md"], "--title", "a title", *FAST]
    )  # fmt: skip
    assert status == 0
    out = capsys.readouterr().out
    assert "a title" in out
    assert "convpool:im2col" in out
    assert Path(files["md"]).read_text().startswith("### a title")
    found = Report.load(files["json"])
    assert found.settings["command"][:4] == ["python", "-m", "convpool", "bench"]
    assert main(["compare", files["json"], files["json"]]) == 0
    assert "no change beyond the noise: 2 of 2 rows" in capsys.readouterr().out


def test_the_command_sweeps(tmp_path: Path) -> None:
    file = str(tmp_path / "s.json")
    arguments = ["--sweep", "kernel=1..5..2", "--conv", "c4h9r1", "--against", "", "--json", file]
    assert main([*arguments, *FAST]) == 0
    found = Report.load(file)
    assert found.sweep == "kernel"
    assert [row.value for row in found.rows] == [1, 3, 5]
    assert [row.case.parameters for row in found.rows] == [20, 148, 404]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "resnet51"], "no suite 'resnet51'"),
        (["--conv", "c4"], "'h' is missing"),
        (["--sweep", "kernel=1..3", "--suite", "vgg16"], "--sweep takes one"),
        (["--filter", "nothing like it"], "no layer contains"),
        (["--json", "/no/such/place/x.json"], "no directory"),
        (["--onnx", "nothing.onnx"], "no file"),
        (["--input-shape", "x=a", "--onnx", "x"], "--input-shape is"),
        (["--rounds", "0", "--conv", "c4h9r3"], "rounds must be above 0"),
        (["compare", "nothing.json", "nothing.json"], "no file"),
    ],
)
def test_the_commands_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "--onnx" in arguments:
        pytest.importorskip("onnx")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "convpool:winograd" in out
    assert "RepLKNet" in out


def test_pictures(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from convpool.bench.plots import plot

    plot(report, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    pools = Report(**{**vars(report), "rows": [row for row in report.rows if row.case.kind == "pool"]})
    plot(pools, tmp_path / "pools.svg")
    assert "<svg" in (tmp_path / "pools.svg").read_text()[:1000]
    alone = Report(**{**vars(report), "contenders": {"convpool": report.contenders["convpool"]}})
    plot(alone, tmp_path / "alone.png")
    swept = Report(**{**vars(report), "rows": report.rows[:3], "sweep": "channels"})
    for value, row in enumerate(swept.rows, 1):
        row.value = value
    plot(swept, tmp_path / "sweep.pdf")
    assert (tmp_path / "sweep.pdf").read_bytes().startswith(b"%PDF")


def interrupt(tmp_path: Path, sign: int) -> tuple[int, Any]:
    """A long run in a process of its own, ended by a signal after its first row."""
    file = tmp_path / "r.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "convpool", "bench", "--suite", "mobilenetv2", "--against", "convpool:direct",
         "--threads", "1", "--json", str(file)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # Whoever runs the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[ 1/31]"):
            break
    time.sleep(0.3)
    process.send_signal(sign)
    process.stderr.read()
    return process.wait(30), Report.load(file)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_survives_an_interrupt(tmp_path: Path, sign: int) -> None:
    status, found = interrupt(tmp_path, sign)
    assert status == 130
    assert found.interrupted
    assert 1 <= len(found.rows) < 31
    assert found.rows[0].results["convpool"].ok
    assert any("interrupted" in note for note in found.notes)
    assert tables.text(found)


def test_the_package_stays_light() -> None:
    heavy = ("convpool.bench", "onnx", "rich", "matplotlib", "torch")
    code = (
        "import sys, convpool, convpool.__main__ as m; m.main(['info']); "
        f"print([name for name in sys.modules if name.startswith({heavy})])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_the_bench_needs_no_extra(tmp_path: Path) -> None:
    # rich, matplotlib, onnx and every other library hidden: convpool alone can still be measured.
    hidden = ("rich", "matplotlib", "onnx", "onnxruntime", "torch", "openvino", "ncnn", "cv2", "jax", "scipy")
    options = ["--against", "convpool:naive", "--json", str(tmp_path / "r.json"), *FAST[:-1]]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden})); from convpool.__main__ import main; "
        f"sys.exit(main(['bench', '--conv', 'c4h9r3', *{options}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Report.load(tmp_path / "r.json").rows[0].results["convpool:naive"].ok
