"""A cascade under way: whether an answer is good enough, or what the plan escalates to is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flywheel.policy.cascade import Escalation
from flywheel.policy.doubt import Answer, raw_doubt
from flywheel_router.core import Course, Sequel
from flywheel_router.gateway.asking import Asked
from flywheel_router.gateway.streams import Tally

Verdict = Literal["kept", "escalated", "unjudged", "unpaid", "unavailable", "late"]
"""``kept``: good enough, or lots drawn so; ``escalated``: the other arm is asked; ``unjudged``: nothing to read a doubt
from. The answer is doubted and stays all the same: ``unpaid`` as no reservation pays another call, ``unavailable`` as
the other arm may not or cannot serve now, ``late`` as the deadline has passed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was made of an answer. ``raw`` and ``doubt``: before and after calibration; ``chance``: the probability of
    escalating at that doubt. None: unknown."""

    verdict: Verdict
    raw: float | None = None
    doubt: float | None = None
    chance: float | None = None


def plan_for(asked: Asked, course: Course) -> Escalation | None:
    """The plan by which the chosen arm's answer is judged. Embeddings have nothing to doubt, and of several answers
    nobody knows which one the caller will take."""
    return course.plan if asked.endpoint != "embeddings" and asked.choices == 1 else None


def asks_logprobs(asked: Asked, plan: Escalation | None) -> bool:
    """Whether the provider is asked for the probabilities of its tokens."""
    return plan is not None and plan.doubt in ("logprobs", "least_logprobs") and asked.endpoint == "chat"


def judge(
    plan: Escalation, asked: Asked, tally: Tally, *, draw: float, sequel: Callable[[], Sequel], left_s: float
) -> Judged:
    """Judge an answer.

    Args:
        draw: a number in [0, 1) that draws lots where the plan wants them.
        sequel: what may follow; asked only where the answer is doubted.
        left_s: seconds until the deadline.
    """
    raw = raw_doubt(plan.doubt, _answer(asked, tally), plan.weights)
    if raw is None:
        return Judged("unjudged")
    doubt = plan.calibrated(raw)
    chance = plan.chance(doubt)
    if draw >= chance:
        return Judged("kept", raw, doubt, chance)
    if left_s <= 0:
        return Judged("late", raw, doubt, chance)
    follows = sequel()
    return Judged(follows.why_not or "escalated", raw, doubt, chance)


def _answer(asked: Asked, tally: Tally) -> Answer:
    wanted = asked.body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    return Answer(
        text="".join(tally.texts),
        finish_reason=tally.finish_reason,
        tool_calls=tally.tool_calls,
        wants_json=kind in ("json_object", "json_schema"),
        logprobs=tally.logprobs,
        question=question_of(asked.body.get("messages")),
    )


def question_of(messages: object) -> str:
    """The text of the last message of the user, in either format; empty where there is none."""
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            texts = [part.get("text") for part in parts if isinstance(part, dict)]
            return "\n".join(text for text in texts if isinstance(text, str))
    return ""
