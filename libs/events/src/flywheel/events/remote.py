"""Schema ids from a Confluent-compatible registry."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence

import httpx

from flywheel.events.declarations import JsonSchema, SchemaVersion, topics
from flywheel.events.registry import LocalRegistry


class RemoteRegistry:
    """A Confluent-compatible registry: released schemas are registered there and its ids are used on the wire.

    Args:
        url: base address, e.g. ``http://registry:8081``.
        released: the versions this installation can write.
        client: HTTP client to use; its timeout bounds every question.
        retry_after_s: how long an unknown id is not asked for again.
    """

    def __init__(
        self,
        *,
        url: str,
        released: Sequence[SchemaVersion],
        client: httpx.Client | None = None,
        retry_after_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client or httpx.Client(base_url=url, timeout=10.0)
        self._retry_after_s = retry_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._unknown_until: dict[int, float] = {}
        self._local = LocalRegistry([self._register(v) for v in released])
        self._fetched: dict[int, SchemaVersion] = {}

    def _register(self, version: SchemaVersion) -> SchemaVersion:
        ids = {
            self._post_id(f"{topic.name}-value", version.text)
            for topic in topics().values()
            if topic.event == version.event
        }
        if len(ids) != 1:  # a registry gives one schema one id; two would make the frame ambiguous
            raise LookupError(f"the registry gave {version.event} v{version.version} the ids {sorted(ids)}")
        return SchemaVersion(version.event, version.version, ids.pop(), version.text)

    def _post_id(self, subject: str, text: str) -> int:
        answer = self._client.post(f"/subjects/{subject}/versions", json={"schema": text})
        answer.raise_for_status()
        return int(answer.json()["id"])

    def newest(self, event: str) -> SchemaVersion:
        """See `Registry.newest`."""
        return self._local.newest(event)

    def by_id(self, schema_id: int) -> SchemaVersion | None:
        """See `Registry.by_id`; asks the server at most once per ``retry_after_s`` for an id it does not know."""
        known = self._local.by_id(schema_id) or self._fetched.get(schema_id)
        if known is not None:
            return known
        with self._lock:
            if self._clock() < self._unknown_until.get(schema_id, 0.0):
                return None
            fetched = self._fetch(schema_id)
            if fetched is None:
                self._unknown_until[schema_id] = self._clock() + self._retry_after_s
            else:
                self._fetched[schema_id] = fetched
            return fetched

    def all(self) -> Sequence[SchemaVersion]:
        """See `Registry.all`."""
        return self._local.all()

    def _fetch(self, schema_id: int) -> SchemaVersion | None:
        try:
            answer = self._client.get(f"/schemas/ids/{schema_id}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
        except httpx.HTTPError:
            return None  # a registry that is away is waited for, as an id it does not know yet
        schema: JsonSchema = json.loads(answer.json()["schema"])
        event = next((v.event for v in self._local.all() if v.avsc["name"] == schema.get("name")), None)
        if event is None:
            return None
        newest = self._local.newest(event)
        return SchemaVersion(event, newest.version + 1, schema_id, json.dumps(schema, separators=(",", ":")))
