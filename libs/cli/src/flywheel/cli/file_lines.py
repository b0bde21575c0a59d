"""Lines of a person's own file, or of standard input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

MOST_LINE_BYTES: Final = 1 << 20


def limited_lines(stream: IO[bytes], *, most_bytes: int = MOST_LINE_BYTES) -> Iterator[bytes]:
    """Lines, of which no more is held than is needed to see that one is longer than ``most_bytes``."""
    while line := stream.readline(most_bytes + 1):
        rest = line
        while len(rest) > most_bytes and not rest.endswith(b"\n"):
            rest = stream.readline(most_bytes + 1)
        yield line


def called(file: Path) -> str:
    """What a file is called where something is said about it; ``-`` is standard input."""
    return "standard input" if str(file) == "-" else file.name
