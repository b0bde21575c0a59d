"""How good are the scores? NAB's series by NAB's rule, one setting, beside a rolling z and half-space trees.

Per profile: the score at the threshold that is best on all series (NAB's way: chosen with the labels in hand), at the
default threshold of 0.5, and, for the standard profile, at a threshold that was chosen on all series but the one it is
applied to. ``--nab FOLDER`` takes another corpus, laid out as NAB's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path

from harness import Result, write
from nab import PROFILES, Labelled, Row, at, corpus, optimised, points, rows_that_count
from river.anomaly import HalfSpaceTrees

from flywheel.detect import SeriesDetector
from flywheel.detect.windows import Window
from flywheel.testkit.recorded import data_folder

COMMAND = "python tests/bench/run.py anomaly"
DEFAULT_THRESHOLD = 0.5
Z_WINDOW = 1_000
SUPPRESSED_FOR = 100


def ours(series: Labelled) -> list[float]:
    """The scores of the default detector set."""
    detector = SeriesDetector(salt=series.name)
    return [
        detector.update(at_s * 1_000_000, value).score for at_s, value in zip(series.at_s, series.values, strict=True)
    ]


def rolling_z(series: Labelled) -> list[float]:
    """Deviations from the last 1,000, kept where none of the last 100 was larger; 6 of them as the score 0.5."""
    window, recent, scores = Window(Z_WINDOW), deque[float](maxlen=SUPPRESSED_FOR), []
    for value in series.values:
        spread = window.deviation
        z = abs(value - window.mean) / (spread + 1e-12) if len(window.values) > 10 else 0.0
        scores.append(z / (z + 6.0) if z > max(recent, default=0.0) else 0.0)
        recent.append(z)
        window.push(value)
    return scores


def half_space_trees(series: Labelled) -> list[float]:
    """River's, of the value alone, scaled by the range so far."""
    trees = HalfSpaceTrees(seed=1)
    low, high, scores = series.values[0], series.values[0], []
    for value in series.values:
        low, high = min(low, value), max(high, value)
        scaled = {"value": (value - low) / ((high - low) or 1.0)}
        scores.append(trees.score_one(scaled))
        trees.learn_one(scaled)
    return scores


def left_out(rows: dict[str, list[Row]], count: int) -> float:
    """The standard score where each series is judged at the threshold that was best on the others."""
    profile = PROFILES["standard"]
    gained = 0.0
    for name, own in rows.items():
        others = [row for other, some in rows.items() if other != name for row in some]
        gained += at(points(own, count, profile), optimised(points(others, count, profile))[1])
    return gained


def main() -> None:
    """Score all three and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nab", type=Path, help="a corpus laid out as NAB's (default: the shared data folder's)")
    folder: Path | None = parser.parse_args().nab
    if folder is None and (data := data_folder()):
        folder = data / "nab"
    if folder is None or not folder.exists():
        print("no NAB series here: the shared data folder is absent; name one with --nab")
        return
    found = corpus(folder)
    rows, windows = (
        sum(len(part) for part in parts) for parts in zip(*((s.values, s.windows) for s in found), strict=True)
    )
    best: dict[str, float] = {}
    print(f"{len(found)} series, {rows:,} rows; score at the best threshold (and at 0.5)")
    for name, judge in {"ours": ours, "rolling z": rolling_z, "half-space trees": half_space_trees}.items():
        taken, scored = 0.0, dict[str, list[Row]]()
        for series in found:
            started = time.process_time()
            scores = judge(series)
            taken += time.process_time() - started
            scored[series.name] = [row for row in rows_that_count(series, scores) if row.score > 0]
            print(f"\r{name}: {len(scored)} of {len(found)}   ", end="", file=sys.stderr, flush=True)
        every = [row for some in scored.values() for row in some]
        curves = {profile: points(every, windows, weights) for profile, weights in PROFILES.items()}
        best[name] = optimised(curves["standard"])[0]
        said = "  ".join(
            f"{profile} {optimised(curve)[0]:5.1f} ({at(curve, DEFAULT_THRESHOLD):6.1f})"
            for profile, curve in curves.items()
        )
        print(f"\r{name:17s} {said}  {rows / taken:9,.0f} rows/s", flush=True)
        if name == "ours":
            print(f"{'':17s} threshold chosen without the series it is applied to: {left_out(scored, windows):.1f}")
    note = f"{len(found)} series; half-space trees {best['half-space trees']:.1f}"
    write(Result("anomaly_nab_standard", best["ours"], "points", best["rolling z"], "rolling z", COMMAND, note))


if __name__ == "__main__":
    main()
