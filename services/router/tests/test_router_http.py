"""HTTP: good requests, bad ones, and both ways through the server."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router_parts import Bench, bench, policy, request

from flywheel_router.protocol import DecideProtocol
from flywheel_router.reading import MAX_BODY_BYTES


@contextlib.asynccontextmanager
async def listening(router: Bench, http: Any = DecideProtocol) -> AsyncIterator[int]:
    """The router behind a real socket; yields the port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(router.parts.app, http=http, lifespan="off", log_config=None, server_header=False)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield int(sock.getsockname()[1])
        server.should_exit = True
        await serving


BAD: list[tuple[str, Any, int, str]] = [
    ("not JSON", b"{", 400, ""),
    ("empty", b"", 400, ""),
    ("not UTF-8", b'{"feature": "\xff"}', 400, ""),
    ("NaN", b'{"feature":"f","request_id":"r","context":{"x":NaN}}', 400, ""),
    ("Infinity", b'{"feature":"f","request_id":"r","context":{"x":-Infinity}}', 400, ""),
    ("half a surrogate pair", b'{"feature":"\\ud800","request_id":"r"}', 400, ""),
    ("deep", b"[" * 5000 + b"]" * 5000, 400, ""),
    ("a list", [], 422, ""),
    ("null", None, 422, ""),
    ("too large", b" " * (MAX_BODY_BYTES + 1), 413, ""),
    ("no feature", {"request_id": "r"}, 422, "feature"),
    ("no request_id", {"feature": "f"}, 422, "request_id"),
    ("empty feature", request(feature=""), 422, "feature"),
    ("null feature", request(feature=None), 422, "feature"),
    ("number as feature", request(feature=3), 422, "feature"),
    ("list as request_id", request(request_id=["r"]), 422, "request_id"),
    ("true as request_id", request(request_id=True), 422, "request_id"),
    ("long request_id", request(request_id="r" * 257), 422, "request_id"),
    ("control characters", request(request_id="a\nb"), 422, "request_id"),
    ("a zero byte", request(feature="a\x00"), 422, "feature"),
    ("slash in project", request(project="a/b"), 422, "project"),
    ("object as project", request(project={}), 422, "project"),
    ("unknown field", request(modle="x"), 422, "modle"),
    ("unknown unprintable field", request(**{"a\nb": 1}), 422, "a\\nb"),
    ("number as team", request(team=1), 422, "team"),
    ("long app", request(app="a" * 300), 422, "app"),
    ("empty environment", request(environment=""), 422, "environment"),
    ("number as user", request(user=7), 422, "user"),
    ("number as default_arm", request(default_arm=7), 422, "default_arm"),
    ("context as list", request(context=[]), 422, "context"),
    ("context as text", request(context="plan"), 422, "context"),
    ("context too wide", request(context={f"f{n}": n for n in range(65)}), 422, "context"),
    ("nested context", request(context={"a": {"b": 1}}), 422, "context.a"),
    ("list in context", request(context={"a": [1]}), 422, "context.a"),
    ("long text in context", request(context={"a": "x" * 1025}), 422, "context.a"),
    ("huge number in context", b'{"feature":"f","request_id":"r","context":{"a":9007199254740993}}', 422, "context.a"),
    ("number beyond a double", b'{"feature":"f","request_id":"r","context":{"a":1e999}}', 400, ""),
    ("empty name in context", request(context={"": 1}), 422, "context."),
    ("long name in context", request(context={"n" * 129: 1}), 422, "context." + "n" * 64),
    ("unprintable name in context", request(context={"a\tb": 1}), 422, "context.a\\tb"),
]


@pytest.mark.parametrize(("body", "status", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
@pytest.mark.parametrize("way", ["short", "long"])
async def test_bad_requests_are_refused_by_the_name_of_the_field(
    tmp_path: Path, body: Any, status: int, field: str, way: str
) -> None:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    async with bench(tmp_path) as router, listening(router, DecideProtocol if way == "short" else "httptools") as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            refused = await http.post("/v1/decide", content=content)
            accepted = await http.post("/v1/decide", content=orjson.dumps(request()))  # the connection goes on
        assert accepted.status_code == 200
        assert len(await router.sent()) == 1
    assert refused.status_code == status
    errors = refused.json()["errors"]
    assert field in [error["field"] for error in errors]
    assert all(error["message"] for error in errors)


async def test_every_problem_of_a_request_is_named_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        reply = await router.http.post("/v1/decide", json={"feature": 1, "x": 1, "context": {"a": [], "b": "x" * 2000}})
    fields = [error["field"] for error in reply.json()["errors"]]
    assert fields == ["x", "feature", "request_id", "context.a", "context.b"]


async def test_both_ways_give_the_same_answer(tmp_path: Path) -> None:
    body = orjson.dumps(request(team="cx", user="ann"))
    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    answers = []
    for name, way in (("short", DecideProtocol), ("long", "httptools")):
        async with bench(tmp_path / name, user_hash_key="k") as router, listening(router, way) as port:
            router.publish(policy())
            async with httpx.AsyncClient() as http:
                reply = await http.post(f"http://127.0.0.1:{port}/v1/decide", content=body, headers=trace)
            (event,) = await router.sent()
            headers = dict(router.producer.sent[0].headers)
        assert reply.headers["content-type"] == "application/json"
        assert {"date", "content-length"} <= set(reply.headers)
        event.pop("occurred_at"), event.pop("policy_age_ms")
        answers.append((reply.status_code, reply.content, event, headers["traceparent"]))
    assert answers[0] == answers[1]
    assert answers[0][2]["trace_id"] == "ab" * 16
    assert answers[0][2]["user_hash"] not in (None, "ann")


RAW = b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%s\r\n%s"


def raw(number: int, extra: bytes = b"") -> bytes:
    body = orjson.dumps(request(number))
    return RAW % (len(body), extra, body)


async def exchange(port: int, data: bytes, pieces: int = 1) -> bytes:
    """Write bytes, in pieces, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = max(1, -(-len(data) // pieces))
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(120):
        received = await reader.read()
    writer.close()
    return received


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_pipelined_requests_of_any_kind_are_answered_in_order(tmp_path: Path, pieces: int) -> None:
    live = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
    last = raw(4, b"connection: close\r\n")
    async with bench(tmp_path) as router, listening(router) as port:
        received = await exchange(port, raw(1) + raw(2) + live + raw(3) + live + last, pieces)
    order = [word for word in received.replace(b'"', b" ").split() if word in (b"r1", b"r2", b"r3", b"r4", b"live")]
    assert [word for word in order if word != b"live"] == [b"r1", b"r2", b"r3", b"r4"]
    assert received.count(b"HTTP/1.1 200 OK") == 6
    assert received.index(b"r2") < received.index(b'"live"') < received.index(b"r3")


async def test_what_is_not_plain_goes_the_long_way(tmp_path: Path) -> None:
    chunked = b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    body = orjson.dumps(request(1))
    old = b"POST /v1/decide HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    async with bench(tmp_path) as router, listening(router) as port:
        by_chunks = await exchange(port, chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        expecting = await exchange(port, raw(1, b"expect: 100-continue\r\nconnection: close\r\n"))
        from_old_client = await exchange(port, old)
        wrong_method = await exchange(port, b"GET /v1/decide HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        garbage = await exchange(port, b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert len(await router.sent()) == 1
    assert b"200 OK" in by_chunks
    assert expecting.startswith(b"HTTP/1.1 100 Continue")
    assert b"200 OK" in expecting
    assert b"connection: close" in from_old_client
    assert wrong_method.startswith(b"HTTP/1.1 405")
    assert garbage.startswith(b"HTTP/1.1 400")


async def test_a_full_journal_is_503_with_retry_after_and_decides_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, journal_max_bytes=4096, journal_segment_bytes=1024) as router:
        router.publish(policy())
        router.producer.away = True
        replies = [await router.http.post("/v1/decide", json=request(number)) for number in range(40)]
        statuses = [reply.status_code for reply in replies]
        answered = statuses.count(200)
        assert 0 < answered < 40
        assert set(statuses) == {200, 503}
        refused = replies[statuses.index(503)]
        assert int(refused.headers["retry-after"]) >= 1
        again = await router.http.post("/v1/decide", json=request(0))
        assert again.content == replies[0].content  # it was decided and logged, so it still has its answer
        router.producer.away = False
        events = await router.sent()
        assert {event["request_id"] for event in events} == {f"r{n}" for n in range(40) if statuses[n] == 200}
        assert (await router.http.post("/v1/decide", json=request(39))).status_code == 200


async def test_a_journal_that_cannot_be_written_is_503_and_a_bug_is_500(tmp_path: Path) -> None:
    async with bench(tmp_path, journal_segment_bytes=256) as router, listening(router) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.post("/v1/decide", json=request(1))).status_code == 200
            await router.sent()
            shutil.rmtree(tmp_path)
            refused = [await http.post("/v1/decide", json=request(number)) for number in range(2, 9)]
            assert refused[-1].status_code == 503
            router.parts.service._decider = None  # type: ignore[assignment]
            broken = await http.post("/v1/decide", json=request(9))
        assert (broken.status_code, broken.json()["errors"][0]["field"]) == (500, "")


async def test_a_batch_has_a_verdict_for_each(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        router.publish(policy())
        reply = await router.http.post("/v1/decide/batch", json={"items": [request(1), {"feature": 1}, request(2)]})
        single = await router.http.post("/v1/decide", json=request(1))
        none_good = await router.http.post("/v1/decide/batch", json=[{}])
        bad = [await router.http.post("/v1/decide/batch", content=body) for body in (b"{", b"{}", b"[]", b"[1" * 1001)]
    assert reply.status_code == 207
    body = reply.json()
    assert (body["decided"], body["rejected"]) == (2, 1)
    assert [item["status"] for item in body["items"]] == ["decided", "rejected", "decided"]
    assert single.json().items() <= body["items"][0].items()
    assert none_good.status_code == 422
    assert [each.status_code for each in bad] == [400, 422, 422, 400]


async def test_policies_are_served_with_a_tag_and_followed_by_waiting(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        router.publish(policy(1))
        router.publish(policy(1, project="p2"))
        first = await router.http.get("/v1/policies", params={"project": "default"})
        tag = first.headers["etag"]
        same = await router.http.get("/v1/policies", params={"project": "default"}, headers={"if-none-match": tag})
        waiting = asyncio.create_task(
            router.http.get("/v1/policies?project=default&wait_s=20", headers={"if-none-match": tag})
        )
        await asyncio.sleep(0.01)
        router.publish(policy(2, project="p2"))  # not asked for
        await asyncio.sleep(0.01)
        assert not waiting.done()
        router.publish(policy(2))
        second = await waiting
        wrong = await router.http.get("/v1/policies?wait_s=soon")
    assert [event["policy_version"] for event in first.json()["policies"]] == [1]
    assert (same.status_code, wrong.status_code) == (304, 422)
    assert [event["policy_version"] for event in second.json()["policies"]] == [2]


async def test_not_ready_before_the_policies_were_read(tmp_path: Path) -> None:
    async with bench(tmp_path) as router:
        router.parts.health.set_ready("policies", False, "not read")
        ready = await router.http.get("/ready")
        policies = await router.http.get("/v1/policies")
    assert (ready.status_code, policies.status_code) == (503, 503)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
fields = st.sampled_from(
    [
        "project",
        "feature",
        "request_id",
        "context",
        "app",
        "environment",
        "team",
        "user",
        "default_arm",
        "user_hash",
        "x",
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(fields, json_values) | json_values | st.binary())
async def test_nothing_that_is_posted_breaks_it(tmp_path_factory: pytest.TempPathFactory, posted: Any) -> None:
    try:
        content = posted if isinstance(posted, bytes) else orjson.dumps(posted)
    except TypeError:  # an integer beyond 64 bits has no JSON form there
        return
    async with bench(tmp_path_factory.mktemp("fuzz")) as router:
        status, body, _ = router.parts.app.decide(content, [])
        assert status in (200, 400, 413, 422)
        assert (status == 200) == ("decision_id" in orjson.loads(body))
        assert router.log.waiting == (status == 200)
