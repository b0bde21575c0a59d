"""What is measured of calls, decisions and scores, and which kind of alert a change of it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Final, Literal

Worse = Literal["up", "down", "either"]
SCORE: Final = "score:"
ARM_SHARE: Final = "arm_share:"
GOLDEN: Final = "golden:"
JUDGE_DRIFT: Final = "judge_drift"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing measured.

    ``kind`` is that of alerts about it, the names the controller's rules answer. ``worse``: the direction in which a
    change is one; the other way nobody is told. ``least``: where the logarithm is watched, because what is asked is
    by which factor it changed, smaller values count as this; None where the value itself is. ``zero``: the value that
    stands for 0, as observations are never below it.
    """

    name: str
    kind: str
    worse: Worse
    unit: str = ""
    least: float | None = None
    zero: float = 0.0

    def watched(self, value: float) -> float:
        """The figure that detectors are fed."""
        return value if self.least is None else log(max(value, self.least))

    def shown(self, figure: float) -> float:
        """A mean of figures in the measure's own unit: of logarithms the geometric mean."""
        return figure - self.zero if self.least is None else exp(min(figure, 700.0))

    def is_worse(self, expected: float, observed: float) -> bool:
        """Whether a change from one figure to the other is one to tell of."""
        if self.worse == "either":
            return observed != expected
        return observed > expected if self.worse == "up" else observed < expected


_NAMED: Final = {
    measure.name: measure
    for measure in (
        Measure("error_rate", "error_rate", "up"),
        Measure("refusal_rate", "refusal_rate", "up"),
        Measure("latency_ms", "latency", "up", "ms", 0.001),
        Measure("ttft_ms", "latency", "up", "ms", 0.001),
        Measure("cost_usd", "cost_per_call", "up", "USD", 1e-9),
        Measure("input_tokens", "drift", "either", "tokens", 1.0),
        Measure("output_tokens", "drift", "either", "tokens", 1.0),
        Measure("cache_share", "drift", "down"),
    )
}


def measure_of(name: str) -> Measure:
    """The measure of a name; of ``score:…``, ``golden:…`` and ``arm_share:…`` there are as many as evaluators and arms.
    Of golden probes it is what a score lies above the known one."""
    if name.startswith(SCORE):
        return Measure(name, "quality", "down")
    if name.startswith(ARM_SHARE):
        return Measure(name, "arm_share", "either")
    if name.startswith(GOLDEN):
        return Measure(name, JUDGE_DRIFT, "either", zero=1.0)
    return _NAMED[name]


def is_measure(name: str) -> bool:
    """Whether there is such a measure."""
    return name in _NAMED or name.startswith((SCORE, ARM_SHARE, GOLDEN))
