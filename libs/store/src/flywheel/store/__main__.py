"""``python -m flywheel.store docs`` prints the page of views."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from flywheel.store.catalogue import render, views
from flywheel.store.connection import StoreSettings, connect
from flywheel.store.migrations import migrate


def main() -> int:
    """Build an empty database in a temporary folder and describe its views on stdout."""
    if sys.argv[1:] != ["docs"]:
        sys.stderr.write("usage: python -m flywheel.store docs\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        client = connect(StoreSettings(path=Path(folder) / "clickhouse"))
        migrate(client)
        sys.stdout.write(render(views(client)))
        client.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
