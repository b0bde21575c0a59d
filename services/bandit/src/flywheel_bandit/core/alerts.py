"""Alerts of what the sums prove: told when it begins, and when it ends.

An alert fires while the newest sums prove it, so what fires is a function of the facts, as the policy is. Reports are
told when that changes, at the policy version at which it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from flywheel.events import event_id
from flywheel.stream import Output, StateView

ALERTS_TOPIC = "alerts"
Said = Mapping[str, Any]
"""Fields of an ``alert`` event that tell what was seen; ``title`` without the feature and the arm."""


class About(NamedTuple):
    """What an alert is about; its id is a hash of it. ``score`` and ``stands_for`` are empty where it is about no
    proxy."""

    kind: str
    arm: str
    score: str = ""
    stands_for: str = ""


def tell(
    key: str, now: Mapping[About, Said], ended: Callable[[About], Said], policy: dict[str, Any], state: StateView
) -> list[Output]:
    """Return the reports of alerts that begin or end at this policy, and keep which fire.

    Args:
        now: what fires, with what its alert says.
        ended: what is said of an alert that no longer does.
    """
    stored = state.get("diverging", key)
    before = [About(*each) for each in orjson.loads(stored)] if stored is not None else []
    outputs = [_report(key, about, policy, "firing", now[about]) for about in sorted(set(now) - set(before))]
    outputs += [_report(key, about, policy, "resolved", ended(about)) for about in sorted(set(before) - set(now))]
    if sorted(now) != before:
        state.put("diverging", key, orjson.dumps([list(about) for about in sorted(now)]))
    return outputs


def _report(key: str, about: About, policy: dict[str, Any], becomes: str, said: Said) -> Output:
    identity = event_id("proxy", key, *about)
    scope = {"feature": policy["feature"], "arm": about.arm, "score": about.score, "stands_for": about.stands_for}
    event = {
        "event_id": event_id("proxy_report", identity, policy["policy_version"], becomes),
        "alert_id": identity,
        "project": policy["project"],
        "occurred_at": policy["occurred_at"],
        "kind": about.kind,
        "state": becomes,
        "scope": {name: value for name, value in scope.items() if value},
        "subject": key,
        **said,
        "title": f"{policy['feature']} ({about.arm}): {said['title']}",
    }
    return Output(ALERTS_TOPIC, key, "alert", event)
