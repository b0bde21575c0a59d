"""One request of a caller: attempts at arms until one answers, all under one deadline, each told to the log."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from flywheel.events import event_id
from flywheel.policy import Arm, DecideRequest, Decision
from flywheel.policy.decide import uniform
from flywheel_router.core import NO_SEQUEL, Course, Option, Sequel
from flywheel_router.gateway.asking import Asked, upstream_body
from flywheel_router.gateway.cascading import asks_logprobs, judge, plan_for
from flywheel_router.gateway.charging import Attempt, call_event
from flywheel_router.gateway.circuits import Circuits
from flywheel_router.gateway.errors import Refused
from flywheel_router.gateway.opened import (
    MAX_ANSWER_BYTES,
    Opened,
    close,
    first_answer,
    take_all,
    take_first,
)
from flywheel_router.gateway.planning import Ending, Go, RetryRules, Tried, ending_of_status, next_attempt, outcome_of
from flywheel_router.gateway.providers import FORMAT_OF, Provider, provider_of
from flywheel_router.gateway.recording import Recorder
from flywheel_router.gateway.streams import ChatReader, EventTooLong, MessageReader, read_whole, without_logprobs
from flywheel_router.gateway.upstream import Broken, NotReached, Upstream, retry_after_s, whole

_MAX_ERROR_BYTES: Final = 64 << 10


class Relayed(Exception):
    """The provider says that the caller's request is wrong; it is told so in the provider's words."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the provider answered {status}")
        self.status, self.body = status, body


@dataclass(frozen=True, slots=True)
class Means:
    """What an exchange works with."""

    providers: dict[str, Provider]
    upstream: Upstream
    circuits: Circuits
    recorder: Recorder
    rules: RetryRules
    hedged: Callable[[str, str], bool]
    """Whether requests of a project's feature may be asked twice."""


class Exchange:
    """The attempts of one request. `open` makes them; whoever sends the answer ends it with `settle`."""

    def __init__(
        self,
        means: Means,
        asked: Asked,
        request: DecideRequest,
        decision: Decision | None,
        course: Course,
        *,
        traceparent: str | None,
        deadline_s: float,
    ) -> None:
        """``deadline_s``: by the loop's clock."""
        self._means = means
        self.asked, self.request, self.decision = asked, request, decision
        self._course = course
        self._traceparent = traceparent
        self.deadline_s = deadline_s
        self.reserved = decision is not None and bool(decision.reservations)
        self.attempts: list[Attempt] = []
        self.set_aside: tuple[Opened, dict[str, Any]] | None = None
        """The answer that was doubted and followed by another attempt, and its call's event, which is told already."""
        self._plan = plan_for(asked, course)
        self._held: list[dict[str, Any]] = []

    async def open(self) -> Opened:
        """Make attempts until one begins to answer.

        Raises:
            Refused: none did; `settle` is not needed then.
            Relayed: the provider finds the request wrong.
        """
        loop = asyncio.get_running_loop()
        tried: list[Tried] = []
        go = Go(0, 0.0)
        try:
            while True:
                if go.wait_s:
                    await asyncio.sleep(go.wait_s)
                option = self._course.options[go.arm] if go.arm else self._course.chosen
                found = await (self._hedged(option) if self._may_hedge(tried) else self._attempt(option))
                if found.attempt.ending == "ok":
                    return await self._carried_out(found)
                tried = self._tried(found)
                left_s = self.deadline_s - loop.time()
                following = next_attempt(
                    self._means.rules, tried, self._admitted(), reserved=self.reserved, left_s=left_s,
                    uniform=random.random(),
                )  # fmt: skip
                if following is None:
                    raise self._failure(found)
                go = following
        except BaseException:
            self._release()
            raise

    def settle(self, opened: Opened, ending: Ending, error_type: str | None = None) -> dict[str, Any]:
        """Say how the attempt that answered ended: its call is in the journal when this returns, and so are those
        before it. Returns the call's event."""
        if self.set_aside is not None and opened is self.set_aside[0]:
            self._release()
            return self.set_aside[1]
        event = self._end(opened.attempt, ending, error_type, opened.started_s, len(opened.sent))
        self._release()
        return event

    # -- a cascade ----------------------------------------------------------------------------------------------------

    async def _carried_out(self, found: Opened) -> Opened:
        """The plan of the arm carried out: its answer, or that of the arm it escalates to."""
        plan, course = self._plan, self._course
        if plan is None or self.decision is None or found.attempt.arm is not course.chosen.arm:
            return found
        judged = found.attempt.judged = judge(
            plan,
            self.asked,
            found.attempt.tally,
            draw=uniform(event_id("escalation", self.decision.decision_id)),
            sequel=self._sequel,
            left_s=self.deadline_s - asyncio.get_running_loop().time(),
        )
        self._means.recorder.judged(judged.verdict)
        option = course.sequel.option if judged.verdict == "escalated" else None
        if option is None:
            return found
        # Told before the other is asked, and as what is followed by another: the reservation pays both.
        self.set_aside = (found, self._end(found.attempt, "ok", None, found.started_s, len(found.sent)))
        await close(found)
        try:
            second = await self._attempt(option)
        except Refused:
            return found
        return second if second.attempt.ending == "ok" else found

    def _sequel(self) -> Sequel:
        """What may follow, as far as its provider and its circuit go too."""
        found = self._course.sequel
        return found if found.option is None or self._admits(found.option.arm) else NO_SEQUEL

    def _judges(self, arm: Arm) -> bool:
        """Whether this arm's answer is judged, so that no caller sees any of it before that."""
        return self._plan is not None and arm is self._course.chosen.arm

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self, option: Option, attempt: Attempt | None = None) -> Opened:
        attempt = attempt or self._new_attempt(option.arm)
        opened = Opened(attempt, b"", started_s=time.monotonic())
        provider = self._means.providers.get(attempt.provider)
        circuit = self._means.circuits.of(self._key(option.arm))
        if provider is None or FORMAT_OF[self.asked.endpoint] not in provider.formats:
            return self._ended(opened, "unavailable", "provider_not_declared")
        if not circuit.admits(opened.started_s):
            opened.retry_after_s = max(0.0, circuit.retry_at_s - opened.started_s)
            return self._ended(opened, "unavailable", "circuit_open")
        try:
            attempt.body = upstream_body(
                self.asked, attempt.model, option.arm, option.cap, provider.cap_param,
                logprobs=self._judges(option.arm) and asks_logprobs(self.asked, self._plan),
            )  # fmt: skip
            opened.sent = orjson.dumps(attempt.body)
        except Refused:
            self._ended(opened, "invalid", "no_tokens_left")
            raise
        except TypeError:  # what was read may still be nested too deeply to be written
            self._ended(opened, "invalid", "not_writable")
            raise Refused(400, "the body is nested too deeply") from None
        change = circuit.begin(opened.started_s)
        if change is not None:
            self._tell(option.arm, change)
        loop = asyncio.get_running_loop()
        until_s = (
            self.deadline_s if provider.timeout_s is None else min(self.deadline_s, loop.time() + provider.timeout_s)
        )
        try:
            async with asyncio.timeout_at(until_s):
                return await self._converse(opened, provider)
        except TimeoutError:
            ended = self._ended(opened, "timeout", "timeout")
        except NotReached as error:
            ended = self._ended(opened, "connect", str(error))
        except (Broken, EventTooLong) as error:
            ended = self._ended(opened, "broken", str(error)[:64])
        except asyncio.CancelledError:
            self._ended(opened, "cancelled", "cancelled")
            await close(opened)
            raise
        await close(opened)
        return ended

    async def _converse(self, opened: Opened, provider: Provider) -> Opened:
        asked = self.asked
        reply = opened.reply = await self._means.upstream.ask(provider, asked.endpoint, opened.sent)
        opened.status = reply.status
        opened.chunks = reply.chunks()
        if not 200 <= reply.status < 300:
            opened.error_body = await whole(opened.chunks, _MAX_ERROR_BYTES)
            opened.retry_after_s = retry_after_s(reply)
            ended = self._ended(opened, ending_of_status(reply.status), f"http_{reply.status}")
            await reply.close()
            return ended
        judged = self._judges(opened.attempt.arm)
        keep_text = judged or self._means.recorder.content is not None
        hide_logprobs = judged and asks_logprobs(asked, self._plan) and not asked.body.get("logprobs")
        if not asked.streaming:
            opened.whole = await whole(opened.chunks, MAX_ANSWER_BYTES)
            await reply.close()
            opened.attempt.answered = True
            opened.attempt.tally = read_whole(opened.whole, keep_text=keep_text)
            if not opened.attempt.tally.complete:
                raise Broken("not_json")
            if hide_logprobs:
                opened.whole = without_logprobs(opened.whole)
            return opened
        if not (reply.header("content-type") or "").startswith("text/event-stream"):
            raise Broken("not_a_stream")
        if asked.endpoint == "messages":
            opened.reader = MessageReader(keep_text=keep_text)
        else:
            opened.reader = ChatReader(
                include_usage=asked.include_usage, keep_text=keep_text, hide_logprobs=hide_logprobs
            )
        opened.attempt.tally = opened.reader.tally
        await (take_all(opened) if judged else take_first(opened))
        if opened.attempt.tally.failed is not None:
            ended = self._ended(opened, "server_error", opened.attempt.tally.failed)
            await close(opened)
            return ended
        return opened

    # -- asked twice --------------------------------------------------------------------------------------------------

    def _may_hedge(self, tried: list[Tried]) -> bool:
        """Only the first attempt, where it is wanted, and never where one reservation pays."""
        return not tried and not self.reserved and self._means.hedged(self.request.project, self.request.feature)

    async def _hedged(self, option: Option) -> Opened:
        """An attempt, and where it takes longer than 95 of 100 did, a second one beside it; the first answer wins."""
        circuit = self._means.circuits.of(self._key(option.arm))
        patience_ms = circuit.percentile_ms(0.95, time.monotonic())
        if patience_ms is None:
            return await self._attempt(option)
        attempts = [self._new_attempt(option.arm)]
        running = [asyncio.create_task(self._attempt(option, attempts[0]))]
        winner: Opened | None = None
        try:
            done, _ = await asyncio.wait(running, timeout=patience_ms / 1000)
            if not done:
                others = [each for each in self._course.options if each is not option and self._admits(each.arm)]
                other = others[0] if others else option
                attempts.append(self._new_attempt(other.arm))
                running.append(asyncio.create_task(self._attempt(other, attempts[1])))
            winner = await first_answer(running)
            return winner
        finally:
            await self._let_go(running, attempts, winner)

    async def _let_go(
        self, running: list[asyncio.Task[Opened]], attempts: list[Attempt], winner: Opened | None
    ) -> None:
        """Whatever is still running lost: nobody will see its answer, and it is charged."""
        for task, attempt in zip(running, attempts, strict=True):
            if not task.done():
                attempt.shadow = True
                task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        for late in ended:
            if not isinstance(late, Opened) or late is winner or late.attempt.ending != "ok":
                continue
            late.attempt.shadow = True  # it answered in the same moment
            self._end(late.attempt, "ok", None, late.started_s, len(late.sent))
            await close(late)

    # -- how it ended -------------------------------------------------------------------------------------------------

    def _new_attempt(self, arm: Arm) -> Attempt:
        provider, model = provider_of(arm.model) or ("unknown", arm.model or "unknown")
        made = Attempt(len(self.attempts) + 1, arm, provider, model, time.time_ns() // 1000)
        self.attempts.append(made)
        return made

    def _ended(self, opened: Opened, ending: Ending, error_type: str) -> Opened:
        self._end(opened.attempt, ending, error_type, opened.started_s, len(opened.sent))
        return opened

    def _end(
        self, attempt: Attempt, ending: Ending, error_type: str | None, started_s: float, sent_bytes: int
    ) -> dict[str, Any]:
        now_s = time.monotonic()
        attempt.ending, attempt.error_type = ending, error_type
        attempt.latency_ms = (now_s - started_s) * 1000
        recorder, means = self._means.recorder, self._means
        recorder.count(attempt)
        if ending != "unavailable":
            change = means.circuits.of(self._key(attempt.arm)).end(outcome_of(ending), attempt.latency_ms, now_s)
            if change is not None:
                self._tell(attempt.arm, change)
        event = call_event(
            attempt,
            event_id=recorder.call_id(self.request),
            endpoint=self.asked.endpoint,
            request=self.request,
            decision=self.decision,
            prices=recorder.prices(),
            input_bytes=sent_bytes,
            streaming=self.asked.streaming,
            reserved=self.reserved,
            received_us=time.time_ns() // 1000,
        )
        # The budget takes the first call of a request for the one that its reservation paid. What failed for nothing is
        # told after the one that cost, so that at no moment less seems spent than is.
        if self.reserved and ending not in ("ok", "timeout", "broken", "cancelled"):
            self._held.append(event)
        else:
            recorder.call(event, self._traceparent)
        return event

    def _release(self) -> None:
        for event in self._held:
            self._means.recorder.call(event, self._traceparent)
        self._held.clear()

    def _tried(self, last: Opened) -> list[Tried]:
        """Every attempt so far, the one that was just given up at the end."""
        others = [each for each in self.attempts if each is not last.attempt]
        tried = [Tried(self._place(each), each.ending) for each in others]
        return [*tried, Tried(self._place(last.attempt), last.attempt.ending, last.retry_after_s)]

    def _place(self, attempt: Attempt) -> int:
        if attempt.arm is self._course.chosen.arm:
            return 0
        return next(place for place, option in enumerate(self._course.options) if option.arm is attempt.arm)

    def _admitted(self) -> list[bool]:
        return [self._admits(option.arm) for option in self._course.options]

    def _admits(self, arm: Arm) -> bool:
        """Whether an arm can be called now: its provider is declared, and its circuit not open."""
        return self._callable(arm.model) and self._means.circuits.admits(self._key(arm), time.monotonic())

    def _callable(self, model: str | None) -> bool:
        found = provider_of(model)
        provider = self._means.providers.get(found[0]) if found else None
        return provider is not None and FORMAT_OF[self.asked.endpoint] in provider.formats

    def _key(self, arm: Arm) -> str:
        return circuit_key(self.request.project, self.request.feature, arm.name, self.decision is not None)

    def _tell(self, arm: Arm, change: Any) -> None:
        self._means.recorder.trouble(self._means.circuits.not_closed)
        self._means.recorder.circuit(
            self.request.project, self.request.feature or "-", arm.name, arm.model or "unknown", change
        )

    def _failure(self, last: Opened) -> Exception:
        """What the caller is told when no attempt answered."""
        attempt = last.attempt
        told = f"{len(self.attempts)} attempts failed, the last at arm {attempt.arm.name}: {attempt.error_type}"
        match attempt.ending:
            case "invalid":
                return Relayed(last.status, last.error_body)
            case "timeout":
                return Refused(504, told, code="deadline_exceeded")
            case "rate_limited":
                return Refused(429, told, code="provider_rate_limited", retry_after_s=last.retry_after_s or 1.0)
            case "unavailable":
                return Refused(503, told, code=attempt.error_type, retry_after_s=last.retry_after_s or 1.0)
            case _:
                return Refused(502, told, code="provider_failed")


def circuit_key(project: str, feature: str, arm: str, decided: bool) -> str:
    """The key of an arm's circuit. Without a decision the arm is a provider, as callers may name any model."""
    return f"{project}/{feature}/{arm}" if decided else f"//{arm.partition('/')[0]}"
