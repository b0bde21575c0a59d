"""Where alerts are sent, as declared in a file: what each destination speaks, what it wants to hear, how it is signed.

YAML or JSON, read strictly: every problem names its line and field. Secrets are never in the file; it says which
environment variable or which file holds one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, SecretBytes, SecretStr, ValidationError, model_validator

from flywheel.control.rules import Severity
from flywheel.policy.declared_values import Declared, Number, Seconds
from flywheel.policy.strict_yaml import YamlInvalid, problems_of, read_yaml
from flywheel_notifier.core.standing import rank

Kind = Literal["webhook", "slack", "alertmanager"]
Find = Callable[[str, str], str]
"""Finds a secret: of kind ``env`` or ``file``, by its name. Raises KeyError or OSError."""
MAX_URL: Final = 2_048
LEAST_SECRET_BYTES: Final = 16
REPEAT_S: Final[Mapping[Kind, float]] = {"webhook": 14_400.0, "slack": 14_400.0, "alertmanager": 60.0}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class DestinationsInvalid(ValueError):
    """The file cannot be used; the message names lines and fields, never a secret."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_listed), Field(max_length=100)]


class _Where(Declared):
    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> _Where:
        if (self.env is None) == (self.file is None):
            raise ValueError("needs env or file, and not both")
        return self


class _Only(Declared):
    project: Names = Field(default_factory=list)
    feature: Names = Field(default_factory=list)
    kind: Names = Field(default_factory=list)


class _Destination(Declared):
    kind: Kind
    url: str | _Where
    secret: _Where | None = None
    bearer: _Where | None = None
    severity: Severity = "info"
    only: _Only = _Only()
    repeat: Seconds | None = None
    timeout_s: Annotated[Number, Field(gt=0, le=60)] = 10.0
    link: str | None = None


class _File(Declared):
    destinations: Annotated[dict[str, _Destination], Field(min_length=1, max_length=50)]


class Destination(Declared):
    """One destination. ``least``: severity from which on it is told; ``repeat_us``: how often it is told again of what
    still fires; ``link``: where people look an alert up, with ``{alert_id}`` in it."""

    name: str
    kind: Kind
    url: SecretStr
    least: Severity = "info"
    projects: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    repeat_us: int = 14_400_000_000
    timeout_s: float = 10.0
    secret: SecretBytes | None = None
    bearer: SecretStr | None = None
    link: str | None = None

    @property
    def refreshes(self) -> bool:
        """Whether it must hear again of what fires, seen or not: an Alertmanager takes silence for the end."""
        return self.kind == "alertmanager"

    def wants(self, project: str, kind: str, severity: str, scope: Mapping[str, str]) -> bool:
        """Return whether it is to hear of such an alert."""
        return (
            rank(severity) >= rank(self.least)
            and (not self.projects or project in self.projects)
            and (not self.features or scope.get("feature", "") in self.features)
            and (not self.kinds or kind in self.kinds)
        )


def read_destinations(text: str, find: Find) -> dict[str, Destination]:
    """The destinations that a file declares, by name.

    Raises:
        DestinationsInvalid: with every problem by line and field.
    """
    try:
        value, lines = read_yaml(text, expected="destinations")
        declared = _File.model_validate(value)
    except YamlInvalid as error:
        raise DestinationsInvalid(str(error)) from None
    except ValidationError as error:
        models: dict[str, type[BaseModel]] = {"": _File, "destinations": _Destination}
        raise DestinationsInvalid("; ".join(map(str, problems_of(error, lines, models)))) from None
    problems: list[str] = []
    made: dict[str, Destination] = {}
    for name, each in declared.destinations.items():
        where = f"destinations.{name}"
        try:
            made[name] = _made(name, each, find)
        except _Problem as problem:
            place = f"{where}.{problem.field}" if problem.field else where
            problems.append(f"line {lines.get(place, lines.get(where, 1))}: {place}: {problem.message}")
    if problems:
        raise DestinationsInvalid("; ".join(problems))
    return made


class _Problem(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message


def _made(name: str, declared: _Destination, find: Find) -> Destination:
    if _NAME.fullmatch(name) is None:
        raise _Problem("", "a name has lower-case letters, digits and ._-, at most 64")
    if declared.secret is not None and declared.kind != "webhook":
        raise _Problem("secret", f"nothing signs what goes to {declared.kind}; take bearer for a token")
    url = declared.url if isinstance(declared.url, str) else _found("url", declared.url, find)
    if declared.link is not None:
        _checked_url("link", declared.link.replace("{alert_id}", "id"))
    return Destination(
        name=name, kind=declared.kind, url=SecretStr(_checked_url("url", url)), least=declared.severity,
        projects=tuple(declared.only.project), features=tuple(declared.only.feature), kinds=tuple(declared.only.kind),
        repeat_us=round((declared.repeat or REPEAT_S[declared.kind]) * 1e6), timeout_s=declared.timeout_s,
        secret=None if declared.secret is None else SecretBytes(_key(_found("secret", declared.secret, find))),
        bearer=None if declared.bearer is None else SecretStr(_found("bearer", declared.bearer, find)),
        link=declared.link,
    )  # fmt: skip


def _checked_url(field: str, text: str) -> str:
    """A whole http(s) URL without a user or password in it."""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if not sound or "@" in parts.netloc or len(text) > MAX_URL or not text.isprintable() or " " in text:
        raise _Problem(field, f"must be an http or https URL without a password, at most {MAX_URL} characters")
    return text


def _found(field: str, where: _Where, find: Find) -> str:
    what = f"environment variable {where.env}" if where.env is not None else f"file {where.file}"
    try:
        found = find("env", where.env) if where.env is not None else find("file", where.file or "")
    except KeyError:
        raise _Problem(field, f"{what} is not set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _Problem(field, f"{what}: {getattr(error, 'strerror', None) or 'is no plain text'}") from None
    if not found or not found.isprintable() or not found.isascii():
        raise _Problem(field, f"{what} is empty or is no plain text")
    return found


def _key(text: str) -> bytes:
    """The bytes of a signing secret: of ``whsec_…`` the base64 behind it (Standard Webhooks), else the text itself."""
    coded = text.startswith("whsec_")
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True) if coded else text.encode()
    except binascii.Error:
        raise _Problem("secret", "is no base64 behind whsec_") from None
    if len(key) < LEAST_SECRET_BYTES:
        raise _Problem("secret", f"must be at least {LEAST_SECRET_BYTES} bytes")
    return key
