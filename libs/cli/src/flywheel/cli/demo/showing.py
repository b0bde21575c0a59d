"""What the demo shows: progress while it runs, then the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flywheel.cli.demo.playing import Progress
from flywheel.cli.demo.scoring import PhaseScores, Score, last_share
from flywheel.cli.demo.staging import DemoResult
from flywheel.cli.output import table
from flywheel.testkit import Answer, Experiment

RECENT = 100
LAST_SHOWN = 300
BAR = 24


class Display:
    """Live progress: one line that is redrawn on a terminal, or a plain line every two seconds elsewhere."""

    def __init__(self, console: Console, experiment: Experiment, reward_of: Callable[[Answer], float]) -> None:
        self._console = console
        self._experiment = experiment
        self._reward_of = reward_of
        self._live: Live | None = None
        self._printed_at = 0.0
        self._reward = 0.0
        self._counted = 0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def opening(self) -> None:
        """What is going to be played."""
        experiment = self._experiment
        kind = "simulated from published figures" if experiment.simulated else "recorded"
        phases = "; then ".join(
            f"{phase.name}: " + " or ".join(phase.models[arm].name for arm in experiment.arms)
            for phase in experiment.phases
        )
        self._console.print(f"Playing {experiment.source} ({kind}). {phases}.")

    def step(self, what: str) -> None:
        """One line about what happens now."""
        self._console.print(what, style="dim", markup=False)

    def show(self, progress: Progress) -> None:
        """Redraw, at most a few times a second."""
        for served in progress.served[self._counted :]:
            self._reward += self._reward_of(served.answer)
        self._counted = len(progress.served)
        done = self._counted == progress.total
        now = time.monotonic()
        if now - self._printed_at < (0.12 if self._live else 2.0) and not done:
            return
        self._printed_at = now
        line = progress_line(progress, self._experiment.arms, self._reward)
        if not self._console.is_terminal:
            self._console.print(line, markup=False)
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        self._live.update(Text(line))


def progress_line(progress: Progress, arms: Sequence[str], reward: float) -> str:
    """``[#####.....]  520/2000  march  last 100: gpt4 91 % gpt35 9 %  reward 388.1  lag 12``"""
    done = len(progress.served)
    filled = round(BAR * done / progress.total) if progress.total else BAR
    shares = " ".join(f"{arm} {last_share(progress.served, arm, RECENT):4.0%}" for arm in arms)
    bar = "#" * filled + "." * (BAR - filled)
    width = len(str(progress.total))
    return (
        f"[{bar}] {done:>{width}}/{progress.total}  {progress.phase:<6} last {RECENT}: {shares}"
        f"  reward {reward:8.1f}  lag {progress.lag:>3}"
    )


def show_result(console: Console, result: DemoResult) -> None:
    """Everything that came out, as tables."""
    experiment = result.experiment
    console.print()
    if experiment.simulated:
        console.print(
            "simulated: the recording is absent, so the answers were drawn from the published figures", style="bold"
        )
    console.print(score_table(result.phases))
    console.print()
    console.print(share_table(experiment, result.phases, result.last_shares))
    console.print()
    counts = result.counts
    requests = len(experiment.phases) and sum(p.requests for p in result.phases)
    rows = [
        ["requests", f"{requests} in {result.replay_seconds:.1f} s"],
        [
            "decision over HTTP, seen by the caller",
            f"p50 {result.decide_p50_ms:.1f} ms, p99 {result.decide_p99_ms:.1f} ms",
        ],
        ["events in (decisions, calls, feedback)", f"{counts.events_in}"],
        ["rows in ClickHouse", f"{counts.rows}"],
        ["joined outcomes", f"{counts.outcomes}"],
        ["lost, doubled or foreign", "none" if not result.complaints else "; ".join(result.complaints)],
    ]
    if result.fallbacks:
        rows.append(["decided by the declared default", str(result.fallbacks)])
    facts = table(["", ""], rows)
    facts.show_header = False
    console.print(facts)
    console.print("\nWhat the detector noticed, and what the controller would have done (dry run)", style="bold")
    if result.noticed:
        rows = [[str(n.at_request), n.severity, n.title, n.proposed] for n in result.noticed]
        console.print(table(["request", "severity", "alert", "proposed"], rows))
    else:
        console.print("nothing", style="dim")
    for question, sql, answer in result.answers:
        console.print(f"\n{question}", style="bold")
        console.print(sql, style="dim", markup=False)
        console.print(table(list(answer.columns), [list(row) for row in answer.rows]))


def score_table(scores: Sequence[PhaseScores]) -> Table:
    """Accuracy, cost and reward per phase of each way to choose."""
    made = Table(show_edge=False, pad_edge=False, header_style="bold")
    made.add_column("")
    for phase in scores:
        made.add_column(f"{phase.name}: accuracy", justify="right")
        made.add_column("cost USD", justify="right")
        made.add_column("reward", justify="right")
    made.add_column("total reward", justify="right")

    def row(name: str, of: Sequence[Score], style: str = "") -> None:
        cells = [text for s in of for text in (f"{s.accuracy:.1%}", f"{s.cost_usd:.3f}", f"{s.reward:.1f}")]
        made.add_row(name, *cells, f"{sum(s.reward for s in of):.1f}", style=style)

    row("Flywheel", [s.flywheel for s in scores], style="bold green")
    for arm in scores[0].fixed:
        row(f"always {arm}", [s.fixed[arm] for s in scores])
    row("random", [s.random for s in scores])
    row("best of each phase", [s.best for s in scores])
    return made


def share_table(experiment: Experiment, scores: Sequence[PhaseScores], last: Mapping[str, float]) -> Table:
    """Who served how much, with the model version behind each arm in each phase."""
    models = {phase.name: phase.models for phase in experiment.phases}
    rows = [
        [
            phase.name,
            arm,
            models[phase.name][arm].name,
            f"{share:.1%}",
            "the better one" if arm == phase.best_arm else "",
        ]
        for phase in scores
        for arm, share in phase.shares.items()
    ]
    final = scores[-1]
    rows += [
        [
            f"last {LAST_SHOWN}",
            arm,
            models[final.name][arm].name,
            f"{share:.1%}",
            "the better one" if arm == final.best_arm else "",
        ]
        for arm, share in last.items()
    ]
    return table(["phase", "arm", "model", "share", ""], rows)
