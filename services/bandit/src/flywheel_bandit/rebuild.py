"""``python -m flywheel_bandit.rebuild``: what a bandit without its disk can come back from, and its states from
ClickHouse as far as Kafka's log no longer goes back."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from flywheel.events import Codec, load_registry
from flywheel.observe import SettingsInvalid, load_settings
from flywheel.stream import Fatal, TopicPartition, Unavailable
from flywheel_bandit.core import INPUTS
from flywheel_bandit.kafka_edges import Edges, read_edges
from flywheel_bandit.recorded import NotReadable, Recorded
from flywheel_bandit.replaying import Replayed, replay
from flywheel_bandit.settings import BanditSettings
from flywheel_bandit.wiring import JOIN, NAME


class CannotRebuild(RuntimeError):
    """Going on would make a state that is not the one that was lost; says what to do."""


@dataclass(slots=True)
class Report:
    """What was found and done. Offsets by ``topic/partition``.

    Attributes:
        needs_clickhouse: Kafka's log begins later than the facts, so a bandit that reads it alone would forget.
        kafka_begins: the first offset that Kafka still has.
        reads_on_at: the offset from which the service reads on.
        moved_aside: where the states that were there are now.
        folded: facts folded; ``seconds`` it took.
        repeats, refused: records without a row, rightly.
        unaccounted: records of which ClickHouse has no word: older than its retention, or lost.
        inexact: what can make the states differ from those that were lost, in words; empty when nothing can.
        digests: of each shard's state.
    """

    needs_clickhouse: bool
    kafka_begins: dict[str, int]
    reads_on_at: dict[str, int] = field(default_factory=dict)
    moved_aside: str | None = None
    folded: int = 0
    seconds: float = 0.0
    repeats: int = 0
    refused: int = 0
    unaccounted: int = 0
    inexact: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)


async def rebuild(
    settings: BanditSettings, *, clickhouse: str | None, force: bool = False, accept_loss: bool = False
) -> Report:
    """Say what Kafka has, and with ``clickhouse`` (a URL) make the states of stage 1.

    Args:
        settings: the service's own.
        clickhouse: HTTP address of ClickHouse; None only looks, and moves states aside when forced.
        force: move states that are there aside; else they are a reason to refuse.
        accept_loss: go on where records are gone from Kafka and not in ClickHouse.

    Raises:
        CannotRebuild: the service runs, a state is there, or records are missing.
        NotReadable: ClickHouse does not answer.
        Unavailable: Kafka does not answer.
    """
    folder = settings.state_dir / NAME / JOIN
    edges = await read_edges(settings.kafka_bootstrap, f"{settings.group}-{JOIN}")
    if edges.members:
        raise CannotRebuild(f"{edges.members} members of the group {settings.group}-{JOIN} run: stop the bandit first")
    _refuse_open(folder)
    late = any(edges.begins.values())
    report = Report(late, {_name(tp): begin for tp, begin in edges.begins.items() if begin})
    if folder.exists() and any(folder.iterdir()) and not force and clickhouse is not None:
        raise CannotRebuild(f"{folder} is not empty: give --force to move it aside, or remove it")
    made = folder.with_name(f"{folder.name}.rebuilding")
    if clickhouse is not None:
        _clear(made)
        recorded = Recorded(clickhouse, Codec(load_registry()))
        until = await _ends(settings, recorded, edges, accept_loss)
        started = time.perf_counter()
        replayed = await replay(settings, recorded, until, made)
        report.seconds = round(time.perf_counter() - started, 3)
        _fill(report, recorded, until, replayed)
    if folder.exists() and force:
        report.moved_aside = str(_aside(folder))
    if made.exists():
        # Only now: a rebuild that was cut short leaves nothing that the service would take for a state.
        made.rename(folder)
    return report


async def _ends(
    settings: BanditSettings, recorded: Recorded, edges: Edges, accept_loss: bool
) -> dict[TopicPartition, int]:
    """How far each partition is taken from ClickHouse: all topics of a shard to the same moment.

    Kafka deletes by segments, so a quiet topic goes back further than a busy one. Had each topic its own end, the
    service would read on with the topics days of event time apart, and drop parts as too late.
    """
    newest = recorded.newest()
    until: dict[TopicPartition, int] = {}
    for shard in sorted({tp.partition for tp in edges.begins}):
        held = [TopicPartition(topic, shard) for topic in INPUTS]
        moments = [recorded.arrived_before(tp, edges.begins[tp]) for tp in held if edges.begins[tp]]
        if not any(edges.begins[tp] for tp in held):
            continue  # Kafka has this shard's whole log
        found = await edges.at(settings.kafka_bootstrap, held, max(moments) + 1)
        for tp in held:
            known = newest.get(tp, 0)
            if known < edges.begins[tp] and not accept_loss:
                raise CannotRebuild(
                    f"{_name(tp)}: Kafka begins at {edges.begins[tp]}, ClickHouse ends at {known}: the records"
                    " between are in neither. --accept-loss goes on without them"
                )
            if edges.begins[tp] <= known < found[tp]:
                raise CannotRebuild(
                    f"{_name(tp)}: ClickHouse ends at {known} of {found[tp]}: let the recorder catch up"
                )
        until |= found
    return until


def _fill(report: Report, recorded: Recorded, until: Mapping[TopicPartition, int], replayed: Replayed) -> None:
    report.reads_on_at = {_name(tp): offset for tp, offset in sorted(until.items())}
    report.folded = sum(replayed.rows.values())
    report.digests = dict(replayed.digests)
    differing = unknown = 0
    for tp, offset in until.items():
        account = recorded.account(tp, offset)
        report.repeats += account.repeats
        report.refused += account.refused
        differing += account.differing
        unknown += account.refused_here_only
        report.unaccounted += max(0, offset - replayed.rows[tp] - account.repeats - account.refused)
    if differing:
        report.inexact.append(f"{differing} records repeated an event with another content, which ClickHouse has not")
    if unknown:
        report.inexact.append(f"{unknown} records were refused by the recorder alone: flywheel dlq list shows them")
    if report.unaccounted:
        report.inexact.append(f"{report.unaccounted} records are in neither: past ClickHouse's retention, or lost")


def _refuse_open(folder: Path) -> None:
    """Raise CannotRebuild when a process has one of the states open. A file that is no state is no reason."""
    for path in sorted(folder.glob("*.sqlite")):
        db = sqlite3.connect(path, timeout=0)
        try:
            # Leaving the write-ahead log needs the file to oneself.
            with contextlib.suppress(sqlite3.DatabaseError):
                db.execute("PRAGMA schema_version").fetchone()
            db.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise CannotRebuild(f"{path} is open in a process: stop the bandit first") from error
        except sqlite3.DatabaseError:
            continue
        finally:
            db.close()


def _aside(folder: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = folder.with_name(f"{folder.name}.before-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}.before-{stamp}-{number}")
    return folder.rename(target)


def _clear(folder: Path) -> None:
    """Remove what a rebuild that was cut short left."""
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}/{tp.partition}"


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild as the command line says; prints the report as JSON. Exit code 1 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m flywheel_bandit.rebuild", description=__doc__)
    parser.add_argument("--from-clickhouse", metavar="URL", help="make the states from the facts in ClickHouse")
    parser.add_argument("--force", action="store_true", help="move states that are there aside")
    parser.add_argument("--accept-loss", action="store_true", help="go on without records that are nowhere any more")
    parser.add_argument("--json", action="store_true", help="the report is JSON in any case")
    arguments = parser.parse_args(argv)
    try:
        report = asyncio.run(
            rebuild(
                load_settings(BanditSettings),
                clickhouse=arguments.from_clickhouse,
                force=arguments.force,
                accept_loss=arguments.accept_loss,
            )
        )
    except SettingsInvalid as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except (CannotRebuild, NotReadable, Unavailable, Fatal, OSError) as error:
        parser.exit(1, f"{' '.join(str(error).split())}\n")
    body: dict[str, Any] = asdict(report)
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
