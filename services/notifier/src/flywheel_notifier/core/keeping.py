"""What may be forgotten, so that the notebook does not grow without bound."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.control import Silence
from flywheel_notifier.core.standing import Standing


def gone(
    alerts: Mapping[str, Standing], silences: Mapping[str, Silence], now_us: int, *, forget_us: int, most: int
) -> tuple[list[str], list[str]]:
    """Return the keys of alerts and silences to forget: alerts not heard of for ``forget_us``, of more than ``most``
    first those that are resolved and were not heard of for longest; silences that ended so long ago."""
    old = [key for key, alert in alerts.items() if now_us - alert.last_us >= forget_us]
    left = len(alerts) - len(old) - most
    if left > 0:
        known = set(old)
        rest = [key for key in alerts if key not in known]
        rest.sort(key=lambda key: (alerts[key].firing, alerts[key].last_us, key))
        old += rest[:left]
    return old, [key for key, said in silences.items() if now_us - said.ends_us >= forget_us]
