"""Answers with what they were worth, from a user's own lines or from ClickHouse: what a cascade's doubt is calibrated
on. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from flywheel.policy.cascade import DoubtKind
from flywheel.policy.doubt import Answer, raw_doubt
from flywheel.routing.answer_doubt import answer_signals
from flywheel.store import quoted

MOST_ANSWER_CHARS: Final = 200_000
MOST_TOKENS: Final = 200_000
_MOST_WEIGHT: Final = 1e6
_FIELDS: Final = frozenset(
    {"doubt", "answer", "question", "logprobs", "finish_reason", "tool_calls", "wants_json", "ok", "score", "weight"}
)


class BadLine(Exception):
    """What is wrong with a line, by its field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class JudgedAnswer(NamedTuple):
    """A raw doubt, how wrong the answer was (0 to 1), how many answers it stands for; and the signals that a doubt is
    learned from, where that is wanted (then the raw one is not known yet, and 0)."""

    raw: float
    wrong: float
    weight: float
    signals: tuple[float, ...] = ()


def read_answers(lines: Iterable[bytes], kind: DoubtKind) -> Iterator[tuple[int, JudgedAnswer | BadLine]]:
    """Yield each line that is not blank, by its number; ``kind``: what doubts are read from where a line has none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, _judged(_object(line), kind)
            except BadLine as error:
                yield number, error


def recorded_query(project: str, feature: str, *, most: int) -> str:
    """Return the query for the newest ``most`` answers of a feature that were judged and given to the caller, as
    doubt, score and weight.

    An answer that was replaced has no score of its own: where lots were drawn, those that stayed stand for it.
    """
    return f"""
SELECT c.doubt_raw AS doubt, o.quality AS score,
    if(c.escalation = 'kept', 1 / (1 - c.escalation_propensity), 1.) AS weight
FROM v_calls AS c INNER JOIN v_outcomes AS o ON c.project = o.project AND c.decision_id = o.decision_id
WHERE c.project = {quoted(project)} AND c.feature = {quoted(feature)} AND o.quality IS NOT NULL
    AND c.escalation IN ('kept', 'unpaid', 'unavailable', 'late') AND c.doubt_raw IS NOT NULL
ORDER BY c.occurred_at DESC, c.event_id LIMIT {most:d}"""


def recorded_answers(rows: Iterable[Sequence[float]]) -> list[JudgedAnswer]:
    """Return the answers that ``recorded_query`` found."""
    return [JudgedAnswer(doubt, 1.0 - score, weight) for doubt, score, weight in rows]


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLine("line", "is not JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise BadLine("line", "is not a JSON object")
    for name in found:
        if name not in _FIELDS:
            raise BadLine(name[:64], f"is no field; there are {', '.join(sorted(_FIELDS))}")
    return found


def _judged(found: Mapping[str, Any], kind: DoubtKind) -> JudgedAnswer:
    if ("doubt" in found) == ("answer" in found):
        raise BadLine("doubt", "a line has either doubt or answer")
    if ("ok" in found) == ("score" in found):
        raise BadLine("ok", "a line has either ok or score")
    weight = _number(found, "weight", _MOST_WEIGHT) if "weight" in found else 1.0
    if weight <= 0:
        raise BadLine("weight", "must be above 0")
    wrong = 1.0 - (_ok(found["ok"]) if "ok" in found else _number(found, "score", 1.0))
    if kind == "learned":
        if "doubt" in found:
            raise BadLine("answer", "is needed, as the doubt is learned from it")
        signals = answer_signals(_text(found, "question") if "question" in found else "", _text(found, "answer"))
        return JudgedAnswer(0.0, wrong, weight, tuple(signals))
    return JudgedAnswer(_number(found, "doubt", 1.0) if "doubt" in found else _read(found, kind), wrong, weight)


def _text(found: Mapping[str, Any], field: str) -> str:
    text = found[field]
    if not isinstance(text, str) or len(text) > MOST_ANSWER_CHARS:
        raise BadLine(field, f"must be a text of at most {MOST_ANSWER_CHARS:,} characters")
    return text


def _read(found: Mapping[str, Any], kind: DoubtKind) -> float:
    text = _text(found, "answer")
    reason = found.get("finish_reason")
    if reason is not None and not isinstance(reason, str):
        raise BadLine("finish_reason", "must be a text")
    wants_json = found.get("wants_json", False)
    if not isinstance(wants_json, bool):
        raise BadLine("wants_json", "must be true or false")
    calls = found.get("tool_calls", 0)
    if type(calls) is not int or calls < 0:
        raise BadLine("tool_calls", "must be a whole number")
    raw = raw_doubt(kind, Answer(text, reason, calls, wants_json, _logprobs(found.get("logprobs", []))))
    if raw is None:
        raise BadLine("logprobs", f"are needed for doubts from {kind}")
    return raw


def _logprobs(found: Any) -> list[float]:
    if not isinstance(found, list) or len(found) > MOST_TOKENS:
        raise BadLine("logprobs", f"must be a list of at most {MOST_TOKENS:,} numbers")
    for place, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 <= value <= 0:
            raise BadLine(f"logprobs.{place}", "must be a natural logarithm of a probability, 0 at most")
    return [float(value) for value in found]


def _ok(value: Any) -> float:
    if value in (0, 1):  # true and false too
        return float(value)
    raise BadLine("ok", "must be 0 or 1, true or false")


def _number(found: Mapping[str, Any], field: str, most: float) -> float:
    value = found[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadLine(field, f"must be a number from 0 to {most:g}")
    return float(value)
