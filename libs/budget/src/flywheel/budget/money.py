"""Money: integer picodollars inside, ``Decimal`` US dollars on the wire; exact both ways."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

PICO: Final = 10**12
"""Picodollars in a dollar; the scale of every ``…_usd`` decimal on the wire."""

_WIDE: Final = Context(prec=64)


def usd(pico: int) -> Decimal:
    """Picodollars as US dollars."""
    return Decimal(pico).scaleb(-12, _WIDE)


def pico_of(usd: Decimal) -> int:
    """US dollars as picodollars.

    Raises:
        ValueError: finer than a picodollar, or not a number.
    """
    if not usd.is_finite():
        raise ValueError(f"{usd} is not an amount of money")
    scaled = usd.scaleb(12, _WIDE)
    pico = int(scaled)
    if pico != scaled:
        raise ValueError(f"{usd} is finer than a picodollar")
    return pico
