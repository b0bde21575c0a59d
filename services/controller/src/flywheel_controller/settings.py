"""Settings of the controller, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.stream import StageSettings


class ControllerSettings(StageSettings):
    """What an operator can change; see the service's page. What is done about which alert is declared in rules."""

    service: ClassVar[str] = "controller"

    ops_port: int | None = Field(8091, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    batch_records: int = Field(1_000, ge=1, le=100_000, description="Most records in one batch of a stage.")
    tick_s: float = Field(
        5.0, gt=0, le=600, description="Seconds between two entries of the time; judging is as fine as this."
    )
