"""Event models, the Avro codec, schema ids and topic names."""

from flywheel.events.cloudevents import header, headers, instant_us, rfc3339
from flywheel.events.codec import Codec, Decoded
from flywheel.events.declarations import SchemaVersion, Topic, topics
from flywheel.events.errors import EventInvalid, SchemaInvalid, Undecodable, UnknownSchema
from flywheel.events.ids import event_id
from flywheel.events.registry import LocalRegistry, Registry, load_registry

__all__ = [
    "Codec",
    "Decoded",
    "EventInvalid",
    "LocalRegistry",
    "Registry",
    "SchemaInvalid",
    "SchemaVersion",
    "Topic",
    "Undecodable",
    "UnknownSchema",
    "event_id",
    "header",
    "headers",
    "instant_us",
    "load_registry",
    "rfc3339",
    "topics",
]
