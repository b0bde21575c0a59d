"""Are overruns of a budget told early enough, and only where they come? On real arrivals with prices, beside linear
extrapolation (spent over the elapsed share of the window) on the same windows.

The calls are an hour of Azure's conversation service (Patel et al. 2024, Splitwise; CC BY 4.0), or those of
``--trace FILE`` with the same columns, priced as gpt-4o-mini: whole, and split at random into four features. Windows of
10, 20 and 40 minutes start every 5 minutes, and one takes all; what came before a window is known, as it would be to a
guard. Each is played against budgets of 0.525, 0.575 … 1.475 of what it really spent.

In time: of the budgets that are exceeded, those whose overrun was told at least 20 % of the window before the spend
passed them. False: of those that are not, those with a warning. Intervals: 95 %, by bootstrap over windows that start
in the same 5 minutes, as windows overlap; one hour of one service is few independent windows all the same.

Before it, what an oracle reaches that knows the law of the spend, though not its future (`forecast_oracle.py`).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import forecast_oracle
import numpy as np
from harness import Result, write

from flywheel.budget.forecast import Forecaster
from flywheel.budget.replay import Spend, Step, steps, warned
from flywheel.pricing import bundled_prices, price_call
from flywheel.testkit.recorded import data_folder

COMMAND = "python tests/bench/run.py forecast"
MODEL = "gpt-4o-mini"
PICO_PER_USD = 10**12
MINUTE_US = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS_MIN = (10, 20, 40)
EVERY_MIN = 5
FEATURES = 4
SHARES = tuple((0.525 + 0.05 * n) for n in range(20))
EARLY = 0.2
EARLIEST_LINEAR = 0.05
SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class Judged:
    """One window against one budget: was it exceeded, was that told in time, was it told falsely."""

    group: str
    block: int
    share: float
    exceeded: bool
    in_time: bool
    false: bool


def calls(trace: Path) -> list[tuple[int, int]]:
    """Time (microseconds since the epoch) and cost (pico-USD) of every call of a trace."""
    book, made = bundled_prices(), []
    with trace.open(newline="") as lines:
        for row in csv.DictReader(lines):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC)
            at_us = (at - EPOCH) // timedelta(microseconds=1)
            tokens = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
            cost = price_call(usage, book, provider="openai", models=(MODEL,), at_us=at_us).cost_usd
            if cost is None:
                raise SystemExit(f"{MODEL} has no price")
            made.append((at_us, int(cost * PICO_PER_USD)))
    return made


def windows(first_us: int, last_us: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window."""
    for minutes in LENGTHS_MIN:
        for start_us in range(first_us, last_us - minutes * MINUTE_US + 1, EVERY_MIN * MINUTE_US):
            yield start_us, start_us + minutes * MINUTE_US
    yield first_us, last_us


def played(spend: Spend, first_us: int, start_us: int, end_us: int) -> list[Step]:
    """The readings of a window; what came before was played in windows of the same length that end with its start."""
    length = end_us - start_us
    forecaster = Forecaster.for_window(length)
    earlier = range(start_us - length * ((start_us - first_us) // length), start_us, length)
    for before_us in [first_us, *earlier] if first_us < start_us else []:
        until_us = min(e for e in [*earlier, start_us] if e > before_us)
        observe(forecaster, spend, before_us, until_us)
    return [step for step in steps(forecaster, spend, start_us, end_us) if step.forecast is not None]


def observe(forecaster: Forecaster, spend: Spend, start_us: int, end_us: int) -> None:
    """A window that nobody asks about."""
    before = spend.before(start_us)
    forecaster.observe(start_us, start_us, 0)
    for at_us, total in zip(spend.at_us, spend.total_pico, strict=True):
        if start_us <= at_us < end_us:
            forecaster.observe(at_us, start_us, total - before)


def judge(name: str, spend: Spend, first_us: int, start_us: int, end_us: int) -> Iterator[tuple[Judged, Judged]]:
    """A window against every budget: ours and linear extrapolation."""
    readings = played(spend, first_us, start_us, end_us)
    actual = spend.between(start_us, end_us)
    group = f"{name}, {round((end_us - start_us) / MINUTE_US)} min"
    block = (start_us - first_us) // (EVERY_MIN * MINUTE_US)
    for share in SHARES:
        amount = int(actual * share)
        limit_us = passed_us(spend, start_us, end_us, amount)
        told = [
            warning.at_us
            for warning in warned(readings, instance="", start_us=start_us, end_us=end_us, amount_pico=amount)
            if warning.kind == "budget_forecast" and warning.state == "firing"
        ]
        ours = min(told, default=None)
        linear = extrapolated_us(spend, start_us, end_us, amount)
        latest_us = limit_us - EARLY * (end_us - start_us)
        yield (
            verdict((group, block), share, ours, latest_us, exceeded=actual > amount),
            verdict((group, block), share, linear, latest_us, exceeded=actual > amount),
        )


def verdict(where: tuple[str, int], share: float, told_us: int | None, latest_us: float, *, exceeded: bool) -> Judged:
    """Whether a warning at ``told_us`` (None: none) was right."""
    in_time = exceeded and told_us is not None and told_us <= latest_us
    return Judged(*where, share, exceeded, in_time, not exceeded and told_us is not None)


def passed_us(spend: Spend, start_us: int, end_us: int, amount_pico: int) -> int:
    """When the window's spend came above an amount; its end where it never did."""
    before = spend.before(start_us)
    for at_us, total in zip(spend.at_us, spend.total_pico, strict=True):
        if start_us <= at_us < end_us and total - before > amount_pico:
            return at_us
    return end_us


def extrapolated_us(spend: Spend, start_us: int, end_us: int, amount_pico: int) -> int | None:
    """When linear extrapolation first came above the amount, read as often as ours, from 5 % of the window on."""
    for reading in range(1, 64):
        now_us = start_us + (end_us - start_us) * reading // 64
        elapsed = reading / 64
        if elapsed >= EARLIEST_LINEAR and spend.between(start_us, now_us) / elapsed > amount_pico:
            return now_us
    return None


def rates(judged: Iterable[Judged]) -> tuple[float, float]:
    """In time, of those exceeded; false, of the others: in percent."""
    all_of = list(judged)
    above = [verdict.in_time for verdict in all_of if verdict.exceeded]
    below = [verdict.false for verdict in all_of if not verdict.exceeded]
    return 100.0 * sum(above) / len(above), 100.0 * sum(below) / len(below)


def intervals(judged: list[Judged]) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % intervals of both rates, by bootstrap over blocks of windows."""
    rng = np.random.default_rng(SEED)
    blocks: dict[int, list[Judged]] = {}
    for verdict_of in judged:
        blocks.setdefault(verdict_of.block, []).append(verdict_of)
    names = sorted(blocks)
    drawn = [rates(v for name in rng.choice(names, len(names)) for v in blocks[name]) for _ in range(400)]
    in_time, false = (np.percentile([pair[place] for pair in drawn], (2.5, 97.5)) for place in (0, 1))
    return (float(in_time[0]), float(in_time[1])), (float(false[0]), float(false[1]))


def by_share(judged: list[Judged]) -> str:
    """In time or false per budget, in percent."""
    found = []
    for share in SHARES:
        some = [v for v in judged if v.share == share]
        found.append(f"{share:.3f}:{100 * sum(v.in_time or v.false for v in some) / len(some):.0f}")
    return " ".join(found)


def by_group(ours: list[Judged], linear: list[Judged]) -> Iterator[str]:
    """A line for each kind of window."""
    for group in sorted({v.group for v in ours}):
        mine, theirs = (rates(v for v in judged if v.group == group) for judged in (ours, linear))
        count = sum(v.group == group for v in ours) // len(SHARES)
        yield (
            f"{group:16s} {count:3d} windows: in time {mine[0]:5.1f} %, false {mine[1]:5.1f} %"
            f" (linear {theirs[0]:5.1f} %, {theirs[1]:5.1f} %)"
        )


def main() -> None:
    """Judge both on the same windows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="CSV with TIMESTAMP, ContextTokens and GeneratedTokens")
    parser.add_argument("--oracle", action="store_true", help="only say what one who knows the law could do")
    arguments = parser.parse_args()
    trace: Path | None = arguments.trace
    if trace is None:
        folder = data_folder()
        trace = folder / "azure_llm" / "AzureLLMInferenceTrace_conv.csv" if folder else None
    if trace is None or not trace.exists():
        print("no trace here: the shared data folder is absent; name one with --trace")
        return
    every = calls(trace)
    print(
        "\n".join(forecast_oracle.lines(every, LENGTHS_MIN, features=FEATURES, early=EARLY, shares=SHARES, seed=SEED))
    )
    if arguments.oracle:
        return
    feature = np.random.default_rng(SEED).integers(0, FEATURES, len(every))
    spends = [every, *([call for call, of in zip(every, feature, strict=True) if of == n] for n in range(FEATURES))]
    first_us, last_us = min(at for at, _ in every), max(at for at, _ in every)
    ours: list[Judged] = []
    linear: list[Judged] = []
    for n, some in enumerate(spends):
        name = "feature" if n else "whole"
        for start_us, end_us in windows(first_us, last_us):
            for mine, theirs in judge(name, Spend.of(some), first_us, start_us, end_us):
                ours.append(mine)
                linear.append(theirs)
    report(ours, linear)


def report(ours: list[Judged], linear: list[Judged]) -> None:
    """Write both figures, and print what they are made of."""
    (in_time, false), (their_time, their_false) = rates(ours), rates(linear)
    of_time, of_false = intervals(ours)
    count = len(ours) // len(SHARES)
    print(f"in time or false by budget, ours    {by_share(ours)}")
    print(f"in time or false by budget, linear  {by_share(linear)}")
    print("\n".join(by_group(ours, linear)))
    note = f"{count} windows, 20 budgets each; 95 %: {of_time[0]:.1f} to {of_time[1]:.1f}"
    write(Result("forecast_overruns_in_time", in_time, "%", their_time, "linear", COMMAND, note))
    note = f"{count} windows, 20 budgets each; 95 %: {of_false[0]:.1f} to {of_false[1]:.1f}"
    write(Result("forecast_false_warnings", false, "%", their_false, "linear", COMMAND, note))


if __name__ == "__main__":
    main()
