"""Policies that might have decided: what each would have done at a logged decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flywheel.cli.logged_rows import LoggedRow
from flywheel.policy.charter import Charter
from flywheel.policy.decide import CompiledPolicy, compile_policy
from flywheel.policy.feature_spec import encoder_of
from flywheel.policy.moments import MomentSummary, outcome_vector
from flywheel.policy.posterior import build_policy
from flywheel.policy.summary import Summary, nano, unit_of

Candidate = Callable[[LoggedRow], Mapping[str, float]]
"""Probability of each arm, by name, at a decision; adds up to 1."""


class CandidateInvalid(ValueError):
    """A candidate that cannot be held against this log; one line for a person."""


def parse_shares(text: str) -> dict[str, float]:
    """Return the shares of ``cheap=.7,strong=.3``, made to add up to 1; raise ``CandidateInvalid``."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.strip().rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not equals or not name or name in shares or not 0 <= share < math.inf:
            raise CandidateInvalid(f"{part.strip()!r} is no share, e.g. cheap=.7,strong=.3")
        shares[name] = share
    total = math.fsum(shares.values())
    if total <= 0:
        raise CandidateInvalid("the shares add up to 0")
    return {name: share / total for name, share in shares.items()}


def fixed_shares(shares: Mapping[str, float]) -> Candidate:
    """Return the policy that chooses by shares among the arms that could serve, as a static charter does.

    Where none of its arms could, it would have needed one that the log does not have: that is no support.
    """

    def choose(row: LoggedRow) -> Mapping[str, float]:
        able = {arm: share for arm, share in shares.items() if not row.arms or arm in row.arms}
        total = math.fsum(able.values())
        return {arm: share / total for arm, share in able.items()} if total > 0 else shares

    return choose


def written_targets(rows: Sequence[LoggedRow]) -> Candidate:
    """Return the policy that each line's ``target`` writes down; raise ``CandidateInvalid`` where one is missing."""
    missing = sum(row.target is None for row in rows)
    if missing:
        raise CandidateInvalid(f"{missing} of {len(rows)} lines have no target; or give --policy, --shares or --arm")

    def choose(row: LoggedRow) -> Mapping[str, float]:
        assert row.target is not None
        total = math.fsum(row.target.values())
        return {arm: share / total for arm, share in row.target.items()}

    return choose


def compiled(policy: CompiledPolicy) -> Candidate:
    """Return a policy as it decides, its beliefs as they are: eligibility by its own rules, and by budgets where the
    logged choice was narrowed by one."""
    names = {arm.name: 1 << place for place, arm in enumerate(policy.arms)}

    def choose(row: LoggedRow) -> Mapping[str, float]:
        if policy.linear is not None and policy.linear.refuses(row.context):
            return {policy.default.name: 1.0}
        mask = policy.eligible(row.context) if policy.rules else policy.full_mask
        if row.limited and mask:
            narrowed = mask & sum(names.get(arm, 0) for arm in row.arms)
            mask = narrowed or mask
        if not mask:
            return {policy.default.name: 1.0}
        subset = policy.distribution(mask, _features(policy, row))
        return dict(zip(subset.names, subset.propensities, strict=True))

    return choose


def _features(policy: CompiledPolicy, row: LoggedRow) -> tuple[int, ...]:
    """The context as the policy sees it: as it was logged where the log has the same features, else encoded anew."""
    if policy.linear is not None and row.encoding == policy.linear.encoding:
        return row.features
    return policy.encode(row.context)


def from_event(event: Any) -> Candidate:
    """Return the policy of a ``policy`` event, as `flywheel policy show --json` prints it; raise
    ``CandidateInvalid``."""
    try:
        return compiled(compile_policy(event))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CandidateInvalid(f"not a policy as `flywheel policy show --json` prints it: {error!r}") from error


def from_charter(charter: Charter, learned_from: Sequence[LoggedRow]) -> Candidate:
    """Return a charter's policy with what it would believe after ``learned_from``, frozen there; static ones believe
    nothing. Raise ``CandidateInvalid`` where it forgets by time and the rows have none."""
    if charter.policy.half_life_s is not None and any(row.at_us is None for row in learned_from):
        raise CandidateInvalid("the charter forgets by time (half_life), and lines have no time")
    low, high = charter.reward_range
    summary, moments = Summary(), MomentSummary()
    encoder = encoder_of(charter.policy.feature_records) if charter.policy.linear else None
    newest = 0
    for number, row in enumerate(learned_from):
        at_us = row.at_us if row.at_us is not None else number * 1_000_000
        newest = max(newest, at_us)
        summary.add(unit_of(at_us), row.arm, nano(min(max(row.reward, low), high)))
        if encoder is not None:
            logged = row.encoding == charter.policy.encoding
            features = row.features if logged else encoder.encode(row.context)
            moments.add(unit_of(at_us), row.arm, outcome_vector(features, row.reward, charter.reward_range))
    event = build_policy(
        charter, charter_revision=1, charter_digest="", policy_version=1, occurred_at_us=newest, summaries=[summary],
        moments=[moments],
    )  # fmt: skip
    try:
        return compiled(compile_policy(event))
    except ValueError as error:
        raise CandidateInvalid(str(error)) from error


def judged_charter(
    charter: Charter, rows: Sequence[LoggedRow], learn_share: float
) -> tuple[Candidate, Sequence[LoggedRow]]:
    """Return a charter's policy and the rows that judge it: all of them where it learns nothing, else those after the
    first ``learn_share``, on which it forms its beliefs. Raise ``CandidateInvalid`` as ``from_charter``."""
    first = 0 if charter.policy.kind == "static" else int(len(rows) * learn_share)
    return from_charter(charter, rows[:first]), rows[first:]
