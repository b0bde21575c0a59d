"""Named places where a test makes a process crash, stall or fail. Armed by nobody in production.

``FLYWHEEL_FAULTS="mid_outbox:2=crash,after_fetch=stall"`` arms the second passing of one place and the first of
another, and only where ``FLYWHEEL_TESTING=1`` stands beside it. A place is passed once a batch, never once a record.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from flywheel.stream.errors import Unavailable

Point = Literal[
    "after_fetch",
    "before_state_commit",
    "after_state_commit",
    "mid_outbox",
    "after_effect",
    "after_dead_letters",
    "before_offset_commit",
]
Act = Literal["crash", "stall", "fail"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)
CAN_FAIL: Final = frozenset({"mid_outbox", "after_effect", "after_dead_letters", "before_offset_commit"})
"""Where the runner waits for a neighbour, and so has an answer to one that is away."""
STALL_S: Final = 20.0
"""Longer than a group waits for a member it does not hear from."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the ``passing``-th time a place is passed."""

    act: Act
    passing: int = 1


class Faults:
    """The faults of one process."""

    def __init__(self, armed: Mapping[Point, Fault] | None = None) -> None:
        self._armed = dict(armed or {})
        self._passed: Counter[Point] = Counter()

    def at(self, point: Point) -> None:
        """Pass a place: nothing, unless a test armed it.

        A stall blocks the thread, as a process that stands still would. Raises Unavailable where the fault is to fail.
        """
        if not self._armed:
            return
        self._passed[point] += 1
        fault = self._armed.get(point)
        if fault is None or fault.passing != self._passed[point]:
            return
        if fault.act == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.act == "stall":
            time.sleep(STALL_S)
        else:
            raise Unavailable(f"a fault at {point}", 0.0)


def armed_faults(environment: Mapping[str, str]) -> Faults:
    """The faults that the environment asks for.

    Raises:
        ValueError: it asks for what there is not, or without saying that this is a test.
    """
    text = environment.get("FLYWHEEL_FAULTS", "")
    if not text:
        return Faults()
    if environment.get("FLYWHEEL_TESTING") != "1":
        raise ValueError("FLYWHEEL_FAULTS: set without FLYWHEEL_TESTING=1; unset it, this is no test")
    return Faults(dict(_read(part) for part in text.split(",")))


def _read(part: str) -> tuple[Point, Fault]:
    place, _, act = part.strip().partition("=")
    name, _, passing = place.partition(":")
    if name not in POINTS:
        raise ValueError(f"FLYWHEEL_FAULTS: no place {name!r}; there are {', '.join(POINTS)}")
    if act not in get_args(Act) or (act == "fail" and name not in CAN_FAIL):
        raise ValueError(f"FLYWHEEL_FAULTS: {name} cannot {act!r}")
    if passing and not (passing.isdigit() and int(passing)):
        raise ValueError(f"FLYWHEEL_FAULTS: {name}:{passing} is no count of passings")
    return name, Fault(cast(Act, act), int(passing or 1))
