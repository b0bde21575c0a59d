"""Asking ClickHouse over its HTTP protocol: the recorder's read-only side, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

FORMAT: Final = "JSONCompact"


class QueryFailed(RuntimeError):
    """A query that ClickHouse refused, or nobody there to ask."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query: column names, their ClickHouse types, and rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def scalar(self) -> Any:
        """The only value of a one-row, one-column answer."""
        ((value,),) = self.rows
        return value


def ask(url: str, query: str, *, timeout_s: float = 30.0, client: httpx.Client | None = None) -> Rows:
    """The rows of ``query``. 64-bit integers arrive as integers. Raises ``QueryFailed`` with ClickHouse's first
    line."""
    params = {"default_format": FORMAT, "output_format_json_quote_64bit_integers": "0"}
    try:
        if client is None:
            answer = httpx.post(f"{url}/", params=params, content=query.encode(), timeout=timeout_s)
        else:
            answer = client.post(f"{url}/", params=params, content=query.encode(), timeout=timeout_s)
    except httpx.HTTPError as error:
        raise QueryFailed(f"asking ClickHouse at {url}: {error}; is the system up? (flywheel up)") from error
    if answer.status_code != 200:
        raise QueryFailed(_first_line(answer.text))
    if not answer.content.strip():
        return Rows((), (), [])
    try:
        body = orjson.loads(answer.content)
        meta = body["meta"]
        return Rows(tuple(c["name"] for c in meta), tuple(c["type"] for c in meta), body["data"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise QueryFailed(f"asking ClickHouse at {url}: the answer is not {FORMAT}: {answer.text[:200]!r}") from error


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:500] if lines else "ClickHouse refused the query without a word"
