"""Creates the declared topics on a broker and ends: ``python -m flywheel.local.create_topics``. Containers use it; the
local runtime calls ``topic_admin`` itself."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import ClassVar

from aiokafka.errors import KafkaError
from pydantic import Field

from flywheel.events import topics
from flywheel.local.errors import LocalError
from flywheel.local.topic_admin import create_topics
from flywheel.observe import ServiceSettings, command_line, configure_logging, logger


class TopicsSettings(ServiceSettings):
    """Where the topics go."""

    service: ClassVar[str] = "topics"

    replication: int = Field(1, ge=1, le=15, description="Replicas of each partition of a topic that is created.")
    wait_s: float = Field(60.0, gt=0, description="How long to wait for a broker.")


async def create_when_reachable(settings: TopicsSettings) -> tuple[str, ...]:
    """Create what is missing; returns the names created. Raises ``LocalError`` when refused or no broker came."""
    deadline = time.monotonic() + settings.wait_s
    while True:
        try:
            return await create_topics(
                settings.kafka_bootstrap, topics().values(), replication=settings.replication
            )  # fmt: skip
        except KafkaError as error:
            if time.monotonic() >= deadline:
                raise LocalError(f"no broker at {settings.kafka_bootstrap} after {settings.wait_s:.0f} s") from error
            await asyncio.sleep(1.0)


def main() -> None:
    """Create the topics; exits 1 with one line when that failed."""
    settings = command_line(TopicsSettings, "Creates the declared topics and sets their retention and cleanup.")
    configure_logging(settings.service, settings.log_level)
    try:
        created = asyncio.run(create_when_reachable(settings))
    except LocalError as error:
        sys.exit(str(error))
    logger("topics").info("topics are as declared", created=list(created), declared=len(topics()))


if __name__ == "__main__":
    main()
