"""Prints the entries of a lock file for the packages of a list: ``pick.py requirements.lock ingest.packages``.

Runs while an image is built, with nothing but the standard library. Exits 1 when the lock lacks one of the names.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def entries(lock: str) -> dict[str, str]:
    """The entries of a lock file, hashes and markers included, by normalised name; a package can have several, each
    with the marker of the Python it is for."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(==[^\n]*\n(?:[ \t]+[^\n]*\n?)*)", lock, re.MULTILINE)
    by_name: dict[str, str] = {}
    for name, rest in found:
        key = re.sub(r"[-_.]+", "-", name).lower()
        by_name[key] = by_name.get(key, "") + name + rest
    return by_name


def pick(lock: str, names: list[str]) -> str:
    """The entries of ``names``. Raises ``KeyError`` with the names that the lock lacks."""
    known = entries(lock)
    missing = [name for name in names if name not in known]
    if missing:
        raise KeyError(f"the lock file lacks {', '.join(missing)}")
    return "".join(known[name] for name in names)


if __name__ == "__main__":
    try:
        sys.stdout.write(pick(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text().split()))
    except KeyError as error:
        raise SystemExit(str(error.args[0])) from error
