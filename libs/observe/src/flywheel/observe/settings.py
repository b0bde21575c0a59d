"""Settings: one frozen model per service, every field described, read from the environment or from secret files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import orjson
from pydantic import AliasChoices, Field, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flywheel.observe.logs import secret_name

ENV_PREFIX: Final = "FLYWHEEL_"
MASKED: Final = "********"


class SettingsInvalid(ValueError):
    """Settings that cannot be used; the message names each variable and what is wrong with it, never a secret's
    value."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force: ``source`` is ``default``, ``env NAME``, ``file PATH`` or ``argument``."""

    name: str
    variable: str
    value: Any
    source: str
    description: str


class ServiceSettings(BaseSettings):
    """What every service has. A subclass adds fields, each with a description; ``port`` gets the service's default
    there.

    A field ``kafka_bootstrap`` is read from ``FLYWHEEL_KAFKA_BOOTSTRAP``, or from the file named by
    ``FLYWHEEL_KAFKA_BOOTSTRAP_FILE`` (for secrets; trailing newline removed). A field with a ``validation_alias`` is
    read from that variable instead (``CLICKHOUSE_URL``). Unknown ``FLYWHEEL_`` variables are left alone: one
    environment serves all.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )
    service: ClassVar[str] = "flywheel"

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port separated by commas.")
    schema_registry_url: str | None = Field(
        None,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_URL", "schema_registry_url"),
        description="A Confluent-compatible schema registry; absent: the ids pinned in this repository.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; the default is reachable from this machine only.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    ops_port: int | None = Field(
        None, ge=0, le=65535, description="Port of /live, /ready and /metrics; absent: they are on the main port."
    )
    log_level: str = Field(
        "INFO", pattern="^(?i:debug|info|warning|error|critical)$", description="Least level that is logged."
    )
    state_dir: Path = Field(Path(".flywheel/state"), description="Folder of local state, one file per partition.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, SecretFiles(settings_cls))


class SecretFiles(PydanticBaseSettingsSource):
    """Reads field X from the file named by the variable ``X_FILE``.

    Not the port: ``FLYWHEEL_PORT_FILE`` names the file into which the port is written.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{variable_of(field_name, field)}_FILE")
        if not path or field_name == "port":
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{variable_of(field_name, field)}_FILE: reading {path}: {error}") from error

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable from which a field is read."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0] if isinstance(alias.choices[0], str) else None
    return alias if isinstance(alias, str) else f"{ENV_PREFIX}{name.upper()}"


S = TypeVar("S", bound=ServiceSettings)


def load_settings(settings_type: type[S], **overrides: Any) -> S:
    """Read settings from the environment; ``overrides`` win. Raises ``SettingsInvalid`` naming every bad variable."""
    try:
        return settings_type(**overrides)
    except ValidationError as error:
        problems = [_problem(settings_type, item) for item in error.errors(include_url=False, include_input=True)]
        raise SettingsInvalid("; ".join(problems)) from None


def _problem(settings_type: type[ServiceSettings], item: Mapping[str, Any]) -> str:
    name = str(item["loc"][0]) if item["loc"] else "settings"
    fields = settings_type.model_fields
    by_variable = {variable_of(field_name, field): field_name for field_name, field in fields.items()}
    field_name = name if name in fields else by_variable.get(name, name)
    variable = variable_of(field_name, fields[field_name]) if field_name in fields else name
    shown = "" if secret_name(field_name) or item["type"] == "missing" else f" (got {item['input']!r})"
    return f"{variable}: {item['msg']}{shown}"


def describe(settings: ServiceSettings, environ: Mapping[str, str] | None = None) -> list[Setting]:
    """Every setting in force, its variable, source and description; secrets masked."""
    env = os.environ if environ is None else environ
    described = []
    for name, field in type(settings).model_fields.items():
        variable = variable_of(name, field)
        value = getattr(settings, name)
        if env.get(variable):
            source = f"env {variable}"
        elif env.get(f"{variable}_FILE"):
            source = f"file {env[f'{variable}_FILE']}"
        else:
            source = "argument" if name in settings.model_fields_set else "default"
        described.append(Setting(name, variable, _shown(name, value), source, field.description or ""))
    return described


def _shown(name: str, value: Any) -> Any:
    if value is not None and (isinstance(value, SecretStr | SecretBytes) or secret_name(name)):
        return MASKED
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def print_config(settings: ServiceSettings) -> None:
    """Write every setting with its source to stdout, as JSON: ``{name: {value, source, variable, description}}``."""
    rows = {
        row.name: {"value": row.value, "source": row.source, "variable": row.variable, "description": row.description}
        for row in describe(settings)
    }
    sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")


def command_line(settings_type: type[S], description: str, argv: Sequence[str] | None = None) -> S:
    """The command line of a service: ``--help`` lists every variable, ``--print-config`` prints the settings and
    exits 0, otherwise the settings are returned. Exits 2 with one clear line when they are not valid."""
    lines = [
        f"  {variable_of(name, field):<34} {field.description} [default: {_default(field)}]"
        for name, field in settings_type.model_fields.items()
    ]
    parser = argparse.ArgumentParser(
        prog=f"python -m flywheel_{settings_type.service}",
        description=description,
        epilog="settings, from the environment (NAME, or NAME_FILE for a file that holds the value):\n"
        + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting with its source, secrets masked"
    )
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings(settings_type)
    except SettingsInvalid as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if arguments.print_config:
        print_config(settings)
        parser.exit(0)
    return settings


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else str(field.get_default(call_default_factory=True))
