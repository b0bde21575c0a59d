"""HTTP. ``POST /v1/decide`` is a plain ASGI callable, as a framework's layers would cost more than the decision; the
rest is Starlette."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flywheel.observe import Health, Metrics, logger, operations_routes
from flywheel_router.answers import AnswerWriter, answer
from flywheel_router.board import PolicyBoard
from flywheel_router.decision_log import LogFull
from flywheel_router.gateway.http import GatewayApp
from flywheel_router.reading import MAX_BODY_BYTES, Problem, RequestInvalid
from flywheel_router.remote_decisions import RemoteDecisions
from flywheel_router.service import DecideService
from flywheel_router.spending import Unaffordable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]

DECIDE_PATH: Final = "/v1/decide"
MAX_BATCH: Final = 1000
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_ITEMS_AT_ONCE: Final = 16
MAX_WAIT_S: Final = 30.0
_JSON: Final = (b"content-type", b"application/json")


class RouterApp:
    """The router over HTTP."""

    def __init__(
        self,
        service: DecideService,
        remote: RemoteDecisions,
        policies: PolicyPage,
        health: Health,
        metrics: Metrics,
        *,
        gateway: GatewayApp | None = None,
    ) -> None:
        self._service = service
        self._gateway = gateway
        self._remote = remote
        self._answers = AnswerWriter()
        self._rest = Starlette(
            routes=[
                Route("/v1/decide/batch", self._decide_batch, methods=["POST"]),
                Route("/v1/decisions", self._decisions, methods=["POST"]),
                Route("/v1/policies", policies.get, methods=["GET"]),
                *operations_routes(health, metrics),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != DECIDE_PATH:
            gateway = self._gateway
            if gateway is not None and scope["type"] == "http" and gateway.serves(scope["path"]):
                await gateway(scope, receive, send)
            else:
                await self._rest(scope, receive, send)
            return
        if scope["method"] == "POST":
            body = await read_body(receive, MAX_BODY_BYTES)
            status, payload, extra = await self.decide_patiently(body, scope["headers"])
        else:
            status, payload, extra = 405, errors_body([Problem("", "use POST")]), [(b"allow", b"POST")]
        headers = [_JSON, (b"content-length", b"%d" % len(payload)), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def decide(self, body: bytes | None, headers: Sequence[tuple[bytes, bytes]]) -> Reply | None:
        """Answer one request to decide: status, body and headers beyond the usual; ``body`` None was too long.

        None: hard budgets leave no arm at once; `decide_patiently` answers.
        """
        try:
            decision, asked = self._service.decide(parse(body, MAX_BODY_BYTES), _traceparent(headers), "http")
        except Unaffordable:
            return None
        except Exception as error:
            return _failed(error)
        return 200, self._answers.write(decision, asked), []

    async def decide_patiently(self, body: bytes | None, headers: Sequence[tuple[bytes, bytes]]) -> Reply:
        """Answer one request to decide; wait for a lease where one is on its way."""
        try:
            parsed = parse(body, MAX_BODY_BYTES)
            decision, asked = await self._service.decide_patiently(parsed, _traceparent(headers), "http")
        except Exception as error:
            return _failed(error)
        return 200, self._answers.write(decision, asked), []

    async def _decide_batch(self, request: Request) -> Response:
        """Decide a list of requests; a verdict for each. Stops with 503 where the log is full: what was decided
        before is logged and gets the same answer when asked again."""
        try:
            items = read_items(await _body(request))
        except RequestInvalid as error:
            return _response(_refused(error))
        replies: list[dict[str, Any]] = []
        traceparent = request.headers.get("traceparent")
        until_s = self._service.wait_until_s()
        for index, item in enumerate(items):
            if index % _ITEMS_AT_ONCE == _ITEMS_AT_ONCE - 1:
                await asyncio.sleep(0)  # somebody waits for a single decision
            try:
                decision, asked = await self._service.decide_patiently(item, traceparent, "http", until_s=until_s)
                replies.append({"index": index, "status": "decided", **answer(decision, asked.request_id)})
            except RequestInvalid as error:
                replies.append({"index": index, "status": "rejected", "errors": _shown(error.problems)})
            except Unaffordable as error:
                replies.append({"index": index, "status": "rejected", **unaffordable_body(error)})
            except LogFull as error:
                return _response(_unavailable(error))
        return _verdicts(replies, good="decided")

    async def _decisions(self, request: Request) -> Response:
        """Log decisions that clients made in their own process."""
        try:
            body = await _body(request)
            items = read_items(body)
            replies = await self._remote.log(items, len(body or b""), request.headers.get("traceparent"))
        except RequestInvalid as error:
            return _response(_refused(error))
        except LogFull as error:
            return _response(_unavailable(error))
        return _verdicts(replies, good="accepted")


class PolicyPage:
    """``GET /v1/policies``: everything a client needs to decide in its own process. With ``If-None-Match`` and
    ``wait_s`` it answers as soon as something changes, or 304 after that time."""

    def __init__(self, board: PolicyBoard, health: Health, budgeted: Callable[[str], bool]) -> None:
        self._board = board
        self._health = health
        self._budgeted = budgeted
        self._changed = asyncio.Event()
        self._closed = False

    def changed(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Answer whoever waits, and let nobody wait from now on."""
        self._closed = True
        self.changed()

    async def get(self, request: Request) -> Response:
        """Answer with all policies, those of ``?project=``, or 304."""
        if not self._health.ready:
            body = errors_body([Problem("", "the policies have not been read yet")])
            return Response(body, 503, {"retry-after": "1"}, "application/json")
        try:
            wait_s = min(MAX_WAIT_S, max(0.0, float(request.query_params.get("wait_s", "0"))))
        except ValueError:
            return _response(_refused(RequestInvalid([Problem("wait_s", "must be a number of seconds")])))
        project = request.query_params.get("project")
        known = request.headers.get("if-none-match")
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while True:
            changed = self._changed
            tag, events = self._board.snapshot(project)
            control_tag, controls = self._board.controls.snapshot(project)
            budgeted = project is not None and self._budgeted(project)
            tag = f'{tag[:-1]}.{control_tag}"' if controls else tag
            tag = f'{tag[:-1]}.b"' if budgeted else tag
            if tag != known:
                body = orjson.dumps({"policies": events, "controls": controls, "budgeted": budgeted})
                return Response(body, 200, {"etag": tag}, "application/json")
            if self._closed:
                return Response(None, 304, {"etag": tag})
            try:
                async with asyncio.timeout_at(deadline_s):
                    await changed.wait()
            except TimeoutError:
                return Response(None, 304, {"etag": tag})


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The body, or None when it is longer than ``limit_bytes``."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limit_bytes else None
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit_bytes:
            return None
    return b"".join(parts)


def parse(body: bytes | None, limit_bytes: int) -> Any:
    """JSON to Python.

    Raises:
        RequestInvalid: too long, not UTF-8, not JSON (NaN and Infinity are not), or nested beyond reason.
    """
    if body is None:
        raise BodyTooLarge([Problem("", f"the body is larger than {limit_bytes} bytes")])
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyNotJson([Problem("", f"the body is not JSON: {error.msg} at byte {error.pos}")]) from error


class BodyTooLarge(RequestInvalid):
    """413."""


class BodyNotJson(RequestInvalid):
    """400."""


def read_items(body: bytes | None) -> list[Any]:
    """The items of a batch: ``{"items": […]}`` or a bare list.

    Raises:
        RequestInvalid: not a batch, empty, or too many.
    """
    parsed = parse(body, MAX_BATCH_BYTES)
    items = parsed.get("items") if isinstance(parsed, dict) else parsed
    if not isinstance(items, list):
        raise RequestInvalid([Problem("items", "must be a list")])
    if not 0 < len(items) <= MAX_BATCH:
        raise RequestInvalid([Problem("items", f"must have 1 to {MAX_BATCH} items, not {len(items)}")])
    return items


def errors_body(problems: list[Problem]) -> bytes:
    """The body of a refusal."""
    return orjson.dumps({"errors": _shown(problems)})


async def _body(request: Request) -> bytes | None:
    return await read_body(request.receive, MAX_BATCH_BYTES)


def _shown(problems: list[Problem]) -> list[dict[str, str]]:
    return [{"field": problem.field, "message": problem.message} for problem in problems]


def _refused(error: RequestInvalid) -> Reply:
    status = 413 if isinstance(error, BodyTooLarge) else 400 if isinstance(error, BodyNotJson) else 422
    return status, errors_body(error.problems), []


def _failed(error: Exception) -> Reply:
    if isinstance(error, RequestInvalid):
        return _refused(error)
    if isinstance(error, LogFull):
        return _unavailable(error)
    if isinstance(error, Unaffordable):
        return _unpaid(error)
    logger("router.http").error("deciding failed", exc_info=error)
    return 500, errors_body([Problem("", "the router failed; its log says why")]), []


def unaffordable_body(error: Unaffordable) -> dict[str, Any]:
    """What a caller is told when no arm can be paid; ``window_end`` in microseconds since the epoch."""
    problems = [Problem("", str(error))]
    return {
        "reason": error.why, "budget": error.budget, "window_end": error.window_end_us, "errors": _shown(problems),
    }  # fmt: skip


def _unpaid(error: Unaffordable) -> Reply:
    body = orjson.dumps(unaffordable_body(error))
    if error.why == "budget_wait":
        return 429, body, [(b"retry-after", b"%d" % max(1, round(error.retry_after_s)))]
    return 402, body, []


def _unavailable(error: LogFull) -> Reply:
    problem = Problem("", "decisions cannot be logged now, so none is made; try again later")
    return 503, errors_body([problem]), [(b"retry-after", b"%d" % max(1, round(error.retry_after_s)))]


def _response(reply: Reply) -> Response:
    status, body, extra = reply
    return Response(body, status, {name.decode(): value.decode() for name, value in extra}, "application/json")


def _verdicts(replies: list[dict[str, Any]], good: str) -> Response:
    """200 when every item went well, 422 when none did, else 207."""
    rejected = sum(reply["status"] == "rejected" for reply in replies)
    status = 200 if rejected == 0 else 422 if rejected == len(replies) else 207
    body = {good: len(replies) - rejected, "rejected": rejected, "items": replies}
    return Response(orjson.dumps(body), status, media_type="application/json")


def _traceparent(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"traceparent":
            return value.decode("latin-1")
    return None
