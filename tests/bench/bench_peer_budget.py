"""How well LiteLLM's proxy keeps a budget: what gets through beyond it, and how much of it lies idle.

Not among the benchmarks that run by default: it needs an environment of its own, whose interpreter ``LITELLM_PYTHON``
names::

    uv venv ENV
    uv pip install --python ENV/bin/python --require-hashes -r tests/bench/peers/litellm/requirements.lock

A real provider process bills random usage below each call's bound; 4 processes make 200 calls at once and try again
what is refused, until nothing more is let through. Provider and deployment budgets are LiteLLM's own; keys come with a
budget through its hook for authentication, as virtual keys need PostgreSQL. Baseline: the budget.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from baselines import free_port
from harness import Result, write
from litellm_proxy import answers, deployment, litellm
from spending import (
    MEAN_PICO,
    MODEL,
    MOST_OUTPUT,
    PICO,
    PROXY_KEY,
    Bill,
    Told,
    Workload,
    bill_of,
    play,
    start_provider,
    usd,
)

COMMAND: Final = "LITELLM_PYTHON=… python tests/bench/run.py peer_budget"
PEER: Final = Path(__file__).parent / "peers" / "litellm"
KINDS: Final = ("provider", "deployment", "key")
QUIET_S: Final = 30.0
"""Nothing is killed here, and what the proxy reserved is free again as soon as a call has ended."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: what was billed, and what callers met."""

    kind: str
    max_tokens: int | None
    budget_pico: int
    bill: Bill
    told: Told
    seconds: float

    @property
    def through(self) -> float:
        """What was billed, as a share of the budget."""
        return self.bill.pico / self.budget_pico

    def sentence(self) -> str:
        """The run in words."""
        limit = "max_tokens" if self.max_tokens else "no max_tokens"
        return (
            f"{self.kind} budget, {limit}: ${usd(self.bill.pico):.4f} of ${usd(self.budget_pico):.2f} "
            f"({self.bill.calls} calls, most at once {self.bill.most_at_once}, given up {self.told.given_up}, "
            f"refusals {dict(self.told.refusals)}, {self.seconds:.0f} s)"
        )


def configuration(kind: str, provider: int, budget_usd: str) -> dict[str, Any]:
    """The proxy's settings for a kind of budget."""
    served = deployment(MODEL, f"http://127.0.0.1:{provider}")
    made: dict[str, Any] = {
        "model_list": [{"model_name": MODEL, "litellm_params": served}],
        "router_settings": {"num_retries": 0},
        "general_settings": {},
    }
    if kind == "provider":
        made["router_settings"]["provider_budget_config"] = {
            "openai": {"budget_limit": float(budget_usd), "time_period": "1d"}
        }
    elif kind == "deployment":
        served |= {"max_budget": float(budget_usd), "budget_duration": "1d"}
    else:
        # Without the second, budgets of keys that come by this way are not looked at.
        made["general_settings"] |= {
            "custom_auth": "auth_with_budget.user_api_key_auth",
            "custom_auth_run_common_checks": True,
        }
    return made


async def measure(python: str, kind: str, workload: Workload, budget_pico: int) -> Measured:
    """One run against a fresh proxy and a fresh provider."""
    port = free_port()
    # The proxy's own key has no budget, so for budgets of keys the callers use another.
    master = f"sk-{secrets.token_hex(32)}"
    os.environ[PROXY_KEY] = f"sk-{secrets.token_hex(32)}" if kind == "key" else master
    budget_usd = str(usd(budget_pico))
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        (folder / "auth_with_budget.py").write_text((PEER / "auth_with_budget.py").read_text())
        provider = start_provider(port)
        try:
            while not await answers(f"http://127.0.0.1:{port}/bill"):
                await asyncio.sleep(0.1)
            declared = configuration(kind, port, budget_usd)
            async with litellm(python, declared, folder, key=master, BUDGET_USD=budget_usd) as proxy:
                started = time.monotonic()
                told = await play(workload, ["proxy", proxy.url], port, quiet_s=QUIET_S)
                seconds = time.monotonic() - started
            return Measured(kind, workload.max_tokens, budget_pico, bill_of(port), told, seconds)
        finally:
            provider.terminate()
            provider.wait()


def main() -> None:
    """Measure each kind with and without ``max_tokens`` and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_500)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--dry", action="store_true", help="write no results")
    arguments = parser.parse_args()
    python = os.environ.get("LITELLM_PYTHON")
    if not python:
        raise SystemExit(f"LITELLM_PYTHON names no interpreter. {__doc__}")
    # A third of what all calls would cost.
    budget_pico = arguments.calls * MEAN_PICO // 3 // (PICO // 100) * (PICO // 100)
    for kind in arguments.kinds:
        for max_tokens in (MOST_OUTPUT, None):
            workload = Workload(arguments.calls, arguments.clients, arguments.processes, max_tokens=max_tokens)
            found = asyncio.run(measure(python, kind, workload, budget_pico))
            print(found.sentence(), flush=True)
            if not arguments.dry:
                name = f"peer_budget_{kind}{'' if max_tokens else '_unbounded'}"
                share = Result(
                    *(name, 100 * found.through, "% of budget", 100.0, "the budget", COMMAND),
                    note=f"litellm 1.106.2, one worker. {found.sentence()}",
                )
                write(share)


if __name__ == "__main__":
    main()
