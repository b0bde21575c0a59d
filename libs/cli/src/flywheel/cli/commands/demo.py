"""``flywheel demo``."""

from __future__ import annotations

from typing import cast

import click

from flywheel.cli.commands.running import local_failure
from flywheel.cli.demo.playing import Pace
from flywheel.cli.demo.showing import Display, show_result
from flywheel.cli.demo.staging import DemoFailed, DemoPlan, load_charter, reward_rule, run_demo, write_result
from flywheel.cli.output import Failure, console, fail, print_json, quiet_console
from flywheel.local.errors import LocalError
from flywheel.local.runtime import home
from flywheel.testkit import DataInvalid, Source, data_folder, load_experiment


@click.command()
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Orders the queries; the same seed, the same order."
)
@click.option(
    "--source",
    type=click.Choice(["llmdrift", "routellm"]),
    default="llmdrift",
    envvar="FLYWHEEL_DEMO",
    show_default=True,
    show_envvar=True,
    help="Which recording to play.",
)
@click.option("--per-phase", type=click.IntRange(min=10), help="Play only so many queries of each phase.")
@click.option(
    "--rate", type=click.FloatRange(min=1), default=Pace().per_s, show_default=True, help="Requests a second."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON instead of tables; progress goes to stderr."
)
def demo(seed: int, source: str, per_phase: int | None, rate: float, as_json: bool) -> None:
    """Play recorded traffic through the whole system: it routes, learns, and meets a real change of the models.

    Starts Kafka, ClickHouse and the services of its own on free ports, and stops them at the end. The recording is read
    from ../shared/data (or FLYWHEEL_DATA); without it the published figures are simulated. Leaves .flywheel/demo.json.
    """
    out = quiet_console() if as_json else console()
    try:
        experiment = load_experiment(cast(Source, source), data_folder(), seed=seed)
    except (FileNotFoundError, DataInvalid) as error:
        fail(str(error))
    plan = DemoPlan(experiment, home(), seed, per_phase, Pace(per_s=rate))
    charter, _ = load_charter(experiment)
    try:
        with Display(out, experiment, reward_rule(charter)) as display:
            display.opening()
            result = run_demo(plan, step=display.step, on_change=display.show)
    except LocalError as error:
        raise local_failure(error) from error
    except DemoFailed as error:
        raise Failure(str(error)) from error
    except KeyboardInterrupt:
        raise Failure("stopped; nothing was left running") from None
    path = write_result(plan.folder, result)
    if as_json:
        print_json(result.document())
    else:
        show_result(out, result)
        out.print(f"\nThe same is in {path}", soft_wrap=True)
    if result.complaints:
        fail("what went in is not what came out: " + "; ".join(result.complaints))
