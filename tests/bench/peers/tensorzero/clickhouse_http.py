"""As much of ClickHouse's HTTP interface over the embedded engine (chDB) as TensorZero's gateway asks for.

Queries and inserts, parameters, and tables sent along as a form. Rows of one table that come while an insert is under
way go in together, which is what a server does for the ``async_insert=1, wait_for_async_insert=1`` that TensorZero
asks: each is answered once its rows are in. ``clickhouse_http.py FOLDER`` prints its port as JSON.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import chdb

INSERT: Final = re.compile(rb"\s*INSERT INTO .*?FORMAT JSONEachRow\s*\n", re.DOTALL)
CODE: Final = re.compile(r"Code: (\d+)")
MOST_AT_ONCE: Final = 1000
SUMMARY: Final = json.dumps(
    dict.fromkeys(
        ("read_rows", "read_bytes", "written_rows", "written_bytes", "total_rows_to_read", "result_rows", "elapsed_ns"),
        "0",
    )
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as it came; ``rows`` follow the statement of an insert."""

    statement: str
    rows: bytes
    database: str
    format: str
    parameters: dict[str, str]
    tables: Sequence[tuple[str, str, str, str]] = ()
    """Sent along: name, structure, format and data."""
    done: Future[bytes] = field(default_factory=Future)

    def goes_with(self, other: Asked) -> bool:
        """Whether both are rows for one table."""
        return bool(self.rows and other.rows) and (self.statement, self.database) == (other.statement, other.database)


class Engine:
    """One thread that asks the engine, as its connection is one session."""

    def __init__(self, folder: str) -> None:
        self._connection = chdb.connect(folder)
        self._asked: SimpleQueue[Asked] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, asked: Asked) -> bytes:
        """Run a statement. Raises ``RuntimeError`` with what the engine says."""
        self._asked.put(asked)
        return asked.done.result()

    def _run(self) -> None:
        waiting: list[Asked] = []
        while True:
            waiting = waiting or [self._asked.get()]
            while not self._asked.empty() and len(waiting) < MOST_AT_ONCE:
                waiting.append(self._asked.get())
            together = [each for each in waiting if each is waiting[0] or each.goes_with(waiting[0])]
            waiting = [each for each in waiting if each not in together]
            try:
                found = self._query(together[0], b"\n".join(each.rows for each in together))
            except Exception as error:  # whatever it is, whoever asked is told
                for each in together:
                    each.done.set_exception(RuntimeError(str(error)))
                continue
            for each in together:
                each.done.set_result(found)

    def _query(self, asked: Asked, rows: bytes) -> bytes:
        ask = self._connection.query
        if asked.database and "CREATE DATABASE" not in asked.statement:
            ask(f"USE `{asked.database}`")
        for name, structure, form, data in asked.tables:
            ask(f"CREATE OR REPLACE TABLE {name} ({structure}) ENGINE = Memory")
            ask(f"INSERT INTO {name} FORMAT {form}\n{data}")
        statement = asked.statement + rows.decode()
        found: Any = ask(statement, asked.format, params=asked.parameters or None)
        return bytes(found.bytes() or b"")


class Handler(BaseHTTPRequestHandler):
    """A connection."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer ``/ping`` and queries in the address."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer a query."""
        self._answer(self._body())

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        address = urlsplit(self.path)
        if address.path == "/ping":
            self._say(200, b"Ok.\n")
            return
        try:
            self._say(200, self.engine.ask(read(dict(parse_qsl(address.query)), self.headers, body)))
        except RuntimeError as error:
            code = CODE.search(str(error))
            self._say(500, str(error).encode(), code[1] if code else "1")

    def _say(self, status: int, body: bytes, code: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-clickhouse-summary", SUMMARY)
        if code is not None:
            self.send_header("x-clickhouse-exception-code", code)
        self.end_headers()
        self.wfile.write(body)


def read(parameters: dict[str, str], headers: Any, body: bytes) -> Asked:
    """Make a statement of a request."""
    query, tables = parameters.get("query", "").encode(), []
    kind = headers.get("content-type") or ""
    if kind.startswith("multipart/form-data"):
        whole = message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
        sent = {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in whole.walk()}
        text = {str(name): data.decode() for name, data in sent.items() if isinstance(data, bytes)}
        body = text.pop("query", "").encode()
        names = {name.removesuffix("_structure") for name in text if name.endswith("_structure")}
        tables = [(name, text[f"{name}_structure"], text[f"{name}_format"], text[name]) for name in sorted(names)]
    whole_query = query + (b"\n" if query and body else b"") + body
    found = INSERT.match(whole_query)
    statement, rows = (whole_query[: found.end()], whole_query[found.end() :]) if found else (whole_query, b"")
    return Asked(
        statement.decode().rstrip(" \t;") if not rows else statement.decode(),
        rows,
        parameters.get("database", ""),
        parameters.get("default_format", "TabSeparated"),
        {name[6:]: value for name, value in parameters.items() if name.startswith("param_")},
        tables,
    )


def main() -> None:
    """Serve until terminated."""
    Handler.engine = Engine(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
