"""A cascade: a cheap model answers first, and where its answer is doubted a stronger one is asked too.

It is an arm's plan, not a kind of policy: the arm is drawn as any other, and what it earns and costs is that of the
plan carried out. Whoever calls the model reads a raw doubt off its answer (``flywheel.policy.doubt``), turns it by the
``calibration`` into the probability that the answer is not good enough, and escalates where that passes ``above``
(Chen, Zaharia and Zou, FrugalGPT, 2023; Gupta et al., Language Model Cascades, 2024).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from flywheel.policy.declared_values import Declared, Name, Number

DoubtKind = Literal["logprobs", "least_logprobs", "form", "learned"]
"""What the raw doubt is read from, see ``flywheel.policy.doubt``."""

PLAN: Final = "escalate"
"""Name under which an arm's parameters carry its plan, as JSON."""
MOST_KNOTS: Final = 64
MOST_CHARS: Final = 4096
"""Of a plan's text: what a parameter of a decision may have."""
LEARNED_WEIGHTS: Final = 85
"""Numbers that a learned doubt has: a constant and the weights of 42 signals of the question and of the answer."""

Share = Annotated[Number, Field(ge=0, le=1)]
Knot = tuple[Share, Share]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _knots(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return tuple(tuple(knot) if isinstance(knot, list) else knot for knot in value)


class Escalation(Declared):
    """The plan of an arm.

    ``to``: the arm whose model is asked where the answer is doubted. ``above``: the probability that the answer is not
    good enough above which that is done; 1 never does it, and the doubt is logged all the same. None only in an arm of
    which it is tuned. ``calibration``: points (raw doubt, that probability), rising, straight between them and level
    beyond; without any the raw doubt is taken for it. ``width``: within so much of ``above`` lots are drawn, so that
    the doubt goes on being tested on answers of both sides. ``weights``: of a ``learned`` doubt.
    """

    to: Name
    above: Share | None = None
    doubt: DoubtKind = "logprobs"
    calibration: Annotated[tuple[Knot, ...], BeforeValidator(_knots), Field(max_length=MOST_KNOTS)] = ()
    width: Annotated[Number, Field(ge=0, le=0.5)] = 0.0
    weights: Annotated[tuple[Number, ...], BeforeValidator(_tuple)] = ()

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for before, after in pairwise(self.calibration):
            if after[0] <= before[0]:
                raise ValueError(f"the raw doubts of calibration must rise; {after[0]:g} follows {before[0]:g}")
            if after[1] < before[1]:
                raise ValueError(f"the probabilities of calibration must not fall; {after[1]:g} follows {before[1]:g}")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        wanted = LEARNED_WEIGHTS if self.doubt == "learned" else 0
        if len(self.weights) != wanted:
            raise ValueError(f"weights of a doubt by {self.doubt} are {wanted} numbers, not {len(self.weights)}")
        if len(self.text()) > MOST_CHARS:
            raise ValueError(f"the plan has more than {MOST_CHARS} characters as JSON; round its numbers")
        return self

    def calibrated(self, raw: float) -> float:
        """Return the probability that the answer is not good enough, from a raw doubt (0 to 1)."""
        knots = self.calibration
        if not knots:
            return min(1.0, max(0.0, raw))
        place = bisect_right(knots, raw, key=lambda knot: knot[0])
        if place == 0:
            return knots[0][1]
        if place == len(knots):
            return knots[-1][1]
        (low, start), (high, end) = knots[place - 1], knots[place]
        return start + (end - start) * (raw - low) / (high - low)

    def chance(self, doubt: float) -> float:
        """Return the probability of escalating at a calibrated doubt: at ``above`` even, and certain outside
        ``above ± width``; without a width 1 only above it."""
        above = 1.0 if self.above is None else self.above
        if above >= 1.0:
            return 0.0
        if self.width <= 0.0:
            return float(doubt > above)
        return min(1.0, max(0.0, 0.5 + (doubt - above) / (2 * self.width)))

    def text(self) -> str:
        """Return the plan as an arm's parameters carry it."""
        return self.model_dump_json()


@lru_cache(1024)  # a policy's plans are read for every call of their arms
def read_plan(text: str) -> Escalation:
    """Return the plan that an arm's parameters carry.

    Raises:
        ValueError: it is none, naming the field.
    """
    try:
        plan = Escalation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join([PLAN, *(str(part) for part in first["loc"])])
        raise ValueError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None
    if plan.above is None:
        raise ValueError(f"{PLAN}.above: is missing")
    return plan


def break_even_doubt(extra_cost_usd: float, price: float, gain_when_right: float = 1.0) -> float:
    """Return the doubt at which escalating pays: what the strong arm costs more, at the price of money (reward a
    dollar), over what it gains when the cheap one was wrong."""
    return min(1.0, max(0.0, extra_cost_usd * price / gain_when_right))
