"""Finding structured personal data: texts a second on one core, precision and recall by exact span and kind.

Texts and labels are the development half of Presidio's generated set in the shared data folder. Baseline: the plain
patterns people write first, in the same process; or Presidio's own pattern recognisers, where ``PRESIDIO_PYTHON`` names
the interpreter of an environment that has ``presidio-analyzer`` (300 MB with spaCy, so not in the project's own).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Result, write

from flywheel.redaction import Redactor, find
from flywheel.testkit.recorded import data_folder

COMMAND = "python tests/bench/run.py redaction"
PEER = Path(__file__).parent / "peers" / "presidio_patterns.py"
KINDS = {
    "CREDIT_CARD": "credit_card",
    "PHONE_NUMBER": "phone_number",
    "EMAIL_ADDRESS": "email_address",
    "IP_ADDRESS": "ip_address",
    "IBAN_CODE": "iban_code",
    "US_SSN": "us_ssn",
    "DOMAIN_NAME": "url",
    "URL": "url",
}
PLAIN = {
    "credit_card": re.compile(r"\b(?:\d[ -]?){13,16}\b"),
    "phone_number": re.compile(r"\+?\(?\d{1,4}\)?[-. ]\(?\d{2,4}\)?[-. ]\d{3,4}(?:[-. ]\d{2,4})?\b"),
    "email_address": re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b"),
    "ip_address": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
    "iban_code": re.compile(r"\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b"),
    "us_ssn": re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    "url": re.compile(r"https?://\S+"),
}
SECONDS = 2.0

Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Score:
    """How finder and labels agree; ``by_kind`` counts (found and labelled, found, labelled)."""

    by_kind: dict[str, tuple[int, int, int]]

    @property
    def precision(self) -> float:
        """Of what was found, the share that is labelled so."""
        return self._sum(0) / max(1, self._sum(1))

    @property
    def recall(self) -> float:
        """Of what is labelled, the share that was found so."""
        return self._sum(0) / self._sum(2)

    def _sum(self, column: int) -> int:
        return sum(counts[column] for counts in self.by_kind.values())

    def told(self) -> str:
        """Each kind in words."""
        return ", ".join(f"{k} {r} of {w} ({f - r} wrong)" for k, (r, f, w) in sorted(self.by_kind.items()))


def score(found: Sequence[set[Place]], labels: Sequence[set[Place]]) -> Score:
    """Compare by exact kind, start and end."""
    right, got, wanted = (
        Counter(kind for places in rows for kind, _, _ in places)
        for rows in ([a & b for a, b in zip(found, labels, strict=True)], found, labels)
    )
    return Score({kind: (right[kind], got[kind], wanted[kind]) for kind in sorted({*got, *wanted})})


def cpu_rate(work: Callable[[str], Any], texts: Sequence[str]) -> float:
    """Texts per second of processor time, in the best pass of ``SECONDS``."""
    best, until = 0.0, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.process_time()
        for text in texts:
            work(text)
        best = max(best, len(texts) / (time.process_time() - started))
    return best


def plainly(text: str) -> set[Place]:
    """What the plain patterns find."""
    return {(kind, *match.span()) for kind, pattern in PLAIN.items() for match in pattern.finditer(text)}


def labelled(row: dict[str, Any]) -> set[Place]:
    """The labels of a row that are of the structured kinds."""
    spans = (s for s in row["spans"] if s["entity_type"] in KINDS)
    return {(KINDS[s["entity_type"]], s["start_position"], s["end_position"]) for s in spans}


def ours(text: str) -> set[Place]:
    """What the library finds of the kinds that are labelled."""
    return {(s.kind, s.start, s.end) for s in find(text) if s.kind in PLAIN}


def presidio(texts: Sequence[str], python: str) -> tuple[list[set[Place]], float, str]:
    """What Presidio finds, texts per second of processor time, and its name."""
    done = subprocess.run([python, str(PEER)], input=json.dumps(texts), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    found = [{(KINDS[kind], start, end) for kind, start, end in row} for row in told["spans"]]
    return found, told["cpu_texts_per_second"], f"presidio-analyzer {told['version']} patterns"


def main() -> None:
    """Measure and write the results; without the shared data, say so."""
    folder = data_folder()
    file = folder / "presidio_research" / "generated_small.json" if folder else None
    if file is None or not file.exists():
        print("the shared data folder is absent: redaction not measured")
        return
    rows = json.loads(file.read_text(encoding="utf-8"))
    texts = [row["full_text"] for row in rows]
    labels = [labelled(row) for row in rows]
    python = os.environ.get("PRESIDIO_PYTHON")
    if python:
        found, rate, name = presidio(texts, python)
    else:
        found, rate, name = [plainly(t) for t in texts], cpu_rate(plainly, texts), "plain patterns"
    mine, theirs = score([ours(text) for text in texts], labels), score(found, labels)
    long = "\n".join(texts * 3)
    note = (
        f"{sum(map(len, texts)) / len(texts):.0f} characters each; masked {cpu_rate(Redactor().text, texts):,.0f}/s; "
        f"a text of {len(long):,} characters {cpu_rate(find, [long]) * len(long) / 1e6:.1f} million characters/s"
    )
    about = {"baseline_name": name, "command": COMMAND}
    write(Result(name="redaction_find", value=cpu_rate(find, texts), unit="texts/s", baseline=rate, note=note, **about))
    for measure in ("precision", "recall"):
        told = f"{mine.told()}; baseline: {theirs.told()}" if measure == "recall" else ""
        own, other = 100 * getattr(mine, measure), 100 * getattr(theirs, measure)
        write(Result(name=f"redaction_{measure}", value=own, unit="%", baseline=other, note=told, **about))


if __name__ == "__main__":
    main()
