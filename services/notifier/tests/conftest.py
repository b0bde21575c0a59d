"""A receiver that really listens, and the alerts that are sent to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from flywheel.events import Codec, LocalRegistry, event_id

T0 = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
S = 1_000_000
CODEC = Codec(LocalRegistry.load())


def report(alert_id: str, at_s: float, state: str = "firing", **more: Any) -> dict[str, Any]:
    """An ``alert`` event as a reader sees it; times in seconds after `T0`."""
    value = {
        "event_id": event_id("report", alert_id, state, at_s, more.get("severity", "")), "alert_id": alert_id,
        "project": "acme", "occurred_at": T0 + round(at_s * S), "kind": "error_rate", "severity": "warning",
        "state": state, "scope": {"feature": "answers", "arm": "strong"}, "subject": "acme/answers",
        "title": f"answers: {alert_id}", "value": 0.5, "threshold": 0.01,
    }  # fmt: skip
    return CODEC.decode(CODEC.encode("alert", value | more)).value


class Received(NamedTuple):
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class Receiver:
    """A web server on a thread. ``answers``: statuses for the next requests, then 200; a header may go with each."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.refused: list[Received] = []
        self.answers: list[tuple[int, Mapping[str, str]]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[tuple[str, str]]:
        """Reason and id of every alert that was taken, in order."""
        return [(each["reason"], each["alert_id"]) for got in self.received for each in got.body["alerts"]]

    def take(self, got: Received) -> tuple[int, Mapping[str, str]]:
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        (self.received if status < 300 else self.refused).append(got)
        return status, headers


def listen(receiver: Receiver, port: int = 0) -> ThreadingHTTPServer:
    """Begin to answer; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            status, more = receiver.take(Received(self.path, headers, raw))
            self.send_response(status)
            for name, text in more.items():
                self.send_header(name, text)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    server = listen(made)
    yield made
    server.shutdown()
    server.server_close()
