"""How soon an arm that regressed loses its traffic, and how seldom one does that did not.

The recorded GPT-4 change: after 600 labels the serving arm falls from .84 to .51 while its rival rises from .53 to .78;
asked is that within 150 labels it has lost nine tenths of its share in 95 % of the seeds. Without a change the arm
serves 10,000 labels on at .84 beside .53; asked is that in at most 1 % of the runs it loses its traffic at any policy.
Policies are the library's, of a charter's default kind with a floor of 2 %, built from exact sums after each so many
labels.

Not among the benchmarks that run by default: it takes minutes.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from harness import Result, percentile, write
from scipy.stats import beta

from flywheel.testkit.changing_arms import RECORDED, watch

COMMAND = "python tests/bench/run.py retreat"
WITHIN = 150
EVERY = 10
STEADY, STEADY_EVERY = 10_000, 100


def main() -> int:
    """Play both and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--steady-runs", type=int, default=400)
    arguments = parser.parse_args()
    _regressed(arguments.seeds)
    _steady(arguments.steady_runs)
    return 0


def _interval(hits: int, runs: int) -> str:
    """The 95 % interval of a share (Clopper and Pearson, 1934), in per cent."""
    low = beta.ppf(0.025, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, runs - hits) if hits < runs else 1.0
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f}"


def _progress(what: str, done: int, runs: int) -> None:
    if done % 10 == 0:
        print(f"  {what} {done}/{runs}", file=sys.stderr, flush=True)


def _regressed(seeds: int) -> None:
    before, after = RECORDED
    took: list[float] = []
    for seed in range(seeds):
        lost = watch(before, after, seed, watched=WITHIN, every=EVERY).lost_after
        took.append(np.inf if lost is None else float(lost))
        _progress("regressed", seed + 1, seeds)
    hits = sum(labels <= WITHIN for labels in took)
    note = f"{hits} of {seeds} seeds, {_interval(hits, seeds)}; a policy every {EVERY} labels; half of them within "
    note += f"{percentile(took, 0.5):.0f} labels"
    unit = f"% of seeds within {WITHIN} labels"
    write(Result("retreat_regressed", 100 * hits / seeds, unit, 95.0, "asked, %", COMMAND, note))


def _steady(runs: int) -> None:
    rates, _ = RECORDED
    left = 0
    for seed in range(runs):
        left += watch(rates, rates, seed, watched=STEADY, every=STEADY_EVERY).lost_after is not None
        _progress("steady", seed + 1, runs)
    note = f"{left} of {runs} runs, {_interval(left, runs)}; a policy every {STEADY_EVERY} labels"
    unit = f"% of runs of {STEADY} labels"
    write(Result("retreat_false", 100 * left / runs, unit, 1.0, "asked, %", COMMAND, note))


if __name__ == "__main__":
    raise SystemExit(main())
