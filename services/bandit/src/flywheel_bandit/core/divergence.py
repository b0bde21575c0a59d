"""Alerts about proxies: an arm whose score no longer goes with the outcome that it stands for, or that the score likes
though it answers everything alike.

An alert fires while the newest sums prove it and is resolved when they no longer do, so what fires is a function of the
facts, as the policy is. Reports are told when that changes, at the policy version at which it was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from flywheel.events import event_id
from flywheel.policy.linear import Moments
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.proxies import LENGTH, ConstantArm, Divergence, ProxySpec, constant_arms, divergences
from flywheel.stream import Output, StateView
from flywheel_bandit.core.charters import Terms
from flywheel_bandit.core.learned import pairs_of

ALERTS_TOPIC = "alerts"
DIVERGES, CONSTANT = "proxy_divergence", "constant_answers"


class _About(NamedTuple):
    """What an alert is about; its id is a hash of it."""

    kind: str
    arm: str
    score: str
    stands_for: str


def tell_divergences(
    key: str, terms: Terms, summaries: Sequence[dict[str, Any]], policy: dict[str, Any], state: StateView
) -> list[Output]:
    """Return the reports of alerts that begin or end at this policy, and keep which fire."""
    stored = state.get("diverging", key)
    before = [_About(*each) for each in orjson.loads(stored)] if stored is not None else []
    now = _firing(terms, summaries)
    outputs = [_report(key, about, policy, now[about]) for about in sorted(set(now) - set(before))]
    outputs += [_report(key, about, policy, _RESOLVED) for about in sorted(set(before) - set(now))]
    if sorted(now) != before:
        state.put("diverging", key, orjson.dumps([list(about) for about in sorted(now)]))
    return outputs


def _firing(terms: Terms, summaries: Sequence[dict[str, Any]]) -> dict[_About, Mapping[str, Any]]:
    """Return what fires, with what its alert says."""
    found: dict[_About, Mapping[str, Any]] = {}
    for spec in terms.pairs:
        for each in divergences(spec, _weighed(terms, summaries, spec.stands_for, spec.score), pairs=len(terms.pairs)):
            if each.told:
                found[_About(DIVERGES, each.arm, spec.score, spec.stands_for)] = _diverges(spec, each)
        for one in constant_arms(_weighed(terms, summaries, LENGTH, spec.score)):
            found[_About(CONSTANT, one.arm, spec.score, LENGTH)] = _constant(spec, one)
    return found


def _weighed(terms: Terms, summaries: Sequence[dict[str, Any]], stands_for: str, score: str) -> Mapping[str, Moments]:
    merged, declared = MomentSummary(), terms.charter.policy
    for summary in summaries:
        merged.merge(pairs_of(summary, score, stands_for))
    return weigh_moments(merged, half_life_outcomes=declared.half_life_outcomes, half_life_s=declared.half_life_s)


def _diverges(spec: ProxySpec, found: Divergence) -> Mapping[str, Any]:
    lifts = f"{spec.score} {found.score_lift:+.2f}, {spec.stands_for} {found.outcome_lift:+.2f} standard deviations"
    return {
        "severity": "critical" if found.score_lift > 0 > found.outcome_lift else "warning",
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
    }


def _constant(spec: ProxySpec, found: ConstantArm) -> Mapping[str, Any]:
    spreads = f"its answers' length varies by {found.spread:.1%}, the other arms' by {found.others:.1%}"
    return {
        "severity": "warning",
        "state": "firing",
        "detail": f"{spreads}, and {spec.score} is {found.score_lift:+.3g} over {found.requests:.0f} requests",
        "value": found.spread,
        "threshold": found.others,
        "attributes": {"score_lift": f"{found.score_lift:.6g}"},
    }


_RESOLVED: Mapping[str, Any] = {
    "severity": "info", "state": "resolved", "detail": "the newest outcomes no longer prove it",
}  # fmt: skip


def _report(key: str, about: _About, policy: dict[str, Any], said: Mapping[str, Any]) -> Output:
    identity = event_id("proxy", key, *about)
    what = f"{about.score} no longer stands for {about.stands_for}"
    if about.kind == CONSTANT:
        what = f"answers are all about as long, and {about.score} likes them"
    event = {
        "event_id": event_id("proxy_report", identity, policy["policy_version"], said["state"]),
        "alert_id": identity,
        "project": policy["project"],
        "occurred_at": policy["occurred_at"],
        "kind": about.kind,
        "scope": {
            "feature": policy["feature"], "arm": about.arm, "score": about.score, "stands_for": about.stands_for,
        },
        "subject": key,
        "title": f"{policy['feature']} ({about.arm}): {what}",
        **said,
    }  # fmt: skip
    return Output(ALERTS_TOPIC, key, "alert", event)
