"""Cascades on recorded answers: RouteLLM's GSM8K, Mixtral first and GPT-4 Turbo where its answer is doubted.

The doubt is read off the first model's own text, which no router before the call can see; beside it routers that look
at the question alone. Whatever is learned is cross-fitted over five folds. APGR is over the share of questions for
which the strong model is asked; a cascade pays the first call too, which the costs say. Token probabilities were not
recorded, so that kind of doubt is not here. Intervals are over questions. Figures are no timings.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from harness import Result, write

from flywheel.policy.doubt import Answer, raw_doubt
from flywheel.routing.answer_doubt import answer_signals, cross_fitted_doubts
from flywheel.routing.bootstrap import LEVEL, query_weights
from flywheel.routing.calibration import Calibrated, calibrate
from flywheel.routing.features import ReadTexts
from flywheel.routing.metrics import apgr, curve, weighted_apgr
from flywheel.routing.routers import OURS, ROUTERS, Task
from flywheel.testkit.recorded import GPT4_TURBO, GSM8K_FILE, MIXTRAL, RecordedGsm8k, data_folder

COMMAND: Final = "python tests/bench/run.py cascade"
FOLDS: Final = 5
LOTS: Final = "lots"
BEFORE: Final = "question: learned"
SHARES: Final = (0.1, 0.2, 0.3, 0.5)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Questions with both models' answers: texts, whether they were right, and what the calls cost, US dollars."""

    questions: list[str]
    answers: list[str]
    cheap: Floats
    strong: Floats
    cheap_usd: Floats
    strong_usd: Floats


def read(folder: Path) -> Recorded:
    """The recorded answers; tokens are estimated, prices are list prices."""
    recorded = RecordedGsm8k(folder / GSM8K_FILE)
    queries = recorded.queries()
    cheap, strong = ([recorded.answer(query, model) for query in queries] for model in (MIXTRAL, GPT4_TURBO))
    return Recorded(
        [query.text for query in queries],
        [answer.text for answer in cheap],
        np.array([float(answer.correct) for answer in cheap]),
        np.array([float(answer.correct) for answer in strong]),
        np.array([float(answer.cost_usd) for answer in cheap]),
        np.array([float(answer.cost_usd) for answer in strong]),
    )


def routed(texts: list[str], found: Recorded, name: str) -> Floats:
    """How much a router by texts wants the strong model, cross-fitted."""
    texts_read = ReadTexts.of(texts, [None] * len(texts))
    scores = np.column_stack((found.cheap, found.strong))
    places = np.random.default_rng(0).permutation(len(texts))
    wanted = np.empty(len(texts))
    for fold in range(FOLDS):
        held, kept = places[fold::FOLDS], np.delete(places, np.s_[fold::FOLDS])
        predicted = ROUTERS[name](Task(texts_read, scores, kept, kept, held, strong=1, seed=0))
        wanted[held] = predicted[:, 1] - predicted[:, 0]
    return wanted


def rows_of(found: Recorded) -> dict[str, Floats]:
    """Every way to want the strong model, by name; higher wants it more."""
    count = len(found.questions)
    wrong, ones = 1 - found.cheap, np.ones(count)
    form = np.array([raw_doubt("form", Answer(text)) or 0.0 for text in found.answers])
    signs = np.array([answer_signals(*each) for each in zip(found.questions, found.answers, strict=True)])
    learned = cross_fitted_doubts(signs, wrong, ones, folds=FOLDS, seed=0)
    for name, doubt in (("form", form), ("learned", learned)):
        _show_errors(name, calibrate(doubt, wrong, ones, folds=FOLDS))
    return {
        LOTS: np.zeros(count),
        "question: length": np.array([float(len(text)) for text in found.questions]),
        BEFORE: routed(found.questions, found, OURS),
        "answer: length": np.array([float(len(text)) for text in found.answers]),
        "answer: form": form,
        "answer: learned": learned,
        "answer known wrong": wrong,
    }


def _show_errors(name: str, found: Calibrated) -> None:
    print(f"{name}: calibration error, Brier score, AUC; {found.wrong:.1%} wrong")
    for which, errors in (("raw", found.raw), ("calibrated, cross-fitted", found.fitted)):
        three = (errors.calibration, errors.brier, errors.auc)
        print(f"  {which:26s}" + "".join(f"  {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in three))


def quality_at(wanted: Floats, found: Recorded, share: float) -> tuple[float, float]:
    """Mean quality where the strong model is asked for that share of questions, ties in proportion, and the mean cost
    of both calls."""
    order = np.argsort(-wanted, kind="stable")
    at = np.empty(len(wanted))
    values, groups = np.unique(-wanted[order], return_inverse=True)
    left = share * len(wanted)
    for group in range(len(values)):
        inside = order[groups == group]
        at[inside] = min(1.0, max(0.0, left) / len(inside))
        left -= len(inside)
    quality = found.cheap + at * (found.strong - found.cheap)
    return float(quality.mean()), float((found.cheap_usd + at * found.strong_usd).mean())


def main() -> int:
    """Print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    folder = data_folder()
    if folder is None:
        print("no recorded answers here: the shared data folder is absent")
        return 0
    found = read(folder)
    gain = found.strong - found.cheap
    weights = query_weights(len(gain), draws=draws)
    rows = rows_of(found)
    again = {name: weighted_apgr(wanted, gain, weights) for name, wanted in rows.items()}
    base_usd = float(found.strong_usd.mean())
    print(
        f"{len(gain)} questions; {MIXTRAL.name} {found.cheap.mean():.3f} right, "
        f"{GPT4_TURBO.name} {found.strong.mean():.3f}; "
        f"a cheap call costs {found.cheap_usd.mean() / base_usd:.1%} of a strong one"
    )
    for name, wanted in rows.items():
        low, high = _bounds(again[name][1:])
        kept = [quality_at(wanted, found, share) for share in SHARES]
        told = "  ".join(
            f"{share:.0%}: {q:.3f} at {usd / base_usd:.2f}" for share, (q, usd) in zip(SHARES, kept, strict=True)
        )
        print(f"  {name:30s} APGR {apgr(curve(wanted, gain)):.3f} [{low:.3f}, {high:.3f}]  {told}")
    for name in ("answer: form", "answer: learned"):
        for other in (LOTS, "question: length", BEFORE):
            _write(name, other, again)
    return 0


def _bounds(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _write(name: str, other: str, again: dict[str, Floats]) -> None:
    low, high = _bounds((again[name] - again[other])[1:])
    what, beside = (each.replace(": ", "_").replace(", ", "_").replace(" ", "_") for each in (name, other))
    note = f"APGR on GSM8K, cross-fitted; higher by {again[name][0] - again[other][0]:+.3f} [{low:+.3f}, {high:+.3f}]"
    write(
        Result(
            f"cascade_{what}_by_{beside}", float(again[name][0]), "APGR", float(again[other][0]), other, COMMAND, note
        )
    )


if __name__ == "__main__":
    sys.exit(main())
