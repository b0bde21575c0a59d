"""Showback and pricing again over the real views, in an engine of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from flywheel.cli import repricing
from flywheel.cli.main import cli
from flywheel.cli.paying import NotTheWhole, showback
from flywheel.cli.questions import Rows
from flywheel.events import Codec, LocalRegistry
from flywheel.pricing import prices_with
from flywheel.pricing.own import read_own_prices
from flywheel.store import StoreSettings, connect, migrate

START = datetime(2026, 11, 20, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
STOP_US = START_US + 86_400_000_000
OWN = prices_with(read_own_prices("- {id: openai, models: [{id: gpt-4o, prices: {input_mtok: 2, output_mtok: 8}}]}"))
CALL = {
    "project": "acme",
    "request_id": "r",
    "provider": "openai",
    "request_model": "gpt-4o",
    "status": "OK",
    "input_tokens": 1000,
    "uncached_input_tokens": 1000,
    "output_tokens": 100,
    "visible_output_tokens": 100,
    "cost_usd": Decimal("0.0035"),
    "cost_source": "LOCAL",
}
ODD = ["plain", "it's", "back\\slash", "'; DROP TABLE llm_calls --", "ünï", "zz"]


class Engine:
    """Asks an embedded engine as the command asks the recorder."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked = 0

    def __call__(self, query: str) -> Rows:
        self.asked += 1
        quiet = {"output_format_json_quote_64bit_integers": 0}
        body = orjson.loads(self.client.raw_query(query, fmt="JSONCompact", settings=quiet))
        return Rows(tuple(c["name"] for c in body["meta"]), tuple(c["type"] for c in body["meta"]), body["data"])

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        for number, row in enumerate(rows):
            place = {"k_topic": "t", "k_partition": 0, "k_offset": number, "k_timestamp": START, "k_batch_first": 0}
            full = place | row
            self.client.insert(table, [list(full.values())], list(full))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("costs") / "clickhouse"
    client = connect(StoreSettings(path=folder))
    migrate(client)
    yield Engine(client)
    client.close()


@pytest.fixture
def engine(opened: Engine) -> Iterator[Engine]:
    """Calls with odd ids at two moments, and one outside of the period."""
    calls = [
        {**CALL, "event_id": name, "occurred_at": START + timedelta(hours=place // 3)} for place, name in enumerate(ODD)
    ]
    opened.insert("llm_calls", [*calls, {**CALL, "event_id": "later", "occurred_at": START + timedelta(days=1)}])
    yield opened
    opened.client.command("TRUNCATE TABLE llm_calls")
    opened.client.command("TRUNCATE TABLE reprices")


def repriced(engine: Engine, now_us: int = START_US) -> list[repricing.Reprice]:
    return [one for page in repricing.reprices(engine, OWN, START_US, STOP_US, now_us=now_us) for one in page]


def record(engine: Engine, found: list[repricing.Reprice]) -> None:
    """What topic and recorder do with the events."""
    codec = Codec(LocalRegistry.load())
    rows = [codec.decode(codec.encode("reprice", one.event)).value for one in found if one.event is not None]
    for row in rows:
        for name in ("occurred_at", "repriced_at"):
            row[name] = datetime.fromtimestamp(row[name] / 1e6, UTC)
    engine.insert("reprices", rows)


def test_every_call_of_the_period_is_looked_at_once_whatever_its_id(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repricing, "PAGE", 2)
    found = repriced(engine)
    events = [one.event for one in found if one.event is not None]
    assert sorted(event["call_id"] for event in events) == sorted(ODD)
    assert {(event["revision"], event["cost_usd"], event["previous_usd"]) for event in events} == {
        (1, Decimal("0.0028"), Decimal("0.0035"))
    }
    assert len({event["event_id"] for event in events}) == len(ODD)
    assert engine.asked > 3


def test_run_again_nothing_is_news_and_interrupted_it_says_the_same(engine: Engine) -> None:
    first, again = repriced(engine), repriced(engine, now_us=START_US + 1)
    ids = [[one.event["event_id"] for one in found if one.event is not None] for found in (first, again)]
    assert ids[0] == ids[1]  # nothing recorded yet: the same events, which the recorder knows by their ids
    record(engine, first)
    assert {one.verdict for one in repriced(engine)} == {"same"}


def test_a_third_price_is_the_next_revision(engine: Engine) -> None:
    record(engine, repriced(engine))
    third = prices_with(
        read_own_prices("- {id: openai, models: [{id: gpt-4o, prices: {input_mtok: 1, output_mtok: 1}}]}")
    )
    (page,) = repricing.reprices(engine, third, START_US, STOP_US, now_us=START_US)
    assert {(one.event or {})["revision"] for one in page} == {2}
    record(engine, page)
    rows = engine("SELECT DISTINCT toString(cost_usd), revision FROM v_costs WHERE event_id != 'later'").rows
    assert rows == [["0.0011", 2]]


def test_showback_adds_up_and_says_when_it_does_not(engine: Engine) -> None:
    shares = {"a": "0.333333333", "b": "0.666666667"}
    shared = {**CALL, "event_id": "shared", "occurred_at": START, "shares": shares, "team": "cx"}
    nothing = {**CALL, "event_id": "unpriced", "occurred_at": START, "cost_usd": None, "team": "cx"}
    engine.insert("llm_calls", [shared, nothing])
    found = showback(engine, START_US, STOP_US, ("team",))
    assert found.total.cost_usd == Decimal("0.0245")
    assert {bill.names: (bill.calls, bill.unpriced, bill.cost_usd) for bill in found.bills} == {
        (None,): (6, 0, Decimal("0.021")),
        ("b",): (Decimal("0.666666667"), 0, Decimal("0.002333333335")),
        ("a",): (Decimal("0.333333333"), 0, Decimal("0.001166666665")),
        ("cx",): (1, 1, None),
    }
    wide = showback(engine, START_US, STOP_US, ("prompt", "model"))
    assert (wide.columns, len(wide.bills)) == (("prompt_name", "prompt_version", "model"), 1)

    def late(query: str) -> Rows:
        if "v_costs" in query:
            engine.insert("llm_calls", [{**CALL, "event_id": "just now", "occurred_at": START}])
        return engine(query)

    with pytest.raises(NotTheWhole, match="ask again"):
        showback(late, START_US, STOP_US, ("team",))


def test_a_period_without_calls_is_nothing_not_an_error(engine: Engine) -> None:
    found = showback(engine, START_US - 10, START_US - 5, ("team",))
    assert (found.bills, found.total.calls, found.total.cost_usd, found.total.unpriced_share) == ((), 0, None, None)
    assert list(repricing.reprices(engine, OWN, START_US - 10, START_US - 5, now_us=0)) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "2026-11-02", "--to", "2026-11-01"), "--to must be later"),
        (("--from", "yesterday", "--to", "2026-11-01"), "neither a date nor a time"),
        (("--from", "1969-01-01", "--to", "2026-11-01"), "before 1970"),
        (("--to", "2026-11-01"), "--from"),
    ],
)
@pytest.mark.parametrize("command", ["showback", "reprice"])
def test_a_period_that_makes_no_sense_is_said_so(command: str, arguments: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(cli, [command, *arguments], prog_name="flywheel")
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize("command", ["showback", "reprice"])
def test_nobody_there_is_one_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", "http://127.0.0.1:9")
    period = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02")
    result = CliRunner().invoke(cli, [command, *period], prog_name="flywheel")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.output
