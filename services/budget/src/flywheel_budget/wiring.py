"""The budget service put together: two folds, each with its topics, and the budgets stage 1 looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from flywheel.budget import Matcher
from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics
from flywheel.stream import Bus, CompactedTable, Process, Stage, StepSpec, Ticker, stages
from flywheel_budget.adapters import BudgetShelf, count_output
from flywheel_budget.core import INPUTS, LEDGER, GuardFold, SpendFold, tick_entry
from flywheel_budget.settings import BudgetSettings

NAME = "budget"
VERSION = "0.1.0"
SPEND, GUARD = "budget-spend", "budget-guard"

_COMMON = ("event_id", "project", "request_id", "occurred_at")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "decision": (*_COMMON, "reservations"),
    "llm_call": (
        *_COMMON, "environment", "app", "feature", "team", "user_hash", "prompt_name", "prompt_version", "provider",
        "request_model", "input_tokens", "output_tokens", "cost_usd", "status", "decision_id", "shadow", "escalation",
    ),
}  # fmt: skip
"""The fields of facts stage 1 reads; the codec passes over the others."""


def runner_specs() -> tuple[StepSpec, ...]:
    """The two steps, stage 1 without budgets."""
    empty = Matcher([])
    return (
        StepSpec(name=SPEND, topics=INPUTS, make_step=lambda folder: SpendFold(lambda: empty)),
        StepSpec(name=GUARD, topics=(LEDGER,), make_step=lambda folder: GuardFold()),
    )


async def run(settings: BudgetSettings) -> None:
    """Count and grant until SIGTERM, then finish the batches in hand."""
    await stages.serve_process(NAME, VERSION, settings, partial(run_stages, settings))


async def run_stages(settings: BudgetSettings, bus: Bus, metrics: Metrics, health: Health, stop: asyncio.Event) -> None:
    """Run both stages on a bus until ``stop`` is set. Stage 1 begins when every budget on the log is read."""
    shelf = BudgetShelf()
    codec = Codec(load_registry())
    needed = Codec(load_registry(), only=NEEDED)
    table = CompactedTable(bus, "budgets", codec, shelf.update)
    count = partial(count_output, metrics)
    ticker = Ticker(
        bus, codec, metrics, ledger=LEDGER, inputs=INPUTS, entry=tick_entry, tick_s=settings.tick_s, source=NAME
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(ticker.run(stop))
        await stages.run_stages(
            Process(NAME, VERSION, settings, bus, metrics, health),
            first=Stage(SPEND, INPUTS, needed, SpendFold(lambda: shelf.matcher, settings.spend), count),
            second=Stage(GUARD, (LEDGER,), codec, GuardFold(settings.guard), count),
            table=table,
            needs="budgets",
            stop=stop,
        )
