"""A schema registry that can be taught a schema while it runs, and a version of a schema that nobody has yet."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import fastavro

from flywheel.events import LocalRegistry
from flywheel.events.declarations import SchemaVersion

UNKNOWN_ID = 900_001


@dataclass(frozen=True, slots=True)
class NextSchema:
    """The version after the newest one: one more optional field."""

    version: SchemaVersion
    parsed: Any

    @classmethod
    def of(cls, event: str, field: str) -> Self:
        """The next version of an event, with a text field of this name."""
        newest = LocalRegistry.load().newest(event)
        schema = newest.avsc
        schema["fields"].append(
            {"name": field, "type": ["null", "string"], "default": None, "doc": "New.", "pii": "none"}
        )
        version = SchemaVersion(event, newest.version + 1, UNKNOWN_ID, json.dumps(schema, separators=(",", ":")))
        return cls(version, fastavro.parse_schema(schema))


class SchemaServer:
    """Answers as a Confluent-compatible registry does: registers what it knows under its pinned id, and ids."""

    def __init__(self) -> None:
        self._known = list(LocalRegistry.load().all())
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["schema"]
                self._answer(next(({"id": v.schema_id} for v in server._known if v.text == asked), None))

            def do_GET(self) -> None:
                wanted = self.path.rpartition("/")[2]
                self._answer(next(({"schema": v.text} for v in server._known if str(v.schema_id) == wanted), None))

            def _answer(self, found: dict[str, Any] | None) -> None:
                body = json.dumps(found or {"error_code": 40403, "message": "not found"}).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: the services say what they ask."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def learn(self, version: SchemaVersion) -> None:
        """Know this schema from now on."""
        self._known.append(version)

    def registry(self) -> LocalRegistry:
        """What it knows now, but writing as this installation does."""
        return _ReadsMore(LocalRegistry.load(), {v.schema_id: v for v in self._known})

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _ReadsMore(LocalRegistry):
    def __init__(self, own: LocalRegistry, known: dict[int, SchemaVersion]) -> None:
        super().__init__(own.all())
        self._known = known

    def by_id(self, schema_id: int) -> SchemaVersion | None:
        """See `Registry.by_id`."""
        return self._known.get(schema_id)
