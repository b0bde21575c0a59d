"""What every benchmark shares: a result with its baseline, written where results live, and a table of them."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside one measured in the same run; machines differ, ratios less."""

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str
    command: str
    note: str = ""

    @property
    def ratio(self) -> float:
        """``value`` over ``baseline``, both in ``unit``."""
        return self.value / self.baseline if self.baseline else math.nan


def machine() -> str:
    """The machine in words: processor, cores, memory, Python; nothing that names a host."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo.open() if line.startswith("model name")), model)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least ``share`` (0 to 1) of all values at or below it (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def write(result: Result) -> Path:
    """Write a result as ``results/<name>.json`` and say so on standard output."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result.name}.json"
    body = asdict(result) | {"ratio": result.ratio, "machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    path.write_text(json.dumps({k: v for k, v in body.items() if v != ""}, indent=2) + "\n")
    print(
        f"{result.name:34s} {result.value:12,.1f} {result.unit:10s} "
        f"{result.ratio:7.3f} x {result.baseline_name} ({result.baseline:,.1f})",
        flush=True,
    )
    return path
