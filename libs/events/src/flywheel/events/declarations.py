"""Reads the declarations under ``schemas/``: events, their released versions, pinned ids and topics."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from flywheel.events.errors import SchemaInvalid

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One released version of an event: ``schemas/events/<event>/v<version>.avsc``."""

    event: str
    version: int
    schema_id: int
    text: str

    @property
    def avsc(self) -> JsonSchema:
        """The schema as JSON; a fresh copy each time."""
        loaded: JsonSchema = json.loads(self.text)
        return loaded


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as declared in ``schemas/topics/<name>.yaml``."""

    name: str
    description: str
    event: str
    key: str
    partitions: int
    cleanup: str
    retention: str
    compatibility: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    dlq: str | None
    pii: str

    @property
    def compacted(self) -> bool:
        """Whether the newest record of each key is kept for ever."""
        return self.cleanup == "compact"

    @property
    def retention_ms(self) -> int:
        """How long records are kept, in milliseconds; -1 is for ever."""
        if self.retention == "forever":
            return -1
        unit_ms = {"h": 3_600_000, "d": 86_400_000}[self.retention[-1]]
        return int(self.retention[:-1]) * unit_ms


@lru_cache(maxsize=1)
def schemas_dir() -> Path:
    """Where the declarations are: ``FLYWHEEL_SCHEMAS``, the copy inside the package, or the repository's ``schemas/``.

    Raises:
        SchemaInvalid: none of these exists.
    """
    named = os.environ.get("FLYWHEEL_SCHEMAS")
    here = Path(__file__).resolve()
    candidates = [Path(named)] if named else [here.parent / "_schemas", *(p / "schemas" for p in here.parents)]
    for candidate in candidates:
        if (candidate / "events").is_dir() and (candidate / "topics").is_dir():
            return candidate
    raise SchemaInvalid(f"no schemas folder at {', '.join(str(c) for c in candidates[:2])}; set FLYWHEEL_SCHEMAS")


def read_versions(folder: Path) -> tuple[SchemaVersion, ...]:
    """Read every released schema under ``folder``, with its pinned id, ordered by event and version.

    Raises:
        SchemaInvalid: a version has no pinned id, two share one, or a file is not JSON.
    """
    pins: dict[str, dict[str, int]] = json.loads((folder / "ids.json").read_text())
    found: list[SchemaVersion] = []
    for path in sorted(folder.glob("events/*/v*.avsc")):
        event, version = path.parent.name, int(path.stem[1:])
        pinned = pins.get(event, {}).get(str(version))
        if pinned is None:
            raise SchemaInvalid(f"{event}/v{version}.avsc has no id in ids.json; add the next free number")
        try:
            text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
        except json.JSONDecodeError as error:
            raise SchemaInvalid(f"{event}/v{version}.avsc is not JSON: {error}") from error
        found.append(SchemaVersion(event=event, version=version, schema_id=pinned, text=text))
    ids = [v.schema_id for v in found]
    if len(set(ids)) != len(ids):
        raise SchemaInvalid("ids.json gives one id to two schemas")
    return tuple(sorted(found, key=lambda v: (v.event, v.version)))


def read_topics(folder: Path) -> Mapping[str, Topic]:
    """Read every topic declaration under ``folder``, by name.

    Raises:
        SchemaInvalid: a file lacks a key, has one too many, or is not named after its topic.
    """
    declared: dict[str, Topic] = {}
    for path in sorted((folder / "topics").glob("*.yaml")):
        raw = yaml.safe_load(path.read_text())
        name = raw.pop("topic", None)
        if name != path.name.removesuffix(".yaml"):
            raise SchemaInvalid(f"topics/{path.name} declares topic {name!r}")
        raw["producers"], raw["consumers"] = tuple(raw["producers"]), tuple(raw["consumers"])
        try:
            declared[name] = Topic(name=name, **raw)
        except TypeError as error:
            raise SchemaInvalid(f"topics/{path.name}: {error}") from error
    return MappingProxyType(declared)


@lru_cache(maxsize=1)
def versions() -> tuple[SchemaVersion, ...]:
    """Every released schema of this installation."""
    return read_versions(schemas_dir())


@lru_cache(maxsize=1)
def topics() -> Mapping[str, Topic]:
    """Every declared topic of this installation, by name."""
    return read_topics(schemas_dir())
