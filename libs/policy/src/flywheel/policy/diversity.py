"""What an arm is charged for answers that are all alike: a penalty against pleasing a judge with one safe answer.

What is looked at is the length of answers, in tokens: the standard deviation of its logarithm, over the arm's requests
and over all other arms' together. An arm with half of the others' spread or more is charged nothing, one whose answers
are all of one length the whole ``diversity``, in proportion in between. Nothing is charged while either has fewer than
50 requests, or where the others' lengths hardly vary either: where every answer is one word, so is a good one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flywheel.policy.linear import Moments
from flywheel.policy.proxies import FEWEST, VARIED, length_spread

_CHARGED_BELOW = 0.5


@dataclass(frozen=True, slots=True)
class Diversity:
    """How alike an arm's answers are. ``spread`` and ``others``: standard deviations of the logarithm of their length,
    its own and that of all other arms together; ``charge`` in reward."""

    arm: str
    requests: float
    spread: float
    others: float
    charge: float


def diversities(found: Mapping[str, Moments], arms: Sequence[str], *, most: float) -> list[Diversity]:
    """Return those of ``arms`` that can be told, in their order.

    Args:
        found: sums of ``flywheel.policy.proxies.length_vector`` by arm, after forgetting.
        most: reward that an arm is charged whose answers are all of one length.
    """
    pooled = sum((found[arm] for arm in sorted(found)), Moments.none(2))
    told = []
    for arm in arms:
        own = found.get(arm, Moments.none(2))
        others = pooled + own.times(-1.0)
        if min(own.weight, others.weight) < FEWEST:
            continue
        spread, beside = length_spread(own), length_spread(others)
        alike = max(0.0, 1.0 - spread / (_CHARGED_BELOW * beside)) if beside >= VARIED else 0.0
        told.append(Diversity(arm, own.weight, spread, beside, most * alike))
    return told
