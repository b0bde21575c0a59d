"""Keys, tokens and passwords: by their issuer's prefix, by their form, or by the name they stand after."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from string import ascii_lowercase
from typing import Final

from flywheel.redaction.kinds import Span
from flywheel.redaction.words import split_words

_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_\-])[A-Za-z0-9_\-]{16,}+(?:\.[A-Za-z0-9_\-]+)*+")
_PREFIXES: Final = tuple(
    sorted(
        split_words(
            """
            sk- sk_live_ sk_test_ rk_live_ rk_test_ pk_live_ whsec_ ghp_ gho_ ghu_ ghs_ ghr_ github_pat_
            glpat- gldt- glrt- glsa_ xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xapp- AIza GOCSPX- npm_ pypi-
            dop_v1_ doo_v1_ hf_ gsk_ r8_ xai- pplx- lsv2_ nvapi- shpat_ shpss_ shpca_ sq0atp- sq0csp-
            EAAA tskey- dckr_pat_ NRAK- rubygems_ AGE-SECRET-KEY- figd_ lin_api_ ntn_ PMAK- sbp_ sntrys_
            sntryu_ phc_ phx_ key-
            """
        )
    )
)
_DOTTED: Final = ("SG.", "ya29.", "hvs.", "hvb.", "s.")
_AWS: Final = re.compile(r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}")
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_USER_INFO: Final = re.compile(r"[^\s/?#@:\"'<>]*+:[^\s/?#@\"'<>]++(?=@)")

_NAMES: Final = (
    "passw",
    "pwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "key",
    "credential",
    "bearer",
    "authorization",
)
_ANY_CASE: Final = str.maketrans({c: f"[{c}{c.upper()}]" for c in ascii_lowercase})
"""Both cases by hand: under a flag the engine tries every word at every character, else only where one can begin."""
_ASSIGNED: Final = re.compile(
    f"({'passw(?:ord|d)|passphrase|passcode|pwd'.translate(_ANY_CASE)})|{'secret|token|credential|key'.translate(_ANY_CASE)}"
)
_KEY_OF: Final = re.compile(
    r"(?:api|access|auth|private|secret|account|signing|encryption|service|session|storage)[_\- ]?$", re.IGNORECASE
)
_VALUE: Final = re.compile(
    r"s?(?:[_\-][A-Za-z0-9]{1,16}|\d{1,2})?(?![A-Za-z0-9])[\\]?[\"'\])]{0,2}\s{0,4}(?P<sign>=>|:=|[:=]|(?i:is|was)\b)\s{0,4}"
    r"(?:(?:[bruf]{0,2}[\\]?\"(?P<double>[^\"\n\\]{3,512}+))|(?:[\\]?'(?P<single>[^'\n\\]{3,512}+))|(?P<plain>[^\s\"'\\\x00]{4,512}+))"
)
_MORE: Final = {
    "double": re.compile(r'[^"\n\\]*+'),
    "single": re.compile(r"[^'\n\\]*+"),
    "plain": re.compile(r"[^\s\"'\\\x00]*+"),
}
_BEARER: Final = re.compile(
    rf"(?:{'bearer|basic|apikey'.translate(_ANY_CASE)})[ \t]{{1,4}}(?P<value>[A-Za-z0-9._~+/\-]{{8,4096}}+=*)"
)
_HARMLESS: Final = split_words(
    """
    none null nil true false undefined required optional missing invalid expired incorrect wrong string str int
    bytes empty redacted hidden changeme password token secret your todo example test value default reset needed
    unset correct
    """
)
_BASE64: Final = re.compile(r"[+/=]")
_PLACEHOLDER: Final = re.compile(r"[<{\[$%*#•.xX]{3}|^[<{\[$%*]|\*{2}")


def secrets(text: str) -> Iterator[Span]:
    """Every secret, known by prefix, form, or the name before it."""
    yield from _tokens(text)
    if "-----BEGIN " in text:
        yield from _private_keys(text)
    if "://" in text:
        yield from _user_infos(text)
    lowered = text.lower()
    if any(name in lowered for name in _NAMES):
        yield from _named(text)


def _tokens(text: str) -> Iterator[Span]:
    for found in _TOKEN.finditer(text):
        name, start = found[0], found.start()
        if name.startswith("eyJ"):
            if name.count(".") == 2 and _is_jwt(name):
                yield Span("secret", start, found.end(), "jwt", 0.98)
        elif name.startswith(_PREFIXES):
            if _looks_random(name):
                yield Span("secret", start, found.end(), "prefix", 0.96)
        elif _AWS.fullmatch(name):
            yield Span("secret", start, found.end(), "prefix", 0.96)
        else:
            lead = next((d for d in _DOTTED if text.endswith(d, 0, start)), None)
            if lead and not text[start - len(lead) - 1 : start - len(lead)].isalnum() and _looks_random(name):
                yield Span("secret", start - len(lead), found.end(), "prefix", 0.95)


def _is_jwt(token: str) -> bool:
    head = token.partition(".")[0]
    try:
        decoded = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return False
    return decoded.startswith(b"{") and b'"alg"' in decoded


def _looks_random(name: str) -> bool:
    """A body with digits, or capitals among small letters: ``sk-this-is-a-sentence`` has neither."""
    body = name[3:]
    return any(c.isdigit() for c in body) or (any(c.isupper() for c in body) and any(c.islower() for c in body))


def _private_keys(text: str) -> Iterator[Span]:
    at = 0
    while (begin := _PEM.search(text, at)) is not None:
        end = _PEM_END.search(text, begin.end())
        at = end.end() if end else len(text)  # a key that is cut off goes to the end of the text
        yield Span("secret", begin.start(), at, "private_key", 0.99)


def _user_infos(text: str) -> Iterator[Span]:
    at = text.find("://")
    while at >= 0:
        found = _USER_INFO.match(text, at + 3)
        if found:
            yield Span("secret", found.start(), found.end(), "url_credentials", 0.98)
        at = text.find("://", at + 3)


def _named(text: str) -> Iterator[Span]:
    for found in _BEARER.finditer(text):
        if any(c.isdigit() for c in found["value"]) or len(found["value"]) >= 20:
            yield Span("secret", found.start("value"), found.end("value"), "named", 0.9)
    done = 0
    for name in _ASSIGNED.finditer(text):
        if name.start() < done or not _names_secret(text, name):
            continue
        value = _VALUE.match(text, name.end())
        group = value.lastgroup if value else None
        if value is None or group is None:
            continue
        start, end = value.span(group)
        end = _value_end(text, start, end, quoted=group != "plain")
        if _is_secret(text[start:end], password=name[1] is not None, said=value["sign"][0] in "iIwW"):
            done = end = max(end, _longer(text, start, group))
            yield Span("secret", start, end, "named", 0.88)


def _names_secret(text: str, name: re.Match[str]) -> bool:
    """A key is a secret only where the word before says of what: an API key, not a monkey or a sort key."""
    if name[0][0] not in "kK":
        return True
    return _KEY_OF.search(text[max(0, name.start() - 12) : name.start()]) is not None


def _longer(text: str, start: int, group: str) -> int:
    """The end of a value that is longer than was looked at; 0 for others."""
    end = _MORE[group].match(text, start).end()  # type: ignore[union-attr]
    return end if end - start > 512 else 0


def _value_end(text: str, start: int, end: int, *, quoted: bool) -> int:
    """Without what closes the sentence, the query parameter or the call around an unquoted value."""
    if quoted:
        return end
    cut = text.find("&", start, end)
    end = cut if cut >= 0 else end
    while end > start and text[end - 1] in ",;.!?)]}>":
        end -= 1
    return end


def _is_secret(value: str, *, password: bool, said: bool) -> bool:
    if len(value) < 4 or value.lower().strip("\"'") in _HARMLESS or _PLACEHOLDER.search(value[:64]):
        return False
    mixed = not value.isalpha()
    if password:
        return mixed or not said
    digit = any(c.isdigit() for c in value)
    if (
        len(value) < 8
        or value.isdigit()
        or " " in value
        or "(" in value
        or not (digit or (len(value) >= 16 and _BASE64.search(value)))
    ):
        return False
    return entropy_bits(value[:256]) >= 2.5


def names_password(key: str) -> bool:
    """Whether the key of a mapping says that its whole value is a password."""
    return any(found[1] is not None for found in _ASSIGNED.finditer(key))


def entropy_bits(value: str) -> float:
    """Shannon entropy of the characters, bits each."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
