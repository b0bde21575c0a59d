"""The parts of the demo that need no system: playing, scoring, checking, showing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flywheel.cli.demo.checking import (
    EVENT_VIEWS,
    OUTCOME_VIEW,
    Counts,
    Noticed,
    compare_scores,
    count_everything,
    noticed,
    questions,
    wait_for_rows,
)
from flywheel.cli.demo.playing import Choice, NotLearning, Pace, Played, Progress, play
from flywheel.cli.demo.scoring import Score, Served, last_share, quantile, score_phase
from flywheel.cli.demo.showing import Display, progress_line, show_result
from flywheel.cli.demo.staging import DemoResult, load_charter, reward_rule, watching_rules, write_result
from flywheel.cli.questions import Rows
from flywheel.control.rules import parse_rules
from flywheel.control.shipped import default_rules
from flywheel.testkit import Answer, ModelVersion, simulated_prime

FAST = Pace(per_s=10_000, at_once=4, ahead=20)


class MemoryWheel:
    """A system that always chooses the same arm and learns from each report, or from none."""

    def __init__(self, arm: str = "gpt4", *, learns: bool = True) -> None:
        self.arm = arm
        self.learns = learns
        self.reports: list[tuple[str, bool]] = []
        self.at_once = 0
        self.most_at_once = 0

    async def decide(self, request_id: str) -> Choice:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        return Choice("d-" + request_id, self.arm, 0.5, 1, False, "policy")

    async def report(self, request_id: str, choice: Choice, answer: Answer) -> None:
        self.at_once -= 1
        self.reports.append((request_id, answer.correct))

    async def learned(self) -> int:
        return len(self.reports) if self.learns else 0


async def replay(wheel: MemoryWheel, per_phase: int = 50, seed: int = 1, pace: Pace = FAST) -> Played:
    experiment = simulated_prime(queries=100)
    return await play(experiment, wheel, seed=seed, per_phase=per_phase, pace=pace, on_change=lambda _: None)


class TestPlaying:
    async def test_every_query_of_each_phase_is_asked_once_and_reported(self) -> None:
        wheel = MemoryWheel()
        played = await replay(wheel)
        ids = [served.request_id for served in played.all_served]
        assert len(ids) == len(set(ids)) == 100
        assert sorted(ids) == sorted(rid for rid, _ in wheel.reports)
        assert [served.phase for served in played.all_served] == ["march"] * 50 + ["june"] * 50
        assert wheel.most_at_once <= FAST.at_once

    async def test_the_seed_decides_the_order(self) -> None:
        one, again, other = [await replay(MemoryWheel(), seed=seed) for seed in (1, 1, 2)]
        assert one.asked == again.asked
        assert one.asked != other.asked

    async def test_the_answer_is_that_of_the_model_version_of_the_phase(self) -> None:
        played = await replay(MemoryWheel("gpt35"))
        assert {served.answer.model.name for served in played.served["march"]} == {"gpt-3.5-turbo-0301"}
        assert {served.answer.model.name for served in played.served["june"]} == {"gpt-3.5-turbo-0613"}

    async def test_a_policy_that_takes_nothing_in_is_an_error_not_a_hang(self) -> None:
        with pytest.raises(ExceptionGroup) as raised:
            await replay(MemoryWheel(learns=False), pace=replace(FAST, patience_s=0.3))
        assert raised.group_contains(NotLearning, match="for 0.3 s the policy took none of them in")

    async def test_an_arm_nobody_declared_is_an_error(self) -> None:
        with pytest.raises(ExceptionGroup) as raised:
            await replay(MemoryWheel("gpt9"))
        assert raised.group_contains(ValueError, match="'gpt9', which is no arm")


def answer(correct: bool, cost: str = "0.01") -> Answer:
    return Answer(ModelVersion("openai", "m"), "", correct, Decimal(cost), 1000.0, None, None)


class TestScoring:
    async def test_each_way_to_choose_is_scored_on_the_same_queries(self) -> None:
        experiment = simulated_prime(queries=400)
        charter, _ = load_charter(experiment)
        played = await replay(MemoryWheel("gpt4"), per_phase=100)
        march = experiment.phases[0]
        scores = score_phase(experiment, march, played.asked["march"], played.served["march"], reward_rule(charter))
        assert scores.flywheel == scores.fixed["gpt4"]
        assert scores.shares == {"gpt4": 1.0, "gpt35": 0.0}
        assert scores.best_arm == "gpt4"
        assert scores.best.reward >= scores.random.reward
        assert scores.random.cost_usd == pytest.approx(sum(s.cost_usd for s in scores.fixed.values()) / 2)

    def test_the_reward_is_the_charters(self) -> None:
        charter, _ = load_charter(simulated_prime())
        reward_of = reward_rule(charter)
        assert reward_of(answer(True, "0.01")) == pytest.approx(1 - 0.1 * 0.01 / 0.02)
        assert reward_of(answer(False, "0")) == 0
        assert reward_of(answer(False, "0.5")) == -0.2  # clipped to the charter's range

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
    def test_a_quantile_is_a_value_that_was_seen_and_no_less_than_its_share(
        self, values: list[float], q: float
    ) -> None:
        found = quantile(values, q)
        assert found in values
        assert sum(v <= found for v in values) >= q * len(values) - 1e-9

    def test_the_share_of_the_last_requests(self) -> None:
        served = [made(arm) for arm in ("a", "b", "b")]
        assert last_share(served, "b", 2) == 1.0
        assert last_share(served, "b", 300) == pytest.approx(2 / 3)
        assert last_share([], "b", 300) == 0.0


def made(arm: str, request_id: str = "r", correct: bool = True) -> Served:
    return Served("march", request_id, arm, answer(correct), 0.5, False, 1.0, "d")


class Warehouse:
    """Answers the checks' queries from lists of request ids by view."""

    def __init__(self, **ids: Sequence[str]) -> None:
        self.ids = {view: list(ids.get(view, ())) for view in (*EVENT_VIEWS, OUTCOME_VIEW, "v_duplicates")}
        self.sums: tuple[Any, ...] = (1.0, 0.02, 1.9)

    def __call__(self, query: str) -> Rows:
        view = next(view for view in self.ids if f"FROM {view}" in query)
        if "count()" in query:
            return Rows(("n",), ("UInt64",), [[len(self.ids[view])]])
        if "avg(" in query:
            return Rows(("a", "b", "c"), ("", "", ""), [self.sums])
        return Rows(("request_id",), ("String",), [[found] for found in self.ids[view]])


def full(*ids: str) -> dict[str, Sequence[str]]:
    return {view: ids for view in (*EVENT_VIEWS, OUTCOME_VIEW)}


class TestChecking:
    SERVED = (made("gpt4", "r1"), made("gpt35", "r2"))

    def test_equal_counts_have_no_complaint(self) -> None:
        counts = count_everything(Warehouse(**full("r1", "r2")), "f", self.SERVED)
        assert counts == Counts(events_in=6, rows=6, outcomes=2, complaints=())

    def test_a_lost_and_a_doubled_row_are_named(self) -> None:
        ids = full("r1", "r2") | {"v_calls": ["r1"], "v_feedback": ["r1", "r2", "r2"]}
        counts = count_everything(Warehouse(**ids, v_duplicates=["x"]), "f", self.SERVED)
        assert (counts.events_in, counts.rows, counts.outcomes) == (6, 6, 2)
        assert counts.complaints == (
            "v_calls: sent 2, arrived 1, 1 lost (first r2)",
            "v_feedback: sent 2, arrived 3, 1 twice or more (first r2)",
            "v_duplicates: 1 rows were written more than once",
        )

    def test_it_waits_while_counts_grow_and_gives_up_when_they_stand_still(self) -> None:
        warehouse = Warehouse()
        now_s = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now_s
            now_s += seconds
            if now_s < 40:
                for ids in warehouse.ids.values():
                    ids.append("r")

        assert not wait_for_rows(warehouse, "f", 10_000, sleep=sleep, clock=lambda: now_s)
        assert now_s == pytest.approx(70, abs=1)
        assert wait_for_rows(warehouse, "f", 100, sleep=sleep, clock=lambda: now_s)

    def test_sums_that_differ_are_named(self) -> None:
        warehouse = Warehouse()
        assert compare_scores(warehouse, "f", Score(1.0, 0.02, 1.9)) == []
        (complaint,) = compare_scores(warehouse, "f", Score(1.0, 0.03, 1.9))
        assert complaint.startswith("cost_usd: the joined outcomes say 0.02, the replay says 0.03")
        warehouse.sums = (None, 0.02, 1.9)
        assert len(compare_scores(warehouse, "f", Score(1.0, 0.02, 1.9))) == 1

    def test_what_was_noticed_is_told_once_with_what_was_proposed(self) -> None:
        def ask(sql: str) -> Rows:
            answers = {
                "v_alerts": Rows(
                    ("alert_id", "kind", "severity", "title", "at"), (), [
                        ["a", "quality", "critical", "first", 20], ["b", "drift", "info", "other", 30],
                        ["a", "quality", "critical", "again", 40],
                    ],
                ),
                "v_actions": Rows(("alert_id", "kind", "arms"), (), [["a", "disable", ["gpt4"]]]),
                "v_decisions": Rows(("at",), (), [[5], [15], [25]]),
            }  # fmt: skip
            return next(rows for view, rows in answers.items() if view in sql)

        assert noticed(ask, "f") == (
            Noticed(2, "quality", "critical", "first", "disable gpt4"),
            Noticed(3, "drift", "info", "other", ""),
        )


class TestShowing:
    def test_the_progress_line_tells_shares_reward_and_lag(self) -> None:
        progress = Progress(total=4, phase="march", served=[made("gpt4"), made("gpt4"), made("gpt35")], learned=1)
        line = progress_line(progress, ["gpt4", "gpt35"], 2.5)
        assert "3/4" in line
        assert "gpt4  67%" in line
        assert line.endswith("lag   2")

    async def test_the_result_is_shown_and_written(self, tmp_path: Any) -> None:
        experiment = simulated_prime(queries=60)
        charter, _ = load_charter(experiment)
        reward_of = reward_rule(charter)
        played = await replay(MemoryWheel("gpt4"), per_phase=30)
        phases = tuple(
            score_phase(experiment, p, played.asked[p.name], played.served[p.name], reward_of)
            for p in experiment.phases
        )
        asked = questions(charter.feature)
        result = DemoResult(
            experiment=experiment,
            seed=1,
            counts=Counts(180, 180, 60, ()),
            decide_p50_ms=1.0,
            decide_p99_ms=2.0,
            phases=phases,
            last_shares={"gpt4": 1.0, "gpt35": 0.0},
            fallbacks=3,
            noticed=(Noticed(1090, "quality", "critical", "prime-check: worse", "disable gpt4"),),
            replay_seconds=1.0,
            answers=tuple((question, sql, Rows(("n",), ("UInt64",), [[1]])) for question, sql in asked),
            complaints=(),
        )
        out = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        with Display(out, experiment, reward_of) as display:
            display.opening()
            display.show(Progress(total=1, served=[made("gpt4")]))
        show_result(out, result)
        text = out.export_text()
        assert "simulated" in text
        for expected in ("Flywheel", "always gpt4", "always gpt35", "random", "best of each phase", "p50 1.0 ms"):
            assert expected in text
        assert "prime-check: worse" in text and "disable gpt4" in text
        document = write_result(tmp_path, result)
        assert document.name == "demo.json"
        assert len(asked) == 3


def test_the_demos_rules_are_the_default_ones_that_only_say_what_they_would_do() -> None:
    rules = parse_rules(watching_rules())
    assert rules.mode == "dry_run" and rules.rules == default_rules().rules


def test_both_demo_charters_declare_the_arms_of_their_experiment() -> None:
    experiment = simulated_prime()
    charter, _ = load_charter(experiment)
    assert {arm.name for arm in charter.arms} == set(experiment.arms)
    assert len(charter.quality) == 1
