"""E-mail addresses, URLs and domains, IPv6 and MAC addresses. Each starts from a character that is rare in prose."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from flywheel.redaction.kinds import Span

_LATIN: Final = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_LOCAL: Final = frozenset("%'+_.-")  # of what RFC 5322 allows; the rest stands around addresses, not in them
_DOMAIN: Final = re.compile(rf"(?:[{_LATIN}_-]{{1,63}}+\.){{1,10}}[{_LATIN}-]{{2,63}}+|\[[0-9A-Fa-f:.]{{7,45}}\]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,15}$")
_REST: Final = re.compile(r"[^\s<>\"\\^`{}|\x00]++")
_BARE_TLD: Final = re.compile(
    r"\.(?:com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|online|shop|site|store|tech|xyz|co|"
    r"de|uk|fr|nl|eu|ca|au|jp|cn|ru|ch|se|es|pl|br|dk|fi|cz|ie|nz|kr|mx|za|pt|hu|gr|ro|tr|tv|us|be)"
    r"(?![A-Za-z0-9_\-(]|\.[A-Za-z0-9])",
    re.IGNORECASE,
)
_PATH: Final = re.compile(r"(?::\d{1,5})?(?:[/?#][^\s<>\"\\^`{}|\x00]*+)?")
_HEX_RUN: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}+(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])")
_MAC: Final = re.compile(r"(?<![\w:\-])[0-9A-Fa-f]{2}([:\-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:\-])")
_URL_TAIL: Final = ".,;:!?'*"


def email_addresses(text: str) -> Iterator[Span]:
    """RFC 5321 mailboxes with a dotted domain; a quoted local part counts too. Local parts up to 64 characters."""
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        start = _local_start(text, at)
        if domain and start < at:
            end = _domain_end(text, domain.end())
            name = text[at + 1 : end]
            top = name.rpartition(".")[2]
            if name.startswith("[") or (len(top) >= 2 and "." in name and not top.isdigit()):
                yield Span("email_address", start, end, "mailbox", 0.97)
        at = text.find("@", at + 1)


def _local_start(text: str, at: int) -> int:
    """Where the local part that ends at ``at`` begins; ``at`` when there is none."""
    low = max(0, at - 64)
    if text[at - 1 : at] == '"':
        opening = text.rfind('"', low, at - 1)
        return opening if opening >= 0 and "\n" not in text[opening:at] else at
    start = at
    while start > low and (text[start - 1] in _LOCAL or _is_latin(text[start - 1])):
        start -= 1
    while start < at and text[start] in _LOCAL and text[start] not in "_+":  # quotes and dots before the name
        start += 1
    return start


def _is_latin(character: str) -> bool:
    return character.isalnum() and (character < "\u0250" or "\u0370" <= character < "\u0500")


def _domain_end(text: str, end: int) -> int:
    """Without a trailing hyphen: ``mail bob@example.com-`` ends at the m."""
    while text[end - 1] == "-":
        end -= 1
    return end


def urls(text: str) -> Iterator[Span]:
    """``scheme://…``, ``www.…``, and bare domains under the common top-level domains."""
    done = 0
    at = text.find("://")
    while at >= 0:
        scheme = _SCHEME.search(text, max(done, at - 16), at)
        rest = _REST.match(text, at + 3) if scheme else None
        if scheme and rest:
            done = _trimmed(text, scheme.start(), rest.end())
            if done > at + 3:
                yield Span("url", scheme.start(), done, "scheme", 0.9)
            done = max(done, rest.end())
        at = text.find("://", max(at + 3, done))
    yield from _bare_domains(text)


def _trimmed(text: str, start: int, end: int) -> int:
    """The end without punctuation of the sentence, and without a bracket that was opened before the address."""
    opened = {")": text.find("(", start, end), "]": text.find("[", start, end)}
    while end > start:
        last = text[end - 1]
        if last not in _URL_TAIL and (last not in opened or 0 <= opened[last] < end - 1):
            break
        end -= 1
    return end


def _bare_domains(text: str) -> Iterator[Span]:
    done = 0
    for found in _BARE_TLD.finditer(text):
        low = max(done, found.start() - 253)
        start = found.start()
        while start > low and (_is_latin(text[start - 1]) or text[start - 1] in "-.") and text[start - 1] != "@":
            start -= 1
        while start < found.start() and text[start] in "-.":
            start += 1
        before = text[start - 1 : start]
        if found.start() - start < 2 or before in ("@", "/", "_", "\\"):
            continue
        if "." not in text[start : found.start()] and text[start : found.start()].isdigit():
            continue
        path = _PATH.match(text, found.end())
        done = _trimmed(text, start, path.end() if path else found.end())
        yield Span("url", start, done, "domain", 0.6)


def ipv6_addresses(text: str) -> Iterator[Span]:
    """RFC 4291, as the standard library reads it."""
    if text.count(":") < 2:
        return
    for found in _HEX_RUN.finditer(text):
        name = found[0]
        if name.count(":") < 2 or ("::" not in name and name.count(":") < 6):
            continue
        end = found.end() - (name.endswith(":") and not name.endswith("::"))
        try:
            ipaddress.IPv6Address(text[found.start() : end])
        except ValueError:
            continue
        if any(c.isdigit() for c in name) or name.count(":") > 2:  # std::vector and a::b are code
            yield Span("ip_address", found.start(), end, "ipv6", 0.95)


def mac_addresses(text: str) -> Iterator[Span]:
    """EUI-48 with colons or hyphens."""
    for found in _MAC.finditer(text):
        yield Span("mac_address", found.start(), found.end(), "eui48", 0.94)
