"""One member of a group as a process of its own, for tests that kill or freeze it: counts feedback per request."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flywheel.events import Codec, load_registry
from flywheel.observe import Health, Metrics
from flywheel.stream import Event, FoldResult, KafkaBus, Output, Runner, RunnerSettings, StateView


class CountPerRequest:
    """Says each request's every count as an evaluation whose id is request and count."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        outputs = []
        for event in events:
            request = event.value["request_id"]
            count = int(state.get("counts", request) or b"0") + 1
            state.put("counts", request, str(count).encode())
            value = {"event_id": f"{request}-{count}", "project": "p", "request_id": request, "occurred_at": count}
            outputs.append(Output("llm-evaluations", request, "evaluation", value | {"evaluator": "count"}))
        return FoldResult(outputs)


async def main(bootstrap: str, group: str, state_dir: str) -> None:
    """Run until SIGTERM."""
    runner = Runner(
        service="counter",
        service_version="1",
        bus=KafkaBus(bootstrap),
        codec=Codec(load_registry()),
        step=CountPerRequest(),
        topics=["llm-feedback"],
        group=group,
        name="counter",
        state_dir=Path(state_dir),
        metrics=Metrics(),
        health=Health(),
        settings=RunnerSettings(max_records=300, commit_every_s=0.2),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(runner.stop()))
    await runner.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
