"""Settings of ingest, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from flywheel.observe import ServiceSettings
from flywheel_ingest.items import Limits


class IngestSettings(ServiceSettings):
    """What an operator can change; see the service's page."""

    service: ClassVar[str] = "ingest"

    port: int = Field(8081, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(8 << 20, ge=1024, description="Largest request body, as sent.")
    max_inflated_bytes: int = Field(32 << 20, ge=1024, description="Largest request body once a gzip body is inflated.")
    max_items: int = Field(1000, ge=1, le=100_000, description="Most items in one batch.")
    max_item_bytes: int = Field(
        448 << 10, ge=256, le=500_000, description="Largest item as JSON; below a producer batch (512 KiB)."
    )
    max_in_flight_bytes: int = Field(
        64 << 20, ge=1024, description="Body bytes held by all requests under way; above it 503 with Retry-After."
    )
    body_timeout_s: float = Field(30.0, gt=0, description="Longest time a client may take to send its body.")
    publish_timeout_s: float = Field(10.0, gt=0, description="Longest wait for Kafka's acknowledgement; then 503.")
    recent_ids: int = Field(
        100_000, ge=0, description="How many of the newest event ids are remembered, to answer duplicate or conflict."
    )
    max_future_s: int = Field(600, ge=0, description="How far occurred_at may lie ahead of our clock.")
    otlp_max_records: int = Field(20_000, ge=1, le=1_000_000, description="Most spans or log records in one export.")
    otlp_max_record_bytes: int = Field(
        4 << 20, ge=1024, description="Largest span or log record in protobuf, content included."
    )
    otlp_sampled_events: bool = Field(
        False, description="Whether an inference event makes a call although its span was recorded; for logs alone."
    )
    otlp_content: bool = Field(
        True, description="Whether prompts, answers, explanations and comments are taken from spans and logs, redacted."
    )
    user_hash_key: SecretStr | None = Field(
        None, description="Key of the hash of user ids; absent: one made at first use and kept in the state folder."
    )
    redaction_policy_file: Path | None = Field(
        None, description="TOML that says what is done with personal data and secrets; absent: all are masked but URLs."
    )
    redaction_key: SecretStr | None = Field(
        None, description="Key of the hashes that a policy may ask for, at least 16 bytes."
    )

    price_file: Path | None = Field(
        None, description="Own prices, JSON or YAML, before the public table; read again when it changes or at SIGHUP."
    )
    price_file_every_s: float = Field(5.0, gt=0, description="How often that file is looked at.")

    def limits(self) -> Limits:
        """The part of the settings that the core needs."""
        return Limits(max_item_bytes=self.max_item_bytes, max_future_us=self.max_future_s * 1_000_000)
