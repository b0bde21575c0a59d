"""Deciding: a compiled policy, a request and the time give an arm and the whole distribution it was drawn from.

The arm is drawn from the computed propensities with the decision's own id, a hash of the request id, the feature
and the policy version, so the logged propensity is the true one, and the same request under the same policy always
gets the same arm.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

from flywheel.events import event_id
from flywheel.policy.cascade import PLAN, Escalation, read_plan
from flywheel.policy.charged import OwnCharges
from flywheel.policy.eligibility import Rule, Value, compile_rule
from flywheel.policy.linear_policy import LinearPolicy, compile_linear
from flywheel.policy.posterior import choice_probabilities
from flywheel.policy.pressure import Belief
from flywheel.policy.propensity import Propensities

MAX_CACHED_SUBSETS = 256
_T = TypeVar("_T")
_Key = TypeVar("_Key")
_NO_PARAMS: Mapping[str, str] = MappingProxyType({})
_NO_CONTEXT: Mapping[str, Value] = MappingProxyType({})

Reason = Literal["policy", "no_policy", "stale_policy", "nothing_eligible", "unknown_feature", "paused", "no_context"]


class DecideRequest(NamedTuple):
    """What is to be decided. ``default_arm`` and ``default_model`` serve it without a policy; the last three tell how
    large the call is where budgets ask (``input_bytes``: of text, in UTF-8)."""

    project: str
    feature: str
    request_id: str
    context: Mapping[str, Value] = _NO_CONTEXT
    environment: str | None = None
    app: str | None = None
    team: str | None = None
    user_hash: str | None = None
    trace_id: str | None = None
    default_arm: str | None = None
    default_model: str | None = None
    input_tokens: int | None = None
    input_bytes: int | None = None
    max_tokens: int | None = None


class Decision(NamedTuple):
    """The arm, and the probability of every eligible arm. ``params`` are JSON texts by name."""

    decision_id: str
    arm: str
    propensity: float
    arms: tuple[str, ...]
    propensities: tuple[float, ...]
    propensity_error: float
    model: str | None
    prompt_name: str | None
    prompt_version: str | None
    params: Mapping[str, str]
    fallback: bool
    reason: Reason
    policy: str
    policy_version: int
    policy_kind: str
    policy_age_ms: float | None
    context: tuple[str, ...]
    """Names of the context fields the policy declares; only they are logged."""
    reservations: tuple[Any, ...] = ()
    """What hard budgets were charged, as whoever reserves says it."""
    input_tokens_bound: int | None = None
    output_tokens_bound: int | None = None
    downgraded_from: str | None = None
    budget_price: float | None = None
    control: str | None = None
    """Ids of the controls it was made under, joined by ``+``."""
    features: tuple[int, ...] = ()
    """The context as a linear policy saw it, in units of 2⁻¹²."""
    encoding: str | None = None
    """Digest of the features' declarations."""


class Arm(NamedTuple):
    """What serves a request; ``params`` are JSON texts by name."""

    name: str
    model: str | None
    prompt_name: str | None
    prompt_version: str | None
    params: Mapping[str, str]


class Outlook(NamedTuple):
    """What a request looks like to a policy. ``arms`` may be drawn, a bit each in declared order; 0 when the default
    arm is certain, because of ``reason`` or as none is eligible. ``features``: the encoded context, which is logged
    whatever arm serves, as what it earns teaches all the same; empty where the kind is not linear or what it declares
    is missing."""

    reason: Reason | None
    arms: int
    features: tuple[int, ...]


class _Eligible(NamedTuple):
    """One set of eligible arms: their places in declared order, themselves, and their names."""

    places: tuple[int, ...]
    arms: tuple[Arm, ...]
    names: tuple[str, ...]


class _Subset(NamedTuple):
    """The distribution over one set of eligible arms."""

    arms: tuple[Arm, ...]
    names: tuple[str, ...]
    propensities: tuple[float, ...]
    cumulative: tuple[float, ...]
    error: float


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy event made ready to decide with. What depends on the set of eligible arms alone is computed once and
    kept, of at most 256 sets."""

    project: str
    feature: str
    version: int
    kind: str
    occurred_at_us: int
    stale_after_us: int
    default: Arm
    context: tuple[str, ...]
    event: Mapping[str, Any]
    arms: tuple[Arm, ...]
    rules: tuple[tuple[int, tuple[Rule, ...]], ...]
    full_mask: int
    prefix: blake2b
    framed_version: bytes
    paused: bool = False
    control: str | None = None
    linear: LinearPolicy | None = None
    own: OwnCharges | None = None
    plans: Mapping[str, Escalation] = field(default_factory=dict)
    """By arm, what follows an answer that is doubted."""
    subsets: dict[tuple[int, tuple[float, ...]], _Subset] = field(default_factory=dict, compare=False)
    sets: dict[int, _Eligible] = field(default_factory=dict, compare=False)

    def eligible(self, context: Mapping[str, Value]) -> int:
        """Return the arms that may serve this context, as a bit per arm in declared order."""
        mask = self.full_mask
        for bit, rules in self.rules:
            for rule in rules:
                if not rule(context):
                    mask &= ~bit
                    break
        return mask

    def distribution(self, mask: int, features: Sequence[int], charges: tuple[float, ...] = ()) -> _Subset:
        """Return the distribution over the arms of ``mask`` (not 0), at encoded ``features`` where the kind is linear;
        ``charges``: what each of these arms is charged besides what the policy's own constraints charge, in reward,
        where money has a price."""
        linear = self.linear
        if linear is None:
            return self.subset(mask, charges)
        chosen = self.chosen(mask)
        if self.own is not None:
            charges = self.own.over(chosen.places, charges)
        return _drawable(chosen, linear.probabilities(features, chosen.places, charges))

    def encode(self, context: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the context as the policy sees it: empty where the kind is not linear, or as declared features are
        missing and the default arm must serve."""
        linear = self.linear
        return () if linear is None or linear.refuses(context) else linear.features(context)

    def outlook(self, context: Mapping[str, Value], now_us: int) -> Outlook:
        """Return what the policy makes of a context, before it draws."""
        features = self.encode(context) if self.linear is not None else ()
        reason: Reason | None = None
        if 0 < self.stale_after_us < now_us - self.occurred_at_us:
            reason = "stale_policy"
        elif self.paused:
            reason = "paused"
        elif self.linear is not None and not features:
            reason = "no_context"
        if reason is not None:
            return Outlook(reason, 0, features)
        return Outlook(None, self.eligible(context) if self.rules else self.full_mask, features)

    def beliefs(self, features: Sequence[int], mask: int) -> list[Belief]:
        """Return what each arm of ``mask`` is believed to earn at encoded ``features``, less what the policy's own
        constraints charge it."""
        places = self.chosen(mask).places
        if self.linear is None:
            arms = [self.event["arms"][place] for place in places]
            found = [Belief(arm["mean"], math.sqrt(arm["variance"])) for arm in arms]
        else:
            mean, sd = self.linear.scores(features)
            found = [Belief(float(mean[place]), float(sd[place])) for place in places]
        if self.own is None:
            return found
        return [Belief(one.mean - charge, one.sd) for one, charge in zip(found, self.own.over(places), strict=True)]

    def subset(self, mask: int, charges: tuple[float, ...] = ()) -> _Subset:
        """Return the distribution over the arms of ``mask`` (not 0), of a kind that is not linear."""
        found = self.subsets.get((mask, charges))
        return _keep(self.subsets, (mask, charges), _subset(self, mask, charges)) if found is None else found

    def chosen(self, mask: int) -> _Eligible:
        """Return the arms of ``mask``."""
        found = self.sets.get(mask)
        if found is None:
            places = tuple(place for place in range(len(self.arms)) if mask >> place & 1)
            arms = tuple(self.arms[place] for place in places)
            found = _keep(self.sets, mask, _Eligible(places, arms, tuple(arm.name for arm in arms)))
        return found


def _keep(kept: dict[_Key, _T], key: _Key, found: _T) -> _T:
    if len(kept) >= MAX_CACHED_SUBSETS:
        kept.pop(next(iter(kept)), None)
    kept[key] = found
    return found


def compile_policy(policy_event: Mapping[str, Any]) -> CompiledPolicy:
    """Return the policy of a ``policy`` event, ready to decide with.

    Raises ``ValueError`` naming the field when its kind, default arm or a rule makes no sense.
    """
    declared = policy_event["arms"]
    arms = tuple(
        Arm(arm["name"], arm["model"], arm["prompt_name"], arm["prompt_version"], MappingProxyType(dict(arm["params"])))
        for arm in declared
    )
    by_name = {arm.name: arm for arm in arms}
    if policy_event["default_arm"] not in by_name:
        raise ValueError(f"default_arm: {policy_event['default_arm']!r} is not an arm of the policy")
    compiled = CompiledPolicy(
        project=policy_event["project"],
        feature=policy_event["feature"],
        version=policy_event["policy_version"],
        kind=policy_event["kind"],
        occurred_at_us=policy_event["occurred_at"],
        stale_after_us=int(policy_event["stale_after_s"] * 1e6),
        default=by_name[policy_event["default_arm"]],
        context=tuple(policy_event["context"]),
        event=policy_event,
        arms=arms,
        rules=tuple(
            (1 << index, tuple(compile_rule(rule) for rule in arm["eligible_when"]))
            for index, arm in enumerate(declared)
            if arm["eligible_when"] and arm["enabled"]
        ),
        full_mask=sum(1 << index for index, arm in enumerate(declared) if arm["enabled"]),
        prefix=_prefix("decision", policy_event["project"], policy_event["feature"]),
        framed_version=framed(str(policy_event["policy_version"])),
        linear=compile_linear(policy_event),
        own=OwnCharges.of(policy_event),
        plans=_plans(arms),
    )
    if compiled.full_mask and compiled.linear is None:
        compiled.subset(compiled.full_mask)
    return compiled


def _plans(arms: Sequence[Arm]) -> dict[str, Escalation]:
    names = {arm.name for arm in arms}
    plans = {arm.name: read_plan(arm.params[PLAN]) for arm in arms if PLAN in arm.params}
    for name, plan in plans.items():
        if plan.to not in names or plan.to in plans:
            raise ValueError(f"arms.{name}.params.{PLAN}.to: {plan.to!r} is no arm that could be escalated to")
    return plans


def _subset(compiled: CompiledPolicy, mask: int, charges: tuple[float, ...]) -> _Subset:
    chosen = compiled.chosen(mask)
    found = choice_probabilities(
        compiled.kind,
        [compiled.event["arms"][place] for place in chosen.places],
        explore_floor=compiled.event["explore_floor"],
        epsilon=compiled.event["epsilon"],
        charges=compiled.own.over(chosen.places, charges) if compiled.own is not None else charges,
    )
    return _drawable(chosen, found)


def _drawable(chosen: _Eligible, found: Propensities) -> _Subset:
    # All but the last: what rounding leaves over belongs to the last arm.
    cumulative = tuple(accumulate(found.values[:-1]))
    return _Subset(chosen.arms, chosen.names, found.values, cumulative, found.error)


def uniform(decision_id: str) -> float:
    """Return the number in [0, 1) that drew a decision: the first 53 bits of its id, which is a hash.

    Whoever has the log can draw again: the arm is the first whose cumulative propensity exceeds this.
    """
    return (int(decision_id[:14], 16) >> 3) * 2.0**-53


def _prefix(*parts: str) -> blake2b:
    """Return the state of ``event_id``'s hash after its first parts, so that they are hashed once per policy."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(framed(part))
    return digest


def framed(part: str) -> bytes:
    """Return a part as ``event_id`` hashes it."""
    data = part.encode()
    return len(data).to_bytes(8, "big") + data


def _identity(compiled: CompiledPolicy, request_id: str) -> str:
    """Return ``event_id("decision", project, feature, request_id, version)``, then the controls in force."""
    digest = compiled.prefix.copy()
    digest.update(framed(request_id) + compiled.framed_version)
    return digest.hexdigest()


def decide(
    compiled: CompiledPolicy | None,
    request: DecideRequest,
    now_us: int,
    *,
    absence: Literal["no_policy", "unknown_feature"] = "no_policy",
    allowed: int = -1,
    charges: tuple[float, ...] = (),
    outlook: Outlook | None = None,
) -> Decision:
    """Return the arm for a request; ``now_us`` only tells whether the policy is stale. ``allowed`` are the arms, of
    those of the outlook, that budgets leave, a bit each; at least one of them must be. ``charges``: what each of those
    that are left is charged, in reward, where money has a price. ``outlook``: the policy's on this request, of whoever
    has asked for it already.

    Without a policy the request's own default serves, flagged with ``absence``. A stale or paused policy, or no
    eligible arm, gives the policy's default arm, flagged. A fallback has propensity 1: it was certain.
    """
    if compiled is None:
        arm = default_arm(None, request)
        identity = event_id("decision", request.project, request.feature, request.request_id, 0)
        return _certain(identity, arm, absence, (request.feature, 0, "default", None, ()))
    age_us = now_us - compiled.occurred_at_us
    identity = _identity(compiled, request.request_id)
    about = (compiled.feature, compiled.version, compiled.kind, age_us / 1000.0, compiled.context)
    reason, mask, features = outlook or compiled.outlook(request.context, now_us)
    encoding = compiled.linear.encoding if compiled.linear is not None and features else None
    if not mask:
        made = _certain(identity, compiled.default, reason or "nothing_eligible", about, compiled.control)
        return made if encoding is None else made._replace(features=features, encoding=encoding)
    subset = compiled.distribution(mask & allowed, features, charges)
    index = bisect_right(subset.cumulative, uniform(identity))
    arm = subset.arms[index]
    return Decision(
        identity, arm.name, subset.propensities[index], subset.names, subset.propensities, subset.error,
        arm.model, arm.prompt_name, arm.prompt_version, arm.params, False, "policy", *about, control=compiled.control,
        features=features, encoding=encoding,
    )  # fmt: skip


def default_arm(compiled: CompiledPolicy | None, request: DecideRequest) -> Arm:
    """Return the arm that serves where no policy can decide."""
    if compiled is not None:
        return compiled.default
    return Arm(request.default_arm or "default", request.default_model, None, None, _NO_PARAMS)


def _certain(
    identity: str,
    arm: Arm,
    reason: Reason,
    about: tuple[str, int, str, float | None, tuple[str, ...]],
    control: str | None = None,
) -> Decision:
    return Decision(
        identity, arm.name, 1.0, (arm.name,), (1.0,), 0.0,
        arm.model, arm.prompt_name, arm.prompt_version, arm.params, True, reason, *about, control=control,
    )  # fmt: skip
