"""A long run: a steady load, a random fault every few seconds, and then the account of everything.

``python tests/faults/soak.py [--minutes 30] [--events-per-s 1000] [--every 20] [--seed 1] [--json]``. A fault is one
of: a service killed with -9 or asked to stop, and started again; the bandit or the recorder frozen past its session;
the broker killed with -9. It ends with the ledger, the comparison with a fault-free replay, and how the memory of each
service grew with its age.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from run import as_json, as_text
from scene import Report, Row, Scene, play

SERVICES = ("ingest", "router", "bandit", "budget", "recorder")
EVENTS_PER_REQUEST = 3.3
"""A decision, a call, feedback; and for three in ten requests a second call."""
FROZEN_S = 12.0
EARLY, LATE = (0.0, 0.35), (0.35, 1.0)
SPARED = {"router": EARLY, "bandit": EARLY, "budget": EARLY, "ingest": LATE, "recorder": (0.15, 1.0)}
"""The part of the run in which a service may not die, so that its memory can be watched; the recorder takes longest to
be warm, so it has the most."""
WARM_S = dict.fromkeys(SERVICES, 330.0) | {"recorder": 600.0}
"""A process younger than this is still filling what it may keep. Ingest's two generations of 100,000 ids take five and
a half minutes at 600 of them a second; the recorder's engine grows with the largest parts it has merged. In half an
hour under load and without faults the recorder had 479 MB at the start, 556 at 8 minutes, 581 ± 15 from 10 to 30: 15 MB
an hour, within its noise. By default it fills its windows of ids for an hour; here they are full when it is warm."""
ENVIRON = {"FLYWHEEL_REMEMBERED_IDS": "200000"}
SEEN_S = 120.0
"""A life is looked at that lasts so much longer."""
FLAT_MB_PER_HOUR = 60.0


@dataclass
class Memory:
    """Samples of each service's resident memory, by the age of its process."""

    samples: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    born: dict[int, float] = field(default_factory=dict)

    def look(self, scene: Scene) -> None:
        """Note where each service stands now."""
        for name in SERVICES:
            if scene.system.alive(name):
                pid = scene.system.pid(name)
                age = time.monotonic() - self.born.setdefault(pid, time.monotonic())
                self.samples.setdefault(name, []).append((pid, age, scene.system.rss_mb(name)))

    def slope(self, name: str) -> tuple[float, float] | None:
        """MB an hour by which a process grows once it is warm, and the standard error of that: least squares over all
        its lives, each with a level of its own. None where no life was long enough."""
        ages: list[float] = []
        sizes: list[float] = []
        for pid in {pid for pid, _, _ in self.samples.get(name, [])}:
            life = [(age, mb) for other, age, mb in self.samples[name] if other == pid and age >= WARM_S[name]]
            if len(life) >= 3 and life[-1][0] - WARM_S[name] >= SEEN_S:
                at, mb = np.array(life).T
                ages += list(at - at.mean())
                sizes += list(mb - mb.mean())
        spread = float(np.dot(ages, ages))
        if not spread or len(ages) < 4:
            return None
        rate = float(np.dot(ages, sizes)) / spread
        left = np.array(sizes) - rate * np.array(ages)
        error = float(np.sqrt(np.dot(left, left) / (len(ages) - 2) / spread))
        # Memory goes up and down by minutes (merges), so samples next to each other tell little new: the error of an
        # AR(1) series (Bartlett 1935), with the residuals' own lag-one correlation.
        alike = min(0.99, max(0.0, float(np.dot(left[1:], left[:-1]) / max(np.dot(left, left), 1e-9))))
        return rate * 3600, error * float(np.sqrt((1 + alike) / (1 - alike))) * 3600

    def path(self, name: str, points: int = 6) -> str:
        """The MB of the life that was watched longest, once warm, at even steps from its first to its last sample."""
        lives = [[(a, mb) for other, a, mb in self.samples[name] if other == pid] for pid in self.born]
        warm = [mb for age, mb in max(lives, key=lambda life: life[-1][0] if life else 0.0) if age >= WARM_S[name]]
        return " ".join(f"{warm[round(at)]:.0f}" for at in np.linspace(0, len(warm) - 1, points))


class Soak:
    """What goes wrong, when, by a seed. Each service is spared from dying for a part of the time (`SPARED`)."""

    def __init__(self, seconds: float, every_s: float, seed: int) -> None:
        self._seconds, self._every_s, self._dice = seconds, every_s, random.Random(seed)
        self.memory, self.faults = Memory(), Counter[str]()

    async def inject(self, scene: Scene) -> None:
        """A fault every so often until the time is over; what was hurt is up again before the next."""
        began = time.monotonic()
        ends = began + self._seconds
        while time.monotonic() < ends:
            due = time.monotonic() + self._every_s
            gone = (time.monotonic() - began) / self._seconds
            spared = [name for name, (begins, over) in SPARED.items() if begins <= gone < over]
            await self._one(scene, spared=spared)
            while time.monotonic() < min(due, ends):
                await asyncio.sleep(min(5.0, max(0.1, due - time.monotonic())))
                self.memory.look(scene)
            print(f"{ends - time.monotonic():6.0f} s left, {scene.load.events} events", file=sys.stderr, flush=True)
        scene.notes.append(", ".join(f"{count} {name}" for name, count in sorted(self.faults.items())))

    async def _one(self, scene: Scene, *, spared: Sequence[str]) -> None:
        system = scene.system
        kind = self._dice.choice(("kill", "kill", "stop", "freeze", "broker killed"))
        if kind == "broker killed":
            await asyncio.to_thread(system.kafka.kill)
            await system.start_kafka()
        elif kind == "freeze":
            name = self._dice.choice(("bandit", "recorder"))
            system.signal(name, signal.SIGSTOP)
            await asyncio.sleep(FROZEN_S)
            system.signal(name, signal.SIGCONT)
            scene.need(system.alive(name), f"{name} died of standing still")
        else:
            name = self._dice.choice([service for service in SERVICES if service not in spared])
            await (system.kill(name) if kind == "kill" else system.stop(name))
            await system.start(name)
        scene.kills += kind in ("kill", "broker killed")
        self.faults[kind if kind == "broker killed" else f"{kind} {name}"] += 1


async def soak(options: argparse.Namespace, folder: Path) -> Report:
    """Play it."""
    plan = Soak(options.minutes * 60, options.every, options.seed)
    per_s = max(1, round(options.events_per_s / EVENTS_PER_REQUEST))
    row = Row(0, f"soak of {options.minutes:g} minutes", plan.inject, per_s=per_s, environ=ENVIRON)
    report = await play(row, folder, short=False, seed=options.seed)
    slopes = {name: plan.memory.slope(name) for name in SERVICES}
    grown = [
        f"{name} {slope[0]:+.1f} ± {slope[1]:.1f} ({plan.memory.path(name)})"
        for name, slope in slopes.items()
        if slope is not None
    ]
    notes = (*report.notes, f"memory, MB an hour once warm: {', '.join(grown) or 'no life was long enough'}")
    fat = [
        f"{name} grows by {slope[0]:.0f} MB an hour"
        for name, slope in slopes.items()
        if slope is not None and slope[0] - 2 * slope[1] > FLAT_MB_PER_HOUR
    ]
    long_enough = options.minutes >= 20  # in less, warming up is most of what there is to see
    return replace(report, notes=notes, problems=(*report.problems, *(fat if long_enough else ())))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 when anything was lost, doubled, different, or grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--events-per-s", type=float, default=1000.0, help="load (1000)")
    parser.add_argument("--every", type=float, default=20.0, help="seconds from fault to fault (20)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, when (1)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(soak(options, Path(folder)))
    row = Row(0, report.title)
    print(json.dumps(as_json(row, report)) if options.json else as_text(row, report))
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
