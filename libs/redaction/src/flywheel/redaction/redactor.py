"""Takes finds out of texts and of nested values by policy. Fails closed: what cannot be redacted is dropped, and said.

Redacting what was redacted changes nothing: a text is scanned again with what was taken out standing as one opaque
character, until nothing more is found, and marks that stand in a text are opaque from the start.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flywheel.redaction.finding import candidates
from flywheel.redaction.kinds import Kind, Span, settle
from flywheel.redaction.policy import STANDARD, Policy, PolicyInvalid, parse_policies
from flywheel.redaction.rewriting import (
    DROPPED,
    HASH_LETTERS,
    INVISIBLE,
    MARK,
    OPAQUE,
    Scan,
    Settled,
    collapse,
    merge,
    render,
)
from flywheel.redaction.secrets import names_password
from flywheel.redaction.words import split_words

MIN_KEY_BYTES: Final = 16
MAX_CHARS: Final = 1_000_000
MAX_PASSES: Final = 8
MAX_DEPTH: Final = 64

_HEX_TO_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NEUTRAL_KEYS: Final = split_words(
    "text content input output message messages prompt answer completion role parts value"
)
_PLAIN: Final = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A redacted text. ``spans`` are places in the text as it came, of what was taken out.

    ``text`` is ``None`` where the whole text had to be dropped; ``dropped`` then says why, without quoting it.
    """

    text: str | None
    spans: tuple[Span, ...] = ()
    dropped: str | None = None


@dataclass(frozen=True, slots=True)
class RedactedValue:
    """A redacted nested value: how many finds of each kind were taken out, and where a part was dropped and why.

    A dropped part is ``"[DROPPED]"`` in ``value``, its place a path of positions and redacted keys: ``$.messages[2]``.
    """

    value: Any
    counts: Mapping[Kind, int] = field(default_factory=dict)
    dropped: tuple[tuple[str, str], ...] = ()


class Redactor:
    """One project's policy at work. Pure: the same text under the same policy and key gives the same result.

    Hashes are HMAC-SHA256 under a key of the project's own, derived from ``key``; the same value, however it is spaced
    or cased, has the same hash within a kind, and nothing links it to another project's.

    Args:
        policy: what is done with each kind.
        key: at least 16 bytes, needed where the policy hashes; without it every text is dropped.
        project: whose hashes these are.
        max_chars: a longer text is dropped.
    """

    def __init__(
        self,
        policy: Policy = STANDARD,
        *,
        key: bytes | None = None,
        project: str = "default",
        max_chars: int = MAX_CHARS,
    ) -> None:
        self._policy = policy
        self._max_chars = max_chars
        self._key = hmac.digest(key, b"redaction/" + project.encode(errors="replace"), "sha256") if key else b""
        self.closed: str | None = None
        if policy.hashes and (key is None or len(key) < MIN_KEY_BYTES):
            self.closed = f"the policy hashes and there is no key of {MIN_KEY_BYTES} bytes or more"

    @classmethod
    def reading(cls, policies: str, *, key: bytes | None = None, project: str = "default") -> Redactor:
        """A redactor by policies in TOML. Where they cannot be read it drops every text; ``closed`` says why."""
        try:
            return cls(parse_policies(policies).of(project), key=key, project=project)
        except PolicyInvalid as error:
            shut = cls(Policy())
            shut.closed = f"the policy cannot be read: {error}"
            return shut

    def text(self, text: str, *, under: str = "") -> Redacted:
        """Redact one text. ``under`` is the name it stands under, which may say what its digits are. Never raises."""
        if self.closed is not None:
            return Redacted(None, dropped=self.closed)
        if len(text) > self._max_chars:
            return Redacted(None, dropped=f"longer than {self._max_chars} characters")
        try:
            return self._redact(text, under)
        except (
            Exception
        ) as error:  # a fault of ours must cost the text, not let it pass; its message may quote the text
            return Redacted(None, dropped=f"a finder failed: {type(error).__name__}")

    def value(self, value: Any) -> RedactedValue:
        """Redact every string, number and key of a nested value of JSON's types. Never raises.

        A number that is found becomes a string. Keys that become equal are numbered (``[EMAIL_ADDRESS][#2]``).
        """
        walk = _Walk(self)
        found = walk.value(value, "$", "", 0)
        return RedactedValue(found, dict(walk.counts), tuple(walk.dropped))

    def _redact(self, text: str, under: str) -> Redacted:
        prefix = "" if under.lower() in _NEUTRAL_KEYS or not under else f"{_CAMEL.sub(' ', under)[:64]}: "
        whole = bool(under) and names_password(under)
        settled = [] if text.isascii() else [Settled(m.start(), m.end(), m[0], "") for m in INVISIBLE.finditer(text)]
        spans: list[Span] = []
        for _ in range(MAX_PASSES):
            scan = collapse(text, settled) if settled else Scan(text, (0,), (0,))
            marks = MARK.finditer(scan.text) if "[" in scan.text else ()
            news = [self._kept(text, *scan.original(m.start(), m.end())) for m in marks]
            if not news:
                found = self._found(scan, prefix, whole)
                if not found:
                    return Redacted(render(text, settled), _outermost(spans))
                spans += found
                news = [self._taken(text, span) for span in found]
            settled = merge(settled, news)
        return Redacted(None, dropped=f"still finds after {MAX_PASSES} passes")

    def _found(self, scan: Scan, prefix: str, whole: bool) -> list[Span]:
        """The finds of one pass that the policy takes out, at their places in the original text."""
        found: Iterable[Span] = candidates(prefix + scan.text)
        if whole and scan.text.strip(f"{OPAQUE} \t\r\n"):
            every = Span("secret", len(prefix), len(prefix) + len(scan.text), "named", 1.0)
            found = [*found, every]
        taken = (span for span in found if self._policy.action(span.kind) != "keep")
        moved = []
        for span in settle(taken):
            start, end = max(0, span.start - len(prefix)), span.end - len(prefix)
            if start < end:
                first, last = scan.original(start, end)
                moved.append(replace(span, start=first, end=last))
        return moved

    def _kept(self, text: str, start: int, end: int) -> Settled:
        return Settled(start, end, text[start:end], OPAQUE)

    def _taken(self, text: str, span: Span) -> Settled:
        action = self._policy.action(span.kind)
        if action == "drop":
            return Settled(span.start, span.end, "", "")
        written = f"[{span.kind.upper()}]"
        if action == "hash":
            written = f"[{span.kind.upper()}:{self._hash(span.kind, text[span.start : span.end])}]"
        return Settled(span.start, span.end, written, OPAQUE)

    def _hash(self, kind: Kind, value: str) -> str:
        """64 bits in letters, which no finder takes for a number. Secrets keep their case, the rest is folded."""
        plain = value if kind in ("secret", "crypto_address") else value.lower()
        if kind not in ("secret", "email_address", "url", "ip_address", "crypto_address"):
            plain = _PLAIN.sub("", plain)
        message = kind.encode() + b"\x00" + plain.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()[:HASH_LETTERS].translate(_HEX_TO_LETTERS)


def _outermost(spans: Sequence[Span]) -> tuple[Span, ...]:
    """By start, without those that a later pass took in."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return tuple(kept)


class _Walk:
    """One walk through a nested value."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.counts: Counter[Kind] = Counter()
        self.dropped: list[tuple[str, str]] = []

    def value(self, value: Any, path: str, under: str, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if depth > MAX_DEPTH:
            return self._drop(path, f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, str):
            return self._text(value, path, under)
        if isinstance(value, int | float):
            return self._number(value, path, under)
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        if isinstance(value, list | tuple):
            return [self.value(item, f"{path}[{n}]", under, depth + 1) for n, item in enumerate(value)]
        return self._drop(path, f"no JSON type: {type(value).__name__}")

    def _text(self, text: str, path: str, under: str) -> str:
        redacted = self._redactor.text(text, under=under)
        self.counts.update(span.kind for span in redacted.spans)
        return self._drop(path, redacted.dropped or "") if redacted.text is None else redacted.text

    def _number(self, number: float, path: str, under: str) -> Any:
        try:
            written = str(number)
        except ValueError:  # Python refuses to write integers of thousands of digits
            return self._drop(path, "a number too long to write")
        redacted = self._text(written, path, under)
        return number if redacted == written else redacted

    def _mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        used: Counter[str] = Counter()
        for key, item in value.items():
            name = self._text(str(key), f"{path}.(key)", "")
            unique = name
            while unique in made:
                used[name] += 1
                unique = f"{name}[#{used[name] + 1}]"
            # What the redacted key says, not what it said: else a second redaction would know less than the first.
            made[unique] = self.value(item, f"{path}.{unique}", MARK.sub("", name), depth + 1)
        return made

    def _drop(self, path: str, reason: str) -> str:
        self.dropped.append((path, reason))
        return DROPPED
