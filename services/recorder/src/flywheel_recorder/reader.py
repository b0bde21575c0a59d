"""Answers SQL from the embedded engine, read-only, beside the writer in the same process."""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import chdb

from flywheel.store import DATABASE, engine_options, engine_path, quoted
from flywheel_recorder.gate import REACHING_OUTSIDE, SYNTAX_ERROR, Passed, Turned, judge, judge_describing

_CODE: Final = re.compile(r"Code: (\d+)\.")
_NAME: Final = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*(?:\(version [^)]*\)\s*)?$")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")


class QueryFailed(Exception):
    """A query was refused or failed: ClickHouse's code and name for it, and its message."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may cost."""

    seconds: float = 30.0
    memory_bytes: int = 1_000_000_000
    result_bytes: int = 256_000_000
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """A result as it goes over the wire."""

    body: bytes
    format: str
    rows_read: int
    bytes_read: int
    elapsed_s: float


class Reader:
    """Read-only connections to the engine in this process, for several threads at once.

    Args:
        path: the engine's folder; the writer must have opened it before with the same options.
        limits: what one query may cost.
        connections: how many queries of one kind of reader run at the same time.
    """

    def __init__(self, path: Path, limits: Limits, connections: int = 4) -> None:
        self._path = engine_path(path)
        self._limits = limits
        self._gate = self._open("analyst")
        self._gate_lock = threading.Lock()
        ai = self._gate.query("SELECT lower(name) FROM system.functions WHERE categories = 'AI' OR origin != 'System'")
        self._denied = REACHING_OUTSIDE | set(ai.bytes().decode().replace('"', "").split())
        self._idle: dict[str, queue.SimpleQueue[Any]] = {}
        for roles in ("analyst", "analyst, content"):
            self._idle[roles] = queue.SimpleQueue()
            for _ in range(connections):
                self._idle[roles].put(self._readonly(roles, {}))

    def query(
        self,
        sql: str,
        *,
        default_format: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        database: str,
        content: bool,
    ) -> Answer:
        """Run one query.

        Args:
            sql: one statement that reads.
            default_format: output format where the query names none.
            parameters: values of its ``{name:Type}`` placeholders, in ClickHouse's escaped text form.
            settings: settings for this query; the caller has checked that they are allowed.
            database: where unqualified names are looked up.
            content: whether the reader may see prompts and answers.

        Raises:
            QueryFailed: refused, or it failed in the engine.
        """
        passed = self.admit(sql)
        roles = "analyst, content" if content else "analyst"
        with self._connection(roles, settings) as connection:
            try:
                connection.query(f"USE {_identifier(database)}")
                result = connection.query(sql, default_format, params=dict(parameters))
                body = result.bytes() or b""
                if len(body) > self._limits.result_bytes:  # the embedded engine does not hold to max_result_bytes
                    limit = f"{self._limits.result_bytes} bytes"
                    raise QueryFailed(396, "TOO_MANY_ROWS_OR_BYTES", f"the result is larger than {limit}")
                return Answer(
                    body=body,
                    format=passed.format or default_format,
                    rows_read=result.rows_read(),
                    bytes_read=result.bytes_read(),
                    elapsed_s=result.elapsed(),
                )
            except RuntimeError as error:
                raise failure(error) from error

    def admit(self, sql: str) -> Passed:
        """Decide whether a query may run. Raises QueryFailed when not."""
        if "\0" in sql:
            raise QueryFailed(SYNTAX_ERROR, "SYNTAX_ERROR", "a query has no NUL characters")
        with self._gate_lock:
            report = self._gate._conn.classify_query(sql)
            if report["statement_count"] > 1:
                raise QueryFailed(SYNTAX_ERROR, "SYNTAX_ERROR", "Multi-statements are not allowed")
            if report["statement_count"] == 1 and report["query_class"].name != "READ_ONLY":
                raise QueryFailed(164, "READONLY", "Cannot execute query in readonly mode: this endpoint only reads")
            verdict = self._judge(sql)
        if isinstance(verdict, Turned):
            raise QueryFailed(verdict.code, verdict.name, verdict.message)
        return verdict

    def close(self) -> None:
        """Close every idle connection."""
        for idle in self._idle.values():
            while not idle.empty():
                idle.get().close()
        self._gate.close()

    def _judge(self, sql: str) -> Passed | Turned:
        parameters = {"q": sql.translate(_ESCAPES)}
        try:
            tree = self._gate.query("SELECT parseQueryToJSON({q:String})", "TSVRaw", params=parameters)
            return judge(json.loads(tree.bytes()), self._denied)
        except RuntimeError as error:
            if "does not support JSON serialization" not in str(error):
                raise failure(error) from error
            normal = self._gate.query("SELECT formatQuerySingleLine({q:String})", "TSVRaw", params=parameters)
            return judge_describing(normal.bytes().decode())

    @contextmanager
    def _connection(self, roles: str, settings: Mapping[str, str]) -> Iterator[Any]:
        if settings:
            connection = self._readonly(roles, settings)
            try:
                yield connection
            finally:
                connection.close()
            return
        connection = self._idle[roles].get()
        try:
            yield connection
        finally:
            self._idle[roles].put(connection)

    def _readonly(self, roles: str, settings: Mapping[str, str]) -> Any:
        """A connection that has given up every right but reading; the order matters, it can't take one back."""
        connection = self._open(roles)
        limits = self._limits
        try:
            for name, value in {
                "max_execution_time": str(limits.seconds),
                "max_memory_usage": str(limits.memory_bytes),
                "max_threads": str(limits.threads),
                **settings,
            }.items():
                connection.query(f"SET {_identifier(name)} = {quoted(value)}")
            connection.query("SET readonly = 1")
        except RuntimeError as error:
            connection.close()
            raise failure(error) from error
        return connection

    def _open(self, roles: str) -> Any:
        options = "&".join(f"{name}={value}" for name, value in engine_options().items())
        connection = chdb.connect(f"{self._path}?{options}")
        connection.query(f"USE {DATABASE}")
        connection.query(f"SET ROLE {roles}")
        return connection


def failure(error: Exception) -> QueryFailed:
    """ClickHouse's code, name and message from what the engine raised."""
    text = str(error)
    start = text.find("Code: ")
    message = (text[start:] if start >= 0 else text).strip()
    code, name = _CODE.search(message), _NAME.search(message)
    return QueryFailed(int(code.group(1)) if code else 1002, name.group(1) if name else "UNKNOWN_EXCEPTION", message)


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise QueryFailed(SYNTAX_ERROR, "SYNTAX_ERROR", f"{name[:60]!r} is not a name")
    return name
