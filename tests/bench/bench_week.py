"""A quiet week of 500 series in the detector's core, in virtual time, and how soon a drop of quality is told.

Quiet: 12 features with 7 arms each, six measures a call: 504 series. Calls come at random, one a minute and arm, with a
daily swing of 80 %; latency swings with them by a third, costs and tokens are lognormal, 2 % fail and 1 % are refused.
Nothing changes. What is told in seven days beside the budget of one false alarm a day over all, and beside River's
ADWIN on the same observations.

Drop: a call a second, each with a score of mean 0.8 and deviation 0.15; after an hour the mean is 0.64 (20 % less).
Seconds of event time until the alert, beside the five minutes asked.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from harness import Result, percentile, write
from river.drift import ADWIN

from flywheel.stream import Event, Output, RawRecord, ShardState
from flywheel_detector.core import DetectFold, tick_entry
from flywheel_detector.core.facts import Fact
from flywheel_detector.core.ledger import observation_entries

COMMAND = "python tests/bench/run.py week"
START_US = 1_795_392_000_000_000  # Monday, 2026-11-23
SECOND_US = 1_000_000
STEP_S = 600
DAY_S = 86_400
FEATURES, ARMS, MEASURES = 12, 7, 6
SEED = 20_261_122
ASKED_S = 300.0


class Detector:
    """Stage 2 over a state of its own, committed after each batch."""

    def __init__(self) -> None:
        self._fold, self._state = DetectFold(), ShardState(None)

    def take(self, outputs: Sequence[Output], at_s: float) -> list[Output]:
        """Fold entries of the ledger that lie there since a time; what it says."""
        sent_ms = START_US // 1000 + round(at_s * 1000)
        events = [
            Event(RawRecord(output.topic, 0, 0, sent_ms, b"", b""), output.event, 1, {"feature": "", **output.value})
            for output in outputs
        ]
        view = self._state.view()
        result = self._fold.fold(0, events, view)
        assert not result.verdicts, result.verdicts
        self._state.commit(view, offsets={}, marks={}, emitted=0, outbox=None)
        return [output for output in result.outputs if output.event == "alert"]


def tick(at_s: float) -> Output:
    """The time."""
    return tick_entry(0, ["key"], START_US + round(at_s * 1e6))


def fact(at_s: float, feature: str, arm: str, measured: dict[str, float], mark: str, *, kind: str = "call") -> Fact:
    """A fact as stage 1 passes it on."""
    return Fact(kind, START_US + round(at_s * 1e6), mark, feature, f"openai/model-{arm}", arm, "", {}, measured)


def quiet_calls(rng: np.random.Generator, feature: str, from_s: int) -> Iterator[Fact]:
    """The calls of a feature in ten minutes."""
    swing = math.sin(2 * math.pi * from_s / DAY_S)
    for arm in range(ARMS):
        count = int(rng.poisson(STEP_S / 60 * (1 + 0.8 * swing)))
        times = from_s + np.sort(rng.random(count)) * STEP_S
        failed, refused = rng.random(count) < 0.02, rng.random(count) < 0.01
        latency = 800.0 * np.exp(0.33 * swing + 0.5 * rng.standard_normal(count))
        sizes = np.exp(rng.standard_normal((2, count)) * 0.6)
        for n in range(count):
            measured = {"error_rate": float(failed[n])}
            if not failed[n]:
                measured |= {
                    "refusal_rate": float(refused[n]), "latency_ms": float(latency[n]),
                    "cost_usd": 1e-6 * round(500 * sizes[0][n] + 2_000 * sizes[1][n]),
                    "input_tokens": float(round(500 * sizes[0][n])), "output_tokens": float(round(200 * sizes[1][n])),
                }  # fmt: skip
            yield fact(float(times[n]), feature, f"arm-{arm}", measured, f"{rng.integers(2**62):016x}")


def quiet(days: int, features: int) -> tuple[list[Counter[str]], int, int, int]:
    """Alerts by kind of each day in which nothing changes, and ADWIN's alarms; series and observations."""
    rngs = {f"feature-{n}": np.random.default_rng([SEED, n]) for n in range(features)}
    detector, told, peers = Detector(), [Counter[str]() for _ in range(days)], dict[tuple[str, str, str], ADWIN]()
    firing: set[str] = set()
    alarms = observations = 0
    for from_s in range(0, days * DAY_S, STEP_S):
        ledger: list[Output] = []
        for feature, rng in rngs.items():
            calls = sorted(quiet_calls(rng, feature, from_s), key=lambda each: each.at_us)
            for each in calls:
                for name, value in each.measured.items():
                    peer = peers.setdefault((feature, each.arm, name), ADWIN())
                    peer.update(value)
                    alarms += peer.drift_detected
                    observations += 1
            ledger += observation_entries("week", feature, [(each, each.mark) for each in calls])
        for output in detector.take([*ledger, tick(from_s + STEP_S)], from_s + STEP_S):
            alert = output.value
            if alert["state"] != "firing":
                firing.discard(alert["alert_id"])
            elif alert["alert_id"] not in firing:
                firing.add(alert["alert_id"])
                told[from_s // DAY_S][alert["kind"]] += 1
                print(f"\rday {from_s / DAY_S:.2f}: {alert['title']}", flush=True)
        print(f"\rday {from_s / DAY_S:.2f} of {days}   ", end="", file=sys.stderr, flush=True)
    return told, alarms, len(peers), observations


def drop(run: int) -> float | None:
    """Seconds from a drop of quality to its alert; None where there was one before."""
    rng, detector, change_s = np.random.default_rng([SEED, 1, run]), Detector(), 3_600
    for at_s in range(0, change_s + 1_800, 10):
        mean = 0.8 if at_s < change_s else 0.64
        scores = np.clip(rng.normal(mean, 0.15, 10), 0.0, 1.0)
        facts = [
            fact(at_s + n, "answers", "strong", {"score:judge.helpful": float(score)}, f"{at_s + n:016x}", kind="score")
            for n, score in enumerate(scores)
        ]
        ledger = [*observation_entries("week", "answers", [(each, each.mark) for each in facts]), tick(at_s + 10)]
        for output in detector.take(ledger, at_s + 10):
            if output.value["kind"] == "quality":
                return None if at_s < change_s else (output.value["occurred_at"] - START_US) / SECOND_US - change_s
    return 1_800.0


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=7, help="days without a change (default 7)")
    parser.add_argument("--features", type=int, default=FEATURES, help="features of 42 series each (default 12)")
    parser.add_argument("--drops", type=int, default=20, help="drops of quality (default 20)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    arguments = parser.parse_args()
    figures: dict[str, object] = {}
    if arguments.days:
        told, alarms, series, observations = quiet(arguments.days, arguments.features)
        figures |= {
            "told_by_day": [dict(day) for day in told],
            "adwin": alarms,
            "series": series,
            "observations": observations,
        }
        print(f"\r{series} series, {observations:,} observations: ADWIN {alarms:,}")
        for number, day in enumerate(told):
            print(f"day {number}: {dict(day) or 'nothing'}")
        note = f"{series} series, {arguments.days} days of one call a minute and arm; asked: at most 1 a day"
        a_day = sum(day.total() for day in told) / arguments.days
        write(Result("week_false_alarms", a_day, "a day", alarms / arguments.days, "River's ADWIN", COMMAND, note))
    if arguments.drops:
        found = []
        for run in range(arguments.drops):
            found.append(drop(run))
            print(f"\rdrop {run + 1} of {arguments.drops}   ", end="", file=sys.stderr, flush=True)
        delays = [each for each in found if each is not None]
        figures |= {"drops_s": delays, "alarmed_before": found.count(None)}
        print(f"\rdrops told after {min(delays):.0f} to {max(delays):.0f} s; before them: {found.count(None)}")
        note = f"{len(delays)} drops of 20 % at a call a second, from the drop to the alert in event time; p95"
        write(Result("week_quality_drop", percentile(delays, 0.95), "s", ASKED_S, "five minutes", COMMAND, note))
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
