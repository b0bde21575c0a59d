"""A provider's raw usage object to disjoint buckets: normalised once, by the emitter's convention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from flywheel.pricing.buckets import BUCKETS, MOST_TOKENS, Buckets, Convention, Tokens, split_usage
from flywheel.pricing.conventions import EMITTERS
from flywheel.pricing.detecting import emitter_of
from flywheel.pricing.emitter import Emitter
from flywheel.pricing.leaves import CONFLICT, TooLarge, leaves_of, whole
from flywheel.pricing.tables import Context

_MOST_USD: Final = Decimal(1_000_000)

# An unknown key that is counted and named like these may be something billed; others (times, ids) are only reported.
_BILLABLE: Final = re.compile(r"token|cache|search|source|page|character|image|audio|video|unit", re.ASCII)
_WRAPPERS: Final = ("usage", "usageMetadata", "usage_metadata", "token_usage", "tokenUsage")
_MODAL: Final = ("audio", "image", "video")
_NO_BUCKETS: Final = Buckets()
_NOTHING_REPORTED: Final[Mapping[str, object]] = MappingProxyType({})


class EmitterUnknown(ValueError):
    """A convention of a name that nobody declared."""


class Usage(NamedTuple):
    """A call's usage, normalised.

    ``input_tokens`` and ``output_tokens`` are totals that include every bucket of their side. ``emitter`` names the
    convention by which the object was read (a key of ``EMITTERS``, None: none fits), ``convention`` whether its input
    included cached tokens. ``priceable`` is False where pricing would charge for a guess; ``flags`` then says why.
    ``unknown_keys`` were in the object and mean nothing to that convention. ``reported_cost_usd`` is a bill that the
    provider wrote into the object. ``context``: what else in it changes the price.
    """

    buckets: Buckets = _NO_BUCKETS
    input_tokens: Tokens = None
    output_tokens: Tokens = None
    emitter: str | None = None
    convention: Convention = "UNKNOWN"
    flags: tuple[str, ...] = ()
    priceable: bool = False
    unknown_keys: tuple[str, ...] = ()
    reported_cost_usd: Decimal | None = None
    context: Context = ()
    reported: Mapping[str, object] = _NOTHING_REPORTED
    """Counts as they were told, by the names of ``split_usage``, where they contradict each other."""


def counted(reported: Mapping[str, object], convention: Convention = "UNKNOWN") -> Usage:
    """A usage from counts by our own names, as ``split_usage`` takes them: what ``normalise`` gives for the emitter
    ``flywheel``, several times as fast. It records no emitter."""
    buckets, input_tokens, output_tokens, flags, priceable = split_usage(reported, convention)
    return Usage(buckets, input_tokens, output_tokens, None, convention, flags, priceable)


def normalise(
    usage: object, *, provider: str = "", emitter: str | None = None, convention: Convention | None = None
) -> Usage:
    """Split a raw usage object into disjoint buckets.

    The emitter is told by the keys unless it is named; ``convention`` overrides what that emitter does with cached
    tokens. ``provider`` matters only where two emitters spell alike. Nothing in ``usage`` raises; beside the flags of
    ``split_usage`` there are ``usage_not_an_object`` · ``usage_too_large`` · ``usage_format_unknown`` no emitter has
    these keys · ``conflicting_<role>`` two spellings of one figure differ · ``unknown_usage_key`` a key that counts
    something nobody told us how to bill · ``total_tokens_differ`` · ``cache_write_parts_differ_from_total`` ·
    ``cached_<kind>_exceeds_<kind>`` · ``cached_parts_exceed_cached`` · ``cached_modality_unknown`` audio and cached
    tokens, and no word on how many tokens are both. Three leave the call priceable: ``cost_invalid``,
    ``reasoning_convention_deduced`` the total fits only if reasoning lies on the other side of the output, and
    ``cache_write_ttl_assumed``, writes to a cache without a lifetime are taken for five minutes, the default of those
    who sell both.

    Raises:
        EmitterUnknown: ``emitter`` is no key of ``EMITTERS``.
    """
    if emitter is not None and emitter not in EMITTERS:
        raise EmitterUnknown(f"no convention is called {emitter!r}")
    if not isinstance(usage, Mapping):
        return Usage(flags=("usage_missing" if usage is None else "usage_not_an_object",))
    if len(usage) == 1:  # {"usage": {...}}, {"usageMetadata": {...}}: the object with its name
        (key, inner), *_ = usage.items()
        if key in _WRAPPERS and isinstance(inner, Mapping):
            usage = inner
    try:
        leaves = leaves_of(usage)
    except TooLarge:
        return Usage(flags=("usage_too_large",))
    name = emitter or emitter_of(frozenset(leaves), provider.lower().strip())
    if name is None:
        nothing = all(value is None for value in leaves.values())
        return Usage(
            flags=("usage_missing" if nothing else "usage_format_unknown",),
            unknown_keys=tuple(sorted(leaves)),
        )
    known = EMITTERS[name]
    reading = _Reading()
    reading.read(known, leaves)
    return reading.result(known, convention or known.cached)


@dataclass(slots=True)
class _Reading:
    counts: dict[str, int] = field(default_factory=dict)
    context: list[tuple[str, str]] = field(default_factory=list)
    money: dict[str, object] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    zeros: list[str] = field(default_factory=list)
    """Figures that are 0 unless another spelling has more."""
    wrong: list[str] = field(default_factory=list)
    """Flags that forbid a price."""

    def read(self, emitter: Emitter, leaves: Mapping[str, object]) -> None:
        for path, value in leaves.items():
            if emitter.prefixes and not path.startswith(emitter.prefixes):
                continue
            role = emitter.fields.get(path)
            if value is None or (role is None and _is_ignored(path, emitter.ignored)):
                continue
            if role is None:
                self.unknown.append(path)
                if _counts_something(value) and _BILLABLE.search(path):
                    self._is_wrong("unknown_usage_key")
            elif value is CONFLICT:
                self._is_wrong(f"conflicting_{role.rstrip('+?')}")
            else:
                self._take(role, value)
        for name in self.zeros:
            self.counts.setdefault(name, 0)

    def _take(self, role: str, value: object) -> None:
        if role.startswith("context:"):
            if isinstance(value, str):
                self.context += _told(role.removeprefix("context:"), value)
        elif role in {"cost", "byok", "upstream_cost"}:
            self.money[role] = value
        else:
            self._count(role, value)

    def _count(self, role: str, value: object) -> None:
        name = role.rstrip("+?")
        value = whole(value)
        if type(value) is not int:
            self._is_wrong(f"not_an_integer_{name}")
        elif value < 0:
            self._is_wrong(f"negative_{name}")
        elif value > MOST_TOKENS:
            self._is_wrong(f"implausible_{name}")
        elif value == 0 and role.endswith("?"):
            self.zeros.append(name)
        elif role.endswith("+"):
            self.counts[name] = self.counts.get(name, 0) + value
        elif self.counts.setdefault(name, value) != value:
            self._is_wrong(f"conflicting_{name}")

    def _is_wrong(self, flag: str) -> None:
        if flag not in self.wrong:
            self.wrong.append(flag)

    def result(self, emitter: Emitter, convention: Convention) -> Usage:
        cost, cost_flags = _bill(self.money)
        notes: list[str] = list(cost_flags)
        given: tuple[Tokens, Tokens] = (self.counts.get("input"), self.counts.get("output"))
        if not self.wrong:
            self._writes(notes)
            self._modal_cache(emitter)
            self._sides(emitter, convention, notes)
        buckets, priceable = Buckets(), False
        totals: tuple[Tokens, Tokens] = (None, None)
        reported: dict[str, object] = {}
        if not self.wrong:
            reported = _named(self.counts)
            split = split_usage(reported, convention)
            if "usage_convention_deduced" in split.flags:
                convention = "EXCLUSIVE"
            self._total(emitter, given, (split.input_tokens, split.output_tokens))
            notes += split.flags
            if not self.wrong:
                buckets, totals = split.buckets, (split.input_tokens, split.output_tokens)
                priceable = split.priceable
        return Usage(
            buckets=buckets if priceable else Buckets(),
            input_tokens=totals[0],
            output_tokens=totals[1],
            emitter=emitter.name,
            convention=convention,
            flags=(*self.wrong, *notes),
            priceable=priceable,
            unknown_keys=tuple(sorted(self.unknown)),
            reported_cost_usd=cost,
            context=tuple(sorted(set(self.context))),
            reported={} if priceable or self.wrong else reported,
        )

    def _writes(self, notes: list[str]) -> None:
        """All cache writes, told as one figure or by lifetime, to the two lifetimes."""
        counts = self.counts
        rest, total = counts.pop("cache_write_rest", None), counts.pop("cache_write", None)
        short, long = counts.get("cache_write_5m"), counts.get("cache_write_1h")
        parts = (short or 0) + (long or 0)
        if rest is not None:
            total = rest if rest == parts else rest + parts
        if total is None or total == parts:
            if total == 0 and short is None and long is None:
                counts["cache_write_5m"] = 0
        elif short is None and total > parts:
            counts["cache_write_5m"] = total - parts
            if long is None:
                notes.append("cache_write_ttl_assumed")
        elif rest is not None:
            counts["cache_write_5m"] = total - (long or 0)
            notes.append("cache_write_ttl_assumed")
        elif long is None and total > parts:
            counts["cache_write_1h"] = total - parts
        else:
            self._is_wrong("cache_write_parts_differ_from_total")

    def _modal_cache(self, emitter: Emitter) -> None:
        """Where counts of audio and images include cached ones, take those out on both sides."""
        counts = self.counts
        text, video = counts.pop("text_cache_read", None), counts.pop("video_cache_read", None)
        if not emitter.modal_cache:
            return
        told = {"audio": counts.get("audio_cache_read"), "image": counts.get("image_cache_read"), "video": video}
        cached = counts.get("cache_read", 0)
        known = text is not None or any(count is not None for count in told.values())
        if cached and not known and any(counts.get(f"{kind}_input") for kind in _MODAL):
            self._is_wrong("cached_modality_unknown")
            return
        for kind, count in told.items():
            if not count:
                continue
            if count > counts.get(f"{kind}_input", 0):
                self._is_wrong(f"cached_{kind}_exceeds_{kind}")
                return
            counts[f"{kind}_input"] -= count
            if kind != "video":  # cached video has no price of its own anywhere and stays with the text
                cached -= count
        if cached < 0:
            self._is_wrong("cached_parts_exceed_cached")
        elif "cache_read" in counts:
            counts["cache_read"] = cached

    def _sides(self, emitter: Emitter, convention: Convention, notes: list[str]) -> None:
        """Input and output as totals of all their buckets."""
        counts = self.counts
        extra = counts.pop("extra_input", 0)
        if extra:
            counts["input"] = counts.get("input", 0) + extra
        beside = counts.get("reasoning", 0) if emitter.reasoning_beside else 0
        if "output" in counts:
            counts["output"] += beside
            self._reasoning(emitter, notes)
        elif "visible" not in counts and convention == "INCLUSIVE" and {"total", "input"} <= counts.keys():
            # Embeddings have no output, and proto3 leaves a zero out: then the total has it.
            if counts["total"] < counts["input"] + beside:
                self._is_wrong("total_tokens_differ")
            else:
                counts["output"] = counts["total"] - counts["input"]

    def _reasoning(self, emitter: Emitter, notes: list[str]) -> None:
        """Some versions count reasoning on the other side of the output; a total that fits only so tells."""
        counts = self.counts
        reasoning, total, given = counts.get("reasoning", 0), counts.get("total"), counts.get("input")
        if not reasoning or total is None or given is None or emitter.loose_total:
            return
        other = counts["output"] + (-reasoning if emitter.reasoning_beside else reasoning)
        if given + counts["output"] != total == given + other and emitter.cached == "INCLUSIVE":
            counts["output"] = other
            notes.append("reasoning_convention_deduced")

    def _total(self, emitter: Emitter, given: tuple[Tokens, Tokens], found: tuple[Tokens, Tokens]) -> None:
        total = self.counts.get("total")
        if total is None or found[0] is None or found[1] is None:
            return
        inputs, outputs = {found[0]}, {found[1]}
        if emitter.loose_total:
            inputs.update(count for count in given[:1] if count is not None)
            outputs.update(count for count in given[1:] if count is not None)
        if total not in {one + other for one in inputs for other in outputs}:
            self._is_wrong("total_tokens_differ")


_NAMES: Final[Mapping[str, str]] = {
    **{bucket.removesuffix("_tokens"): bucket for bucket in BUCKETS},
    "input": "input_tokens",
    "output": "output_tokens",
    "uncached": "uncached_input_tokens",
    "visible": "visible_output_tokens",
}


def _named(counts: Mapping[str, int]) -> dict[str, object]:
    return {_NAMES[role]: count for role, count in counts.items() if role in _NAMES}


@lru_cache(4096)
def _is_ignored(path: str, ignored: tuple[str, ...]) -> bool:
    return any(path == each or (each.endswith(".") and path.startswith(each)) for each in ignored)


def _counts_something(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value != 0


def _told(key: str, value: str) -> Context:
    """What a word in the usage object says of the price, in the words of the price table."""
    word = value.strip().lower()
    if key == "service_tier" and word == "batch":
        return (("processing", "batch"),)
    if key == "traffic_type":
        word = word.removeprefix("on_demand").lstrip("_")
        return (("service_tier" if word in {"", "flex", "priority"} else key, word),)
    if key == "search_context_size" and word == "high":  # the size whose fee the table has
        return ()
    return ((key, word),)


def _bill(money: Mapping[str, object]) -> tuple[Decimal | None, tuple[str, ...]]:
    """What the provider says it charges, in USD; with a key of one's own the upstream provider's charge too."""
    if "cost" not in money:
        return None, ()
    wanted = [money["cost"]]
    if money.get("byok") is True:
        wanted.append(money.get("upstream_cost"))
    amounts: list[Decimal] = []
    for value in wanted:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return None, ("cost_invalid",)
        # A float's shortest repr is what the sender wrote; Decimal(float) would carry its binary tail.
        amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
            return None, ("cost_invalid",)
        amounts.append(amount)
    return sum(amounts, Decimal(0)), ()
