"""Arms as a charter declares them, and when one is eligible."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from flywheel.policy.cascade import PLAN, Escalation
from flywheel.policy.declared_values import Declared, Name, Number

Operator = Literal["eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "exists", "absent"]
_FAMILY = re.compile(r"[a-z]+")

Scalar = str | bool | int | float


class Condition(Declared):
    """One comparison of a context field."""

    operator: Operator
    value: Scalar | tuple[Scalar, ...] | None = None


def _conditions(value: Any) -> Any:
    """Turn ``{language: {in: [en, de]}, plan: pro}`` into conditions by field."""
    if not isinstance(value, dict):
        return value
    return {field: _field_conditions(rule) for field, rule in value.items()}


def _field_conditions(rule: Any) -> tuple[Condition, ...]:
    if not isinstance(rule, dict):
        rule = {"in": rule} if isinstance(rule, list) else {"eq": rule}
    return tuple(_condition(operator, operand) for operator, operand in rule.items())


def _condition(operator: Any, operand: Any) -> Condition:
    known = get_args(Operator)
    if operator not in known:
        raise ValueError(f"unknown operator {operator!r}; one of {', '.join(known)}")
    if operator in ("in", "not_in"):
        if not isinstance(operand, list) or not operand:
            raise ValueError(f"{operator} needs a list")
        operand = tuple(operand)
    elif operator in ("lt", "le", "gt", "ge"):
        if isinstance(operand, bool) or not isinstance(operand, (int, float, str)):
            raise ValueError(f"{operator} needs a number or a text")
    elif operator in ("exists", "absent"):
        operand = None
    elif isinstance(operand, (dict, list)) or operand is None:
        raise ValueError(f"{operator} needs a single value")
    return Condition(operator=operator, value=operand)


class ArmSpec(Declared):
    """One way to serve a request: a model, a prompt version and parameters. ``family``: of the model, where its name
    does not say; ``escalate``: what follows an answer that is doubted."""

    name: Name
    model: str = Field(min_length=1, max_length=256)
    family: Name | None = None
    prompt: str | None = Field(None, max_length=256)
    params: dict[str, Any] = Field(default_factory=dict)
    eligible_when: Annotated[dict[str, tuple[Condition, ...]], BeforeValidator(_conditions)] = Field(
        default_factory=dict
    )
    enabled: bool = True
    share: Number | None = Field(None, ge=0)
    escalate: Escalation | None = None

    @model_validator(mode="after")
    def _plan_stands_alone(self) -> Self:
        if PLAN in self.params:
            raise ValueError(f"params.{PLAN}: is no parameter of a model; declare {PLAN} beside params")
        return self

    @property
    def carried_params(self) -> dict[str, str]:
        """The parameters as a policy carries them, JSON texts by name; a plan is one of them."""
        texts = {name: json.dumps(self.params[name], sort_keys=True) for name in sorted(self.params)}
        return texts if self.escalate is None else {**texts, PLAN: self.escalate.text()}

    @property
    def prompt_name(self) -> str | None:
        """The part of ``support@7`` before the at sign."""
        return self.prompt.partition("@")[0] if self.prompt else None

    @property
    def prompt_version(self) -> str | None:
        """The part of ``support@7`` after the at sign."""
        return (self.prompt.partition("@")[2] or None) if self.prompt else None

    @property
    def provider(self) -> str:
        """The part of ``openai/gpt-4o-mini`` before the first slash; empty without one."""
        return self.model.partition("/")[0] if "/" in self.model else ""

    @property
    def model_family(self) -> str:
        """The declared family, else the letters that the model's own name begins with: ``gpt`` of
        ``openai/gpt-4o-mini``, ``llama`` of ``groq/meta/llama-3.1-8b``; the whole name where it begins with none."""
        own = self.model.rpartition("/")[2].lower()
        found = _FAMILY.match(own)
        return self.family or (found[0] if found else own)


def escalation_problem(arms: Sequence[ArmSpec], tuned: Mapping[str, str]) -> str | None:
    """Return what does not fit between the arms' plans, with its field; None where all fits.

    Args:
        tuned: by arm, the parameter that is tuned.
    """
    by_name = {arm.name: arm for arm in arms}
    for index, arm in enumerate(arms):
        plan, field = arm.escalate, f"arms.{index}.{PLAN}"
        if plan is None:
            continue
        to = by_name.get(plan.to)
        if to is None:
            return f"{field}.to: {plan.to} is not an arm; one of {', '.join(by_name)}"
        if to.escalate is not None:
            return f"{field}.to: {plan.to} escalates itself; a plan has two steps"
        if to.name in tuned:
            return f"{field}.to: {plan.to} is tuned, so it is several arms; declare one more with a fixed value"
        if not to.enabled:
            return f"{field}.to: {plan.to} is not enabled"
        if plan.above is None and tuned.get(arm.name) != f"{PLAN}.above":
            return f"{field}.above: is missing; a probability from 0 to 1, or tune {PLAN}.above"
    return None
