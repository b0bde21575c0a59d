"""What is done with each kind, by project: read from TOML, which takes no key twice and no word for a boolean.

    default = "mask"              # hash, mask, drop or keep

    [kinds]
    url = "keep"

    [projects.shop.kinds]
    email_address = "hash"

A kind's action is the project's for the kind, else the project's ``default``, else the file's for the kind, else the
file's ``default``, else that of ``STANDARD``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from flywheel.redaction.kinds import KINDS, Kind

Action = Literal["hash", "mask", "drop", "keep"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
MAX_POLICY_CHARS: Final = 1_000_000


class PolicyInvalid(ValueError):
    """A policy that cannot be taken; ``field`` is the dotted path of what is wrong, empty for the file as a whole."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Policy:
    """One project's actions: ``hash`` and ``mask`` leave a mark, ``drop`` leaves nothing, ``keep`` leaves the value."""

    default: Action = "mask"
    kinds: Mapping[Kind, Action] = field(default_factory=dict)

    def action(self, kind: Kind) -> Action:
        """What is done with finds of this kind."""
        return self.kinds.get(kind, self.default)

    @property
    def hashes(self) -> bool:
        """Whether any kind is hashed, so that a key is needed."""
        return any(self.action(kind) == "hash" for kind in KINDS)


STANDARD: Final = Policy(kinds=MappingProxyType({"url": "keep"}))
"""Mask everything but addresses of pages (credentials in them are secrets of their own)."""


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """The policies of all projects."""

    base: Policy = STANDARD
    projects: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, project: str) -> Policy:
        """The policy of a project; the base where it has none of its own."""
        return self.projects.get(project, self.base)


def parse_policies(text: str) -> PolicyBook:
    """Policies from TOML.

    Raises:
        PolicyInvalid: not TOML, an unknown key, kind or action; names the field.
    """
    if len(text) > MAX_POLICY_CHARS:
        raise PolicyInvalid("", f"longer than {MAX_POLICY_CHARS} characters")
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyInvalid("", f"not TOML: {error}") from error
    _only(raw, "", ("default", "kinds", "projects"))
    base = _policy(raw, "", STANDARD)
    projects = _table(raw, "", "projects")
    return PolicyBook(base, {name: _project(entry, f"projects.{name}", base) for name, entry in projects.items()})


def _project(entry: Any, path: str, base: Policy) -> Policy:
    if not isinstance(entry, dict):
        raise PolicyInvalid(path, "is not a table")
    _only(entry, f"{path}.", ("default", "kinds"))
    return _policy(entry, f"{path}.", base)


def _policy(entry: dict[str, Any], path: str, base: Policy) -> Policy:
    own: dict[Kind, Action] = {}
    for kind, action in _table(entry, path, "kinds").items():
        if kind not in KINDS:
            raise PolicyInvalid(f"{path}kinds.{kind}", f"no such kind; there are {', '.join(KINDS)}")
        own[kind] = _action(action, f"{path}kinds.{kind}")
    if "default" in entry:
        return Policy(_action(entry["default"], f"{path}default"), own)
    return Policy(base.default, dict(base.kinds) | own)


def _action(action: Any, path: str) -> Action:
    if not isinstance(action, str) or action not in ACTIONS:
        raise PolicyInvalid(path, f"must be one of {', '.join(ACTIONS)}")
    return action


def _table(entry: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    found = entry.get(name, {})
    if not isinstance(found, dict):
        raise PolicyInvalid(f"{path}{name}", "is not a table")
    return found


def _only(entry: dict[str, Any], path: str, known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            raise PolicyInvalid(f"{path}{key}", f"unknown; there are {', '.join(known)}")
