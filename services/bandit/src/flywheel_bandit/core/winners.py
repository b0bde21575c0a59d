"""The alert about an experiment: it fires while one arm is proven to earn more than every other, and its end takes that
back."""

from __future__ import annotations

from typing import Any

from flywheel.policy.experiment import Trial, winner
from flywheel_bandit.core.alerts import About, Said

WINNER = "experiment_winner"


def winner_firing(policy: dict[str, Any]) -> dict[About, Said]:
    """Return the alert about the winner of a policy's experiment, where it has one."""
    found = _trials(policy)
    won = winner(found)
    if won is None:
        return {}
    closest = min((trial for trial in found if trial.out), key=lambda trial: trial.log_evidence)
    return {
        About(WINNER, won.arm): {
            "title": "earns more than every other arm of the experiment",
            "severity": "info",
            "detail": _figures(found),
            "value": closest.log_evidence,
            "threshold": closest.needed,
            "attributes": {f"mean:{trial.arm}": f"{trial.mean:.6g}" for trial in found},
        }
    }


def winner_revoked(policy: dict[str, Any]) -> Said:
    """Return what is said where a winner no longer is one."""
    found = _trials(policy)
    figures = _figures(found) if found else "the charter declares no experiment any more"
    return {
        "title": "is no longer proven to earn more than every other arm of the experiment",
        "severity": "info",
        "detail": figures,
    }


def _trials(policy: dict[str, Any]) -> list[Trial]:
    names = ("name", "outcomes", "mean", "beaten_by", "log_evidence", "needed")
    return [Trial(*(each[name] for name in names)) for each in policy["trials"]]


def _figures(found: list[Trial]) -> str:
    return "; ".join(
        f"{trial.arm} {trial.mean:.4g} over {trial.outcomes:.0f} outcomes"
        + (f" (out, evidence {trial.log_evidence:.2f} of {trial.needed:.2f})" if trial.out else "")
        for trial in sorted(found, key=lambda trial: -trial.mean)
    )
