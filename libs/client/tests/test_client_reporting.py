"""Calls and feedback: what is reported, and what becomes of it when ingest is away."""

import asyncio
import os
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from client_peers import Peers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flywheel.client import AsyncFlywheel, ClientError, Decision, Flywheel

FAST = {"linger_s": 0.01, "exit_deadline_s": 0.2}


def client_of(peers: Peers, **options: Any) -> Flywheel:
    return Flywheel(transport=peers, **{"project": "shop", **FAST, **options})


def decided(**changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "decision_id": "d1", "arm": "cheap", "propensity": 0.75, "fallback": False, "reason": "policy",
        "project": "shop", "feature": "support", "request_id": "r1", "model": "openai/gpt-4o-mini",
        "policy": "support", "policy_version": 3, "params": {"temperature": 0.2, "stop": ["\n"]},
    }  # fmt: skip
    return Decision(**(fields | changes))


def test_a_call_is_measured_and_carries_its_decision(peers: Peers) -> None:
    with client_of(peers, app="web", team="cx") as client:
        with client.call(decided(), attempt=2) as call:
            call.first_token()
            call.first_token()
            call.usage(input_tokens=10, output_tokens=5, cache_read_tokens=4)
            call.cost(Decimal("0.000125"))
            call.answer("hello", model="gpt-4o-mini-2024", finish_reason="stop")
            call.prompt("hi")
            call.attributes(plan="pro", seats=3)
        assert client.flush()
    (item,) = peers.items["calls"]
    measured = {name: item.pop(name) for name in ("latency_ms", "ttft_ms", "occurred_at", "event_id")}
    assert 0 < measured["ttft_ms"] <= measured["latency_ms"]
    assert item == {
        "project": "shop", "app": "web", "team": "cx", "feature": "support", "request_id": "r1", "decision_id": "d1",
        "policy": "support", "policy_version": 3, "variant": "cheap", "propensity": 0.75, "provider": "openai",
        "request_model": "openai/gpt-4o-mini", "response_model": "gpt-4o-mini-2024", "finish_reason": "stop",
        "attempt": 2, "status": "OK", "streaming": True, "input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 4,
        "usage_source": "PROVIDER", "cost_usd": "0.000125", "cost_source": "PROVIDER", "output_text": "hello",
        "input_text": "hi", "params": {"temperature": "0.2", "stop": '["\\n"]'},
        "attributes": {"plan": "pro", "seats": "3"},
    }  # fmt: skip


class SdkUsage(BaseModel):
    prompt_tokens: int = 7
    completion_tokens: int = 3


class Broken:
    def model_dump(self, mode: str) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, {"prompt_tokens": 7, "completion_tokens": 3}),
        (SdkUsage(), {"prompt_tokens": 7, "completion_tokens": 3}),
        (Broken(), None),
        (object(), None),
    ],
)
def test_a_usage_object_travels_as_it_is_and_never_costs_the_call(peers: Peers, raw: object, told: object) -> None:
    with client_of(peers) as client:
        with client.call("support", model="openai/gpt-4o") as call:
            call.usage(raw)
            call.pool_seconds(0.5)
            call.shares({"a": Decimal("0.25"), "b": 0.75})
        assert client.flush()
    (item,) = peers.items["calls"]
    assert item.get("usage") == told
    assert (item["pool_seconds"], item["shares"]) == (0.5, {"a": "0.25", "b": "0.75"})


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no"), "ERROR"), (TimeoutError(), "TIMEOUT"), (KeyboardInterrupt(), "CANCELLED")],
)
def test_a_call_that_raises_is_reported_and_raises(peers: Peers, error: BaseException, status: str) -> None:
    client = client_of(peers)
    with pytest.raises(type(error)), client.call("support", model="anthropic/claude"):
        raise error
    client.close()
    (item,) = peers.items["calls"]
    assert (item["status"], item["error_type"], item["provider"]) == (status, type(error).__name__, "anthropic")


async def test_a_cancelled_async_call_is_reported(peers: Peers) -> None:
    async with AsyncFlywheel(transport=peers, **FAST) as client:

        async def work() -> None:
            async with client.call("support", model="m", provider="p"):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await client.flush()
    assert peers.items["calls"][0]["status"] == "CANCELLED"


def test_what_is_not_told_stays_unknown(peers: Peers) -> None:
    with client_of(peers) as client, client.call("support"):
        pass
    (item,) = peers.items["calls"]
    assert (item["provider"], item["request_model"]) == ("unknown", "unknown")
    assert not {"cost_usd", "input_tokens", "output_tokens", "ttft_ms", "response_model"} & item.keys()


def test_users_are_hashed_here_where_there_is_a_key(peers: Peers) -> None:
    with client_of(peers) as plain, client_of(peers, user_hash_key=b"key") as keyed:
        plain.feedback("r1", "user.thumb", 1, user="ann")
        assert plain.flush()
        keyed.feedback("r1", "user.thumb", True, user="ann")
    sent = peers.items["feedback"]
    assert sent[0]["user"] == "ann"
    assert "user" not in sent[1]
    assert len(sent[1]["user_hash"]) == 32
    assert "key" not in repr(keyed._emitter.options)


def test_a_value_without_json_form_costs_the_report_not_the_program(peers: Peers) -> None:
    with client_of(peers) as client:
        assert client.feedback("r1", "user.thumb", 1.0, label=object()) is False
    strict = client_of(peers, raise_errors=True)
    with pytest.raises(ClientError, match="reporting feedback"):
        strict.feedback("r1", "user.thumb", 1.0, label=object())
    strict.close()


def test_rejected_events_are_counted_and_not_repeated(peers: Peers) -> None:
    peers.reject_kinds = {"feedback"}
    with client_of(peers) as client:
        client.feedback("r1", "user.thumb", 7.0)
        assert client.flush()
        stats = client.stats()["ingest"]
    assert (stats.sent, stats.rejected, stats.waiting) == (0, 1, 0)


def test_a_batch_that_is_too_large_is_divided(peers: Peers) -> None:
    peers.largest_batch = 3
    with client_of(peers, linger_s=0.2) as client:
        for number in range(10):
            client.feedback(f"r{number}", "user.thumb", 1.0)
        assert client.flush()
    assert [item["request_id"] for item in peers.items["feedback"]] == [f"r{number}" for number in range(10)]


@pytest.mark.parametrize("status", [None, 503, 500, 429, 404])
def test_nothing_is_lost_and_nothing_doubled_over_an_outage(peers: Peers, tmp_path: Path, status: int | None) -> None:
    client = client_of(peers, spill_dir=tmp_path, buffer_events=8, batch_events=4)
    client.feedback("before", "user.thumb", 1.0)
    assert client.flush()
    peers.away, peers.status = status is None, status
    for number in range(50):
        assert client.feedback(f"r{number}", "user.thumb", 1.0)
    assert not client.flush(0.3)
    assert client.stats()["ingest"].spilled > 0
    peers.away, peers.status = False, None
    assert client.flush(10)
    stats = client.stats()["ingest"]
    assert (stats.sent, stats.dropped, stats.waiting, stats.waiting_spilled) == (51, 0, 0, 0)
    assert {item["request_id"] for item in peers.items["feedback"]} == {"before", *(f"r{n}" for n in range(50))}
    assert max(peers.ids("feedback").values()) == 1
    client.close()


def test_what_a_client_leaves_behind_is_sent_by_the_next(peers: Peers, tmp_path: Path) -> None:
    peers.away = True
    first, second = (client_of(peers, spill_dir=tmp_path) for _ in range(2))
    first.feedback("one", "user.thumb", 1.0)
    second.feedback("two", "user.thumb", 1.0)
    assert not first.close(0.1)
    assert not second.close(0.1)
    peers.away = False
    with client_of(peers, spill_dir=tmp_path) as next_one:
        assert next_one.flush()
    assert {item["request_id"] for item in peers.items["feedback"]} == {"one", "two"}


def test_without_a_spill_file_memory_is_bounded_and_drops_are_counted(peers: Peers) -> None:
    peers.away = True
    client = client_of(peers, buffer_events=5)
    kept = [client.feedback(f"r{number}", "user.thumb", 1.0) for number in range(20)]
    client.flush(0.1)
    stats = client.stats()["ingest"]
    assert stats.waiting + stats.dropped == stats.offered == 20
    assert stats.waiting <= 5 + client._emitter.options.batch_events
    assert kept.count(False) >= 1
    assert not client.close(0.1)


def test_bytes_bound_the_memory_too(peers: Peers) -> None:
    peers.away = True
    client = client_of(peers, buffer_bytes=2000)
    kept = [client.feedback("r", "user.thumb", 1.0, comment="x" * 500) for _ in range(10)]
    assert 1 <= kept.count(True) < 10
    client.close(0.05)


def test_a_spill_folder_that_cannot_be_made_costs_only_the_spill(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with client_of(peers, spill_dir=tmp_path / "file") as client:
        client.feedback("r1", "user.thumb", 1.0)
        assert client.flush()
    assert len(peers.items["feedback"]) == 1


def test_many_threads_report_at_once(peers: Peers) -> None:
    with client_of(peers) as client:

        def work(name: int) -> None:
            for number in range(50):
                client.feedback(f"{name}-{number}", "user.thumb", 1.0)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush()
    assert len(peers.ids("feedback")) == 200


def test_a_forked_child_reports_its_own_and_not_its_parents(tmp_path: Path, peers: Peers) -> None:
    peers.away = True
    client = client_of(peers, spill_dir=tmp_path, linger_s=0.05)
    client.feedback("parent", "user.thumb", 1.0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            peers.lock = threading.Lock()
            peers.away = False
            client.feedback("child", "user.thumb", 1.0)
            if client.flush(5) and [item["request_id"] for item in peers.items["feedback"]] == ["child"]:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    peers.away = False
    assert client.flush(5)
    assert [item["request_id"] for item in peers.items["feedback"]] == ["parent"]
    client.close()


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.one_of(st.integers(1, 12), st.booleans(), st.just("restart")), max_size=12))
def test_over_any_outages_and_restarts_each_event_arrives_once(
    steps: list[int | bool | str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    peers, folder = Peers(), tmp_path_factory.mktemp("spill")
    options = {"spill_dir": folder, "buffer_events": 6, "batch_events": 3, "linger_s": 0.0}
    client = client_of(peers, **options)
    offered = 0
    for step in steps:
        if isinstance(step, bool):
            peers.away = step
        elif step == "restart":
            client.close(0.02)
            client = client_of(peers, **options)
        else:
            for _ in range(int(step)):
                assert client.feedback(f"r{offered}", "user.thumb", 1.0)
                offered += 1
    peers.away = False
    assert client.flush(10)
    client.close()
    assert {item["request_id"] for item in peers.items["feedback"]} == {f"r{number}" for number in range(offered)}
    assert sum(peers.ids("feedback").values()) == offered
