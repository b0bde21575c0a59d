"""The records of a request, judged: facts by kind, and for every record a verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from flywheel_ingest.core import Core, Fact, Refusal
from flywheel_ingest.items import KINDS, FieldError, KindName
from flywheel_ingest.otlp import names
from flywheel_ingest.otlp.calls import (
    NOT_A_CALL,
    NOT_GENAI,
    call_of_event,
    call_of_span,
    operation_of,
    sound_ids,
)
from flywheel_ingest.otlp.contents import forget, parts_of, put_content, values_in
from flywheel_ingest.otlp.drafts import Draft
from flywheel_ingest.otlp.nesting import TellBefore, told_once
from flywheel_ingest.otlp.opinions import opinion_of_log, opinions_of_span
from flywheel_ingest.otlp.records import Entry, Log, Span, TooManyRecords, Unreadable

Verdict = Literal["stored", "rejected", "not_genai", "not_a_call", "left_to_span", "content_only", "told_before"]
MAX_TOLD: Final = 10
"""So many records are named in an answer."""
INCOMPLETE: Final = "attribute_invalid"
"""Flag of a call of which an attribute was left out because it is malformed."""


class Told(NamedTuple):
    """What is wrong with a record: where it stands in the request, and what could not be taken of it."""

    path: str
    errors: tuple[FieldError, ...]


@dataclass(slots=True)
class Taken:
    """A request divided: facts to publish, verdicts of its records, how many values of content were dropped, and what
    to remember, once the facts are durable, so that a later span of the same call is known."""

    facts: dict[KindName, list[Fact]] = field(default_factory=dict)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    rejected: list[Told] = field(default_factory=list)
    incomplete: list[Told] = field(default_factory=list)
    content: int = 0
    remember: list[tuple[str, bytes]] = field(default_factory=list)


class _Pending(NamedTuple):
    entry: int
    path: str
    draft: Draft


def take(
    core: Core,
    entries: Iterable[Entry],
    now_us: int,
    *,
    keep_sampled_events: bool,
    keep_content: bool = True,
    max_facts: int = 20_000,
    told_before: TellBefore = lambda _: None,
) -> Taken:
    """Judge the records of a request. ``now_us``: our clock, microseconds since the epoch.

    ``keep_sampled_events``: whether a call's event is a call of its own right where its span was recorded too, for
    those who export logs here and traces elsewhere; with both, the span is the better witness. ``keep_content``:
    whether content is taken; else it is counted only.

    Raises:
        TooManyRecords: they make more than ``max_facts``; a span may hold many evaluations.
    """
    taken = Taken()
    pending: list[_Pending] = []
    for number, entry in enumerate(entries):
        parts = parts_of(entry.record)
        if not keep_content:
            forget(parts)
        drafts, verdict, errors = _drafts(entry, keep_sampled_events=keep_sampled_events)
        for draft in drafts:
            if draft.kind == "call":
                put_content(draft, parts, room=core.limits.max_item_bytes * 3 // 4)
        taken.content += max(0, values_in(entry.record) - sum(draft.stored for draft in drafts))
        if verdict is not None:
            taken.verdicts[verdict] += 1
        if errors:
            taken.rejected.append(Told(entry.path, errors))
        pending += (_Pending(number, entry.path, draft) for draft in drafts)
        if len(pending) > max_facts:
            raise TooManyRecords(max_facts)
    _admit(core, _told_once(pending, taken, told_before), taken, now_us)
    return taken


def _told_once(pending: list[_Pending], taken: Taken, told_before: TellBefore) -> list[_Pending]:
    calls = [each for each in pending if each.draft.kind == "call"]
    once = told_once([each.draft for each in calls], told_before)
    taken.remember = once.remember
    again = {id(calls[place]) for place in once.again}
    kept = [each for each in pending if id(each) not in again]
    taken.verdicts["told_before"] = len({each.entry for each in pending} - {each.entry for each in kept})
    return kept


def _drafts(entry: Entry, *, keep_sampled_events: bool) -> tuple[list[Draft], Verdict | None, tuple[FieldError, ...]]:
    """What a record becomes; a verdict where it becomes nothing."""
    match entry.record:
        case Unreadable(errors):
            return [], "rejected", errors
        case Span():
            return _of_span(entry.record, entry)
        case Log():
            return _of_log(entry.record, entry, keep_sampled_events=keep_sampled_events)


def _of_span(span: Span, entry: Entry) -> tuple[list[Draft], Verdict | None, tuple[FieldError, ...]]:
    operation = operation_of(span.attributes)
    drafts = list(opinions_of_span(span, entry.resource))
    if operation not in (NOT_GENAI, NOT_A_CALL):
        unsound = sound_ids(span.trace_id, span.span_id)
        if unsound is not None:
            return [], "rejected", (_unsound(unsound),)
        drafts.insert(0, call_of_span(span, entry.resource, entry.scope, operation))
    if drafts:
        return drafts, None, ()
    return [], ("not_genai" if operation == NOT_GENAI else "not_a_call"), ()


def _of_log(
    log: Log, entry: Entry, *, keep_sampled_events: bool
) -> tuple[list[Draft], Verdict | None, tuple[FieldError, ...]]:
    name = log.name
    opinion = opinion_of_log(log, name, entry.resource)
    if opinion is not None:
        return [opinion], None, ()
    if name in names.CONTENT_EVENTS:
        return [], "content_only", ()
    if name != names.CALL_EVENT:
        return [], ("not_a_call" if log.attributes.genai or name.startswith("gen_ai.") else "not_genai"), ()
    operation = operation_of(log.attributes)
    if operation in (NOT_A_CALL, NOT_GENAI):
        return [], "not_a_call", ()
    unsound = sound_ids(log.trace_id, log.span_id)
    if unsound is not None:
        return [], "rejected", (_unsound(unsound),)
    if log.sampled and not keep_sampled_events:
        return [], "left_to_span", ()
    return [call_of_event(log, entry.resource, entry.scope, operation)], None, ()


def _unsound(field_name: str) -> FieldError:
    size = 16 if field_name == "trace_id" else 8
    return FieldError(field_name, f"is not {size} bytes, or all zero")


def _admit(core: Core, pending: list[_Pending], taken: Taken, now_us: int) -> None:
    """Have the core judge the items; what it refuses is tried once more without the fields it named."""
    stored: set[int] = set()
    refused: dict[int, Told] = {}
    for kind in KINDS:
        mine = [each for each in pending if each.draft.kind == kind]
        admission = core.admit(kind, [each.draft.item for each in mine], now_us)
        facts = {fact.position: fact for fact in admission.facts}
        for refusal in admission.refusals:
            repaired = _again(core, mine[refusal.position], refusal, now_us)
            if repaired is not None:
                facts[refusal.position] = repaired
        for position, each in enumerate(mine):
            fact = facts.get(position)
            told = Told(each.path, tuple(_issues(each.draft)))
            if fact is None:
                refused.setdefault(each.entry, told)
                continue
            stored.add(each.entry)
            _flag(fact, each.draft, incomplete=bool(told.errors))
            taken.facts.setdefault(kind, []).append(fact)
            if told.errors:
                taken.incomplete.append(told)
    # A span whose call was refused is rejected even where what it says of others was stored, and the other way round.
    taken.verdicts["rejected"] += len(refused)
    taken.verdicts["stored"] += len(stored - refused.keys())
    taken.rejected += refused.values()


def _again(core: Core, each: _Pending, refusal: Refusal, now_us: int) -> Fact | None:
    draft, required = each.draft, KINDS[each.draft.kind].required | {"event_id"}
    for error in refusal.errors:
        name = error.field.partition(".")[0]
        draft.issue(draft.sources.get(name, name), _said(error))
        if name in required or name not in draft.item:
            return None
        del draft.item[name]
    second = core.admit(draft.kind, [draft.item], now_us)
    for refused in second.refusals:
        for error in refused.errors:
            draft.issue(draft.sources.get(error.field, error.field), _said(error))
    return second.facts[0] if second.facts else None


def _said(error: FieldError) -> str:
    if error.field == "occurred_at":
        return f"{error.message.partition(';')[0]}; it is in nanoseconds since the epoch"
    return error.message


def _issues(draft: Draft) -> list[FieldError]:
    return [*draft.issues, *(error for layer in draft.layers for error in layer.bad)]


def _flag(fact: Fact, draft: Draft, *, incomplete: bool) -> None:
    flags = [*draft.flags, *([INCOMPLETE] if incomplete else [])]
    if flags and draft.kind == "call":
        fact.event["flags"] = list(dict.fromkeys([*fact.event.get("flags", ()), *flags]))


def message_of(taken: Taken) -> str:
    """What the sender is told; empty when everything was taken as it came."""
    parts = [
        f"{count} {verb}: " + "; ".join(_told(each) for each in told[:MAX_TOLD])
        for verb, told in (("rejected", taken.rejected), ("taken without some attributes", taken.incomplete))
        if (count := len(told))
    ]
    return " | ".join(parts)


def _told(told: Told) -> str:
    return f"{told.path}: " + ", ".join(f"{error.field} {error.message}".strip() for error in told.errors[:4])
