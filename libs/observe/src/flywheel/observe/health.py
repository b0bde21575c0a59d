"""Whether a process is stuck (not live: restart it) or merely not ready (wait: it recovers by itself)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """The state of one part of a process, with the reason a person should read."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Beat:
    at_s: float
    within_s: float


class Health:
    """What the parts of a process say of themselves. Safe to use from several threads.

    Ready: every part that ever spoke is ready, and at least one did. A dependency that is away makes it not ready.
    Live: no part said it is dead, and every part that promised a heartbeat gave it in time. Only a restart helps a
    process that is not live, so a dependency that is away never makes it so.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ready: dict[str, Part] = {}
        self._live: dict[str, Part] = {}
        self._beats: dict[str, _Beat] = {}

    def set_ready(self, part: str, ok: bool, detail: str = "") -> None:
        """Say whether ``part`` can serve now."""
        with self._lock:
            self._ready[part] = Part(ok, detail)

    def set_live(self, part: str, ok: bool, detail: str = "") -> None:
        """Say whether ``part`` can still recover by itself."""
        with self._lock:
            self._live[part] = Part(ok, detail)

    def beat(self, part: str, within_s: float) -> None:
        """Promise that ``part`` beats again within ``within_s`` seconds; if it does not, the process is stuck."""
        with self._lock:
            self._beats[part] = _Beat(self._clock(), within_s)

    def forget(self, part: str) -> None:
        """Drop everything known of ``part``, because it ended as it should."""
        with self._lock:
            for parts in (self._ready, self._live, self._beats):
                parts.pop(part, None)

    @property
    def ready(self) -> bool:
        parts = self.ready_parts()
        return bool(parts) and all(part.ok for part in parts.values())

    @property
    def live(self) -> bool:
        return all(part.ok for part in self.live_parts().values())

    def ready_parts(self) -> Mapping[str, Part]:
        """Each part and whether it is ready."""
        with self._lock:
            return dict(self._ready)

    def live_parts(self) -> Mapping[str, Part]:
        """Each part and whether it is live; a late heartbeat shows as not live with the seconds it is late."""
        with self._lock:
            now_s = self._clock()
            parts = dict(self._live)
            for name, beat in self._beats.items():
                silent_s = now_s - beat.at_s
                if silent_s > beat.within_s:
                    parts[name] = Part(False, f"stuck: silent for {silent_s:.1f} s, promised {beat.within_s:g} s")
                else:
                    parts.setdefault(name, Part(True))
            return parts
