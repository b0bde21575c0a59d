"""From what a caller sent to a validated request: strict, by hand because it is on the hot path, with errors that
name the field. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flywheel.policy import DecideRequest

ContextValue = str | float | bool | None

MAX_BODY_BYTES: Final = 64 * 1024
MAX_CONTEXT_FIELDS: Final = 64
MAX_NAME_CHARS: Final = 128
MAX_ID_CHARS: Final = 256
MAX_TEXT_CHARS: Final = 1024
_EXACT: Final = 2**53

_OPTIONAL: Final = frozenset({"app", "environment", "team", "user_hash", "default_arm", "default_model"})
SIZES: Final = ("input_tokens", "input_bytes", "max_tokens")
FIELDS: Final = frozenset({"project", "feature", "request_id", "context", "user", *SIZES}) | _OPTIONAL
MOST_TOKENS: Final = 10**9
_NONE: Final[Mapping[str, ContextValue]] = {}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request."""

    field: str
    message: str


class RequestInvalid(Exception):
    """A request that cannot be decided; every problem that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


def read_request(body: object, trace_id: str | None, hash_user: Callable[[str, str], str | None]) -> DecideRequest:
    """Validate a decide request as parsed from JSON; ``user`` leaves it only as a hash.

    Raises:
        RequestInvalid: with every problem; unknown fields, wrong types, empty or overlong names, control characters,
            numbers that are not finite, and nested context are refused.
    """
    if type(body) is not dict:
        raise RequestInvalid([Problem("", "a request is a JSON object")])
    problems: list[Problem] = []
    if not body.keys() <= FIELDS:
        problems += [Problem(_shown(name), "no such field") for name in sorted(body.keys() - FIELDS)]
    project = read_project(body.get("project", "default"), problems)
    feature = read_text(body.get("feature"), "feature", MAX_NAME_CHARS, problems)
    request_id = read_text(body.get("request_id"), "request_id", MAX_ID_CHARS, problems)
    user = _optional(body.get("user"), "user", problems)
    optional: dict[str, Any] = {name: _optional(body[name], name, problems) for name in body if name in _OPTIONAL}
    context = read_context(body.get("context"), problems)
    sizes: dict[str, Any] = {name: _size(body[name], name, problems) for name in SIZES if name in body}
    if problems:
        raise RequestInvalid(problems)
    if user is not None and optional.get("user_hash") is None:
        optional["user_hash"] = hash_user(project, user)
    return DecideRequest(
        project=project, feature=feature, request_id=request_id, context=context, trace_id=trace_id, **optional, **sizes
    )


def read_context(value: object, problems: list[Problem]) -> Mapping[str, ContextValue]:
    """Validate the declared context; whole numbers become floats, so that every transport decides and logs alike."""
    if value is None:
        return _NONE
    if type(value) is not dict:
        problems.append(Problem("context", f"must be an object, not {_kind(value)}"))
        return _NONE
    if len(value) > MAX_CONTEXT_FIELDS:
        problems.append(Problem("context", f"has {len(value)} fields; at most {MAX_CONTEXT_FIELDS} are allowed"))
        return _NONE
    context: dict[str, ContextValue] = {}
    for name, item in value.items():
        if not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
            problems.append(
                Problem(f"context.{_shown(name)}", f"a name has 1 to {MAX_NAME_CHARS} printable characters")
            )
        kind = type(item)
        if kind is int and -_EXACT <= item <= _EXACT:
            context[name] = float(item)
        elif _allowed(kind, item):
            context[name] = item
        else:
            problems.append(Problem(f"context.{_shown(name)}", _why_not(kind, item)))
    return context


def _allowed(kind: type[Any], item: Any) -> bool:
    if kind is str:
        return len(item) <= MAX_TEXT_CHARS
    return item is None or kind is bool or (kind is float and math.isfinite(item))


def _why_not(kind: type[Any], item: Any) -> str:
    if kind is str:
        return f"is longer than {MAX_TEXT_CHARS} characters"
    if kind is int:
        return "is too large for an exact number"
    if kind is float:
        return "must be a finite number"
    return f"must be text, a number, true, false or null, not {_kind(item)}"


def read_text(value: object, field: str, longest: int, problems: list[Problem]) -> str:
    """A non-empty, printable text of at most ``longest`` characters; otherwise a problem is added and "" returned."""
    if type(value) is str and 0 < len(value) <= longest and value.isprintable():
        return value
    if value is None:
        problems.append(Problem(field, "required"))
    elif type(value) is not str:
        problems.append(Problem(field, f"must be text, not {_kind(value)}"))
    elif not value:
        problems.append(Problem(field, "must not be empty"))
    elif len(value) > longest:
        problems.append(Problem(field, f"is longer than {longest} characters"))
    else:
        problems.append(Problem(field, "has characters that cannot be printed"))
    return ""


def read_project(value: object, problems: list[Problem]) -> str:
    """A project's name; a slash would make the key ``project/feature`` ambiguous."""
    project = read_text(value, "project", MAX_NAME_CHARS, problems)
    if "/" in project:
        problems.append(Problem("project", "must not contain a slash"))
    return project


def _optional(value: object, field: str, problems: list[Problem]) -> str | None:
    return None if value is None else read_text(value, field, MAX_ID_CHARS, problems)


def _size(value: object, field: str, problems: list[Problem]) -> int | None:
    least = 1 if field == "max_tokens" else 0
    if value is None or (type(value) is int and least <= value <= MOST_TOKENS):
        return value
    problems.append(Problem(field, f"must be a whole number from {least} to {MOST_TOKENS}"))
    return None


def _shown(name: object) -> str:
    """A caller's own name as far as it is safe to repeat."""
    text = str(name)[:64]
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _kind(value: object) -> str:
    names: dict[type[Any], str] = {
        dict: "an object",
        list: "a list",
        bool: "a boolean",
        str: "text",
        type(None): "null",
    }
    return names.get(type(value), "a number")
