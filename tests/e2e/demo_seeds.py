"""Plays the real demo once per seed and holds each against what it must show:

- over the last 300 decisions at least 80 % go to the arm that is then better;
- the total reward beats both fixed models.

``python tests/e2e/demo_seeds.py [--seeds 1 2 3 4 5] [--per-phase N]``: one line per seed, exit code 1 when one fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEAST_SHARE = 0.8
ARM_OF = {"always_gpt4": "gpt4", "always_gpt35": "gpt35"}


def play(seed: int, per_phase: int | None) -> dict[str, Any]:
    """The ``demo.json`` of one seed."""
    with tempfile.TemporaryDirectory() as home:
        limit = ["--per-phase", str(per_phase)] if per_phase else []
        command = [sys.executable, "-m", "flywheel.cli", "demo", "--json", "--seed", str(seed), *limit]
        environ = {**os.environ, "FLYWHEEL_HOME": home}
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"seed {seed}: exit {ended.returncode}\n{ended.stderr[-3000:]}")
        document: dict[str, Any] = json.loads((Path(home) / "demo.json").read_text())
        return document


def verdict(document: dict[str, Any]) -> tuple[bool, str]:
    """Whether a result holds, and a line about it."""
    last = document["phases"][-1]
    better = max(ARM_OF, key=lambda role: last[role]["reward"])
    share = document["shares"]["last_300"][ARM_OF[better]]
    total = {role: sum(phase[role]["reward"] for phase in document["phases"]) for role in ("flywheel", *ARM_OF)}
    holds = share >= LEAST_SHARE and all(total["flywheel"] > total[role] for role in ARM_OF)
    rewards = ", ".join(f"{role} {reward:.1f}" for role, reward in total.items())
    return holds, f"last 300: {share:.1%} to {ARM_OF[better]}; total reward: {rewards}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--per-phase", type=int)
    arguments = parser.parse_args()
    failed = 0
    for seed in arguments.seeds:
        started = time.monotonic()
        document = play(seed, arguments.per_phase)
        holds, line = verdict(document)
        failed += not holds
        print(f"seed {seed}: {'holds' if holds else 'FAILS'}; {line}; {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
