"""The bandit put together: two folds, each with its topics, and the charters stage 1 looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics
from flywheel.stream import Bus, CompactedTable, Process, Stage, StepSpec, stages
from flywheel_bandit.adapters import CharterShelf, count_output
from flywheel_bandit.core import INPUTS, CharterBook, OutcomeFold, PolicyFold
from flywheel_bandit.settings import BanditSettings

NAME = "bandit"
VERSION = "0.1.0"
JOIN, LEARN = "bandit-join", "bandit-learn"
LEARN_TOPICS = ("arm-summaries", "charters")

_COMMON = ("event_id", "project", "request_id", "occurred_at", "feature")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "decision": (
        *_COMMON, "environment", "app", "team", "user_hash", "policy_version", "arm", "propensity", "fallback", "model",
        "features", "encoding",
    ),
    "llm_call": (
        *_COMMON, "shadow", "status", "cost_usd", "latency_ms", "response_model", "request_model", "decision_id",
        "output_tokens",
    ),
    "feedback": (*_COMMON, "kind", "value"),
    "evaluation": (*_COMMON, "evaluator", "score", "golden_score"),
}  # fmt: skip
"""The fields stage 1 reads; the codec passes over the others."""


def runner_specs() -> tuple[StepSpec, ...]:
    """The bandit's two steps, stage 1 without charters."""
    empty = CharterBook.of([])
    return (
        StepSpec(name=JOIN, topics=INPUTS, make_step=lambda folder: OutcomeFold(lambda: empty)),
        StepSpec(name=LEARN, topics=LEARN_TOPICS, make_step=lambda folder: PolicyFold()),
    )


async def run(settings: BanditSettings) -> None:
    """Join and learn until SIGTERM, then finish the batches in hand."""
    await stages.serve_process(NAME, VERSION, settings, partial(run_stages, settings))


async def run_stages(settings: BanditSettings, bus: Bus, metrics: Metrics, health: Health, stop: asyncio.Event) -> None:
    """Run both stages on a bus until ``stop`` is set. Stage 1 begins when every charter on the log is read."""
    shelf = CharterShelf()
    codec = Codec(load_registry())
    needed = Codec(load_registry(), only=NEEDED)
    table = CompactedTable(bus, "charters", codec, shelf.update)
    count = partial(count_output, metrics)
    await stages.run_stages(
        Process(NAME, VERSION, settings, bus, metrics, health),
        first=Stage(JOIN, INPUTS, needed, OutcomeFold(lambda: shelf.book, settings.join), count),
        second=Stage(LEARN, LEARN_TOPICS, codec, PolicyFold(), count),
        table=table,
        needs="charters",
        stop=stop,
    )
