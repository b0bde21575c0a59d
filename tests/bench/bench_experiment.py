"""Best of experiment: how often a wrong arm is declared, and after how many outcomes the right one is.

A policy is built by the library after every 20 outcomes and serves by the propensities that it publishes. Beside it, on
outcomes in equal shares: a z-test of a sample fixed beforehand for a power of 90 %, and one that is looked at as often
as the experiment. Not among the benchmarks that run by default: it takes ten minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
from harness import Result, write
from scipy import stats

from flywheel.testkit.experiment_worlds import Decided, charter_of, play

ERROR = 0.05
POWER = 0.9
EVERY = 20
COMMAND = "python tests/bench/run.py experiment"
CLOSE, THREE = (0.95, 0.90), (0.98, 0.93, 0.93, 0.93)
ALIKE = (0.95, 0.95)


def main() -> int:
    """Play the worlds and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    for name, rates in (("close", CLOSE), ("three_rivals", THREE)):
        _better(name, rates, arguments.runs)
    _alike(arguments.runs, most=2000)
    return 0


def _played(rates: Sequence[float], runs: int, most: int) -> list[Decided]:
    charter, found = charter_of(len(rates), error=ERROR), []
    for seed in range(runs):
        found.append(play(charter, lambda at: rates, seed=seed, most=most, every=EVERY))
        if seed % 100 == 99:
            print(f"  {rates} {seed + 1}/{runs}", file=sys.stderr, flush=True)
    return found


def _better(name: str, rates: Sequence[float], runs: int) -> None:
    found = _played(rates, runs, most=20_000)
    wrong = sum(one.winner not in (0, None) for one in found)
    shown = ", ".join(f"{rate:.2f}" for rate in rates)
    _wrong(f"experiment_wrong_{name}", f"rates {shown}", wrong, runs, looked_at(rates, runs, most=4000))
    after = np.array([one.after for one in found if one.winner == 0], dtype=np.float64)
    low, high = np.quantile(after, [0.1, 0.9])
    undecided = sum(one.winner is None for one in found)
    note = f"rates {shown}; mean of {len(after)} runs, {low:.0f} to {high:.0f} in 80 % of them; {undecided} undecided"
    write(
        Result(
            f"experiment_outcomes_{name}", float(after.mean()), "outcomes", fixed_sample(rates),
            f"fixed z-test, power {POWER:.0%}", COMMAND, note,
        )
    )  # fmt: skip


def _alike(runs: int, most: int) -> None:
    wrong = sum(one.winner is not None for one in _played(ALIKE, runs, most))
    _wrong(
        "experiment_wrong_alike", f"two arms at {ALIKE[0]}, {most} outcomes", wrong, runs, looked_at(ALIKE, runs, most)
    )


def _wrong(name: str, world: str, wrong: int, runs: int, peeked: float) -> None:
    note = (
        f"{world}, a look every {EVERY}: {wrong} of {runs} runs, 95 % below {_upper(wrong, runs)} %; "
        f"a z-test looked at as often: {peeked:.1%}"
    )
    write(Result(name, 100 * wrong / runs, "% of runs", 100 * ERROR, "promised, at most %", COMMAND, note))


def _upper(wrong: int, runs: int) -> str:
    """Return the one-sided 95 % bound of a share, in percent (Clopper and Pearson, 1934)."""
    return f"{100 * float(stats.beta.ppf(0.95, wrong + 1, runs - wrong)):.2g}"


def fixed_sample(rates: Sequence[float]) -> float:
    """Return the outcomes of all arms that z-tests of the best against each rival need, planned for these very rates,
    with ``ERROR`` shared by the rivals and ``POWER`` for each."""
    best, rivals = rates[0], rates[1:]
    ahead = max(best - rival for rival in rivals)
    variance = best * (1 - best) + max(rival * (1 - rival) for rival in rivals)
    z = stats.norm.ppf(1 - ERROR / 2 / len(rivals)) + stats.norm.ppf(POWER)
    return float(len(rates) * math.ceil(z * z * variance / ahead**2))


def looked_at(rates: Sequence[float], runs: int, most: int) -> float:
    """Return how often z-tests in equal shares, after every ``EVERY`` outcomes, declare a wrong arm first; where all
    are alike, any. An arm is declared where it beats every other at ``ERROR`` shared by the rivals."""
    random = np.random.default_rng(9)
    arms, looks = len(rates), most // EVERY
    each = EVERY // arms
    needed = stats.norm.ppf(1 - ERROR / 2 / (arms - 1))
    wins = random.binomial(each, np.array(rates)[:, None], (runs, arms, looks)).cumsum(axis=2)
    n = each * np.arange(1, looks + 1)
    mean = wins / n
    variance = mean * (1 - mean) / n
    declared = np.zeros((runs, arms, looks), dtype=bool)
    for arm in range(arms):
        others = [other for other in range(arms) if other != arm]
        spread = np.sqrt(np.maximum(variance[:, arm, None] + variance[:, others], 1e-300))
        declared[:, arm] = ((mean[:, arm, None] - mean[:, others]) / spread > needed).all(axis=1)
    first = np.where(declared.any(axis=2), declared.argmax(axis=2), looks)
    any_at_all = first.min(axis=1) < looks
    best = np.array(rates) == max(rates)
    right = any_at_all & best[first.argmin(axis=1)] if best.sum() == 1 else np.zeros(runs, dtype=bool)
    return float((any_at_all & ~right).mean())


if __name__ == "__main__":
    sys.exit(main())
