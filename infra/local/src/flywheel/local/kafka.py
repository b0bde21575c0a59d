"""One Apache Kafka node in KRaft mode (broker and controller in one process), for development, tests and the demo."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flywheel.local.errors import LocalError, PartFailed
from flywheel.local.kafka_home import KafkaHome, kafka_home
from flywheel.local.ports import LOOPBACK, free_port, is_free
from flywheel.local.probes import ask_kafka
from flywheel.local.processes import Guard, ProcessId, end, tail

DEFAULT_PORT: Final = 9092
# A node on one machine has no need of a random id; a fixed one makes folders of the same data comparable.
_CLUSTER_ID: Final = "Zmx5d2hlZWwtbG9jYWwtMQ"
_READY: Final = "Kafka Server started"


class KafkaNode:
    """A node whose log and settings live in ``data_dir``; a second start on the same folder finds its data again.

    ``port`` 0 takes a free port, and keeps it over restarts. ``advertised`` is the ``host:port`` that clients are told
    to connect to, where that is not the node itself (a fault proxy). ``settings`` are further lines of
    ``server.properties``. ``guard`` ends the process when this program is gone, also by ``kill -9``; a ``Detached`` one
    leaves it running.

    Raises (from the methods):
        RequirementMissing: Java or Maven is missing; the message says what to do.
        PartFailed: the node ended or was not ready in time; the message has the tail of its log.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        heap_mb: int = 512,
        *,
        advertised: str | None = None,
        settings: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
        home: KafkaHome | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.controller_port = 0
        self.heap_mb = heap_mb
        self.advertised = advertised
        self._settings = dict(settings or {})
        self._options = options
        self._home = home
        self._guard = guard or Guard()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        """The address that clients are given: ``host:port``."""
        return self.advertised or f"{LOOPBACK}:{self.port}"

    @property
    def log_path(self) -> Path:
        """The node's own log."""
        return self.data_dir / "kafka.log"

    @property
    def pid(self) -> int:
        """The process id of the node. Raises ``LocalError`` when it does not run."""
        return self.process_id.pid

    @property
    def process_id(self) -> ProcessId:
        """Pid and start time. Raises ``LocalError`` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise LocalError("kafka does not run")
        return ProcessId.of(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether the process is alive; it may not be ready yet."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process; returns at once (``wait_ready`` waits)."""
        if self.running:
            raise LocalError(f"kafka runs already, pid {self.pid}")
        home = self._home = self._home or kafka_home()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._choose_ports()
        properties = self.data_dir / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if not (self.data_dir / "log" / "meta.properties").is_file():
            self._format(home, properties)
        self._log_start = self.log_path.stat().st_size if self.log_path.is_file() else 0
        self._process = self._guard.spawn(self._command(home, properties), log=self.log_path, cwd=home.folder)
        return self

    def wait_ready(self, timeout_s: float = 120.0) -> Self:
        """Return when the node serves clients (by its own word, and by an answer)."""
        deadline = time.monotonic() + timeout_s
        while not (_READY in self._log_since_start() and ask_kafka(self.port).ready):
            if not self.running:
                code = None if self._process is None else self._process.returncode
                raise PartFailed("kafka", f"ended while starting (exit {code})", self.log_tail())
            if time.monotonic() >= deadline:
                raise PartFailed("kafka", f"not ready after {timeout_s:.0f} s", self.log_tail())
            time.sleep(0.05)
        return self

    def stop(self, deadline_s: float = 20.0) -> None:
        """End the node cleanly: SIGTERM, SIGKILL after the deadline. Nothing when it does not run."""
        if self.running:
            end(self.process_id, deadline_s=deadline_s)
        self._forget()

    def kill(self) -> None:
        """End the node with SIGKILL, as a crash of its process would. Nothing when it does not run."""
        if self.running:
            self.process_id.send(signal.SIGKILL)
        self._forget()

    def release(self) -> subprocess.Popen[bytes]:
        """Hand the running process over to the caller, and to the guard: this object no longer ends it."""
        if self._process is None:
            raise LocalError("kafka does not run")
        process, self._process = self._process, None
        return process

    def restart(self, timeout_s: float = 120.0) -> Self:
        """Stop (when it still runs), start on the same port and data, wait until ready."""
        self.stop()
        return self.start().wait_ready(timeout_s)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that the node wrote since it was last started."""
        return tail(self.log_path, lines, since=self._log_start)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._guard.close()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _log_since_start(self) -> str:
        return tail(self.log_path, 200, since=self._log_start)

    def _choose_ports(self) -> None:
        """Keep the ports of the last start where they are free: clients know them."""
        if not self.port or not is_free(self.port):
            self.port = free_port(self.port)
        if not self.controller_port or not is_free(self.controller_port):
            self.controller_port = free_port()

    def _format(self, home: KafkaHome, properties: Path) -> None:
        """Give the empty data folder its ids; ``--standalone``: this node is the whole controller quorum."""
        command = home.command(
            "kafka.tools.StorageTool", "format", "--standalone", "-t", _CLUSTER_ID, "-c", str(properties),
            options=("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
        )  # fmt: skip
        ran = subprocess.run(command, cwd=home.folder, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise PartFailed("kafka", f"formatting {self.data_dir} failed (exit {ran.returncode})", ran.stderr[-2000:])

    def _command(self, home: KafkaHome, properties: Path) -> list[str]:
        # First-tier compilation only: a local broker moves little, and the second tier's compiler took half of its CPU
        # over the first half minute, from two cores that all services share.
        options = (
            f"-Xmx{self.heap_mb}m", f"-Xms{self.heap_mb // 4}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
            "-XX:TieredStopAtLevel=1", f"-XX:ErrorFile={self.data_dir}/java-error.log", *self._options,
        )  # fmt: skip
        return home.command("kafka.Kafka", str(properties), options=options)

    def _properties(self) -> dict[str, str]:
        own = node_properties(
            port=self.port,
            controller_port=self.controller_port,
            advertised=self.bootstrap,
            log_dir=self.data_dir / "log",
        )
        return own | self._settings


def node_properties(*, port: int, controller_port: int, advertised: str, log_dir: Path) -> dict[str, str]:
    """``server.properties`` of a single node: every internal topic has one replica; small, and quick to start."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{advertised},CONTROLLER://{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        # A topic exists because it is declared, never because somebody misspelt one.
        "auto.create.topics.enable": "false",
        # Producers' clocks may be wrong; Kafka 4 also refuses a CreateTime more than an hour ahead (KIP-1030).
        "log.message.timestamp.type": "LogAppendTime",
        # A group starts at once instead of waiting 3 s for more members.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # After a kill the node may come back only when its former session has ended; the default makes that 9 s.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "2",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.threads": "1",
        # The default, 128 MB, is a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        "log.index.size.max.bytes": str(1 << 20),
        "log.segment.bytes": str(128 << 20),
        "num.recovery.threads.per.data.dir": "2",
    }
