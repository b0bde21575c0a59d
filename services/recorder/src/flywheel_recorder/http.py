"""ClickHouse's HTTP protocol, the part that reading needs: what curl, clickhouse-connect and BI tools speak."""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import hashlib
import hmac
import json
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from flywheel.store import DATABASE
from flywheel_recorder.reader import Answer, Limits, QueryFailed, Reader

MAX_BODY_BYTES: Final = 1_000_000
MAX_WAITING: Final = 64

SETTINGS: Final = frozenset(
    {
        "date_time_output_format",
        "extremes",
        "format_csv_delimiter",
        "join_use_nulls",
        "log_comment",
        "max_block_size",
        "max_result_rows",
        "output_format_json_quote_64bit_integers",
        "output_format_json_quote_decimals",
        "output_format_json_quote_denormals",
        "output_format_json_named_tuples_as_objects",
        "output_format_native_write_json_as_string",
        "output_format_pretty_max_rows",
        "session_timezone",
        "totals_mode",
    }
)
"""Settings a request may carry; each changes a result's form or narrows a limit."""
IGNORED: Final = frozenset(
    {
        "add_http_cors_header",
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "compress",
        "decompress",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "http_response_buffer_size",
        "http_write_exception_in_output_format",
        "http_zlib_compression_level",
        "quota_key",
        "readonly",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "wait_end_of_query",
    }
)
"""Parameters of the transport that make no difference here: there are no sessions and results are sent whole."""
_NAMED: Final = frozenset({"query", "database", "default_format", "query_id", "user", "password"})

_STATUS: Final[Mapping[int, int]] = MappingProxyType(
    {
        **dict.fromkeys((6, 26, 27, 41, 42, 43, 53, 62, 72, 115, 117, 386, 456, 457), 400),
        **dict.fromkeys((16, 46, 47, 50, 60, 81), 404),
        **dict.fromkeys((164, 194, 497), 403),
        **dict.fromkeys((159, 160), 408),
        48: 501,
        202: 503,
        307: 413,
        396: 413,
        516: 401,
    }
)
_TYPES: Final = (
    ("JSONEachRow", "application/x-ndjson; charset=UTF-8"),
    ("JSON", "application/json; charset=UTF-8"),
    ("CSV", "text/csv; charset=UTF-8"),
    ("Native", "application/octet-stream"),
    ("RowBinary", "application/octet-stream"),
    ("Parquet", "application/octet-stream"),
    ("Arrow", "application/octet-stream"),
    ("Tab", "text/tab-separated-values; charset=UTF-8"),
    ("TSV", "text/tab-separated-values; charset=UTF-8"),
)


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may ask, known by the SHA-256 of their password; ``content`` opens prompts and answers."""

    password_sha256: str = field(repr=False)
    content: bool = False


Observer = Callable[[str, float], None]
"""Told after each query: status and seconds."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The HTTP side of a reader.

    Attributes:
        reader: runs the queries.
        pool: the threads they run in.
        users: who may ask; when empty anyone who can reach the port may, without content.
        limits: what a query may cost; a request may lower its time and threads.
        observe: told after each query.
        waiting: how many queries may run or wait; more are turned away.
    """

    reader: Reader
    pool: ThreadPoolExecutor
    users: Mapping[str, User]
    limits: Limits
    observe: Observer
    waiting: asyncio.Semaphore

    async def answer(self, request: Request) -> Response:
        """GET or POST ``/``: run the query and send the result, or the exception, as ClickHouse does."""
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        started = time.perf_counter()
        try:
            result = await self._run(request)
        except QueryFailed as failed:
            self.observe(failed.name.lower(), time.perf_counter() - started)
            return _exception(failed, query_id)
        self.observe("ok", time.perf_counter() - started)
        if result is None:
            return PlainTextResponse("Ok.\n", headers=_headers(query_id))
        return _result(result, query_id, accepts_gzip=_accepts_gzip(request))

    async def _run(self, request: Request) -> Answer | None:
        _check_host(request)
        content = self._authenticate(request)
        body = await _body(request)
        parameters = request.query_params
        sql = "\n".join(part for part in (parameters.get("query", ""), body) if part)
        if not sql.strip():
            if request.method == "GET":
                return None
            raise QueryFailed(62, "SYNTAX_ERROR", "Empty query")
        settings = self._settings({k: v for k, v in parameters.items() if not k.startswith("param_")})
        default_format = (
            parameters.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated"
        )
        database = parameters.get("database") or request.headers.get("x-clickhouse-database") or DATABASE
        if self.waiting.locked():
            raise QueryFailed(202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many queries wait; try again shortly")
        async with self.waiting:
            return await asyncio.get_running_loop().run_in_executor(
                self.pool,
                lambda: self.reader.query(
                    sql,
                    default_format=default_format,
                    parameters={k[6:]: v for k, v in parameters.items() if k.startswith("param_")},
                    settings=settings,
                    database=DATABASE if database == "default" else database,
                    content=content,
                ),
            )

    def _settings(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """The settings among a request's parameters. Raises QueryFailed for one that is not allowed."""
        settings: dict[str, str] = {}
        limits = {"max_execution_time": self.limits.seconds, "max_threads": float(self.limits.threads)}
        for name, value in parameters.items():
            if name in _NAMED or name in IGNORED:
                continue
            if name in limits:
                if not _between(value, limits[name]):
                    raise QueryFailed(
                        164, "READONLY", f"{name} may be lowered below {limits[name]:g}, not set to {value:.20}"
                    )
                settings[name] = value
            elif name in SETTINGS:
                settings[name] = value
            else:
                raise QueryFailed(164, "READONLY", f"Cannot modify '{name:.60}' setting: it is not open to readers")
        return settings

    def _authenticate(self, request: Request) -> bool:
        """Whether the reader may see content. Raises QueryFailed when they may not ask at all."""
        if not self.users:
            return False
        name, password = _credentials(request)
        known = self.users.get(name)
        given = hashlib.sha256(password.encode()).hexdigest()
        if not hmac.compare_digest(given, known.password_sha256 if known else "0" * 64) or known is None:
            raise QueryFailed(516, "AUTHENTICATION_FAILED", "Authentication failed: unknown user or wrong password")
        return known.content


async def ping(_request: Request) -> Response:
    """``/ping``: the answer every ClickHouse client expects of a live server."""
    return PlainTextResponse("Ok.\n")


def sql_app(endpoint: Endpoint) -> Starlette:
    """The ASGI application."""
    return Starlette(
        routes=[
            Route("/", endpoint.answer, methods=["GET", "POST"]),
            Route("/query", endpoint.answer, methods=["GET", "POST"]),
            Route("/ping", ping),
            Route("/replicas_status", ping),
        ]
    )


def parse_users(text: str) -> dict[str, User]:
    """Read ``{"ana": {"password_sha256": "…", "content": true}}``. Raises ValueError naming the user at fault."""
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("users: expected an object of users by name")
    users: dict[str, User] = {}
    for name, entry in raw.items():
        digest = entry.get("password_sha256") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or len(digest) != 64:
            raise ValueError(f"users: {name}: password_sha256 must be 64 hex digits")
        users[name] = User(digest.lower(), bool(entry.get("content", False)))
    return users


def _credentials(request: Request) -> tuple[str, str]:
    headers, parameters = request.headers, request.query_params
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith("basic "):
        try:
            name, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
            return name, password
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
    name = headers.get("x-clickhouse-user") or parameters.get("user") or "default"
    return name, headers.get("x-clickhouse-key") or parameters.get("password") or ""


def _check_host(request: Request) -> None:
    """Refuse requests that reached a loopback port under some other site's name (DNS rebinding)."""
    client = request.client
    host = request.url.hostname or ""
    if client is None or not ip_address(client.host).is_loopback or host == "localhost":
        return
    try:
        ip_address(host)
    except ValueError:
        raise QueryFailed(516, "AUTHENTICATION_FAILED", f"Host {host:.60} is not this endpoint's name") from None


async def _body(request: Request) -> str:
    """The request's body as text, unpacked. Raises QueryFailed when it is too long or not text."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise QueryFailed(48, "NOT_IMPLEMENTED", "external data is not available here")
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise QueryFailed(307, "TOO_MANY_BYTES", f"a query may have {MAX_BODY_BYTES} bytes")
    encoding = request.headers.get("content-encoding", "identity")
    try:
        return _unpack(bytes(chunks), encoding).decode()
    except (zlib.error, OSError, UnicodeDecodeError) as error:
        raise QueryFailed(62, "SYNTAX_ERROR", f"the body is not {encoding} text: {error}") from error


def _unpack(data: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return data
    if encoding not in ("gzip", "deflate"):
        raise QueryFailed(48, "NOT_IMPLEMENTED", f"Content-Encoding {encoding:.20} is not available here")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    text = unpacker.decompress(data, MAX_BODY_BYTES)
    if unpacker.unconsumed_tail:
        raise QueryFailed(307, "TOO_MANY_BYTES", f"a query may have {MAX_BODY_BYTES} bytes")
    return text


def _between(value: str, limit: float) -> bool:
    try:
        return 0 < float(value) <= limit
    except ValueError:
        return False


def _accepts_gzip(request: Request) -> bool:
    wanted = request.query_params.get("enable_http_compression") == "1"
    return wanted and "gzip" in request.headers.get("accept-encoding", "")


def _headers(query_id: str) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Server-Display-Name": "flywheel",
        "X-ClickHouse-Timezone": "UTC",
    }


def _result(answer: Answer, query_id: str, *, accepts_gzip: bool) -> Response:
    headers = _headers(query_id)
    headers["X-ClickHouse-Format"] = answer.format
    headers["X-ClickHouse-Summary"] = json.dumps(
        {
            "read_rows": str(answer.rows_read),
            "read_bytes": str(answer.bytes_read),
            "elapsed_ns": str(int(answer.elapsed_s * 1e9)),
        }
    )
    media = next((kind for prefix, kind in _TYPES if answer.format.startswith(prefix)), "text/plain; charset=UTF-8")
    body = answer.body
    if accepts_gzip and len(body) > 1000:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=media, headers=headers)


def _exception(failed: QueryFailed, query_id: str) -> Response:
    headers = {**_headers(query_id), "X-ClickHouse-Exception-Code": str(failed.code)}
    if failed.code == 516:
        headers["WWW-Authenticate"] = 'Basic realm="flywheel"'
    text = str(failed)
    if not text.startswith("Code: "):
        text = f"Code: {failed.code}. DB::Exception: {text}. ({failed.name})"
    return PlainTextResponse(f"{text}\n", status_code=_STATUS.get(failed.code, 500), headers=headers)
