"""The pages: live service levels and error budgets as JSON, for the console and for curl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flywheel.policy.declared_values import seconds_of
from flywheel_monitor.core.looking import sli_page, slo_page, windows_of
from flywheel_monitor.core.spans import MINUTE_US, grain_for
from flywheel_monitor.monitor import Monitor

_FILTERS: Final = ("project", "feature", "arm")
State = Callable[[], dict[str, Any]]
"""How much of the log the pages stand for: ``now_us``, ``partial``, ``behind``."""


class _Wrong(ValueError):
    """A parameter that cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


def pages_app(monitor: Monitor, state: State) -> Starlette:
    """``/v1/slis`` and ``/v1/slos``; 400 with the field for a parameter that cannot be used."""

    async def slis(request: Request) -> Response:
        return _answer(request, lambda: _slis(monitor, request, state()))

    async def slos(request: Request) -> Response:
        return _answer(request, lambda: _slos(monitor, request, state()))

    return Starlette(routes=[Route("/v1/slis", slis), Route("/v1/slos", slos)])


def _answer(request: Request, page: Callable[[], dict[str, Any]]) -> Response:
    try:
        status, body = 200, page()
    except _Wrong as error:
        status, body = 400, {"errors": [{"field": error.field, "message": error.message}]}
    return Response(orjson.dumps(body), status, media_type="application/json")


def _slis(monitor: Monitor, request: Request, state: dict[str, Any]) -> dict[str, Any]:
    asked = _asked(request, (*_FILTERS, "window", "by"))
    length_us = _length(asked.get("window", "5m"))
    by = asked.get("by", "feature")
    if by not in ("feature", "arm"):
        raise _Wrong("by", "must be feature or arm")
    chosen = sorted(
        series
        for series in monitor.roster.known
        if ("arm" in asked or bool(series.arm) == (by == "arm"))
        and all(getattr(series, name) == asked[name] for name in _FILTERS if name in asked)
    )
    now_us = state["now_us"]
    windows = windows_of(monitor.kept, monitor.kept.partitions, now_us)
    found = [(each, windows(each, length_us)) for each in chosen]
    return state | {"slis": [sli_page(each, window, length_us, now_us) for each, window in found if window.counts]}


def _slos(monitor: Monitor, request: Request, state: dict[str, Any]) -> dict[str, Any]:
    asked = _asked(request, ("project", "feature"))
    standings = monitor.kept.standings()
    chosen = [
        each
        for each in monitor.charters.objectives
        if all(getattr(each.series, name) == value for name, value in asked.items())
    ]
    windows = windows_of(monitor.kept, monitor.kept.partitions, state["now_us"])
    return state | {"slos": [slo_page(windows, each, standings, state["now_us"]) for each in chosen]}


def _asked(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    for name in request.query_params:
        if name not in known:
            raise _Wrong(name, f"no such parameter; one of {', '.join(known)}")
    return dict(request.query_params)


def _length(text: str) -> int:
    try:
        length_us = round(float(seconds_of(text)) * 1_000_000)
        if length_us < MINUTE_US:
            raise ValueError("must be at least 1m")
        grain_for(length_us)
    except ValueError as error:
        message = "must be at most 92d" if "no window" in str(error) else str(error)
        raise _Wrong("window", message) from error
    return length_us
