"""How the command speaks: tables for people, JSON for programs, one clear line for an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Something that went wrong while doing what was asked: one line on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"flywheel: {self.format_message()}", file=file or sys.stderr)


class RequirementMissing(Failure):
    """Something that this machine lacks: exit code 2, as for a command line that makes no sense."""

    exit_code = 2


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 1."""
    raise Failure(" ".join(message.split()))


def json_option(command: F) -> F:
    """Adds ``--json`` to a command, passed on as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def console() -> Console:
    """Standard output; plain and unwrapped where it is not a terminal."""
    plain = not sys.stdout.isatty()
    return Console(file=sys.stdout, no_color=plain, width=160 if plain else None, highlight=False, soft_wrap=plain)


def quiet_console() -> Console:
    """Standard error, plain: for progress while standard output carries JSON."""
    return Console(file=sys.stderr, no_color=True, width=160, highlight=False, soft_wrap=True, force_terminal=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(orjson.dumps(value, default=plain, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_json_line(value: Any) -> None:
    """One JSON document in one line on stdout, at once."""
    sys.stdout.write(orjson.dumps(value, default=plain).decode() + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """JSON for what JSON has no word for: money and paths as text, bytes as text or hex."""
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> Table:
    """A table; numbers to the right, unknown as a dash."""
    made = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for place, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], int | float | Decimal | None) for row in rows)
        made.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))  # not as rich's markup: texts of others have brackets too
    return made


def cell(value: Any) -> str:
    """A value as a person reads it in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)
