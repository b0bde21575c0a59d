"""Settings of the router."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

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

    price_file: Path | None = Field(
        None, description="Own prices, JSON or YAML, before the public table, as ingest has them; read at the start."
    )
    providers_file: Path | None = Field(
        None, description="YAML of the providers that the gateway may call; absent: there is no gateway."
    )
    gateway_key: SecretStr | None = Field(
        None, description="Key that callers of the gateway must show; absent: whoever reaches the port may call."
    )
    gateway_project: str = Field("default", description="Project of requests that name none.")
    gateway_deadline_s: float = Field(
        120.0, gt=0, le=3600, description="Longest time for a request, retries included; a caller may ask for less."
    )
    gateway_attempts: int = Field(4, ge=1, le=20, description="Most attempts for one request.")
    gateway_tries_per_arm: int = Field(2, ge=1, le=10, description="Most attempts at one arm for one request.")
    gateway_passthrough: bool = Field(
        False, description="Whether provider/model may be called by name, without a decision."
    )
    gateway_on_disconnect: Literal["close", "drain"] = Field(
        "close", description="What is done with a stream whose caller left: closed (cost estimated) or read to its end."
    )
    gateway_content: bool = Field(False, description="Whether prompts and answers are published, redacted.")
    gateway_hedge: str = Field(
        "", description="Features (project/feature, separated by commas) whose slow requests are asked twice."
    )
    gateway_grace_s: float = Field(20.0, ge=0, le=600, description="How long streams may go on after SIGTERM.")
    redaction_policy_file: Path | None = Field(
        None, description="TOML that says what is done with personal data and secrets; absent: all are masked but URLs."
    )
    redaction_key: SecretStr | None = Field(
        None, description="Key of the hashes that a redaction policy may ask for, at least 16 bytes."
    )
    circuit_window_s: float = Field(30.0, gt=0, description="Window in which an arm's failures are counted.")
    circuit_least_attempts: int = Field(10, ge=1, description="Fewer attempts in the window open no circuit.")
    circuit_error_rate: float = Field(0.5, gt=0, le=1, description="Share of failures that opens an arm's circuit.")
    circuit_timeout_rate: float = Field(0.3, gt=0, le=1, description="Share of timeouts that opens it.")
    circuit_p99_ms: float | None = Field(
        None, gt=0, description="99th percentile of latency that opens it; absent: latency does not."
    )
    circuit_open_s: float = Field(
        5.0, gt=0, description="How long an open circuit waits before a probe; doubles while probes fail."
    )
