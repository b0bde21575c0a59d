"""Settings come from the environment or from files, say where from, and never show a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import AliasChoices, Field, SecretStr, ValidationError

from flywheel.observe import ServiceSettings, SettingsInvalid, command_line, describe, load_settings


class RecorderSettings(ServiceSettings):
    service: ClassVar[str] = "recorder"
    port: int = Field(8123, ge=0, le=65535, description="Port of the SQL side.")
    clickhouse_url: str | None = Field(
        None, validation_alias=AliasChoices("CLICKHOUSE_URL", "clickhouse_url"), description="A ClickHouse server."
    )
    clickhouse_password: SecretStr | None = Field(None, description="Its password.")


@pytest.fixture(autouse=True)
def _no_settings_outside_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ("KAFKA_BOOTSTRAP", "PORT", "HOST", "OPS_PORT", "LOG_LEVEL", "STATE_DIR", "CLICKHOUSE_PASSWORD"):
        monkeypatch.delenv(f"FLYWHEEL_{field}", raising=False)
    monkeypatch.delenv("CLICKHOUSE_URL", raising=False)


def test_every_field_of_the_base_is_described() -> None:
    assert all(field.description for field in ServiceSettings.model_fields.values())


def test_the_environment_wins_over_defaults_and_arguments_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(RecorderSettings).port == 8123
    monkeypatch.setenv("FLYWHEEL_PORT", "9000")
    monkeypatch.setenv("CLICKHOUSE_URL", "http://ch:8123")
    monkeypatch.setenv("FLYWHEEL_SOMETHING_ELSE", "ignored")
    settings = load_settings(RecorderSettings)
    assert (settings.port, settings.clickhouse_url) == (9000, "http://ch:8123")
    assert load_settings(RecorderSettings, port=0).port == 0


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_PORT", "")
    assert load_settings(RecorderSettings).port == 8123


def test_a_secret_is_read_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_PASSWORD_FILE", str(secret))
    settings = load_settings(RecorderSettings)
    assert settings.clickhouse_password is not None
    assert settings.clickhouse_password.get_secret_value() == "hunter2"
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_PASSWORD_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsInvalid, match="FLYWHEEL_CLICKHOUSE_PASSWORD_FILE: reading"):
        load_settings(RecorderSettings)


def test_the_port_is_not_read_from_the_file_into_which_it_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLYWHEEL_PORT_FILE", str(tmp_path / "not-there-yet.json"))
    assert load_settings(RecorderSettings).port == 8123


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings(RecorderSettings).port = 1


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("FLYWHEEL_PORT", "99999", "FLYWHEEL_PORT: .*65535.*'99999'"),
        ("FLYWHEEL_PORT", "web", "FLYWHEEL_PORT: .*integer.*'web'"),
        ("FLYWHEEL_LOG_LEVEL", "chatty", "FLYWHEEL_LOG_LEVEL: "),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=complaint):
        load_settings(RecorderSettings)


def test_each_setting_tells_its_value_and_source_and_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("CLICKHOUSE_URL", "http://ch:8123")
    rows = {row.name: row for row in describe(load_settings(RecorderSettings, port=1))}
    assert (rows["port"].value, rows["port"].source) == (1, "argument")
    assert (rows["host"].value, rows["host"].source) == ("127.0.0.1", "default")
    assert rows["clickhouse_url"].source == "env CLICKHOUSE_URL"
    assert (rows["clickhouse_password"].value, rows["clickhouse_password"].source) == ("********", f"file {secret}")
    with pytest.raises(SystemExit) as ended:
        command_line(RecorderSettings, "Records.", ["--print-config"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert json.loads(out)["port"] == {
        "value": 8123,
        "source": "default",
        "variable": "FLYWHEEL_PORT",
        "description": "Port of the SQL side.",
    }


def test_help_lists_every_variable_and_a_bad_one_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line(RecorderSettings, "Records.", ["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "CLICKHOUSE_URL" in out
    assert "FLYWHEEL_KAFKA_BOOTSTRAP" in out
    monkeypatch.setenv("FLYWHEEL_PORT", "x")
    with pytest.raises(SystemExit) as ended:
        command_line(RecorderSettings, "Records.", [])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
