"""The order of the whole suite: what takes longest begins first, so that no worker ends with it alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

USUAL_S = 60.0
"""Patience with a broker or a simulation that declares none of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files by the patience that their tests declare, the most patient first; within a file nothing moves."""
    patience: dict[Path, float] = defaultdict(float)
    for item in items:
        declared = item.get_closest_marker("timeout")
        usual = USUAL_S if item.get_closest_marker("broker") or item.get_closest_marker("slow") else 0.0
        patience[item.path] += declared.args[0] if declared is not None else usual
    items.sort(key=lambda item: -patience[item.path])
