"""gRPC: the same service as HTTP, read into the same fields, so that both answer alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from flywheel.policy import Decision
from flywheel_router.decision_log import LogFull
from flywheel_router.reading import FIELDS, MAX_BODY_BYTES, SIZES, RequestInvalid
from flywheel_router.service import DecideService
from flywheel_router.spending import Unaffordable
from flywheel_router.v1 import decide_pb2, decide_pb2_grpc

_TEXTS = tuple(sorted(FIELDS - {"context", *SIZES}))


class DeciderServicer(decide_pb2_grpc.DeciderServicer):
    """``Decide`` and ``DecideStream``."""

    def __init__(self, service: DecideService) -> None:
        self._service = service

    async def Decide(self, request: decide_pb2.DecideRequest, context: Any) -> decide_pb2.DecideResponse:  # noqa: N802
        """Decide one request."""
        try:
            body, traceparent = read_message(request), _traceparent(context)
            decision, asked = await self._service.decide_patiently(body, traceparent, "grpc")
        except RequestInvalid as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        except Unaffordable as error:
            await _unpaid(context, error)
            raise
        except LogFull as error:
            await _unavailable(context, error)
            raise
        return write_message(decision, asked.request_id)

    async def DecideStream(  # noqa: N802
        self, requests: AsyncIterator[decide_pb2.DecideRequest], context: Any
    ) -> AsyncIterator[decide_pb2.DecideResponse]:
        """Decide requests in order; one that is wrong does not end the stream."""
        traceparent = _traceparent(context)
        async for request in requests:
            try:
                decision, asked = await self._service.decide_patiently(read_message(request), traceparent, "grpc")
            except RequestInvalid as error:
                errors = [decide_pb2.FieldError(field=each.field, message=each.message) for each in error.problems]
                yield decide_pb2.DecideResponse(request_id=request.request_id, errors=errors)
                continue
            except Unaffordable as error:
                told = [decide_pb2.FieldError(field=error.why, message=str(error))]
                yield decide_pb2.DecideResponse(request_id=request.request_id, errors=told)
                continue
            except LogFull as error:
                await _unavailable(context, error)
                raise
            yield write_message(decision, asked.request_id)


def read_message(request: decide_pb2.DecideRequest) -> dict[str, Any]:
    """A message as the fields of the JSON request; an empty text is an absent one."""
    body: dict[str, Any] = {name: value for name in _TEXTS if (value := getattr(request, name))}
    body |= {name: getattr(request, name) for name in SIZES if request.HasField(name)}
    if request.context:
        body["context"] = {name: _context_value(value) for name, value in request.context.items()}
    return body


def _context_value(value: decide_pb2.ContextValue) -> str | float | bool | None:
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    found: str | float | bool = getattr(value, kind)
    return found


def write_message(decision: Decision, request_id: str) -> decide_pb2.DecideResponse:
    """A decision as a message; parameters as JSON text."""
    return decide_pb2.DecideResponse(
        decision_id=decision.decision_id,
        arm=decision.arm,
        model=decision.model,
        prompt_name=decision.prompt_name,
        prompt_version=decision.prompt_version,
        params=decision.params,
        propensity=decision.propensity,
        policy=decision.policy,
        policy_version=decision.policy_version,
        policy_kind=decision.policy_kind,
        fallback=decision.fallback,
        reason=decision.reason,
        request_id=request_id,
        propensities=dict(zip(decision.arms, decision.propensities, strict=True)),
    )


async def start_grpc(service: DecideService, host: str, port: int) -> tuple[Any, int]:
    """Start the server; return it and the port it got.

    Raises:
        OSError: the port is taken.
    """
    options = [("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    add_servicer: Any = decide_pb2_grpc.add_DeciderServicer_to_server  # generated, untyped
    add_servicer(DeciderServicer(service), server)
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"listening for gRPC on {host}:{port}: {error}") from error
    await server.start()
    return server, bound


async def _unpaid(context: Any, error: Unaffordable) -> None:
    trailer: list[tuple[str, str | bytes]] = [("reason", error.why), ("budget-bin", (error.budget or "").encode())]
    if error.why == "budget_wait":
        trailer.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    if error.window_end_us is not None:
        trailer.append(("window-end", str(error.window_end_us)))
    context.set_trailing_metadata(tuple(trailer))
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))


async def _unavailable(context: Any, error: LogFull) -> None:
    context.set_trailing_metadata((("retry-after", str(max(1, round(error.retry_after_s)))),))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "decisions cannot be logged now, so none is made; try again later")


def _traceparent(context: Any) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent":
            return str(value)
    return None
