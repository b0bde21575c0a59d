"""Settings of the router."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from flywheel.observe import ServiceSettings


class RouterSettings(ServiceSettings):
    """Everything that can be set, from the environment."""

    service: ClassVar[str] = "router"

    port: int = Field(8082, ge=0, le=65535, description="Port of HTTP; 0 takes a free one.")
    grpc_port: int = Field(8083, ge=0, le=65535, description="Port of gRPC; 0 takes a free one.")
    user_hash_key: SecretStr | None = Field(
        None, description="Key with which users are hashed; without it a request that carries a user is refused."
    )
    journal_max_bytes: int = Field(
        256 << 20,
        ge=1 << 10,
        description="Most bytes of decisions that wait for Kafka on disk; beyond it requests are answered 503.",
    )
    journal_segment_bytes: int = Field(8 << 20, ge=1 << 8, description="Size of one file of the journal.")
    lease_wait_ms: int = Field(
        250, ge=0, le=60_000, description="How long a request waits for money that was asked for, in milliseconds."
    )
    remembered_decisions: int = Field(
        16_384, ge=1, description="Decisions kept in memory so that a repeated request gets the same answer, unlogged."
    )
