"""Best of experiment: arms serve by their shares until one is proven to earn more than every other, which then serves.

An arm is out once an e-process (``flywheel.policy.difference``) says that another arm earns more: its evidence passes
``(K - 1) / error``, with ``K`` arms. The arms that are left share what it had. The last one left is the winner.

Why ``K - 1``: for a wrong winner, a best arm must go out, so one of the ``K - 1`` others must pass against that very
arm. Each does so ever with probability at most ``error / (K - 1)``, however often one looks and however the shares came
about (Ville, 1939; the union over rivals as in successive elimination: Even-Dar, Mannor and Mansour, 2006). That holds
as the e-process does: asymptotically, which is why an arm needs ``FEWEST`` outcomes, and variances are shrunk to the
largest that the range allows, so that ten of ten is not taken for certainty.

All is read off the exact sums, without state: an arm is out as long as they prove it. Where rewards changed
(``on_change: forget``) what came before is gone, and with it the proof.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.difference import log_evidence
from flywheel.policy.summary import Evidence

KINDS_BY_SHARES = frozenset({"static", "experiment"})
"""Kinds that choose by declared shares, whatever choosing an arm is charged."""
FEWEST = 20
"""Outcomes that an arm needs before it can win or go out."""
_MOST_AT = 50.0
_SHRUNK = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """How an arm stands. ``outcomes``: after changes; ``mean``: of their rewards, 0 without any; ``beaten_by``: the arm
    with the strongest evidence of earning more, None where none has any; ``log_evidence``: that evidence, and what is
    ``needed`` for this arm to be ``out``."""

    arm: str
    outcomes: float
    mean: float
    beaten_by: str | None
    log_evidence: float
    needed: float

    @property
    def out(self) -> bool:
        """Whether it is proven to earn less than another."""
        return self.log_evidence >= self.needed


def experiment_problem(arms: Sequence[ArmSpec]) -> str | None:
    """Return what keeps these arms from being compared, with its field; None where nothing does."""
    compared = [(place, arm) for place, arm in enumerate(arms) if arm.enabled]
    if len(compared) < 2:
        return "arms: an experiment needs two that are enabled"
    declared = [arm.share for _, arm in compared if arm.share is not None]
    for place, arm in compared:
        if arm.eligible_when:
            return f"arms.{place}.eligible_when: an experiment compares arms on the same requests; leave it out"
        if declared and not arm.share:
            return f"arms.{place}.share: an experiment needs one above 0 on every enabled arm, or on none of them"
    return None


def trials(evidence: Mapping[str, Evidence], arms: Sequence[str], *, error: float, width: float) -> list[Trial]:
    """Return how each of ``arms`` stands, in their order.

    Args:
        evidence: of each arm's rewards, those before a change left out.
        error: probability that a best arm ever goes out.
        width: of the range of rewards.
    """
    needed = math.log(max(1, len(arms) - 1) / error)
    found = []
    for name in arms:
        own = evidence.get(name, Evidence())
        against = {
            other: log_evidence(
                evidence[other], own, by=0.0, most_at=_MOST_AT, width=width, prior_weight=_SHRUNK
            )
            for other in arms
            if other != name and own.weight >= FEWEST and evidence.get(other, Evidence()).weight >= FEWEST
        }  # fmt: skip
        strongest = max(against, key=lambda other: against[other], default=None)
        log_e = 0.0 if strongest is None else max(0.0, against[strongest])
        mean = own.total / own.weight if own.weight > 0 else 0.0
        found.append(Trial(name, own.weight, mean, strongest if log_e > 0 else None, log_e, needed))
    return found


def winner(found: Sequence[Trial]) -> Trial | None:
    """Return the only arm that is left; None while there are more."""
    left = [trial for trial in found if not trial.out]
    return left[0] if len(left) == 1 < len(found) else None
