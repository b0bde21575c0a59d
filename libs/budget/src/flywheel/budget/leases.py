"""What holders of leases and the guard say to each other, and what a decision reserves. Values, integer picodollars."""

from __future__ import annotations

from typing import Final, NamedTuple

CLOSING_SEQ: Final = 1 << 62
"""``seq`` of the request that closes an account: above any other."""


class Reservation(NamedTuple):
    """Part of one account that one call may use; ``account`` and ``cumulative_pico`` together are its identity."""

    instance: str
    window: str
    account: str
    bound_pico: int
    cumulative_pico: int


class Lease(NamedTuple):
    """The guard's answer to request ``seq`` of an account.

    ``lasts_s`` is until its window ends, None: it does not; ``next_window`` names the one after it, empty: not known.
    """

    account: str
    seq: int
    granted_pico: int
    window: str
    window_end_us: int | None
    lasts_s: float | None
    ttl_s: float
    next_window: str = ""
    closed: bool = False
    scarce: bool = False
    exhausted: bool = False
    reason: str = ""


class LeaseRequest(NamedTuple):
    """What the holder tells the guard about one account. Equal ``seq``, equal content."""

    account: str
    instance: str
    window: str
    seq: int
    reserved_pico: int
    limit_wanted_pico: int
    need_pico: int
    closing: bool


class Left(NamedTuple):
    """An account of a life that is over: to be closed with what it had reserved."""

    account: str
    instance: str
    reserved_pico: int
    window: str = ""


class Standing(NamedTuple):
    """What is known of an instance that could not pay: ``exhausted`` as the guard said, and when its window ends."""

    exhausted: bool
    window_end_us: int | None
