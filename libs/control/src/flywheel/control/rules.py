"""The controller's rules: which alert asks for which change, how it is judged, when it is taken back.

The first rule that fits an alert, by priority and then in declared order, answers it; of its steps the first that can
be done is. Field names are those a user writes; durations are written ``90s``, ``15m``, ``24h`` or ``7d``.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from flywheel.policy.declared_values import Name, Number, Seconds
from flywheel.policy.strict_yaml import YamlInvalid, problems_of, read_yaml

ActionKind = Literal["rollback", "disable", "cheapest", "pin", "pause", "propose", "escalate"]
Severity = Literal["info", "warning", "critical"]
Verdict = Literal["judge", "quality", "both", "unknown"]
SEVERITIES: Final[dict[str, int]] = {"info": 0, "warning": 1, "critical": 2}
MAX_RULES: Final = 100


class RulesInvalid(YamlInvalid):
    """Rules that make no sense, with every problem, its line and field."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Bound(_Model):
    """Where a figure must lie: above one number, below another, or between."""

    above: Number | None = None
    below: Number | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("needs above or below")
        return self

    def holds(self, figure: float | None) -> bool:
        """Return whether a figure lies there; an unknown one does not."""
        if figure is None or not math.isfinite(figure):
            return False
        return (self.above is None or figure > self.above) and (self.below is None or figure < self.below)


class When(_Model):
    """Which alerts a rule answers. ``value`` is the figure seen; ``change`` is observed over expected, or, where the
    alert names neither, value over threshold. ``scope``: dimensions that must have these values. ``verdict``: what the
    alert says explains a score must be one of these; ``unknown`` where it says nothing."""

    kind: Annotated[list[str], BeforeValidator(_listed)] = Field(min_length=1, max_length=32)
    severity: Severity = "info"
    scope: dict[str, str] = Field(default_factory=dict)
    value: Bound | None = None
    change: Bound | None = None
    verdict: Annotated[list[Verdict], BeforeValidator(_listed)] | None = Field(None, min_length=1)


class Step(_Model):
    """One thing that may be done.

    ``rollback``: publish the charter as it was before its last change, if that is at most ``changed_within`` old and
    did not come after the trouble began.
    ``disable``: the arms the alert names, by arm or model, are not eligible.
    ``cheapest``: only the cheapest arm serves whose mean reward is at least ``acceptable`` times the best one's.
    ``pin``: only ``arm`` serves, without it the charter's default arm.
    ``pause``: the default arm serves, nothing is tried.
    ``propose``: say what should be looked at. ``escalate``: tell a person.
    """

    action: ActionKind
    arm: Name | None = None
    changed_within: Seconds = 7200.0
    acceptable: Number = Field(0.8, ge=0, le=1)


class Verify(_Model):
    """How an action is judged: within this time every alert it answers must be resolved, or its deviation from where it
    should be must have become smaller by the share ``improve``."""

    within: Seconds = 600.0
    improve: Number = Field(0.25, gt=0, le=1)


class Flaps(_Model):
    """So many actions of one rule on one feature within this time are enough: then a person is told instead."""

    most: int = Field(3, ge=1, le=1000)
    within: Seconds = 21600.0


class Rule(_Model):
    """One rule of the tree. ``in_silence``: whether an alert under a person's silence waits for its end, or is answered
    all the same."""

    name: Name
    priority: int = Field(0, ge=-1000, le=1000)
    when: When
    do: list[Step] = Field(min_length=1, max_length=8)
    verify: Verify = Verify()
    expires_after: Seconds = 3600.0
    return_after: Seconds = 600.0
    cooldown: Seconds = 900.0
    flaps: Flaps = Flaps()
    in_silence: Literal["wait", "act"] = "wait"


class Limits(_Model):
    """How much may change by itself, in a project and in one feature of it, in any hour; and how long an alert that is
    not heard of again counts as firing."""

    per_hour: int = Field(10, ge=0, le=10_000)
    per_feature_per_hour: int = Field(4, ge=0, le=10_000)
    forget_after: Seconds = 86400.0


class Tree(_Model):
    """All rules of a project. ``mode`` dry_run: they only say what they would do."""

    version: int = Field(ge=1, lt=2**31)
    mode: Literal["act", "dry_run"] = "act"
    limits: Limits = Limits()
    rules: list[Rule] = Field(min_length=1, max_length=MAX_RULES)

    @field_validator("rules")
    @classmethod
    def _names_differ(cls, rules: list[Rule]) -> list[Rule]:
        twice = [name for name, count in Counter(rule.name for rule in rules).items() if count > 1]
        if twice:
            raise ValueError(f"rule {twice[0]} is declared twice")
        return rules

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        for index, rule in enumerate(self.rules):
            if rule.verify.within >= rule.expires_after:
                raise ValueError(
                    f"rules.{index}.expires_after: must be longer than verify.within, or nothing is judged"
                )
        return self

    def rule_for(self, alert: Signal) -> Rule | None:
        """Return the rule that answers an alert; None where none does."""
        fitting = [rule for rule in self.rules if fits(rule.when, alert)]
        return max(fitting, key=lambda rule: rule.priority) if fitting else None


class Signal(NamedTuple):
    """What rules look at in an alert."""

    kind: str
    severity: str
    scope: dict[str, str]
    value: float | None
    threshold: float | None
    observed: float | None
    expected: float | None
    verdict: str = ""

    @property
    def change(self) -> float | None:
        """Observed over expected; value over threshold where the alert names neither."""
        if self.observed is not None and self.expected is not None:
            return self.observed / self.expected if self.expected else None
        if self.value is None or not self.threshold:
            return None
        return self.value / self.threshold

    @property
    def deviation(self) -> float | None:
        """How far the figure is from where it should be, relative to that: 0 is as it should be."""
        seen, right = self.value, self.threshold
        if self.observed is not None and self.expected is not None:
            seen, right = self.observed, self.expected
        if seen is None or right is None:
            return None
        found = abs(seen - right) / max(abs(right), 1e-12)
        return found if math.isfinite(found) else None


def fits(when: When, alert: Signal) -> bool:
    """Return whether an alert is one a rule answers."""
    if alert.kind not in when.kind or SEVERITIES.get(alert.severity, 0) < SEVERITIES[when.severity]:
        return False
    if any(alert.scope.get(name) != value for name, value in when.scope.items()):
        return False
    if when.verdict is not None and (alert.verdict or "unknown") not in when.verdict:
        return False
    if when.value is not None and not when.value.holds(alert.value):
        return False
    return when.change is None or when.change.holds(alert.change)


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": Tree, "limits": Limits, "rules": Rule, "rules.when": When, "rules.when.value": Bound,
    "rules.when.change": Bound, "rules.do": Step, "rules.verify": Verify, "rules.flaps": Flaps,
}  # fmt: skip


def parse_rules(text: str) -> Tree:
    """Return the rules that ``text`` declares.

    Raises:
        RulesInvalid: with every problem, its line and field.
    """
    try:
        value, lines = read_yaml(text, expected="version and rules")
    except YamlInvalid as error:
        raise RulesInvalid(error.problems) from error
    try:
        return Tree.model_validate(value)
    except ValidationError as error:
        raise RulesInvalid(problems_of(error, lines, _MODELS)) from error
