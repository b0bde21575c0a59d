"""The whole demo, small: real Kafka, the embedded ClickHouse, the services as processes; what went in is what came
out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from flywheel.cli.main import cli

PER_PHASE = 120
SCORE_KEYS = {"accuracy", "cost_usd", "reward"}

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flywheel.cli", "demo", *arguments]


def environment(home: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLYWHEEL_", "CLICKHOUSE_"))}
    return inherited | {"FLYWHEEL_HOME": str(home)} | more


def left_running(home: Path) -> list[str]:
    """Processes that name the demo's folder in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(home) in " ".join([*process.cmdline(), *process.environ().values()]):
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def check_shape(document: dict[str, Any], per_phase: int) -> None:
    requests = 2 * per_phase
    assert document["events_in"] == document["rows"] == 3 * requests
    assert document["outcomes"] == requests
    assert 0 < document["decide_ms"]["p50"] <= document["decide_ms"]["p99"]
    assert [phase["name"] for phase in document["phases"]] == ["march", "june"]
    for phase in document["phases"]:
        for role in ("flywheel", "always_gpt4", "always_gpt35", "random", "best"):
            assert set(phase[role]) == SCORE_KEYS
        assert phase["best"]["reward"] == max(phase["always_gpt4"]["reward"], phase["always_gpt35"]["reward"])
        assert sum(document["shares"][phase["name"]].values()) == pytest.approx(1)


def test_the_simulated_demo_reconciles_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("FLYWHEEL_HOME", str(home))
    monkeypatch.setenv("FLYWHEEL_DATA", str(tmp_path / "absent"))
    ended = CliRunner().invoke(cli, ["demo", "--per-phase", str(PER_PHASE), "--seed", "3"], prog_name="flywheel")
    assert ended.exit_code == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}\n{ended.exception!r}"
    document = json.loads((home / "demo.json").read_text())
    assert document["source"] == "simulated"
    assert "simulated" in ended.stdout
    assert isinstance(document["noticed"], list)
    for shown in ("always gpt4", "best of each phase", "joined outcomes", "What the detector noticed", "SELECT"):
        assert shown in ended.stdout
    check_shape(document, PER_PHASE)
    assert left_running(home) == []


@pytest.fixture
def sigint_heard() -> Iterator[None]:
    """A process started in the background of a shell ignores SIGINT, and so would those it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_heard")
def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = environment(home, FLYWHEEL_DATA=str(tmp_path / "absent"))
    with subprocess.Popen(
        command(), env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "starting recorder" in line:
                break
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "nothing was left running" in err
    deadline = time.monotonic() + 20
    while left_running(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left_running(home) == []


def test_a_part_that_crashes_ends_the_demo_with_the_end_of_its_log(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = environment(home, FLYWHEEL_DATA=str(tmp_path / "absent"))
    with subprocess.Popen(
        command(), env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "/2000" in line:
                break
        children = psutil.Process(demo.pid).children(recursive=True)
        next(child for child in children if "flywheel_bandit" in child.cmdline()).kill()
        _, err = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "bandit: ended by itself (SIGKILL)" in err
    assert '"service":"bandit"' in err
    assert left_running(home) == []
