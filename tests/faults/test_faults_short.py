"""The rows of the fault table that matter most, small, by the command that `make faults` runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.broker
@pytest.mark.timeout(400)
@pytest.mark.parametrize("row", [2, 3, 6, 8, 11])
def test_a_row_leaves_the_ledger_even(row: int, tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), str(row), "--short", "--json", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert report["result"] == "passed"
    assert report["load"]["requests"] > 50
    assert all(b["sent"] == b["arrived"] for b in report["balances"].values())
    assert report["row"] in (8, 11) or sum(report["repeats"].values()) > 0


def test_rows_that_do_not_apply_are_not_called_passed() -> None:
    ran = subprocess.run([sys.executable, str(RUN), "12", "17", "--json"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    reports = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(r["row"], r["result"], bool(r["why"])) for r in reports] == [
        (12, "not applicable", True),
        (17, "not applicable", True),
    ]


def test_a_row_that_there_is_not_is_refused() -> None:
    ran = subprocess.run([sys.executable, str(RUN), "99"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no row 99; there are 1 to 19" in ran.stderr
