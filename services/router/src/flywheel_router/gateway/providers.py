"""The providers that the gateway may call, from a file: where each is, what it speaks, and where its key is found.

YAML or JSON, read strictly: every problem names its line and field. Keys are never in the file; it says which
environment variable or which file holds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from flywheel.policy.strict_yaml import YamlInvalid, problems_of, read_yaml

Format = Literal["openai", "anthropic"]
PATHS: Final[Mapping[str, str]] = {
    "chat": "/chat/completions", "embeddings": "/embeddings", "messages": "/messages",
}  # fmt: skip
"""Where an endpoint lies below a provider's base URL."""
FORMAT_OF: Final[Mapping[str, Format]] = {"chat": "openai", "embeddings": "openai", "messages": "anthropic"}
_ANTHROPIC_VERSION: Final = "2023-06-01"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_HEADER: Final = re.compile(r"[a-z0-9-]{1,64}")
_FORBIDDEN: Final = frozenset(
    {"authorization", "x-api-key", "host", "content-length", "transfer-encoding", "connection"}
)


class ProvidersInvalid(ValueError):
    """The file cannot be used; the message names lines and fields, never a key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Key(_Strict):
    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> _Key:
        if (self.env is None) == (self.file is None):
            raise ValueError("needs env or file, and not both")
        return self


class _Declared(_Strict):
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=512)]
    formats: Annotated[list[Format], Field(min_length=1)] = ["openai"]
    key: _Key | None = None
    headers: dict[str, str] = {}
    cap_param: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0


class _File(_Strict):
    providers: dict[str, _Declared]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. ``timeout_s``: the longest one attempt may take (None: the request's deadline)."""

    name: str
    base_url: str
    formats: frozenset[Format]
    cap_param: str = "max_tokens"
    timeout_s: float | None = None
    connect_timeout_s: float = 2.0
    key: SecretStr | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def url(self, endpoint: str) -> str:
        """Where an endpoint is."""
        return self.base_url + PATHS[endpoint]

    def headers(self, endpoint: str) -> list[tuple[str, str]]:
        """What every call of an endpoint carries; holds the key, so it is never logged."""
        made = [("content-type", "application/json"), ("accept-encoding", "identity"), *self.extra.items()]
        secret = self.key.get_secret_value() if self.key is not None else None
        if FORMAT_OF[endpoint] == "anthropic":
            if "anthropic-version" not in self.extra:
                made.append(("anthropic-version", _ANTHROPIC_VERSION))
            if secret is not None:
                made.append(("x-api-key", secret))
        elif secret is not None:
            made.append(("authorization", f"Bearer {secret}"))
        return made


def read_providers(text: str, secret: Callable[[str, str], str]) -> dict[str, Provider]:
    """The providers that a file declares, by name.

    ``secret(kind, where)`` finds a key: ``kind`` is ``env`` or ``file``; it raises KeyError or OSError.

    Raises:
        ProvidersInvalid: with every problem by line and field.
    """
    try:
        value, lines = read_yaml(text, expected="providers")
        declared = _File.model_validate(value)
    except YamlInvalid as error:
        raise ProvidersInvalid(str(error)) from None
    except ValidationError as error:
        found = problems_of(error, lines, {"": _File, "providers": _Declared})
        raise ProvidersInvalid("; ".join(map(str, found))) from None
    problems: list[str] = []
    made: dict[str, Provider] = {}
    for name, each in declared.providers.items():
        where = f"line {lines.get(f'providers.{name}', 1)}: providers.{name}"
        if _NAME.fullmatch(name) is None:
            problems.append(f"{where}: a name has lower-case letters, digits and ._-, at most 64")
        for header, said in each.headers.items():
            if _HEADER.fullmatch(header) is None or header in _FORBIDDEN or not said.isprintable():
                problems.append(f"{where}.headers.{header}: is no header that may be set here")
        try:
            key = None if each.key is None else SecretStr(_found(each.key, secret))
        except (KeyError, OSError, UnicodeDecodeError) as error:
            problems.append(f"{where}.key: {_why(each.key, error)}")
            continue
        made[name] = Provider(
            name, each.base_url.rstrip("/"), frozenset(each.formats), each.cap_param, each.timeout_s,
            each.connect_timeout_s, key, dict(each.headers),
        )  # fmt: skip
    if problems:
        raise ProvidersInvalid("; ".join(problems))
    return made


def _found(key: _Key, secret: Callable[[str, str], str]) -> str:
    found = secret("env", key.env) if key.env is not None else secret("file", key.file or "")
    if not found or not found.isprintable() or not found.isascii():
        raise KeyError
    return found


def _why(key: _Key | None, error: Exception) -> str:
    assert key is not None
    what = f"environment variable {key.env}" if key.env is not None else f"file {key.file}"
    why = error.strerror if isinstance(error, OSError) else "is not set, is empty or is no plain text"
    return f"{what} {why}"


def key_from(environ: Mapping[str, str]) -> Callable[[str, str], str]:
    """How keys are found: in ``environ``, or in a file whose trailing newline does not count."""

    def find(kind: str, where: str) -> str:
        return environ[where] if kind == "env" else Path(where).read_text(encoding="utf-8").rstrip("\r\n")

    return find


def load_providers(path: Path, environ: Mapping[str, str]) -> dict[str, Provider]:
    """The providers of a file.

    Raises:
        ProvidersInvalid: naming the file, lines and fields.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProvidersInvalid(f"{path}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from None
    try:
        return read_providers(text, key_from(environ))
    except ProvidersInvalid as error:
        raise ProvidersInvalid(f"{path}: {error}") from None


def provider_of(model: str | None) -> tuple[str, str] | None:
    """Provider and model in ``provider/model``; None where it is not of that form."""
    front, slash, rest = (model or "").partition("/")
    return (front, rest) if slash and front and rest else None
