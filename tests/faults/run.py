"""Plays the rows of the fault table against the real system, and counts everything afterwards.

Each row starts a Kafka and every service of its own, runs a steady load, injects its fault, waits until all is done,
and holds topics, views, states, money and rewards against what was sent and against a fault-free replay of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scene import Report, Row, play
from table import ROWS

ROW_S = 3600


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when every row that was asked for passed or does not apply, 1 when one failed."""
    parser = argparse.ArgumentParser(prog="tests/faults/run.py", description=__doc__)
    parser.add_argument("rows", metavar="ROW", nargs="*", type=int, help="numbers of rows; all when absent")
    parser.add_argument("--times", type=int, default=1, help="play each row this often [1]")
    parser.add_argument("--short", action="store_true", help="a smaller load and fewer kills")
    parser.add_argument("--seed", type=int, default=7, help="seed of the load [7]")
    parser.add_argument("--keep", type=Path, help="keep each row's folder (logs, states) below this one")
    parser.add_argument("--json", action="store_true", help="one JSON object a row instead of text")
    asked = parser.parse_args(argv)
    unknown = sorted(set(asked.rows) - set(ROWS))
    if unknown:
        parser.error(f"no row {unknown[0]}; there are {min(ROWS)} to {max(ROWS)}")
    passed = True
    for number in asked.rows or sorted(ROWS):
        for time in range(asked.times):
            report = _played(ROWS[number], seed=asked.seed + time, short=asked.short, keep=asked.keep)
            print(json.dumps(as_json(ROWS[number], report)) if asked.json else as_text(ROWS[number], report))
            sys.stdout.flush()
            passed = passed and (report is None or report.passed)
            if report is None:
                break
    return 0 if passed else 1


def _played(row: Row, *, seed: int, short: bool, keep: Path | None) -> Report | None:
    """The report of a row; None for one that does not apply."""
    if row.inject is None:
        return None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"faults-{row.number}-") as scratch:
        # A folder of an earlier run would bring its log along.
        folder = Path(scratch if keep is None else tempfile.mkdtemp(prefix=f"row-{row.number}-", dir=keep.absolute()))
        try:
            return asyncio.run(asyncio.wait_for(play(row, folder, short=short, seed=seed), ROW_S))
        except Exception as error:
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}"
            return Report(row.number, row.title, {}, 0, {}, (), {}, {}, (), (said,))


def as_json(row: Row, report: Report | None) -> dict[str, Any]:
    """A report, or why there is none, for machines."""
    if report is None:
        return {"row": row.number, "title": row.title, "result": "not applicable", "why": row.why_not}
    balances = {
        b.place: {
            "sent": b.sent, "arrived": b.arrived, "lost": len(b.lost), "duplicated": len(b.duplicated),
            "phantom": len(b.foreign), "reordered": len(b.reordered),
        }
        for b in report.balances
    }  # fmt: skip
    return asdict(report) | {"result": "passed" if report.passed else "FAILED", "balances": balances}


def as_text(row: Row, report: Report | None) -> str:
    """A report, or why there is none, for people."""
    if report is None:
        return f"row {row.number:2} {row.title}: not applicable: {row.why_not}\n"
    lines = [f"row {report.row:2} {report.title}: {'passed' if report.passed else 'FAILED'}"]
    named = [("load", report.load), ("redelivered", report.repeats), ("states", report.states), ("sums", report.sums)]
    told = {name: ", ".join(f"{key} {value}" for key, value in found.items()) for name, found in named if found}
    told["kills"] = str(report.kills)
    lines += [f"  {name:12} {told[name]}" for name in ("load", "kills", "redelivered") if name in told]
    if report.balances:
        lines.append(f"  {'ledger':12} {'sent':>8} {'lost':>6} {'duplicated':>11} {'phantom':>8} {'reordered':>10}")
    for b in report.balances:
        counts = (len(b.lost), len(b.duplicated), len(b.foreign), len(b.reordered))
        lines.append(f"  {b.place:14} {b.sent:6} {counts[0]:6} {counts[1]:11} {counts[2]:8} {counts[3]:10}")
    lines += [f"  {name:12} {told[name]}" for name in ("states", "sums") if name in told]
    lines += [f"  {'seen':12} {note}" for note in report.notes]
    lines += [f"  {'WRONG':12} {problem}" for problem in report.problems]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
