"""What is made of the load that was measured: comparisons, the number of learners that a machine carries, two pages."""

import json
import math
import re
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("aiohttp", reason="a workshop's packages are not installed: make workshop-check")

from tools import load
from tools.lessons import ROOT

sys.path.insert(0, str(ROOT / "workshop"))
import check

ROWS = json.loads(load.RECORD.read_text())
STEADY, BURST = ({row["learners"]: row for row in ROWS if row["burst"] is burst} for burst in (False, True))
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("workshop", "cloud")}


def played(*seconds: float) -> SimpleNamespace:
    return SimpleNamespace(cells={f"cell {number}": (each, None) for number, each in enumerate(seconds)})


def test_cells_are_compared_with_the_same_cells_alone():
    alone = {"learners": [{"cells": played(0.01, 1, 2, 4).cells}]}
    class_ = [played(0.05, 1, 3, 8), played(0.05, 2, 3, 12), played(0.05, 1)]  # one has left after two cells
    # ten cells: 0.05 0.05 0.05 1 1 2 3 3 8 12, alone 0.01 0.01 0.01 1 1 1 2 2 4 4
    assert load.ratios({"burst": False}, class_, alone) == [1.5, 3, 3]
    assert load.ratios({"burst": True}, class_, alone)[0] == 1.83  # without the first two cells
    assert load.ratios({"burst": False}, [], alone) is None


def test_a_row_is_kept_only_with_memory_and_a_comparison(capsys):
    for options in ([], ["--baseline", "--elsewhere"]):
        with pytest.raises(SystemExit):
            load.arguments(["http://127.0.0.1:1", "--password=x", "--record", *options])
        assert "--record with --alone or --baseline" in capsys.readouterr().err


def row(learners: int, ratio: float, total: float, **other: object) -> dict:
    return {
        "learners": learners,
        "cores": 2,
        "cells": 14,
        "burst": False,
        "ratio": [1, ratio, 1],
        "total": total,
    } | other


def test_a_machine_is_full_where_memory_or_cores_are():
    rows = [
        row(1, 1.0, 0.3),
        row(21, 1.5, 6.3),
        row(41, 2.0, 12.3),
        row(9, 9.0, 9, burst=True),
        row(9, 9.0, 9, cells=6),
    ]
    measured = check.fit(rows)
    assert measured == pytest.approx({"learner_gb": 0.3, "learners_per_core": 20.5})
    measured = {"learner_gb": 0.3, "learners_per_core": 20.5}
    assert check.carried(measured, 100, 2) == (41, "the number of cores")
    assert check.carried(measured, (check.BASE_GB + 3.1) / (1 - check.SPARE), 2) == (10, "memory")
    assert check.carried(measured, 0.5, 2)[0] == 0
    for slow in (1.1, 1.0):  # never more than were tried
        assert check.fit([row(1, 1.0, 0.3), row(31, slow, 9.3)])["learners_per_core"] == 15.5


def test_every_class_that_was_asked_for_was_played_without_a_fault():
    asked = [1, 5, 10, 20, 30, 45]
    assert [*STEADY] == asked and [*BURST] == asked[1:]
    assert {row["cells"] for row in STEADY.values()} == {14}
    assert not any(row["errors"] or row["lost"] for row in ROWS)
    assert STEADY[45]["ratio"][1] <= check.SLOWER and BURST[45]["begin"][2] <= 20 and STEADY[45]["total"] < 24


def test_the_page_says_what_was_measured():
    for learners, here in STEADY.items():
        begin = BURST.get(learners, here)["begin"][2]
        middle, high, _ = here["cell"]
        ratio = f"{here['ratio'][1]:.1f} ×" if learners > 1 else "–"
        told = [
            f"{here['spawn'][2]:.1f} s",
            f"{begin:.1f} s",
            f"{middle:.1f} s",
            f"{high:.1f} s",
            ratio,
            f"{here['total']:.1f}",
        ]
        assert f"\n| {learners} | {' | '.join(told)} |\n" in PAGES["workshop"]


def test_the_nodes_are_those_of_the_measurement():
    measured = check.fit(ROWS)
    found = re.findall(r"^\| (\d+) cores, (\d+) GB \| (\d+) \| (\d+) \|$", PAGES["cloud"], re.MULTILINE)
    assert len(found) == 3
    for cores, memory, learners, nodes in (map(int, row) for row in found):
        by_memory = (memory * 0.9 - 1) / 0.5  # GB: the system's, and a learner's without the fork server
        assert learners == int(min(by_memory, measured["learners_per_core"] * cores, 100))
        assert nodes == math.ceil(300 / learners)
