"""The shell around the core: counting what comes out."""

from __future__ import annotations

from flywheel.observe import Metrics
from flywheel.stream import Output


def count_output(metrics: Metrics, output: Output) -> None:
    """Count what comes out."""
    if output.event == "alert":
        metrics.count("detector_alerts_total", 1, kind=output.value["kind"], state=output.value["state"])
