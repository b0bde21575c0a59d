"""Settings of the detector, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flywheel.stream import StageSettings
from flywheel_detector.core import AlertTerms, DetectSettings, IntakeSettings


class DetectorSettings(StageSettings):
    """What an operator can change; see the service's page. Nothing of it needs tuning per series."""

    service: ClassVar[str] = "detector"

    ops_port: int | None = Field(8092, ge=0, le=65535, description="Port of /live, /ready and /metrics; 0: a free one.")
    tick_s: float = Field(5.0, gt=0, le=600, description="Seconds between two entries of the time.")
    false_alarms_per_day: float = Field(
        1.0, gt=0, le=1e6, description="False alarms a day that are tolerated, over all series together."
    )
    window_s: float = Field(10.0, ge=0.1, le=3600, description="Seconds of event time whose observations are one.")
    warm_up: int = Field(256, ge=64, le=100_000, description="Observations of a series that only teach.")
    max_series: int = Field(1_000, ge=1, le=1_000_000, description="Most series of a shard; the oldest go.")
    resolve_s: float = Field(120.0, gt=0, description="Seconds a series must be back at its level to be over it.")
    quiet_s: float = Field(300.0, gt=0, description="Seconds without data after which nothing fires any more.")
    repeat_s: float = Field(120.0, gt=0, description="Least seconds between two reports of an alert.")
    accept_s: float = Field(86_400.0, gt=0, description="Seconds after which a new level is the normal one.")
    remember_s: float = Field(21_600.0, gt=0, description="Seconds of event time a request is known.")
    max_future_s: float = Field(
        300.0, ge=0, description="Seconds a fact may lie ahead of its Kafka record before it is refused."
    )

    @property
    def intake(self) -> IntakeSettings:
        """The part of them that stage 1 needs."""
        return IntakeSettings(remember_s=self.remember_s, max_future_s=self.max_future_s)

    @property
    def detect(self) -> DetectSettings:
        """The part of them that stage 2 needs."""
        terms = AlertTerms(
            resolve_us=round(self.resolve_s * 1e6),
            quiet_us=round(self.quiet_s * 1e6),
            repeat_us=round(self.repeat_s * 1e6),
            accept_us=round(self.accept_s * 1e6),
        )
        return DetectSettings(
            false_alarms_per_day=self.false_alarms_per_day,
            window_s=self.window_s,
            grace_s=self.window_s,
            most_series=self.max_series,
            warm_up=self.warm_up,
            alerts=terms,
        )
