"""Settings of the budget service, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.stream import StageSettings
from flywheel_budget.core import GuardSettings, SpendSettings


class BudgetSettings(StageSettings):
    """What an operator can change; see the service's page."""

    service: ClassVar[str] = "budget"

    ops_port: int | None = Field(8087, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    poll_ms: int = Field(10, ge=1, le=10_000, description="Longest wait for records, in milliseconds.")
    remember_s: float = Field(
        86_400.0, gt=0, description="Seconds of event time a request is known, so that repeats count once."
    )
    max_future_s: float = Field(
        3_600.0, ge=0, description="Seconds a fact may lie ahead of its Kafka record before it is refused."
    )
    tick_s: float = Field(30.0, gt=0, le=600, description="Seconds between two entries of the time.")
    lease_ttl_s: float = Field(10.0, gt=0, description="Seconds after which holders give back what lies idle.")

    @property
    def spend(self) -> SpendSettings:
        """The part of them that stage 1 needs."""
        return SpendSettings(remember_s=self.remember_s, max_future_s=self.max_future_s)

    @property
    def guard(self) -> GuardSettings:
        """The part of them that stage 2 needs."""
        return GuardSettings(ttl_s=self.lease_ttl_s)
