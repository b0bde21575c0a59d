"""``flywheel redact``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
import orjson

from flywheel.cli.declared_files import read_text
from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.output import fail, json_option, print_json_line
from flywheel.redaction import MIN_KEY_BYTES, STANDARD, Policy, PolicyInvalid, Redactor, Span, find, parse_policies

KEY_ENV: Final = "FLYWHEEL_REDACTION_KEY"
MOST_LINE_BYTES: Final = 16 * 2**20
MOST_POLICY_BYTES: Final = 2**20
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class LineInvalid(ValueError):
    """A line that holds no text to redact; the message never quotes it."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--field", required=True, help="The field to redact; dots lead inwards: request.messages.")
@click.option("--policy", type=_FILE, help="Actions by kind and project, TOML; default: mask all but URLs.")
@click.option("--project", default="default", show_default=True, help="Whose policy and whose hashes.")
@click.option("--key-file", type=_FILE, help=f"The key of hashes; default: {KEY_ENV} or the file {KEY_ENV}_FILE names.")
@json_option
def redact(file: Path, *, field: str, policy: Path | None, project: str, key_file: Path | None, as_json: bool) -> None:
    """Redact a field of each line of FILE (JSONL; - is standard input).

    With --json a line gives {"line", "text", "spans"}: the redacted text, and kind, start, end, validator, confidence
    and action of each find in the text as it came; what cannot be redacted has "text": null and "dropped" with the
    reason. A field that is a list or an object gives {"line", "value", "counts", "dropped"}. The last line has the
    summary. Lines without such a field are named and skipped; then the exit code is 1.
    """
    actions = _policy(policy, project)
    redactor = Redactor(actions, key=_key(key_file), project=project)
    if redactor.closed is not None:
        fail(f"{redactor.closed}: give --key-file or {KEY_ENV}")
    summary: Counter[str] = Counter(lines=0, bad=0, dropped=0)
    finds: Counter[str] = Counter()
    with click.open_file(str(file), "rb") as stream:
        for number, raw in enumerate(limited_lines(stream, most_bytes=MOST_LINE_BYTES), start=1):
            if not raw.strip():
                continue
            summary["lines"] += 1
            try:
                made = {"line": number} | _redacted(_field(raw, field), redactor, actions)
            except LineInvalid as error:
                summary["bad"] += 1
                made = {"line": number, "error": str(error)}
                click.echo(f"{called(file)}: line {number}: {error}", err=True)
            _count(made, summary, finds)
            _print(made, as_json)
    if as_json:
        print_json_line({"summary": dict(summary) | {"finds": dict(sorted(finds.items()))}})
    else:
        found = ", ".join(f"{kind} {count}" for kind, count in sorted(finds.items())) or "nothing"
        click.echo(f"{summary['lines']} lines, {summary['dropped']} dropped; found: {found}", err=True)
    if summary["bad"]:
        fail(f"{summary['bad']} of {summary['lines']} lines could not be read")


def _policy(file: Path | None, project: str) -> Policy:
    if file is None:
        return STANDARD
    try:
        return parse_policies(read_text(file, most_bytes=MOST_POLICY_BYTES)).of(project)
    except PolicyInvalid as error:
        fail(f"{file}: {error}")


def _key(file: Path | None) -> bytes | None:
    """The key from the option's file, else from the environment, else from the file that the environment names."""
    named = os.environ.get(f"{KEY_ENV}_FILE")
    if file is None and KEY_ENV in os.environ:
        return os.environ[KEY_ENV].encode()
    if file is None and named is None:
        return None
    path = file or Path(named or "")
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        fail(f"reading the key of hashes from {path}: {error.strerror}")
    if len(key) < MIN_KEY_BYTES:
        fail(f"{path}: a key of hashes has {MIN_KEY_BYTES} bytes or more")
    return key


def _field(raw: bytes, path: str) -> Any:
    if len(raw) > MOST_LINE_BYTES:
        raise LineInvalid(f"longer than {MOST_LINE_BYTES} bytes")
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise LineInvalid(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(found, dict):
        raise LineInvalid("not an object")
    if path in found:
        return found[path]
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            raise LineInvalid(f"no field {path}")
        found = found[name]
    return found


def _redacted(value: Any, redactor: Redactor, actions: Policy) -> dict[str, Any]:
    if not isinstance(value, str):
        whole = redactor.value(value)
        dropped = [{"at": at, "reason": reason} for at, reason in whole.dropped]
        return {"value": whole.value, "counts": dict(whole.counts), "dropped": dropped}
    redacted = redactor.text(value)
    if redacted.text is None:
        return {"text": None, "spans": [], "dropped": redacted.dropped}
    kept = [span for span in find(value) if actions.action(span.kind) == "keep"]
    spans = sorted([*redacted.spans, *kept], key=lambda span: (span.start, span.end))
    return {"text": redacted.text, "spans": [_span(span, actions) for span in spans]}


def _span(span: Span, actions: Policy) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "start": span.start,
        "end": span.end,
        "validator": span.validator,
        "confidence": span.confidence,
        "action": actions.action(span.kind),
    }


def _count(made: dict[str, Any], summary: Counter[str], finds: Counter[str]) -> None:
    summary["dropped"] += bool(made.get("dropped"))
    finds.update(made.get("counts", {}))
    finds.update(span["kind"] for span in made.get("spans", ()))


def _print(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json_line(made)
    elif made.get("dropped") and "text" in made:
        click.echo(f"[DROPPED: {made['dropped']}]")
    elif "error" not in made:
        shown = made["text"] if "text" in made else orjson.dumps(made["value"]).decode()
        click.echo(shown.replace("\n", "\\n"))
