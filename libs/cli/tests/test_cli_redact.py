"""``flywheel redact``: texts and spans of a user's own file; bad lines named and skipped."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli

TEXT = "I am bob@example.com, see https://example.com"


def redact(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["redact", *arguments], prog_name="flywheel", input=stdin)


def write(folder: Path, *lines: Any) -> str:
    file = folder / "texts.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return str(file)


def read(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_line_gives_its_text_and_spans(tmp_path: Path) -> None:
    result = redact(write(tmp_path, {"text": TEXT}), "--field", "text", "--json")
    assert result.exit_code == 0
    line, summary = read(result)
    assert line["line"] == 1
    assert line["text"] == "I am [EMAIL_ADDRESS], see https://example.com"
    assert [(TEXT[s["start"] : s["end"]], s["kind"], s["action"]) for s in line["spans"]] == [
        ("bob@example.com", "email_address", "mask"),
        ("https://example.com", "url", "keep"),
    ]
    assert summary["summary"] == {"lines": 1, "bad": 0, "dropped": 0, "finds": {"email_address": 1, "url": 1}}


def test_people_read_one_text_a_line_from_standard_input() -> None:
    result = redact("-", "--field", "text", stdin='{"text": "mail a@b.org\\nnow"}\n\n{"text": "hello"}\n')
    assert result.stdout == "mail [EMAIL_ADDRESS]\\nnow\nhello\n"
    assert result.stderr == "2 lines, 0 dropped; found: email_address 1\n"


def test_a_nested_field_is_found_and_redacted_whole(tmp_path: Path) -> None:
    call = {"request": {"messages": [{"role": "user", "content": TEXT, "phone": 5551234567, "raw": [[]]}]}}
    result = redact(write(tmp_path, call), "--field", "request.messages", "--json")
    line = read(result)[0]
    assert line["value"][0]["phone"] == "[PHONE_NUMBER]"
    assert line["counts"] == {"email_address": 1, "phone_number": 1}
    assert line["dropped"] == []
    plain = redact(write(tmp_path, call), "--field", "request.messages")
    assert json.loads(plain.stdout) == line["value"]


def test_bad_lines_are_named_and_skipped(tmp_path: Path) -> None:
    file = write(tmp_path, b"{", [1], {"x": 1}, {"text": {"a": 1}}, {"text": "a@b.org"}, b"\xff")
    result = redact(file, "--field", "text", "--json")
    assert result.exit_code == 1
    lines = read(result)
    assert [line["line"] for line in lines if "error" in line] == [1, 2, 3, 6]
    assert lines[4]["text"] == "[EMAIL_ADDRESS]"
    assert "texts.jsonl: line 3: no field text" in result.stderr
    assert result.stderr.splitlines()[-1] == "flywheel: 4 of 6 lines could not be read"


def test_a_text_that_cannot_be_redacted_is_dropped_and_said(tmp_path: Path) -> None:
    result = redact(write(tmp_path, {"text": "x" * 1_000_001}), "--field", "text", "--json")
    line, summary = read(result)
    assert (line["text"], line["spans"]) == (None, [])
    assert line["dropped"] == "longer than 1000000 characters"
    assert summary["summary"]["dropped"] == 1
    assert redact(str(tmp_path / "texts.jsonl"), "--field", "text").stdout.startswith("[DROPPED: longer than")


class TestPolicy:
    POLICY = '[kinds]\nurl = "drop"\n[projects.shop.kinds]\nemail_address = "hash"\n'

    def test_the_projects_actions_and_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (policy := tmp_path / "policy.toml").write_text(self.POLICY)
        (key := tmp_path / "key").write_text("a key of sixteen bytes or more\n")
        arguments = (write(tmp_path, {"text": TEXT}), "--field", "text", "--policy", str(policy), "--project", "shop")
        by_option = redact(*arguments, "--key-file", str(key)).stdout
        assert by_option.startswith("I am [EMAIL_ADDRESS:")
        assert by_option.endswith(", see \n")
        monkeypatch.setenv("FLYWHEEL_REDACTION_KEY_FILE", str(key))
        assert redact(*arguments).stdout == by_option
        monkeypatch.setenv("FLYWHEEL_REDACTION_KEY", "a key of sixteen bytes or more")
        assert redact(*arguments).stdout == by_option
        monkeypatch.setenv("FLYWHEEL_REDACTION_KEY", "another key of sixteen bytes")
        assert redact(*arguments).stdout != by_option

    @pytest.mark.parametrize(
        ("policy", "complaint"),
        [
            (b'[kinds]\nemail = "mask"', "kinds.email: no such kind"),
            (b"\xff", "not UTF-8"),
            (b"#" * (2**20 + 1), "is longer than"),
            (b'default = "hash"', "no key"),
        ],
    )
    def test_a_policy_that_cannot_be_followed_shows_nothing(
        self, tmp_path: Path, policy: bytes, complaint: str
    ) -> None:
        (file := tmp_path / "policy.toml").write_bytes(policy)
        result = redact(write(tmp_path, {"text": TEXT}), "--field", "text", "--policy", str(file))
        assert result.exit_code == 1
        assert result.stdout == ""
        assert complaint in result.stderr

    def test_a_key_that_is_absent_or_short_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = write(tmp_path, {"text": TEXT})
        (short := tmp_path / "short").write_text("short")
        assert "16 bytes or more" in redact(file, "--field", "text", "--key-file", str(short)).stderr
        monkeypatch.setenv("FLYWHEEL_REDACTION_KEY_FILE", str(tmp_path / "absent"))
        assert "No such file" in redact(file, "--field", "text").stderr
