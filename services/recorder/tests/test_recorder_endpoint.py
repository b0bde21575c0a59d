"""SQL over HTTP: what clients get, what readers are refused, and the limits on each query."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from flywheel.observe import serve
from flywheel.store import StoreSettings, connect, views
from flywheel_recorder.gate import Passed, Turned, judge, judge_describing
from flywheel_recorder.http import MAX_BODY_BYTES, Endpoint, User, parse_users, sql_app
from flywheel_recorder.reader import Limits, Reader, failure

from .conftest import NOW_US, Engine, Records

LIMITS = Limits(seconds=2.0, memory_bytes=500_000_000, result_bytes=2_000_000, threads=2)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


USERS = {"ana": User(sha256("a-secret")), "carl": User(sha256("c-secret"), content=True)}


@dataclass(frozen=True)
class Server:
    """A served endpoint."""

    url: str
    port: int

    def ask(self, sql: str, **parameters: str) -> httpx.Response:
        """POST a query."""
        return httpx.post(self.url, params=parameters, content=sql.encode(), timeout=30)


@dataclass
class Serving:
    """Serves an endpoint from a thread until closed."""

    reader: Reader
    users: dict[str, User]
    port: int = 0

    def __enter__(self) -> Server:
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(20)
        return Server(f"http://127.0.0.1:{self.port}/", self.port)

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        endpoint = Endpoint(
            reader=self.reader,
            pool=ThreadPoolExecutor(4),
            users=self.users,
            limits=LIMITS,
            observe=lambda _status, _seconds: None,
            waiting=asyncio.Semaphore(16),
        )

        def started(port: int) -> None:
            self.port = port
            self._started.set()

        await serve(sql_app(endpoint), "127.0.0.1", 0, on_started=started, stop=self._stop, grace_s=1)


@pytest.fixture(scope="module")
def reader(engine: Engine) -> Iterator[Reader]:
    """A reader beside the writer, over two calls and a prompt."""
    records = Records(engine.codec)
    tables = engine.restarted()
    tables.write([records.call(event_id="one"), records.call(event_id="two", cost_usd=None)])
    made = Reader(engine.folder / "clickhouse", LIMITS, connections=3)
    yield made
    made.close()
    tables.close()


@pytest.fixture(scope="module")
def server(reader: Reader) -> Iterator[Server]:
    """Open to whoever reaches the port."""
    with Serving(reader, {}) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(reader: Reader) -> Iterator[Server]:
    """Open to two users."""
    with Serving(reader, USERS) as running:
        yield running


# What clients get


def test_clickhouse_connect_reads_typed_values(server: Server) -> None:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port, database="flywheel")
    try:
        result = client.query("SELECT event_id, occurred_at, cost_usd, params FROM v_calls ORDER BY event_id")
        assert [row[0] for row in result.result_rows] == ["one", "two"]
        assert result.result_rows[0][1].replace(tzinfo=UTC) == datetime.fromtimestamp(NOW_US / 1e6, UTC)
        assert [str(row[2]) for row in result.result_rows] == ["0.007597500000", "None"]
        assert result.result_rows[0][3] == {"seed": "7"}
        named = client.query("SELECT event_id FROM v_calls WHERE event_id = {id:String}", parameters={"id": "two"})
        assert named.result_rows == [("two",)]
        assert client.command("SELECT count() FROM v_calls") == 2
        assert client.query("SELECT * FROM v_feedback").result_rows == []
        with client.query_rows_stream("SELECT number FROM numbers(100000)") as stream:
            assert sum(row[0] for row in stream) == 4999950000
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            client.query("SELECT * FROM nowhere")
        with pytest.raises(DatabaseError, match="READONLY"):
            client.command("DROP VIEW v_calls")
    finally:
        client.close()


def test_the_store_connects_to_it_as_to_a_server(server: Server) -> None:
    client = connect(StoreSettings(url=server.url))
    try:
        assert client.command("SELECT count() FROM v_calls") == 2
        assert "v_calls" in {view.name for view in views(client)}
    finally:
        client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Server) -> None:
    command = ["curl", "-sS", "--data-binary", "SELECT count() AS n FROM v_calls FORMAT JSONEachRow", server.url]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == '{"n":2}\n'


def test_get_post_and_both_together(server: Server) -> None:
    assert httpx.get(server.url, params={"query": "SELECT 1"}).text == "1\n"
    assert server.ask("SELECT 1").text == "1\n"
    assert server.ask("1 + 1", query="SELECT").text == "2\n"
    assert httpx.get(server.url).text == "Ok.\n"
    assert httpx.get(server.url + "ping").text == "Ok.\n"
    assert server.ask("").status_code == 400


def test_formats_and_headers(server: Server) -> None:
    answer = server.ask("SELECT 1 AS x", default_format="JSONEachRow", query_id="mine")
    assert answer.json() == {"x": 1}
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert answer.headers["x-clickhouse-query-id"] == "mine"
    assert "read_rows" in answer.headers["x-clickhouse-summary"]
    own = server.ask("SELECT 1 AS x FORMAT CSVWithNames", default_format="JSON")
    assert own.text == '"x"\n1\n'
    assert own.headers["content-type"].startswith("text/csv")
    header = httpx.post(server.url, content=b"SELECT 1 AS x", headers={"X-ClickHouse-Format": "TSVWithNames"})
    assert header.text == "x\n1\n"


def test_parameters_are_bound_not_pasted(server: Server) -> None:
    sql = "SELECT {text:String} AS t FORMAT JSONEachRow"
    assert server.ask(sql, param_text="'; DROP TABLE x -- ").json() == {"t": "'; DROP TABLE x -- "}
    assert server.ask("SELECT {n:UInt8}", param_n="x").status_code == 400


def test_compression_both_ways(server: Server) -> None:
    answer = httpx.post(
        server.url,
        params={"enable_http_compression": "1"},
        content=gzip.compress(b"SELECT number FROM numbers(2000)"),
        headers={"Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text.splitlines()[-1] == "1999"
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
    assert httpx.post(server.url, content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert httpx.post(server.url, content=b"x", headers={"Content-Encoding": "br"}).status_code == 501
    assert httpx.post(server.url, content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 400


def test_comments_and_a_last_semicolon_are_fine(server: Server) -> None:
    assert server.ask("/* why */ SELECT 1 -- because\n;").text == "1\n"


@pytest.mark.parametrize(
    "sql",
    ["SHOW TABLES", "SHOW DATABASES", "DESCRIBE TABLE v_calls", "SHOW CREATE VIEW v_calls", "EXISTS VIEW v_calls",
     "EXPLAIN SELECT count() FROM v_calls", "SELECT name FROM system.tables", "WITH 1 AS x SELECT x",
     "SELECT * FROM v_audit", "SELECT 'file' AS harmless"],
)  # fmt: skip
def test_readers_may_look_around(server: Server, sql: str) -> None:
    answer = server.ask(sql)
    assert answer.status_code == 200, answer.text


# What readers are refused

REFUSED = """
INSERT INTO v_calls (event_id) VALUES ('x')
INSERT INTO FUNCTION file('{out}') SELECT 1
INSERT INTO llm_calls SELECT * FROM llm_calls
CREATE TABLE mine (x Int8) ENGINE = Memory
CREATE TEMPORARY TABLE mine (x Int8)
CREATE VIEW mine AS SELECT 1
CREATE FUNCTION mine AS x -> x
CREATE USER eve
GRANT writer TO default
ALTER TABLE llm_calls DELETE WHERE 1
DELETE FROM llm_calls WHERE 1
DROP TABLE llm_calls
TRUNCATE TABLE llm_calls
RENAME TABLE llm_calls TO gone
OPTIMIZE TABLE llm_calls FINAL
ATTACH TABLE llm_calls
DETACH TABLE llm_calls
BACKUP DATABASE flywheel TO File('{out}')
SYSTEM STOP MERGES
SYSTEM SHUTDOWN
KILL QUERY WHERE 1
SET readonly = 0
SET ROLE writer
SET max_execution_time = 0
USE system
EXECUTE AS default SELECT 1
SELECT 1 SETTINGS readonly = 0
SELECT 1 SETTINGS max_execution_time = 0
SELECT 1 SETTINGS max_memory_usage = 0
SELECT 1 INTO OUTFILE '{out}'
SELECT 1 INTO OUTFILE '{out}' FORMAT CSV
SELECT * FROM (SELECT 1) INTO OUTFILE '{out}' TRUNCATE
SELECT 1; DROP TABLE llm_calls
SELECT 1; SELECT 2
SELECT 1 FORMAT Null; INSERT INTO llm_calls (event_id) VALUES ('x')
SELECT file('/etc/passwd')
SELECT FILE('/etc/passwd')
SELECT `file`('/etc/passwd')
SELECT * APPLY(file) FROM (SELECT '/etc/passwd' AS a)
SELECT arrayMap(x -> file(x), ['/etc/passwd'])
WITH file('/etc/passwd') AS leak SELECT leak
SELECT * FROM v_calls WHERE feature IN (SELECT file('/etc/passwd'))
EXPLAIN SELECT file('/etc/passwd')
DESCRIBE (SELECT file('/etc/passwd'))
DESCRIBE TABLE file('/etc/passwd', 'LineAsString')
SELECT * FROM file('/etc/passwd', 'LineAsString')
SELECT * FROM fileCluster('c', '/etc/passwd')
SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')
SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')
SELECT * FROM remote('127.0.0.1:1', 'a.b')
SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')
SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')
SELECT * FROM sqlite('/x', 'y')
SELECT * FROM executable('id', 'TSV', 'a String')
SELECT * FROM Python(parameters)
SELECT * FROM input('a Int8')
SELECT * FROM merge('flywheel', '^llm_calls$')
SELECT aiGenerate('x')
SELECT reverseDNSQuery('127.0.0.1')
SELECT filesystemAvailable()
SELECT * FROM llm_calls
SELECT * FROM flywheel.call_content
SELECT * FROM v_content
SELECT value FROM dead_letters
SELECT * FROM system.processes
SHOW PROCESSLIST
SHOW GRANTS
CHECK TABLE llm_calls
""".strip().splitlines()


@pytest.mark.parametrize("sql", REFUSED)
def test_readers_only_read(server: Server, engine: Engine, tmp_path: Path, sql: str) -> None:
    out = tmp_path / "out"
    answer = server.ask(sql.format(out=out))
    assert answer.status_code >= 400, answer.text[:200]
    assert int(answer.headers["x-clickhouse-exception-code"]) > 0
    assert answer.text.startswith("Code: ")
    assert "root:" not in answer.text
    assert not out.exists()
    assert engine.rows("SELECT count() FROM llm_calls") == [(2,)]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("max_execution_time", "1", 200),
        ("max_execution_time", "3600", 403),
        ("max_execution_time", "0", 403),
        ("max_execution_time", "nan", 403),
        ("max_threads", "1", 200),
        ("max_threads", "64", 403),
        ("session_timezone", "Asia/Tokyo", 200),
        ("output_format_json_quote_64bit_integers", "1", 200),
        ("session_id", "anything", 200),
        ("readonly", "0", 200),
        ("max_memory_usage", "0", 403),
        ("allow_introspection_functions", "1", 403),
        ("dialect", "prql", 403),
        ("x' , readonly='0", "1", 403),
    ],
)
def test_settings_are_those_that_are_open(server: Server, name: str, value: str, status: int) -> None:
    assert server.ask("SELECT 1", **{name: value}).status_code == status


def test_a_setting_holds_for_its_query_alone(server: Server) -> None:
    sql = "SELECT toString(toDateTime(0))"
    assert server.ask(sql, session_timezone="Asia/Tokyo").text == "1970-01-01 09:00:00\n"
    assert server.ask(sql, session_timezone="UTC").text == "1970-01-01 00:00:00\n"
    assert server.ask("SELECT getSetting('readonly')").text == "1\n"


def test_limits_of_time_size_and_body(server: Server) -> None:
    assert server.ask("SELECT count() FROM numbers(1000000000000)").status_code == 408
    assert server.ask("SELECT repeat('x', 1000) FROM numbers(100000)").status_code == 413
    assert "MEMORY_LIMIT" in server.ask("SELECT groupArray(number) FROM numbers(100000000)").text
    assert server.ask("SELECT 1" + " " * MAX_BODY_BYTES).status_code == 413
    assert server.ask("SELECT 1").text == "1\n"


def test_a_slow_query_does_not_hold_up_the_others(server: Server) -> None:
    slow = threading.Thread(target=lambda: server.ask("SELECT count() FROM numbers(1000000000000)"))
    slow.start()
    time.sleep(0.2)
    assert server.ask("SELECT 1").text == "1\n"
    assert slow.is_alive()
    slow.join()


def test_odd_requests_get_answers(server: Server) -> None:
    assert server.ask("SELECT 1", database="nowhere").status_code == 403
    assert server.ask("SELECT 1", database="a; b").status_code == 400
    assert httpx.post(server.url, content=b"\xff\xfe").status_code == 400
    assert server.ask("SELECT '\0'").status_code == 400
    assert httpx.post(server.url, files={"t": b"1"}, params={"query": "SELECT 1"}).status_code == 501
    assert httpx.delete(server.url).status_code == 405


def test_a_page_of_another_site_is_refused(server: Server) -> None:
    """A browser that was told some site's name means this address sends that name as Host."""
    assert httpx.get(server.url, params={"query": "SELECT 1"}, headers={"Host": "evil.example"}).status_code == 401
    assert httpx.get(server.url, params={"query": "SELECT 1"}, headers={"Host": "localhost:1"}).status_code == 200


# Users


@pytest.mark.parametrize(
    ("request_with", "status"),
    [
        ({}, 401),
        ({"auth": ("ana", "wrong")}, 401),
        ({"auth": ("nobody", "")}, 401),
        ({"headers": {"Authorization": "Basic !!"}}, 401),
        ({"auth": ("ana", "a-secret")}, 200),
        ({"headers": {"X-ClickHouse-User": "ana", "X-ClickHouse-Key": "a-secret"}}, 200),
        ({"params": {"user": "ana", "password": "a-secret"}}, 200),
    ],
)
def test_users_are_known_by_their_password(guarded: Server, request_with: dict[str, Any], status: int) -> None:
    answer = httpx.post(guarded.url, content=b"SELECT 1", **request_with)
    assert answer.status_code == status
    assert "secret" not in answer.text


def test_content_is_for_those_who_may(guarded: Server) -> None:
    sql = b"SELECT count() FROM v_content"
    assert httpx.post(guarded.url, content=sql, auth=("ana", "a-secret")).status_code == 403
    assert httpx.post(guarded.url, content=sql, auth=("carl", "c-secret")).text == "0\n"
    tables = b"SELECT count() FROM call_content"
    assert httpx.post(guarded.url, content=tables, auth=("carl", "c-secret")).status_code == 403


def test_the_users_file() -> None:
    users = parse_users('{"ana": {"password_sha256": "%s", "content": true}}' % ("AB" * 32))
    assert users == {"ana": User("ab" * 32, content=True)}
    assert "ab" * 32 not in repr(users)
    with pytest.raises(ValueError, match="ana"):
        parse_users('{"ana": {"password": "x"}}')
    with pytest.raises(ValueError, match="object"):
        parse_users("[]")


# The gate alone


def test_the_gate_reads_names_not_literals() -> None:
    call = {"type": "Function", "name": "FILE", "arguments": []}
    assert isinstance(judge({"select": [call]}, {"file"}), Turned)
    assert judge({"select": [{"type": "Literal", "value": {"value": "file"}}]}, {"file"}) == Passed(None)
    assert isinstance(judge({"out_file": {"type": "Literal", "value": "x"}}, set()), Turned)
    assert judge({"format_ast": {"type": "Identifier", "name": "JSON"}}, set()) == Passed("JSON")


def test_describing_statements_pass_in_their_normal_form_only() -> None:
    assert judge_describing("DESCRIBE TABLE v_calls FORMAT CSV") == Passed("CSV")
    assert judge_describing("EXISTS TABLE flywheel.v_calls\n") == Passed(None)
    assert isinstance(judge_describing("DESCRIBE TABLE file('x')"), Turned)
    assert isinstance(judge_describing("DESCRIBE TABLE v_calls INTO OUTFILE 'x'"), Turned)


def test_an_error_without_a_code_is_still_an_exception() -> None:
    failed = failure(RuntimeError("something else"))
    assert (failed.code, failed.name, str(failed)) == (1002, "UNKNOWN_EXCEPTION", "something else")
