"""What is declared of one emitter, and what several share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flywheel.pricing.buckets import Convention


@dataclass(frozen=True, slots=True)
class Emitter:
    """One way to report usage.

    ``cached``: whether ``input`` includes cached tokens. ``reasoning_beside``: reasoning is not part of ``output``.
    ``modal_cache``: counts of audio and images include cached ones. ``loose_total``: the total may leave out what is
    beside. ``prefixes``: only keys under these are usage. ``ignored``: paths, or beginnings that end in a dot, that say
    nothing about money or say it again.
    """

    name: str
    cached: Convention
    fields: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    reasoning_beside: bool = False
    modal_cache: bool = False
    loose_total: bool = False


def under(prefix: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Fields with a common beginning of their paths."""
    return {f"{prefix}{path}": role for path, role in fields.items()}


CACHE_LIFETIMES: Final = {"ephemeral_5m_input_tokens": "cache_write_5m", "ephemeral_1h_input_tokens": "cache_write_1h"}
