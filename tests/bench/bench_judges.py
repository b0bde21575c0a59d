"""How often is it said rightly who changed, the judge or the answers? Beside scores without golden probes.

Simulated: a call a second with a score (normal, deviation .2), a golden probe every ten seconds (deviation .05 around
the known score). After 20 minutes the judge gives less by .1, the answers deserve less by .1, both at once (.1 and
.2), or nothing changes. Counted of ``--runs`` each: the right verdict ten minutes after the change, and a wrong one
(none is no verdict), beside who blames the answers for every fall that is noticed. Then how soon the judge's drift is
told, and of runs without a change those with an alarm of the probes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict, dataclass
from typing import Final

from harness import Result, write

from flywheel.detect import LevelDetector
from flywheel.testkit.dict_state import DictState
from flywheel_detector.core.guarded import Seen
from flywheel_detector.core.judges import moved_probes, moved_score, verdict_of
from flywheel_detector.core.measures import GOLDEN, SCORE, measure_of
from flywheel_detector.core.series import Series
from flywheel_detector.core.shelf import PROBE_WARM_UP

COMMAND = "python tests/bench/run.py judges"
RUN_LENGTH: Final = 100_000.0
WINDOW_US: Final = 10_000_000
BEFORE, AFTER = 120, 60
"""Windows of ten seconds before and after the change."""
RESOLVE_US: Final = 120_000_000
CASES: Final = {"judge": (0.1, 0.0), "quality": (0.0, 0.1), "both": (0.1, 0.2), "": (0.0, 0.0)}


@dataclass(frozen=True, slots=True)
class Ended:
    """A run: the verdict at its end, whether a fall was noticed, seconds until the judge's drift was told."""

    verdict: str
    fell: bool
    drift_after_s: float | None


def run(judge: float, quality: float, seed: int) -> Ended:
    """Play one run: the judge gives less, or answers deserve less, from the change on."""
    dice, state = random.Random(f"{judge}:{quality}:{seed}"), DictState()
    scores, probes = (
        Series(name * 24, measure_of(f"{kind}judge"), LevelDetector(warm_up=warm_up, salt=f"{name}{seed}"))
        for name, kind, warm_up in (("s0", SCORE, 256), ("p0", GOLDEN, PROBE_WARM_UP))
    )
    fell_us: int | None = None
    drift_us: int | None = None
    for window in range(BEFORE + AFTER):
        stern, worse = (judge, quality) if window >= BEFORE else (0.0, 0.0)
        start_us = window * WINDOW_US + 1
        seen = [
            Seen(start_us + second * 1_000_000, min(max(dice.gauss(0.7 - worse, 0.2) - stern, 0.0), 1.0), "r")
            for second in range(10)
        ]
        if scores.watch(state, start_us, seen, RUN_LENGTH) is not None:
            fell_us = start_us
        probe = Seen(start_us, 1.0 + dice.gauss(-stern, 0.05), "p")
        if probes.watch(state, start_us, [probe], RUN_LENGTH) is not None and drift_us is None:
            drift_us = start_us
    verdict = ""
    if scores.off is not None and scores.off.kind == "level_change":
        verdict = verdict_of(moved_score(scores.off, RESOLVE_US), moved_probes(probes, scores.off.since_us))
    after_s = None if drift_us is None else (drift_us - BEFORE * WINDOW_US) / 1e6
    return Ended(verdict, fell_us is not None, after_s)


@dataclass(frozen=True, slots=True)
class Row:
    """One case: percentages of the runs, and the mean seconds until a drift of the judge was told."""

    case: str
    right: float
    wrong: float
    right_without_probes: float
    drift_told: float
    drift_after_s: float | None


def row_of(case: str, runs: int) -> Row:
    """Play a case ``runs`` times."""
    ended = []
    for seed in range(runs):
        print(f"\r{case or 'nothing'}: {seed} of {runs}   ", end="", file=sys.stderr, flush=True)
        ended.append(run(*CASES[case], seed))
    told = [each.drift_after_s for each in ended if each.drift_after_s is not None]
    blamed = [("quality" if each.fell else "") == case for each in ended]
    row = Row(
        case or "nothing",
        100.0 * sum(each.verdict == case for each in ended) / runs,
        100.0 * sum(each.verdict not in (case, "") for each in ended) / runs,
        100.0 * sum(blamed) / runs,
        100.0 * len(told) / runs,
        sum(told) / len(told) if told else None,
    )
    print(f"\r{json.dumps(asdict(row))}", flush=True)
    return row


def main() -> None:
    """Play every case and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs of each case (default 200)")
    arguments = parser.parse_args()
    rows = [row_of(case, arguments.runs) for case in CASES]
    right, beside = (sum(getattr(row, name) for row in rows) / len(rows) for name in ("right", "right_without_probes"))
    note = f"{arguments.runs} runs of each of {len(rows)} cases; mean of the right verdicts"
    write(Result("judges", right, "%", beside, "scores without probes", COMMAND, note))


if __name__ == "__main__":
    main()
