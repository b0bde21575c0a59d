"""The real system as processes that a row can hurt one by one: Kafka (behind a fault proxy where asked), ingest,
router, bandit, budget, recorder. Everything ends with the ``with`` block."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
from cluster import Cluster

from flywheel.events import topics
from flywheel.local.kafka import KafkaNode
from flywheel.local.parts import PARTS, Part
from flywheel.local.ports import LOOPBACK, free_port
from flywheel.local.probes import ask_service
from flywheel.local.processes import Guard, ProcessId, end, tail
from flywheel.local.secret_files import make_secrets
from flywheel.local.topic_admin import create_topics
from flywheel.testkit.proxy import FaultProxy

SERVICES: Final = ("ingest", "router", "bandit", "budget", "recorder")
READY_S: Final = 300.0
"""Patience with a busy machine, not a promise: what comes late is counted all the same."""
_METRIC: Final = re.compile(r"^(flywheel_\w+)(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


class RowFailed(AssertionError):
    """What a row promises did not hold; the message says what was found."""


async def until(true: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Wait for something that comes in its own time. Raises RowFailed when it does not come at all."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        if time.monotonic() > deadline:
            raise RowFailed(f"waited {seconds:.0f} s in vain until {what}")
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class _Running:
    part: Part
    child: subprocess.Popen[bytes]
    ports: Mapping[str, int]
    log: Path


def step_folder(folder: Path, step: str) -> Path:
    """Where a service whose state lies below ``folder`` keeps the shards of a step (``<service>-<step>``)."""
    service = step.partition("-")[0]
    return folder / "state" / service / service / step


@dataclass
class System:
    """Kafka and the services below one folder. A name is that of a part, or ``<part>-<n>`` for one more of its kind,
    over the same folders and in the same group."""

    folder: Path
    proxied: bool = False
    brokers: int = 1
    """1, or 3: a cluster of brokers, each also a controller."""
    heap_mb: int = 384
    kafka_settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._guard = Guard()
        self.later = ExitStack()
        """What a row opens and the account still needs."""
        self.environ: dict[str, str] = {}
        """Settings of every service started from now on."""
        self._running: dict[str, _Running] = {}
        self._ports: dict[str, dict[str, int]] = {}
        self.proxy = FaultProxy(framed=True).start() if self.proxied else None
        self.kafka = KafkaNode(
            self.folder / "kafka",
            free_port(),
            self.heap_mb,
            advertised=self.proxy.address if self.proxy else None,
            settings=self.kafka_settings,
            guard=self._guard,
        )
        self.cluster = Cluster(self.folder, guard=self._guard) if self.brokers > 1 else None

    @property
    def bootstrap(self) -> str:
        """Where the services find Kafka: the proxy, where there is one."""
        return self.cluster.bootstrap if self.cluster else self.kafka.bootstrap

    @property
    def states(self) -> Path:
        """The folder below which the bandit keeps its shards."""
        return step_folder(self.folder, "bandit-join").parent

    async def start_kafka(self) -> None:
        """Start the broker, on its former port and data, and return when it serves."""
        if self.cluster is not None:
            await self.cluster.start()
            return
        await asyncio.to_thread(self.kafka.start)
        if self.proxy is not None:
            self.proxy.target_port = self.kafka.port
        await asyncio.to_thread(self.kafka.wait_ready)

    async def start_all(self, names: Sequence[str] = SERVICES) -> None:
        """Start Kafka and these services, and return when everything is ready."""
        await self.start_kafka()
        await create_topics(self.bootstrap, topics().values(), replication=self.brokers)
        for name in names:
            self.spawn(name)
        for name in names:
            await self.ready(name)

    def spawn(self, name: str, **environ: str) -> ProcessId:
        """Start a service and return at once; ``environ`` adds to its settings."""
        part = PARTS[name.partition("-")[0]]
        ports = self._ports.setdefault(name, {})
        for port in part.ports:
            told = [other for known in self._ports.values() for other in known.values()]
            ports[port] = ports.get(port) or free_port(besides=told)
        log = self.folder / "logs" / f"{name}.log"
        make_secrets(self.folder / "secrets", part.secrets.values())
        own = part.environment(self.folder, ports) | {
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_HOST": LOOPBACK,
        }
        child = self._guard.spawn(
            [sys.executable, "-m", part.module], log=log, environ=os.environ | own | self.environ | environ
        )
        self._running[name] = _Running(part, child, ports, log)
        return ProcessId.of(child.pid)

    async def start(self, name: str, **environ: str) -> None:
        """Start a service and return when it is ready."""
        self.spawn(name, **environ)
        await self.ready(name)

    async def ready(self, name: str) -> None:
        """Return when a service says that it is ready. Raises RowFailed when it ended or never does."""
        running = self._running[name]

        def answered() -> bool:
            if running.child.poll() is not None:
                raise RowFailed(f"{name} ended while starting (exit {running.child.returncode}): {self.tail(name)}")
            return bool(ask_service(running.ports[running.part.health]).ready)

        await until(answered, f"{name} is ready")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a service."""
        os.kill(self._running[name].child.pid, number)

    def pid(self, name: str) -> int:
        """The process id of a service."""
        return self._running[name].child.pid

    async def gone(self, name: str) -> int:
        """Wait until a service has ended; its exit status, below zero for a signal."""
        await until(lambda: self._running[name].child.poll() is not None, f"{name} has ended")
        return int(self._running[name].child.returncode)

    async def kill(self, name: str) -> None:
        """SIGKILL: nothing of it gets to finish."""
        self.signal(name, signal.SIGKILL)
        await self.gone(name)

    async def stop(self, name: str) -> None:
        """SIGTERM, and wait until it has drained."""
        if self._running[name].child.poll() is None:
            self.signal(name, signal.SIGTERM)
            await self.gone(name)

    def alive(self, name: str) -> bool:
        """Whether a service was started and still runs."""
        return name in self._running and self._running[name].child.poll() is None

    def url(self, name: str) -> str:
        """Where a service answers HTTP."""
        return f"http://{LOOPBACK}:{self._running[name].ports['http']}"

    def metric(self, name: str, metric: str) -> float:
        """The sum of a metric of a service over its labels; 0 when it does not answer."""
        found = _METRIC.findall(self.metrics(name))
        return sum(float(value) for found_name, value in found if found_name == f"flywheel_{metric}")

    def metrics(self, name: str) -> str:
        """The metrics of a service as it exposes them; empty when it does not answer."""
        running = self._running[name]
        try:
            return httpx.get(
                f"http://{LOOPBACK}:{running.ports[running.part.health]}/metrics", timeout=5, trust_env=False
            ).text
        except httpx.HTTPError:
            return ""

    def rss_mb(self, name: str) -> float:
        """Resident memory of a service, in MB."""
        return (ProcessId.of(self.pid(name)).rss_bytes() or 0) / 1e6

    def tail(self, name: str, lines: int = 12) -> str:
        """The end of a service's log."""
        return tail(self._running[name].log, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._running.values():
            if running.child.poll() is None:
                os.kill(running.child.pid, signal.SIGCONT)
                running.child.kill()
                running.child.wait()
        if self.cluster is not None:
            self.cluster.stop()
        if self.kafka.running:
            end(self.kafka.process_id, deadline_s=5)
        self.kafka.stop()
        if self.proxy is not None:
            self.proxy.stop()
        self.later.close()
        self._guard.close()
