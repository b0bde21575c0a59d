"""One call told by two spans: an SDK that makes its own, and the instrumentation or framework around it.

Both report the same tokens, so both being stored would be paid for twice (anthropic's SDK 2.12 with OpenLLMetry or with
OpenInference beside it, for one). The inner span ends first and is therefore exported first or together with the outer
one: it is kept, and the outer one is left out where it tells of the same. So is the second of two spans of a trace that
name the same answer of the provider with the same counts; the name alone does not do, since some servers draw it from a
thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import orjson

from flywheel.events import event_id
from flywheel_ingest.otlp.drafts import Draft

CONTAINS: Final = "contains_call"
"""Flag of a call inside of which there is another, of which it tells something else: perhaps counted in both."""

TellBefore = Callable[[str], bytes | None]
"""What an earlier request had remembered under a key."""


class Once(NamedTuple):
    """Which of the calls, by their places, tell what others tell; and what to remember of the others by key."""

    again: frozenset[int]
    remember: list[tuple[str, bytes]]


class _Signature(NamedTuple):
    """By what two spans of one call are known to be such."""

    embedding: bool
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None


class _Answer(NamedTuple):
    """The first span that named an answer, and the counts it gave."""

    span_id: str
    input_tokens: int | None
    output_tokens: int | None


def told_once(calls: Sequence[Draft], told_before: TellBefore) -> Once:
    """Find the calls of a request that are told more than once. One that contains a call but tells of something else is
    flagged ``contains_call``."""
    again: set[int] = set()
    nested: dict[str, list[_Signature]] = {}
    answered: dict[str, _Answer] = {}
    for draft in calls:
        if draft.item.get("parent_span_id", draft.item["span_id"]) != draft.item["span_id"]:
            within = f"{draft.item['trace_id']}{draft.item['parent_span_id']}"
            nested.setdefault(within, []).append(_signature(draft))
    for place, draft in enumerate(calls):
        if _is_wrapper(draft, nested, told_before) or _is_answered(draft, answered, told_before):
            again.add(place)
    remember = [(within, orjson.dumps(list(signatures[-1]))) for within, signatures in nested.items()]
    remember += [(key, orjson.dumps(list(answer))) for key, answer in answered.items()]
    return Once(frozenset(again), remember)


def _is_wrapper(draft: Draft, nested: dict[str, list[_Signature]], told_before: TellBefore) -> bool:
    key = f"{draft.item['trace_id']}{draft.item['span_id']}"
    inside = list(nested.get(key, ()))
    before = told_before(key)
    if before is not None:
        inside.append(_Signature(*orjson.loads(before)))
    own = _signature(draft)
    inside = [each for each in inside if each.embedding == own.embedding]
    if any(_same(own, each) for each in inside):
        return True
    if inside:
        draft.flags.append(CONTAINS)
    return False


def _is_answered(draft: Draft, answered: dict[str, _Answer], told_before: TellBefore) -> bool:
    item = draft.item
    if "response_id" not in item:
        return False
    key = event_id("answer", item["trace_id"], item["response_id"])
    before = told_before(key)
    own = _Answer(item["span_id"], *draft.sides)
    first = answered.setdefault(key, own if before is None else _Answer(*orjson.loads(before)))
    return first.span_id != own.span_id and (None in (first.input_tokens, own.input_tokens) or first[1:] == own[1:])


def _same(outer: _Signature, inner: _Signature) -> bool:
    if outer.response_id is not None and inner.response_id is not None:
        return outer.response_id == inner.response_id
    counted = (outer.input_tokens, outer.output_tokens)
    return counted in ((None, None), (inner.input_tokens, inner.output_tokens))


def _signature(draft: Draft) -> _Signature:
    item = draft.item
    # A hash, since it is remembered and may be of any length here.
    answer = event_id("answer", item["response_id"]) if "response_id" in item else None
    return _Signature(item["operation"] == "EMBEDDINGS", answer, *draft.sides)
