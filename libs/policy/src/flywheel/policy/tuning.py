"""Tuning one parameter of an arm along an ordered grid: temperature, top_p, max_tokens, reasoning effort.

A tuned arm is one arm for each of its values (a point). What is believed of a point rests on its neighbours too
(``flywheel.policy.relatives``); here is which points may serve, read off the exact sums without further state:

- The start may. The points up to ``step`` places from it may once it has ``min_outcomes``.
- The outermost open point opens up to ``step`` places more once it and the next open one inward have ``min_outcomes``
  and it is proven to earn more. So each step waits for outcomes of the one before, and no policy is more than one step
  away from the last. A point that ever had an outcome stays open.
- A point proven to earn less than another open one, by more than ``drop``, is closed until that is forgotten. When the
  point in use falls, its change is found (``flywheel.policy.change``), all points' evidence with it gets thin, and
  those known before serve again.

Proven: an e-process of the difference passes ``1 / FALSE_STEP`` or ``1 / FALSE_CLOSE``, see ``log_evidence``; it may be
looked at after every outcome, however the policy came to choose the points.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.cascade import PLAN
from flywheel.policy.declared_values import Declared, Name, Number
from flywheel.policy.difference import log_evidence
from flywheel.policy.summary import Evidence

FALSE_STEP = 0.025
"""Probability of ever going beyond the first step on one side of a flat curve."""
FALSE_CLOSE = 0.01
"""Probability of ever closing a point because of one that does not earn more."""
LEAST_FLOOR = 0.01
"""Least share of every open point: a point that the policy leaves too early is never proven worse."""
MOST_VALUES = 32
ABOVE = f"{PLAN}.above"
"""Name by which the threshold of an arm's cascade is tuned."""
_TEXT = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

TunedValue = str | int | float


def _values(values: object) -> object:
    if not isinstance(values, list):
        return values
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not _TEXT.match(_text(value)):
            raise ValueError(f"{value!r} is no number, nor a text of letters, digits and ._- only")
    return values


def _text(value: TunedValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class TuneSpec(Declared):
    """One parameter of one arm to be tuned: its ``values`` in order, where to ``start``, how many places to go at once
    (``step``), after how many outcomes (``min_outcomes``), and by how much less reward than another a point may earn
    before it is left (``drop``)."""

    arm: Name
    param: Name
    values: Annotated[list[TunedValue], BeforeValidator(_values)] = Field(min_length=2, max_length=MOST_VALUES)
    start: TunedValue
    step: int = Field(1, ge=1, le=MOST_VALUES)
    min_outcomes: int = Field(100, ge=20, le=1_000_000)
    drop: Number = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        texts = [_text(value) for value in self.values]
        if len(set(texts)) < len(texts):
            raise ValueError("values must differ")
        numbers = [value for value in self.values if not isinstance(value, str)]
        if numbers and (len(numbers) < len(texts) or numbers not in (sorted(numbers), sorted(numbers, reverse=True))):
            raise ValueError("values must be in order")
        if _text(self.start) not in texts:
            raise ValueError(f"start {_text(self.start)} is not one of the values {', '.join(texts)}")
        return self

    @property
    def start_place(self) -> int:
        """Place of the start among the values."""
        return [_text(value) for value in self.values].index(_text(self.start))

    def names(self) -> list[str]:
        """Return the name of each point, in order: ``cheap:temperature:0.4``."""
        return [f"{self.arm}:{self.param}:{_text(value)}" for value in self.values]

    def points(self, arm: ArmSpec) -> list[ArmSpec]:
        """Return the arm with each of the values, in order."""
        return [
            arm.model_copy(update={"name": name, **self._changed(arm, value)})
            for name, value in zip(self.names(), self.values, strict=True)
        ]

    def _changed(self, arm: ArmSpec, value: TunedValue) -> dict[str, object]:
        if self.param == ABOVE and arm.escalate is not None:
            return {PLAN: arm.escalate.model_copy(update={"above": float(value)})}
        return {"params": {**arm.params, self.param: value}}


def tuning_problem(specs: Sequence[TuneSpec], arms: Sequence[ArmSpec]) -> str | None:
    """Return what does not fit between what is tuned and the arms, with its field; None where all fits."""
    by_name = {arm.name: arm for arm in arms}
    taken: set[str] = set()
    for index, spec in enumerate(specs):
        arm = by_name.get(spec.arm)
        if arm is None:
            return f"tune.{index}.arm: {spec.arm} is not an arm; one of {', '.join(by_name)}"
        if spec.arm in taken:
            return f"tune.{index}.arm: another parameter of {spec.arm} is tuned already; one at a time"
        if spec.param in arm.params:
            return f"tune.{index}.param: {spec.arm} has it among its params too; leave it out there"
        if spec.param.partition(".")[0] == PLAN and (problem := _plan_problem(spec, arm)):
            return f"tune.{index}.{problem}"
        taken.add(spec.arm)
        longest = max(spec.names(), key=len)
        if len(longest) > 128:
            return f"tune.{index}.param: {longest} is longer than 128 characters"
        if clash := set(spec.names()) & set(by_name):
            return f"tune.{index}.arm: {min(clash)} is an arm already"
    return None


def _plan_problem(spec: TuneSpec, arm: ArmSpec) -> str | None:
    """Return what does not fit between the threshold of a cascade to be tuned and its arm."""
    if spec.param != ABOVE:
        return f"param: of a plan only {ABOVE} can be tuned"
    if arm.escalate is None:
        return f"param: {arm.name} does not escalate"
    if arm.escalate.above is not None:
        return f"param: {arm.name} declares it too; leave it out there"
    if any(isinstance(value, str) or not 0 <= value <= 1 for value in spec.values):
        return "values: must be probabilities from 0 to 1"
    return None


def open_points(
    spec: TuneSpec, tried: Mapping[str, int], evidence: Mapping[str, Evidence], *, width: float, prior_weight: float
) -> frozenset[str]:
    """Return the names of the points that may serve.

    Args:
        tried: outcomes by point, nothing forgotten.
        evidence: what is believed of the points, after forgetting and changes.
        width: of the range of rewards.
        prior_weight: outcomes for which a reward's variance is taken for the largest it can be.
    """
    names = spec.names()
    start = spec.start_place

    def proven(better: int, worse: int, *, by: float, chance: float) -> bool:
        one, other = (evidence.get(names[place], Evidence()) for place in (better, worse))
        if min(one.weight, other.weight) < spec.min_outcomes:
            return False
        found = log_evidence(one, other, by=by, most_at=spec.min_outcomes, width=width, prior_weight=prior_weight)
        return found >= -math.log(chance)

    opened = {place for place, name in enumerate(names) if tried.get(name, 0) > 0} | {start}
    for side in (1, -1):
        outermost = max(side * place for place in opened if side * (place - start) >= 0) * side
        if outermost == start:
            ready = evidence.get(names[start], Evidence()).weight >= spec.min_outcomes
        else:
            inward = max(side * place for place in opened if side * place < side * outermost) * side
            ready = proven(outermost, inward, by=0.0, chance=FALSE_STEP)
        if ready:
            beyond = (outermost + side * steps for steps in range(1, spec.step + 1))
            opened |= {place for place in beyond if 0 <= place < len(names)}
    closed = {
        place
        for place in opened
        if any(other != place and proven(other, place, by=spec.drop, chance=FALSE_CLOSE) for other in opened)
    }
    return frozenset(names[place] for place in opened - closed)
