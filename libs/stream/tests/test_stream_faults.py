"""Faults: inert unless a test arms them, and only what makes sense can be armed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flywheel.stream import Unavailable
from flywheel.stream.faults import POINTS, Fault, Faults, armed_faults


def test_nothing_happens_where_nothing_is_armed() -> None:
    faults = armed_faults({})
    for point in POINTS:
        faults.at(point)


def test_a_fault_happens_at_its_passing_and_only_then() -> None:
    faults = Faults({"mid_outbox": Fault("fail", 2)})
    faults.at("mid_outbox")
    faults.at("after_effect")
    with pytest.raises(Unavailable, match="mid_outbox"):
        faults.at("mid_outbox")
    faults.at("mid_outbox")


def test_a_crash_is_a_real_one() -> None:
    script = (
        "import os\n"
        "from flywheel.stream.faults import armed_faults\n"
        "armed_faults(os.environ).at('after_fetch')\n"
        "print('not reached')\n"
    )
    environment = {"FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": "after_fetch=crash"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-9, b"")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"FLYWHEEL_FAULTS": "mid_outbox=crash"}, "FLYWHEEL_TESTING"),
        ({"FLYWHEEL_FAULTS": "nowhere=crash", "FLYWHEEL_TESTING": "1"}, "no place 'nowhere'"),
        ({"FLYWHEEL_FAULTS": "mid_outbox=explode", "FLYWHEEL_TESTING": "1"}, "cannot 'explode'"),
        ({"FLYWHEEL_FAULTS": "before_state_commit=fail", "FLYWHEEL_TESTING": "1"}, "cannot 'fail'"),
        ({"FLYWHEEL_FAULTS": "mid_outbox:0=crash", "FLYWHEEL_TESTING": "1"}, "no count"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        armed_faults(asked)
