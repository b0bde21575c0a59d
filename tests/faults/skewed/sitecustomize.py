"""On the path of a process whose clock is to be wrong: ``FAULTS_CLOCK_S`` seconds are added to Python's time.

What asks the kernel itself, as the embedded ClickHouse does, goes on seeing the right time.
"""

from __future__ import annotations

import os
import time

_OFF_NS = round(float(os.environ.get("FAULTS_CLOCK_S", "0")) * 1e9)
_time_ns = time.time_ns


def _skewed_ns() -> int:
    return _time_ns() + _OFF_NS


def _skewed_s() -> float:
    return _skewed_ns() / 1e9


if _OFF_NS:
    time.time_ns = _skewed_ns
    time.time = _skewed_s
