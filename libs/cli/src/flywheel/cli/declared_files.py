"""Files that declare something: reading their text, and saying what is wrong with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NoReturn

import click

from flywheel.cli.output import fail, print_json
from flywheel.policy.strict_yaml import YamlInvalid


def read_text(file: Path, *, most_bytes: int | None = None) -> str:
    """Return the text of a file; end with one line where it is too long or not UTF-8."""
    if most_bytes is not None and file.stat().st_size > most_bytes:
        fail(f"{file}: is longer than {most_bytes} bytes")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fail(f"{file}: not UTF-8: {error.reason} at byte {error.start}")


def end_with_problems(file: Path, error: YamlInvalid, *, as_json: bool = False) -> NoReturn:
    """Show every problem of a file with its line and field; exit code 1."""
    if as_json:
        print_json({"valid": False, "problems": [dataclasses.asdict(problem) for problem in error.problems]})
    else:
        for problem in error.problems:
            click.echo(f"{file}:{problem.line}: {problem.field}: {problem.message}", err=True)
    raise SystemExit(1) from error


def end_with_first_problem(file: Path, error: YamlInvalid, check: str) -> NoReturn:
    """End with the first problem of a file and how many more there are; ``check`` is the command that shows them."""
    first, *others = error.problems
    more = f" (and {len(others)} more: {check} {file})" if others else ""
    fail(f"{file}:{first.line}: {first.field}: {first.message}{more}")
