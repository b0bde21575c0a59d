"""Two incidents from their beginning to when everything is as it was, by the command that plays all ten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("incidents.py")


@pytest.mark.broker
@pytest.mark.timeout(900)
def test_incidents_are_noticed_and_acted_on_once_though_the_controller_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--short", "--json", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stdout[-3000:] + ran.stderr[-3000:]
    account = json.loads(ran.stdout)
    assert account["problems"] == [], "each action once, and all that was said is what a replay of the ledgers says"
    assert account["kills"] == {"controller": 1}
    outage, prompt = account["rows"]
    assert outage["noticed"].startswith("error_rate") and outage["action"] == "disable strong", outage
    assert prompt["noticed"].startswith("quality"), prompt
    # Where the charter is read behind its alert, the arm is disabled first and the rollback takes over.
    assert prompt["action"] == "rollback" or prompt["verified"] == "superseded", prompt
    # Time passes thirty times as fast, so whether an effect shows soon enough depends on the machine: `make incidents`.
    assert all(row["verified"] in ("verified", "undone", "superseded") for row in account["rows"]), account["rows"]
