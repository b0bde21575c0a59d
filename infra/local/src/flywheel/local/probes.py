"""Asks a running part how it is: Kafka by its own protocol, all others by ``/live``, ``/ready`` and ``/metrics``."""

from __future__ import annotations

import json
import re
import socket
import struct
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from flywheel.local.ports import LOOPBACK

_API_VERSIONS: Final = 18
_CORRELATION: Final = 1
_LAG: Final = re.compile(r"^flywheel_lag_records(?:\{[^}]*\})?\s+([0-9.eE+-]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Report:
    """What a part says of itself; ``detail`` names what is not ready. None: it did not say."""

    live: bool | None
    ready: bool | None
    detail: str = ""
    lag_records: int | None = None


NO_REPORT: Final = Report(live=None, ready=None)


def ask_kafka(port: int, timeout_s: float = 2.0) -> Report:
    """Whether the broker answers an ApiVersions request: an open port alone says nothing, the kernel opens it."""
    body = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, -1)
    try:
        with socket.create_connection((LOOPBACK, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                header = answer.read(10)
    except OSError as error:
        return Report(live=None, ready=False, detail=f"no answer: {error}")
    if len(header) < 10:
        return Report(live=None, ready=False, detail="no answer: connection closed")
    _, correlation, code = struct.unpack(">iih", header)
    ok = correlation == _CORRELATION and code == 0
    return Report(live=ok, ready=ok, detail="" if ok else f"error code {code}")


def ask_service(port: int, timeout_s: float = 2.0) -> Report:
    """``/live``, ``/ready`` and the lag of a service."""
    try:
        live, _ = _get(port, "/live", timeout_s)
        ready, said = _get(port, "/ready", timeout_s)
        exposed, metrics = _get(port, "/metrics", timeout_s)
    except (OSError, HTTPException) as error:
        return Report(live=None, ready=False, detail=f"no answer: {error}")
    detail = "" if ready == 200 else _not_ready(said)
    return Report(
        live=live == 200, ready=ready == 200, detail=detail, lag_records=_lag(metrics if exposed == 200 else "")
    )


def _get(port: int, path: str, timeout_s: float) -> tuple[int, str]:
    connection = HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", errors="replace")
    finally:
        connection.close()


def _not_ready(said: str) -> str:
    """The parts that are not ready, with their reasons, from a body of ``/ready``."""
    try:
        parts: dict[str, Any] = json.loads(said)["parts"]
        waiting = [
            f"{name} ({part['detail']})" if part["detail"] else name for name, part in parts.items() if not part["ok"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return said.strip()[:200]
    return "not ready: " + (", ".join(waiting) or "has not started")


def _lag(metrics: str) -> int | None:
    """Records not yet handled, over all topics and partitions; None when it reads nothing."""
    found = [float(value) for value in _LAG.findall(metrics)]
    return round(sum(found)) if found else None
