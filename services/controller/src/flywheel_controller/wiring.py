"""The controller put together: two folds, and the time told to the second."""

from __future__ import annotations

import asyncio
from functools import partial

from flywheel.control.shipped import default_rules
from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics
from flywheel.pricing import bundled_prices
from flywheel.stream import Bus, Process, Stage, StepSpec, Ticker, stages
from flywheel_controller.adapters import Prices, count_output, tick
from flywheel_controller.core import INPUTS, LEDGER, ActFold, IntakeFold
from flywheel_controller.settings import ControllerSettings

NAME = "controller"
VERSION = "0.1.0"
INTAKE, ACT = "controller-intake", "controller-act"


def runner_specs() -> tuple[StepSpec, ...]:
    """The two steps, stage 1 without prices."""
    return (
        StepSpec(name=INTAKE, topics=INPUTS, make_step=lambda folder: IntakeFold()),
        StepSpec(name=ACT, topics=(LEDGER,), make_step=lambda folder: ActFold(default_rules())),
    )


async def run(settings: ControllerSettings) -> None:
    """Act until SIGTERM, then finish the batches in hand."""
    await stages.serve_process(NAME, VERSION, settings, partial(run_stages, settings))


async def run_stages(
    settings: ControllerSettings, bus: Bus, metrics: Metrics, health: Health, stop: asyncio.Event
) -> None:
    """Run both stages on a bus until ``stop`` is set."""
    codec = Codec(load_registry())
    count = partial(count_output, metrics)
    process = Process(NAME, VERSION, settings, bus, metrics, health)
    prices = Prices(await asyncio.to_thread(bundled_prices))
    intake = stages.runner_of(process, Stage(INTAKE, INPUTS, codec, IntakeFold(prices), count))
    act = stages.runner_of(process, Stage(ACT, (LEDGER,), codec, ActFold(default_rules()), count))
    ticker = Ticker(bus, codec, metrics, ledger=LEDGER, inputs=INPUTS, entry=tick, tick_s=settings.tick_s, source=NAME)
    for part in (INTAKE, ACT):
        health.set_ready(part, False, "starting")
    async with asyncio.TaskGroup() as group:
        for runner in (act, intake):
            group.create_task(runner.run())
        group.create_task(ticker.run(stop))
        await stop.wait()
        await intake.stop()
        await act.stop()
