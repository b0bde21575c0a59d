"""The whole demo: start everything, apply the charter, play, check, score, write the result, stop everything."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
import uvloop

from flywheel.cli.addresses import Addresses
from flywheel.cli.controlling import apply_rules
from flywheel.cli.demo.checking import (
    Counts,
    Noticed,
    compare_scores,
    count_everything,
    noticed,
    questions,
    wait_for_rows,
)
from flywheel.cli.demo.playing import Pace, Played, Progress, play
from flywheel.cli.demo.scoring import PhaseScores, RewardOf, as_json, last_share, quantile, score, score_phase
from flywheel.cli.demo.wheel import RunningWheel
from flywheel.cli.publishing import apply_charter
from flywheel.cli.questions import Rows, ask
from flywheel.control.shipped import default_rules_text
from flywheel.events.declarations import schemas_dir
from flywheel.local.errors import LocalError
from flywheel.local.parts import PARTS
from flywheel.local.runtime import Runtime
from flywheel.policy import Attempt, Charter, RewardRule, compose, parse_charter
from flywheel.testkit import Answer, Experiment

_PARTS: Final = tuple(name for name in PARTS if name not in ("monitor", "notifier"))
"""The demo declares no service levels and is over before a window fills; it tells nobody."""

LAST = 300
POLICY_S = 60.0
DETECTOR: Final[Mapping[str, str]] = MappingProxyType({"FLYWHEEL_WINDOW_S": "0.2", "FLYWHEEL_TICK_S": "0.5"})
"""Months are played in half a minute: at the windows of ten seconds that are shipped nothing would be noticed in it."""


class DemoFailed(RuntimeError):
    """The demo did not end as it must; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to play and how."""

    experiment: Experiment
    folder: Path
    seed: int
    per_phase: int | None
    pace: Pace


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came out, as shown and as written to ``demo.json``."""

    experiment: Experiment
    seed: int
    counts: Counts
    decide_p50_ms: float
    decide_p99_ms: float
    phases: tuple[PhaseScores, ...]
    last_shares: dict[str, float]
    fallbacks: int
    noticed: tuple[Noticed, ...]
    replay_seconds: float
    answers: tuple[tuple[str, str, Rows], ...]
    complaints: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The content of ``demo.json``. The keys ``always_gpt4`` and ``always_gpt35`` are the dear and the cheap arm of
        whichever experiment was played; ``models`` says which models those were."""
        experiment = self.experiment
        roles = {"always_gpt4": experiment.strong, "always_gpt35": experiment.weak}
        shares = {p.name: {arm: round(share, 4) for arm, share in p.shares.items()} for p in self.phases}
        return {
            "source": experiment.source,
            "events_in": self.counts.events_in,
            "rows": self.counts.rows,
            "outcomes": self.counts.outcomes,
            "decide_ms": {"p50": round(self.decide_p50_ms, 3), "p99": round(self.decide_p99_ms, 3)},
            "phases": [
                {
                    "name": p.name,
                    "requests": p.requests,
                    "flywheel": as_json(p.flywheel),
                    **{role: as_json(p.fixed[arm]) for role, arm in roles.items()},
                    "random": as_json(p.random),
                    "best": as_json(p.best),
                }
                for p in self.phases
            ],
            "shares": shares | {f"last_{LAST}": {arm: round(share, 4) for arm, share in self.last_shares.items()}},
            "noticed": [{"kind": n.kind, "severity": n.severity, "title": n.title} for n in self.noticed],
            "seed": self.seed,
            "models": {
                phase.name: {role: phase.models[arm].name for role, arm in roles.items()} for phase in experiment.phases
            },
        }


def watching_rules() -> str:
    """The default rules in dry run: the controller says what it would do and leaves the traffic to the policy, which
    is what the demo shows."""
    return default_rules_text().replace("mode: act\n", "mode: dry_run\n", 1)


def load_charter(experiment: Experiment) -> tuple[Charter, str]:
    """The example charter of an experiment, and its text."""
    text = (schemas_dir() / "examples" / "charters" / f"{experiment.charter}.yaml").read_text(encoding="utf-8")
    return parse_charter(text), text


def reward_rule(charter: Charter) -> RewardOf:
    """The charter's reward of one recorded answer, as for a request of one call."""
    rule = RewardRule.of(charter)
    (kind,) = charter.quality

    def reward_of(answer: Answer) -> float:
        attempt = Attempt("OK", Decimal(answer.cost_usd), answer.latency_ms)
        found = compose(rule, {kind: float(answer.correct)}, [attempt], closed=False).reward
        if found is None:
            raise DemoFailed(f"the charter of {charter.feature} gives no reward to {answer.model.name}")
        return found

    return reward_of


def run_demo(plan: DemoPlan, *, step: Callable[[str], None], on_change: Callable[[Progress], None]) -> DemoResult:
    """Run it. Whatever happens, nothing keeps running afterwards.

    Raises ``LocalError`` when the system cannot be started or a part of it crashed, ``DemoFailed`` when something
    else than the counts went wrong; counts that do not match are in the result's ``complaints``.
    """
    charter, text = load_charter(plan.experiment)
    folder = plan.folder / "demo"
    # The counts hold only for a system that starts empty.
    shutil.rmtree(folder, ignore_errors=True)
    with Runtime(folder, parts=_PARTS, environ={"detector": DETECTOR}, progress=step) as runtime:
        addresses = Addresses(**{name: runtime.addresses[name] for name in ("kafka", "ingest", "router", "clickhouse")})
        try:
            watched = _watched(runtime, on_change)
            playing = _play_all(plan, addresses, charter, text, step=step, on_change=watched)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                played = runner.run(playing)
            step("waiting until ClickHouse holds everything")
            result = _judge(plan, charter, played, addresses)
        except Exception as error:
            runtime.check()  # a part that crashed is the better explanation
            if isinstance(error, DemoFailed | LocalError):
                raise
            raise DemoFailed(f"{_first_cause(error)}{_tails(runtime)}") from error
        step("stopping")
    return result


def _watched(runtime: Runtime, on_change: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """``on_change`` that also looks, once a second, whether a part crashed: the replay need not wait for what is
    gone."""
    looked_at = time.monotonic()

    def watched(progress: Progress) -> None:
        nonlocal looked_at
        if time.monotonic() - looked_at > 1.0:
            looked_at = time.monotonic()
            runtime.check()
        on_change(progress)

    return watched


async def _play_all(
    plan: DemoPlan,
    addresses: Addresses,
    charter: Charter,
    text: str,
    *,
    step: Callable[[str], None],
    on_change: Callable[[Progress], None],
) -> Played:
    await apply_rules(addresses.kafka, charter.project, watching_rules())
    step("the controller only proposes (mode: dry_run)")
    applied = await apply_charter(addresses.kafka, charter, text)
    step(f"charter of {applied.feature} published, revision {applied.revision}")
    async with RunningWheel(addresses, charter) as wheel:
        try:
            policy = await wheel.wait_for_policy(POLICY_S)
        except TimeoutError:
            raise DemoFailed(f"no policy for {charter.feature} reached the router within {POLICY_S:g} s") from None
        step(f"the router has policy version {policy['policy_version']}; playing")
        played = await play(
            plan.experiment, wheel, seed=plan.seed, per_phase=plan.per_phase, pace=plan.pace, on_change=on_change
        )
        if not await wheel.flush():
            raise DemoFailed("not every call and feedback was taken by ingest within 20 s")
    return played


def _judge(plan: DemoPlan, charter: Charter, played: Played, addresses: Addresses) -> DemoResult:
    put = partial(ask, addresses.clickhouse)
    served, feature = played.all_served, charter.feature
    wait_for_rows(put, feature, len(served))
    counts = count_everything(put, feature, served)
    reward_of = reward_rule(charter)
    scores = tuple(
        score_phase(plan.experiment, phase, played.asked[phase.name], played.served[phase.name], reward_of)
        for phase in plan.experiment.phases
    )
    sums = compare_scores(put, feature, score([s.answer for s in served], reward_of)) if not counts.complaints else []
    times_ms = [s.decide_ms for s in served]
    return DemoResult(
        experiment=plan.experiment,
        seed=plan.seed,
        counts=counts,
        decide_p50_ms=quantile(times_ms, 0.5),
        decide_p99_ms=quantile(times_ms, 0.99),
        phases=scores,
        last_shares={arm: last_share(served, arm, LAST) for arm in plan.experiment.arms},
        fallbacks=sum(s.fallback for s in served),
        noticed=noticed(put, feature),
        replay_seconds=played.seconds,
        answers=tuple((question, sql, put(sql)) for question, sql in questions(feature)),
        complaints=(*counts.complaints, *sums),
    )


def write_result(folder: Path, result: DemoResult) -> Path:
    """Leave the result in ``demo.json``, replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.json"
    half = path.with_suffix(".half")
    half.write_bytes(orjson.dumps(result.document(), option=orjson.OPT_INDENT_2) + b"\n")
    half.replace(path)
    return path


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tails(runtime: Runtime) -> str:
    """The ends of the logs of parts that are not ready."""
    time.sleep(0.2)  # a part that is dying has the time to say why
    wrong = [part for part in runtime.status().parts if part.state != "ready"]
    return "".join(f"\n{part.name} is {part.state} {part.detail}\n{runtime.log_tail(part.name)}" for part in wrong)
