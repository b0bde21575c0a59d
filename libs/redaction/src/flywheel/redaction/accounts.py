"""Bank accounts by the IBAN registry, and crypto addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flywheel.redaction.checks import base58check, bech32, mod97
from flywheel.redaction.kinds import Span

# Length of an IBAN by country: SWIFT IBAN registry (ISO 13616).
_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ XK LT LU MN",
        21: "CH HR LI LV", 22: "BH BG CR GB GE DE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA",
        30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN_HEAD: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ \-]?[A-Za-z0-9])")
_UNREGISTERED: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}(?![A-Za-z0-9])")
_COIN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:0x[0-9a-fA-F]{40}|bc1[02-9ac-hj-np-z]{11,71}|[13][1-9A-HJ-NP-Za-km-z]{25,34})(?![A-Za-z0-9])"
)


def ibans(text: str) -> Iterator[Span]:
    """ISO 13616 numbers checked by MOD 97-10: of the registry's countries and lengths, together or in groups, surely;
    in capitals and without blanks of any other, as the registry grows and one such text in 97 passes by chance.
    """
    for head in _IBAN_HEAD.finditer(text):
        end = _registered(text, head.start(), _LENGTHS.get(head[0][:2].upper(), 0))
        if end:
            yield Span("iban_code", head.start(), end, "mod97", 0.99)
            continue
        other = _UNREGISTERED.match(text, head.start())
        if other and mod97(other[0]):
            yield Span("iban_code", head.start(), other.end(), "mod97", 0.8)


def _registered(text: str, start: int, length: int) -> int:
    """The end of a number of the registry's length for its country, together or in groups; 0 when it is none."""
    taken: list[str] = []
    at = start
    while at < len(text) and len(taken) < length:
        character = text[at]
        if "0" <= character <= "9" or "A" <= character <= "Z" or "a" <= character <= "z":
            taken.append(character)
        elif character not in " -" or text[at - 1] in " -":
            break
        at += 1
    whole = length > 0 and len(taken) == length and (at >= len(text) or not text[at].isalnum())
    return at if whole and mod97("".join(taken)) else 0


def crypto_addresses(text: str) -> Iterator[Span]:
    """Bitcoin addresses with their checksums, and Ethereum's (whose checksum is only in the letters' case)."""
    for found in _COIN.finditer(text):
        name = found[0]
        if name.startswith("0x"):
            yield Span("crypto_address", found.start(), found.end(), "ethereum", 0.9)
        elif (bech32 if name.startswith("bc1") else base58check)(name):
            yield Span("crypto_address", found.start(), found.end(), "bitcoin", 0.97)
