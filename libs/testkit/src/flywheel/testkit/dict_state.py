"""A state that is a dictionary, for tests of folds: what a fold keeps, without a disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class DictState:
    """A `StateView` over dictionaries; ``dump`` is canonical."""

    catching_up = False

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, bytes]] = {}

    def get(self, table: str, key: str) -> bytes | None:
        return self.tables.get(table, {}).get(key)

    def get_many(self, table: str, keys: Iterable[str]) -> dict[str, bytes]:
        known = self.tables.get(table, {})
        return {key: known[key] for key in keys if key in known}

    def put(self, table: str, key: str, value: bytes) -> None:
        self.tables.setdefault(table, {})[key] = value

    def delete(self, table: str, key: str) -> None:
        self.tables.get(table, {}).pop(key, None)

    def scan(
        self, table: str, start: str = "", stop: str | None = None, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        keys = sorted(k for k in self.tables.get(table, {}) if k >= start and (stop is None or k < stop))
        return iter([(key, self.tables[table][key]) for key in keys[:limit]])

    def dump(self) -> dict[str, dict[str, bytes]]:
        return {name: dict(sorted(rows.items())) for name, rows in sorted(self.tables.items()) if rows}
