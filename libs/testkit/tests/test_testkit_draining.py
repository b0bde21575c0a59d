"""What a run left behind is read as a reader would read it: on a real broker, and from states as services keep them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.local.fixtures import SharedKafka
from flywheel.stream import KafkaBus, Outgoing, ShardState, TopicPartition
from flywheel.stream.records import SEQUENCE, SOURCE
from flywheel.testkit.draining import drain, end_offsets, read_topic, state_digests, states_behind, view_ids

pytest_plugins = ["flywheel.local.fixtures"]
codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
INPUT = TopicPartition("llm-feedback", 0)


def record(topic: str, event_id: str, *lineage: tuple[str, bytes]) -> Outgoing:
    return Outgoing(topic, b"key", codec.encode("feedback", THUMB | {"event_id": event_id}), list(lineage))


def emitted(topic: str, event_id: str, sequence: int) -> Outgoing:
    return record(topic, event_id, (SOURCE, b"bandit/0/one"), (SEQUENCE, b"%d" % sequence))


@pytest.mark.broker
async def test_repeats_are_passed_over_and_counted(kafka: SharedKafka, kafka_topic: Callable[..., str]) -> None:
    topic = kafka_topic(partitions=2)
    producer = KafkaBus(kafka.bootstrap).producer()
    await producer.start()
    await producer.send_many([emitted(topic, "a", 1), emitted(topic, "b", 2), emitted(topic, "a", 1)])
    await producer.send_many([record(topic, "c"), record(topic, "c"), Outgoing(topic, b"key", b"no event", [])])
    await producer.stop()
    found = await drain(kafka.bootstrap, topic, codec)
    assert found.ids == ["a", "b", "c"]
    assert (found.records, found.again_by_lineage, found.again_by_id) == (6, 1, 1)
    assert len(await read_topic(kafka.bootstrap, topic)) == 6
    assert sum((await end_offsets(kafka.bootstrap, [topic])).values()) == 6


def commit(path: Path, value: bytes, *, upto: int, outbox: bytes | None = None) -> ShardState:
    state = ShardState(path)
    view = state.view()
    view.put("sums", "key", value)
    state.commit(view, offsets={INPUT: upto}, marks={}, emitted=0, outbox=outbox)
    return state


def test_states_are_equal_when_their_bytes_are_and_behind_until_all_is_sent(tmp_path: Path) -> None:
    assert states_behind(tmp_path / "run", {INPUT: 5}) == 5, "a state that does not exist has folded nothing"
    run = commit(tmp_path / "run" / "0.sqlite", b"1", upto=3, outbox=b"records")
    commit(tmp_path / "replay" / "0.sqlite", b"1", upto=5).close()
    assert states_behind(tmp_path / "run", {INPUT: 5}) == 3, "two records to fold, one batch to send"
    assert states_behind(tmp_path / "replay", {INPUT: 5}) == 0
    assert state_digests(tmp_path / "run") == state_digests(tmp_path / "replay")
    run.close()
    commit(tmp_path / "run" / "0.sqlite", b"2", upto=5).close()
    assert state_digests(tmp_path / "run") != state_digests(tmp_path / "replay")


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Answers like the recorder's endpoint: one query with rows, everything else refused."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sql = self.rfile.read(int(self.headers["content-length"])).decode()
            known = sql == "SELECT event_id FROM v_calls WHERE 1 ORDER BY k_partition, k_offset FORMAT JSONCompact"
            self.send_response(200 if known else 400)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [["a"], ["b"], ["a"]]}).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_ids_of_a_view_come_once_for_each_row_and_a_refused_query_says_so(endpoint: str) -> None:
    assert view_ids(endpoint, "v_calls") == ["a", "b", "a"]
    with pytest.raises(httpx.HTTPStatusError):
        view_ids(endpoint, "v_nothing")
