"""Facts read back from ClickHouse as the events they were: exact in every field that stage 1 reads."""

from __future__ import annotations

import base64
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

import orjson

from flywheel.events import Codec, topics
from flywheel.stream import Event, RawRecord, TopicPartition
from flywheel_bandit.core import INPUTS
from flywheel_bandit.wiring import NEEDED

WINDOW_ROWS: Final = 20_000
_MINUTE_MS: Final = 60_000
_ASK_S: Final = 300.0
_VIEWS: Final[Mapping[str, str]] = {
    "llm-decisions": "v_decisions",
    "llm-calls": "v_calls",
    "llm-feedback": "v_feedback",
    "llm-evaluations": "v_evaluations",
}
_EXACT: Final = Context(prec=40)
_CHARTER: Final = ("event_id", "project", "feature", "revision", "charter_yaml", "digest")
Convert = Callable[[Any], Any]


class NotReadable(RuntimeError):
    """ClickHouse cannot be reached or refused a query; says which address and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """What ClickHouse knows of a partition below an offset, in records: ``repeats`` of events it has, ``differing``
    among them, ``refused`` by the recorder, and ``refused_here_only``, which the bandit had taken all the same."""

    repeats: int
    differing: int
    refused: int
    refused_here_only: int


@dataclass(frozen=True, slots=True)
class _Column:
    """A field as SQL that loses nothing in JSON, and the way back."""

    name: str
    sql: str
    back: Convert | None


class Recorded:
    """The facts in ClickHouse. ``url`` is http(s)://[user:password@]host:port of the recorder or of a server."""

    def __init__(self, url: str, codec: Codec) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotReadable(f"{url!r} is not the HTTP address of ClickHouse: give http://host:port")
        self._url = f"{parts.scheme}://{parts.hostname}:{parts.port or 8123}/"
        self._authorization = None
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        self._columns = {topic: _columns(codec, topics()[topic].event) for topic in INPUTS}

    def newest(self) -> dict[TopicPartition, int]:
        """The offset after the newest record of each partition that the recorder has a word on. Raises
        NotReadable."""
        found: dict[TopicPartition, int] = {}
        queries = [f"SELECT '{t}', k_partition, max(k_offset) FROM {view} GROUP BY 2" for t, view in _VIEWS.items()]
        queries.append("SELECT k_topic, k_partition, max(k_offset) FROM v_duplicates GROUP BY 1, 2")
        queries.append(
            "SELECT source_topic, source_partition, max(source_offset) FROM v_dead_letters"
            " WHERE service = 'recorder' GROUP BY 1, 2"
        )
        for query in queries:
            for topic, partition, offset in self._ask(query):
                place = TopicPartition(topic, partition)
                found[place] = max(found.get(place, 0), offset + 1)
        return found

    def arrived_before(self, partition: TopicPartition, offset: int) -> int:
        """When the newest recorded fact below an offset came to Kafka, in ms; 0 where there is none. Raises
        NotReadable."""
        ((found,),) = self._ask(
            f"SELECT toInt64(toUnixTimestamp64Milli(max(k_timestamp))) FROM {_VIEWS[partition.topic]}"
            f" WHERE k_partition = {partition.partition} AND k_offset < {offset}"
        )
        return max(0, int(found))

    def account(self, partition: TopicPartition, offset: int) -> Account:
        """What became of the records below an offset that have no row. Raises NotReadable."""
        ((repeats, differing),) = self._ask(
            "SELECT uniqExact(k_offset), uniqExactIf(k_offset, ifNull(same_content, false) = false) FROM v_duplicates"
            f" WHERE k_topic = '{partition.topic}' AND k_partition = {partition.partition} AND k_offset < {offset}"
        )
        where = (
            f"source_topic = '{partition.topic}' AND source_partition = {partition.partition}"
            f" AND source_offset < {offset}"
        )
        ((refused, alone),) = self._ask(
            "SELECT uniqExact(source_offset), uniqExactIf(source_offset, source_offset NOT IN (SELECT source_offset"
            f" FROM v_dead_letters WHERE {where} AND service = 'bandit')) FROM v_dead_letters"
            f" WHERE {where} AND service = 'recorder'"
        )
        return Account(repeats, differing, refused, alone)

    def charters(self) -> list[dict[str, Any]]:
        """Every charter revision recorded, as ``charter`` events. Raises NotReadable."""
        names = ", ".join(_CHARTER)
        rows = self._ask(f"SELECT toUnixTimestamp64Micro(occurred_at), {names} FROM v_charters")
        return [{"occurred_at": row[0], **dict(zip(_CHARTER, row[1:], strict=True))} for row in rows]

    def windows(self, until: Mapping[TopicPartition, int]) -> Iterator[list[Event]]:
        """The facts below these offsets in the order in which they came to Kafka, a list for each stretch of time.

        The topics advance together, as the fold wants it. Raises NotReadable.
        """
        for start_ms, stop_ms in self._stretches(until):
            events = [event for topic in INPUTS for event in self._facts(topic, start_ms, stop_ms, until)]
            # Sorting is stable: within a topic the rows come in the order of their offsets.
            events.sort(key=_arrival)
            yield events

    def _stretches(self, until: Mapping[TopicPartition, int]) -> Iterator[tuple[int, int]]:
        counts: dict[int, int] = {}
        for topic in INPUTS:
            minutes = self._ask(
                f"SELECT intDiv(toUnixTimestamp64Milli(k_timestamp), {_MINUTE_MS}) AS minute, count()"
                f" FROM {_VIEWS[topic]} WHERE {_below(topic, until)} GROUP BY minute"
            )
            for minute, count in minutes:
                counts[minute] = counts.get(minute, 0) + count
        start: int | None = None
        held = 0
        for minute in sorted(counts):
            if start is not None and held + counts[minute] > WINDOW_ROWS:
                yield start, minute * _MINUTE_MS
                start, held = None, 0
            if counts[minute] > WINDOW_ROWS:
                parts = min(-(-counts[minute] // WINDOW_ROWS), _MINUTE_MS)
                edges = [minute * _MINUTE_MS + _MINUTE_MS * n // parts for n in range(parts + 1)]
                yield from pairwise(edges)
                continue
            start = minute * _MINUTE_MS if start is None else start
            held += counts[minute]
        if start is not None:
            yield start, (max(counts) + 1) * _MINUTE_MS

    def _facts(self, topic: str, start_ms: int, stop_ms: int, until: Mapping[TopicPartition, int]) -> Iterator[Event]:
        columns = self._columns[topic]
        rows = self._ask(
            "SELECT k_partition, k_offset, toUnixTimestamp64Milli(k_timestamp), "
            f"{', '.join(column.sql for column in columns)} FROM {_VIEWS[topic]}"
            f" WHERE k_timestamp >= fromUnixTimestamp64Milli(toInt64({start_ms}))"
            f" AND k_timestamp < fromUnixTimestamp64Milli(toInt64({stop_ms})) AND ({_below(topic, until)})"
            " ORDER BY k_partition, k_offset"
        )
        event = topics()[topic].event
        names = [column.name for column in columns]
        backs = [(number, column.back) for number, column in enumerate(columns, 3) if column.back is not None]
        for row in rows:
            for number, back in backs:
                if row[number] is not None:
                    row[number] = back(row[number])
            raw = RawRecord(topic, row[0], row[1], row[2], None, None)
            yield Event(raw, event, 1, dict(zip(names, row[3:], strict=True)))

    def _ask(self, query: str) -> list[list[Any]]:
        settings = {"output_format_json_quote_64bit_integers": "0", "default_format": "JSONCompactEachRow"}
        request = urllib.request.Request(f"{self._url}?{urlencode(settings)}", data=query.encode())
        if self._authorization is not None:
            request.add_header("Authorization", self._authorization)
        try:
            # No proxy of the environment: ClickHouse is named by its address.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=_ASK_S) as answer:
                return [orjson.loads(line) for line in answer.read().splitlines()]
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace").split("\n")[0][:300]
            raise NotReadable(f"ClickHouse at {self._url} refused a query: {words}") from error
        except (OSError, orjson.JSONDecodeError) as error:
            raise NotReadable(f"ClickHouse at {self._url} does not answer ({error}): start the recorder") from error


def _arrival(event: Event) -> int:
    return event.raw.timestamp_ms


def _below(topic: str, until: Mapping[TopicPartition, int]) -> str:
    """SQL: the rows of a topic below the offsets given."""
    wanted = [(tp.partition, offset) for tp, offset in sorted(until.items()) if tp.topic == topic]
    return " OR ".join(f"(k_partition = {number} AND k_offset < {offset})" for number, offset in wanted) or "false"


def _columns(codec: Codec, event: str) -> Sequence[_Column]:
    types = {field["name"]: field["type"] for field in codec.schema(event)["fields"]}
    return [_column(name, types[name]) for name in NEEDED[event]]


def _column(name: str, declared: Any) -> _Column:
    avro = next(t for t in declared if t != "null") if isinstance(declared, list) else declared
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    if logical == "timestamp-micros":
        return _Column(name, f"toUnixTimestamp64Micro({name})", None)
    if logical == "decimal":
        return _Column(name, f"toString({name})", _money(avro["scale"]))
    if avro == "double":  # its bits: JSON loses the sign of zero
        return _Column(name, f"reinterpretAsInt64({name})", _double)
    return _Column(name, name, None)


def _money(scale: int) -> Convert:
    quantum = Decimal(1).scaleb(-scale)
    return lambda text: Decimal(text).quantize(quantum, context=_EXACT)


def _double(bits: int) -> float:
    found: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return found
