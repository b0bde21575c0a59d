"""Change detection with a run length that is guaranteed, not simulated: an e-detector on sequential ranks."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt
from operator import mul
from statistics import NormalDist
from typing import ClassVar, Final

from flywheel.detect.bets import WEIGHTS, FewValues, shift_bets
from flywheel.detect.dependence import Overdispersion, Whitener
from flywheel.detect.ranks import GrowingReference
from flywheel.detect.state import Stateful

RUN_LENGTH: Final = 400_000.0
WARM_UP: Final = 128
FRESH: Final = 64
MOST_WEALTH: Final = 1e15
NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Change:
    """A level that changed: its mean before and since, how many observations ago it is likely to have begun (this
    one included), and the evidence M against the threshold A."""

    before: float
    since: float
    length: int
    statistic: float
    threshold: float


class ChangeDetector(Stateful):
    """Alarms when the level of a series has changed, with a mean run length to a false alarm of ``run_length`` or more.

    Each observation, less what the one before it explains, becomes a sequential rank ``u`` (``GrowingReference``):
    uniform and independent while nothing changes. Bets on a shift by δ standard deviations of the normal score
    z = Φ⁻¹(u) multiply by ``e = exp(δ z − δ² κ / 2)``, κ ≥ 1 the over-dispersion seen so far; others are on either tail
    becoming heavier. Of a series with few different values (``FewValues``) bets tilt the odds. Each e has mean at most
    1, so the Shiryaev–Roberts sums ``M ← (M + 1) e``, mixed over all bets, are e-detectors, and an alarm at ``M ≥ A``
    comes on average not before A observations and within n of them with probability at most n / A (Shin, Ramdas &
    Rinaldo 2023, theorem 2.4; Ville's inequality for M − n). Exact for independent observations of any law; for
    dependent ones as good as whitening and κ are, which the benchmark measures.

    An alarm makes the detector forget: what comes next is the new normal. Its first ``warm_up`` only teach. κ is
    ``allowance`` at least.
    """

    __slots__ = (
        "allowance",
        "count",
        "cusums",
        "dispersion",
        "factors",
        "few",
        "reference",
        "run_length",
        "salt",
        "score",
        "starts",
        "sums",
        "total",
        "warm_up",
        "wealth",
        "whitener",
    )
    PARTS: ClassVar = {
        "dispersion": Overdispersion,
        "few": FewValues,
        "reference": GrowingReference,
        "whitener": Whitener,
    }

    def __init__(
        self, *, run_length: float = RUN_LENGTH, warm_up: int = WARM_UP, salt: str = "", allowance: float = 1.0
    ) -> None:
        self.run_length = run_length
        self.warm_up = warm_up
        self.salt = salt
        self.allowance = allowance
        self.forget()

    def forget(self) -> None:
        """Start anew: what comes next is the normal state of things."""
        self.reference = GrowingReference(self.salt)
        self.whitener, self.dispersion, self.few = Whitener(), Overdispersion(), FewValues()
        self.factors: list[float] = [self.allowance] * 2
        self.score = 0.0
        self.count = 0
        self.total = 0.0
        self.wealth: list[float] = [0.0] * len(WEIGHTS)
        self.cusums: list[float] = [0.0] * len(WEIGHTS)
        self.starts: list[int] = [0] * len(WEIGHTS)
        self.sums: list[float] = [0.0] * len(WEIGHTS)

    def update(self, value: float) -> Change | None:
        """Take in an observation, a finite number; the change, if this one completed the evidence of one."""
        few = self.few.holds
        kept = value if few else self.whitener.innovation(value)
        rank = min(max(self.reference.place(kept), 1e-12), 1.0 - 1e-12)
        score = self.score = NORMAL.inv_cdf(rank)
        if self.count >= self.warm_up:
            logs = self.few.logs(rank, self.factors[0]) if few else shift_bets(rank, score, self.factors[0])
            found = self._bet(value, logs)
            if found is not None:
                self.forget()
                return found
        self._learn(value, kept, score)
        return None

    def _bet(self, value: float, logs: list[float]) -> Change | None:
        cusums, sums = self.cusums, self.sums  # most of the time goes here
        for place, (log_bet, cusum) in enumerate(zip(logs, cusums, strict=True)):
            # Where a change began is told by Page's CUSUM of the same bet: the sum M forgets a start only slowly.
            if cusum > 0.0:
                cusums[place] = cusum + log_bet
                sums[place] += value
            else:
                self.starts[place], sums[place], cusums[place] = self.count, value, log_bet
        self.wealth = [
            held if (held := (before + 1.0) * bet) < MOST_WEALTH else MOST_WEALTH
            for before, bet in zip(self.wealth, map(exp, logs), strict=True)
        ]
        shares = list(map(mul, WEIGHTS, self.wealth))
        evidence = 0.0
        for share in shares:  # one after the other: what sum() rounds is not the same in every Python
            evidence += share
        if evidence < self.run_length:
            return None
        best = shares.index(max(shares))
        length = self.count + 1 - self.starts[best]
        since = self.sums[best]
        before = (self.total + value - since) / max(self.count + 1 - length, 1)
        return Change(before, since / length, length, evidence, self.run_length)

    def _learn(self, value: float, kept: float, score: float) -> None:
        was_few = self.few.holds
        self.few.learn(value)
        if was_few and not self.few.holds:
            self._restart_reference()
        else:
            self.reference.learn(kept)
        if was_few and self.whitener.squares > 0.0:
            score = (value - self.whitener.mean) / sqrt(self.whitener.squares / self.whitener.count)
        self.whitener.learn(value)
        self.dispersion.learn(score)
        self.count += 1
        self.total += value
        if self.count % FRESH == 0:
            # One interval late, so that a change under way does not talk its own evidence down.
            self.factors = [self.factors[1], max(self.dispersion.factor, self.allowance)]
        if self.count == self.warm_up:
            self.factors = [max(self.dispersion.factor, self.allowance)] * 2

    def _restart_reference(self) -> None:
        """Values turned out to be many: ranks are of innovations from here on, and bets start again."""
        total, count, whitener, few = self.total, self.count, self.whitener, self.few
        self.forget()
        self.total, self.count, self.whitener, self.few = total, min(count, self.warm_up // 2), whitener, few
