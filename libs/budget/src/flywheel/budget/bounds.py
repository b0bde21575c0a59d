"""The most that one call can cost. Pure, but for the price tables it is given.

A call's cost is at most the bound on its input tokens at the dearest input rate plus the cap on its output tokens at
the dearest output rate, plus what a request costs. "Dearest" is over the buckets a token may be counted in (a cache
write may cost twice plain input, a reasoning token more than a visible one), over the long-context tiers that so much
input may reach, and over every price in force from the beginning of the day until the end of the next, as the call
comes after the decision. Rates are rounded up to whole picodollars a token.

Not in the bound, as nothing in a request limits them: web searches billed by the piece. A model that is billed by the
time of a pool, or that has no price, has no bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from flywheel.budget.money import PICO_PER_USD
from flywheel.pricing import BUCKETS, PriceBook, RateCard, Rates
from flywheel.pricing.book import special

DEFAULT_INPUT_TOKENS: Final = 1_048_576
"""Input bound of a call that tells none under a budget that declares none: the longest context usually sold."""
DEFAULT_OUTPUT_TOKENS: Final = 4096
"""Output cap of a call that names none under a budget that declares none; the caller is told it."""
CAP_PARAMS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names under which an arm's parameters may cap the output."""

_DAY_US: Final = 86_400_000_000
_STEP_US: Final = 1_800_000_000
_TEXT_INPUT: Final = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_INPUT: Final = (
    *_TEXT_INPUT, "audio_input_tokens", "image_input_tokens", "video_input_tokens", "audio_cache_read_tokens",
    "image_cache_read_tokens",
)  # fmt: skip
_OUTPUT: Final = (
    "visible_output_tokens", "reasoning_tokens", "audio_output_tokens", "image_output_tokens", "video_output_tokens",
)  # fmt: skip
_PRICED_BY: Final = ("service_tier", "processing", "speed", "inference_geo")
_MOST_KEPT: Final = 4096


class CallSize(NamedTuple):
    """What a caller tells of the size of a call; None: not told. ``input_bytes``: of text, in UTF-8, whose tokens are
    at least a byte each."""

    input_tokens: int | None = None
    input_bytes: int | None = None
    max_tokens: int | None = None


class Limits(NamedTuple):
    """What budgets say about the size of a call (the tightest of all that hold); None: nothing."""

    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    min_output_tokens: int | None = None


class BoundRates(NamedTuple):
    """Picodollars: per token of input (of text alone, of anything) and of output, and per request.

    ``above`` are the same for more than so many input tokens, from the largest threshold down.
    """

    text_input: int
    any_input: int
    output: int
    request: int
    above: tuple[tuple[int, BoundRates], ...] = ()

    def reached(self, input_tokens: int) -> BoundRates:
        """The rates that hold for at most so many input tokens."""
        for start, rates in self.above:
            if input_tokens > start:
                return rates
        return self


class CallBound(NamedTuple):
    """The most a call may cost: ``fixed_pico`` for its input and the request, ``per_token_pico`` a token of output."""

    fixed_pico: int
    per_token_pico: int
    input_tokens: int
    most_tokens: int
    least_tokens: int
    least_pico: int
    """The bound with the smallest cap that is still of use."""

    def pico(self, output_tokens: int) -> int:
        """The bound with that cap on the output."""
        return self.fixed_pico + self.per_token_pico * output_tokens

    def tokens_for(self, room_pico: int) -> int:
        """The largest useful cap that ``room_pico`` pays for, below ``least_tokens`` where it pays for none."""
        if not self.per_token_pico:
            return self.most_tokens if self.fixed_pico <= room_pico else -1
        return min(self.most_tokens, (room_pico - self.fixed_pico) // self.per_token_pico)


class Bounds:
    """Bounds by a price book, kept per model, tier and day; asking for one that is kept costs about a microsecond."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._kept: dict[tuple[str, tuple[tuple[str, str], ...], int], BoundRates | None] = {}

    def rates(self, model: str | None, params: Mapping[str, str], at_us: int) -> BoundRates | None:
        """The dearest rates of ``provider/model`` about ``at_us``; None where something that costs has no price.

        ``params`` are the arm's parameters as JSON texts: a service tier is sold at prices of its own.
        """
        if not model:
            return None
        tier = tuple((name, _text(params[name])) for name in _PRICED_BY if name in params)
        key = (model, tier, at_us // _DAY_US)
        if key not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept = {}
            self._kept[key] = self._read(model, tier, at_us // _DAY_US * _DAY_US)
        return self._kept[key]

    def _read(self, model: str, tier: tuple[tuple[str, str], ...], day_us: int) -> BoundRates | None:
        provider, slash, name = model.partition("/")
        names = ((provider, name), ("litellm", model)) if slash else (("litellm", model),)
        tier = special(tier)
        cards: dict[int, RateCard] = {}
        for at_us in range(day_us, day_us + 2 * _DAY_US, _STEP_US):
            found = (self._book.card(each, called, at_us, tier) for each, called in names)
            card = next((each for each in found if each is not None), None)
            if card is None:
                return None
            cards[id(card)] = card
        return dearest(cards.values())


def dearest(cards: Iterable[RateCard]) -> BoundRates | None:
    """The dearest rates of several cards; None where one of them cannot price a plain call."""
    cards = list(cards)
    bases = [_of(card.base) for card in cards]
    if any(card.missing for card in cards) or None in bases:
        return None
    starts = sorted({start for card in cards for start, _ in card.tiers}, reverse=True)
    above = []
    for start in starts:
        # Up to the bound the call may stay below any threshold, so what is below counts too.
        reached = [_of(rates) for card in cards for threshold, rates in card.tiers if threshold <= start]
        if None in reached:
            return None
        above.append((start, _most([*bases, *reached])))
    return _most(bases)._replace(above=tuple(above))


def bound_of(rates: BoundRates, size: CallSize, limits: Limits, arm_cap: int | None) -> CallBound:
    """The bound of a call: what the caller tells first, then the arm's own cap, then what the budgets declare.

    ``least_tokens`` is never above ``most_tokens``: a caller may ask for less than a budget finds useful.
    """
    most = min(
        (cap for cap in (size.max_tokens, arm_cap, limits.max_output_tokens) if cap is not None),
        default=DEFAULT_OUTPUT_TOKENS,
    )
    least = most if limits.min_output_tokens is None else min(limits.min_output_tokens, most)
    text = False
    if size.input_tokens is not None:
        tokens = size.input_tokens
    elif size.input_bytes is not None:
        tokens, text = size.input_bytes, True
    elif limits.max_input_tokens is not None:
        tokens = limits.max_input_tokens
    else:
        tokens = DEFAULT_INPUT_TOKENS
    if rates.above:
        rates = rates.reached(tokens)
    per_input = rates.text_input if text else rates.any_input
    fixed = rates.request + per_input * tokens
    return CallBound(fixed, rates.output, tokens, most, least, fixed + rates.output * least)


def bound_of_both(first: CallBound, second: CallBound) -> CallBound:
    """The bound of two calls about one request, each with the same cap on its output."""
    fixed, per_token = first.fixed_pico + second.fixed_pico, first.per_token_pico + second.per_token_pico
    least = max(first.least_tokens, second.least_tokens)
    return CallBound(
        fixed_pico=fixed,
        per_token_pico=per_token,
        input_tokens=max(first.input_tokens, second.input_tokens),
        most_tokens=max(first.most_tokens, second.most_tokens),
        least_tokens=least,
        least_pico=fixed + per_token * least,
    )


def arm_cap(params: Mapping[str, str]) -> int | None:
    """The smallest cap on the output among an arm's parameters (JSON texts); None: it has none."""
    found = [_whole(params[name]) for name in CAP_PARAMS if name in params]
    return min((cap for cap in found if cap is not None), default=None)


def tightest(limits: Iterable[Limits]) -> Limits:
    """What several budgets say together: the largest input to reckon with, the smallest cap, the largest least."""
    inputs, caps, leasts = [], [], []
    for each in limits:
        inputs.append(each.max_input_tokens)
        caps.append(each.max_output_tokens)
        leasts.append(each.min_output_tokens)
    told = [each for each in inputs if each is not None]
    capped = [each for each in caps if each is not None]
    least = [each for each in leasts if each is not None]
    return Limits(
        max(told) if told and len(told) == len(inputs) else None,
        min(capped) if capped else None,
        max(least) if least else None,
    )


def _of(rates: Rates) -> BoundRates | None:
    usd = dict(zip(BUCKETS, rates.usd, strict=True))
    if rates.per_pool_second_usd is not None or usd["uncached_input_tokens"] is None:
        return None
    if usd["visible_output_tokens"] is None:
        return None
    return BoundRates(
        text_input=max(_pico(usd[name]) for name in _TEXT_INPUT),
        any_input=max(_pico(usd[name]) for name in _INPUT),
        output=max(_pico(usd[name]) for name in _OUTPUT),
        request=_pico(rates.per_request_usd),
    )


def _most(found: Iterable[BoundRates | None]) -> BoundRates:
    columns = zip(*(each[:4] for each in found if each is not None), strict=True)
    return BoundRates(*(max(column) for column in columns))


def _pico(usd: Decimal | None) -> int:
    return 0 if usd is None else int((usd * PICO_PER_USD).to_integral_value(ROUND_CEILING))


def _text(value: str) -> str:
    """A parameter's text from its JSON text; what is no text stands as it is written, and has no price."""
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, str) else value


@lru_cache(1024)  # an arm's parameters are read for every call of it
def _whole(value: str) -> int | None:
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if type(found) is int and found >= 0 else None
