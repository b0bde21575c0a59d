"""Alerts about proxies: an arm whose score no longer goes with the outcome that it stands for.

An alert fires while the newest sums prove it and is resolved when they no longer do, so what fires is a function of the
facts, as the policy is. Reports are told when that changes, at the policy version at which it was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from flywheel.events import event_id
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.proxies import Divergence, ProxySpec, divergences
from flywheel.stream import Output, StateView
from flywheel_bandit.core.charters import Terms
from flywheel_bandit.core.learned import pairs_of

ALERTS_TOPIC = "alerts"
KIND = "proxy_divergence"

_Firing = dict[str, list[str]]
"""Arm, score and what it stands for, by the id of the alert."""


def tell_divergences(
    key: str, terms: Terms, summaries: Sequence[dict[str, Any]], policy: dict[str, Any], state: StateView
) -> list[Output]:
    """Return the reports of alerts that begin or end at this policy, and keep which fire."""
    stored = state.get("diverging", key)
    before: _Firing = {} if stored is None else orjson.loads(stored)
    now: _Firing = {}
    outputs = []
    for spec in terms.pairs:
        for found in _divergences(spec, terms, summaries):
            if found.told:
                identity = event_id("proxy", key, spec.key, found.arm)
                now[identity] = [found.arm, spec.score, spec.stands_for]
                if identity not in before:
                    outputs.append(_firing(key, identity, spec, found, policy))
    ended = [_resolved(key, identity, before[identity], policy) for identity in sorted(set(before) - set(now))]
    if now != before:
        state.put("diverging", key, orjson.dumps(now, option=orjson.OPT_SORT_KEYS))
    return outputs + ended


def _divergences(spec: ProxySpec, terms: Terms, summaries: Sequence[dict[str, Any]]) -> list[Divergence]:
    merged, declared = MomentSummary(), terms.charter.policy
    for summary in summaries:
        merged.merge(pairs_of(summary, spec))
    weighed = weigh_moments(merged, half_life_outcomes=declared.half_life_outcomes, half_life_s=declared.half_life_s)
    return divergences(spec, weighed, pairs=len(terms.pairs))


def _firing(key: str, identity: str, spec: ProxySpec, found: Divergence, policy: dict[str, Any]) -> Output:
    lifts = f"{spec.score} {found.score_lift:+.2f}, {spec.stands_for} {found.outcome_lift:+.2f} standard deviations"
    against = found.score_lift > 0 > found.outcome_lift
    return _report(
        key,
        identity,
        [found.arm, spec.score, spec.stands_for],
        policy,
        {
            "severity": "critical" if against else "warning",
            "state": "firing",
            "detail": f"against the other arms: {lifts}, over {found.requests:.0f} requests that have both",
            "value": found.score_lift - found.outcome_lift,
            "threshold": spec.margin,
            "attributes": {
                "score_lift": f"{found.score_lift:.6g}",
                "outcome_lift": f"{found.outcome_lift:.6g}",
                "log_e": f"{found.log_e:.6g}",
                "needed": f"{found.threshold:.6g}",
            },
        },
    )


def _resolved(key: str, identity: str, about: Sequence[str], policy: dict[str, Any]) -> Output:
    detail = "the newest outcomes no longer prove it"
    return _report(key, identity, about, policy, {"severity": "info", "state": "resolved", "detail": detail})


def _report(key: str, identity: str, about: Sequence[str], policy: dict[str, Any], more: dict[str, Any]) -> Output:
    arm, score, stands_for = about
    event = {
        "event_id": event_id("proxy_report", identity, policy["policy_version"], more["state"]),
        "alert_id": identity,
        "project": policy["project"],
        "occurred_at": policy["occurred_at"],
        "kind": KIND,
        "scope": {"feature": policy["feature"], "arm": arm, "score": score, "stands_for": stands_for},
        "subject": key,
        "title": f"{policy['feature']} ({arm}): {score} no longer stands for {stands_for}",
        **more,
    }
    return Output(ALERTS_TOPIC, key, "alert", event)
