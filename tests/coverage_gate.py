"""Fails when a lib or a service's core is covered by tests below the bar: ``python tests/coverage_gate.py [--json]``.

Reads the data that ``coverage run`` left, groups files by lib (or by ``core.py`` for services) and counts lines and
branches together, as coverage.py does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

BAR_PERCENT = 85.0
GENERATED = ("_pb2.py", "_pb2_grpc.py")


def group_of(path: str) -> str | None:
    """The gate a file counts towards, or None where it counts towards none."""
    parts = Path(path).parts
    if path.endswith(GENERATED):
        return None
    if parts[0] == "libs" and "tests" not in parts:
        return f"libs/{parts[1]}"
    if parts[0] == "services" and (parts[-1] == "core.py" or "core" in parts[:-1]) and "tests" not in parts:
        return f"services/{parts[1]} core"
    return None


def percentages(report: dict[str, Any]) -> dict[str, float]:
    """Covered lines and branches of each group, in percent, from coverage's JSON report."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, found in report["files"].items():
        group = group_of(path)
        if group is not None:
            summary = found["summary"]
            sums[group][0] += summary["covered_lines"] + summary["covered_branches"]
            sums[group][1] += summary["num_statements"] + summary["num_branches"]
    return {group: 100.0 * covered / total if total else 100.0 for group, (covered, total) in sorted(sums.items())}


def main() -> int:
    """Print each group's coverage; exit 1 when one is below the bar or nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the percentages as JSON")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", out.name], check=True)
        found = percentages(json.loads(Path(out.name).read_text()))
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"Branch coverage (bar {BAR_PERCENT:.0f} %):")
        for group, percent in found.items():
            print(f"  {group:24s} {percent:5.1f} %{'' if percent >= BAR_PERCENT else '   below the bar'}")
    return 0 if found and min(found.values()) >= BAR_PERCENT else 1


if __name__ == "__main__":
    raise SystemExit(main())
