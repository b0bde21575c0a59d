"""500 seeds of the simulation, the seeds that failed once, and whether it would notice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from flywheel.stream import ShardState, shard
from flywheel.stream.ports import Producer

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def scenario() -> ModuleType:
    """``scenario.py``, which `run.py` imports as a script does."""
    spec = importlib.util.spec_from_file_location("scenario", FOLDER / "scenario.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["scenario"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fails(scenario: ModuleType, seeds: range) -> Iterator[bool]:
    """Whether a seed finds something, one after another."""
    for seed in seeds:
        try:
            scenario.play(seed)
        except scenario.Unlike:
            yield True
        else:
            yield False


@pytest.mark.timeout(900)
def test_500_seeds_and_those_that_failed_once_end_as_a_calm_run_does() -> None:
    command = [sys.executable, FOLDER / "run.py", "--seeds", "500", "--processes", "2", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    totals = json.loads(ended.stdout)
    assert totals["seeds"] >= 500
    for fault in ("kill", "freeze", "stop", "join", "rebalance", "repeats"):
        assert totals[fault] > 100, f"{fault} hardly happened: {totals}"


def test_the_same_seed_is_the_same_run() -> None:
    command = [sys.executable, FOLDER / "run.py", "--seed", "7", "--json"]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)]
    for run in runs:
        run.pop("seconds")
    assert runs[0] == runs[1]


def test_it_notices_a_reader_that_does_not_know_repeats(scenario: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "lineage", lambda record: None)
    assert any(fails(scenario, range(1, 9)))


def test_it_notices_an_outbox_that_is_forgotten_too_early(
    scenario: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless(shard.Shard):
        async def flush(self, producer: Producer) -> object:  # type: ignore[override]
            for unsent in self._outbox:
                self.state.sent(unsent.sequence)
            return await super().flush(producer)

    monkeypatch.setattr("flywheel.stream.runner.Shard", Careless)
    assert any(fails(scenario, range(1, 25)))


def test_it_notices_offsets_that_run_ahead_of_the_state(scenario: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = ShardState.commit

    def apart(self: ShardState, view: object, *, outbox: bytes | None, **more: object) -> int | None:
        if outbox is not None and self.emitted > 3:
            view = self.view()  # what was folded is not written, what was sent is
        return commit(self, view, outbox=outbox, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardState, "commit", apart)
    assert all(fails(scenario, range(1, 4)))


def test_it_notices_outcomes_that_a_lost_disk_made_old_news(
    scenario: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard.Shard, "_catching_up", lambda self: False)  # each first telling is revision 1 again
    assert any(fails(scenario, range(3, 61, 3))), "seeds with a disk for each process"
