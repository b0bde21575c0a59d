"""Tuning a parameter along seven points, 100 seeds: how often the best is found, a flat curve wandered along, a spoiled
point left; beside a fixed value, the start.

Not among the benchmarks that run by default: it takes minutes. Policies are built by the library from exact sums after
every 100 outcomes and draw by the propensities that they publish.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from harness import Result, write

from flywheel.testkit.tuning_worlds import FLAT, UNIMODAL, charter_of, play

EVERY = 100
NEAR = 0.02
COMMAND = "python tests/bench/run.py tuning"


def main() -> int:
    """Play the three worlds and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--requests", type=int, default=8000)
    arguments = parser.parse_args()
    _unimodal(arguments.seeds, arguments.requests)
    _flat(arguments.seeds, arguments.requests)
    _spoiled(arguments.seeds)
    return 0


def _share(name: str, found: list[bool], unit: str, *, baseline: float, beside: str, note: str) -> None:
    value = 100.0 * float(np.mean(found))
    write(Result(name, value, unit, baseline, beside, COMMAND, f"{note}; {len(found)} seeds"))


def _progress(world: str, seed: int, seeds: int) -> None:
    if seed % 10 == 9:
        print(f"  {world} {seed + 1}/{seeds}", file=sys.stderr, flush=True)


def _unimodal(seeds: int, requests: int) -> None:
    best, start, near, regret = max(UNIMODAL), 1, [], []
    charter = charter_of(len(UNIMODAL), start=start)
    for seed in range(seeds):
        found = play(charter, lambda at: UNIMODAL, seed=seed, requests=requests, every=EVERY)
        near.append(best - UNIMODAL[found.favourite(requests // EVERY)] <= NEAR + 1e-9)
        regret.append(found.regret)
        _progress("unimodal", seed, seeds)
    note = f"favourite within {NEAR} after {requests} outcomes"
    _share("tuning_finds_best", near, "% of seeds", baseline=90.0, beside="asked, %", note=note)
    fixed = requests * (best - UNIMODAL[start])
    note = f"reward missed in {requests} requests, mean of {seeds} seeds"
    write(Result("tuning_regret", float(np.mean(regret)), "reward", fixed, "the start for ever", COMMAND, note))


def _flat(seeds: int, requests: int) -> None:
    start, wandered = 3, []
    charter = charter_of(len(FLAT), start=start)
    for seed in range(seeds):
        tried = np.flatnonzero(play(charter, lambda at: FLAT, seed=seed, requests=requests, every=EVERY).tried)
        wandered.append(bool(tried.min() < start - 1 or tried.max() > start + 1))
        _progress("flat", seed, seeds)
    note = f"beyond the first step on either side in {requests} outcomes"
    _share("tuning_wanders", wandered, "% of seeds", baseline=5.0, beside="promised, at most %", note=note)


def _spoiled(seeds: int) -> None:
    spoiled, at, after = (*UNIMODAL[:5], 0.2, 0.2), 3000, 2000
    charter, left = charter_of(len(UNIMODAL), start=4), []
    for seed in range(seeds):
        found = play(charter, lambda n: UNIMODAL if n < at else spoiled, seed=seed, requests=at + after, every=EVERY)
        left.append(bool(found.shares[-5:, 5:].sum(axis=1).mean() < 0.15))
        _progress("spoiled", seed, seeds)
    note = f"points that fell to .2 have less than 15 % of the traffic {after} outcomes later"
    _share("tuning_returns", left, "% of seeds", baseline=90.0, beside="asked, %", note=note)


if __name__ == "__main__":
    sys.exit(main())
