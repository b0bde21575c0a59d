"""Does off-policy evaluation keep its word? On simulated logs whose truth is known (`flywheel.testkit.logged_worlds`):
of 2,000 runs of each world, how many 95 % intervals cover the target's value, and how many confidence sequences cover
it at every one of the rows; the root mean squared error; the gate's refusals. Where the shared data folder is there,
also the Open Bandit Dataset's sample: uniform logs for BTS, and the other way round (Saito et al., 2021), beside the
values that are published.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np
from harness import Result, write
from numpy.typing import NDArray

from flywheel.stats.estimators import NAMES, estimate
from flywheel.stats.gate import diagnose, refusals
from flywheel.stats.intervals import mean_interval
from flywheel.stats.logged import Log, Weighed
from flywheel.stats.reward_model import predict
from flywheel.stats.sequences import (
    asymptotic_half_width,
    bet,
    gain_bettors,
    log_wealth,
    stitched,
    value_bettors,
)  # fmt: skip
from flywheel.testkit.logged_worlds import WORLDS, Drawn, World, draw
from flywheel.testkit.open_bandit import ITEMS, PUBLISHED, open_bandit_log, thompson_policy
from flywheel.testkit.recorded import data_folder

COMMAND = "python tests/bench/run.py offpolicy"
ALPHA = 0.05
SEED = 20_261_121
CHUNK = 100
FIRST_LOOK = 200
LOOKS = 20
WIDTHS = 10
"""Runs of each world whose sequences' widths are taken: a bound is found by halving, which costs more than a check."""


@dataclass
class Tally:
    """What one world's runs gave."""

    runs: int = 0
    refused: int = 0
    covered: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    errors: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    widths: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def log_of(world: World, drawn: Drawn, run: int) -> tuple[Log, NDArray[np.float64]]:
    """One run's log and the target's probabilities on it."""
    group, arm = drawn.group[run], drawn.arm[run]
    features = np.eye(len(world.mean))[group][:, 1:] if world.told else np.zeros((world.rows, 0))
    propensity = drawn.logging[run, np.arange(world.rows), arm]
    return Log(drawn.reward[run], arm, propensity, drawn.logging[run], features), world.target[group]


def judge(world: World, drawn: Drawn, run: int, tally: Tally) -> None:
    """Evaluate one run."""
    log, target = log_of(world, drawn, run)
    weighed = Weighed(log, target)
    tally.runs += 1
    if refusals(diagnose(weighed)):
        tally.refused += 1
        return
    truth, logged = world.truth, float(drawn.logged_value[run])
    for one in estimate(weighed, predict(log, target.shape[1]), low=0.0, high=1.0):
        low, high = mean_interval(one.rows, alpha=ALPHA)
        tally.covered[one.name] += low - one.bias_low <= truth <= high + one.bias_high
        tally.errors[one.name].append(one.value - truth)
        tally.widths[one.name].append(high - low)
        low, high = mean_interval(one.rows - log.reward, alpha=ALPHA)
        tally.covered[f"{one.name} gain"] += low - one.bias_low <= truth - logged <= high + one.bias_high
    w, r, cap = weighed.weight, log.reward, weighed.largest_weight
    tally.covered["always bet"] += never_refuted(value_bettors, r, w, cap, (truth, 1 - truth))
    tally.covered["always bet gain"] += never_refuted(gain_bettors, r, w, cap, (truth - logged, logged - truth))
    for name in ("ips", "snips"):
        tally.covered[f"always {name}"] += asymptotic_covers(name, r, w, truth)
    if tally.runs <= WIDTHS:
        for name, (low, high) in (("bet", bet(r, w, cap, alpha=ALPHA)), ("stitched", stitched(r, w, alpha=ALPHA))):
            tally.widths[f"always {name}"].append(high - low)
        tally.widths["always snips"].append(2 * snips_half_width(r, w, len(r)))


def never_refuted(
    bettors: Callable[..., object], reward: NDArray[np.float64], w: object, cap: object, truths: tuple[float, float]
) -> bool:
    """Whether neither gambler got rich on the truth at any row."""
    rich = np.log(2 / ALPHA)
    sides = ((reward, truths[0]), (1.0 - reward, truths[1]))
    return all(float(log_wealth(bettors(r, w, cap), truth).max()) < rich for r, truth in sides)  # type: ignore[arg-type]


def snips_half_width(r: NDArray[np.float64], w: NDArray[np.float64], rows: int) -> float:
    """Half width of the asymptotic sequence of SNIPS after so many rows."""
    value = float((w[:rows] * r[:rows]).sum() / w[:rows].sum())
    sd = float((w[:rows] * (r[:rows] - value)).std(ddof=1) / w[:rows].mean())
    return float(asymptotic_half_width(sd, rows, alpha=ALPHA))


def asymptotic_covers(name: str, r: NDArray[np.float64], w: NDArray[np.float64], truth: float) -> bool:
    """Whether the asymptotic sequence covers at each of a number of looks, from the 200th row on."""
    for rows in np.unique(np.geomspace(FIRST_LOOK, len(r), LOOKS).astype(int)):
        if name == "snips":
            value, away = float((w[:rows] * r[:rows]).sum() / w[:rows].sum()), snips_half_width(r, w, rows)
        else:
            y = w[:rows] * r[:rows]
            value, away = float(y.mean()), float(asymptotic_half_width(float(y.std(ddof=1)), rows, alpha=ALPHA))
        if abs(value - truth) > away:
            return False
    return True


def tallied(world: World, runs: int) -> Tally:
    """Evaluate as many runs; says how far it is."""
    rng = np.random.default_rng([SEED, WORLDS.index(world)])
    tally, began = Tally(), process_time()
    while tally.runs < runs:
        some = min(CHUNK, runs - tally.runs)
        drawn = draw(world, some, rng)
        for run in range(some):
            judge(world, drawn, run, tally)
        print(f"\r{world.name}: {tally.runs} of {runs} runs, {process_time() - began:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    return tally


def row(tally: Tally, name: str) -> dict[str, float]:
    """One estimator's line."""
    judged = tally.runs - tally.refused
    gain = tally.covered.get(f"{name} gain")
    found = {"covered": 100.0 * tally.covered[name] / judged} if name in tally.covered else {}
    found |= {"gain_covered": 100.0 * gain / judged} if gain is not None else {}
    found |= {"rmse": float(np.sqrt(np.mean(np.square(tally.errors[name]))))} if name in tally.errors else {}
    return found | ({"width": float(np.mean(tally.widths[name]))} if name in tally.widths else {})


ALWAYS = ("always bet", "always snips", "always ips", "always stitched")


def main() -> None:
    """Print the table of every world, and write what `report` and `published` say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="runs of each world (default 2000)")
    parser.add_argument("--world", action="append", help="only this world; may be given several times")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for world in WORLDS:
        if arguments.world and world.name not in arguments.world:
            continue
        tally = tallied(world, arguments.runs)
        found[world.name] = {name: row(tally, name) for name in (*NAMES, *ALWAYS)}
        found[world.name]["gate"] = {"refused": 100.0 * tally.refused / tally.runs}
        if not arguments.json:
            show(world, found[world.name])
    if arguments.json:
        print(json.dumps(found, indent=2))
    if arguments.runs >= 2000 and not arguments.world:
        report(found)
        data = data_folder()
        if data is not None:
            published(data)


def show(world: World, found: dict[str, dict[str, float]]) -> None:
    """A world's table."""
    print(f"\n{world.name}: {world.rows} rows, truth {world.truth:.4f}, refused {found['gate']['refused']:.1f} %")
    print(f"{'':16s} {'covers %':>9s} {'gain %':>8s} {'rmse':>8s} {'width':>8s}")
    for name in (*NAMES, *ALWAYS):
        figures = (found[name].get(key) for key in ("covered", "gain_covered", "rmse", "width"))
        cells = [f"{'' if value is None else format(value, '.4f' if n > 1 else '.2f'):>8s}" for n, value in
                 enumerate(figures)]  # fmt: skip
        print(f"{name:16s} {' '.join(cells)}", flush=True)


UNBIASED = ("ips", "snips", "dr", "sndr")


def report(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Of each world the estimator and question (value or gain) whose intervals cover farthest from 95 %, and over all
    worlds the least of each and of the betting sequence."""
    said: list[tuple[float, str, str]] = []
    for world, rows in found.items():
        for name in UNBIASED:
            said += [
                (rows[name]["covered"], world, f"{name} value"),
                (rows[name]["gain_covered"], world, f"{name} gain"),
            ]
    for world in found:
        here = sorted(each for each in said if each[1] == world)
        farthest = max(here, key=lambda each: abs(each[0] - 95.0))
        note = f"{farthest[2]}; all of IPS, SNIPS, DR, SNDR, value and gain: {here[0][0]:.2f} to {here[-1][0]:.2f} %; "
        note += f"clipped {found[world]['clipped']['covered']:.2f}, switch {found[world]['switch']['covered']:.2f} %; "
        note += f"refused {found[world]['gate']['refused']:.1f} % of the runs; standard error 0.5"
        write(Result(f"offpolicy_coverage_{world}", farthest[0], "%", 95.0, "promised", COMMAND, note))
    note = f"{len(found)} worlds, IPS, SNIPS, DR, SNDR, value and gain: {min(said)[0]:.2f} to {max(said)[0]:.2f} %; "
    note += f"least: {min(said)[2]} of {min(said)[1]}"
    write(Result("offpolicy_least_coverage", min(said)[0], "%", 95.0, "promised", COMMAND, note))
    always = [world["always bet"]["covered"] for world in found.values()]
    note = f"{len(found)} worlds, every row at once: {min(always):.2f} to {max(always):.2f} %"
    write(Result("offpolicy_least_uniform_coverage", min(always), "%", 95.0, "promised, at least", COMMAND, note))


def published(data: Path) -> None:
    """The Open Bandit Dataset's sample, either way round."""
    thompson = thompson_policy()
    for policy in ("random", "bts"):
        shown = open_bandit_log(data, policy)
        rows = len(shown.item)
        target = thompson[:, shown.position].T if policy == "random" else np.full((rows, ITEMS), 1 / ITEMS)
        log = Log(shown.click, shown.item, shown.propensity, None, np.zeros((rows, 0)))
        for one in estimate(Weighed(log, target), np.zeros((rows, ITEMS)), low=0.0, high=1.0, names=("ips", "snips")):
            stands_for = "Thompson sampling" if policy == "random" else "uniform"
            note = f"{rows} rows of {policy}, the value of {stands_for}: {one.value:.6f}"
            ours, known = one.value * 1e6, PUBLISHED[policy, one.name] * 1e6
            write(Result(f"offpolicy_obd_{policy}_{one.name}", ours, "per million", known, "published", COMMAND, note))


if __name__ == "__main__":
    main()
