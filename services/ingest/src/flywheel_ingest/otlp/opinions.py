"""What is said of a call: evaluations and feedback, from log records, span events and OpenInference's attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from flywheel.events import event_id
from flywheel_ingest.otlp import names
from flywheel_ingest.otlp.calls import call_id, put_service, sound_ids
from flywheel_ingest.otlp.drafts import Draft
from flywheel_ingest.otlp.records import Attributes, Log, Span, Value

_KINDS: Final = {"LLM": "JUDGE", "CODE": "HEURISTIC", "JUDGE": "JUDGE", "HEURISTIC": "HEURISTIC", "HUMAN": "HUMAN"}
_KINDS_OF_OURS: Final = {**_KINDS, "BUSINESS": "BUSINESS"}
_PASSED: Final = {"pass": True, "passed": True, "fail": False, "failed": False}


class Place(NamedTuple):
    """Of which call something is said, and when (nanoseconds since the epoch)."""

    trace_id: bytes
    span_id: bytes
    at_ns: int


def opinion_of_event(name: str, attributes: Attributes, resource: Attributes, place: Place) -> Draft | None:
    """The evaluation or feedback that an event tells of; None for other events."""
    if name == names.EVALUATION_EVENT:
        return _evaluation(attributes, resource, place)
    if name == names.FEEDBACK_EVENT:
        return _feedback(attributes, resource, place)
    return None


def opinion_of_log(log: Log, name: str, resource: Attributes) -> Draft | None:
    """The evaluation or feedback that a log record tells of; its span context is the call it judges."""
    return opinion_of_event(name, log.attributes, resource, Place(log.trace_id, log.span_id, log.time_ns))


def opinions_of_span(span: Span, resource: Attributes) -> Sequence[Draft]:
    """What the events of a span, and OpenInference's numbered attributes, say of it."""
    drafts = [
        draft
        for event in span.events
        if (draft := opinion_of_event(event.name, event.attributes, resource, _at(span, event.time_ns)))
    ]
    return drafts + _numbered(span, resource)


def _at(span: Span, time_ns: int) -> Place:
    return Place(span.trace_id, span.span_id, time_ns or span.end_ns)


def _evaluation(attributes: Attributes, resource: Attributes, place: Place) -> Draft:
    draft = Draft("evaluation", (attributes, resource))
    draft.texts(names.TEXTS, names.WHO)
    draft.texts(names.EVALUATION_TEXTS)
    draft.texts({"evaluator": names.EVALUATION_NAME})
    draft.numbers(names.EVALUATION_NUMBERS)
    draft.numbers({"score": names.EVALUATION_SCORE})
    kind = draft.find(names.EVALUATION_KIND)
    if kind is not None:
        symbol = _KINDS_OF_OURS.get(str(kind[1]).upper())
        if symbol is None:
            draft.issue(kind[0], "is no kind of evaluator")
        else:
            draft.put("kind", symbol, kind[0])
    draft.quote("explanation", names.EVALUATION_EXPLANATION)
    return _finish_evaluation(draft, place)


def _finish_evaluation(draft: Draft, place: Place) -> Draft:
    item = draft.item
    label = item.get("label")
    if isinstance(label, str) and label.lower() in _PASSED:
        item["passed"] = _PASSED[label.lower()]
    _put_place(draft, place)
    item["event_id"] = event_id(
        *(
            "otlp-evaluation",
            item.get("request_id", ""),
            item.get("call_id", ""),
            place.at_ns,
            item.get("evaluator", ""),
        ),
        *(item.get("evaluator_version", ""), repr(item.get("score")), item.get("label", "")),
    )
    return draft


def _feedback(attributes: Attributes, resource: Attributes, place: Place) -> Draft:
    draft = Draft("feedback", (attributes, resource))
    draft.texts(names.TEXTS, names.WHO)
    draft.texts(names.FEEDBACK_TEXTS)
    draft.numbers({"value": names.FEEDBACK_VALUE})
    draft.quote("comment", names.FEEDBACK_COMMENT)
    return _finish_feedback(draft, place)


def _finish_feedback(draft: Draft, place: Place) -> Draft:
    item = draft.item
    if "source" in item:
        item["source"] = str(item["source"]).upper()
    _put_place(draft, place)
    item["event_id"] = event_id(
        *("otlp-feedback", item.get("request_id", ""), place.span_id.hex(), place.at_ns, item.get("kind", "")),
        *(repr(item.get("value")), item.get("label", "")),
    )
    return draft


def _put_place(draft: Draft, place: Place) -> None:
    """Which request, and which call where a span says so: else the request is known by the provider's id of the answer
    alone, which is also the ``response_id`` of its call."""
    draft.put("occurred_at", place.at_ns // 1000, "time_unix_nano")
    draft.texts(names.TEXTS, ("request_id",))
    put_service(draft)
    unsound = sound_ids(place.trace_id, place.span_id)
    if unsound is None and draft.kind == "evaluation":
        draft.item["call_id"] = call_id(place.trace_id, place.span_id)
    if "request_id" not in draft.item and unsound != "trace_id":
        draft.put("request_id", place.trace_id.hex(), "trace_id")
    if "request_id" not in draft.item:
        answer = draft.find(names.TEXTS["response_id"])
        if answer is not None and isinstance(answer[1], str):
            draft.put("request_id", answer[1], answer[0])


def _numbered(span: Span, resource: Attributes) -> list[Draft]:
    """OpenInference's ``evaluations.N.evaluation.*`` and ``annotations.N.annotation.*``. An annotation by a person is
    feedback, everything else an evaluation."""
    groups: dict[str, dict[str, tuple[str, Value]]] = {}
    for key, value in span.attributes.values.items():
        found = names.opinion_key(key)
        if found is not None and value is not None:
            groups.setdefault(found[0], {})[found[1]] = (key, value)
    return [_one_numbered(span, resource, which, parts) for which, parts in sorted(groups.items())]


def _one_numbered(span: Span, resource: Attributes, which: str, parts: dict[str, tuple[str, Value]]) -> Draft:
    kind = str(parts.get("annotator_kind", ("", ""))[1]).upper()
    feedback = "annotations" in which and kind == "HUMAN"
    # Its own attributes under the names of the fields, so that each is read and blamed as any other.
    own = Attributes({key: value for key, value in parts.values()})
    said = span.attributes.said
    own.said = {key: said[key] for key in said if key.startswith(f"{which}.") and key.endswith(".explanation")}
    draft = Draft("feedback" if feedback else "evaluation", (own, span.attributes, resource))
    draft.texts(names.TEXTS, names.WHO)
    fields = {"label": (f"{_key(parts, 'label')}",), ("kind" if feedback else "evaluator"): (_key(parts, "name"),)}
    draft.texts(fields)
    draft.numbers({("value" if feedback else "score"): (_key(parts, "score"),)})
    draft.quote("comment" if feedback else "explanation", own.said)
    place = Place(span.trace_id, b"" if which.startswith("trace.") else span.span_id, span.end_ns)
    if feedback:
        draft.item["source"] = "USER"
        return _finish_feedback(draft, place)
    if kind in _KINDS:
        draft.item["kind"] = _KINDS[kind]
    return _finish_evaluation(draft, place)


def _key(parts: dict[str, tuple[str, Value]], part: str) -> str:
    return parts[part][0] if part in parts else ""
