"""The decision log: journalled before the answer, sent after it, sent again after a crash."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_parts import KeptProducer, bench, policy, request

from flywheel.events import Codec, header, load_registry
from flywheel.journal import Entry, Journal, JournalError
from flywheel.observe import Metrics
from flywheel.stream import Unavailable
from flywheel_router.decision_log import pack, send_batch, unpack
from flywheel_router.reading import RequestInvalid
from flywheel_router.remote_decisions import read_decision

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(request_id=texts, value=st.binary(max_size=300), trace=st.none() | st.just(f"00-{'a' * 32}-{'b' * 16}-01"))
def test_what_is_packed_is_sent(request_id: str, value: bytes, trace: str | None) -> None:
    event = {"event_id": "ab" * 16, "request_id": request_id, "occurred_at": 1_790_000_000_000_000}
    record = unpack(Entry(1, pack(event, value, trace)))
    assert (record.topic, record.key, record.value) == ("llm-decisions", request_id.encode(), value)
    assert header(record.headers, "ce_id") == "ab" * 16
    assert header(record.headers, "ce_type") == "flywheel.decision"
    assert header(record.headers, "ce_time") == "2026-09-21T14:13:20.000000Z"
    assert header(record.headers, "traceparent") == trace


def test_an_entry_of_another_format_is_an_error_not_a_guess() -> None:
    with pytest.raises(JournalError, match="format 9"):
        unpack(Entry(1, b"\x09" + bytes(40)))


async def test_decisions_wait_for_kafka_in_order_and_are_trimmed_when_acknowledged(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        router.publish(policy())
        router.producer.away = True
        for number in range(30):
            assert (await router.http.post("/v1/decide", json=request(number))).status_code == 200
        await asyncio.sleep(0.05)
        assert router.log.waiting == 30
        router.producer.away = False
        events = await router.sent()
        assert [event["request_id"] for event in events] == [f"r{number}" for number in range(30)]
        assert router.log.waiting == 0
        assert router.parts.metrics.value("decision_log_total", verdict="acknowledged") == 30


async def test_what_a_dead_router_answered_is_sent_by_the_next(tmp_path: Path) -> None:
    async with bench(tmp_path) as first:
        first.publish(policy())
        first.producer.away = True
        answers = [(await first.http.post("/v1/decide", json=request(number))).json() for number in range(20)]
        # it ends here without having sent anything
    async with bench(tmp_path) as second:
        events = await second.sent()
    assert [event["event_id"] for event in events] == [each["decision_id"] for each in answers]


async def test_two_routers_share_a_folder_and_orphans_are_drained(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, bench(tmp_path) as two:
        folders = {each.log._journal.directory.name for each in (one, two)}
        assert folders == {"0", "1"}


async def test_batches_are_acknowledged_one_by_one(tmp_path: Path) -> None:
    class Failing(KeptProducer):
        async def send_many(self, records: Any) -> None:
            if len(self.sent) >= 512:
                raise Unavailable("away")
            await super().send_many(records)

    metrics = Metrics()
    with Journal(tmp_path) as journal:
        for number in range(900):
            journal.append(pack({"event_id": "x", "request_id": str(number), "occurred_at": 0}, b"v", None))
        producer, healthy = Failing(), KeptProducer()
        with pytest.raises(Unavailable):
            while journal.unread:
                await send_batch(journal, producer, metrics)
        assert journal.waiting == 900 - len(producer.sent)
        journal.rewind()
        while journal.unread:
            await send_batch(journal, healthy, metrics)
        assert [record.key for record in producer.sent + healthy.sent] == [str(n).encode() for n in range(900)]


NOW_US = 1_790_000_060_000_000


def made_by_a_client(**changes: Any) -> dict[str, Any]:
    item = {
        "feature": "support", "request_id": "r1", "occurred_at": 1_750_000_000_000_000, "policy": "support",
        "policy_version": 3, "policy_kind": "thompson_beta", "arm": "cheap", "propensity": 0.75,
        "arms": ["cheap", "strong"], "propensities": [0.75, 0.25], "reason": "policy", "params": {"temperature": "0.2"},
        "context": {"plan": "pro"}, "model": "openai/cheap", "user": "ann", "policy_age_ms": 12.5,
    }  # fmt: skip
    return {name: value for name, value in (item | changes).items() if value is not ...}


def test_a_clients_decision_becomes_an_event_that_its_schema_takes() -> None:
    event = read_decision(made_by_a_client(), lambda project, user: f"hash of {user}", NOW_US)
    value = Codec(load_registry()).decode(Codec(load_registry()).encode("decision", event)).value
    assert (value["decider"], value["user_hash"], value["project"]) == ("client", "hash of ann", "default")
    assert (value["arms"], value["propensities"]) == (["cheap", "strong"], [0.75, 0.25])
    item = made_by_a_client(features=[4096, -7], encoding="e")
    event = read_decision(item, lambda project, user: None, NOW_US)
    value = Codec(load_registry()).decode(Codec(load_registry()).encode("decision", event)).value
    assert (value["features"], value["encoding"]) == ([4096, -7], "e")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"propensities": [0.75, 0.2]}, "propensities"),
        ({"propensities": [0.75]}, "propensities"),
        ({"propensities": "0.75"}, "propensities"),
        ({"propensities": [0.75, "0.25"]}, "propensities[1]"),
        ({"propensities": [1.5, -0.5], "propensity": 1.5}, "propensity"),
        ({"propensity": 0.25}, "propensity"),
        ({"propensity": ...}, "propensity"),
        ({"propensity": True}, "propensity"),
        ({"arm": "other"}, "arm"),
        ({"arm": "strong", "propensity": 0.0, "propensities": [1.0, 0.0]}, "propensity"),
        ({"arms": ["cheap", "cheap"]}, "arms"),
        ({"arms": []}, "arms"),
        ({"arms": ["cheap", 3]}, "arms[1]"),
        ({"reason": "because"}, "reason"),
        ({"policy_version": -1}, "policy_version"),
        ({"policy_version": 2.0}, "policy_version"),
        ({"policy_version": ...}, "policy_version"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": 1_790_000_000}, "occurred_at"),
        ({"occurred_at": 2**62}, "occurred_at"),
        ({"params": {f"p{n}": "x" * 4000 for n in range(20)}}, ""),
        ({"policy_age_ms": -1}, "policy_age_ms"),
        ({"fallback": 1}, "fallback"),
        ({"params": {"temperature": 0.2}}, "params.temperature"),
        ({"context": {"plan": None}}, "context.plan"),
        ({"event_id": "wrong"}, "event_id"),
        ({"decider": "router"}, "decider"),
        ({"model": 3}, "model"),
        ({"project": "a/b"}, "project"),
        ({"features": [4096, 0]}, "encoding"),
        ({"encoding": "e"}, "features"),
        ({"encoding": "e", "features": [4096, 0.5]}, "features"),
        ({"encoding": "e", "features": [1, 0]}, "features"),
        ({"encoding": "e", "features": [4096] * 33}, "features"),
        ({"encoding": "e", "features": [4096, 1 << 40]}, "features"),
    ],
)
def test_a_clients_decision_that_does_not_hold_together_is_refused_by_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestInvalid) as refused:
        read_decision(made_by_a_client(**changes), lambda project, user: None, NOW_US)
    assert field in [problem.field for problem in refused.value.problems]


async def test_decisions_of_clients_are_logged_once_with_a_verdict_each(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        items = [made_by_a_client(), made_by_a_client(), made_by_a_client(request_id="r2", arm="nobody"), 7]
        reply = await router.http.post("/v1/decisions", json={"items": items})
        body = reply.json()
        assert reply.status_code == 207
        assert [item["status"] for item in body["items"]] == ["accepted", "duplicate", "rejected", "rejected"]
        assert (body["accepted"], body["rejected"]) == (2, 2)
        (event,) = await router.sent()
        assert event["event_id"] == body["items"][0]["event_id"]


async def test_what_a_client_claims_of_an_arm_never_enters_the_routers_own_decisions(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        router.publish(policy())
        made = (await router.http.post("/v1/decide", json=request(1))).json()
        claim = made_by_a_client(
            request_id="claimed", policy_version=made["policy_version"], arm=made["arm"], model=made["model"],
            propensity=made["propensity"], arms=list(made["propensities"]),
            propensities=list(made["propensities"].values()), params={"temperature": "9"},
        )  # fmt: skip
        for body in ([claim], [{**claim, "request_id": "again"}]):
            assert (await router.http.post("/v1/decisions", json=body)).status_code == 200
        decided = {n: router.parts.service.decide(request(n), None, "http")[0] for n in range(2, 40)}
        number = next(n for n, decision in decided.items() if decision.arm == made["arm"])
        events = {event["request_id"]: event for event in await router.sent()}
    assert events["claimed"]["params"] == events["again"]["params"] == {"temperature": "9"}
    assert events["r1"]["params"] == events[f"r{number}"]["params"] == policy()["arms"][0]["params"]


async def test_a_batch_that_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    async with bench(tmp_path, journal_max_bytes=4096, journal_segment_bytes=1024) as router:
        router.producer.away = True
        items = [made_by_a_client(request_id=f"r{number}") for number in range(10)]
        reply = await router.http.post("/v1/decisions", json=items)
        assert reply.status_code == 503
        assert "retry-after" in reply.headers
        assert router.log.waiting == 0
