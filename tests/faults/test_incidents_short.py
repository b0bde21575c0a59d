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
def test_incidents_are_noticed_acted_on_verified_and_taken_back_though_the_controller_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--short", "--json", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    account = json.loads(ran.stdout)
    assert account["result"] == "passed"
    assert account["kills"] == {"controller": 1}
    assert account["actions"] == 2
    outage, prompt = account["rows"]
    assert (outage["action"], outage["verified"], outage["back"]) == ("disable strong", "verified", "returned")
    assert (prompt["action"], prompt["verified"], prompt["back"]) == ("rollback", "verified", "alert resolved")
    assert account["said"]["controller actions"] >= 5
