"""Runs the benchmarks one after another, each in a process of its own: ``make bench`` or ``python tests/bench/run.py``.

Each writes its figures, with the baseline of the same run, to ``tests/bench/results/<name>.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, machine

HERE = Path(__file__).parent
ASKED_FOR = frozenset(
    {"peer_budget", "detection", "experiment", "knapsack", "orders", "regret", "retreat", "routing", "tuning"}
)
"""Benchmarks that run only where they are named: an environment of their own, or half an hour, is needed."""


def benchmarks() -> list[str]:
    """Names of all benchmarks: ``bench_<name>.py`` in this folder."""
    return sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))


def main() -> int:
    """Run the benchmarks asked for; exit 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which to run (default all but {', '.join(ASKED_FOR)}): {', '.join(benchmarks())}",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON at the end")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(benchmarks()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(benchmarks())}")
    print(f"# {machine()}", flush=True)
    failed = []
    for name in arguments.names or [name for name in benchmarks() if name not in ASKED_FOR]:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"bench_{name}.py")], check=False).returncode:
            failed.append(name)
    if arguments.json:
        print(json.dumps([json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))], indent=2))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
