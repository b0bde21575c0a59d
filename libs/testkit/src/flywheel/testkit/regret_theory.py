"""What theory says a policy may lose: bounds on expected regret for arms of fixed mean rewards in [0, 1].

``means`` (K,): expected rewards; a gap ``Δ`` is what an arm earns less than the best. All bounds add up over the worse
arms, of each at most ``rounds · Δ``, which nobody can exceed. ``stale``: rounds that may pass before a reward is
learned, by delay and by batches: each worse arm may be tried as often before its bound moves, so ``Δ · stale`` is added
(Joulani, György and Szepesvári, 2013). ``told``: share of rewards that are ever told; tries count as far as they are,
so what grows with the rounds is over it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gaps(means: Array) -> Array:
    """Return the gaps of the worse arms, at most (K - 1,)."""
    found = means.max() - means
    return np.asarray(found[found > 0])


def ucb1_bound(means: Array, rounds: int, *, stale: int = 0, told: float = 1.0) -> float:
    """Return ``Σ 8 ln T / Δ + (1 + π²/3) Δ`` (Auer, Cesa-Bianchi and Fischer, 2002, theorem 1)."""
    gap = gaps(means)
    return _capped(8 * math.log(rounds) / gap / told + (1 + math.pi**2 / 3) * gap, gap, rounds, stale)


def ucb_v_bound(means: Array, rounds: int, *, stale: int = 0, told: float = 1.0) -> float:
    """Return ``10 Σ (σ²/Δ + 2) ln T``, σ² of Bernoulli rewards (Audibert, Munos and Szepesvári, 2009, theorem 4, for
    exploration 1.2 ln T and c = 1)."""
    gap, worse = gaps(means), means[means < means.max()]
    return _capped(10 * (worse * (1 - worse) / gap + 2) * math.log(rounds) / told, gap, rounds, stale)


def lai_robbins(means: Array, rounds: int, *, stale: int = 0, told: float = 1.0) -> float:
    """Return ``Σ Δ ln T / kl(μ, μ*)`` of Bernoulli rewards: what no consistent policy stays below in the long run (Lai
    and Robbins, 1985), and Thompson sampling reaches, times any 1 + ε and plus a constant (Agrawal and Goyal, 2013;
    Kaufmann, Korda and Munos, 2012)."""
    gap, worse, best = gaps(means), means[means < means.max()], float(means.max())
    divergence = worse * np.log(worse / best) + (1 - worse) * np.log((1 - worse) / (1 - best))
    return _capped(gap * math.log(rounds) / divergence / told, gap, rounds, stale)


def _capped(grows: Array, gap: Array, rounds: int, stale: int) -> float:
    return float(np.minimum(grows + stale * gap, rounds * gap).sum())
