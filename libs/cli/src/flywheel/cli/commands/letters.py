"""``flywheel dlq``: dead letters listed, shown, put back, settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.dead_letters import Choice, Post, carry_out, post, read_standings
from flywheel.cli.letter_views import groups, line, since_us, whole
from flywheel.cli.live_topics import KafkaAway
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.stream.letters import Letter, Move, Standing, plan

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
SHORTEST_ID: Final = 6
STATES: Final = ("open", "replayed", "refused again", "dropped")


def _filters(command: F) -> F:
    options = [
        click.option("--topic", help="Only letters of this source topic."),
        click.option("--reason", help="Only letters with this reason."),
        click.option("--service", help="Only letters of this service."),
        click.option("--since", callback=_since, help="Only records at or after: 90m, 2h, 3d ago, or an ISO time."),
        click.option("--kafka", help="Kafka brokers, host:port; default: the running system's."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _since(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else since_us(text, time.time_ns() // 1000)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither 90m, 2h or 3d nor an ISO time") from error


@click.group()
def dlq() -> None:
    """Dead letters: records that a service could not process, each with its reason."""


@dlq.command("list")
@_filters
@click.option("--state", type=click.Choice(STATES), help="Only letters in this state.")
@click.option("-n", "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Newest letters shown.")
@json_option
def list_(*, kafka: str | None, state: str | None, limit: int, as_json: bool, **filters: Any) -> None:
    """Count dead letters by topic, reason, field and service, and show the newest."""
    choice = Choice(filters["topic"], filters["reason"], filters["service"], filters["since"])

    async def read(at: Post) -> list[Standing]:
        return await read_standings(at, lambda _: False)

    every = _with_post(kafka, read)
    found = [s for s in every if choice.takes(s.letter) and state in (None, s.state)]
    shown = [line(s) for s in reversed(found[len(found) - min(limit, len(found)) :])]
    if as_json:
        print_json({"letters": len(found), "groups": groups(found), "newest": shown})
        return
    names = ["topic", "reason", "field", "service", "letters", "open", "oldest", "newest"]
    console().print(table(names, [[getattr(group, name) for name in names] for group in groups(found)]))
    if shown:
        rows = [
            [s["id"], f"{s['topic']}/{s['partition']}/{s['offset']}", s["service"], s["reason"], _state(s), s["detail"]]
            for s in shown
        ]
        console().print()
        console().print(table(["id", "record", "service", "reason", "state", "detail"], rows))


def _state(shown: dict[str, Any]) -> str:
    return f"{shown['state']}, {shown['replays']} replays" if shown["replays"] else str(shown["state"])


@dlq.command()
@click.argument("letter_id", metavar="ID")
@click.option("--content", is_flag=True, help="Show prompts, answers and other free text too.")
@click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
@json_option
def show(letter_id: str, content: bool, kafka: str | None, as_json: bool) -> None:
    """Show a letter whole, its record decoded. ID may be shortened. The output is JSON; --json changes nothing."""
    _checked([letter_id])

    async def read(at: Post) -> dict[str, Any]:
        found = await read_standings(at, lambda letter: letter.id.startswith(letter_id))
        return whole(_named([letter_id], found)[0], at.codec, content=content)

    print_json(_with_post(kafka, read))


@dlq.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option(
    "--policy",
    type=click.Choice(["stop", "reinsert", "drop"]),
    default="stop",
    show_default=True,
    help="At a record refused again after a replay: halt, send it again, or settle its letters.",
)
@click.option("--max", "most", type=click.IntRange(min=1), default=3, show_default=True, help="Most replays a record.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def replay(
    *, ids: Sequence[str], kafka: str | None, policy: Any, most: int, dry_run: bool, as_json: bool, **filters: Any
) -> None:
    """Put the records of open letters back on their topics, by ID or by filter, the oldest first.

    A record goes back once, though several services refused it; each service knows by its event id what it already
    holds. Exit code 1 when something was left or the run halted.
    """
    moves = _act(ids, filters, kafka, dry_run, lambda chosen: plan(chosen, policy=policy, most=most))
    _report(moves, as_json, dry_run)
    if any(move.action in ("leave", "halt") for move in moves):
        raise SystemExit(1)


@dlq.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def drop(*, ids: Sequence[str], kafka: str | None, yes: bool, dry_run: bool, as_json: bool, **filters: Any) -> None:
    """Settle letters, by ID or by filter: they are not replayed any more. Their records stay in the dead letters."""

    def moves_of(chosen: Sequence[Standing]) -> list[Move]:
        moves = [Move("drop", [s.letter], s.replays) for s in chosen if s.state in ("open", "replayed")]
        if moves and not (yes or dry_run):
            click.confirm(f"Settle {len(moves)} letters?", abort=True, err=True)
        return moves

    _report(_act(ids, filters, kafka, dry_run, moves_of), as_json, dry_run)


def _act(
    ids: Sequence[str],
    filters: dict[str, Any],
    kafka: str | None,
    dry_run: bool,
    moves_of: Callable[[Sequence[Standing]], list[Move]],
) -> list[Move]:
    """Choose letters, plan, and carry it out; returns what was done, or would be."""
    if ids and any(value is not None for value in filters.values()):
        raise click.UsageError("name letters by ID or by filter, not both")
    if not ids and all(value is None for value in filters.values()):
        raise click.UsageError("name letters: by ID, or by --topic, --reason, --service or --since")
    _checked(ids)
    choice = Choice(filters["topic"], filters["reason"], filters["service"], filters["since"])

    def takes(letter: Letter) -> bool:
        return any(letter.id.startswith(part) for part in ids) if ids else choice.takes(letter)

    async def run(at: Post) -> list[Move]:
        found = await read_standings(at, takes)
        chosen = _named(ids, found) if ids else [s for s in found if takes(s.letter)]
        moves = moves_of(chosen)
        if not dry_run:
            await carry_out(at, moves, done=lambda _: None)
        return moves

    return _with_post(kafka, run)


def _report(moves: Sequence[Move], as_json: bool, dry_run: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "action": move.action,
            "letters": [letter.id for letter in move.letters],
            "topic": move.letters[0].topic,
            "replays": move.replays,
            "why": move.why,
        }
        for move in moves
    ]
    if as_json:
        print_json({"dry_run": dry_run, "moves": rows})
    elif not rows:
        click.echo("no letter to act on")
    else:
        cells = [[r["action"], ", ".join(r["letters"]), r["topic"], r["replays"], r["why"]] for r in rows]
        console().print(table(["would" if dry_run else "did", "letters", "topic", "replays", "why"], cells))


def _checked(ids: Sequence[str]) -> None:
    for part in ids:
        if len(part) < SHORTEST_ID:
            raise click.UsageError(f"{part!r} is too short for an id: at least {SHORTEST_ID} characters")


def _named(ids: Sequence[str], found: Sequence[Standing]) -> list[Standing]:
    """The one letter that each id or its beginning names."""
    chosen: dict[str, Standing] = {}
    for part in ids:
        alike = [s for s in found if s.letter.id.startswith(part)]
        if len(alike) != 1:
            fail(f"no dead letter {part}" if not alike else f"{len(alike)} dead letters begin with {part}: write more")
        chosen[alike[0].letter.id] = alike[0]
    return list(chosen.values())


def _with_post(kafka: str | None, work: Callable[[Post], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with post(kafka or current_addresses().kafka) as at:
            return await work(at)

    try:
        return asyncio.run(run())
    except KafkaAway as error:
        fail(str(error))
