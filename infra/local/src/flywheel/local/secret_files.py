"""Secrets of a system on one machine: random, made once, in a folder for its owner alone, passed on as file names.

``python -m flywheel.local.secret_files FOLDER`` makes those of ``docker-compose.yml``.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

COMPOSE_SECRETS: Final = ("user_hash_key", "clickhouse_password", "grafana_password")
_CLICKHOUSE: Final = "clickhouse_url"


def make_secrets(folder: Path, names: Iterable[str]) -> None:
    """Make each file that is not there yet: 64 hexadecimal digits.

    The folder keeps other users out; the files are readable, because a container that gets one mounted reads it under
    a user of its own.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for name in names:
        path = folder / name
        if not path.is_file():
            path.write_text(secrets.token_hex(32) + "\n")


def make_compose_secrets(folder: Path) -> None:
    """Make what ``docker-compose.yml`` mounts, with ClickHouse's address as the recorder needs it."""
    make_secrets(folder, COMPOSE_SECRETS)
    password = (folder / "clickhouse_password").read_text().strip()
    (folder / _CLICKHOUSE).write_text(f"http://flywheel:{password}@clickhouse:8123\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flywheel.local.secret_files FOLDER")
    make_compose_secrets(Path(sys.argv[1]))
