from __future__ import annotations

import numpy as np
import pytest

from convpool.bench import Report, Result, Row, compare, parse_conv
from convpool.bench.statistics import geometric_mean, median, paired_ratio, quantile, spread


def test_quantiles_are_numpys() -> None:
    values = np.random.default_rng(0).random(37).tolist()
    for part in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        assert quantile(values, part) == pytest.approx(np.quantile(values, part))
    assert median([5.0]) == 5.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        geometric_mean([])


def test_spread() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found.median == 3.0
    assert found.relative == pytest.approx(2 / 3)


def test_ratios_are_paired_by_round() -> None:
    # The machine slows down twofold halfway: both suffer, the ratio doesn't.
    base = [[1.0, 1.1], [1.0], [2.0], [2.0]]
    other = [[3.0], [3.0], [6.0], [6.0]]
    assert paired_ratio(other, base).median == pytest.approx(3.0, rel=0.03)


def test_ratio_of_rounds_that_one_sat_out() -> None:
    assert paired_ratio([[4.0], [], [6.0]], [[2.0], [1.0], []]).median == 2.0
    assert paired_ratio([[4.0], []], [[], [2.0]]).median == 2.0


def report(times: dict[str, list[float]], seed: int = 0, noise: float = 0.01, version: str = "1.0") -> Report:
    """Rows whose medians are about ``times`` microseconds."""
    generator = np.random.default_rng(seed)
    found = Report(
        title="t",
        contenders={
            name: {"status": "ok", "version": "0.1" if name == "convpool" else version} for name in times
        },
        machine={"cpu": "a"},
    )
    for index in range(len(next(iter(times.values())))):
        row = Row(parse_conv(f"c{8 * (index + 1)}h14r3p1"))
        for name, values in times.items():
            samples = values[index] * 1e-6 * (1 + noise * generator.standard_normal((8, 20)))
            row.results[name] = Result("ok", rounds=samples.tolist(), loops=1)
        found.rows.append(row)
    return found


BASE = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
PEER = [11.0, 21.0, 33.0, 44.0, 52.0, 61.0]


def test_compare_sees_a_change_and_nothing_else() -> None:
    changed = [*BASE]
    changed[2] *= 0.7
    changed[4] *= 1.4
    found = compare(
        report({"convpool": BASE, "torch": PEER}), report({"convpool": changed, "torch": PEER}, seed=1)
    )
    assert [change.verdict for change in found.changes] == [
        "same",
        "same",
        "faster",
        "same",
        "slower",
        "same",
    ]
    assert found.of("faster")[0].factor == pytest.approx(0.7, rel=0.02)
    assert found.of("slower")[0].old == pytest.approx(50e-6, rel=0.01)


def test_compare_takes_out_the_machines_drift() -> None:
    slower = report({"convpool": [1.3 * t for t in BASE], "torch": [1.3 * t for t in PEER]}, seed=1)
    found = compare(report({"convpool": BASE, "torch": PEER}), slower)
    assert found.drift == pytest.approx(1.3, rel=0.02)
    assert not found.of("slower")
    # Another version of the peer is no yardstick.
    other = report({"convpool": [1.3 * t for t in BASE], "torch": PEER}, seed=1, version="2.0")
    found = compare(report({"convpool": BASE, "torch": PEER}), other)
    assert found.drift == 1.0
    assert len(found.of("slower")) == len(BASE)
    assert any("drift isn't known" in note for note in found.notes)


def test_compare_is_careful_on_a_noisy_machine() -> None:
    scattered = [t * f for t, f in zip(PEER, [0.8, 1.25, 0.9, 1.1, 0.75, 1.3], strict=True)]
    changed = [1.15 * t for t in BASE]
    found = compare(
        report({"convpool": BASE, "torch": PEER}), report({"convpool": changed, "torch": scattered}, seed=1)
    )
    assert not found.of("slower")


def test_a_disturbed_row_is_unclear() -> None:
    before, after = report({"convpool": BASE}), report({"convpool": BASE}, seed=1)
    after.rows[3].results["convpool"].rounds = [[40e-6, 400e-6, 400e-6, 40e-6, 400e-6]] * 8
    found = compare(before, after)
    assert [change.label for change in found.of("unclear")] == [after.rows[3].label]
    assert len(found.of("same")) == len(BASE) - 1


def test_compare_needs_common_rows() -> None:
    one, other = report({"convpool": BASE}), report({"convpool": BASE})
    with pytest.raises(ValueError, match="no row in common that 'torch'"):
        compare(one, other, "torch")
    other.machine["cpu"] = "b"
    assert any("different machines: a and b" in note for note in compare(one, other).notes)


def test_report_sums_and_attainable() -> None:
    found = report({"convpool": [10.0, 20.0], "torch": [20.0, 30.0]}, noise=0.0)
    found.limits = {1: [{"peak": 100e9, "bandwidth": 10e9}, {"peak": 90e9, "bandwidth": 11e9}]}
    totals = found.totals()
    assert totals["torch"][0] == pytest.approx(50e-6)
    assert totals["torch"][1] == pytest.approx(50 / 30)
    assert totals["torch"][2] == 2
    row = found.rows[0]
    assert found.attainable(row) == pytest.approx(max(row.case.flops / 100e9, row.case.bytes / 11e9))
    found.rows[1].results["torch"] = Result("wrong", "because")
    assert found.totals()["torch"][1:] == (pytest.approx(2.0), 1)
    assert found.rows[1].ratio("torch", "convpool") is None
    assert found.rows[1].fastest() == "convpool"
