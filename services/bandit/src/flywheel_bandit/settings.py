"""Settings of the bandit, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.stream import StageSettings
from flywheel_bandit.core import JoinSettings


class BanditSettings(StageSettings):
    """What an operator can change; see the service's page."""

    service: ClassVar[str] = "bandit"

    ops_port: int | None = Field(8085, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    idle_s: float = Field(
        300.0, ge=0, description="A topic this many seconds of event time behind the others holds no window open."
    )
    grace_s: float = Field(
        3_600.0, ge=0, description="Seconds of event time a request is kept after its window, for late parts."
    )
    skew_s: float = Field(
        86_400.0, ge=0, description="Seconds of event time longer, while one of the topics lags or is idle."
    )
    unclaimed_s: float = Field(
        86_400.0, gt=0, description="Seconds of event time parts wait for a decision, and decisions for a charter."
    )
    max_future_s: float = Field(
        3_600.0, ge=0, description="Seconds an event may lie ahead of its Kafka record before it is refused."
    )

    @property
    def join(self) -> JoinSettings:
        """The part of them that stage 1 needs."""
        return JoinSettings(
            idle_s=self.idle_s,
            grace_s=self.grace_s,
            skew_s=self.skew_s,
            unclaimed_s=self.unclaimed_s,
            max_future_s=self.max_future_s,
        )
