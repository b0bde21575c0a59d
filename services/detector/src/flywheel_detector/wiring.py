"""The detector put together: two folds, and the time told on the ledger between them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics
from flywheel.stream import Bus, Process, Stage, StepSpec, Ticker, stages
from flywheel_detector.adapters import count_output
from flywheel_detector.core import INPUTS, LEDGER, DetectFold, IntakeFold, tick_entry
from flywheel_detector.settings import DetectorSettings

NAME = "detector"
VERSION = "0.1.0"
INTAKE, DETECT = "detector-intake", "detector-detect"

_COMMON = ("event_id", "project", "request_id", "occurred_at", "feature")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "llm_call": (
        *_COMMON, "provider", "request_model", "response_model", "prompt_name", "prompt_version", "price_version",
        "input_tokens", "output_tokens", "cache_read_tokens", "cost_usd", "latency_ms", "ttft_ms", "status",
        "finish_reason", "decision_id", "policy_version", "variant", "shadow",
    ),
    "decision": (*_COMMON, "policy_version", "arm", "arms", "context"),
    "evaluation": (*_COMMON, "call_id", "evaluator", "evaluator_version", "score", "passed", "golden_score"),
    "feedback": (*_COMMON, "kind", "value"),
}  # fmt: skip
"""The fields of facts stage 1 reads; the codec passes over the others."""


def runner_specs() -> tuple[StepSpec, ...]:
    """The two steps."""
    return (
        StepSpec(name=INTAKE, topics=INPUTS, make_step=lambda folder: IntakeFold()),
        StepSpec(name=DETECT, topics=(LEDGER,), make_step=lambda folder: DetectFold()),
    )


async def run(settings: DetectorSettings) -> None:
    """Watch until SIGTERM, then finish the batches in hand."""
    await stages.serve_process(NAME, VERSION, settings, partial(run_stages, settings))


async def run_stages(
    settings: DetectorSettings, bus: Bus, metrics: Metrics, health: Health, stop: asyncio.Event
) -> None:
    """Run both stages on a bus until ``stop`` is set."""
    codec = Codec(load_registry())
    needed = Codec(load_registry(), only=NEEDED)
    count = partial(count_output, metrics)
    process = Process(NAME, VERSION, settings, bus, metrics, health)
    intake = stages.runner_of(process, Stage(INTAKE, INPUTS, needed, IntakeFold(settings.intake), count))
    detect = stages.runner_of(process, Stage(DETECT, (LEDGER,), codec, DetectFold(settings.detect), count))
    ticker = Ticker(
        bus, codec, metrics, ledger=LEDGER, inputs=INPUTS, entry=tick_entry, tick_s=settings.tick_s, source=NAME
    )
    for part in (INTAKE, DETECT):
        health.set_ready(part, False, "starting")
    async with asyncio.TaskGroup() as group:
        for runner in (detect, intake):
            group.create_task(runner.run())
        group.create_task(ticker.run(stop))
        await stop.wait()
        await intake.stop()
        await detect.stop()
