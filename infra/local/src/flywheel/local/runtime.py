"""Starts and stops the whole system on one machine without containers.

``up``, ``down`` and ``status`` work on a system that runs in the background, known by a file in its folder. ``Runtime``
is the same system as a context manager, for the demo and for tests: it ends with the program that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from flywheel.events import topics
from flywheel.local import state
from flywheel.local.errors import LocalError, PartFailed
from flywheel.local.kafka import DEFAULT_PORT, KafkaNode
from flywheel.local.parts import KAFKA, PARTS, Part
from flywheel.local.ports import LOOPBACK, free_port, is_free
from flywheel.local.probes import NO_REPORT, ask_service
from flywheel.local.processes import Detached, Guard, ProcessId, end, rotate, tail
from flywheel.local.secret_files import make_secrets
from flywheel.local.state import Started
from flywheel.local.status import PartStatus, Stopped, SystemStatus, addresses_of, system_status
from flywheel.local.topic_admin import create_topics_now

__all__ = [
    "DEFAULT_PORTS",
    "FREE_PORTS",
    "PartStatus",
    "Runtime",
    "Stopped",
    "SystemStatus",
    "addresses",
    "down",
    "home",
    "status",
    "up",
]

HOME_ENV: Final = "FLYWHEEL_HOME"
# A busy machine with two cores takes a minute for what an idle one does in ten seconds.
_READY_S: Final = 180.0
_DRAIN_S: Final = 20.0


def home() -> Path:
    """The folder of the local system: ``FLYWHEEL_HOME``, or ``.flywheel`` in the working directory."""
    return Path(os.environ.get(HOME_ENV) or ".flywheel").absolute()


DEFAULT_PORTS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {KAFKA: {"kafka": DEFAULT_PORT}, **{part.name: part.ports for part in PARTS.values()}}
)
FREE_PORTS: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType({})


def up(
    folder: Path | None = None,
    *,
    parts: Sequence[str] = tuple(PARTS),
    ports: Mapping[str, Mapping[str, int]] = DEFAULT_PORTS,
    progress: Callable[[str], None] | None = None,
) -> SystemStatus:
    """Start what does not run yet, in the background, and return when every part is ready. The ports asked for where
    they are free, else other free ones. ``progress`` is told each step.

    Raises:
        RequirementMissing: Java or Maven is missing (exit 2).
        PartFailed: a part ended or was not ready in time; what this call started is stopped again.
    """
    folder = folder or home()
    with state.exclusive(folder):
        runtime = Runtime(folder, parts=parts, ports=ports, guard=Detached(), progress=progress)
        runtime.adopt(state.load(folder))
        return runtime.start().status()


def down(folder: Path | None = None, *, deadline_s: float = _DRAIN_S) -> tuple[Stopped, ...]:
    """Stop what ``up`` started: SIGTERM, so that services drain, and SIGKILL for what is left after the deadline.
    Services first, Kafka last. Processes are known by pid and start time, so a pid used again is never touched."""
    folder = folder or home()
    if not folder.is_dir():
        return ()
    with state.exclusive(folder):
        stopped = _stop(state.load(folder), deadline_s)
        state.save(folder, {})
        return stopped


def status(folder: Path | None = None) -> SystemStatus:
    """How each part of the system of this folder is, asked now. Raises ``LocalError`` when its file is damaged."""
    folder = folder or home()
    return system_status(folder, state.load(folder), [KAFKA, *PARTS])


def addresses(folder: Path | None = None) -> dict[str, str]:
    """Where the parts listen: ``kafka`` as host:port, ``ingest``, ``router``, ``clickhouse`` and ``registry`` as URLs,
    ``router_grpc`` as host:port. Empty when nothing was started from this folder."""
    return addresses_of(state.load(folder or home()))


class Runtime:
    """The system in ``folder`` (Kafka's log, state, ClickHouse, logs), for as long as the ``with`` block lasts.

    ``parts`` are the parts to run beside Kafka, ``environ`` adds settings per part, ``ports`` are the ports to prefer
    (others are free ones). A part that ends by itself makes ``check`` raise ``PartFailed`` with the tail of its log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        parts: Sequence[str] = tuple(PARTS),
        environ: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        ports: Mapping[str, Mapping[str, int]] = FREE_PORTS,
        kafka_heap_mb: int = 512,
        ready_s: float = _READY_S,
        guard: Guard | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise LocalError(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        self.folder = folder.absolute()
        self._parts = [PARTS[name] for name in PARTS if name in parts]
        self._environ = environ
        self._ports = ports
        self._heap_mb = kafka_heap_mb
        self._ready_s = ready_s
        self._guard = guard or Guard()
        self._progress = progress or (lambda _: None)
        self._started: dict[str, Started] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def addresses(self) -> dict[str, str]:
        """Where the parts listen; see ``addresses`` of the module."""
        return addresses_of(self._started)

    @property
    def bootstrap(self) -> str:
        """Kafka's address, host:port."""
        return self.addresses["kafka"]

    def adopt(self, started: Mapping[str, Started]) -> None:
        """Take over parts that an earlier program started and that still run; of the others only the ports."""
        self._started = dict(started)

    def start(self) -> Self:
        """Start what does not run, create the declared topics, and return when every part is ready. On failure what
        this call started is stopped again, and the failure raised."""
        before = {name for name, part in self._started.items() if part.process.alive()}
        try:
            if KAFKA not in before:
                self._progress("starting kafka")
                self._start_kafka()
            created = create_topics_now(self.bootstrap, topics().values())
            self._progress(f"kafka is ready at {self.bootstrap}" + (f", {len(created)} topics made" if created else ""))
            for part in self._parts:
                if part.name not in before:
                    self._start_part(part)
            for part in self._parts:
                self._await_ready(part)
                self._progress(f"{part.name} is ready on port {self._started[part.name].ports[part.health]}")
        except BaseException:
            fresh = {name: part for name, part in self._started.items() if name not in before}
            _stop(fresh, 5.0)
            self._remember({name: part for name, part in self._started.items() if name in before})
            raise
        return self

    def stop(self, deadline_s: float = _DRAIN_S) -> tuple[Stopped, ...]:
        """Stop every part: services first, Kafka last."""
        stopped = _stop(self._started, deadline_s)
        self._remember({})
        return stopped

    def check(self) -> None:
        """Raises ``PartFailed`` with the tail of its log when a part has ended by itself."""
        for name, part in self._started.items():
            if not part.process.alive():
                raise PartFailed(name, f"ended by itself{self._exit_of(name)}", tail(part.log))

    def kill(self, name: str) -> None:
        """End a part with SIGKILL, as a crash would."""
        self._part(name).process.send(signal.SIGKILL)
        self._part(name).process.wait_gone(10)

    def restart(self, name: str) -> None:
        """Start a part again on its former ports and data, after stopping it when it still runs."""
        part = self._part(name)
        _stop({name: part}, _DRAIN_S)
        if name == KAFKA:
            self._start_kafka()
        else:
            self._start_part(PARTS[name])
            self._await_ready(PARTS[name])

    def status(self) -> SystemStatus:
        """How each part is, asked now."""
        return system_status(self.folder, self._started, [KAFKA, *(part.name for part in self._parts)])

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a part's log."""
        return tail(self._part(name).log, lines)

    def process(self, name: str) -> ProcessId:
        """The process of a part."""
        return self._part(name).process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._guard.close()

    def _part(self, name: str) -> Started:
        if name not in self._started:
            raise LocalError(f"{name} was not started; started are {', '.join(self._started) or 'none'}")
        return self._started[name]

    def _remember(self, parts: Mapping[str, Started]) -> None:
        self._started = dict(parts)
        state.save(self.folder, self._started)

    def _preferred(self, name: str, port: str) -> int:
        """The port of the last start, else the one asked for, else 0 for a free one."""
        earlier = self._started.get(name)
        return (earlier.ports.get(port, 0) if earlier else 0) or self._ports.get(name, {}).get(port, 0)

    def _start_kafka(self) -> None:
        preferred = self._preferred(KAFKA, "kafka")
        readers = [part.name for part in self._started.values() if part.name != KAFKA and part.process.alive()]
        if readers and not is_free(preferred):
            raise LocalError(
                f"kafka: port {preferred}, which {', '.join(readers)} connect to, is taken; stop them first"
            )
        node = KafkaNode(self.folder / KAFKA, preferred, self._heap_mb, guard=self._guard)
        rotate(node.log_path)
        node.start()
        kafka = Started(KAFKA, node.process_id, {"kafka": node.port}, node.log_path)
        self._remember(self._started | {KAFKA: kafka})
        node.wait_ready(self._ready_s)
        self._children[KAFKA] = node.release()

    def _start_part(self, part: Part) -> None:
        taken: dict[str, int] = {}
        others = [started.ports for started in self._started.values() if started.name != part.name]
        for port in part.ports:
            told = [number for ports in (*others, taken) for number in ports.values()]
            taken[port] = free_port(self._preferred(part.name, port), besides=told)
        log = self.folder / "logs" / f"{part.name}.log"
        rotate(log)
        make_secrets(self.folder / "secrets", part.secrets.values())
        own = part.environment(self.folder, taken) | {
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_HOST": LOOPBACK,
        }
        environ = os.environ | own | dict(self._environ.get(part.name, {}))
        child = self._guard.spawn([sys.executable, "-m", part.module], log=log, environ=environ)
        process = ProcessId.of(child.pid)
        self._children[part.name] = child
        self._remember(self._started | {part.name: Started(part.name, process, taken, log)})
        self._progress(f"starting {part.name}")

    def _await_ready(self, part: Part) -> None:
        deadline = time.monotonic() + self._ready_s
        report, started = NO_REPORT, self._started[part.name]
        while not report.ready:
            if not started.process.alive():
                detail = f"ended while starting{self._exit_of(part.name)}"
                raise PartFailed(part.name, detail, tail(started.log))
            if time.monotonic() > deadline:
                raise PartFailed(part.name, f"{report.detail} after {self._ready_s:.0f} s", tail(started.log))
            time.sleep(0.05)
            report = ask_service(started.ports[part.health])

    def _exit_of(self, name: str) -> str:
        code = self._children[name].poll() if name in self._children else None
        return "" if code is None else f" (exit {code})" if code >= 0 else f" ({signal.Signals(-code).name})"


def _stop(parts: Mapping[str, Started], deadline_s: float) -> tuple[Stopped, ...]:
    """Services at the same time, under one deadline; then Kafka, which they need to drain."""
    services = [part for name, part in parts.items() if name != KAFKA]
    kafka = [part for name, part in parts.items() if name == KAFKA]
    return (*_end_all(services, deadline_s), *_end_all(kafka, deadline_s))


def _end_all(parts: Iterable[Started], deadline_s: float) -> list[Stopped]:
    running = [part for part in parts if part.process.alive()]
    for part in running:
        part.process.send(signal.SIGTERM)
    deadline = time.monotonic() + deadline_s
    return [
        Stopped(part.name, part.process.pid, end(part.process, deadline_s=max(0.0, deadline - time.monotonic())))
        for part in running
    ]
