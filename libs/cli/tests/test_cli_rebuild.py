"""``flywheel rebuild`` of the services that need little: what it says, and that it moves rather than deletes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flywheel.cli.main import cli
from flywheel.events import topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.topic_admin import create_topics_now

pytest_plugins = ["flywheel.local.fixtures"]


def flywheel(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["rebuild", *arguments], prog_name="flywheel")


@pytest.mark.parametrize(("service", "told"), [("ingest", "key of user hashes"), ("router", "journal")])
def test_services_without_state_of_their_own_are_told_in_one_line(service: str, told: str) -> None:
    answer = flywheel(service)
    assert answer.exit_code == 0 and told in answer.output and answer.output.count("\n") == 1
    assert json.loads(flywheel(service, "--json").output)["needed"] is False


@pytest.mark.parametrize(
    "arguments", [("router", "--from-clickhouse", "http://h"), ("bandit", "--accept-loss"), ("nobody",)]
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    assert flywheel(*arguments).exit_code == 2


@pytest.mark.broker
def test_the_recorders_folder_is_moved_and_every_topic_is_named(
    kafka: KafkaNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topics_now(kafka.bootstrap, topics().values())
    folder = tmp_path / "clickhouse"
    folder.mkdir()
    (folder / "broken").write_text("half a part")
    monkeypatch.setenv("FLYWHEEL_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_PATH", str(folder))
    looked = json.loads(flywheel("recorder", "--json").output)
    assert looked["complete"] and looked["moved_aside"] is None and folder.exists()
    assert {"llm-calls", "llm-outcomes", "policies"} <= {one["topic"] for one in looked["topics"]}
    moved = json.loads(flywheel("recorder", "--force", "--json").output)
    assert not folder.exists()
    assert (Path(moved["moved_aside"]) / "broken").read_text() == "half a part"
