"""The whole suite: what takes longest begins first, so that no worker ends with it alone; statistics go untraced."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

BROKER_S, SLOW_S = 60.0, 5.0
"""Patience with a broker, or a simulation, that declares none of its own."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort files by the patience that their tests declare, the most patient first; within a file nothing moves. Slow
    tests go the same ways thousands of times, at three times the CPU where coverage counts each: it does not."""
    patience: dict[Path, float] = defaultdict(float)
    counted = config.pluginmanager.has_plugin("_cov")
    for item in items:
        declared, slow = item.get_closest_marker("timeout"), item.get_closest_marker("slow")
        usual = BROKER_S if item.get_closest_marker("broker") else SLOW_S if slow else 0.0
        patience[item.path] += declared.args[0] if declared is not None else usual
        if slow and counted:
            item.add_marker("no_cover")
    items.sort(key=lambda item: -patience[item.path])
