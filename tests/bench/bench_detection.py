"""How often do the detectors alarm for nothing, and how soon for something? Beside River's ADWIN in the same run.

False alarms: the share of streams of 10,000 observations, 5 minutes apart, that alarm though nothing changes: normal,
lognormal, errors at 10 %, AR(1) with φ = 0.5, and a daily season of three standard deviations. Through the level
detector of ``flywheel detect``, which also watches the spread.

Delays: mean observations from a change to the alarm, beside the least possible, ln(A) / KL (Lorden 1971), with A the
run length to a false alarm. What came before is 20,000 observations (2,000 for the first row).

Real drift: LLMDrift's PRIME answers of March, then June (Chen, Zaharia & Zou 2023), in random orders: the median of
calls to the alarm, and the share of orders of March alone without any; here at a run length of 100,000 per metric.

Half an hour of a core at full size, which ``--workers`` divides; ``--runs 40`` for an impression.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from harness import Result, write
from river.drift import ADWIN

from flywheel.detect import ChangeDetector, LevelDetector
from flywheel.detect.edetector import RUN_LENGTH
from flywheel.testkit.recorded import data_folder, recorded_prime

COMMAND = "python tests/bench/run.py detection"
Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Drawn = Callable[[np.random.Generator, int], Values]
LENGTH = 10_000
STEP_US = 300_000_000
START_US = 1_700_000_000_000_000
ORDERS = 50
SHUFFLES = 200
RUN_LENGTH_HERE = 100_000.0
SEED = 20_261_121


def autoregressive(rng: np.random.Generator, count: int) -> Values:
    """AR(1) with φ = 0.5, from its stationary law."""
    made, level = rng.standard_normal(count), rng.standard_normal() / math.sqrt(0.75)
    for place in range(count):
        level = made[place] = 0.5 * level + made[place]
    return made


def seasonal(rng: np.random.Generator, count: int) -> Values:
    """A daily sine of three standard deviations at 288 observations a day, begun at a random hour."""
    return 3.0 * np.sin(2 * np.pi * (np.arange(count) / 288 + rng.random())) + rng.standard_normal(count)


CALM: dict[str, Drawn] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "lognormal": lambda rng, count: rng.lognormal(size=count),
    "errors at 10 %": lambda rng, count: (rng.random(count) < 0.1).astype(np.float64),
    "AR(1), φ = 0.5": autoregressive,
    "daily season": seasonal,
}


@dataclass(frozen=True, slots=True)
class Changed:
    """A change: what was drawn before and after, Kullback–Leibler divergence of the two per observation, history."""

    name: str
    before: Drawn
    after: Drawn
    divergence: float
    history: int = 20_000


def errors(share: float) -> Drawn:
    """Errors at a rate."""
    return lambda rng, count: (rng.random(count) < share).astype(np.float64)


def lognormal(mean: float, sigma: float) -> Drawn:
    """Costs whose logarithm has a mean and deviation."""
    return lambda rng, count: rng.lognormal(mean, sigma, count)


def normal(mean: float, sigma: float) -> Drawn:
    """Scores with a mean and deviation."""
    return lambda rng, count: rng.normal(mean, sigma, count)


def binary_divergence(after: float, before: float) -> float:
    """Kullback–Leibler divergence of two error rates."""
    return after * math.log(after / before) + (1 - after) * math.log((1 - after) / (1 - before))


CHANGES = (
    Changed("normal + 1 σ", normal(0, 1), normal(1, 1), 0.5, history=2_000),
    Changed("errors 1 → 3 %", errors(0.01), errors(0.03), binary_divergence(0.03, 0.01)),
    Changed("errors 5 → 10 %", errors(0.05), errors(0.1), binary_divergence(0.1, 0.05)),
    Changed("cost × 2, σ 1", lognormal(0, 1), lognormal(math.log(2), 1), math.log(2) ** 2 / 2),
    Changed("latency + 20 %, σ .8", lognormal(0, 0.8), lognormal(math.log(1.2), 0.8), (math.log(1.2) / 0.8) ** 2 / 2),
    Changed("score − 0.1, σ .3", normal(0.8, 0.3), normal(0.7, 0.3), (0.1 / 0.3) ** 2 / 2),
    Changed("score − 0.04, σ .3", normal(0.8, 0.3), normal(0.76, 0.3), (0.04 / 0.3) ** 2 / 2),
)


def false_alarms(name: str, runs: int, pool: Executor) -> tuple[float, float, float]:
    """Shares of runs with a level change, with a drift of the spread, and with an alarm of ADWIN."""
    found = counted(pool.map(partial(alarmed, name), range(runs)), runs)
    levels, spreads, peers = (sum(each[place] for each in found) / runs for place in range(3))
    return levels, spreads, peers


def alarmed(name: str, run: int) -> tuple[bool, bool, bool]:
    """Whether a stream had a level change, a drift of the spread, and an alarm of ADWIN."""
    values = CALM[name](np.random.default_rng([SEED, run]), LENGTH).tolist()
    detector, peer, kinds, theirs = LevelDetector(salt=str(run)), ADWIN(), set(), False
    for place, value in enumerate(values):
        alarm = detector.update(START_US + place * STEP_US, value)
        if alarm is not None:
            kinds.add(alarm.kind)
        peer.update(value)
        theirs = theirs or peer.drift_detected
    return "level_change" in kinds, "drift" in kinds, theirs


def delays(place: int, runs: int, pool: Executor) -> tuple[list[int], int]:
    """Observations until the alarm, of the runs without one before the change; and how many had one."""
    found = counted(pool.map(partial(delay, place), range(runs)), runs)
    return [each for each in found if each is not None], found.count(None)


def delay(place: int, run: int) -> int | None:
    """Observations from a change to its alarm; None where one came before it."""
    change, rng, detector = CHANGES[place], np.random.default_rng([SEED, 1, run]), ChangeDetector(salt=str(run))
    if any(detector.update(value) for value in change.before(rng, change.history).tolist()):
        return None
    return next(n for n, value in enumerate(endless(change.after, rng), 1) if detector.update(value))


def counted(found: Iterable[Any], runs: int) -> list[Any]:
    """All of them, saying how many there are as they come."""
    every = []
    for each in found:
        every.append(each)
        print(f"\r{len(every)} of {runs}  ", end="", file=sys.stderr, flush=True)
    return every


def endless(draw: Drawn, rng: np.random.Generator) -> Iterator[float]:
    """Draws without an end."""
    while True:
        yield from draw(rng, 1_000).tolist()


def llmdrift(orders: int, shuffles: int) -> dict[str, float]:
    """March, then June, of both models and three metrics: the medians, and the shares of quiet orders."""
    told: dict[str, float] = {}
    folder = data_folder()
    if folder is None or not (folder / "llmdrift").is_dir():
        print("LLMDrift: the shared data folder is absent")
        return told
    experiment = recorded_prime(folder)
    queries = experiment.provider.queries()
    for arm in ("gpt4", "gpt35"):
        quiet = np.ones(shuffles, dtype=bool)
        for metric in ("quality", "cost", "length"):
            march, june = (
                [measured(experiment.provider.answer(query, phase.models[arm]), metric) for query in queries]
                for phase in experiment.phases
            )
            found, early = [], 0
            for order in range(max(orders, shuffles)):
                rng = np.random.default_rng([SEED, 2, order])
                detector = ChangeDetector(run_length=RUN_LENGTH_HERE, salt=str(order))
                alarmed = any([detector.update(march[place]) is not None for place in rng.permutation(len(march))])
                if order < shuffles:
                    quiet[order] &= not alarmed
                if order < orders:
                    early += alarmed
                    later = enumerate((june[place] for place in rng.permutation(len(june))), 1)
                    found.append(next((n for n, value in later if detector.update(value)), len(june) + 1))
            told[f"{arm} {metric} median calls"] = float(np.median(found))
            print(f"LLMDrift {arm:6s} {metric:8s} median of {orders} orders {np.median(found):6.1f} calls")
        told[f"{arm} quiet in March"] = float(quiet.mean())
        print(
            f"LLMDrift {arm:6s} March alone: no alarm on any of the three in {100 * quiet.mean():.1f} % of {shuffles}"
        )
    return told


def measured(answer: object, metric: str) -> float:
    """A metric of a recorded answer."""
    names = {"quality": "correct", "cost": "cost_usd", "length": "output_tokens"}
    return float(getattr(answer, names[metric]))


def main() -> None:
    """Measure all three and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="streams of each kind without a change (default 400)")
    parser.add_argument("--delays", type=int, default=40, help="runs of each change (default 40)")
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders of LLMDrift (default 50)")
    parser.add_argument("--shuffles", type=int, default=SHUFFLES, help="orders of March alone (default 200)")
    parser.add_argument("--only", choices=("false-alarms", "delays", "llmdrift"), help="measure one part")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON at the end")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.workers) as pool:
        measure(arguments, pool)


def measure(arguments: argparse.Namespace, pool: Executor) -> None:
    """Measure what was asked for."""
    figures: dict[str, dict[str, float]] = {}
    if arguments.only in {None, "false-alarms"}:
        worst, peer = 0.0, 0.0
        print(f"streams of {LENGTH:,} that alarm, of {arguments.runs}: level change, drift; ADWIN")
        for name in CALM:
            level, spread, theirs = false_alarms(name, arguments.runs, pool)
            figures[name] = {"level_change": level, "drift": spread, "adwin": theirs}
            print(f"\r{name:22s} {100 * level:5.1f} %  {100 * spread:5.1f} %   {100 * theirs:5.1f} %", flush=True)
            worst, peer = max(worst, level), max(peer, theirs)
        note = f"{arguments.runs} runs of each of {len(CALM)} kinds; the worst kind"
        write(Result("detection_false_alarms", 100 * worst, "%", 100 * peer, "ADWIN", COMMAND, note))
    if arguments.only in {None, "delays"}:
        print(f"observations to the alarm, {arguments.delays} runs; least possible at run length {RUN_LENGTH:,.0f}")
        for place, change in enumerate(CHANGES):
            found, early = delays(place, arguments.delays, pool)
            floor, mean = math.log(RUN_LENGTH) / change.divergence, float(np.mean(found))
            figures[change.name] = {"mean": mean, "least": floor, "alarmed_before": early / arguments.delays}
            spread = f"p50 {np.median(found):7.1f}  p95 {np.percentile(found, 95):8.1f}  alarmed before {early}"
            print(
                f"\r{change.name:22s} mean {mean:8.1f}  {spread}  least {floor:8.1f}  {mean / floor:5.2f} x", flush=True
            )
            if place == 0:
                note = f"{change.name}, {len(found)} runs; mean observations to the alarm"
                write(Result("detection_delay", mean, "observations", floor, "ln(A) / KL", COMMAND, note))
    if arguments.only in {None, "llmdrift"}:
        figures["LLMDrift"] = llmdrift(arguments.orders, arguments.shuffles)
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
