"""Settings of the monitor, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.observe import ServiceSettings
from flywheel_monitor.core.alerting import Terms


class MonitorSettings(ServiceSettings):
    """What an operator can change; see the service's page. Objectives are declared in charters."""

    service: ClassVar[str] = "monitor"

    port: int = Field(8093, ge=0, le=65535, description="Port of /v1/slis and /v1/slos; 0: a free one.")
    ops_port: int | None = Field(8094, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    group: str = Field(
        "flywheel", min_length=1, pattern="^[A-Za-z0-9._-]+$",
        description="Front of the Faust app's id; another one has tables of its own and reads the log anew.",
    )  # fmt: skip
    batch_records: int = Field(1_000, ge=1, le=100_000, description="Most records in one batch of an agent.")
    batch_within_s: float = Field(1.0, gt=0, le=60, description="Longest wait of a batch for records, in seconds.")
    tick_s: float = Field(5.0, gt=0, le=600, description="Seconds between two looks at the burn rates.")
    most_series: int = Field(200, ge=1, le=10_000, description="Features and arms with windows of their own.")
    most_series_of_project: int = Field(100, ge=1, le=10_000, description="The same, of one project.")
    least_bad: int = Field(5, ge=1, le=1_000_000, description="Fewest bad events that an alert can begin with.")
    quiet_s: float = Field(
        120.0, ge=0, le=86_400, description="Seconds for which no rule may hold before an alert is over."
    )
    recover_within_s: float = Field(
        600.0,
        gt=0,
        description="Seconds in which the tables must be read from their changelogs; else the process exits.",
    )
    replication: int = Field(1, ge=1, le=15, description="Replicas of each partition of the tables' changelogs.")

    @property
    def terms(self) -> Terms:
        """When alerts begin and end."""
        return Terms(least_bad=self.least_bad, quiet_us=round(self.quiet_s * 1_000_000))
