"""Plays seeds of the simulation: ``python tests/simulation/run.py [--seeds 500] [--first 1] [--seed N] [--json]``.

A seed that fails is printed with the command that runs it again, and the exit code is 1. Put it into ``kept.txt``
beside this file, so that it stays a test.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HASH_SEED = "0"
KEPT = Path(__file__).with_name("kept.txt")


def attempt(seed: int) -> tuple[int, str | None, dict[str, int]]:
    """Play a seed: what went wrong, if anything, and what it did."""
    import scenario

    from flywheel.observe import configure_logging

    configure_logging("simulation", level="CRITICAL")
    try:
        report = scenario.play(seed)
    except Exception:
        return seed, traceback.format_exc(limit=-8), {}
    counts = {**report.faults, "facts": report.facts, "repeats": report.repeats, "steps": report.steps}
    return seed, None, counts


def kept() -> list[int]:
    """Seeds that failed once."""
    return [int(line.split("#")[0]) for line in KEPT.read_text().splitlines() if line.split("#")[0].strip()]


def main() -> int:
    """Play and print; 1 when a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500, help="how many (500)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="side by side (one per core)")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:  # sets of strings iterate by it, and a seed has to mean one run
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": HASH_SEED})
    seeds = (
        [options.seed] if options.seed is not None else [*kept(), *range(options.first, options.first + options.seeds)]
    )
    started, totals, failed = time.monotonic(), Counter[str](), []
    with ProcessPoolExecutor(options.processes) as pool:
        for done, (seed, problem, counts) in enumerate(pool.map(attempt, seeds, chunksize=5), 1):
            totals.update(counts)
            if problem is not None:
                failed.append(seed)
                print(f"seed {seed} failed; again: python tests/simulation/run.py --seed {seed}\n{problem}", flush=True)
            if done % 1000 == 0:
                print(f"{done} of {len(seeds)} seeds, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    took = time.monotonic() - started
    if options.json:
        print(json.dumps({"seeds": len(seeds), "failed": failed, "seconds": took, **totals}))
    else:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(totals.items()))
        print(f"{len(seeds)} seeds, {len(failed)} failed, {took:.0f} s; {told}")
    return 1 if failed else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    raise SystemExit(main())
