"""gRPC: the same answers as HTTP, errors that name the field, a stream that survives a bad request."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from router_parts import Bench, bench, policy, request

from flywheel_router.rpc import start_grpc
from flywheel_router.v1 import decide_pb2, decide_pb2_grpc


def message(body: dict[str, Any]) -> decide_pb2.DecideRequest:
    """A JSON request as a message."""
    body = dict(body)
    context = body.pop("context", {})
    made = decide_pb2.DecideRequest(**body)
    for name, value in context.items():
        kind = "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        setattr(made.context[name], kind, value)
    return made


class Rpc:
    """A router's gRPC server and a stub of it."""

    def __init__(self, router: Bench) -> None:
        self.router = router

    async def __aenter__(self) -> Any:
        self.server, port = await start_grpc(self.router.parts.service, "127.0.0.1", 0)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return decide_pb2_grpc.DeciderStub(self.channel)

    async def __aexit__(self, *exc: object) -> None:
        await self.channel.close()
        await self.server.stop(0)


@pytest.mark.parametrize(
    "body",
    [
        request(1),
        request(2, context={"plan": "free", "new": True}),
        request(3, feature="unknown", default_arm="mine", default_model="openai/mine"),
        request(4, project="elsewhere"),
        request(5, user="ann", team="cx", app="web", environment="prod"),
    ],
)
async def test_http_and_grpc_decide_and_log_alike(tmp_path: Path, body: dict[str, Any]) -> None:
    answers, events = [], []
    for way in ("http", "grpc"):
        async with bench(tmp_path / way, user_hash_key="k") as router, Rpc(router) as stub:
            router.publish(policy())
            if way == "http":
                answers.append((await router.http.post("/v1/decide", json=body)).json())
            else:
                reply = await stub.Decide(message(body))
                plain = {name: getattr(reply, name) for name in answers[0] if name not in ("params", "propensities")}
                plain = {name: value if value != "" else None for name, value in plain.items()}
                texts = {name: orjson.loads(value) for name, value in reply.params.items()}
                answers.append({**plain, "params": texts, "propensities": dict(reply.propensities)})
            (event,) = await router.sent()
            events.append({name: event[name] for name in event if name not in ("occurred_at", "policy_age_ms")})
    assert answers[0] == answers[1]
    assert events[0] == events[1]


async def test_a_bad_request_names_its_field(tmp_path: Path) -> None:
    async with bench(tmp_path) as router, Rpc(router) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Decide(decide_pb2.DecideRequest(feature="support"))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "request_id: required"


async def test_a_full_journal_is_unavailable_with_retry_after(tmp_path: Path) -> None:
    async with bench(tmp_path, journal_max_bytes=2048, journal_segment_bytes=512) as router, Rpc(router) as stub:
        router.producer.away = True
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            for number in range(50):
                await stub.Decide(message(request(number)))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert int(dict(refused.value.trailing_metadata())["retry-after"]) >= 1


async def test_a_stream_answers_in_order_and_survives_a_bad_request(tmp_path: Path) -> None:
    async def asked() -> AsyncIterator[decide_pb2.DecideRequest]:
        for number in range(5):
            yield message(request(number)) if number != 2 else decide_pb2.DecideRequest(request_id="bad")

    async with bench(tmp_path) as router, Rpc(router) as stub:
        router.publish(policy())
        trace = (("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),)
        replies = [reply async for reply in stub.DecideStream(asked(), metadata=trace)]
        assert [reply.request_id for reply in replies] == ["r0", "r1", "bad", "r3", "r4"]
        assert [(error.field, error.message) for error in replies[2].errors] == [("feature", "required")]
        events = await router.sent()
    assert {event["trace_id"] for event in events} == {"ab" * 16}
    assert [event["request_id"] for event in events] == ["r0", "r1", "r3", "r4"]
