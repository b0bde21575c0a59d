"""Bad input straight into the topics, past ingest: each malformed or absurd record of ``llm-calls`` becomes one dead
letter that says why and names the field, its neighbours become rows, and the counts reconcile.

The recorder and the bandit run whole, on the in-memory broker and the embedded engine. An unknown schema id is not
among the rows: it waits (a producer was deployed first), as the runner's conformance suite shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.observe import Health, Metrics
from flywheel.store import StoreSettings, connect, migrate
from flywheel.stream import Fold, MemoryBus, Outgoing, Runner, RunnerSettings, Sink, TopicPartition
from flywheel_bandit.wiring import NEEDED, runner_specs
from flywheel_recorder.adapters import FileStaging
from flywheel_recorder.sink import RecorderSink
from flywheel_recorder.tables import Source, Tables

NOW_US = 1_795_234_200_000_000
YEAR_US = 365 * 86_400_000_000
TOPIC = "llm-calls"
codec = Codec(LocalRegistry.load())


def call(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"{number:032x}",
        "project": "default",
        "request_id": f"request-{number}",
        "occurred_at": NOW_US,
        "provider": "openai",
        "request_model": "gpt-4o",
        "input_tokens": 10,
        "output_tokens": 2,
        "cost_usd": Decimal("0.000045"),
        "latency_ms": 12.5,
        **fields,
    }


Make = Callable[[int], bytes | None]


def absurd(**fields: Any) -> Make:
    """A well-formed call that makes no sense."""
    return lambda number: codec.encode("llm_call", call(number, **fields))


def spoilt(at: int, put: bytes) -> Make:
    """A call whose bytes are overwritten at a place counted from the end of ``conversation_id``.

    Before that text come its length (-1) and its union's branch (-2); after it comes the index of ``operation``.
    """

    def make(number: int) -> bytes:
        data = bytearray(codec.encode("llm_call", call(number, conversation_id="CONVERSE")))
        start = data.index(b"CONVERSE")
        place = start + 8 if at == 0 else start + at
        data[place : place + len(put)] = put
        return bytes(data)

    return make


def bytes_of(change: Callable[[bytes], bytes | None]) -> Make:
    """A good call whose frame is changed."""
    return lambda number: change(codec.encode("llm_call", call(number)))


ROWS: dict[str, tuple[Make, str, str | None]] = {
    # frames
    "no value": (bytes_of(lambda data: None), "no_value", None),
    "empty": (bytes_of(lambda data: b""), "undecodable", None),
    "one byte": (bytes_of(lambda data: b"\x00"), "undecodable", None),
    "words": (bytes_of(lambda data: b"hello, world"), "undecodable", None),
    "JSON instead of Avro": (bytes_of(lambda data: b'{"request_id":"r"}'), "undecodable", None),
    "a magic byte of the future": (bytes_of(lambda data: b"\x01" + data[1:]), "undecodable", None),
    "a frame without a body": (bytes_of(lambda data: data[:5]), "undecodable", None),
    "a body cut short": (bytes_of(lambda data: data[:-7]), "undecodable", None),
    "a body cut in its first field": (bytes_of(lambda data: data[:9]), "undecodable", None),
    "bytes left over": (bytes_of(lambda data: data + b"\x00\x00"), "undecodable", None),
    "zeros": (bytes_of(lambda data: data[:5] + b"\x00" * 200), "undecodable", None),
    "ones": (bytes_of(lambda data: data[:5] + b"\xff" * 200), "undecodable", None),
    "half a megabyte of noise": (bytes_of(lambda data: data[:5] + b"\x7f\x3c" * 250_000), "undecodable", None),
    "another event": (
        lambda number: codec.encode(
            "feedback",
            {"event_id": f"{number:032x}", "project": "p", "request_id": "r", "occurred_at": NOW_US, "kind": "k"},
        ),
        "wrong_event",
        None,
    ),
    # inside the frame
    "a union branch that does not exist": (spoilt(-2, b"\x08"), "undecodable", None),
    "a text longer than the record": (spoilt(-1, b"\xfe"), "undecodable", None),
    "a text of negative length": (spoilt(-1, b"\x01"), "undecodable", None),
    "an enum symbol that does not exist": (spoilt(0, b"\x7e"), "undecodable", None),
    # values
    "negative input tokens": (absurd(input_tokens=-1), "invalid", "input_tokens"),
    "negative cache tokens": (absurd(cache_read_tokens=-(2**62)), "invalid", "cache_read_tokens"),
    "negative reasoning tokens": (absurd(reasoning_tokens=-5), "invalid", "reasoning_tokens"),
    "a negative attempt": (absurd(attempt=-1), "invalid", "attempt"),
    "latency NaN": (absurd(latency_ms=float("nan")), "invalid", "latency_ms"),
    "latency infinite": (absurd(latency_ms=float("inf")), "invalid", "latency_ms"),
    "latency negative": (absurd(latency_ms=-1.0), "invalid", "latency_ms"),
    "first token NaN": (absurd(ttft_ms=float("nan")), "invalid", "ttft_ms"),
    "temperature NaN": (absurd(temperature=float("nan")), "invalid", "temperature"),
    "propensity above 1": (absurd(propensity=1.5), "invalid", "propensity"),
    "propensity negative": (absurd(propensity=-0.5), "invalid", "propensity"),
    "propensity NaN": (absurd(propensity=float("nan")), "invalid", "propensity"),
    "a negative cost": (absurd(cost_usd=Decimal(-1)), "invalid", "cost_usd"),
    "a time before 2000": (absurd(occurred_at=0), "invalid", "occurred_at"),
    "a time before Christ": (absurd(occurred_at=-(10**17)), "invalid", "occurred_at"),
    "next year": (absurd(occurred_at=NOW_US + YEAR_US), "invalid", "occurred_at"),
    "received before 2000": (absurd(received_at=1), "invalid", "received_at"),
}


Letter = dict[str, Any]
VERDICTS = ("ok", "skip", "reject")


@dataclass(frozen=True)
class Outcome:
    """What became of the log: dead letters by the offset they came from, and the ids of the rows."""

    letters: dict[int, Letter]
    rows: set[str]
    count: int
    repeats: int


def log() -> list[bytes | None]:
    """Good, bad, good, bad, …, good: the bad record of row n is at offset 2n + 1."""
    records: list[bytes | None] = [codec.encode("llm_call", call(0))]
    for number, (make, _, _) in enumerate(ROWS.values()):
        records += [make(2 * number + 1), codec.encode("llm_call", call(2 * number + 2))]
    # Last: the first event again with other content, and again as it was.
    records += [codec.encode("llm_call", call(0, input_tokens=11)), codec.encode("llm_call", call(0))]
    return records


async def through(step: Fold | Sink, name: str, state_dir: Path | None, only: Codec, metrics: Metrics) -> list[Letter]:
    """Run a service's step over the log until all of it is committed; returns the dead letters."""
    bus, values = MemoryBus(lambda: NOW_US // 1_000), log()
    for value in values:
        bus.append(Outgoing(TOPIC, b"one partition", value))
    runner = Runner(
        service=name,
        service_version="1",
        bus=bus,
        codec=only,
        step=step,
        topics=[TOPIC],
        group=name,
        state_dir=state_dir,
        metrics=metrics,
        health=Health(),
        settings=RunnerSettings(max_records=50),
    )
    running = asyncio.create_task(runner.run())
    (partition,) = {TopicPartition(r.topic, r.partition) for r in bus.records(TOPIC)}
    async with asyncio.timeout(120):
        while bus.committed(name).get(partition, 0) < len(values):
            await asyncio.sleep(0.05)
    await runner.stop()
    await running
    return [codec.decode(r.value or b"").value for r in bus.records(f"{TOPIC}.dlq")]


async def record(folder: Path) -> Outcome:
    client = connect(StoreSettings(path=folder / "clickhouse"))
    migrate(client)
    source = Source(topic=TOPIC, event="llm_call", compacted=False, has_dead_letters=True)
    tables = Tables(client, FileStaging(folder / "staging"), codec, [source], remembered=1_000)
    try:
        step = RecorderSink(lambda: tables, every_s=0.0)
        letters = await through(step, "recorder", None, codec, Metrics())
        rows = [row[0] for row in client.query("SELECT event_id FROM v_calls").result_rows]
        repeats = client.query("SELECT count() FROM v_duplicates").result_rows[0][0]
    finally:
        client.close()
    return Outcome({each["source_offset"]: each for each in letters}, set(rows), len(rows), repeats)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return asyncio.run(record(tmp_path_factory.mktemp("recorder")))


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_record_becomes_a_dead_letter_that_says_why(outcome: Outcome, name: str) -> None:
    number = list(ROWS).index(name)
    make, reason, field = ROWS[name]
    letter = outcome.letters[2 * number + 1]
    assert (letter["reason"], letter["field"]) == (reason, field)
    assert letter["detail"]
    assert letter["source_topic"] == TOPIC
    assert (letter["value"] or None) == (make(2 * number + 1) or None)  # whole, to be mended and sent again


def test_the_neighbours_become_rows_and_the_counts_reconcile(outcome: Outcome) -> None:
    good = {f"{2 * number:032x}" for number in range(len(ROWS) + 1)}
    assert outcome.rows == good
    assert outcome.count == len(good)
    assert set(outcome.letters) == {2 * number + 1 for number in range(len(ROWS))}
    assert outcome.count + len(outcome.letters) + outcome.repeats == len(log())


async def test_the_bandit_buries_the_unreadable_and_what_is_absurd_in_the_fields_it_reads(tmp_path: Path) -> None:
    metrics = Metrics()
    spec = runner_specs()[0]
    needed = Codec(LocalRegistry.load(), only=NEEDED)
    letters = await through(spec.make_step(tmp_path), "bandit", tmp_path, needed, metrics)
    found = {each["source_offset"]: each for each in letters}
    read = {*NEEDED["llm_call"]}
    due = {2 * n + 1: (reason, field) for n, (_, reason, field) in enumerate(ROWS.values()) if {field} <= {None, *read}}
    assert set(found) == set(due)
    for offset, (reason, field) in due.items():
        assert found[offset]["field"] == field
        assert found[offset]["reason"] == reason or field is not None  # each service has its own words for absurd
    ended = {verdict: metrics.value("stream_records_total", topic=TOPIC, verdict=verdict) for verdict in VERDICTS}
    assert ended["reject"] == len(letters) == len(found)
    assert sum(ended.values()) == len(log())
