"""Which changes of a charter must be proven to earn more."""

from __future__ import annotations

import pytest

from flywheel.cli.going_live import must_be_better
from flywheel.policy import parse_charter

RUNNING = """
feature: answers
quality: {judge: 1.0}
reward: {min: 0, max: 1}
arms:
  - {name: cheap, model: a/cheap, share: 3}
  - {name: strong, model: a/strong, share: 1}
policy: {kind: static, go_live: better}
"""


@pytest.mark.parametrize(
    ("written", "instead", "gated"),
    [
        ("share: 3", "share: 2", True),
        ("kind: static", "kind: thompson", True),
        ("a/strong", "a/stronger", True),
        ("share: 1}", "share: 1, enabled: false}", True),
        ("kind: static, go_live: better", "kind: thompson", True),  # the running charter's word holds
        (", go_live: better", "", False),
        ("quality", "attribution_window: 60s\nquality", False),
        ("quality", "constraints: {p95_latency_ms: 900}\nquality", False),
    ],
)
def test_what_chooses_otherwise_must_be_better(written: str, instead: str, gated: bool) -> None:
    running, wanted = parse_charter(RUNNING), parse_charter(RUNNING.replace(written, instead, 1))
    assert must_be_better(running, wanted, asked=False) is gated
    free = [
        parse_charter(text.replace(", go_live: better", "")) for text in (RUNNING, RUNNING.replace(written, instead))
    ]
    assert must_be_better(free[0], free[1], asked=False) is False
    assert must_be_better(free[0], free[1], asked=True) is gated
