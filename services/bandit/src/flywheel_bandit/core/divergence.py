"""Alerts about proxies: an arm whose score no longer goes with the outcome that it stands for, or that the score likes
though it answers everything alike. They fire while the newest sums prove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.policy.linear import Moments
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.proxies import LENGTH, ConstantArm, Divergence, ProxySpec, constant_arms, divergences
from flywheel_bandit.core.alerts import About, Said
from flywheel_bandit.core.charters import Terms
from flywheel_bandit.core.learned import pairs_of

DIVERGES, CONSTANT = "proxy_divergence", "constant_answers"


def proxies_firing(terms: Terms, summaries: Sequence[dict[str, Any]]) -> dict[About, Said]:
    """Return what fires of a feature's proxies, with what its alert says."""
    found: dict[About, Said] = {}
    for spec in terms.pairs:
        for each in divergences(spec, _weighed(terms, summaries, spec.stands_for, spec.score), pairs=len(terms.pairs)):
            if each.told:
                about = About(DIVERGES, each.arm, spec.score, spec.stands_for)
                found[about] = {"title": _title(about), **_diverges(spec, each)}
        for one in constant_arms(_weighed(terms, summaries, LENGTH, spec.score)):
            about = About(CONSTANT, one.arm, spec.score, LENGTH)
            found[about] = {"title": _title(about), **_constant(spec, one)}
    return found


def proxy_ended(about: About) -> Said:
    """Return what is said where an alert about a proxy no longer fires."""
    return {
        "title": _title(about),
        "severity": "info",
        "detail": "the newest outcomes no longer prove it",
    }


def _title(about: About) -> str:
    if about.kind == CONSTANT:
        return f"answers are all about as long, and {about.score} likes them"
    return f"{about.score} no longer stands for {about.stands_for}"


def _weighed(terms: Terms, summaries: Sequence[dict[str, Any]], stands_for: str, score: str) -> Mapping[str, Moments]:
    merged, declared = MomentSummary(), terms.charter.policy
    for summary in summaries:
        merged.merge(pairs_of(summary, score, stands_for))
    return weigh_moments(merged, half_life_outcomes=declared.half_life_outcomes, half_life_s=declared.half_life_s)


def _diverges(spec: ProxySpec, found: Divergence) -> Said:
    lifts = f"{spec.score} {found.score_lift:+.2f}, {spec.stands_for} {found.outcome_lift:+.2f} standard deviations"
    return {
        "severity": "critical" if found.score_lift > 0 > found.outcome_lift else "warning",
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


def _constant(spec: ProxySpec, found: ConstantArm) -> Said:
    spreads = f"its answers' length varies by {found.spread:.1%}, the other arms' by {found.others:.1%}"
    return {
        "severity": "warning",
        "detail": f"{spreads}, and {spec.score} is {found.score_lift:+.3g} over {found.requests:.0f} requests",
        "value": found.spread,
        "threshold": found.others,
        "attributes": {"score_lift": f"{found.score_lift:.6g}"},
    }
