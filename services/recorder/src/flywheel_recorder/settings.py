"""Settings of the recorder, each from ``FLYWHEEL_<NAME>``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import AliasChoices, Field, SecretStr

from flywheel.observe import ServiceSettings


class RecorderSettings(ServiceSettings):
    """What an operator can change; see the service's page."""

    service: ClassVar[str] = "recorder"

    port: int = Field(8123, ge=0, le=65535, description="Port of the SQL endpoint; 0 takes a free one.")
    ops_port: int | None = Field(8124, ge=0, le=65535, description="Port of /live, /ready and /metrics.")
    clickhouse_path: Path = Field(
        Path(".flywheel/clickhouse"), description="Folder of the embedded engine; one process at a time may open it."
    )
    server_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("CLICKHOUSE_URL", "server_url"),
        description="http(s)://user:password@host:port of a ClickHouse server (CLICKHOUSE_URL); then rows go there and "
        "the SQL endpoint is off.",
    )
    batch_records: int = Field(20_000, ge=1, le=100_000, description="Most records in one batch.")
    batch_every_s: float = Field(0.4, ge=0, le=10, description="Shortest time from one batch to the next.")
    remembered_ids: int = Field(
        2_000_000, ge=8, description="Newest ids remembered per table, 8 bytes each, to notice events that come twice."
    )
    min_free_bytes: int = Field(
        256 << 20,
        ge=0,
        description="Free space on the disk of the embedded engine below which nothing is inserted: the recorder "
        "waits, as the engine does not always notice that a write came to nothing.",
    )
    users: SecretStr | None = Field(
        None,
        description='Who may ask, as JSON {"name": {"password_sha256": "…", "content": false}}, from the file that '
        "FLYWHEEL_USERS_FILE names. Absent: whoever reaches the port, without prompts and answers.",
    )
    query_seconds: float = Field(30.0, gt=0, description="Longest time of a query.")
    query_memory_bytes: int = Field(
        1_000_000_000, ge=1 << 20, description="Most memory of a query, its result included."
    )
    query_result_bytes: int = Field(256_000_000, ge=1024, description="Largest result of a query.")
    query_threads: int = Field(2, ge=1, le=64, description="Most threads of a query.")
    queries: int = Field(4, ge=1, le=64, description="Queries at the same time.")
