"""National identity, tax and health numbers: which digits can be one, by length, date and check digit.

The rules are those that the issuing countries publish. Where the check alone is weak (one number in ten or eleven
passes by chance) a number counts only where a word before it says so, or where it is written in the scheme's groups.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flywheel.redaction.checks import luhn, mod11_2, mod11_10, plausible_day, verhoeff, weighted
from flywheel.redaction.kinds import Span


@dataclass(frozen=True, slots=True)
class Scheme:
    """Digits of one country.

    ``shapes`` are group lengths and the separators between them that tell the scheme without a word before it; ``bare``
    says that the check is strong enough for a plain run of digits.
    """

    name: str
    check: Callable[[str], bool]
    shapes: tuple[tuple[tuple[int, ...], str], ...] = ()
    bare: bool = False


def _pesel(d: str) -> bool:
    month = int(d[2:4]) % 20
    born = plausible_day(int(d[:2]), month, int(d[4:6]))
    return born and (weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1))) % 10 == 0


def _cpf(d: str) -> bool:
    if len(set(d)) == 1:
        return False
    first = weighted(d[:9], range(10, 1, -1)) * 10 % 11 % 10
    return first == int(d[9]) and weighted(d[:10], range(11, 1, -1)) * 10 % 11 % 10 == int(d[10])


def _cnpj(d: str) -> bool:
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    if len(set(d)) == 1:
        return False
    first, second = weighted(d[:12], weights[1:]) % 11, weighted(d[:13], weights) % 11
    return int(d[12]) == (0 if first < 2 else 11 - first) and int(d[13]) == (0 if second < 2 else 11 - second)


def _norwegian(d: str) -> bool:
    born = plausible_day(int(d[4:6]), int(d[2:4]), int(d[:2]) % 40)
    first = weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return born and first == 0 and weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _belgian(d: str) -> bool:
    month = int(d[2:4]) % 20
    check = int(d[9:])
    right = check in (97 - int(d[:9]) % 97, 97 - int("2" + d[:9]) % 97)
    return right and (month == 0 or plausible_day(0, month, max(1, int(d[4:6]))))


def _turkish(d: str) -> bool:
    odd, even = sum(map(int, d[0:9:2])), sum(map(int, d[1:8:2]))
    return d[0] != "0" and (odd * 7 - even) % 10 == int(d[9]) and sum(map(int, d[:10])) % 10 == int(d[10])


def _german(d: str) -> bool:
    repeats = [d[:10].count(n) for n in set(d[:10])]
    return d[0] != "0" and max(repeats) in (2, 3) and mod11_10(d)


def _nhs(d: str) -> bool:
    return len(set(d)) > 1 and weighted(d, range(10, 1, -1)) % 11 == (11 - int(d[9])) % 11


def _swedish(d: str) -> bool:
    return plausible_day(int(d[:2]), int(d[2:4]), int(d[4:6]) % 60) and luhn(d)


def _danish(d: str) -> bool:
    return plausible_day(int(d[4:6]), int(d[2:4]), int(d[:2]))


def _dutch(d: str) -> bool:
    return len(set(d)) > 1 and weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _australian(d: str) -> bool:
    return len(set(d)) > 1 and weighted(d, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _itin(d: str) -> bool:
    group = int(d[3:5])
    return d[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def _aadhaar(d: str) -> bool:
    return d[0] not in "01" and len(set(d)) > 1 and verhoeff(d)


def _south_african(d: str) -> bool:
    return plausible_day(int(d[:2]), int(d[2:4]), int(d[4:6])) and d[10] in "012" and luhn(d)


def _korean(d: str) -> bool:
    born = plausible_day(int(d[:2]), int(d[2:4]), int(d[4:6])) and d[6] in "12345678"
    return born and (11 - weighted(d[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10 == int(d[12])


def _french(d: str) -> bool:
    return d[0] in "123478" and 97 - int(d[:13]) % 97 == int(d[13:])


def _chinese(d: str) -> bool:
    born = d[6:8] in ("19", "20") and plausible_day(int(d[6:10]), int(d[10:12]), int(d[12:14]))
    return born and mod11_2(d)


_BY_LENGTH: Final[dict[int, tuple[Scheme, ...]]] = {
    9: (
        Scheme("us_itin", _itin, (((3, 2, 4), "--"),)),
        Scheme("ca_sin", luhn),
        Scheme("nl_bsn", _dutch),
        Scheme("au_tfn", _australian),
    ),
    10: (
        Scheme("se_personnummer", _swedish, (((6, 4), "-"),)),
        Scheme("uk_nhs", _nhs),
        Scheme("dk_cpr", _danish),
    ),
    11: (
        Scheme("br_cpf", _cpf, (((3, 3, 3, 2), "..-"),), bare=True),
        Scheme("no_fodselsnummer", _norwegian, (((6, 5), " "),), bare=True),
        Scheme("pl_pesel", _pesel, bare=True),
        Scheme("be_rrn", _belgian, (((2, 2, 2, 3, 2), "..-."),), bare=True),
        Scheme("tr_kimlik", _turkish, bare=True),
        Scheme("de_steuer_id", _german, (((2, 3, 3, 3), "   "),)),
    ),
    12: (
        Scheme("se_personnummer", lambda d: d[:2] in ("19", "20") and _swedish(d[2:]), (((8, 4), "-"),)),
        Scheme("in_aadhaar", _aadhaar, (((4, 4, 4), "  "), ((4, 4, 4), "--"))),
    ),
    13: (
        Scheme("kr_rrn", _korean, (((6, 7), "-"),)),
        Scheme("za_id", _south_african, bare=True),
    ),
    14: (Scheme("br_cnpj", _cnpj, (((2, 3, 3, 4, 2), "../-"),), bare=True),),
    15: (Scheme("fr_nir", _french, (((1, 2, 2, 2, 3, 3, 2), "      "),), bare=True),),
    18: (Scheme("cn_resident_id", _chinese, bare=True),),
}


def scheme_of(digits: str, sizes: tuple[int, ...], separators: str, told: bool) -> str | None:
    """The name of the scheme that ``digits`` can be of, else ``None``.

    ``sizes`` are the lengths of the groups as written, ``separators`` what stands between them, ``told`` whether a word
    before says that this is a national number.
    """
    for scheme in _BY_LENGTH.get(len(digits), ()):
        known = (scheme.bare and len(sizes) == 1) or (sizes, separators) in scheme.shapes
        if (told or known) and scheme.check(digits):
            return scheme.name
    return None


_LETTERED: Final = re.compile(
    r"(?<![^\W_])(?:"
    r"(?P<es_dni>\d{8}[ -]?[A-Za-z])"
    r"|(?P<es_nie>[XYZxyz][ -]?\d{7}[ -]?[A-Za-z])"
    r"|(?P<sg_nric>[STFGM]\d{7}[A-Z])"
    r"|(?P<uk_nino>(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D])"
    r"|(?P<in_pan>[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z])"
    r"|(?P<fi_hetu>\d{6}[-+ABCDEFYXWVU]\d{3}[0-9A-Y])"
    r"|(?P<it_codice_fiscale>[A-Za-z]{6}[0-9LMNPQRSTUVlmnpqrstuv]{2}[ABCDEHLMPRSTabcdehlmprst]"
    r"[0-9LMNPQRSTUVlmnpqrstuv]{2}[A-Za-z][0-9LMNPQRSTUVlmnpqrstuv]{3}[A-Za-z])"
    r"|(?P<mx_curp>[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d)"
    r"|(?P<cn_resident_id>\d{17}[Xx])"
    r")(?![^\W_])"
)
_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU: Final = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_FISCALE_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_CURP: Final = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"


def _nric(text: str) -> bool:
    total = weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}[text[0]]
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}[
        text[0]
    ]
    place = 10 - total % 11 if text[0] == "M" else total % 11
    return letters[place] == text[8]


def _fiscale(text: str) -> bool:
    places = [int(c) if c.isdigit() else ord(c) - ord("A") for c in text[:15]]
    total = sum(_FISCALE_ODD[n] if at % 2 == 0 else n for at, n in enumerate(places))
    return chr(ord("A") + total % 26) == text[15]


def _hetu(text: str) -> bool:
    born = plausible_day(int(text[4:6]), int(text[2:4]), int(text[:2]))
    return born and _HETU[int(text[:6] + text[7:10]) % 31] == text[10]


def _curp(text: str) -> bool:
    total = sum(_CURP.index(c) * (18 - at) for at, c in enumerate(text[:17]))
    return plausible_day(0, int(text[6:8]), int(text[8:10])) and (10 - total % 10) % 10 == int(text[17])


_LETTER_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "es_dni": lambda t: _DNI[int(t[:8]) % 23] == t[8],
    "es_nie": lambda t: _DNI[int(str("XYZ".index(t[0])) + t[1:8]) % 23] == t[8],
    "sg_nric": _nric,
    "uk_nino": lambda t: True,  # has no check digit; its prefixes and suffix are in the pattern
    "in_pan": lambda t: True,  # as above
    "fi_hetu": _hetu,
    "it_codice_fiscale": _fiscale,
    "mx_curp": _curp,
    "cn_resident_id": _chinese,
}


def lettered_ids(text: str) -> Iterator[Span]:
    """Numbers of schemes that have letters in them."""
    for found in _LETTERED.finditer(text):
        scheme = found.lastgroup or ""
        plain = found[0].replace(" ", "").upper()
        if scheme != "fi_hetu":
            plain = plain.replace("-", "")
        if _LETTER_CHECKS[scheme](plain):
            checked = scheme not in ("uk_nino", "in_pan")
            yield Span("national_id", found.start(), found.end(), scheme, 0.96 if checked else 0.85)
