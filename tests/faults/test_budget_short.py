"""A hard budget under concurrency, duplicates and kills, small, by the command that plays it large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("budget.py")


@pytest.mark.broker
@pytest.mark.timeout(500)
@pytest.mark.parametrize("unbounded", [False, True], ids=["max_tokens", "no max_tokens"])
def test_a_hard_budget_holds_and_is_usable(unbounded: bool, tmp_path: Path) -> None:
    sizes = [
        "--routers",
        "2",
        "--calls",
        "500",
        "--clients",
        "100",
        "--processes",
        "2",
        "--every",
        "8",
        "--quiet",
        "45",
    ]
    command = [sys.executable, str(RUN), *sizes, "--json", "--keep", str(tmp_path), *["--unbounded"] * unbounded]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    account = json.loads(ran.stdout)
    assert account["result"] == "passed"
    assert account["calls"] > 120
    assert sum(account["kills"].values()) > 0
