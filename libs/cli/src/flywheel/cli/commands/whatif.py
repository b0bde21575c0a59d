"""``flywheel whatif``: what another policy would have earned on the decisions that were logged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson

from flywheel.cli.addresses import current_addresses
from flywheel.cli.candidates import (
    Candidate,
    CandidateInvalid,
    fixed_shares,
    from_event,
    judged_charter,
    parse_shares,
    written_targets,
)
from flywheel.cli.declared_files import end_with_first_problem, read_text
from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.logged_rows import Left, LoggedRow, charter_range, read_rows, recorded_rows
from flywheel.cli.output import fail, json_option, print_json
from flywheel.cli.periods import FOREVER_US, check_period, instant
from flywheel.cli.questions import QueryFailed, Rows, ask
from flywheel.cli.what_if import LEARN_SHARE, LEVEL, MOST_ROWS, NOT_BETTER, TIMEOUT_S, slice_as_json, what_if
from flywheel.cli.what_if_report import show, why_left
from flywheel.policy.charter_yaml import CharterInvalid, parse_charter
from flywheel.stats import better

MOST_POLICY_BYTES: Final = 1 << 20
_NO_RANGE: Final = "rewards lie outside of 0 to 1: say the range they can have, e.g. --reward-range -0.3:1"


@click.command()
@click.argument("feature", required=False)
@click.option("--project", default="default", show_default=True)
@click.option("--from", "start_us", type=instant, help="Decisions from then on (UTC); default: all.")
@click.option("--to", "stop_us", type=instant, help="Decisions until then, exclusive.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A log of your own, JSONL, instead of the recorded decisions of FEATURE.",
)  # fmt: skip
@click.option(
    "--policy", "policy_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The other policy: a charter (YAML), or a policy as `flywheel policy show --json` prints it.",
)  # fmt: skip
@click.option("--shares", help="The other policy: fixed shares, e.g. cheap=.7,strong=.3.")
@click.option("--arm", help="The other policy: always this arm.")
@click.option("--by", multiple=True, help="Also by the values of this context field; may be given several times.")
@click.option("--reward-range", help="Smallest and largest reward possible, LOW:HIGH; default: a charter's, else 0:1.")
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=LEVEL, show_default=True, help="Confidence.")
@click.option(
    "--learn-share", type=click.FloatRange(0.05, 0.95), default=LEARN_SHARE, show_default=True,
    help="Of the log, oldest first, what a charter that learns forms its beliefs on; the rest judges it.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(1, 2_000_000), default=MOST_ROWS, show_default=True, help="Newest decisions taken."
)
@click.option("--require-better", is_flag=True, help="Exit code 1 unless it is proven to earn more than the log did.")
@json_option
def whatif(  # noqa: PLR0917 - one parameter for each option
    feature: str | None, project: str, start_us: int | None, stop_us: int | None, file: Path | None,
    policy_file: Path | None, shares: str | None, arm: str | None, by: tuple[str, ...], reward_range: str | None,
    level: float, learn_share: float, most: int, require_better: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say what another policy would have earned on the decisions of FEATURE, or of a file.

    A line of --file is {"arm": "cheap", "reward": 0.8, "arms": ["cheap", "strong"], "propensities": [0.7, 0.3]}, with
    "context", "time" and "target" (what the other policy would have chosen, by arm) where there are; "propensity" of
    the arm alone will do for arms and propensities, at the price of wider bounds and of not knowing what was never
    tried. A claim that the log cannot carry is refused, with the reason, and the exit code is 1.
    """
    if (feature is None) == (file is None):
        raise click.UsageError("give either FEATURE or --file")
    if sum(one is not None for one in (policy_file, shares, arm)) > 1:
        raise click.UsageError("give one of --policy, --shares and --arm")
    if file is None and policy_file is None and shares is None and arm is None:
        raise click.UsageError("give the other policy: --policy, --shares or --arm")
    left = Left()
    running: tuple[float, float] | None = None
    if file is not None:
        rows = _of_file(file, most, left)
    else:
        assert feature is not None
        period = (start_us or 0, FOREVER_US if stop_us is None else stop_us)
        rows, running = _recorded(feature, project=project, period=period, most=most, left=left)
    if not rows:
        fail(f"no decision with a reward to judge by{why_left(left)}")
    try:
        candidate, judging, declared, called = _candidate(policy_file, shares, arm, rows, learn_share)
    except CandidateInvalid as error:
        fail(str(error))
    low, high = _range(reward_range, declared or running, judging)
    parts = what_if(judging, candidate, low=low, high=high, alpha=1.0 - level, by=by)
    if as_json:
        heading = {"policy": called, "reward_range": [low, high], "level": level, "left_out": left.counts}
        print_json({**heading, "whole": slice_as_json(parts[0]), "slices": [slice_as_json(part) for part in parts[1:]]})
    else:
        show(parts, called, left)
    whole = parts[0].found
    if whole.refusals:
        fail(f"refused: {'; '.join(whole.refusals)}")
    if require_better and not better(whole):
        fail(NOT_BETTER)
    if left.counts.get("lines that could not be read"):
        fail(f"{left.counts['lines that could not be read']} lines could not be read")


def _of_file(file: Path, most: int, left: Left) -> list[LoggedRow]:
    name = called(file)
    with click.open_file(str(file), "rb") as stream:
        rows = list(
            read_rows(
                limited_lines(stream), lambda number, why: click.echo(f"{name}: line {number}: {why}", err=True), left
            )
        )
    left.add("older than the newest asked for", max(0, len(rows) - most))
    return rows[-most:]


def _recorded(
    feature: str, *, project: str, period: tuple[int, int], most: int, left: Left
) -> tuple[list[LoggedRow], tuple[float, float] | None]:
    """The decisions of a feature, and the range of its newest charter's reward."""
    check_period(*period)
    url = current_addresses().clickhouse
    click.echo(f"reading the decisions of {project}/{feature} …", err=True)

    def asked(query: str) -> Rows:
        return ask(url, query, timeout_s=TIMEOUT_S)

    try:
        rows = recorded_rows(asked, project=project, feature=feature, period=period, most=most, left=left)
        return rows, charter_range(asked, project=project, feature=feature)
    except QueryFailed as error:
        fail(str(error))


def _candidate(
    policy_file: Path | None, shares: str | None, arm: str | None, rows: Sequence[LoggedRow], learn_share: float
) -> tuple[Candidate, Sequence[LoggedRow], tuple[float, float] | None, str]:
    """The other policy, the rows that judge it, the range of its charter's reward, and what to call it."""
    if arm is not None:
        return fixed_shares({arm: 1.0}), rows, None, f"always {arm}"
    if shares is not None:
        return fixed_shares(parse_shares(shares)), rows, None, f"shares {shares}"
    if policy_file is None:
        return written_targets(rows), rows, None, "the file's targets"
    text = read_text(policy_file, most_bytes=MOST_POLICY_BYTES)
    if text.lstrip().startswith("{"):
        return from_event(_json(policy_file, text)), rows, None, f"{policy_file.name}, beliefs as written"
    try:
        charter = parse_charter(text)
    except CharterInvalid as error:
        end_with_first_problem(policy_file, error, "flywheel charter check")
    candidate, judging = judged_charter(charter, rows, learn_share)
    formed = len(rows) - len(judging)
    called = f"{policy_file.name}, beliefs formed on the first {formed} decisions" if formed else policy_file.name
    return candidate, judging, charter.reward_range, called


def _json(file: Path, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"{file}: not JSON: {error}")


def _range(given: str | None, declared: tuple[float, float] | None, rows: Sequence[LoggedRow]) -> tuple[float, float]:
    """The range of the reward: as said, a charter's, or 0 to 1."""
    if given is not None:
        try:
            low, high = (float(end) for end in given.split(":"))
        except ValueError:
            raise click.UsageError(f"--reward-range {given!r} is not LOW:HIGH, e.g. -0.3:1") from None
        if not low < high:
            raise click.UsageError("--reward-range: LOW must be below HIGH")
        return low, high
    low, high = declared or (0.0, 1.0)
    if not all(low <= row.reward <= high for row in rows):
        fail(_NO_RANGE if declared is None else f"rewards lie outside of the charter's {low:g} to {high:g}")
    return low, high
