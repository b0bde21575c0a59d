"""How often are bounds, silences, traffic and the mix of requests misjudged? Beside the usual rule of thumb.

Bounds: streams of 10,000 figures whose mean is exactly the bound; the share that is said to break it (stated is at most
n / A = 2.5 %), beside "three standard errors above it over the last 300". Then calls until a broken one is told, beside
the least possible, ln(A) / KL (Lorden 1971).

Silence: false ones a day, of those stated, for calls at random (a Poisson process) at a steady rate, with a daily
swing, in office hours, and in bursts, beside "ten times the median and three times the longest of the last 64 gaps".

Traffic: falls and rises that are none, a day, of those stated, for the same rhythms at two calls a minute and at one a
second, beside "less than two thirds, or more than twice, the calls of the same quarter of an hour a week ago"; then
minutes until a loss of 60 % is told, beside those until that rule of thumb does.

Mix of requests: of 200 calls before and after, of which the classes are known: how often is the right one of nothing,
label shift, accuracy and both said. Simulated, and on LLMDrift's PRIME answers of GPT-4 (Chen, Zaharia & Zou 2023),
where June's accuracy fell and a mix of our own has more composites; beside a test of the mean alone, which calls every
fall a loss of accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from harness import Result, write

from flywheel.detect import BoundDetector, SilenceDetector, TrafficDetector
from flywheel.detect.label_shift import explain
from flywheel.testkit.recorded import GPT4_JUNE, GPT4_MARCH, data_folder, recorded_prime

COMMAND = "python tests/bench/run.py guards"
SEED = 20_261_122
RUN_LENGTH = 400_000.0
LENGTH = 10_000
LAST = 300
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
WEEK_H = 168
FROM_DAY = 21
PER_DAY = 0.5
CALLS = 200
ALPHA = 0.01
Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Drawn = Callable[[np.random.Generator, int], Values]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tables: what was measured, and the rule of thumb's figure beside it."""

    part: str
    name: str
    value: float
    beside: float
    unit: str


# -- bounds -----------------------------------------------------------------------------------------------------------

AT_THE_BOUND: dict[str, tuple[float, Drawn]] = {
    "errors at 1 %": (0.01, lambda rng, count: (rng.random(count) < 0.01).astype(float)),
    "slow calls at 5 % (p95)": (0.05, lambda rng, count: (rng.random(count) < 0.05).astype(float)),
    "leaks at 0.1 %": (0.001, lambda rng, count: (rng.random(count) < 0.001).astype(float)),
    "costs, lognormal σ 1": (1.0, lambda rng, count: rng.lognormal(-0.5, 1.0, count)),
    "scores, beta": (0.3, lambda rng, count: rng.beta(3.0, 7.0, count)),
}
BROKEN = ((0.02, 0.01), (0.05, 0.01), (0.2, 0.05), (0.01, 0.001))
"""Shares, and the bounds they break."""


def bounds(runs: int) -> list[Row]:
    """False alarms at the bound, and calls until it is told that one is broken."""
    rows = []
    for name, (bound, draw) in AT_THE_BOUND.items():
        ours = thumb = 0
        for run in range(runs):
            values = draw(np.random.default_rng([SEED, run]), LENGTH)
            ours += first_breach(values, bound) is not None
            thumb += bool(by_thumb(values, bound).any())
            progress(name, run + 1, runs)
        rows.append(said(Row("bounds", f"{name}: alarms", 100 * ours / runs, 100 * thumb / runs, "%")))
    for share, bound in BROKEN:
        least = math.log(RUN_LENGTH) / (
            share * math.log(share / bound) + (1 - share) * math.log((1 - share) / (1 - bound))
        )
        delays: list[int] = []
        for run in range(max(runs // 4, 4)):
            rng = np.random.default_rng([SEED, 1, run])
            values = np.concatenate([rng.random(1_000) < bound / 2, rng.random(int(20 * least)) < share])
            found = first_breach(values, bound)
            delays.append(len(values) - 1_000 if found is None else found - 999)
            progress(f"{share:.0%} of {bound:.1%}", run + 1, max(runs // 4, 4))
        rows.append(
            said(Row("bounds", f"{share:.1%} against {bound:.1%}: mean", float(np.mean(delays)), least, "calls"))
        )
    return rows


def first_breach(values: Values, bound: float) -> int | None:
    """Place of the first alarm."""
    detector = BoundDetector(bound)
    found = (n for n, value in enumerate(values.tolist()) if detector.update(n, float(value), RUN_LENGTH))
    return next(found, None)


def by_thumb(values: Values, bound: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where the mean of the last 300 lies three standard errors above the bound."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(each)]) for each in (values, values**2))
    mean = (sums[LAST:] - sums[:-LAST]) / LAST
    spread = np.sqrt(np.maximum((squares[LAST:] - squares[:-LAST]) / LAST - mean**2, 1e-12) / LAST)
    return (mean - bound) / spread > 3.0


# -- silence ----------------------------------------------------------------------------------------------------------


def office(at_h: Values) -> Values:
    """Ten hours on weekdays, else a two-hundredth."""
    return np.where((at_h % WEEK_H < 5 * 24) & (at_h % 24 >= 8) & (at_h % 24 < 18), 1.0, 0.005)


def thinned(rng: np.random.Generator, days: int, rate: Callable[[Values], Values]) -> list[int]:
    """Times of a Poisson process of at most two a minute, from a Monday on."""
    at_h = np.sort(rng.random(rng.poisson(2.0 * days * 1_440))) * days * 24
    kept: list[int] = (4 * DAY_US + at_h[2.0 * rng.random(len(at_h)) < rate(at_h)] * HOUR_US).astype(int).tolist()
    return kept


def bursts(rng: np.random.Generator, days: int) -> list[int]:
    """Five calls within a second, every ten minutes at random."""
    starts = thinned(rng, days, lambda at_h: np.full_like(at_h, 0.1))
    return sorted(start + 200_000 * place for start in starts for place in range(5))


TRAFFIC: dict[str, Callable[[np.random.Generator, int], list[int]]] = {
    "steady": lambda rng, days: thinned(rng, days, np.ones_like),
    "daily swing of 90 %": lambda rng, days: thinned(rng, days, lambda h: 1.0 + 0.9 * np.sin(2 * np.pi * h / 24)),
    "office hours": lambda rng, days: thinned(rng, days, office),
    "bursts": bursts,
}


def silence(days: int) -> list[Row]:
    """False silences a day after three weeks, at half a one a day stated."""
    rows = []
    for name, draw in TRAFFIC.items():
        times = draw(np.random.default_rng([SEED, 2]), days + FROM_DAY)
        detector, thumb, ours, theirs = SilenceDetector(per_day=PER_DAY), Thumb(), 0, 0
        for place, at_us in enumerate(times):
            counts = at_us >= (4 + FROM_DAY) * DAY_US
            ours += (detector.update(at_us) is not None) and counts
            theirs += thumb.update(at_us) and counts
            if place % 1_000 == 0:
                progress(name, place, len(times))
        rows.append(said(Row("silence", f"{name}: of {PER_DAY} stated", ours / days, theirs / days, "a day")))
    return rows


class Thumb:
    """Ten times the median and three times the longest of the last 64 gaps."""

    def __init__(self) -> None:
        self.gaps: list[int] = []
        self.last_us = 0

    def update(self, at_us: int) -> bool:
        """Whether the gap before a call was a silence."""
        before, self.last_us = self.last_us, at_us
        gap = at_us - before
        if len(self.gaps) >= 20 and gap > max(10 * sorted(self.gaps)[len(self.gaps) // 2], 3 * max(self.gaps)):
            return True
        if before:
            self.gaps = [*self.gaps, gap][-64:]
        return False


# -- traffic ----------------------------------------------------------------------------------------------------------

QUARTER = 15 * 60 // 10
RHYTHMS: dict[str, tuple[Callable[[Values], Values], int]] = {
    "steady": (np.ones_like, 1),
    "daily swing of 90 %": (lambda at_h: 1.0 + 0.9 * np.sin(2 * np.pi * at_h / 24), 1),
    "office hours": (office, 1),
    "bursts of 5": (np.ones_like, 5),
}
LOSS = 0.6
LOSS_RUN_LENGTH = 1e6
LEARNED_DAYS = 15
WINDOW_S = 10


def traffic(days: int, runs: int) -> list[Row]:
    """False falls and rises a day after two weeks, at half a one a day stated; minutes to a loss that is none."""
    rows = []
    blocks_a_day = 2 * 86_400 / (2 * WINDOW_S)
    for per_minute in (2.0, 60.0):
        for name, (rate, burst) in RHYTHMS.items():
            rng = np.random.default_rng([SEED, 5])
            counts = windows(rng, rate, LEARNED_DAYS + days, per_minute, burst)
            told, thumb = watched(counts, blocks_a_day / PER_DAY)
            what = f"{name}, {per_minute:g} a minute: of {PER_DAY} stated"
            rows.append(said(Row("traffic", what, len(told) / days, len(thumb) / days, "a day")))
            minutes = np.array([to_a_loss(rate, burst, per_minute, run) for run in range(runs)])
            ours, theirs = minutes.mean(axis=0).tolist()
            rows.append(said(Row("traffic", f"{name}, {per_minute:g} a minute: loss", ours, theirs, "min")))
    return rows


def to_a_loss(rate: Callable[[Values], Values], burst: int, per_minute: float, run: int) -> tuple[float, float]:
    """Minutes from a loss, at 10 o'clock of the first day that is not learned, until it is told; a day where it is not.
    By both."""
    rng, begins = np.random.default_rng([SEED, 6, run]), (LEARNED_DAYS * 24 + 10) * 3_600 // WINDOW_S
    counts = windows(rng, rate, LEARNED_DAYS + 2, per_minute, burst)
    counts[begins:] = rng.binomial(counts[begins:] // burst, 1.0 - LOSS) * burst
    found = watched(counts, LOSS_RUN_LENGTH)
    delays = [next((place - begins for place in each if place >= begins), 8_640) * WINDOW_S / 60 for each in found]
    return delays[0], delays[1]


def windows(
    rng: np.random.Generator, rate: Callable[[Values], Values], days: int, per_minute: float, burst: int
) -> Values:
    """Calls of each ten seconds from a Monday on."""
    at_h = np.arange(days * 86_400 // WINDOW_S) * WINDOW_S / 3_600
    return rng.poisson(rate(at_h) * per_minute * WINDOW_S / 60 / burst) * burst


def watched(counts: Values, run_length: float) -> tuple[list[int], list[int]]:
    """Windows in which something was told after two weeks: by the detector, and by the rule of thumb, once an hour."""
    detector, ours, from_place = TrafficDetector(), [], LEARNED_DAYS * 8_640
    for place in np.flatnonzero(counts).tolist():
        taken = detector.update(4 * DAY_US + place * WINDOW_S * 1_000_000, int(counts[place]), run_length)
        if taken.change is not None and place >= from_place:
            ours.append(place)
    quarters = counts[: len(counts) // QUARTER * QUARTER].reshape(-1, QUARTER).sum(axis=1)
    now, before = quarters[672:], quarters[:-672]
    off = np.flatnonzero((now < before / 1.5) | (now > 2 * before)) + 672
    thumb: list[int] = []
    for place in ((off + 1) * QUARTER).tolist():
        if place >= from_place and (not thumb or place - thumb[-1] >= 360):
            thumb.append(place)
    return ours, thumb


# -- the mix of requests ----------------------------------------------------------------------------------------------

Counts = list[tuple[int, int]]
CASES: dict[str, tuple[tuple[float, float, float], str]] = {
    "as before": ((0.2, 0.95, 0.6), "nothing"),
    "more hard ones": ((0.6, 0.95, 0.6), "label_shift"),
    "worse answers": ((0.2, 0.75, 0.4), "accuracy"),
    "both": ((0.6, 0.75, 0.4), "both"),
}
"""Share of hard requests, accuracy on easy and on hard ones; and what should be said."""


def simulated(rng: np.random.Generator, hard: float, on_easy: float, on_hard: float) -> Counts:
    """(right, wrong) of easy and hard requests."""
    of_hard = rng.binomial(CALLS, hard)
    right = rng.binomial([CALLS - of_hard, of_hard], [on_easy, on_hard])
    return [(int(right[0]), int(CALLS - of_hard - right[0])), (int(right[1]), int(of_hard - right[1]))]


def mix(runs: int) -> list[Row]:
    """How often the right verdict is given, beside a test of the mean alone."""
    rows = []
    for name, (after, wanted) in CASES.items():
        pairs = []
        for run in range(runs):
            rng = np.random.default_rng([SEED, 3, run])
            pairs.append((simulated(rng, *CASES["as before"][0]), simulated(rng, *after)))
        rows.append(judged(name, pairs, wanted))
    folder = data_folder()
    if folder is None or not (folder / "llmdrift").is_dir():
        print("LLMDrift: the shared data folder is absent")
        return rows
    queries, answer = (provider := recorded_prime(folder).provider).queries(), provider.answer
    kinds: list[list[Sequence[bool]]] = [
        [[bool(answer(query, model).correct) for query in queries if (query.reference.lower() == "yes") == prime]
         for prime in (True, False)]
        for model in (GPT4_MARCH, GPT4_JUNE)
    ]  # fmt: skip

    def drawn(rng: np.random.Generator, month: int, primes: float) -> Counts:
        numbers = (count := int(rng.binomial(CALLS, primes)), CALLS - count)
        some = [rng.choice(kinds[month][place], number) for place, number in enumerate(numbers)]
        return [(int(each.sum()), int(len(each) - each.sum())) for each in some]

    share = len(kinds[0][0]) / len(queries)
    for name, month, primes, wanted in (
        ("LLMDrift, June", 1, share, "accuracy"),
        ("LLMDrift, March, few primes", 0, 0.2, "label_shift"),
        ("LLMDrift, March", 0, share, "nothing"),
    ):
        generators = [np.random.default_rng([SEED, 4, run]) for run in range(runs)]
        rows.append(judged(name, [(drawn(rng, 0, share), drawn(rng, month, primes)) for rng in generators], wanted))
    return rows


def judged(name: str, pairs: Sequence[tuple[Counts, Counts]], wanted: str) -> Row:
    """Share of pairs of which the right thing is said, by both."""
    ours = sum(explain(*pair, alpha=ALPHA).verdict == wanted for pair in pairs)
    means = [[(sum(right for right, _ in each), sum(wrong for _, wrong in each))] for pair in pairs for each in pair]
    thumb = sum(
        explain(one, two, alpha=ALPHA).verdict == wanted for one, two in zip(means[::2], means[1::2], strict=True)
    )
    return said(Row("mix", f"{name}: {wanted}", 100 * ours / len(pairs), 100 * thumb / len(pairs), "%"))


def said(row: Row) -> Row:
    """Print a line."""
    print(f"\r{row.part:8s} {row.name:42s} {row.value:9.2f} {row.unit:6s} beside {row.beside:9.2f}", flush=True)
    return row


def progress(name: str, done: int, count: int) -> None:
    """Say how far it is, over itself."""
    print(f"\r{name}: {done} of {count}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Measure all four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="streams of each kind (default 200)")
    parser.add_argument("--days", type=int, default=200, help="days of each kind of traffic (default 200)")
    parser.add_argument("--only", choices=("bounds", "silence", "traffic", "mix"), help="measure one part")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON at the end")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if arguments.only in {None, "bounds"}:
        rows += (found := bounds(arguments.runs))
        alarms = [row for row in found if row.unit == "%"]
        worst, beside = max(row.value for row in alarms), max(row.beside for row in alarms)
        note = f"{arguments.runs} streams of {LENGTH:,} of each of {len(alarms)} kinds; the worst kind"
        write(Result("guards_bounds", worst, "%", beside, "3 standard errors over the last 300", COMMAND, note))
    if arguments.only in {None, "silence"}:
        rows += (found := silence(arguments.days))
        worst, beside = max(row.value for row in found), max(row.beside for row in found)
        note = f"{arguments.days} days of each of {len(found)} kinds of traffic, {PER_DAY} a day stated; the worst kind"
        write(Result("guards_silence", worst, "a day", beside, "10 medians and 3 maxima", COMMAND, note))
    if arguments.only in {None, "traffic"}:
        rows += (found := traffic(arguments.days, max(arguments.runs // 20, 4)))
        worst, beside = (
            max(getattr(row, name) for row in found if row.unit == "a day") for name in ("value", "beside")
        )
        note = f"{arguments.days} days of each of {len(RHYTHMS)} rhythms at 2 rates, {PER_DAY} a day stated; the worst"
        write(Result("guards_traffic", worst, "a day", beside, "the quarter of an hour a week ago", COMMAND, note))
    if arguments.only in {None, "mix"}:
        rows += (found := mix(arguments.runs))
        right, beside = (float(np.mean([getattr(row, name) for row in found])) for name in ("value", "beside"))
        note = f"{arguments.runs} pairs of {CALLS} calls of each of {len(found)} cases; mean of the right verdicts"
        write(Result("guards_mix", right, "%", beside, "a test of the mean alone", COMMAND, note))
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
