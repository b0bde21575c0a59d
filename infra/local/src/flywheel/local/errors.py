"""What can go wrong in the local runtime; each message is one clear line, followed by a log tail where there is one."""

from __future__ import annotations

from typing import ClassVar


class LocalError(Exception):
    """The local runtime could not do what was asked; ``exit_code`` is what a command should exit with."""

    exit_code: ClassVar[int] = 1


class RequirementMissing(LocalError):
    """A program that must be installed is missing or too old; the message says which, what version and what to do."""

    exit_code: ClassVar[int] = 2


class PartFailed(LocalError):
    """A part ended, or was not ready in time. The message ends with the tail of its log."""

    def __init__(self, part: str, detail: str, log_tail: str = "") -> None:
        tail = "\n".join(f"  | {line}" for line in log_tail.splitlines())
        super().__init__(f"{part}: {detail}" + (f"; the end of its log:\n{tail}" if tail else ""))
        self.part = part
        self.detail = detail
        self.log_tail = log_tail
