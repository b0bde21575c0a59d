"""Stuck is not live; waiting for a neighbour is live but not ready. Both are told over HTTP, with the part and the
reason."""

from __future__ import annotations

import httpx
import pytest

from flywheel.observe import Health, Metrics, operations_app


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def get(health: Health, path: str, metrics: Metrics | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=operations_app(health, metrics or Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        return await client.get(path)


async def test_nothing_said_yet_is_live_and_not_ready() -> None:
    health = Health()
    assert (await get(health, "/live")).status_code == 200
    assert (await get(health, "/ready")).status_code == 503


async def test_a_neighbour_that_is_away_makes_it_not_ready_but_never_not_live() -> None:
    health = Health()
    health.set_ready("kafka", True)
    health.set_ready("clickhouse", False, "connection refused")
    answer = await get(health, "/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "parts": {
            "clickhouse": {"ok": False, "detail": "connection refused"},
            "kafka": {"ok": True, "detail": ""},
        },
    }
    assert (await get(health, "/live")).status_code == 200
    health.set_ready("clickhouse", True)
    assert (await get(health, "/ready")).json()["status"] == "ready"


async def test_a_part_that_misses_its_heartbeat_is_stuck_until_it_beats_again() -> None:
    clock = Clock()
    health = Health(clock)
    health.set_ready("kafka", True)
    health.beat("runner", 5.0)
    clock.now_s += 5.0
    assert health.live
    clock.now_s += 0.5
    live, ready = await get(health, "/live"), await get(health, "/ready")
    assert live.status_code == ready.status_code == 503
    assert live.json()["status"] == ready.json()["status"] == "stuck"
    assert live.json()["parts"]["runner"]["detail"] == "stuck: silent for 5.5 s, promised 5 s"
    health.beat("runner", 5.0)
    assert health.live


def test_a_part_that_ended_as_it_should_is_forgotten() -> None:
    clock = Clock()
    health = Health(clock)
    health.beat("runner", 1.0)
    health.set_live("runner", False, "dead")
    clock.now_s += 9
    health.forget("runner")
    assert health.live


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
async def test_a_part_may_say_that_it_cannot_recover(ok: bool, status: int) -> None:
    health = Health()
    health.set_live("disk", ok, "read-only")
    assert (await get(health, "/live")).status_code == status


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.gauge("policies_loaded", 3)
    answer = await get(Health(), "/metrics", metrics)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "flywheel_policies_loaded 3.0" in answer.text
