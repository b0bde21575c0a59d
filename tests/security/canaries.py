"""Personal data and secrets that nobody has, one of each kind that is unlike any other, and where they may turn up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.redaction.checks import luhn, mod97

DUMP = """
import sys
from pathlib import Path
from flywheel.store import StoreSettings, connect
client = connect(StoreSettings(path=Path(sys.argv[1])))
tables = client.query("SELECT name FROM system.tables WHERE database = 'flywheel'").result_rows
for (name,) in tables:
    print("table", name)
    for row in client.query(f"SELECT * FROM `{name}`").result_rows:
        print(name, *row)
"""


@dataclass
class Canaries:
    """Makes canaries, each once, and remembers through which door each went in."""

    start: int
    doors: dict[str, str] = field(default_factory=dict)

    def text(self, door: str) -> str:
        """One canary of each kind, in a sentence."""
        number = self.start + len(self.doors)
        kinds = {
            "email": f"canary{number}@flywheel-canary.org",
            "card": _card(f"411111{number:09d}"),
            "iban": _iban(number),
            "phone": f"+44 20 {7_940 + number // 10_000} {number % 10_000:04d}",
            "ssn": f"{500 + number // 9_000 % 99:03d}-45-{1_000 + number % 9_000:04d}",
            "secret": f"ghp_{number:08d}aBcDeFgHiJkLmNoPqRsTuVwXyZ01",
            "address": f"198.18.{100 + number // 150 % 150}.{100 + number % 150}",
        }
        self.doors |= {value: f"{door}, {kind}" for kind, value in kinds.items()}
        said = ", ".join(f"my {kind} is {value}" for kind, value in kinds.items())
        return f"Hello, {said}."

    def email(self, door: str) -> str:
        """A canary that is an e-mail address alone."""
        value = f"canary{self.start + len(self.doors)}@flywheel-canary.org"
        self.doors[value] = f"{door}, email"
        return value

    def found(self, places: Iterable[tuple[str, bytes]]) -> Mapping[str, set[str]]:
        """Of each canary that is in one of the places: in which."""
        found: dict[str, set[str]] = {}
        for place, data in places:
            for value, door in self.doors.items():
                if value.encode() in data:
                    found.setdefault(f"{door}: {value}", set()).add(place)
        return found


def _card(digits: str) -> str:
    return next(digits + str(last) for last in range(10) if luhn(digits + str(last)))


def _iban(number: int) -> str:
    account = f"{37_040_044:08d}{number:010d}"
    return next(f"DE{check:02d}{account}" for check in range(2, 99) if mod97(f"DE{check:02d}{account}"))


def tables(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every table and view of an embedded ClickHouse, row by row as text; its writer must have ended."""
    command = [sys.executable, "-c", DUMP, str(folder)]
    ran = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    assert b"table v_content" in ran.stdout
    yield "ClickHouse", ran.stdout


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def as_json(value: object) -> bytes:
    """JSON, as a client writes it."""
    return json.dumps(value).encode()
