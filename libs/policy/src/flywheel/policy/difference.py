"""Evidence that one mean is larger than another, which may be looked at after every outcome."""

from __future__ import annotations

import math

from flywheel.policy.summary import Evidence


def log_evidence(
    better: Evidence, worse: Evidence, *, by: float, most_at: float, width: float, prior_weight: float
) -> float:
    """Return the logarithm of the evidence against "the first does not earn more than the second by more than ``by``".

    The Bayes factor of a normal mixture over the difference of the means (Robbins, 1970), tightest at about ``most_at``
    outcomes of each, whatever their common level (an invariant test: Pérez-Ortiz, Lardy, de Heide and Grünwald, 2024),
    with the arms' own variances in place of the true ones, as in asymptotic confidence sequences (Waudby-Smith, Arbour,
    Sinha, Kennedy and Ramdas, 2024). It passes ``ln x`` ever with probability at most about ``1/x`` under the
    hypothesis. That holds asymptotically, so wait for some outcomes of both.

    Args:
        better: outcomes of the first, at least one; likewise the second.
        by: in the unit of the outcomes, as ``width``, the range that they lie in.
        most_at: outcomes, of each.
        prior_weight: outcomes for which a variance is taken for the largest that the range allows.
    """
    difference = better.total / better.weight - worse.total / worse.weight - by
    if difference <= 0:
        return 0.0
    variances = []
    for arm in (better, worse):
        deviations = max(0.0, arm.squares - arm.total * arm.total / arm.weight)
        variances.append((prior_weight * width * width / 4 + deviations) / (prior_weight + arm.weight))
    known = 1.0 / (variances[0] / better.weight + variances[1] / worse.weight)
    tuned = most_at / (variances[0] + variances[1])
    return 0.5 * difference * difference * known * known / (known + tuned) - 0.5 * math.log1p(known / tuned)
