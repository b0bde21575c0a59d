"""Text in SQL."""

from __future__ import annotations


def quoted(text: str) -> str:
    """Return a text as a string literal of ClickHouse's SQL, which no character of it can leave."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
