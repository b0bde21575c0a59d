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
def test_a_hard_budget_holds_and_is_usable(tmp_path: Path) -> None:
    # Callers who do not say max_tokens are the harder half: what their calls may cost has to be capped first.
    sizes = [
        "--unbounded", "--routers", "2", "--calls", "500", "--clients", "100", "--processes", "2", "--every", "8",
        "--quiet", "45",
    ]  # fmt: skip
    command = [sys.executable, str(RUN), *sizes, "--json", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    account = json.loads(ran.stdout)
    assert account["result"] == "passed"
    assert account["calls"] > 120
    assert sum(account["kills"].values()) > 0
