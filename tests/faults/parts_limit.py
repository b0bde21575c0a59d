"""``python parts_limit.py FOLDER TABLE N``: how many parts a table of a closed embedded ClickHouse takes before it
refuses inserts; N ``default`` takes the limit away. In a process of its own, as one at a time may open the folder."""

from __future__ import annotations

import sys
from pathlib import Path

from flywheel.store import StoreSettings, connect

SETTINGS = ("parts_to_throw_insert", "parts_to_delay_insert")


def limit_parts(folder: Path, table: str, most: int | None) -> None:
    """Set or reset the limit."""
    client = connect(StoreSettings(path=folder))
    for setting in SETTINGS:
        change = f"RESET SETTING {setting}" if most is None else f"MODIFY SETTING {setting} = {most}"
        client.command(f"ALTER TABLE {table} {change}")
    client.close()


if __name__ == "__main__":
    limit_parts(Path(sys.argv[1]), sys.argv[2], None if sys.argv[3] == "default" else int(sys.argv[3]))
