"""One call told by two spans is one call: as Anthropic's SDK 2.12 does beside OpenLLMetry or OpenInference."""

from __future__ import annotations

from typing import Any

import pytest

from flywheel_ingest.core import Core
from flywheel_ingest.otlp import protobuf
from flywheel_ingest.otlp.intake import Taken, take
from flywheel_ingest.otlp.nesting import TellBefore

NOW_US = 1_795_234_200_000_000
USED = {"gen_ai.usage.input_tokens": 1112, "gen_ai.usage.output_tokens": 40}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
}
ANSWER = {"gen_ai.response.id": "msg_1"}
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.provider": "anthropic",
    "llm.model_name": "claude-sonnet-4-5",
    "llm.token_count.prompt": 1112,
    "llm.token_count.completion": 40,
}


def span(otlp: Any, number: int, *said: dict[str, Any], parent: int = 0) -> Any:
    made = otlp.span({key: value for each in said for key, value in each.items()}, number=number)
    made.parent_span_id = parent.to_bytes(8, "big") if parent else b""
    return made


def judged(core: Core, otlp: Any, *spans: Any, told_before: TellBefore = lambda _: None) -> Taken:
    entries = protobuf.read_traces(otlp.traces(*spans).SerializeToString(), max_records=99, max_record_bytes=9_999)
    return take(core, entries, NOW_US, keep_sampled_events=False, told_before=told_before)


def numbers(taken: Taken) -> list[int]:
    return [int(fact.event["span_id"], 16) for fact in taken.facts.get("call", [])]


def flags(taken: Taken) -> list[list[str]]:
    return [fact.event.get("flags", []) for fact in taken.facts.get("call", [])]


def test_the_inner_of_two_is_the_call(core: Core, otlp: Any) -> None:
    outer, inner = span(otlp, 1, OPENINFERENCE), span(otlp, 2, CHAT, USED, ANSWER, parent=1)
    for order in ((outer, inner), (inner, outer)):
        taken = judged(core, otlp, *order)
        assert numbers(taken) == [2]
        assert +taken.verdicts == {"stored": 1, "told_before": 1}


def test_a_framework_around_an_instrumentation_around_an_sdk(core: Core, otlp: Any) -> None:
    without_counts = {key: value for key, value in OPENINFERENCE.items() if "token_count" not in key}
    spans = [
        span(otlp, 3, CHAT, USED, ANSWER, parent=2),
        span(otlp, 2, CHAT, USED, ANSWER, parent=1),
        span(otlp, 1, without_counts),
    ]
    assert numbers(judged(core, otlp, *spans)) == [3]


def test_siblings_that_name_one_answer_are_one_call(core: Core, otlp: Any) -> None:
    first, second = span(otlp, 2, CHAT, USED, ANSWER, parent=9), span(otlp, 3, CHAT, USED, ANSWER, parent=9)
    assert numbers(judged(core, otlp, first, second)) == [2]
    without_counts = span(otlp, 3, CHAT, ANSWER, parent=9)
    assert numbers(judged(core, otlp, first, without_counts)) == [2]
    by_chance = span(otlp, 5, CHAT, {**USED, "gen_ai.usage.output_tokens": 41}, ANSWER, parent=9)
    assert numbers(judged(core, otlp, first, by_chance)) == [2, 5]
    other = span(otlp, 4, CHAT, USED, {"gen_ai.response.id": "msg_2"}, parent=9)
    assert numbers(judged(core, otlp, first, other)) == [2, 4]


def test_what_came_in_an_earlier_request_is_remembered(core: Core, otlp: Any) -> None:
    inner, outer = span(otlp, 2, CHAT, USED, ANSWER, parent=1), span(otlp, 1, OPENINFERENCE)
    sibling = span(otlp, 3, CHAT, USED, ANSWER)
    before = dict(judged(core, otlp, inner).remember)
    assert all(len(key) <= 48 and len(value) < 99 for key, value in before.items())
    assert numbers(judged(core, otlp, outer, told_before=before.get)) == []
    assert numbers(judged(core, otlp, sibling, told_before=before.get)) == []
    assert numbers(judged(core, otlp, inner, told_before=before.get)) == [2], "exported again, it is still the call"


@pytest.mark.parametrize(
    "inner",
    [
        {**CHAT, "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 40},
        {**CHAT, **USED, "gen_ai.response.id": "msg_2"},
    ],
    ids=["other counts", "another answer"],
)
def test_a_call_that_contains_another_is_kept_and_flagged(core: Core, otlp: Any, inner: dict[str, Any]) -> None:
    taken = judged(core, otlp, span(otlp, 1, CHAT, USED, ANSWER), span(otlp, 2, inner, parent=1))
    assert numbers(taken) == [1, 2]
    assert ["contains_call" in each for each in flags(taken)] == [True, False]


def test_what_is_no_call_of_the_same_kind_hides_nothing(core: Core, otlp: Any) -> None:
    embedding = {**CHAT, "gen_ai.operation.name": "embeddings"}
    taken = judged(core, otlp, span(otlp, 1, CHAT), span(otlp, 2, embedding, parent=1), span(otlp, 3, CHAT, parent=3))
    assert numbers(taken) == [1, 2, 3]
    assert not any("contains_call" in each for each in flags(taken))


def test_retries_inside_a_router_are_calls_and_the_router_is_not(core: Core, otlp: Any) -> None:
    failed = span(otlp, 2, CHAT, {"error.type": "RateLimitError"}, parent=1)
    taken = judged(core, otlp, failed, span(otlp, 3, CHAT, USED, parent=1), span(otlp, 1, CHAT, USED))
    assert numbers(taken) == [2, 3]
    assert [fact.event["status"] for fact in taken.facts["call"]] == ["ERROR", "OK"]
