"""The short way for ``POST /v1/decide``: answered inside uvicorn's own HTTP/1.1 protocol, as soon as the body is there.

uvicorn makes a task, a scope and two writes for each request; for a decision that costs more than deciding. Everything
else, and a decide request that is not plain (pipelined behind another, ``Expect``, an upgrade, a client that does not
read), goes the long way through the ASGI application, which gives the same answers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flywheel_router.app import DECIDE_PATH, RouterApp
from flywheel_router.reading import MAX_BODY_BYTES

_PATH: Final = DECIDE_PATH.encode()
_HEADS: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n".encode()
    for status in HTTPStatus
}


class DecideProtocol(HttpToolsProtocol):
    """One connection."""

    _body: list[bytes] | None = None
    """Parts of the body of a request on the short way; None: the request goes the long way."""
    _body_bytes = 0
    _last = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if (
            self.url == _PATH
            and self.parser.get_method() == b"POST"
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.pipeline
            and (self.cycle is None or self.cycle.response_complete)
            and not self.parser.should_upgrade()
        ):
            self._body = []
            self._body_bytes = 0
            return
        self._body = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep the body, as far as it may be long."""
        if self._body is None:
            super().on_body(body)
            return
        self._body_bytes += len(body)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._body is None:
            super().on_message_complete()
            return
        body = b"".join(self._body) if self._body_bytes <= MAX_BODY_BYTES else None
        app: RouterApp = self.config.app  # type: ignore[assignment]
        reply = app.decide(body, self.headers)
        self._body = None
        if reply is None:
            self._go_the_long_way(body or b"")
            return
        status, payload, extra = reply
        keep_alive = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive() and not self._last
        parts = [_HEADS[status]]
        for name, value in (*self.server_state.default_headers, *extra):
            parts += (name, b": ", value, b"\r\n")
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(payload), payload)
        self.transport.write(b"".join(parts))
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _go_the_long_way(self, body: bytes) -> None:
        """Have the ASGI application answer a request that was read here: it has to wait for money."""
        super().on_headers_complete()
        if body:
            super().on_body(body)
        super().on_message_complete()

    def shutdown(self) -> None:
        """Let a request that is being read have its answer, then close."""
        if self._body is None:
            super().shutdown()
        else:
            self._last = True
