"""Every command explains itself; --json is JSON; errors are one line; exit codes are 0, 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from flywheel.cli.main import cli
from flywheel.cli.output import table
from flywheel.policy import Summary, build_policy, nano, parse_charter
from flywheel.policy.feature_spec import encoder_of
from flywheel.policy.moments import MomentSummary, outcome_vector

SPEC = ("up", "down", "status", "demo", "replay", "sql", "topics", "tail", "policy", "charter", "budget", "config")
POLICY = {
    "project": "default",
    "feature": "prime-check",
    "policy_version": 7,
    "kind": "thompson_beta",
    "outcomes": 120,
    "default_arm": "gpt4",
    "explore_floor": 0.02,
    "charter_revision": 1,
    "arms": [
        {
            "name": "gpt4",
            "model": "m4",
            "enabled": True,
            "mean": 0.7,
            "variance": 0.01,
            "weight": 60.0,
            "propensity": 0.9,
        },
        {
            "name": "gpt35",
            "model": "m3",
            "enabled": True,
            "mean": 0.5,
            "variance": 0.04,
            "weight": 9.5,
            "propensity": 0.1,
        },
    ],
}


def by_context() -> dict[str, Any]:
    """A policy by context: its two arms go apart with the size, and hardly with the plan."""
    charter = parse_charter(
        "feature: routes\nquality: {q: 1}\narms: [{name: large, model: m}, {name: small, model: m}]\n"
        "policy: {kind: linear_thompson, features: [{name: size, kind: number, low: 0, high: 1}, "
        "{name: premium, kind: flag}]}"
    )
    encoder, summary, moments = encoder_of(charter.policy.feature_records), Summary(), MomentSummary()
    for number in range(400):
        arm, size = ("large", "small")[number % 2], number % 37 / 36
        reward = size if arm == "large" else 1.0 - size
        context = {"size": size, "premium": number % 3 == 0}
        summary.add(number, arm, nano(reward))
        moments.add(number, arm, outcome_vector(encoder.encode(context), reward, (0.0, 1.0)))
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=9, occurred_at_us=1, summaries=[summary],
        moments=[moments],
    )  # fmt: skip


def compared() -> dict[str, Any]:
    """A policy that has taken one arm of an experiment out."""
    charter = parse_charter(
        "feature: compared\nquality: {q: 1}\narms: [{name: well, model: m}, {name: badly, model: m}]\n"
        "policy: {kind: experiment}"
    )
    summary = Summary()
    for number in range(200):
        summary.add(number, ("well", "badly")[number % 2], nano(float(number % 2 == 0 or number % 5 == 0)))
    return build_policy(
        charter, charter_revision=1, charter_digest="d", policy_version=9, occurred_at_us=1, summaries=[summary]
    )


def flywheel(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="flywheel", input=stdin)


def children(command: click.Command) -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: child for name, child in found.items() if child is not None}


def every_command() -> Iterator[list[str]]:
    def walk(command: click.Command, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, child in children(command).items():
            yield from walk(child, [*path, name])

    yield from walk(cli, [])


@pytest.fixture(autouse=True)
def _no_system_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test finds a system that happens to run on this machine."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "home"))
    for variable in ("KAFKA_BOOTSTRAP", "INGEST_URL", "ROUTER_URL", "CLICKHOUSE_URL"):
        monkeypatch.setenv(
            f"FLYWHEEL_{variable}", "127.0.0.1:1" if variable == "KAFKA_BOOTSTRAP" else "http://127.0.0.1:1"
        )


class Peer(BaseHTTPRequestHandler):
    """Speaks as the recorder's SQL side, the router's policies and ingest do."""

    def do_GET(self) -> None:
        self._reply(200, {"policies": [POLICY, by_context(), compared()]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/v1/"):
            items = orjson.loads(body)["items"]
            verdicts = [
                {"index": n, "status": "rejected", "errors": [{"field": "input_tokens", "message": "negative"}]}
                if item.get("input_tokens", 0) < 0
                else {"index": n, "status": "accepted", "errors": []}
                for n, item in enumerate(items)
            ]
            self._reply(207, {"items": verdicts})
        elif b"FROM nothing" in body:
            self._reply(404, "Code: 60. DB::Exception: Unknown table\nand a stack trace")
        else:
            meta = [{"name": "n", "type": "UInt64"}, {"name": "cost_usd", "type": "Nullable(Float64)"}]
            self._reply(200, {"meta": meta, "data": [[3, None]], "rows": 1})

    def _reply(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else orjson.dumps(body)
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    for name in ("INGEST", "ROUTER", "CLICKHOUSE"):
        monkeypatch.setenv(f"FLYWHEEL_{name}_URL", url)
    yield url
    server.shutdown()
    server.server_close()


def one_line(result: Result) -> str:
    (line,) = result.stderr.splitlines()
    return line


def test_the_promised_commands_are_there() -> None:
    assert set(SPEC) <= set(children(cli))


def test_a_table_shows_texts_of_others_as_they_are() -> None:
    """Brackets are no markup: with rich's, ``[/]`` would end the command and ``[red]`` be gone."""
    shown = Console(file=StringIO(), width=80)
    shown.print(table(["[bold]name"], [["[/] [red]x"], ["[link=y]z"]]))
    assert isinstance(shown.file, StringIO)
    told = shown.file.getvalue()
    assert all(text in told for text in ("[bold]name", "[/] [red]x", "[link=y]z"))


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(path: list[str]) -> None:
    result = flywheel(*path, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4
    command: click.Command = cli
    for name in path:
        command = children(command)[name]
    if not isinstance(command, click.Group):
        assert "--json" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["sql"], ["sql", " "], ["demo", "--source", "x"], ["replay", "absent.jsonl"]]
)
def test_a_command_line_that_makes_no_sense_ends_with_2(arguments: list[str]) -> None:
    assert flywheel(*arguments).exit_code == 2


class TestSql:
    def test_a_table_for_people_and_json_for_programs(self, peer: str) -> None:
        assert "–" in flywheel("sql", "SELECT 1").output
        assert json.loads(flywheel("sql", "SELECT 1", "--json").stdout) == [{"n": 3, "cost_usd": None}]
        assert json.loads(flywheel("sql", "-", "--json", stdin="SELECT 1").stdout) == [{"n": 3, "cost_usd": None}]

    def test_what_clickhouse_refuses_is_its_first_line(self, peer: str) -> None:
        result = flywheel("sql", "SELECT * FROM nothing")
        assert result.exit_code == 1
        assert one_line(result) == "flywheel: Code: 60. DB::Exception: Unknown table"

    def test_nobody_there_is_said_with_what_to_do(self) -> None:
        result = flywheel("sql", "SELECT 1")
        assert result.exit_code == 1
        assert "flywheel up" in one_line(result)


class TestPolicyShow:
    def test_arms_with_beliefs_and_propensities(self, peer: str) -> None:
        output = flywheel("policy", "show", "prime-check").output
        assert "version 7" in output
        assert "0.9" in output
        shown = json.loads(flywheel("policy", "show", "prime-check", "--json").stdout)
        assert [arm["propensity"] for arm in shown["arms"]] == [0.9, 0.1]

    def test_an_experiment_shows_which_arms_are_out_and_why(self, peer: str) -> None:
        output = flywheel("policy", "show", "compared").output
        assert "beaten by" in output and "3.00" in output
        badly = next(line for line in output.splitlines() if line.startswith("badly") and "well" in line)
        assert "100" in badly and "0.2" in badly

    def test_a_feature_without_policy_is_named(self, peer: str) -> None:
        result = flywheel("policy", "show", "other")
        assert result.exit_code == 1
        assert one_line(result).startswith("flywheel: no policy for default/other")

    def test_no_router_is_said(self) -> None:
        assert "asking the router" in one_line(flywheel("policy", "show", "x"))


class TestPolicyFeatures:
    def test_each_feature_with_its_shares_and_effects(self, peer: str) -> None:
        shown = flywheel("policy", "features", "routes", "--effects")
        assert shown.exit_code == 0, shown.output
        for word in ("alone", "favourite changes", "premium=true", "version 9"):
            assert word in shown.stdout
        told = json.loads(flywheel("policy", "features", "routes", "--json").stdout)
        size, premium = told["features"]
        assert (size["name"], premium["name"]) == ("size", "premium")
        assert size["alone"]["low"] > 0.95 and premium["alone"]["high"] < 0.05
        assert 0.4 < size["changes_favourite"] < 0.6  # without it, one arm is the favourite everywhere

    def test_a_policy_that_looks_at_none_says_so(self, peer: str) -> None:
        result = flywheel("policy", "features", "prime-check")
        assert result.exit_code == 1
        assert "a policy of kind thompson_beta looks at no features" in one_line(result)


class TestCharter:
    def test_a_valid_charter(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("feature: f\nquality: {user.thumb: 1.0}\narms: [{name: a, model: m}]\n")
        assert "is valid" in flywheel("charter", "check", str(file)).output
        assert json.loads(flywheel("charter", "check", str(file), "--json").stdout)["valid"] is True

    def test_every_problem_is_shown_with_file_line_and_field(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("feature: f\nquality: {user.thumb: 2.0}\narms:\n  - {name: a}\n")
        result = flywheel("charter", "check", str(file))
        assert result.exit_code == 1
        assert f"{file}:2: quality" in result.stderr
        assert f"{file}:4: arms.0.model" in result.stderr
        problems = json.loads(flywheel("charter", "check", str(file), "--json").stdout)["problems"]
        assert [problem["line"] for problem in problems] == [2, 4]
        refused = flywheel("charter", "apply", str(file))
        assert refused.exit_code == 1
        assert f"{file}:2: quality" in one_line(refused)

    def test_a_charter_that_is_no_text_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_bytes(b"feature: \xff\n")
        assert "not UTF-8" in one_line(flywheel("charter", "check", str(file)))

    def test_without_kafka_it_is_not_published(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("feature: f\nquality: {user.thumb: 1.0}\narms: [{name: a, model: m}]\n")
        result = flywheel("charter", "apply", str(file))
        assert result.exit_code == 1
        assert "reaching Kafka at 127.0.0.1:1" in one_line(result)


class TestReplay:
    CALL: ClassVar = {"request_id": "r", "occurred_at": 1_795_000_000_000_000, "request_model": "m"}

    def write(self, tmp_path: Path, *lines: Any) -> str:
        file = tmp_path / "items.jsonl"
        file.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
        return str(file)

    def test_items_are_posted_and_counted(self, tmp_path: Path, peer: str) -> None:
        feedback = {"request_id": "r", "occurred_at": "2026-11-21T05:00:00Z", "kind": "thumb"}
        file = self.write(tmp_path, {"call": self.CALL}, self.CALL, b"", {"feedback": feedback}, feedback)
        result = flywheel("replay", file, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["accepted"] == 4

    def test_a_rejected_item_is_named_by_line_and_field_and_ends_with_1(self, tmp_path: Path, peer: str) -> None:
        file = self.write(tmp_path, self.CALL, self.CALL | {"input_tokens": -1})
        result = flywheel("replay", file)
        assert result.exit_code == 1
        assert "accepted 1, duplicate 0, rejected 1" in result.stdout
        assert one_line(result) == "flywheel: 1 items were rejected: line 2: input_tokens: negative"

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            (b"{", "line 1: not JSON"),
            ([1], "line 1: not an object"),
            ({"call": 3}, "line 1: calls is not an object"),
            ({"x": 1}, "neither a call"),
            ({"call": {"request_id": "r"}}, "occurred_at is neither"),
            ({"call": {"occurred_at": "yesterday"}}, "occurred_at"),
        ],
    )
    def test_a_line_that_is_no_item_is_named(self, tmp_path: Path, peer: str, line: Any, complaint: str) -> None:
        result = flywheel("replay", self.write(tmp_path, line))
        assert result.exit_code == 1
        assert complaint in one_line(result)

    def test_nobody_there_is_said(self, tmp_path: Path) -> None:
        assert "is the system up?" in one_line(flywheel("replay", self.write(tmp_path, self.CALL)))


class TestSystem:
    def test_nothing_running_is_no_error(self) -> None:
        status = flywheel("status", "--json")
        assert status.exit_code == 0
        assert json.loads(status.stdout)["running"] is False
        assert "stopped" in flywheel("status").output
        assert flywheel("down").output == "nothing was running\n"
        assert json.loads(flywheel("down", "--json").stdout) == []

    @pytest.mark.parametrize("arguments", [["topics"], ["tail", "llm-calls"]])
    def test_no_kafka_is_said_in_one_line(self, arguments: list[str]) -> None:
        result = flywheel(*arguments)
        assert result.exit_code == 1
        assert "Kafka at 127.0.0.1:1" in one_line(result)


class TestConfig:
    def test_settings_of_a_service_with_value_and_source(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLYWHEEL_LOG_LEVEL", "DEBUG")
        found = json.loads(flywheel("config", "ingest", "--json").stdout)["ingest"]
        assert found["log_level"]["value"] == "DEBUG"
        assert found["log_level"]["source"] == "env FLYWHEEL_LOG_LEVEL"
        assert all(row["description"] for row in found.values())
        assert "FLYWHEEL_PORT" in flywheel("config", "ingest").output

    def test_a_bad_setting_is_the_services_own_complaint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLYWHEEL_PORT", "many")
        assert "FLYWHEEL_PORT" in one_line(flywheel("config", "ingest"))


def test_the_demo_of_an_absent_recording_says_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLYWHEEL_DATA", str(tmp_path))
    result = flywheel("demo", "--source", "routellm")
    assert result.exit_code == 1
    assert "FLYWHEEL_DATA" in one_line(result)
