"""Which packages an image needs: writes ``infra/docker/<image>.packages``, names to pick out of ``requirements.lock``;
and ``build.packages``, what turns a member into a wheel.

Run ``python infra/docker/packages.py`` in the project's environment after a change of dependencies;
``tests/conformance/test_compose_images.py`` says when it is due. An image then holds what its service needs and no more
(the embedded ClickHouse engine alone is several hundred megabytes), at the versions and hashes of the one lock file.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {
    "ingest": Path("services/ingest"),
    "router": Path("services/router"),
    "bandit": Path("services/bandit"),
    "budget": Path("services/budget"),
    "controller": Path("services/controller"),
    "detector": Path("services/detector"),
    "monitor": Path("services/monitor"),
    "notifier": Path("services/notifier"),
    "recorder": Path("services/recorder"),
    "local": Path("infra/local"),
}
# What the containers are, whatever this machine is.
_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}


def members() -> dict[str, Path]:
    """Every workspace member by its package name, with its folder relative to the repository."""
    patterns = ("libs/*/pyproject.toml", "services/*/pyproject.toml", "infra/local/pyproject.toml")
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return {tomllib.loads(p.read_text())["project"]["name"]: p.parent.relative_to(ROOT) for p in found}


def declared(folder: Path) -> list[Requirement]:
    """What a member's ``pyproject.toml`` declares."""
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project.get("dependencies", [])]


def members_needed(folder: Path) -> set[Path]:
    """The folders of a member and, transitively, of every member that it declares."""
    known, needed, waiting = members(), set[Path](), [folder]
    while waiting:
        folder = waiting.pop()
        if folder not in needed:
            needed.add(folder)
            waiting += [known[r.name] for r in declared(folder) if r.name in known]
    return needed


def third_party(folder: Path) -> list[str]:
    """The names of all packages from outside that a member needs, transitively."""
    known = members()
    return closure([r for needed in members_needed(folder) for r in declared(needed) if r.name not in known])


def closure(requirements: list[Requirement]) -> list[str]:
    """The names of these packages and of what they need in turn, on Linux; sorted.

    Raises:
        PackageNotFoundError: one is not installed here, so what it needs is not known.
    """
    waiting = list(requirements)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        node = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if node in seen or not _applies(requirement, frozenset()):
            continue
        seen.add(node)
        inner = [Requirement(text) for text in requires(requirement.name) or []]
        waiting += [_unmarked(r) for r in inner if _applies(r, node[1])]
    return sorted({name for name, _ in seen})


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate(_LINUX | {"extra": extra}) for extra in extras | {""})


def _unmarked(requirement: Requirement) -> Requirement:
    plain = Requirement(str(requirement))
    plain.marker = None
    return plain


def lists() -> dict[str, list[str]]:
    """Every list by the name of its file."""
    images = {f"{image}.packages": third_party(folder) for image, folder in IMAGES.items()}
    return images | {"build.packages": closure([Requirement("hatchling")])}


def main() -> None:
    """Write every list."""
    try:
        for name, packages in lists().items():
            (ROOT / "infra" / "docker" / name).write_text("\n".join(packages) + "\n")
    except PackageNotFoundError as error:
        raise SystemExit(f"{error}: install the project's requirements first") from error


if __name__ == "__main__":
    main()
