"""The Kafka node: starts, keeps its data over a crash, tells what is wrong, leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from flywheel.events import topics
from flywheel.local.errors import LocalError, PartFailed, RequirementMissing
from flywheel.local.kafka import KafkaNode
from flywheel.local.kafka_home import find_java, kafka_home
from flywheel.local.processes import ProcessId
from flywheel.local.topic_admin import create_topics

pytest_plugins = ["flywheel.local.fixtures"]


async def send(bootstrap, topic, *values):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def read(bootstrap, topic, count):
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


@pytest.mark.broker
async def test_what_is_sent_is_read(kafka, kafka_topic):
    topic = kafka_topic()
    await send(kafka.bootstrap, topic, b"one", b"two")
    assert await read(kafka.bootstrap, topic, 2) == [b"one", b"two"]


@pytest.mark.broker
async def test_acknowledged_records_survive_a_kill_on_the_same_address(private_kafka):
    node = private_kafka()
    declared = [topics()["llm-calls"]]
    assert await create_topics(node.bootstrap, declared) == ("llm-calls",)
    await send(node.bootstrap, "llm-calls", b"acknowledged")
    address = node.bootstrap
    node.kill()
    assert not node.running
    node.start().wait_ready()
    assert node.bootstrap == address
    assert await read(address, "llm-calls", 1) == [b"acknowledged"]
    assert await create_topics(address, declared) == ()


@pytest.mark.broker
def test_a_node_ends_with_the_program_that_started_it_even_by_kill(tmp_path):
    program = (
        "import sys; from pathlib import Path; from flywheel.local.kafka import KafkaNode\n"
        f"node = KafkaNode(Path({str(tmp_path)!r})).start()\n"
        "print(node.pid, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    node = ProcessId.of(int(owner.stdout.readline()))
    assert node.alive()
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert node.wait_gone(20)


@pytest.mark.broker
def test_one_command_creates_every_declared_topic_or_says_that_there_is_no_broker(private_kafka):
    command = [sys.executable, "-m", "flywheel.local.create_topics"]
    node = private_kafka()
    environ = os.environ | {"FLYWHEEL_KAFKA_BOOTSTRAP": node.bootstrap, "FLYWHEEL_WAIT_S": "1"}
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert sorted(json.loads(ran.stderr.splitlines()[-1])["created"]) == sorted(topics())
    node.kill()
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"no broker at {node.bootstrap} after 1 s"


def test_a_node_that_cannot_start_reports_the_end_of_its_log(tmp_path):
    node = KafkaNode(tmp_path, settings={"num.io.threads": "none at all"})
    with pytest.raises(PartFailed, match=r"num\.io\.threads"):
        node.start().wait_ready()
    assert not node.running
    with pytest.raises(LocalError, match="does not run"):
        _ = node.pid


def test_missing_java_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequirementMissing, match=r"^no `java` on PATH.*Java 17 or newer.*install") as told:
        find_java()
    assert told.value.exit_code == 2
    assert "\n" not in str(told.value)


def test_an_old_java_is_named_with_its_version(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RequirementMissing, match=r"is Java 8\. .*needs Java 17"):
        find_java()


def test_missing_maven_is_one_clear_line_and_leaves_no_half_installed_folder(monkeypatch, tmp_path):
    java = find_java()
    monkeypatch.setenv("JAVA_HOME", str(java.resolve().parents[1]))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RequirementMissing, match=r"^no `mvn` on PATH.*Maven 3.6 or newer"):
        kafka_home()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_failing_maven_is_told_with_the_end_of_its_output(monkeypatch, tmp_path):
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho 'BUILD FAILURE: no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(find_java().resolve().parents[1]))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalError, match=r"(?s)exit 1.*no route to host"):
        kafka_home()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_two_programs_at_once_install_once(monkeypatch, tmp_path):
    maven = tmp_path / "mvn"
    maven.write_text(
        f"#!/bin/sh\necho ran >> {tmp_path}/runs\nsleep 0.5\n"
        'for word in "$@"; do case "$word" in -DoutputDirectory=*) libs="${word#*=}";; esac; done\n'
        'mkdir -p "$libs" && touch "$libs/kafka_2.13-0.jar"\n'
    )
    maven.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(find_java().resolve().parents[1]))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "cache"))
    install = [sys.executable, "-c", "from flywheel.local.kafka_home import kafka_home; print(kafka_home().folder)"]
    both = [subprocess.Popen(install, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [program.communicate()[0].strip() for program in both]
    assert [program.returncode for program in both] == [0, 0]
    assert told[0] == told[1]
    assert (Path(told[0]) / "libs" / "kafka_2.13-0.jar").is_file()
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(
        [Path(told[0]).name, Path(told[0]).name + ".lock"]
    )
