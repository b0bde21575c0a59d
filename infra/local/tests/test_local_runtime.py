"""The whole system on one machine: started, watched, stopped, and never another process touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from flywheel.events import topics
from flywheel.local import runtime, state
from flywheel.local.errors import LocalError, PartFailed
from flywheel.local.parts import PARTS
from flywheel.local.ports import free_port, is_free
from flywheel.local.probes import ask_kafka, ask_service
from flywheel.local.processes import Guard, ProcessId, end, rotate, spawn, tail
from flywheel.local.runtime import Runtime
from flywheel.local.secret_files import make_compose_secrets
from flywheel.local.state import Started
from flywheel.local.status import addresses_of
from flywheel.local.topic_admin import create_topics, topic_settings

pytest_plugins = ["flywheel.local.fixtures"]

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper(tmp_path):
    child = spawn(SLEEP, log=tmp_path / "sleeper.log")
    yield ProcessId.of(child.pid)
    child.kill()
    child.wait()


@pytest.mark.broker
@pytest.mark.timeout(400)
def test_every_part_gets_ready_shows_its_metrics_and_drains_when_asked_to_end(tmp_path):
    with Runtime(tmp_path) as system:
        parts = {part.name: part for part in system.status().parts}
        assert list(parts) == ["kafka", *PARTS]
        assert {part.state for part in parts.values()} == {"ready"}
        for name, part in PARTS.items():
            metrics = httpx.get(f"http://127.0.0.1:{parts[name].ports[part.health]}/metrics")
            assert metrics.status_code == 200
        assert httpx.get(f"{system.addresses['clickhouse']}/ping").text.strip() == "Ok."
        stopped = system.stop()
    assert {part.name for part in stopped} == set(parts)
    assert all(part.clean for part in stopped)


@pytest.mark.broker
def test_a_system_starts_answers_crashes_with_its_log_comes_back_and_ends(tmp_path):
    steps = []
    with Runtime(tmp_path, parts=["registry"], progress=steps.append) as system:
        assert system.status().ready
        assert [part.name for part in system.status().parts] == ["kafka", "registry"]
        subjects = httpx.get(f"{system.addresses['registry']}/subjects").json()
        assert "llm-calls-value" in subjects
        system.check()

        system.kill("registry")
        with pytest.raises(
            PartFailed, match=r"registry: ended by itself \(SIGKILL\); the end of its log:\n.*listening"
        ):
            system.check()
        crashed = system.status().parts[1]
        assert (crashed.state, crashed.pid) == ("crashed", None)
        assert "listening" in crashed.log_tail

        address = system.addresses["registry"]
        system.restart("registry")
        system.check()
        assert system.addresses["registry"] == address
        system.kill("kafka")
        system.restart("kafka")
        assert system.status().ready
        processes = [system.process(name) for name in ("kafka", "registry")]
        assert {part.name for part in runtime.status(tmp_path).parts if part.state == "ready"} == {"kafka", "registry"}
    assert not any(process.alive() for process in processes)
    assert not runtime.status(tmp_path).running
    assert steps[0] == "starting kafka"


@pytest.mark.broker
def test_up_returns_a_running_system_again_and_starts_only_what_crashed(tmp_path):
    wanted = {"parts": ["registry"], "ports": runtime.FREE_PORTS}
    try:
        program = (
            "from pathlib import Path; from flywheel.local.runtime import FREE_PORTS, up\n"
            f"up(Path({str(tmp_path)!r}), parts=['registry'], ports=FREE_PORTS)"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
        kafka, registry, *others = runtime.status(tmp_path).parts
        assert (kafka.state, registry.state) == ("ready", "ready")
        assert {part.state for part in others} == {"stopped"}
        again = runtime.up(tmp_path, **wanted)
        assert [part.pid for part in again.parts] == [kafka.pid, registry.pid]
        crashed = ProcessId.of(registry.pid)
        crashed.send(signal.SIGKILL)
        assert crashed.wait_gone(10)
        healed = runtime.up(tmp_path, **wanted)
        assert healed.ready
        assert healed.parts[0].pid == kafka.pid
        assert healed.parts[1].pid != registry.pid
        assert healed.parts[1].ports == registry.ports
        assert runtime.addresses(tmp_path)["kafka"] == f"127.0.0.1:{kafka.ports['kafka']}"
    finally:
        stopped = runtime.down(tmp_path)
    assert [(part.name, part.clean) for part in stopped] == [("registry", True), ("kafka", True)]
    assert runtime.addresses(tmp_path) == {}
    assert runtime.down(tmp_path) == ()


@pytest.mark.broker
def test_a_part_that_cannot_start_is_told_with_its_log_and_nothing_stays(tmp_path):
    wrong = {"registry": {"FLYWHEEL_LOG_LEVEL": "shout"}}
    with pytest.raises(PartFailed, match=r"registry: ended while starting \(exit 2\); .*\n.*FLYWHEEL_LOG_LEVEL"):
        Runtime(tmp_path, parts=["registry"], environ=wrong).start()
    assert not runtime.status(tmp_path).running


def test_an_unknown_part_is_named():
    with pytest.raises(LocalError, match="no such part: gateway; there are registry, ingest"):
        Runtime(Path("unused"), parts=["gateway"])


def test_down_never_ends_a_process_that_got_the_pid_later(tmp_path, sleeper):
    impostor = Started("ingest", replace(sleeper, started=sleeper.started - 3600), {"http": 1}, tmp_path / "x.log")
    state.save(tmp_path, {"ingest": impostor})
    assert runtime.down(tmp_path) == ()
    assert sleeper.alive()
    assert state.load(tmp_path) == {}


def test_down_kills_after_the_deadline_what_ignores_the_signal(tmp_path):
    child = spawn(STUBBORN, log=tmp_path / "stubborn.log")
    try:
        process = ProcessId.of(child.pid)
        while "up" not in tail(tmp_path / "stubborn.log"):
            assert child.poll() is None
        state.save(tmp_path, {"ingest": Started("ingest", process, {"http": 1}, tmp_path / "stubborn.log")})
        (stopped,) = runtime.down(tmp_path, deadline_s=0.2)
        assert (stopped.name, stopped.clean) == ("ingest", False)
        assert not process.alive()
    finally:
        child.kill()
        child.wait()


def test_a_damaged_state_file_is_named_and_not_guessed_at(tmp_path, sleeper):
    state.save(tmp_path, {"kafka": Started("kafka", sleeper, {"kafka": 1}, tmp_path / "x.log")})
    saved = json.loads((tmp_path / "runtime.json").read_text())
    (tmp_path / "runtime.json").write_text(json.dumps(saved | {"parts": [{"name": "kafka", "pid": "many"}]}))
    with pytest.raises(LocalError, match=r"runtime\.json cannot be read"):
        runtime.status(tmp_path)
    (tmp_path / "runtime.json").write_text(json.dumps(saved | {"format": 2}))
    with pytest.raises(LocalError, match="format 2, known is 1"):
        runtime.status(tmp_path)


def test_what_ran_before_the_machine_was_started_again_is_gone(tmp_path, sleeper):
    state.save(tmp_path, {"ingest": Started("ingest", sleeper, {"http": 1}, tmp_path / "x.log")})
    saved = json.loads((tmp_path / "runtime.json").read_text())
    (tmp_path / "runtime.json").write_text(json.dumps(saved | {"boot": "an earlier one"}))
    assert runtime.down(tmp_path) == ()
    assert sleeper.alive()


def test_state_is_read_as_it_was_written(tmp_path, sleeper):
    parts = {"router": Started("router", sleeper, {"http": 8082, "grpc": 8083}, tmp_path / "router.log")}
    state.save(tmp_path, parts)
    assert state.load(tmp_path) == parts
    assert addresses_of(parts) == {"router": "http://127.0.0.1:8082", "router_grpc": "127.0.0.1:8083"}
    state.save(tmp_path, {})
    assert not (tmp_path / "runtime.json").exists()


def test_a_process_is_ended_cleanly_by_its_signal(tmp_path):
    child = spawn(SLEEP, log=tmp_path / "x.log")
    process = ProcessId.of(child.pid)
    assert process.rss_bytes() > 0
    assert 0 <= process.age_s() < 100
    assert end(process, deadline_s=10)
    assert child.wait() == -15
    assert process.rss_bytes() is None


def test_a_guard_ends_what_it_covers_when_its_owner_ends(tmp_path, sleeper):
    owner = subprocess.Popen(SLEEP)
    guard = Guard(ProcessId.of(owner.pid))
    try:
        guard.cover(sleeper)
        assert sleeper.alive()
        owner.kill()
        owner.wait()
        assert sleeper.wait_gone(15)
    finally:
        owner.kill()
        guard.close()


def test_a_taken_default_port_gives_another_one():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        taken = server.server_address[1]
        assert not is_free(taken)
        assert free_port(taken) not in (0, taken)
    free = free_port()
    assert free_port(free) == free
    assert free_port(free, besides=[free]) != free


def test_the_tail_of_a_log_starts_where_asked_and_survives_bad_bytes(tmp_path):
    log = tmp_path / "a.log"
    assert tail(log) == ""
    log.write_bytes(b"before\n" + b"one\n\xfftwo\nthree\n")
    assert tail(log, 2, since=len(b"before\n")) == "\ufffdtwo\nthree"
    rotate(log, above_bytes=5)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_bytes().startswith(b"before")


def test_secrets_are_made_once_behind_a_folder_for_their_owner_only(tmp_path):
    folder = tmp_path / "secrets"
    make_compose_secrets(folder)
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o077 == 0
    assert len(made["user_hash_key"]) == 64
    assert made["clickhouse_password"] in made["clickhouse_url"]
    assert len(set(made.values())) == 4
    make_compose_secrets(folder)
    assert {path.name: path.read_text().strip() for path in folder.iterdir()} == made


class Answers(BaseHTTPRequestHandler):
    """A service that is alive, waits for Kafka, and reads two partitions."""

    def do_GET(self):
        bodies = {
            "/live": (200, b'{"status": "live", "parts": {}}'),
            "/ready": (
                503,
                b'{"parts": {"kafka": {"ok": false, "detail": "away"}, "http": {"ok": true, "detail": ""}}}',
            ),
            "/metrics": (
                200,
                b'# HELP flywheel_lag_records x\nflywheel_lag_records{topic="a",partition="0"} 3.0\n'
                b'flywheel_lag_records{topic="a",partition="1"} 4.0\nflywheel_lag_records_other 9\n',
            ),
        }
        status, body = bodies[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


def test_a_probe_tells_what_a_service_waits_for_and_how_far_behind_it_is():
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = ask_service(server.server_address[1])
        server.shutdown()
    assert (report.live, report.ready, report.lag_records) == (True, False, 7)
    assert report.detail == "not ready: kafka (away)"


def test_a_probe_of_nothing_is_not_ready():
    assert ask_service(free_port()).ready is False
    assert ask_kafka(free_port()).ready is False


@pytest.mark.parametrize("topic", topics().values(), ids=lambda topic: topic.name)
def test_a_topic_gets_the_settings_of_its_declaration(topic):
    settings = topic_settings(topic)
    assert settings["cleanup.policy"] == topic.cleanup
    assert settings["message.timestamp.type"] == "LogAppendTime"
    if topic.compacted:
        assert settings["retention.ms"] == "-1"
        assert int(settings["segment.bytes"]) < 64 << 20
    else:
        assert int(settings["segment.ms"]) <= int(settings["retention.ms"])


@pytest.mark.broker
async def test_topics_exist_as_declared_and_another_partition_count_is_refused(private_kafka):
    node = private_kafka()
    declared = [topics()["policies"], topics()["llm-calls"]]
    assert set(await create_topics(node.bootstrap, declared)) == {"policies", "llm-calls"}
    assert await create_topics(node.bootstrap, declared) == ()

    admin = AIOKafkaAdminClient(bootstrap_servers=node.bootstrap)
    await admin.start()
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "policies")])
    await admin.close()
    held = {row[0]: row[1] for row in answer.resources[0][4]}
    assert topic_settings(topics()["policies"]).items() <= held.items()

    with pytest.raises(LocalError, match="policies has 4 partitions, declared are 8"):
        await create_topics(node.bootstrap, [replace(topics()["policies"], partitions=8)])
