"""Secrets of a local system: random, made once, readable by their owner alone, passed to services as file names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def make_secrets(folder: Path, names: Iterable[str]) -> None:
    """Make each file that is not there yet: 64 hexadecimal digits."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in names:
        path = folder / name
        if not path.is_file():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
                target.write(secrets.token_hex(32) + "\n")
