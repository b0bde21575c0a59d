"""Settings of the controller, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.observe import ServiceSettings


class ControllerSettings(ServiceSettings):
    """What an operator can change; see the service's page. What is done about which alert is declared in rules."""

    service: ClassVar[str] = "controller"

    ops_port: int | None = Field(8091, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    group: str = Field(
        "flywheel", min_length=1, description="Front of the consumer groups' names; another one reads the log anew."
    )
    batch_records: int = Field(1_000, ge=1, le=100_000, description="Most records in one batch of a stage.")
    poll_ms: int = Field(50, ge=1, le=10_000, description="Longest wait for records, in milliseconds.")
    tick_s: float = Field(
        5.0, gt=0, le=600, description="Seconds between two entries of the time; judging is as fine as this."
    )
