"""Settings of the notifier, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from flywheel.stream import StageSettings


class NotifierSettings(StageSettings):
    """What an operator can change; see the service's page. Where alerts go is declared in a file."""

    service: ClassVar[str] = "notifier"

    ops_port: int | None = Field(8095, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    destinations_file: Path | None = Field(
        None, description="YAML of where alerts are sent, read at the start; absent: nowhere."
    )
    batch_records: int = Field(1_000, ge=1, le=100_000, description="Most records in one batch.")
    tick_s: float = Field(1.0, gt=0, le=60, description="Seconds between two looks at what is to be sent.")
    wait_s: float = Field(
        10.0, ge=0, le=3600, description="So long an alert waits for others of its feature, to be sent with them."
    )
    settle_s: float = Field(
        60.0, ge=0, le=3600, description="So long an alert must stay resolved before that is sent; what fires goes on."
    )
    forget_s: float = Field(
        172_800.0, gt=0, description="An alert that is not heard of for so long is forgotten; so is one long resolved."
    )
    give_up_s: float = Field(
        86_400.0, gt=0, description="A message that is not taken for so long is made anew from how its alerts stand."
    )
    most_alerts: int = Field(
        10_000, ge=1, le=1_000_000, description="Most alerts held; those not heard of for longest go first."
    )
    most_waiting: int = Field(
        100, ge=1, le=10_000, description="Most messages that wait for one destination; the rest is made then."
    )
