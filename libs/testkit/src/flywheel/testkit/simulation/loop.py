"""An event loop whose time is a number, and processes that can be killed or frozen between any two of its steps.

Nothing is waited for: where every task sleeps, the clock jumps to the first that wakes. Work given to threads runs on
the loop, some virtual time later. What runs in which order follows from the code and the seed alone, so a run can be
repeated; sets of strings iterate by Python's hash seed, so repeat it with the same one (``PYTHONHASHSEED``).
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any

THREAD_S = 0.05
"""Longest that work in a thread takes."""


class Stuck(Exception):
    """Nothing is left that could ever happen: everybody waits for somebody."""


class Dead(BaseException):
    """What a process that was killed meets when its tasks are taken apart at the end. Not an error to be handled."""


@dataclass(eq=False)
class Process:
    """Tasks that live and die together. ``steps``: how many times one of them ran; ``dies_at``: the step it is killed
    instead of taking."""

    name: str
    steps: int = 0
    dies_at: int | None = None
    alive: bool = True
    frozen: bool = False
    gone: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    died: Callable[[Process], None] = lambda _process: None
    _held: list[tuple[asyncio.Handle, Callable[..., object], tuple[Any, ...], Context]] = field(default_factory=list)

    def kill(self) -> None:
        """From now on not one more line of it runs: no clean-up either."""
        if self.alive:
            self.alive = False
            self.died(self)

    def thaw(self, loop: SimulationLoop) -> None:
        """Go on where it was frozen; what it had waited for meanwhile comes all at once."""
        self.frozen = False
        held, self._held = self._held, []
        for handle, callback, arguments, context in held:
            loop.call_soon(_unless_cancelled, handle, callback, arguments, context=context)

    def step(self, box: list[asyncio.Handle], callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Run one callback of the process, unless it is dead, frozen, or dies of it."""
        if self.alive and not self.frozen and self.steps + 1 == self.dies_at:
            self.kill()
        if self.gone or (self.alive and not self.frozen):
            self.steps += 1
            callback(*arguments)
        else:
            self._held.append((box[0], callback, arguments, copy_context()))


def _unless_cancelled(handle: asyncio.Handle, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    if not handle.cancelled():
        callback(*arguments)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("no task can run and none will wake")
        self._advance(timeout)
        return []


class SimulationLoop(asyncio.SelectorEventLoop):
    """See the module. ``chance`` says how long work in threads takes."""

    def __init__(self, chance: Random) -> None:
        self._now = 0.0
        self._chance = chance
        super().__init__(_NoWaiting(self._pass))
        self.set_task_factory(_task)

    def _pass(self, seconds: float) -> None:
        self._now += max(0.0, seconds)

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As in every loop; a process takes it as one step."""
        context = copy_context() if context is None else context
        process = context.get(_PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        box: list[asyncio.Handle] = []
        box.append(super().call_soon(process.step, box, callback, args, context=context))
        return box[0]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in every loop; a process takes it as one step."""
        context = copy_context() if context is None else context
        process = context.get(_PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        box: list[asyncio.Handle] = []
        handle = super().call_at(when, process.step, box, callback, args, context=context)
        box.append(handle)
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run on the loop what would run in a thread, some time later."""
        future: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            if not future.done():
                try:
                    future.set_result(func(*args))
                except Exception as error:
                    future.set_exception(error)

        self.call_later(self._chance.uniform(0.0, THREAD_S), run)
        return future

    def spawn(self, process: Process, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a process; every task it makes belongs to it."""
        context = copy_context()
        context.run(_PROCESS.set, process)
        return self.create_task(main, name=process.name, context=context)

    async def bury(self, process: Process) -> None:
        """Take the tasks of a killed process apart, so that nothing of it is left in memory."""
        process.gone = True
        for task in process.tasks:
            task.cancel()
        process.thaw(self)
        await asyncio.gather(*process.tasks, return_exceptions=True)


def _task(loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    process = (context or copy_context()).get(_PROCESS)
    if process is not None:
        process.tasks = [known for known in process.tasks if not known.done()]
        process.tasks.append(task)
    return task


def current_process() -> Process | None:
    """The process whose step this is; None outside of all."""
    return _PROCESS.get()
