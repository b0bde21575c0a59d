"""What the sync and the async client share: facts in, outboxes, and letting go of everything at exit and after fork."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import secrets
import time
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import httpx

from flywheel.client.call import Call
from flywheel.client.http import BatchPost
from flywheel.client.options import Options
from flywheel.client.outbox import Bounds, Outbox, OutboxStats, Parcel
from flywheel.client.records import Decision, json_bytes, provider_of, texts, user_hash
from flywheel.events import event_id

_log = logging.getLogger("flywheel.client")


class ClientError(Exception):
    """Something the client was asked to do failed; raised only with ``raise_errors=True``."""


class BudgetRefused(ClientError):
    """A hard budget leaves no arm for this request, so there is no decision and the call must not be made.

    ``why`` is ``budget_wait`` (ask again after ``retry_after_s``), ``budget_exhausted`` (not before ``window_end_us``,
    microseconds since the epoch) or ``budget_unpriced``; ``budget`` names it.
    """

    def __init__(
        self, detail: str, *, why: str, budget: str | None, window_end_us: int | None, retry_after_s: float | None
    ) -> None:
        super().__init__(detail)
        self.why, self.budget = why, budget
        self.window_end_us, self.retry_after_s = window_end_us, retry_after_s


class Emitter:
    """Turns what a program tells into facts and hands them to the outboxes of ingest and router."""

    def __init__(self, options: Options, transport: httpx.BaseTransport | None) -> None:
        self.options = options
        bounds = Bounds(
            events=options.buffer_events,
            bytes=options.buffer_bytes,
            spill_bytes=options.spill_bytes,
            batch=options.batch_events,
            linger_s=options.linger_s,
        )
        self._posts = {
            "ingest": BatchPost(options.ingest_url, options.send_timeout_s, transport),
            "router": BatchPost(options.router_url, options.send_timeout_s, transport),
        }
        self._outboxes = {name: Outbox(name, post, bounds, options.spill_dir) for name, post in self._posts.items()}
        self._nonce = secrets.token_hex(8)
        self._ordinal = itertools.count()
        self._fork_hooks: list[Callable[[], None]] = []
        self._close_hooks: list[Callable[[], None]] = []
        self.closed = False
        _living().add(self)

    def call(
        self,
        what: Decision | str,
        *,
        request_id: str | None,
        model: str | None,
        provider: str | None,
        user: str | None,
        fields: Mapping[str, Any],
    ) -> Call:
        """A call that reports itself; a wrong argument costs the report, not the program."""
        record: dict[str, Any] = dict(fields)
        if isinstance(what, Decision):
            record |= _of_decision(what)
            request_id = request_id or what.request_id
            model = model or what.model
        else:
            record["feature"] = what
        record["request_id"] = request_id or secrets.token_hex(16)
        record["request_model"] = model or "unknown"
        record["provider"] = provider or provider_of(model) or "unknown"
        record["event_id"] = record.get("event_id") or self._id("call", record["request_id"])
        if "attributes" in record:
            record["attributes"] = texts(record["attributes"])
        return Call(self._with_dimensions(record, user), lambda done: self._offer("ingest", "calls", done))

    def feedback(
        self,
        request_id: str,
        kind: str,
        value: float | bool | None,
        *,
        user: str | None,
        fields: Mapping[str, Any],
    ) -> bool:
        """What somebody says of a request; False when it could not be kept."""
        record: dict[str, Any] = {
            "request_id": request_id,
            "kind": kind,
            "value": None if value is None else float(value),
            "occurred_at": time.time_ns() // 1000,
            **fields,
        }
        record["event_id"] = record.get("event_id") or self._id("feedback", request_id)
        return self._offer("ingest", "feedback", self._with_dimensions(record, user))

    def decision(self, event: Mapping[str, Any]) -> bool:
        """A decision that was made in this process."""
        return self._offer("router", "decisions", event)

    def identify(self, user: str | None) -> dict[str, str]:
        """The user as a field of a record: hashed where there is a key."""
        if user is None:
            return {}
        key = self.options.user_hash_key
        return {"user": user} if key is None else {"user_hash": user_hash(key, self.options.project, user)}

    def _with_dimensions(self, record: dict[str, Any], user: str | None) -> dict[str, Any]:
        options = self.options
        ours = {
            "project": options.project,
            "app": options.app,
            "environment": options.environment,
            "team": options.team,
            **self.identify(user),
        }
        return {**ours, **{name: value for name, value in record.items() if value is not None}}

    def _id(self, kind: str, request_id: str) -> str:
        return event_id(kind, self.options.project, request_id, self._nonce, next(self._ordinal))

    def _offer(self, outbox: str, kind: str, record: Mapping[str, Any]) -> bool:
        try:
            taken = self._outboxes[outbox].offer(Parcel(kind, json_bytes(record)))
        except Exception as error:
            if self.options.raise_errors:
                raise ClientError(f"reporting {kind}: {error}") from error
            _log.warning("reporting %s: %s", kind, error)
            return False
        if not taken and self.options.raise_errors:
            raise ClientError(f"reporting {kind}: nothing has room for it; it was dropped")
        return taken

    def on_fork(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` in a child after ``fork``."""
        self._fork_hooks.append(hook)

    def on_close(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` when the client closes."""
        self._close_hooks.append(hook)

    def flush(self, deadline_s: float) -> bool:
        """Send what waits; True when nothing is left."""
        end_s = time.monotonic() + deadline_s
        return all([outbox.flush(max(0.0, end_s - time.monotonic())) for outbox in self._outboxes.values()])

    def close(self, deadline_s: float) -> bool:
        """Flush, spill the rest, and let go; True when nothing is left. May be called twice."""
        if self.closed:
            return True
        self.closed = True
        for hook in self._close_hooks:
            hook()
        end_s = time.monotonic() + deadline_s
        done = all([outbox.close(max(0.0, end_s - time.monotonic())) for outbox in self._outboxes.values()])
        for post in self._posts.values():
            post.close()
        return done

    def after_fork(self) -> None:
        """In the child: other ids, no files, no connections, nothing waiting."""
        self._nonce = secrets.token_hex(8)
        for post in self._posts.values():
            post.forget()
        for outbox in self._outboxes.values():
            outbox.forget_parent()
        for hook in self._fork_hooks:
            hook()

    def stats(self) -> Mapping[str, OutboxStats]:
        """Counters by service."""
        return {name: outbox.stats() for name, outbox in self._outboxes.items()}


def _of_decision(decision: Decision) -> dict[str, Any]:
    return {
        "feature": decision.feature,
        "decision_id": decision.decision_id,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "variant": decision.arm,
        "propensity": decision.propensity,
        "prompt_name": decision.prompt_name,
        "prompt_version": decision.prompt_version,
        "params": texts(decision.params) or None,
    }


@lru_cache(maxsize=1)
def _living() -> weakref.WeakSet[Emitter]:
    """Every emitter of this process; the hooks are set with the first."""
    atexit.register(_at_exit)
    with contextlib.suppress(AttributeError):  # not on Windows
        os.register_at_fork(after_in_child=_after_fork)
    return weakref.WeakSet()


def _at_exit() -> None:
    for emitter in list(_living()):
        with contextlib.suppress(Exception):
            emitter.close(emitter.options.exit_deadline_s)


def _after_fork() -> None:
    for emitter in list(_living()):
        emitter.after_fork()
