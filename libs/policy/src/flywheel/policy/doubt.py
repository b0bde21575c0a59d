"""Raw doubts about an answer, 0 to 1, from what comes with it. Pure.

None of them is a probability: how often an answer with so much doubt is wrong is what a calibration says.

- ``logprobs``: 1 less the geometric mean of the tokens' probabilities, as the model gave them (length-normalised
  likelihood; Malinin and Gales, 2021).
- ``least_logprobs``: the same over the tenth of the tokens that the model was least sure of (a lower quantile says more
  of a long answer than the mean does: Gupta et al., 2024).
- ``form``: signs in the text and in how it ended. Cheap, needs nothing of the provider, and weak.
- ``learned``: linear in cheap signals of question and answer, by weights from answers whose worth was known
  (``flywheel.routing.answer_doubt``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from flywheel.policy.cascade import DoubtKind
from flywheel.routing.answer_doubt import learned_doubt

LEAST_SHARE: Final = 0.1
_LEAST_LOGPROB: Final = -20.0
"""Providers write -9999 for what they take for impossible; one such token should not be all that counts."""

WEIGHTS: Final = {
    "empty": 1.0, "not_json": 0.95, "filtered": 0.9, "refusal": 0.8, "cut": 0.6, "hedging": 0.4, "unfinished": 0.3,
}  # fmt: skip
"""How much each sign counts by itself; several count as if they were independent."""

_FILTERED: Final = frozenset({"content_filter", "refusal"})
_CUT: Final = frozenset({"length", "max_tokens"})
_OPENING_CHARS: Final = 200
_LONG_CHARS: Final = 200
_MOST_CHARS: Final = 100_000
_REFUSAL: Final = re.compile(
    r"\b(?:i['’]?m sorry|i am sorry|i apologi[sz]e|i (?:can(?:no|['’])t|can not|am unable to|['’]?m unable to)"
    r"|i['’]m (?:not able|unable) to|as an ai\b|as a (?:large )?language model)",
    re.IGNORECASE,
)
_HEDGING: Final = re.compile(
    r"\b(?:not (?:entirely )?(?:sure|certain|clear)|unsure|uncertain|unclear|ambiguous|hard to (?:say|tell)"
    r"|(?:not|isn['’]t) (?:enough|sufficient) information|cannot be determined|(?:not|isn['’]t) possible to (?:say|tell"
    r"|determine)|i (?:think|believe|guess|assume)|assuming|(?:let['’]?s|we(?: will| can)?) assume|it (?:seems|appears)"
    r"|(?:might|may|could) be wrong|to the best of my knowledge|i don['’]t know|there (?:may|might) be (?:a|an) "
    r"(?:mistake|error)|does(?: not|n['’]t) make sense)",
    re.IGNORECASE,
)
_ENDED: Final = re.compile(r"[^\w\s,;:(\[{<=+*/–—-]\W*$|\d\W*$")
_FENCE: Final = "```"


class Answer(NamedTuple):
    """An answer as far as doubts look at it. ``logprobs``: of its tokens, natural logarithms; ``wants_json``: whether
    the caller asked for JSON; ``question``: what was asked last."""

    text: str = ""
    finish_reason: str | None = None
    tool_calls: int = 0
    wants_json: bool = False
    logprobs: Sequence[float] = ()
    question: str = ""


def raw_doubt(kind: DoubtKind, answer: Answer, weights: Sequence[float] = ()) -> float | None:
    """Return the raw doubt of an answer; None where what it is read from did not come. An answer without any content is
    wholly doubted, whatever the kind. ``weights``: of a learned doubt."""
    if _empty(answer):
        return 1.0
    if kind == "form":
        return form_doubt(answer)
    if kind == "learned":
        return learned_doubt(weights, answer.question, answer.text)
    if not answer.logprobs:
        return None
    return logprob_doubt(answer.logprobs) if kind == "logprobs" else least_logprob_doubt(answer.logprobs)


def logprob_doubt(logprobs: Sequence[float]) -> float:
    """Return 1 less the geometric mean of the probabilities of tokens (at least one), from their logarithms."""
    usable = [min(0.0, max(_LEAST_LOGPROB, each)) for each in logprobs]
    return -math.expm1(math.fsum(usable) / len(usable))


def least_logprob_doubt(logprobs: Sequence[float]) -> float:
    """Return the doubt of the least likely tenth of the tokens, at least one."""
    return logprob_doubt(sorted(logprobs)[: max(1, math.ceil(LEAST_SHARE * len(logprobs)))])


def form_doubt(answer: Answer) -> float:
    """Return the doubt that an answer's form gives: 1 less the product of 1 less the weight of each sign."""
    return 1.0 - math.prod(1.0 - WEIGHTS[sign] for sign in form_signs(answer))


def form_signs(answer: Answer) -> tuple[str, ...]:
    """Return the signs found, names of ``WEIGHTS``. Phrases are looked for in English only, and in the
    first 100,000 characters."""
    text = answer.text.strip()
    if not text:
        return ("empty",) if _empty(answer) else ()
    found = {
        "not_json": answer.wants_json and not _is_json(text),
        "filtered": answer.finish_reason in _FILTERED,
        "refusal": _REFUSAL.search(text[:_OPENING_CHARS]) is not None,
        "cut": answer.finish_reason in _CUT,
        "hedging": _HEDGING.search(text, 0, _MOST_CHARS) is not None,
        "unfinished": _unfinished(text) and not answer.tool_calls,
    }
    return tuple(sign for sign, there in found.items() if there)


def _empty(answer: Answer) -> bool:
    return not answer.tool_calls and not answer.text.strip()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unfinished(text: str) -> bool:
    """Whether a text long enough to have sentences stops inside one, or leaves a block of code open."""
    return text.count(_FENCE) % 2 == 1 or (len(text) > _LONG_CHARS and _ENDED.search(text[-_OPENING_CHARS:]) is None)
