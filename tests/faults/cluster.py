"""Three Kafka nodes, each broker and controller, as one cluster; any one of them may die."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Final

from flywheel.local.errors import PartFailed
from flywheel.local.kafka import KafkaNode
from flywheel.local.kafka_home import kafka_home
from flywheel.local.ports import LOOPBACK, free_port
from flywheel.local.processes import Guard

NODES: Final = (1, 2, 3)
_CLUSTER: Final = "Zmx5d2hlZWwtZmF1bHRzMQ"


class Cluster:
    """The nodes below a folder. Topics made while all three are up have three copies and want two to acknowledge."""

    def __init__(self, folder: Path, *, heap_mb: int = 400, guard: Guard | None = None) -> None:
        self._folder = folder
        controllers = {node: free_port() for node in NODES}
        ports = {node: free_port() for node in NODES}
        bootstrap = ",".join(f"{LOOPBACK}:{controllers[node]}" for node in NODES)
        self._voters = ",".join(
            f"{node}@{LOOPBACK}:{controllers[node]}:{urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip('=')}"
            for node in NODES
        )
        self.nodes = {
            node: KafkaNode(
                folder / f"kafka-{node}",
                ports[node],
                heap_mb,
                settings=_settings(node, ports[node], controllers[node], bootstrap),
                guard=guard,
            )
            for node in NODES
        }

    @property
    def bootstrap(self) -> str:
        """All three, host:port separated by commas."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    async def start(self) -> None:
        """Format where needed, start all nodes, and return when they serve."""
        for number, node in self.nodes.items():
            await asyncio.to_thread(self._format, number, node)
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            await asyncio.to_thread(node.wait_ready)

    def _format(self, number: int, node: KafkaNode) -> None:
        """Give an empty folder its ids and a first quorum of all three; ``KafkaNode`` would make one of itself."""
        node.data_dir.mkdir(parents=True, exist_ok=True)
        properties = node.data_dir / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in node._properties().items()))
        home = kafka_home()
        command = home.command(
            "kafka.tools.StorageTool", "format", "--initial-controllers", self._voters, "-t", _CLUSTER, "-c",
            str(properties), options=("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
        )  # fmt: skip
        ran = subprocess.run(command, cwd=home.folder, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise PartFailed(f"kafka {number}", f"formatting failed (exit {ran.returncode})", ran.stderr[-2000:])

    def stop(self) -> None:
        """End every node at once; the folder is of no further use."""
        for node in self.nodes.values():
            node.kill()


def _settings(node: int, port: int, controller: int, controllers: str) -> dict[str, str]:
    copies = {
        name: "3"
        for name in (
            "default.replication.factor", "offsets.topic.replication.factor",
            "transaction.state.log.replication.factor", "share.coordinator.state.topic.replication.factor",
        )
    }  # fmt: skip
    return copies | {
        "node.id": str(node),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "controller.quorum.bootstrap.servers": controllers,
        "min.insync.replicas": "2",
        "transaction.state.log.min.isr": "2",
        "share.coordinator.state.topic.min.isr": "2",
    }
