"""What can be wrong with an event on its way in or out."""

from __future__ import annotations


class EventInvalid(ValueError):
    """A value does not fit its event's schema; ``field`` names the place."""

    def __init__(self, event: str, field: str, detail: str) -> None:
        super().__init__(f"{event}.{field}: {detail}" if field else f"{event}: {detail}")
        self.event = event
        self.field = field
        self.detail = detail


class Undecodable(ValueError):
    """Bytes that no deploy of ours will ever read: not framed, truncated, or not what their schema says."""

    def __init__(self, detail: str, schema_id: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.schema_id = schema_id


class UnknownSchema(LookupError):
    """A frame whose schema id is not known here yet: a producer was deployed first, so wait."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not known; deploy the version that knows it, or register it")
        self.schema_id = schema_id


class SchemaInvalid(ValueError):
    """A declaration under ``schemas/`` breaks a rule; the message names file and place."""
