"""A workload that spends money, for every budget alike: a fake provider over HTTP that bills random usage below each
call's bound, and processes of concurrent callers.

``python spending.py provider PORT`` and ``python spending.py callers …`` are the processes; ``play`` starts them.
Money is integer picodollars (1e-12 USD).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

MODEL: Final = "gpt-4o"
INPUT_PICO: Final = 2_500_000
OUTPUT_PICO: Final = 10_000_000
"""gpt-4o per token, in every price table compared."""
MOST_OUTPUT: Final = 400
"""No answer is longer; whether the budget is told so is what ``max_tokens`` decides."""
LEAST_INPUT, MOST_INPUT = 100, 700
MEAN_PICO: Final = (LEAST_INPUT + MOST_INPUT) // 2 * INPUT_PICO + (1 + MOST_OUTPUT) // 2 * OUTPUT_PICO
FEATURE: Final = "paid"
TRIES: Final = 60
"""A budget says that money may come back; callers that give up early would leave what others return lying there."""
PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 8.0
"""Pauses double up to this, less a random half: callers that come back at once, thousands together, take the processor
from those that have something to report."""
SHARE_A_CLIENT: Final = 25
"""Callers. An HTTP client looks at all its connections for each request; with thousands it would do nothing else."""
QUIET_S: Final = 150.0
"""Longer than calls under way take to be reported on a machine that thousands of callers keep busy."""
PICO: Final = 10**12
PROXY_KEY: Final = "PROXY_KEY"
"""The environment variable of the key that callers show a proxy."""


def draw(request_id: str, what: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, by the request alone."""
    digest = sha256(f"{what}/{request_id}".encode()).digest()
    return low + int.from_bytes(digest[:8]) % (high - low + 1)


def prompt_of(request_id: str) -> str:
    """A prompt of 100 to 700 words, each a token."""
    return "word " * (draw(request_id, "input", LEAST_INPUT, MOST_INPUT) - 10)


@dataclass
class Bill:
    """What the provider is owed: the truth that a budget is held against."""

    calls: int = 0
    pico: int = 0
    most_at_once: int = 0


def provider_app() -> Starlette:
    """A provider that speaks OpenAI's chat completions; ``GET /bill`` says what it billed."""
    bill, under_way = Bill(), Counter[str]()

    async def complete(request: Request) -> JSONResponse:
        body = await request.json()
        # The caller's own id, wherever a proxy leaves it.
        request_id = body.get("user") or request.headers.get("x-request-id", "")
        under_way["calls"] += 1
        bill.most_at_once = max(bill.most_at_once, under_way["calls"])
        await asyncio.sleep(draw(request_id, "latency", 50, 500) / 1000)
        under_way["calls"] -= 1
        tokens_in = draw(request_id, "input", LEAST_INPUT, MOST_INPUT)
        most = body.get("max_tokens") or body.get("max_completion_tokens") or MOST_OUTPUT
        tokens_out = min(most, draw(request_id, "output", 1, MOST_OUTPUT))
        bill.calls += 1
        bill.pico += tokens_in * INPUT_PICO + tokens_out * OUTPUT_PICO
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "assistant", "content": "ok"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        head = {"id": f"chatcmpl-{request_id}", "object": "chat.completion", "created": int(time.time())}
        return JSONResponse(head | {"model": MODEL, "choices": [choice], "usage": usage})

    async def billed(_: Request) -> JSONResponse:
        return JSONResponse(asdict(bill))

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/bill", billed),
        ]
    )


@dataclass
class Told:
    """What callers met: calls answered, calls given up after so many refusals, refusals by status, errors."""

    answered: int = 0
    given_up: int = 0
    refusals: dict[str, int] = field(default_factory=dict)

    def add(self, other: Told) -> None:
        """Sum of both."""
        self.answered += other.answered
        self.given_up += other.given_up
        for status, count in other.refusals.items():
            self.refuse(status, count)

    def refuse(self, status: str, count: int = 1) -> None:
        """Count refusals."""
        self.refusals[status] = self.refusals.get(status, 0) + count


@dataclass(frozen=True, slots=True)
class Workload:
    """``calls`` by ``processes`` of callers, ``clients`` at once in all; ``max_tokens`` None when callers set none."""

    calls: int
    clients: int
    processes: int
    max_tokens: int | None
    seed: int = 1

    @property
    def expected_pico(self) -> int:
        """What all calls together cost in the mean."""
        return self.calls * MEAN_PICO


Attempt = Callable[[httpx.AsyncClient, str], Awaitable[int]]
"""One try of a call: an HTTP status; below 300 it was answered, else refused."""


async def callers(requests: Sequence[str], clients: int, attempt: Attempt) -> Told:
    """So many callers at once, each taking the next request; a refused one is tried again after a pause. SIGTERM ends
    the trying; calls under way are finished."""
    told, left, stopped = Told(), iter(requests), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    async def caller(http: httpx.AsyncClient) -> None:
        for request_id in left:
            for number in range(TRIES):
                if number and not stopped.is_set():
                    longest = min(PAUSE_S * 2 ** min(number - 1, 10), LONGEST_PAUSE_S)
                    await asyncio.sleep(longest * draw(request_id, f"pause {number}", 500, 1000) / 1000)
                if stopped.is_set():
                    told.given_up += 1
                    break
                try:
                    status = str(await attempt(http, request_id))
                except httpx.HTTPError as error:
                    status = type(error).__name__
                if status < "3":
                    told.answered += 1
                    break
                told.refuse(status)
            else:
                told.given_up += 1

    async def sharing(number: int) -> None:
        async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(), trust_env=False, verify=False) as http:
            await asyncio.gather(*(caller(http) for _ in range(number, min(clients, number + SHARE_A_CLIENT))))

    await asyncio.gather(*map(sharing, range(0, clients, SHARE_A_CLIENT)))
    return told


def through_a_proxy(url: str, max_tokens: int | None) -> Attempt:
    """A call through a proxy that speaks OpenAI's API and holds the budget itself."""
    limit = {} if max_tokens is None else {"max_tokens": max_tokens}

    async def attempt(http: httpx.AsyncClient, request_id: str) -> int:
        messages = [{"role": "user", "content": prompt_of(request_id)}]
        answer = await http.post(
            f"{url}/v1/chat/completions",
            json={"model": MODEL, "messages": messages, "user": request_id, **limit},
            headers={"authorization": f"Bearer {os.environ[PROXY_KEY]}", "x-request-id": request_id},
        )
        return answer.status_code

    return attempt


def through_flywheel(ingest: str, provider: str, routers: str, max_tokens: int | None) -> Attempt:
    """A call as Flywheel's callers make it: a router decides within the budget, the caller calls and reports. One
    request in twenty is asked of two routers at once, one call in ten is reported twice, and a router that does not
    answer is left for the next. Budgets are asked for what the caller knows: its input, and ``max_tokens``."""
    urls = routers.split(",")

    async def decide(http: httpx.AsyncClient, body: dict[str, object], first: int) -> httpx.Response:
        failed: httpx.HTTPError | None = None
        for number in range(2 * len(urls)):
            try:
                answer = await http.post(f"{urls[(first + number) % len(urls)]}/v1/decide", json=body, timeout=10)
                if answer.status_code != 503:
                    return answer
            except httpx.HTTPError as error:
                failed = error
            await asyncio.sleep(0.2)
        raise failed or httpx.ConnectError("no router answers")

    async def attempt(http: httpx.AsyncClient, request_id: str) -> int:
        tokens_in = draw(request_id, "input", LEAST_INPUT, MOST_INPUT)
        asked: dict[str, object] = {"feature": FEATURE, "request_id": request_id, "input_tokens": tokens_in}
        if max_tokens is not None:
            asked["max_tokens"] = max_tokens
        first, twice = draw(request_id, "router", 0, len(urls) - 1), draw(request_id, "twice", 0, 19) == 0
        answers = await asyncio.gather(*(decide(http, asked, first + number) for number in range(1 + twice)))
        decided = next((answer for answer in answers if answer.status_code == 200), answers[0])
        if decided.status_code != 200:
            return decided.status_code
        decision = decided.json()
        body = {"model": MODEL, "messages": [], "user": request_id, "max_tokens": decision["params"]["max_tokens"]}
        answer = await http.post(f"{provider}/v1/chat/completions", json=body)
        await report(http, request_id, decision, answer.json()["usage"])
        return answer.status_code

    async def report(http: httpx.AsyncClient, request_id: str, decision: dict[str, str], usage: dict[str, int]) -> None:
        call = {
            "event_id": f"call-{request_id}", "request_id": request_id, "feature": FEATURE, "provider": "openai",
            "occurred_at": time.time_ns() // 1000, "request_model": MODEL, "status": "OK",
            "decision_id": decision["decision_id"], "usage_convention": "INCLUSIVE",
            "input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"],
        }  # fmt: skip
        left = 1 + (draw(request_id, "reported twice", 0, 9) == 0)
        while left:
            try:
                answer = await http.post(f"{ingest}/v1/calls", json=[call])
                left -= answer.status_code == 200
            except httpx.HTTPError:
                pass  # what was billed is reported, however long ingest is away
            await asyncio.sleep(0.2 if left else 0)

    return attempt


def start_provider(port: int) -> subprocess.Popen[bytes]:
    """The provider as a process of its own; it answers when ``GET /bill`` does."""
    return subprocess.Popen([sys.executable, __file__, "provider", str(port)])


def bill_of(port: int) -> Bill:
    """What a provider has billed so far."""
    return Bill(**httpx.get(f"http://127.0.0.1:{port}/bill", timeout=30, trust_env=False).json())


async def play(workload: Workload, command: Sequence[str], provider_port: int, *, quiet_s: float = QUIET_S) -> Told:
    """Run all callers, each process over its share of the requests, and add up what they met. Where the provider is
    asked nothing for ``quiet_s`` there is no money left, and callers are told to stop trying."""
    share = -(-workload.calls // workload.processes)
    each = max(1, workload.clients // workload.processes)
    running = []
    for number in range(workload.processes):
        first, last = number * share, min(workload.calls, (number + 1) * share)
        span = [str(workload.seed), str(first), str(last), str(each), str(workload.max_tokens or 0)]
        arguments = [sys.executable, __file__, "callers", *span, *command]
        running.append(await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, env=os.environ.copy()))
    ending = asyncio.create_task(_end_when_quiet(running, provider_port, quiet_s))
    told = Told()
    try:
        for process in running:
            said, _ = await process.communicate()
            if process.returncode:
                raise RuntimeError(f"callers ended with {process.returncode}")
            told.add(Told(**json.loads(said)))
    finally:
        ending.cancel()
        for process in running:
            if process.returncode is None:
                process.kill()
    return told


def _end_with_parent() -> None:
    """End this process when the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


async def _end_when_quiet(running: Sequence[asyncio.subprocess.Process], provider_port: int, quiet_s: float) -> None:
    known, since = -1, time.monotonic()
    while time.monotonic() - since < quiet_s:
        await asyncio.sleep(1)
        bill = await asyncio.to_thread(bill_of, provider_port)
        if bill.calls != known or bill.calls == 0:
            known, since = bill.calls, time.monotonic()
    for process in running:
        if process.returncode is None:
            process.terminate()


def usd(pico: int) -> Decimal:
    """Dollars, exactly."""
    return Decimal(pico) / PICO


def main() -> None:
    """The processes: ``provider PORT``, ``callers SEED FIRST LAST CLIENTS MAX_TOKENS HOW …``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("provider", "callers"))
    parser.add_argument("rest", nargs="*")
    arguments = parser.parse_args()
    _end_with_parent()
    if arguments.role == "provider":
        uvicorn.run(provider_app(), host="127.0.0.1", port=int(arguments.rest[0]), log_level="error", access_log=False)
        return
    seed, first, last, clients, max_tokens = map(int, arguments.rest[:5])
    how, *where = arguments.rest[5:]
    attempt = ATTEMPTS[how](*where, max_tokens=max_tokens or None)
    requests = [f"request-{seed}-{number}" for number in range(first, last)]
    print(json.dumps(asdict(asyncio.run(callers(requests, clients, attempt)))))


ATTEMPTS: Final[dict[str, Callable[..., Attempt]]] = {"proxy": through_a_proxy, "flywheel": through_flywheel}
HERE: Final = Path(__file__).parent

if __name__ == "__main__":
    main()
