"""A person's own prices: a file in the shape of genai-prices, JSON or YAML, read into a table.

Fields are those of genai-prices' data (``id``, ``match``, ``prices`` with ``constraint``, ``price_variants``); a model
without ``match`` is found by its id. A price key of ours is added: ``pool_seconds``, USD per second of the pool that
serves a local model.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, time
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, Final, Self

import yaml
from genai_prices import types as table
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from flywheel.pricing.book import PriceBook, prices_with
from flywheel.pricing.rates import POOL_SECONDS_KEY, PRICE_KEYS, REQUESTS_KEY
from flywheel.pricing.tables import PriceTable

MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_PROBLEMS: Final = 10
_KEYS: Final = frozenset(key for keys in PRICE_KEYS.values() for key in keys) | {REQUESTS_KEY, POOL_SECONDS_KEY}


class OwnPricesInvalid(ValueError):
    """A price file that cannot be used; ``problems`` name the fields."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is a number or a decimal string")
    return value


# Up to a million dollars per million tokens and nine decimals: then cost and sums fit Decimal's 28 digits exactly.
_Price = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9)]
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Clause(_Shape):
    starts_with: _Name | None = None
    ends_with: _Name | None = None
    contains: _Name | None = None
    regex: _Name | None = None
    equals: _Name | None = None
    any_of: list[_Clause] | None = Field(None, alias="or", min_length=1)
    all_of: list[_Clause] | None = Field(None, alias="and", min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("has one of starts_with, ends_with, contains, regex, equals, or, and")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"regex: {error}") from None
        return self

    def built(self) -> Any:
        if self.any_of is not None:
            return table.ClauseOr([each.built() for each in self.any_of])
        if self.all_of is not None:
            return table.ClauseAnd([each.built() for each in self.all_of])
        if self.starts_with is not None:
            return table.ClauseStartsWith(self.starts_with)
        if self.ends_with is not None:
            return table.ClauseEndsWith(self.ends_with)
        if self.contains is not None:
            return table.ClauseContains(self.contains)
        return table.ClauseRegex(self.regex) if self.regex is not None else table.ClauseEquals(str(self.equals))


class _Tier(_Shape):
    start: Annotated[int, Field(ge=0)]
    price: _Price


class _Tiered(_Shape):
    base: _Price
    tiers: Annotated[list[_Tier], Field(min_length=1)]


_Prices = dict[str, _Price | _Tiered]


def _checked(prices: _Prices) -> _Prices:
    unknown = sorted(prices.keys() - _KEYS)
    if unknown:
        raise ValueError(f"{unknown[0]} is no price that is known here; there are {', '.join(sorted(_KEYS))}")
    if not prices:
        raise ValueError("names at least one price")
    for key in (REQUESTS_KEY, POOL_SECONDS_KEY):
        if isinstance(prices.get(key), _Tiered):
            raise ValueError(f"{key} has no tiers")
    return prices


class _Constraint(_Shape):
    start_date: date | None = None
    start_time: time | None = None
    end_time: time | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        hours = {"start_time", "end_time"}
        if self.model_fields_set not in ({"start_date"}, hours):
            raise ValueError("has start_date, or start_time and end_time")
        return self

    def built(self) -> table.StartDateConstraint | table.TimeOfDateConstraint:
        if self.start_date is not None:
            return table.StartDateConstraint(self.start_date)
        assert self.start_time is not None and self.end_time is not None
        return table.TimeOfDateConstraint(_utc(self.start_time), _utc(self.end_time))


class _Dated(_Shape):
    constraint: _Constraint | None = None
    prices: _Prices

    _known = model_validator(mode="after")(lambda self: (_checked(self.prices), self)[1])


class _Variant(_Dated):
    when: Annotated[dict[_Name, _Name], Field(min_length=1)]


class _Model(_Shape):
    id: _Name
    match: _Clause | None = None
    prices: list[_Dated] | _Prices
    price_variants: list[_Variant] = []
    name: Any = None
    description: Any = None
    context_window: Any = None
    price_comments: Any = None
    deprecated: Any = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if isinstance(self.prices, dict):
            _checked(self.prices)
        elif not self.prices:
            raise ValueError("prices: names at least one price")
        return self

    def built(self) -> table.ModelInfo:
        return table.ModelInfo(
            id=self.id,
            match=table.ClauseEquals(self.id) if self.match is None else self.match.built(),
            prices=_built(self.prices)
            if isinstance(self.prices, dict)
            else [
                table.ConditionalPrice(
                    constraint=each.constraint and each.constraint.built(), prices=_built(each.prices)
                )
                for each in self.prices
            ],
            price_variants=[
                table.PriceVariant(each.when, _built(each.prices), each.constraint and each.constraint.built())
                for each in self.price_variants
            ],
        )


class _Provider(_Shape):
    id: _Name
    models: Annotated[list[_Model], Field(min_length=1)]
    provider_match: _Clause | None = None
    fallback_model_providers: list[_Name] | None = None
    name: Any = None
    api_pattern: Any = None
    pricing_urls: Any = None
    description: Any = None
    price_comments: Any = None
    model_match: Any = None
    extractors: Any = None

    def built(self) -> table.Provider:
        return table.Provider(
            id=self.id.lower().strip(),
            name=self.id,
            api_pattern="",
            provider_match=self.provider_match and self.provider_match.built(),
            fallback_model_providers=self.fallback_model_providers,
            models=[model.built() for model in self.models],
        )


class _File(_Shape):
    providers: Annotated[list[_Provider], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _once("provider", [provider.id.lower().strip() for provider in self.providers])
        for provider in self.providers:
            _once(f"provider {provider.id}: model", [model.id.lower() for model in provider.models])
        return self


def read_own_price_file(path: Path) -> PriceBook:
    """The prices of a person's own file before the public table.

    Raises ``OwnPricesInvalid``, which names the file: it is not there, no file, too large, not text, or not prices.
    """
    try:
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise OwnPricesInvalid((f"price file {path}: is no file",))
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise OwnPricesInvalid((f"price file {path}: is longer than {MOST_BYTES} bytes",))
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise OwnPricesInvalid((f"price file {path}: {why}",)) from None
    try:
        return prices_with(read_own_prices(text))
    except OwnPricesInvalid as error:
        raise OwnPricesInvalid((f"price file {path}: {error}",)) from None


def read_own_prices(text: str) -> PriceTable:
    """A price table from a file's text: JSON or YAML, a list of providers as in genai-prices' data, or one of them.

    Its version is ``own/`` and a hash of the text. Numbers are taken as they are written, never through binary floats.

    Raises:
        OwnPricesInvalid: with each problem and the field it is in.
    """
    if len(text) > MOST_BYTES:
        raise OwnPricesInvalid((f"is longer than {MOST_BYTES} characters",))
    try:
        found = _parsed(text)
        shaped = _File.model_validate({"providers": found if isinstance(found, list) else [found]})
        providers = [provider.built() for provider in shaped.providers]
    except ValidationError as error:
        problems = [_problem(each["loc"], each["msg"]) for each in error.errors(include_url=False, include_input=False)]
        raise OwnPricesInvalid(tuple(dict.fromkeys(problems))[:_MOST_PROBLEMS]) from None
    except RecursionError:
        raise OwnPricesInvalid(("is nested too deeply",)) from None
    digest = sha256(text.encode(errors="replace")).hexdigest()[:12]
    return PriceTable(providers, source="own", version=f"own/{digest}", backdated=False)


def _parsed(text: str) -> object:
    if text.lstrip()[:1] in {"[", "{"}:
        try:
            return json.loads(text, parse_float=str, parse_constant=str)
        except ValueError as error:
            raise OwnPricesInvalid((f"is not JSON: {error}",)) from None
    try:
        # BaseLoader leaves every scalar text, so that 0.1 is what was written; aliases would let a small file grow
        # without end.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise OwnPricesInvalid(("uses YAML aliases, which are not taken here",))
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise OwnPricesInvalid((f"is neither JSON nor YAML: {' '.join(str(error).split())}",)) from None


def _problem(place: tuple[int | str, ...], message: str) -> str:
    # The parts pydantic adds for the arms of a union are no names of the file's.
    parts = [str(part) for part in place if isinstance(part, int) or not re.search(r"\[|^_|constrained|decimal", part)]
    return f"{'.'.join(parts[1:] if parts[:1] == ['providers'] else parts) or 'file'}: {message}"


def _built(prices: _Prices) -> table.ModelPrice:
    made: dict[str, Decimal | table.TieredPrices] = {}
    for key, price in prices.items():
        if isinstance(price, _Tiered):
            made[key] = table.TieredPrices(price.base, [table.Tier(each.start, each.price) for each in price.tiers])
        else:
            made[key] = price
    return table.ModelPrice(**made)


def _utc(value: time) -> time:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _once(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is there twice")
        seen.add(name)
