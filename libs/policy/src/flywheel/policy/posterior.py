"""From exact sums to beliefs and to the ``policy`` event.

Kinds, with ``w``, ``s``, ``q`` an arm's forgotten count, sum and sum of squares of rewards, and a prior of mean
``m0`` worth ``w0`` outcomes, declared or, with ``prior: shared``, that of ``flywheel.policy.relatives``:

- ``thompson_beta``: rewards mapped from the charter's range to [0, 1] as ``x``; Beta(w0·x0 + Σx, w0·(1-x0) +
  Σ(1-x)), with fractional updates (Agrawal and Goyal, 2012) and discounting (Raj and Kalyani, 2017).
- ``thompson_gaussian``: the mean reward is normal, N((w0·m0 + s)/(w0 + w), v/(w0 + w)), with ``v`` the arm's variance
  shrunk to the prior's: (w0·v0 + Σ(r-mean)²)/(w0 + w), ``v0`` a quarter of the squared range, the largest a reward in
  the range can have (``w0`` here is the declared one, whatever relatives imply). An arm that began 10 of 10 is
  therefore never believed to be exactly known.
- ``ucb1``: mean + range·√(2 ln Σw / w) (Auer, Cesa-Bianchi and Fischer, 2002; discounted: Garivier and Moulines,
  2008); an arm without evidence comes first. Deterministic but for exact ties.
- ``ucb_v``: mean + √(2·V·E/w) + 3·range·E/w, ``V`` the arm's empirical variance, ``E = 1.2 ln Σw`` (Audibert, Munos and
  Szepesvári, 2009): much less exploring where rewards hardly vary. Deterministic as ``ucb1`` is.
- ``epsilon_greedy``: the largest posterior mean, and with probability epsilon any arm alike.
- ``static``: declared shares; nothing is learned.
- ``experiment``: declared shares among the arms that are not proven to earn less than another, see
  ``flywheel.policy.experiment``. Where only such arms may serve, the one with the largest mean does.
- ``linear_thompson``, ``linear_ucb``, ``squarecb``: what is believed of an arm depends on the request's context, see
  ``flywheel.policy.linear_policy``. ``mean`` and ``variance`` are ``thompson_gaussian``'s, the context aside, and
  ``propensity`` is that at the mean context.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from flywheel.events import event_id
from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.change import Change, changes, keep_after_changes
from flywheel.policy.charged import Choose, with_constraints
from flywheel.policy.charter import Charter
from flywheel.policy.contest import CONTEST_ERROR, shares_of_best
from flywheel.policy.diversity import Diversity, diversities
from flywheel.policy.experiment import KINDS_BY_SHARES, Trial, trials
from flywheel.policy.linear_change import linear_changes
from flywheel.policy.linear_policy import (
    LinearPolicy,
    believe_linear,
    compile_linear,
    mean_context,
    typical_contexts,
)
from flywheel.policy.moments import MomentSummary, weigh_moments
from flywheel.policy.propensity import (
    BetaPosterior,
    NormalPosterior,
    Propensities,
    greedy,
    probability_of_best,
    with_floor,
)
from flywheel.policy.relatives import ArmPrior, arm_priors
from flywheel.policy.summary import Evidence, Summary, weigh
from flywheel.policy.tuning import open_points
from flywheel.policy.uses import UseSummary

UNTRIED_SCORE = 1e9
"""Score of an arm UCB1 knows nothing of: above any other."""
_NO_EVIDENCE = 1e-9
_SMALLEST_PARAMETER = 0.02


def build_policy(
    charter: Charter,
    *,
    charter_revision: int,
    charter_digest: str,
    policy_version: int,
    occurred_at_us: int,
    summaries: Iterable[Summary],
    moments: Sequence[MomentSummary] = (),
    uses: Iterable[UseSummary] = (),
    lengths: Iterable[MomentSummary] = (),
) -> dict[str, Any]:
    """Return the ``policy`` event: each arm's belief, and its propensity when every enabled arm is eligible.

    ``moments``: the same outcomes with their features, of the charter's own encoding; only linear kinds look at them.
    ``uses``: what requests used of the charter's own measures, for its constraints and the front. ``lengths``: of
    answers (``flywheel.policy.proxies.length_vector``), for its ``diversity``.
    """
    merged = Summary()
    for summary in summaries:
        merged.merge(summary)
    with_features = MomentSummary()
    for each in moments:
        with_features.merge(each)
    spec = charter.policy
    found_changes = changes_of(charter, merged, with_features)
    evidence = believed_evidence(charter, merged, found_changes)
    arms = [_arm(arm) for arm in charter.policy_arms]
    found_by_arm = [evidence.get(arm.name, Evidence()) for arm in charter.policy_arms]
    priors = arm_priors(charter, found_by_arm)
    _believe(charter, arms, found_by_arm, priors)
    _open(charter, arms, merged, evidence)
    found_out = _trials(charter, evidence)
    _share(arms, found_out)
    answers = _diversities(charter, lengths)
    event = {
        "event_id": event_id("policy", charter.project, charter.feature, policy_version),
        "project": charter.project,
        "feature": charter.feature,
        "occurred_at": occurred_at_us,
        "policy_version": policy_version,
        "kind": spec.kind,
        "charter_digest": charter_digest,
        "charter_revision": charter_revision,
        "default_arm": charter.default_arm,
        "explore_floor": spec.explore_floor,
        "epsilon": spec.epsilon if spec.kind == "epsilon_greedy" else 0.0,
        "stale_after_s": spec.stale_after_s,
        "outcomes": merged.outcomes,
        "arms": arms,
        "context": list(charter.context),
        "priors": _priors(charter, priors),
        "trials": [_trial(each) for each in found_out],
        "diversity": [_diversity(each) for each in answers],
        "contexts": [],
    }
    if spec.linear:
        event |= believe_linear(charter, found_changes, with_features, priors)
        linear = compile_linear(event)  # as whoever decides will read it
        assert linear is not None
        choose = partial(_chosen_by_context, linear, [mean_context(charter, with_features)])
        expected = partial(_expected_by_context, charter, linear, with_features)
    else:
        choose = expected = partial(_chosen, event)
    used = UseSummary()
    for of_shard in uses:
        used.merge(of_shard)
    alike = {each.arm: each.charge for each in answers}
    found = with_constraints(charter, event, used, choose, expected=expected, alike=alike)
    places = [place for place, arm in enumerate(arms) if arm["enabled"]]
    for place, propensity in zip(places, found.values, strict=True):
        arms[place]["propensity"] = propensity
    return event


def _chosen(event: Mapping[str, Any], places: Sequence[int]) -> Choose:
    arms = [event["arms"][place] for place in places]
    return lambda charges: choice_probabilities(
        event["kind"], arms, explore_floor=event["explore_floor"], epsilon=event["epsilon"], charges=charges
    )


def _expected_by_context(
    charter: Charter, linear: LinearPolicy, moments: MomentSummary, places: Sequence[int]
) -> Choose:
    return _chosen_by_context(linear, typical_contexts(charter, moments), places)


def _chosen_by_context(linear: LinearPolicy, contexts: Sequence[Sequence[float]], places: Sequence[int]) -> Choose:
    """Return the mean of the probabilities over some contexts."""

    def chosen(charges: tuple[float, ...]) -> Propensities:
        found = [linear.probabilities(context, places, charges) for context in contexts]
        if len(found) == 1:
            return found[0]
        values = np.mean([each.values for each in found], axis=0)
        return Propensities(tuple(values.tolist()), max(each.error for each in found))

    return chosen


def changes_of(charter: Charter, summary: Summary, moments: MomentSummary) -> Mapping[str, Change]:
    """Return the last change of each arm that changed; none where the charter keeps what came before."""
    if charter.policy.on_change == "keep":
        return {}
    if charter.policy.linear:
        return linear_changes(moments, summary, charter.reward_range)
    return changes(summary, charter.reward_range)


def believed_evidence(charter: Charter, summary: Summary, found: Mapping[str, Change]) -> Mapping[str, Evidence]:
    """Return each arm's evidence after forgetting and after the changes found."""
    spec = charter.policy

    def weighed(since: int) -> Mapping[str, Evidence]:
        return weigh(summary, half_life_outcomes=spec.half_life_outcomes, half_life_s=spec.half_life_s, since=since)

    return keep_after_changes(found, weighed)


def choice_probabilities(
    kind: str,
    arms: Sequence[Mapping[str, Any]],
    *,
    explore_floor: float,
    epsilon: float,
    charges: Sequence[float] = (),
) -> Propensities:
    """Return the probability of each of ``arms`` (policy event arms, all eligible), the floor mixed in.

    ``charges``: what choosing each arm is charged, in reward, where money has a price. What is drawn or compared is
    then reward less charge, and both kinds of Thompson sampling draw from normal beliefs of the same mean and variance,
    as a request can wait for no other integral. ``static`` shares, and those of an ``experiment``, know no reward and
    stay as they are.
    Raises ``ValueError`` for an unknown kind.
    """
    error = 0.0
    charged = charges or (0.0,) * len(arms)
    if kind in ("thompson_beta", "thompson_gaussian") and charges:
        mean = np.array([arm["mean"] for arm in arms]) - np.array(charges)
        values: Sequence[float] = shares_of_best(mean, np.sqrt(np.array([arm["variance"] for arm in arms])))
        error = CONTEST_ERROR if len(arms) > 1 else 0.0
    elif kind == "thompson_beta":
        alpha = np.array([arm["alpha"] for arm in arms])
        chosen = probability_of_best(BetaPosterior(alpha, np.array([arm["beta"] for arm in arms])))
        values, error = chosen.values, chosen.error
    elif kind == "thompson_gaussian":
        mean = np.array([arm["mean"] for arm in arms])
        chosen = probability_of_best(NormalPosterior(mean, np.sqrt(np.array([arm["variance"] for arm in arms]))))
        values, error = chosen.values, chosen.error
    elif kind in ("ucb1", "ucb_v"):
        values = greedy([arm["score"] - charge for arm, charge in zip(arms, charged, strict=True)])
    elif kind == "epsilon_greedy":
        best = greedy([arm["mean"] - charge for arm, charge in zip(arms, charged, strict=True)])
        values = tuple(epsilon / len(arms) + (1 - epsilon) * p for p in best)
    elif kind in KINDS_BY_SHARES:
        shares = [arm["score"] for arm in arms]
        total = math.fsum(shares)
        if total > 0:
            values = tuple(share / total for share in shares)
        elif kind == "static":
            values = (1.0 / len(arms),) * len(arms)
        else:
            values = greedy([arm["mean"] - charge for arm, charge in zip(arms, charged, strict=True)])
    else:
        raise ValueError(f"unknown policy kind {kind!r}")
    return Propensities(with_floor(values, explore_floor), error)


def ucb1_bonus(weight: float, total_weight: float) -> float:
    """Return √(2 ln N / n), the width of UCB1's bound for rewards in [0, 1] (Auer et al., 2002)."""
    return math.sqrt(2.0 * math.log(max(total_weight, 1.0)) / weight)


def ucb_v_bound(mean: float, variance: float, weight: float, total_weight: float, width: float) -> float:
    """Return UCB-V's bound for rewards in a range of ``width``: ``mean + √(2·V·E/n) + 3·width·E/n``, ``E = 1.2 ln N``
    (Audibert, Munos and Szepesvári, 2009, with ζ = 1.2 and c = 1)."""
    explored = 1.2 * math.log(max(total_weight, 1.0))
    return mean + math.sqrt(2.0 * variance * explored / weight) + 3.0 * width * explored / weight


def _arm(arm: ArmSpec) -> dict[str, Any]:
    return {
        "name": arm.name,
        "model": arm.model,
        "prompt_name": arm.prompt_name,
        "prompt_version": arm.prompt_version,
        "params": arm.carried_params,
        "eligible_when": [
            {"field": field, "operator": condition.operator, "value": json.dumps(condition.value)}
            for field, conditions in arm.eligible_when.items()
            for condition in conditions
        ],
        "enabled": arm.enabled,
        "weight": 0.0,
        "mean": 0.0,
        "variance": 0.0,
        "alpha": 0.0,
        "beta": 0.0,
        "score": (arm.share or 0.0),
        "propensity": 0.0,
    }


def _believe(
    charter: Charter, arms: list[dict[str, Any]], evidence: Sequence[Evidence], priors: Sequence[ArmPrior]
) -> None:
    low, high = charter.reward_range
    width = high - low
    declared = charter.policy.prior
    total_weight = math.fsum(found.weight for found in evidence)
    for arm, found, prior in zip(arms, evidence, priors, strict=True):
        weight = prior.weight + found.weight
        mean = (prior.weight * prior.mean + found.total) / weight
        arm["weight"], arm["mean"] = found.weight, mean
        if charter.policy.kind == "thompson_beta":
            alpha = max(_SMALLEST_PARAMETER, weight * (mean - low) / width)
            beta = max(_SMALLEST_PARAMETER, weight * (high - mean) / width)
            arm["alpha"], arm["beta"] = alpha, beta
            arm["variance"] = width * width * alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1.0))
        else:
            # Σw(r - mean)², the prior's own squared deviations left out: they are the shrinkage target.
            deviations = max(0.0, found.squares - 2 * mean * found.total + mean * mean * found.weight)
            variance = (declared.weight * width * width / 4 + deviations) / (declared.weight + found.weight)
            arm["variance"] = variance / weight
        if charter.policy.kind in ("ucb1", "ucb_v"):
            arm["score"] = _upper_bound(charter.policy.kind, found, total_weight, width)
        elif charter.policy.kind not in KINDS_BY_SHARES:
            arm["score"] = 0.0


def _open(charter: Charter, arms: list[dict[str, Any]], summary: Summary, evidence: Mapping[str, Evidence]) -> None:
    """Switch off the points of tuned arms that may not serve."""
    low, high = charter.reward_range
    tried = summary.outcomes_by_arm()
    for spec in charter.tune:
        opened = open_points(spec, tried, evidence, width=high - low, prior_weight=charter.policy.prior.weight)
        for arm in arms:
            if arm["name"] in spec.names():
                arm["enabled"] = arm["enabled"] and arm["name"] in opened


def _diversities(charter: Charter, lengths: Iterable[MomentSummary]) -> list[Diversity]:
    spec = charter.policy
    if spec.diversity <= 0:
        return []
    merged = MomentSummary()
    for of_shard in lengths:
        merged.merge(of_shard)
    found = weigh_moments(merged, half_life_outcomes=spec.half_life_outcomes, half_life_s=spec.half_life_s)
    return diversities(found, [arm.name for arm in charter.policy_arms], most=spec.diversity)


def _diversity(found: Diversity) -> dict[str, Any]:
    return {
        "name": found.arm, "requests": found.requests, "spread": found.spread, "others": found.others,
        "charge": found.charge,
    }  # fmt: skip


def _trials(charter: Charter, evidence: Mapping[str, Evidence]) -> list[Trial]:
    if charter.policy.kind != "experiment":
        return []
    low, high = charter.reward_range
    names = [arm.name for arm in charter.arms if arm.enabled]
    return trials(evidence, names, error=charter.policy.error, width=high - low)


def _share(arms: list[dict[str, Any]], found: Sequence[Trial]) -> None:
    """Let the arms of an experiment that are not out have their shares, alike where none are declared."""
    standing = {trial.arm: trial for trial in found}
    declared = any(arm["score"] > 0 for arm in arms)
    for arm in arms:
        if (trial := standing.get(arm["name"])) is not None:
            arm["score"] = 0.0 if trial.out else arm["score"] if declared else 1.0


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.arm, "outcomes": trial.outcomes, "mean": trial.mean, "beaten_by": trial.beaten_by,
        "log_evidence": trial.log_evidence, "needed": trial.needed, "out": trial.out,
    }  # fmt: skip


def _priors(charter: Charter, priors: Sequence[ArmPrior]) -> list[dict[str, Any]]:
    if not charter.policy.prior.shared and not charter.tune:
        return []
    return [
        {"name": arm.name, "mean": prior.mean, "weight": prior.weight, "relatives": dict(prior.relatives)}
        for arm, prior in zip(charter.policy_arms, priors, strict=True)
    ]


def _upper_bound(kind: str, found: Evidence, total_weight: float, width: float) -> float:
    if found.weight <= _NO_EVIDENCE:
        return UNTRIED_SCORE
    if kind == "ucb_v":
        mean = found.total / found.weight
        variance = max(0.0, found.squares / found.weight - mean * mean)
        return ucb_v_bound(mean, variance, found.weight, total_weight, width)
    return found.total / found.weight + width * ucb1_bonus(found.weight, total_weight)
