"""Usage as an emitter reported it, to buckets that do not overlap.

Every provider and SDK counts in its own way: some put cached tokens inside the input figure, some beside it. Which of
the two is a property of the emitter, so it travels with the call (``usage_convention``), and is applied once, here.
Nothing is guessed: a figure that cannot be told is None, a contradiction is a flag, and no bucket is ever negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, cast

Convention = Literal["UNKNOWN", "INCLUSIVE", "EXCLUSIVE"]
Tokens = int | None


class Buckets(NamedTuple):
    """Disjoint token counts: every token is in one bucket. None: not known; 0: known to be none."""

    uncached_input_tokens: Tokens = None
    cache_read_tokens: Tokens = None
    cache_write_5m_tokens: Tokens = None
    cache_write_1h_tokens: Tokens = None
    visible_output_tokens: Tokens = None
    reasoning_tokens: Tokens = None
    audio_input_tokens: Tokens = None
    audio_output_tokens: Tokens = None
    image_input_tokens: Tokens = None
    video_input_tokens: Tokens = None
    image_output_tokens: Tokens = None
    video_output_tokens: Tokens = None
    audio_cache_read_tokens: Tokens = None
    image_cache_read_tokens: Tokens = None
    web_searches: Tokens = None
    """Searches, not tokens: billed by the piece beside the tokens, and part of no total."""


BUCKETS: Final = Buckets._fields
"""Each is a field of a call's event (``llm_call`` version 2)."""

_REPORTED: Final = ("input_tokens", "output_tokens", *BUCKETS)


class Split(NamedTuple):
    """What ``split_usage`` found.

    ``input_tokens`` and ``output_tokens`` are totals that include every bucket of their side. ``priceable`` is False
    where pricing the buckets would charge for a guess; ``flags`` then says why.
    """

    buckets: Buckets
    input_tokens: Tokens
    output_tokens: Tokens
    flags: tuple[str, ...]
    priceable: bool


_Side = tuple[Tokens, Tokens, str | None]
"""The rest, the total, and what contradicts."""

MOST_TOKENS: Final = 10**12
"""More than this in one call is not a count; it also keeps a cost within the 28 digits of its field."""

_NO_COUNTS: Final = (None,) * len(_REPORTED)
_NOTHING: Final = Split(Buckets(), None, None, ("usage_missing",), False)


def split_usage(reported: Mapping[str, object], convention: Convention = "UNKNOWN") -> Split:
    """Split reported token counts into disjoint buckets.

    ``reported`` may hold ``input_tokens``, ``output_tokens`` and any bucket by its name; other keys are ignored. Cached
    and cache-written tokens lie inside ``input_tokens`` under INCLUSIVE and beside it under EXCLUSIVE; audio, image and
    video tokens lie inside ``input_tokens``, reasoning, audio, image and video inside ``output_tokens``, under both (so
    do OpenAI and Anthropic report them; OTel GenAI semantic conventions, 2026).

    Flags: ``usage_missing`` nothing was counted · ``usage_convention_unknown`` cached tokens and no word on whether
    the input includes them · ``usage_convention_deduced`` UNKNOWN, but more cached than input, so only EXCLUSIVE fits ·
    ``cache_exceeds_input``, ``input_parts_exceed_total``, ``output_parts_exceed_total`` parts larger than their whole ·
    ``input_parts_differ_from_total``, ``output_parts_differ_from_total`` a rest was reported that does not fit ·
    ``negative_<field>``, ``implausible_<field>`` and ``not_an_integer_<field>`` a count that is none.
    """
    counts = tuple(map(reported.get, _REPORTED))
    for count in counts:
        if count is not None and (type(count) is not int or not 0 <= count <= MOST_TOKENS):
            return Split(Buckets(), None, None, _not_counts(counts), False)
    return _split(cast("tuple[Tokens, ...]", counts), convention)


def _split(counts: tuple[Tokens, ...], convention: Convention) -> Split:
    if counts == _NO_COUNTS:
        return _NOTHING
    total_in, total_out, uncached, read, write_5m, write_1h, visible, reasoning, *others = counts
    audio_in, audio_out, image_in, video_in, image_out, video_out, audio_read, image_read, _ = others
    inside = (audio_in or 0) + (image_in or 0) + (video_in or 0)
    cached = (read or 0) + (write_5m or 0) + (write_1h or 0) + (audio_read or 0) + (image_read or 0)
    flags: tuple[str, ...] = ()
    if cached and total_in is not None:
        if convention == "UNKNOWN":
            convention, flags = _deduce(total_in, uncached, cached, inside)
        uncached, total_in, left = _cached_side(total_in, uncached, cached, inside, convention=convention)
    else:
        uncached, total_in, left = _side(total_in, uncached, cached + inside, "input")
    parts = (reasoning or 0) + (audio_out or 0) + (image_out or 0) + (video_out or 0)
    visible, total_out, right = _side(total_out, visible, parts, "output")
    priceable = left is None and right is None
    if not priceable:
        flags += tuple(flag for flag in (left, right) if flag is not None)
    buckets = Buckets(uncached, read, write_5m, write_1h, visible, reasoning, *others)
    return Split(buckets, total_in, total_out, flags, priceable)


def _side(total: Tokens, rest: Tokens, parts: int, name: str) -> _Side:
    """What is left of one side once its parts are taken out of the total."""
    if total is None:
        return rest, None if rest is None else rest + parts, None
    if parts > total:
        return None, None, f"{name}_parts_exceed_total"
    if rest is None:
        return total - parts, total, None
    if rest + parts != total:
        return None, None, f"{name}_parts_differ_from_total"
    return rest, total, None


def _cached_side(total: int, uncached: Tokens, cached: int, inside: int, *, convention: Convention) -> _Side:
    if convention == "UNKNOWN":
        return None, None, "usage_convention_unknown"
    if convention == "EXCLUSIVE":
        total += cached
    elif cached > total:
        return None, None, "cache_exceeds_input"
    return _side(total, uncached, cached + inside, "input")


def _deduce(total: int, uncached: Tokens, cached: int, inside: int) -> tuple[Convention, tuple[str, ...]]:
    """The only convention under which the figures fit, or UNKNOWN where both or neither do."""
    if uncached is None:
        return ("EXCLUSIVE", ("usage_convention_deduced",)) if cached > total else ("UNKNOWN", ())
    if uncached + cached + inside == total:
        return "INCLUSIVE", ()
    return ("EXCLUSIVE" if uncached + inside == total else "UNKNOWN"), ()


def _not_counts(counts: tuple[object, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for at, count in enumerate(counts):
        if count is None:
            continue
        if type(count) is not int:
            found.append(f"not_an_integer_{_REPORTED[at]}")
        elif count < 0:
            found.append(f"negative_{_REPORTED[at]}")
        elif count > MOST_TOKENS:
            found.append(f"implausible_{_REPORTED[at]}")
    return tuple(found)
