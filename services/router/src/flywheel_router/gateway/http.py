"""The gateway's routes: OpenAI's and Anthropic's, plain ASGI callables as streams need."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import orjson

from flywheel.observe import logger
from flywheel_router.gateway.asking import Endpoint, read_asked
from flywheel_router.gateway.errors import Headers, Refused, error_body, error_event
from flywheel_router.gateway.exchange import Exchange, Relayed
from flywheel_router.gateway.gateway import Gateway, made_id
from flywheel_router.gateway.opened import Opened, close, take
from flywheel_router.gateway.planning import Ending
from flywheel_router.gateway.streams import EventTooLong
from flywheel_router.gateway.upstream import Broken

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES: Final = 16 << 20
ROUTES: Final[Mapping[str, Endpoint]] = {
    "/v1/chat/completions": "chat", "/v1/embeddings": "embeddings", "/v1/messages": "messages",
}  # fmt: skip
MODELS: Final = "/v1/models"
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_REUSE_S: Final = 0.05


class GatewayApp:
    """Answers ``ROUTES`` and ``GET /v1/models``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is the gateway's."""
        return path in ROUTES or path == MODELS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        endpoint = ROUTES.get(path)
        started_s = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._gateway.check_key(headers)
            if endpoint is None:
                status = await self._models(scope, headers, send)
            elif scope["method"] != "POST":
                raise Refused(405, "use POST")
            else:
                status = await self._answer(endpoint, headers, receive, send)
        except Refused as error:
            status = error.status
            body = error_body(error, anthropic=endpoint == "messages")
            await _reply(send, status, body, error.headers())
        except Exception as error:
            logger("router.gateway").error("the gateway failed", exc_info=error)
            status = 500
            failed = Refused(500, "the router failed; its log says why", code="internal_error")
            await _reply(send, status, error_body(failed, anthropic=endpoint == "messages"), [])
        metrics = self._gateway.metrics
        metrics.count("gateway_requests_total", 1, endpoint=endpoint or "models", status=status)
        metrics.observe("gateway_seconds", time.perf_counter() - started_s, endpoint=endpoint or "models")

    async def _models(self, scope: Scope, headers: Mapping[str, str], send: Send) -> int:
        if scope["method"] != "GET":
            raise Refused(405, "use GET")
        project = headers.get("x-flywheel-project", self._gateway.rules.project)
        models = [
            {"id": f"flywheel/{feature}", "object": "model", "created": 0, "owned_by": "flywheel"}
            for feature in self._gateway.features(project)
        ]
        await _reply(send, 200, orjson.dumps({"object": "list", "data": models}), [])
        return 200

    async def _answer(self, endpoint: Endpoint, headers: Mapping[str, str], receive: Receive, send: Send) -> int:
        body = await _read(receive)
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the body is not JSON: {error.msg} at byte {error.pos}") from None
        rules = self._gateway.rules
        asked = read_asked(
            endpoint, parsed, headers, size_bytes=len(body), made_id=made_id(), project=rules.project,
            deadline_s=rules.deadline_s,
        )  # fmt: skip
        exchange = await self._gateway.exchange(asked, headers.get("traceparent"))
        try:
            opened = await exchange.open()
        except Relayed as error:
            await _reply(send, error.status, error.body, about(exchange))
            return error.status
        except Refused as error:
            await _reply(
                send, error.status, error_body(error, anthropic=endpoint == "messages"),
                [*error.headers(), *about(exchange)],
            )  # fmt: skip
            return error.status
        if opened.whole is None:
            await _Pump(self._gateway, exchange, opened, receive, send).run()
        else:
            call = exchange.settle(opened, "ok")
            await _reply(send, 200, opened.whole, about(exchange, opened))
            tell_content(self._gateway, exchange, opened, call)
        return 200


def tell_content(gateway: Gateway, exchange: Exchange, opened: Opened, call: dict[str, Any]) -> None:
    """Write what was said, after the answer: redacting may take longer than a caller should wait."""
    recorder = gateway.means.recorder
    if recorder.content is None or exchange.asked.endpoint == "embeddings":
        return
    body = exchange.asked.body
    said = body["messages"] if "system" not in body else {"system": body["system"], "messages": body["messages"]}
    recorder.said(call, said, "".join(opened.attempt.tally.texts))
    if exchange.set_aside is not None and exchange.set_aside[0] is not opened:
        doubted, its_call = exchange.set_aside
        recorder.said(its_call, said, "".join(doubted.attempt.tally.texts))


class _Pump:
    """Hands a stream on to the caller, and settles it before its last event."""

    def __init__(self, gateway: Gateway, exchange: Exchange, opened: Opened, receive: Receive, send: Send) -> None:
        self._gateway, self._exchange, self._opened = gateway, exchange, opened
        self._receive, self._send = receive, send
        self._gone = False
        self._cut = False

    async def run(self) -> None:
        """Stream until the end, the deadline, or until the caller is gone."""
        exchange, opened, send = self._exchange, self._opened, self._send
        pumping = asyncio.current_task()
        assert pumping is not None
        await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS, *about(exchange, opened)]})
        watching = asyncio.create_task(self._watch(pumping))
        last: list[bytes] = []
        ending: Ending = "ok"
        error_type: str | None = None
        cancelled: asyncio.CancelledError | None = None
        try:
            async with asyncio.timeout_at(exchange.deadline_s):
                last = await self._forward()
            tally = opened.attempt.tally
            if tally.failed is not None or not (tally.complete or tally.finish_reason):
                ending, error_type = "broken", tally.failed or "stream_ended_early"
        except TimeoutError:
            ending, error_type = "timeout", "deadline"
        except (Broken, EventTooLong) as error:
            ending, error_type = "broken", str(error)[:64]
        except asyncio.CancelledError as error:
            ending, error_type = "cancelled", "caller_gone" if self._cut else "shutdown"
            cancelled = error
        watching.cancel()
        if ending == "ok" and self._gone:
            ending, error_type = "cancelled", "caller_gone"
        call = exchange.settle(opened, ending, error_type)
        if cancelled is not None:
            await close(opened)
            if not self._cut:
                raise cancelled
            pumping.uncancel()
        elif not self._gone:
            if ending != "ok":
                anthropic = exchange.asked.endpoint == "messages"
                status = 504 if ending == "timeout" else 502
                failed = Refused(status, f"the stream broke: {error_type}", code="stream_broken")
                last = [*last, error_event(failed, anthropic=anthropic)]
            await send({"type": "http.response.body", "body": b"".join(last)})
        tell_content(self._gateway, exchange, opened, call)
        await self._finish()

    async def _forward(self) -> list[bytes]:
        """Pass on what comes; return what is to be sent once the call is settled."""
        opened, tally = self._opened, self._opened.attempt.tally
        out = opened.first
        if tally.complete:
            return out
        await self._pass(out)
        async for chunk in opened.chunks:
            out = take(opened, chunk)
            if tally.complete:
                return out
            if tally.failed is not None:
                await self._pass(out)
                return []
            await self._pass(out)
        return [opened.splitter.rest] if opened.splitter.rest else []

    async def _pass(self, events: Sequence[bytes]) -> None:
        if events and not self._gone:
            await self._send({"type": "http.response.body", "body": b"".join(events), "more_body": True})

    async def _watch(self, pumping: asyncio.Task[Any]) -> None:
        """Notice that the caller hung up. What a hard budget pays is read to its end, so that its cost is known."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if not self._gateway.rules.drain and not self._exchange.reserved:
            self._cut = True
            pumping.cancel()

    async def _finish(self) -> None:
        """Read the end of the body, so that the connection can be used again."""
        with contextlib.suppress(TimeoutError, Broken):
            async with asyncio.timeout(_REUSE_S):
                async for _ in self._opened.chunks:
                    pass
        await close(self._opened)


def about(exchange: Exchange, opened: Opened | None = None) -> Headers:
    """What every answer says of how it came about."""
    made = [("x-flywheel-request-id", exchange.request.request_id)]
    if exchange.decision is not None:
        made.append(("x-flywheel-decision-id", exchange.decision.decision_id))
    if opened is not None:
        made += _about_cascade(exchange, opened)
        made += [("x-flywheel-arm", opened.attempt.arm.name), ("x-flywheel-model", opened.attempt.arm.model or "")]
    made.append(("x-flywheel-attempts", str(len(exchange.attempts))))
    return [(name.encode(), value.encode("ascii", "backslashreplace")) for name, value in made]


def _about_cascade(exchange: Exchange, opened: Opened) -> list[tuple[str, str]]:
    """What became of an answer that was judged; ``failed``: it is given, as the other arm gave none."""
    first = opened if exchange.set_aside is None else exchange.set_aside[0]
    judged = first.attempt.judged
    if judged is None:
        return []
    failed = exchange.set_aside is not None and first is opened
    told: list[tuple[str, str]] = [("x-flywheel-cascade", "failed" if failed else judged.verdict)]
    return told if judged.doubt is None else [*told, ("x-flywheel-doubt", f"{judged.doubt:.4g}")]


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the caller left")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _reply(send: Send, status: int, body: bytes, extra: Headers) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
