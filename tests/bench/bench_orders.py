"""Regret of every kind of policy held against what theory says of it, and how it grows with the rounds.

Each kind a charter can have plays by the library's own code in the worlds of `flywheel.testkit.bandit_worlds` of which
its theory speaks, a policy every 100 rounds; bounds are those of `flywheel.testkit.regret_theory`. The exponent is the
slope of log regret over log rounds, from an eighth of the rounds to all (0 is constant, ½ is √T, 1 is linear); where
the world changes, of whole plays of a quarter, half and all of the rounds, as changes come at shares of a play.
Intervals are 95 %: of means over seeds, of exponents and ratios by the jackknife over seeds (Efron, 1981).

Not among the benchmarks that run by default: it takes half an hour.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from harness import Result, write

from flywheel.policy.experiment import KINDS_BY_SHARES
from flywheel.testkit.bandit_players import Chartered
from flywheel.testkit.bandit_worlds import DELAY, UNTOLD, Array, regret_curve, world
from flywheel.testkit.regret_theory import gaps, lai_robbins, ucb1_bound, ucb_v_bound

COMMAND = "python tests/bench/run.py orders"
EVERY = 100
EPSILON = 0.1
AROUND = 1.5
"""1 + ε of Thompson sampling's theory, whose constant is not published."""
MARKS = (8, 4, 2, 1)
"""Regret is read at the rounds over each of these."""
ROOT = math.sqrt(2) - 1
"""What √T adds of itself when rounds double."""
CHANGING = ("abrupt", "gradual")
GRADUAL = 2 / 3
"""Exponent of V^⅓T^⅔, for a variation V of the means (Besbes, Gur and Zeevi, 2014). Where changes are abrupt, restarts
should lose in each phase what a world of its own would cost (Besson, Kaufmann, Maillard and Seznec, 2022)."""
PLAYS: Mapping[str, tuple[str, ...]] = {
    "thompson_beta": ("rates", "close", "fifty_arms", "late", "missing", "abrupt", "gradual"),
    "thompson_gaussian": ("rates", "close", "late", "missing", "abrupt"),
    "ucb1": ("rates", "late", "missing", "abrupt", "gradual"),
    "ucb_v": ("rates", "late", "missing", "abrupt"),
    "epsilon_greedy": ("rates",),
    "static": ("rates",),
    "experiment": ("rates",),
    "linear_thompson": ("linear", "linear_late"),
    "linear_ucb": ("linear", "linear_late"),
    "squarecb": ("linear", "linear_late"),
}
LINEAR_KINDS = ("linear_thompson", "linear_ucb", "squarecb")
REPEATING = ("ucb1", "ucb_v", "linear_ucb")
PROMPT = {"late": "rates", "missing": "rates", "linear_late": "linear"}
"""The same world with every reward told at once."""


@dataclass(frozen=True)
class Figure:
    """A figure with the half-width of its 95 % interval."""

    value: float
    half: float

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 20 else 2
        return f"{self.value:.{digits}f} ± {self.half:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """A kind in a world: its regret, the exponent it grows by, what it is held to and whether it is ``within``."""

    kind: str
    world: str
    regret: Figure
    exponent: Figure
    told: str
    within: bool
    baseline: float
    baseline_name: str


@dataclass(frozen=True)
class Played:
    """Regret of a kind in a world, one row a seed. ``at`` (M,): rounds; ``regrets`` (S, M): until then; ``means``
    (S, P, K): of the arms in each phase between changes; ``uniform`` (S,): regret of playing all arms alike."""

    at: tuple[int, ...]
    regrets: Array
    means: Array
    uniform: Array

    @property
    def last(self) -> Array:
        return np.asarray(self.regrets[:, -1])

    def bounds(self, bound: Callable[..., float], *, stale: int = EVERY, told: float = 1.0) -> Array:
        """Return a bound's mean over seeds at each of the rounds."""
        return np.array([np.mean([bound(means, at, stale=stale, told=told) for means in self.means]) for at in self.at])


def jackknifed(figure: Callable[[Array], float], rows: Array) -> Figure:
    """Return a figure of ``rows`` (S, …) with its interval: each row left out once."""
    size = len(rows)
    left_out = np.array([figure(np.delete(rows, row, axis=0)) for row in range(size)])
    return Figure(figure(rows), 1.96 * math.sqrt((size - 1) * float(left_out.var())))


def mean(values: Array) -> Figure:
    """Return the mean of ``values`` (S,)."""
    return jackknifed(lambda rows: float(rows.mean()), values)


def exponent(at: Iterable[int], regrets: Array) -> Figure:
    """Return the slope of the logarithm of mean regret over that of the rounds."""
    logs = np.log(list(at))
    return jackknifed(lambda rows: float(np.polyfit(logs, np.log(rows.mean(axis=0)), 1)[0]), regrets)


def player(kind: str, name: str, seed: int, rounds: int) -> tuple[Array, Array, float]:
    """Return the regret after each round of a play, the arms' means by phase and the regret of playing all alike."""
    played = world(name, seed, rounds)
    policy = f"kind: {kind}" + (f", epsilon: {EPSILON}" if kind == "epsilon_greedy" else "")
    learner = Chartered(played.means.shape[1], seed, policy=policy, features=played.contexts.shape[1])
    curve = regret_curve(played, learner, EVERY)
    starts = [0, rounds // 3, 2 * rounds // 3] if name == "abrupt" else [0]
    return curve, played.means[starts], float((played.means.max(axis=1) - played.means.mean(axis=1)).sum())


def play(kind: str, name: str, *, rounds: int, seeds: int) -> Played:
    """Return a kind's regret in a world at an eighth, a quarter, half and all of the rounds."""
    at = tuple(rounds // mark for mark in MARKS)
    found = []
    for seed in range(seeds):
        if name in CHANGING:
            plays = [player(kind, name, seed, horizon) for horizon in at[1:]]
            found.append((np.array([float(curve[-1]) for curve, _, _ in plays]), *plays[-1][1:]))
        else:
            curve, means, uniform = player(kind, name, seed, rounds)
            found.append((curve[np.array(at) - 1], means, uniform))
    print(f"  {kind} in {name}: {seeds} seeds", file=sys.stderr, flush=True)
    regrets, all_means, uniforms = (np.array(each) for each in zip(*found, strict=True))
    return Played(at[1:] if name in CHANGING else at, regrets, all_means, uniforms)


def judged(kind: str, name: str, played: Played, prompt: Played | None) -> Row:
    """Return a kind's row: what theory says of it in this world, and whether it holds. ``prompt``: its play where
    every reward is told at once."""
    uniform = (float(played.uniform.mean()), "all arms alike")
    checks: list[tuple[str, bool]] = []
    if name == "gradual":
        checks.append(_grows(played, GRADUAL))
    elif kind in KINDS_BY_SHARES:
        share = np.arange(1, played.means.shape[2] + 1)
        means = played.means[:, 0]
        due = played.at[-1] * ((means.max(axis=1, keepdims=True) - means) @ (share / share.sum()))
        if kind == "static":
            checks.append(_is("exactly T Σ p Δ", played.last, due, room=0.01))
        else:
            # Arms that are out lose nothing more (Even-Dar, Mannor and Mansour, 2006).
            ended = mean((played.regrets[:, -1] - played.regrets[:, -2]) / due * 2)
            checks.append((f"last half {ended} × T/2 Σ p Δ (≤ 1)", ended.value + ended.half <= 1.0))
        uniform = (float(due.mean()), "T Σ p Δ")
    elif kind == "epsilon_greedy":
        late = played.regrets[:, -1] - played.regrets[:, -2]
        due = EPSILON * played.uniform / 2
        checks.append(_is("rate ε · mean Δ, last half", late, due, room=0.1))
        uniform = (EPSILON * uniform[0], "ε T mean Δ")
    elif kind in LINEAR_KINDS:
        checks.append(_grows(played, 0.5))
    else:
        told = 1 - UNTOLD if name == "missing" else 1.0
        stale = EVERY + (DELAY if name == "late" else 0)
        bound, factor, what = _bound(kind)
        due = factor * played.bounds(bound, stale=stale, told=told)
        ends = [mean(played.regrets[:, place]) for place in range(len(played.at))]
        below = all(end.value + end.half <= limit for end, limit in zip(ends, due, strict=True))
        checks.append((f"≤ {due[-1]:.0f} ({what}) at every mark", below))
        uniform = (float(due[-1]), what)
        if kind.startswith("thompson"):
            checks.append(_grows(played, 0.5))
    if prompt is not None:
        checks.append(_untold(played, prompt) if name == "missing" else _additive(kind, played, prompt))
    return Row(
        kind=kind,
        world=name,
        regret=mean(played.last),
        exponent=exponent(played.at, played.regrets),
        told="; ".join(text for text, _ in checks),
        within=all(holds for _, holds in checks),
        baseline=uniform[0],
        baseline_name=uniform[1],
    )


def _bound(kind: str) -> tuple[Callable[..., float], float, str]:
    """Return the bound of a kind without features, what it is taken times, and its name."""
    if kind == "ucb1":
        return ucb1_bound, 1.0, "Auer et al., 2002"
    if kind == "ucb_v":
        return ucb_v_bound, 1.0, "Audibert et al., 2009"
    return lai_robbins, AROUND, f"{AROUND:g} × Lai and Robbins, 1985"


def _grows(played: Played, most: float) -> tuple[str, bool]:
    found = exponent(played.at, played.regrets)
    return f"exponent ≤ {most:.2f}", found.value - found.half <= most


def _is(what: str, values: Array, due: Array, *, room: float) -> tuple[str, bool]:
    ratio = jackknifed(lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()), np.column_stack([values, due]))
    return f"{ratio} × {what}", ratio.value - ratio.half <= 1 + room and ratio.value + ratio.half >= 1 - room


def _untold(played: Played, prompt: Played) -> tuple[str, bool]:
    most = 1 / (1 - UNTOLD)
    both = np.column_stack([played.last, prompt.last])
    ratio = jackknifed(lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()), both)
    return f"{ratio} × as with all told (≤ {most:.2f})", ratio.value - ratio.half <= most


def _additive(kind: str, played: Played, prompt: Played) -> tuple[str, bool]:
    """What the delay adds is at most every worse arm's gap for as long. Of kinds that draw it comes at once; the others
    repeat one arm until rewards come, so they pay it arm by arm, later too."""
    added = played.regrets - prompt.regrets
    if kind in LINEAR_KINDS:
        most = DELAY * float(played.uniform.mean()) / played.at[-1] * played.means.shape[2]
    else:
        most = float(np.mean([DELAY * gaps(means).sum() for means in played.means[:, 0]]))
    adds = mean(added[:, -1])
    grows = jackknifed(lambda rows: float((rows[:, -1] - rows[:, -2]).sum() / rows[:, -2].sum()), added)
    text = f"delay adds {adds} (≤ {most:.0f})"
    if kind in REPEATING:
        return text, adds.value + adds.half <= most
    return f"{text}, of it {grows} more in the last half", (
        adds.value + adds.half <= most and grows.value + grows.half < ROOT
    )


def main() -> int:
    """Play every kind, print the table and write a result for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"which (default all): {', '.join(PLAYS)}")
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.kinds) - set(PLAYS))
    if unknown:
        parser.error(f"no kind named {', '.join(unknown)}; there are {', '.join(PLAYS)}")
    for kind in arguments.kinds or PLAYS:
        found = {name: play(kind, name, rounds=arguments.rounds, seeds=arguments.seeds) for name in PLAYS[kind]}
        rows = [judged(kind, name, played, found.get(PROMPT.get(name, ""))) for name, played in found.items()]
        lines = [
            f"{row.world}: {row.regret}, exponent {row.exponent}; {row.told}: {'' if row.within else 'NOT '}within"
            for row in rows
        ]
        print("\n".join(f"{kind:18s} {line}" for line in lines), flush=True)
        head = f"{arguments.seeds} seeds of {arguments.rounds} requests, a policy every {EVERY}; "
        first, note = rows[0], head + " | ".join(lines)
        write(
            Result(f"orders_{kind}", first.regret.value, f"regret in {first.world}", first.baseline,
                   first.baseline_name, COMMAND, note)
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
