"""Regret in simulated environments, beside MABWiser's and Vowpal Wabbit's policies.

Not among the benchmarks that run by default: it takes long, and the peers need an environment of their own, whose
interpreter ``BANDITS_PYTHON`` names (without it ours is played alone)::

    uv venv ENV
    uv pip install --python ENV/bin/python --require-hashes -r tests/bench/peers/bandits/requirements.lock

All meet the same requests with the same luck (`flywheel.testkit.bandit_worlds`), and learn in batches as policies are
published. Ours decides by the library's own code: without features a charter's default policy, built from exact
summaries; with features LinTS from exact moments, its propensities computed. Intervals are those of the mean over
seeds, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np
from harness import Result, write
from numpy.typing import NDArray

from flywheel.events import event_id
from flywheel.policy.contextual import contextual_probabilities
from flywheel.policy.decide import uniform
from flywheel.policy.features import CLIP, ONE
from flywheel.policy.linear import LinearArms, LinearPrior, Moments
from flywheel.policy.moments import MomentSummary, believe_scaled, outcome_vector, scaling, weigh_moments
from flywheel.testkit.bandit_players import Chartered
from flywheel.testkit.bandit_worlds import CHANGING, STATIONARY, WORLDS, Array, World, play, world

COMMAND = "BANDITS_PYTHON=ENV/bin/python python tests/bench/run.py regret"
PEER = Path(__file__).parent / "peers" / "bandits" / "play.py"
UNIT = (0.0, 1.0)
SEEDS = 20
FORGOTTEN = 1000.0
"""Half-life, in outcomes, of the contextual policy in the worlds that change."""


class LinTs:
    """LinTS from exact moments, with or without forgetting."""

    def __init__(self, played: World, seed: int, half_life: float | None) -> None:
        self.arms, size = played.means.shape[1], played.contexts.shape[1] + 1
        self.summary, self.seed, self.learned, self.half_life = MomentSummary(), seed, 0, half_life
        self.prior = LinearPrior(np.full(size, 1.0), np.array([0.5, *[0.0] * (size - 1)]), 0.25, 2.0)
        self.beliefs = self.published()

    def encode(self, x: Array) -> NDArray[np.int64]:
        return np.concatenate([[ONE], np.clip(np.rint(x * ONE), -CLIP, CLIP)]).astype(np.int64)

    def published(self) -> LinearArms:
        found = weigh_moments(self.summary, half_life_outcomes=self.half_life)
        nothing = Moments.none(len(self.prior.centre))
        mapped = scaling(sum(found.values(), nothing))
        return LinearArms.of(
            [believe_scaled(found.get(str(arm), nothing), self.prior, mapped) for arm in range(self.arms)]
        )

    def choose(self, round_: int, x: Array) -> int:
        mean, sd = self.beliefs.scores(self.encode(x) / ONE)
        values = contextual_probabilities("lin_ts", mean, sd).values
        return bisect_right(list(accumulate(values))[:-1], uniform(event_id("regret", self.seed, round_)))

    def learn(self, batch: list[tuple[Array, int, float]]) -> None:
        for x, arm, reward in batch:
            self.summary.add(self.learned, str(arm), outcome_vector(self.encode(x), reward, UNIT))
            self.learned += 1
        self.beliefs = self.published()


def ours(name: str, *, rounds: int, every: int, seeds: int) -> dict[str, list[float]]:
    """Return our regrets by policy, one a seed."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        played = world(name, seed, rounds)
        if played.contextual:
            half_life = FORGOTTEN if name in CHANGING else None
            made: dict[str, Chartered | LinTs] = {"flywheel lin_ts": LinTs(played, seed, half_life)}
        else:
            made = {"flywheel default": Chartered(played.means.shape[1], seed)}
        for policy, learner in made.items():
            found.setdefault(policy, []).append(play(played, learner, every))
        print(f"  {name} seed {seed + 1}/{seeds}", file=sys.stderr, flush=True)
    return found


def theirs(name: str, *, rounds: int, every: int, seeds: int, peer: str | None = None) -> dict[str, list[float]]:
    """Return the peers' regrets by policy, or one peer's; nothing where there is no environment for them."""
    python = os.environ.get("BANDITS_PYTHON")
    if not python:
        return {}
    asked = json.dumps({"world": name, "rounds": rounds, "every": every, "seeds": seeds, "peer": peer})
    answer = subprocess.run([python, str(PEER), asked], check=True, capture_output=True, text=True)
    found: dict[str, list[float]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """Return mean and half-width of its 95 % interval (normal)."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), 1.96 * spread / math.sqrt(len(values))


def told(name: str, found: dict[str, list[float]], size: dict[str, int]) -> Result | None:
    """Return our regret in a world beside the best peer's; None where no peer was played."""
    means = {policy: interval(regrets)[0] for policy, regrets in found.items()}
    peers = [policy for policy in means if not policy.startswith("flywheel")]
    if not peers:
        return None
    best, own = min(peers, key=means.__getitem__), next(policy for policy in means if policy not in peers)
    # The same requests and luck for both, so the ratio's interval is that of paired seeds.
    spread = interval(
        [ours - means[own] / means[best] * other for ours, other in zip(found[own], found[best], strict=True)]
    )
    all_of_them = "; ".join(f"{policy} {mean:.1f} ± {half:.1f}" for policy, (mean, half) in sorted(
        ((policy, interval(regrets)) for policy, regrets in found.items()), key=lambda item: item[1][0]
    ))  # fmt: skip
    kind = "stationary" if name in STATIONARY else "changing"
    note = f"{kind}; {size['seeds']} seeds of {size['rounds']} requests, a policy every {size['every']}; "
    note += f"ratio ± {spread[1] / means[best]:.2f} (95 %); {all_of_them}"
    usual = size["seeds"] == SEEDS
    figure = f"regret_{name}" if usual else f"regret_{name}_{size['seeds']}_seeds"
    command = (
        COMMAND if usual else f"{COMMAND.removesuffix('run.py regret')}bench_regret.py {name} --seeds {size['seeds']}"
    )
    return Result(figure, means[own], "regret", means[best], best, command, note)


def main() -> int:
    """Print regret by world and policy; as JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help=f"which (default all): {', '.join(WORLDS)}")
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=20, help="rounds between two policies")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--peer", help="play this one of theirs alone, such as 'mabwiser TS'")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.worlds) - set(WORLDS))
    if unknown:
        parser.error(f"no world named {', '.join(unknown)}; there are {', '.join(WORLDS)}")
    size = {"rounds": arguments.rounds, "every": arguments.every, "seeds": arguments.seeds}
    found: dict[str, dict[str, list[float]]] = {}
    for name in arguments.worlds or WORLDS:
        found[name] = ours(name, **size) | theirs(name, **size, peer=arguments.peer)
        if arguments.json:
            continue
        print(f"{name} ({'stationary' if name in STATIONARY else 'changing'}), {size}")
        for policy, regrets in sorted(found[name].items(), key=lambda item: statistics.fmean(item[1])):
            mean, half = interval(regrets)
            print(f"  {policy:24s} {mean:9.1f} ± {half:.1f}", flush=True)
        result = told(name, found[name], size)
        if result is not None:
            write(result)
    if arguments.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
