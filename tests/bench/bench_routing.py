"""Routers on recorded answers: RouteLLM's MMLU subjects and GSM8K (two models), LLMRouter's queries (nine models).

Online: each of the first labels is predicted before it is learned, and the figure is of the queries after them.
Offline: cross-fitted over five folds. What RouteLLM published is printed beside its sets: of all 57 subjects, and
trained on other labels. Results, with 95 % intervals over queries and seeds, go to ``results/routing_<set>.json``;
they are no timings.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness import RESULTS

from flywheel.routing.bootstrap import Interval
from flywheel.routing.compare import Comparison, Options, compare
from flywheel.routing.features import ReadTexts
from flywheel.routing.queries import Collector, LineInvalid, Query, RoutingSet, correctness_rows
from flywheel.routing.swap import recover
from flywheel.testkit.recorded import data_folder

COMMAND: Final = "python tests/bench/run.py routing"
PUBLISHED: Final = {
    # Ong et al. 2024, arXiv 2406.18665: CPT 50 %, CPT 80 %, APGR.
    "mmlu": {
        "MF +gold": (35.46, 71.40, 0.597),
        "SW +gold": (35.40, 71.55, 0.603),
        "causal +gold": (35.49, 70.31, 0.600),
    },
    "gsm8k": {"MF +judge": (38.82, 72.62, 0.565), "causal +judge": (33.64, 63.26, 0.622)},
}
SKIPPED_BEFORE_MATCH: Final = 12


@dataclass(frozen=True, slots=True)
class Set:
    """A recorded set, how it is tried, and the figure asked for."""

    name: str
    read: Callable[[Path], RoutingSet]
    options: Options
    asked: float


def routellm(files: list[Path]) -> RoutingSet:
    """RouteLLM's tables; a file's name is the group."""
    collector = Collector()
    for file in files:
        group = file.stem.removeprefix("mmlu_").removesuffix("_responses")
        with file.open(newline="", encoding="utf-8") as stream:
            for number, row in correctness_rows(stream, group):
                wrong = row if isinstance(row, LineInvalid) else collector.add(row)
                if wrong is not None:
                    print(f"{file.name}: line {number}: {wrong}", file=sys.stderr)
    return collector.finish()


def llmrouter(folder: Path) -> RoutingSet:
    """LLMRouter's queries with the scores of nine models; the task of a query is its group."""
    rows = json.loads((folder / "llmrouter" / "train.json").read_text(encoding="utf-8"))
    lines = (folder / "llmrouter" / "task_names_train.jsonl").read_bytes().splitlines()  # texts hold U+2028
    tasks = [json.loads(line) for line in lines]
    collector = Collector()
    for row, task in zip(rows, _tasks(rows, tasks), strict=True):
        scores = {model: float(score) for model, score in row["scores"].items()}
        collector.add(Query(row["question"], task, scores, None))
    return collector.finish()


def _tasks(rows: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> Iterator[str | None]:
    """The task of each row: both files have one order, in which a few queries are in one of them alone."""
    place = 0
    for row in rows:
        text = " ".join(row["question"].split())
        ahead = range(place, min(place + SKIPPED_BEFORE_MATCH, len(tasks)))
        found = next((n for n in ahead if " ".join(tasks[n]["query"].split())[:40] in text), None)
        yield None if found is None else tasks[found]["task_name"]
        place = place if found is None else found + 1


SETS: Final = (
    Set("gsm8k", lambda f: routellm([f / "routellm" / "gsm8k_responses.csv"]), Options("online", 650), 0.63),
    Set("mmlu", lambda f: routellm(sorted((f / "routellm" / "mmlu").glob("*.csv"))), Options("online", 1500), 0.66),
    Set("llmrouter", llmrouter, Options("offline", seeds=1), 0.40),
)


def show(found: Comparison, asked: float) -> None:
    """The table, and what was asked for."""
    print(
        f"{found.queries} queries, {found.budget or 'all other'} labels, {found.figure}; asked {asked} of {found.ours}"
    )
    for row in found.rows:
        less = "" if row.ours_less is None else f"  ours higher by {_interval(row.ours_less)}"
        between = "" if math.isnan(row.cpt50) else f"  CPT50 {row.cpt50:.1%} CPT80 {row.cpt80:.1%}"
        print(f"  {row.name:32s} {_interval(row.figure)}  quality {row.quality:.3f}{between}{less}")
    if found.learning:
        print("  as labels arrive: " + ", ".join(f"{n}: {value:.3f}" for n, value in found.learning))


def _interval(found: Interval) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def body(found: Comparison, one: Set) -> dict[str, Any]:
    """What is written: figures only, so that the file changes when they do."""
    return {
        "name": f"routing_{one.name}",
        "figure": found.figure,
        "mode": one.options.mode,
        "queries": found.queries,
        "labels": found.budget,
        "seeds": one.options.seeds,
        "asked": one.asked,
        "ours": found.ours,
        "rows": [
            {
                "name": row.name,
                **_numbers("", row.figure),
                **({} if row.ours_less is None else _numbers("ours_higher_by_", row.ours_less)),
                "quality": round(row.quality, 4),
                **({} if math.isnan(row.cpt50) else {"cpt50": round(row.cpt50, 4), "cpt80": round(row.cpt80, 4)}),
            }
            for row in found.rows
        ],
        "as_labels_arrive": [[n, round(value, 4)] for n, value in found.learning],
        "command": COMMAND,
    }


def _numbers(prefix: str, found: Interval) -> dict[str, float]:
    return {f"{prefix}{name}": round(getattr(found, name), 4) for name in ("value", "low", "high")}


def main() -> int:
    """Compare on every set asked for; exit 1 where the data is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(one.name for one in SETS))
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        print("the shared data folder is absent; FLYWHEEL_DATA names it", file=sys.stderr)
        return 1
    for one in SETS:
        if arguments.sets and one.name not in arguments.sets:
            continue
        print(f"== {one.name}", flush=True)
        data = one.read(folder)
        found = compare(data, one.options, lambda step: print(f"  {step}", file=sys.stderr, flush=True))
        show(found, one.asked)
        for name, (cpt50, cpt80, area) in PUBLISHED.get(one.name, {}).items():
            print(f"  RouteLLM {name}, as published: {area:.3f}  CPT50 {cpt50:.1f}% CPT80 {cpt80:.1f}%")
        written = body(found, one)
        if one.name == "gsm8k":
            written["swap"] = _swap(data)
        (RESULTS / f"routing_{one.name}.json").write_text(json.dumps(written, indent=2) + "\n")
    return 0


def _swap(data: RoutingSet) -> list[dict[str, Any]]:
    """The models change places in the middle of 1,200 labels."""
    found = recover(ReadTexts.of(data.texts, data.groups), data.scores, labels=1200)
    for row in found:
        print(
            f"  swap at 600: {row.name:30s} before {row.before:.3f}, 150 after {row.first:.3f}, later {row.later:.3f}"
        )
    return [
        {
            "name": row.name,
            "before": round(row.before, 4),
            "first_150": round(row.first, 4),
            "later": round(row.later, 4),
            "forgot_at": list(row.resets),
        }
        for row in found
    ]


if __name__ == "__main__":
    raise SystemExit(main())
