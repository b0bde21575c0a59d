"""Money as whole numbers: a picodollar is 1e-12 US dollars, the last place of ``decimal(28, 12)`` in the schemas."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

PICO_PER_USD: Final = 10**12
_SCALE: Final = 12


def to_pico(usd: Decimal) -> int:
    """Return an amount of US dollars in picodollars.

    Raises:
        ValueError: it is not finite, or has more than 12 decimal places.
    """
    if not usd.is_finite():
        raise ValueError(f"{usd} is not an amount of money")
    numerator, denominator = usd.as_integer_ratio()
    pico, rest = divmod(numerator * PICO_PER_USD, denominator)
    if rest:
        raise ValueError(f"{usd} has more than {_SCALE} decimal places")
    return pico


def to_usd(pico: int) -> Decimal:
    """Return picodollars as US dollars, exactly."""
    sign, digits = (1, -pico) if pico < 0 else (0, pico)
    return Decimal((sign, tuple(map(int, str(digits))), -_SCALE))
