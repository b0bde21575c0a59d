"""Which schema has which id: the port the codec asks, and the ids pinned in the repository."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from flywheel.events.declarations import SchemaVersion, versions


class Registry(Protocol):
    """What the codec asks: the newest version to write with, and any version by its id."""

    def newest(self, event: str) -> SchemaVersion:
        """The newest version of ``event`` that this installation knows. Raises KeyError for an unknown event."""
        ...

    def by_id(self, schema_id: int) -> SchemaVersion | None:
        """The schema with this id, or None while nobody here knows it."""
        ...

    def all(self) -> Sequence[SchemaVersion]:
        """Every version this installation was released with."""
        ...


class LocalRegistry:
    """The ids pinned in ``schemas/ids.json``: no server, the same on every machine."""

    def __init__(self, released: Sequence[SchemaVersion]) -> None:
        self._all = tuple(released)
        self._by_id: Mapping[int, SchemaVersion] = {v.schema_id: v for v in released}
        self._newest: Mapping[str, SchemaVersion] = {v.event: v for v in sorted(released, key=lambda v: v.version)}

    @classmethod
    def load(cls) -> LocalRegistry:
        """The registry of this installation's declarations."""
        return cls(versions())

    def newest(self, event: str) -> SchemaVersion:
        """See `Registry.newest`."""
        return self._newest[event]

    def by_id(self, schema_id: int) -> SchemaVersion | None:
        """See `Registry.by_id`."""
        return self._by_id.get(schema_id)

    def all(self) -> Sequence[SchemaVersion]:
        """See `Registry.all`."""
        return self._all


def load_registry(url: str | None = None) -> Registry:
    """The registry at ``url``, or the one ``SCHEMA_REGISTRY_URL`` names, else the pinned ids."""
    url = url or os.environ.get("SCHEMA_REGISTRY_URL")
    if not url:
        return LocalRegistry.load()
    from flywheel.events.remote import RemoteRegistry  # an HTTP client is loaded only where a registry is used

    return RemoteRegistry(url=url, released=versions())
