"""Observations a second in the detector's cores, beside River's detectors fed the same values in the same run.

A call has six measures: six observations. Busy: 15 calls a second of each of 20 arms, of which detectors see the
sample of 16 in each window of ten seconds; quiet: a call a second of each, and detectors see every one. Both stages in
one process, batches of 5,000 decoded events, the state in SQLite in memory and committed after each, the time told at
the end of each; encoding is not measured. CPU time, the best of two passes. Baselines, one of its kind for each
series: ``ADWIN.update`` of every observation; of those of one arm ``KSWIN.update``, and score and learning of
half-space trees.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from harness import Result, write
from river.anomaly import HalfSpaceTrees
from river.drift import ADWIN, KSWIN

from flywheel.events import Codec, load_registry
from flywheel.observe import spare_the_collector
from flywheel.stream import Event, Fold, Output, RawRecord, ShardState
from flywheel_detector.core import DetectFold, IntakeFold, tick_entry
from flywheel_detector.wiring import NEEDED

COMMAND = "python tests/bench/run.py detector"
CALLS = 30_000
BATCH = 5_000
ARMS = 20
MEASURES = 6
START_US = 1_795_219_200_000_000
PASSES = 2


def calls(count: int, per_s: float) -> Iterator[dict[str, Any]]:
    """Calls of one feature, its arms in turn, ``per_s`` of them a second, one in fifty of which fails."""
    dice = random.Random(20_261_122)
    for number in range(count):
        arm, at_us = number % ARMS, START_US + round(number / per_s * 1e6)
        yield {
            "event_id": f"call-{number}", "project": "default", "request_id": f"request-{number}",
            "feature": "answers", "occurred_at": at_us, "provider": "openai", "request_model": f"model-{arm % 4}",
            "variant": f"arm-{arm}", "status": "ERROR" if dice.random() < 0.02 else "OK",
            "latency_ms": dice.lognormvariate(6.7, 0.5), "input_tokens": dice.randint(100, 2_000),
            "output_tokens": dice.randint(10, 500), "cost_usd": Decimal(dice.randint(100, 9_000)) / 10**6,
        }  # fmt: skip


def events(count: int, per_s: float) -> list[Event]:
    """The calls as stage 1 gets them."""
    codec, needed = Codec(load_registry()), Codec(load_registry(), only=NEEDED)
    found = []
    for offset, value in enumerate(calls(count, per_s)):
        read = needed.decode(codec.encode("llm_call", value)).value
        found.append(
            Event(RawRecord("llm-calls", 0, offset, value["occurred_at"] // 1000, b"", b""), "llm_call", 1, read)
        )
    return found


class Stage:
    """A fold over a state of its own, committed after each batch."""

    def __init__(self, fold: Fold) -> None:
        self._fold, self._state = fold, ShardState(None)

    def take(self, some: Sequence[Event]) -> Sequence[Output]:
        """Fold a batch; what it passes on."""
        view = self._state.view()
        result = self._fold.fold(0, some, view)
        assert not result.verdicts, result.verdicts
        self._state.commit(view, offsets={}, marks={}, emitted=0, outbox=None)
        return result.outputs


def entries(outputs: Sequence[Output], at_us: int) -> list[Event]:
    """Entries of the ledger as stage 2 reads them."""
    return [
        Event(RawRecord(output.topic, 0, 0, at_us // 1000, b"", b""), output.event, 1, dict(output.value))
        for output in outputs
    ]


def one_pass(facts: Sequence[Event]) -> float:
    """Return CPU seconds of both stages over all calls."""
    intake, detect = Stage(IntakeFold()), Stage(DetectFold())
    alerts = 0
    started = time.process_time()
    for start in range(0, len(facts), BATCH):
        batch = facts[start : start + BATCH]
        now_us = batch[-1].value["occurred_at"]
        ledger = entries(intake.take(batch), now_us)
        ledger += entries([tick_entry(0, ["key"], now_us)], now_us)
        alerts += sum(output.event == "alert" for output in detect.take(ledger))
    took = time.process_time() - started
    assert alerts <= 2, f"{alerts} alerts about nothing"
    return took


def observed(facts: Sequence[Event]) -> Iterator[tuple[tuple[str, str], float]]:
    """The observations of calls: series and figure."""
    for fact in facts:
        value, failed = fact.value, fact.value["status"] == "ERROR"
        found = {"error_rate": float(failed)}
        if not failed:
            names = ("latency_ms", "input_tokens", "output_tokens", "cost_usd")
            found |= {"refusal_rate": 0.0} | {name: float(value[name]) for name in names}
        yield from (((value["variant"], name), figure) for name, figure in found.items())


def trees() -> Callable[[float], None]:
    """Half-space trees, as an update."""
    made = HalfSpaceTrees(seed=1)

    def update(figure: float) -> None:
        row = {"x": figure}
        made.score_one(row)
        made.learn_one(row)

    return update


def bare(facts: Sequence[Event], make: Callable[[], Callable[[float], None]]) -> float:
    """Return how many observations a CPU second a detector takes, one of its kind for each series."""
    taken = list(observed(facts))
    series = {key: make() for key, _ in taken}
    started = time.process_time()
    for key, figure in taken:
        series[key](figure)
    return len(taken) / (time.process_time() - started)


def main() -> None:
    """Measure both loads and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS, help=f"calls of each load (default {CALLS:,})")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for name, per_s in (("busy", 15.0 * ARMS), ("quiet", 1.0 * ARMS)):
        facts = events(arguments.calls, per_s)
        spare_the_collector()  # as every service does; the facts made above are the benchmark's
        taken = sum(1 if fact.value["status"] == "ERROR" else MEASURES for fact in facts)
        took: list[float] = []
        for done in range(PASSES):
            print(f"\r{name}: pass {done + 1} of {PASSES}   ", end="", file=sys.stderr, flush=True)
            took.append(one_pass(facts))
        rate, one_arm = taken / min(took), [fact for fact in facts if fact.value["variant"] == "arm-0"]
        note = f"{ARMS} arms, {per_s / ARMS:g} calls/s each; both stages, CPU time"
        figures[name] = {"observations_per_s": rate}
        for suffix, peer, some, make in (
            ("", "ADWIN", facts, lambda: ADWIN().update),
            ("_kswin", "KSWIN", one_arm, lambda: KSWIN(seed=1).update),
            ("_trees", "half-space trees", one_arm, trees),
        ):
            alone = figures[name][f"{peer} per s"] = bare(some, make)
            result = Result(
                f"detector_{name}{suffix}", rate, "observations/s", alone, f"River's {peer} alone", COMMAND, note
            )
            write(result)
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
