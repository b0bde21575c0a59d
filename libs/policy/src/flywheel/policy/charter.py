"""The charter: what a user declares for a feature, as frozen, validated models.

Field names here are the ones a user writes in YAML; ``flywheel.policy.charter_yaml`` turns text into a ``Charter``
and errors into problems with a line. Durations are written ``90s``, ``15m``, ``24h`` or ``7d``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from flywheel.policy.arm_spec import ArmSpec, escalation_problem
from flywheel.policy.bounds import SUMS_OF_MEASURE, Limit, constraint_problem, measures
from flywheel.policy.declared_values import Declared, Name, Number, Seconds, seconds_of
from flywheel.policy.experiment import KINDS_BY_SHARES, experiment_problem
from flywheel.policy.feature_spec import MOST_SUMS, FeatureSpec, encoder_of, encoding_of
from flywheel.policy.proxies import LEAST_KEPT, MOST_PROXIES, ProxySpec, proxy_problem
from flywheel.policy.service_level import MOST_LEVELS, ServiceLevel, level_problem
from flywheel.policy.tuning import LEAST_FLOOR, TuneSpec, tuning_problem

PolicyKind = Literal[
    "thompson_beta", "thompson_gaussian", "ucb1", "ucb_v", "epsilon_greedy", "static",
    "linear_thompson", "linear_ucb", "squarecb", "experiment",
]  # fmt: skip
LINEAR_KINDS = frozenset({"linear_thompson", "linear_ucb", "squarecb"})
"""Kinds that decide by the request's context features."""
KINDS_WITH_PRIOR = LINEAR_KINDS | {"thompson_beta", "thompson_gaussian", "epsilon_greedy"}
"""Kinds that believe something before any outcome."""

MAX_ARMS = 64
MOST_FEATURES = 31
_OUTCOMES = re.compile(r"^(\d+(?:\.\d+)?)\s+outcomes?$")


class Objective(Declared):
    """What is made as large as possible."""

    maximise: Literal["reward"] = "reward"


class Weights(Declared):
    """Price of one reference cost and of one reference latency, in units of quality."""

    cost: Number = Field(0.0, ge=0, le=1000)
    latency: Number = Field(0.0, ge=0, le=1000)


class Reference(Declared):
    """What counts as one unit of cost (US dollars) and of latency (milliseconds)."""

    cost_usd: Number = Field(0.01, gt=0)
    latency_ms: Number = Field(1000.0, gt=0)


class RewardRange(Declared):
    """Smallest and largest reward; what lies outside is clipped, and Beta policies map the range to [0, 1]."""

    min: Number
    max: Number

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min must be below max")
        return self


class Missing(Declared):
    """What an outcome is worth when a part never came. Unobserved is never 0.

    ``quality``: ``unrewarded`` (reward null) or ``renormalise`` over the parts that came. ``wait``: false rewards at
    once from the parts present, later ones give new revisions. ``cost`` and ``latency``: ``unrewarded`` or ``omit``
    the term. ``failed``: a request whose every attempt failed has quality ``zero`` (that is an observation) or is
    ``unrewarded``.
    """

    quality: Literal["unrewarded", "renormalise"] = "unrewarded"
    wait: bool = True
    cost: Literal["unrewarded", "omit"] = "unrewarded"
    latency: Literal["unrewarded", "omit"] = "unrewarded"
    failed: Literal["zero", "unrewarded"] = "zero"


def _limit(value: Any) -> Any:
    return value if isinstance(value, dict) else {"max": value}


class HalfLife(Declared):
    """How fast evidence is forgotten: it weighs half after so many newer outcomes, or after so much time."""

    outcomes: float | None = None
    seconds: float | None = None


def _half_life(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected '2000 outcomes' or a duration such as 24h")
    match = _OUTCOMES.match(value.strip())
    if match is None:
        return HalfLife(seconds=seconds_of(value))
    if not 1 <= float(match[1]) <= 1e12:
        raise ValueError("must be at least 1 outcome")
    return HalfLife(outcomes=float(match[1]))


def _kind(value: Any) -> Any:
    return "thompson_beta" if value == "thompson" else value


class Prior(Declared):
    """Belief before any outcome: a mean reward (default: the middle of the range) worth ``weight`` outcomes.

    ``shared``: a thin arm is believed to be like its relatives as far as known arms are alike, see
    ``flywheel.policy.relatives``.
    """

    mean: Number | None = None
    weight: Number = Field(2.0, ge=0.2, le=1e6)
    shared: bool = False


def _prior(value: Any) -> Any:
    return {"shared": True} if value == "shared" else value


class PolicySpec(Declared):
    """How arms are chosen. ``on_change``: what came before an arm's reward changed is forgotten, or kept.

    The linear kinds expect of each arm a reward linear in ``features``. ``scale``: how many standard deviations of
    belief ``linear_thompson`` draws with and ``linear_ucb`` adds; ``gamma``: how soon ``squarecb`` leaves arms behind.
    ``error``: probability that an ``experiment`` ever takes a best arm out. ``go_live``: other arms or another policy
    are published at once, or where they are proven to earn more than the running charter (``better``).
    ``diversity``: reward charged to an arm that answers everything alike, see ``flywheel.policy.diversity``.
    ``on_missing``: a request without a declared feature is decided with it encoded as missing, or by the default arm.
    """

    kind: Annotated[PolicyKind, BeforeValidator(_kind)] = "thompson_beta"
    half_life: Annotated[HalfLife, BeforeValidator(_half_life)] | None = None
    explore_floor: Number = Field(0.0, ge=0, le=0.5)
    epsilon: Number = Field(0.1, ge=0, le=1)
    default: Name | None = None
    stale_after: Seconds | None = None
    on_change: Literal["forget", "keep"] = "forget"
    prior: Annotated[Prior, BeforeValidator(_prior)] = Prior()
    features: list[FeatureSpec] = Field(default_factory=list, max_length=MOST_FEATURES)
    on_missing: Literal["encode", "default"] = "encode"
    scale: Number = Field(1.0, gt=0, le=10)
    gamma: Number = Field(10.0, gt=0, le=1e6)
    error: Number = Field(0.05, ge=1e-6, le=0.5)
    go_live: Literal["at_once", "better"] = "at_once"
    diversity: Number = Field(0.0, ge=0, le=1000)

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        if self.linear and not self.features:
            raise ValueError(f"policy.features: {self.kind} needs at least one")
        if self.features and not self.linear:
            raise ValueError(f"policy.features: {self.kind} looks at none; linear_thompson does")
        if self.prior.shared and self.kind not in KINDS_WITH_PRIOR:
            raise ValueError(f"policy.prior: {self.kind} has none to share; thompson has")
        if self.kind in KINDS_BY_SHARES and self.diversity > 0:
            raise ValueError(f"policy.diversity: {self.kind} chooses by shares, whatever an arm is charged")
        if self.diversity > 0 and self.most_outcomes < LEAST_KEPT:
            raise ValueError(
                f"policy.diversity: half_life leaves {self.most_outcomes:.0f} outcomes, and {LEAST_KEPT} are needed"
            )
        if self.kind == "experiment" and self.half_life is not None:
            raise ValueError("policy.half_life: an experiment's proof forgets nothing; on_change: forget drops changes")
        try:
            encoder_of(self.feature_records)
        except ValueError as error:
            raise ValueError(f"policy.features: {str(error).removeprefix('features: ')}") from error
        return self

    @property
    def linear(self) -> bool:
        """Whether the context features decide."""
        return self.kind in LINEAR_KINDS

    @property
    def feature_records(self) -> list[dict[str, Any]]:
        """The features as a ``policy`` event carries them."""
        return [feature.record() for feature in self.features]

    @cached_property
    def encoding(self) -> str | None:
        """Digest of the features; null for a kind that has none."""
        return encoding_of(self.feature_records) if self.features else None

    @property
    def half_life_outcomes(self) -> float | None:
        """Half-life in outcomes, where declared so."""
        return self.half_life.outcomes if self.half_life else None

    @property
    def most_outcomes(self) -> float:
        """Outcomes' worth of all arms that a half-life in outcomes leaves."""
        return math.inf if self.half_life_outcomes is None else self.half_life_outcomes / math.log(2)

    @property
    def half_life_s(self) -> float | None:
        """Half-life in seconds, where declared so."""
        return self.half_life.seconds if self.half_life else None

    @property
    def stale_after_s(self) -> float:
        """Age in seconds above which the policy no longer decides; 0 is never."""
        return self.stale_after or 0.0


class Budget(Declared):
    """Money a scope may spend per period."""

    scope: dict[str, str]
    usd: Number = Field(gt=0)
    per: Literal["hour", "day", "week", "month"]
    mode: Literal["soft", "hard"] = "soft"


def _quality(value: Any) -> Any:
    """Accept ``{judge.helpful: 0.6}`` and ``{0.6: judge.helpful}``; the result maps the name to its weight."""
    if not isinstance(value, dict):
        return value
    named: dict[Any, Any] = {}
    for key, item in value.items():
        by_weight = isinstance(key, (int, float)) and not isinstance(key, bool)
        name, weight = (item, key) if by_weight else (key, item)
        if not isinstance(name, str):
            raise ValueError("each entry names an evaluator or feedback kind and its weight")
        if name in named:
            raise ValueError(f"{name} is named twice")
        named[name] = weight
    return named


class Charter(Declared):
    """What a user declared for a feature. ``context`` lists the fields a decision may look at and log."""

    project: Name = "default"
    feature: Name
    objective: Objective = Objective()
    quality: Annotated[dict[str, Annotated[Number, Field(gt=0, le=1)]], BeforeValidator(_quality)] = Field(
        default_factory=dict
    )
    weights: Weights = Weights()
    reference: Reference = Reference()
    reward: RewardRange | None = None
    missing: Missing = Missing()
    constraints: dict[str, Annotated[Limit, BeforeValidator(_limit)]] = Field(default_factory=dict)
    arms: list[ArmSpec] = Field(min_length=1, max_length=MAX_ARMS)
    policy: PolicySpec = PolicySpec()
    context: list[str] = Field(default_factory=list, max_length=64)
    attribution_window: Seconds = 86400.0
    budgets: list[Budget] = Field(default_factory=list)
    slo: list[ServiceLevel] = Field(default_factory=list, max_length=MOST_LEVELS)
    tune: list[TuneSpec] = Field(default_factory=list, max_length=MAX_ARMS)
    proxies: list[ProxySpec] = Field(default_factory=list, max_length=MOST_PROXIES)

    @field_validator("quality")
    @classmethod
    def _weights_add_up(cls, quality: dict[str, float]) -> dict[str, float]:
        if quality and abs(sum(quality.values()) - 1.0) > 1e-6:
            raise ValueError(f"weights add up to {sum(quality.values()):g}, not 1")
        return quality

    @field_validator("arms")
    @classmethod
    def _names_differ(cls, arms: list[ArmSpec]) -> list[ArmSpec]:
        twice = [name for name, count in Counter(arm.name for arm in arms).items() if count > 1]
        if twice:
            raise ValueError(f"arm {twice[0]} is declared twice")
        if not any(arm.enabled for arm in arms):
            raise ValueError("no arm is enabled")
        return arms

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [arm.name for arm in self.arms]
        if self.policy.default is not None and self.policy.default not in names:
            raise ValueError(f"policy.default: {self.policy.default} is not an arm; one of {', '.join(names)}")
        self._tuned_fit()
        enabled = sum(arm.enabled for arm in self.policy_arms)
        if self.policy.explore_floor * enabled > 1 + 1e-12:
            raise ValueError(
                f"policy.explore_floor: {enabled} arms cannot each have at least {self.policy.explore_floor:g}"
            )
        for index, arm in enumerate(self.arms):
            unknown = [field for field in arm.eligible_when if field not in self.context]
            if unknown:
                raise ValueError(f"arms.{index}.eligible_when.{unknown[0]}: not declared under context")
        if self.policy.kind == "static" and not sum(arm.share or 0.0 for arm in self.arms if arm.enabled) > 0:
            raise ValueError("policy.kind: static needs a share on at least one enabled arm")
        if self.policy.kind == "experiment" and (problem := experiment_problem(self.arms)):
            raise ValueError(problem)
        self._features_fit()
        if problem := constraint_problem(
            self.constraints, self.policy.kind, self.policy.explore_floor, len(self.policy_arms)
        ):
            raise ValueError(problem)
        if problem := level_problem(self.slo) or proxy_problem(self.proxies, self.policy.most_outcomes):
            raise ValueError(problem)
        low, high = self.reward_range
        if self.policy.prior.mean is not None and not low < self.policy.prior.mean < high:
            raise ValueError(f"policy.prior.mean: must lie inside the reward range {low:g} to {high:g}")
        return self

    def _tuned_fit(self) -> None:
        tuned = {spec.arm: spec.param for spec in self.tune}
        if problem := tuning_problem(self.tune, self.arms) or escalation_problem(self.arms, tuned):
            raise ValueError(problem)
        if self.tune and self.policy.kind not in KINDS_WITH_PRIOR:
            raise ValueError(f"tune: {self.policy.kind} does not believe that neighbours are alike; thompson does")
        if self.tune and self.policy.explore_floor < LEAST_FLOOR:
            raise ValueError(
                f"policy.explore_floor: tune needs at least {LEAST_FLOOR:g}, as what is never tried is never proven"
            )
        most = self.policy.most_outcomes
        for index, spec in enumerate(self.tune):
            if most < 2 * spec.min_outcomes:
                raise ValueError(
                    f"tune.{index}.min_outcomes: of all arms' outcomes policy.half_life leaves {most:.0f}; "
                    f"two points cannot each have {spec.min_outcomes}"
                )
        if len(self.policy_arms) > MAX_ARMS:
            raise ValueError(f"tune: makes {len(self.policy_arms)} arms in all, at most {MAX_ARMS}")

    def _features_fit(self) -> None:
        """Texts are not logged, and what an event carries of all arms stays within its bound."""
        logged = [
            f"policy.features.{n}.name"
            for n, f in enumerate(self.policy.features)
            if f.reads_text and f.name in self.context
        ]
        if logged:
            raise ValueError(f"{logged[0]}: a text that features are taken from is not logged; leave it out of context")
        if self.policy.linear:
            size = len(encoder_of(self.policy.feature_records).slots)
            arms = len(self.policy_arms)
            of_constraints = len(measures(self.constraints)) - len(measures({}))
            sums = arms * ((size + 1) * (size + 2) // 2 + SUMS_OF_MEASURE * of_constraints)
            if sums > MOST_SUMS:
                raise ValueError(
                    f"policy.features: {arms} arms with {size} slots keep {sums} sums, at most {MOST_SUMS}"
                )

    @property
    def attribution_window_s(self) -> float:
        """Seconds after the decision in which parts are waited for."""
        return self.attribution_window

    @cached_property
    def policy_arms(self) -> tuple[ArmSpec, ...]:
        """The arms as a policy has them: a tuned one is an arm for each of its values."""
        tuned = {spec.arm: spec for spec in self.tune}
        return tuple(
            point for arm in self.arms for point in (tuned[arm.name].points(arm) if arm.name in tuned else [arm])
        )

    @property
    def default_arm(self) -> str:
        """Arm to use when the policy can't decide: the declared one, else the first enabled; of a tuned one the
        start."""
        declared = self.policy.default or next(arm.name for arm in self.arms if arm.enabled)
        tuned = next((spec for spec in self.tune if spec.arm == declared), None)
        return tuned.names()[tuned.start_place] if tuned else declared

    @cached_property
    def reward_range(self) -> tuple[float, float]:
        """Declared range, else quality in [0, 1] less one reference cost and one reference latency."""
        if self.reward is not None:
            return self.reward.min, self.reward.max
        price = self.weights.cost + self.weights.latency
        if not self.quality and price > 0:
            return -price, 0.0
        return -price, 1.0
