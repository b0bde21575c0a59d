"""Check digits. Each takes the characters alone, without separators, and says whether they can be right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

_DOUBLED: Final = {str(n): sum(divmod(2 * n, 10)) for n in range(10)}
_VERHOEFF_FLIP: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870",
    "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_VERHOEFF_TIMES: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: payment cards and many national numbers."""
    return (sum(map(int, digits[-1::-2])) + sum(_DOUBLED[d] for d in digits[-2::-2])) % 10 == 0


def mod97(alphanumerics: str) -> bool:
    """ISO 7064 MOD 97-10 as ISO 13616 applies it to an IBAN (country and check digits first)."""
    moved = alphanumerics[4:] + alphanumerics[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def mod11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10: the German tax identification number."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product - 1) % 10 + 1) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def mod11_2(characters: str) -> bool:
    """ISO 7064 MOD 11-2, with X for ten: the Chinese resident identity number."""
    total = 0
    for character in characters[:-1]:
        total = (total + int(character)) * 2 % 11
    return (12 - total) % 11 == (10 if characters[-1] in "Xx" else int(characters[-1]))


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969, over the dihedral group of order ten: Aadhaar."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_TIMES[check][int(_VERHOEFF_FLIP[place % 8][int(digit)])])
    return check == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits times weights, over the shorter of the two."""
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def base58check(text: str) -> bool:
    """Bitcoin's base58 address: 21 bytes and the first four of their double SHA-256."""
    number = 0
    for character in text:
        place = _BASE58.find(character)
        if place < 0:
            return False
        number = number * 58 + place
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def bech32(text: str) -> bool:
    """BIP 173 and BIP 350: the checksum of a segwit address (``bc1…``)."""
    human, _, data = text.lower().rpartition("1")
    if not human or len(data) < 6 or any(c not in _BECH32 for c in data):
        return False
    values = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + [_BECH32.index(c) for c in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


def plausible_day(year: int, month: int, day: int) -> bool:
    """Whether month and day can be a date; the year is taken as leap (two digits do not say the century)."""
    return 1 <= month <= 12 and 1 <= day <= (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1] and year >= 0
