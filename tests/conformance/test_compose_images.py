"""An image holds exactly what its service declares, at the versions and hashes of the one lock file."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flywheel.observe import ServiceSettings
from flywheel.observe.settings import variable_of

ROOT = Path(__file__).resolve().parents[2]


def script(name):
    """A module out of infra/docker, which is no package."""
    spec = importlib.util.spec_from_file_location(f"infra_docker_{name}", ROOT / "infra" / "docker" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


packages, picking = script("packages"), script("pick")
IMAGES = sorted(packages.IMAGES)


def dockerfile(image):
    """A Dockerfile as (instruction, rest) pairs, continued lines joined."""
    text = (ROOT / packages.IMAGES[image] / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_every_service_has_an_image():
    services = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")}
    assert set(packages.IMAGES) == services | {"local"}


@pytest.mark.parametrize("image", IMAGES)
def test_it_copies_exactly_the_members_that_the_service_needs(image):
    copied = {
        rest.split()[0]
        for verb, rest in dockerfile(image)
        if verb == "COPY" and rest.split()[0].startswith(("libs/", "services/", "infra/local"))
    }
    assert copied == {str(folder) for folder in packages.members_needed(packages.IMAGES[image])}


@pytest.mark.parametrize("image", IMAGES)
def test_it_installs_by_hash_and_from_nowhere_that_it_names(image):
    text = (ROOT / packages.IMAGES[image] / "Dockerfile").read_text()
    assert "://" not in text
    assert not re.search(r"index-url|extra-index|trusted-host|find-links", text)
    installs = [line for line in re.sub(r"\\\n", " ", text).split("&&") if "pip" in line and " install " in line]
    assert len(installs) == 3
    for line in installs:
        assert "--no-deps" in line
        assert "--require-hashes" in line or "--no-index" in line


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_user_without_rights_and_names_settings_that_exist(image):
    lines = dockerfile(image)
    final = lines[max(i for i, (verb, _) in enumerate(lines) if verb == "FROM") :]
    assert {rest for verb, rest in lines if verb == "FROM"} == {"python:3.11-slim AS build", "python:3.11-slim"}
    assert [rest for verb, rest in final if verb == "USER"] == ["10001:10001"]
    assert "10001" in " ".join(rest for verb, rest in final if verb == "RUN")
    assert [rest for verb, rest in final if verb == "COPY"] == ["--from=build /opt/flywheel /opt/flywheel"]
    known = {variable_of(name, field) for name, field in ServiceSettings.model_fields.items()}
    (environment,) = [rest for verb, rest in final if verb == "ENV"]
    assert set(re.findall(r"\b(FLYWHEEL_\w+)=", environment)) <= known


@pytest.mark.parametrize("image", IMAGES)
def test_it_starts_a_module_that_exists(image):
    (started,) = [rest for verb, rest in dockerfile(image) if verb == "ENTRYPOINT"]
    module = re.fullmatch(r'\["python", "-m", "([\w.]+)"\]', started)[1]
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None


def test_the_lists_of_packages_are_up_to_date():
    for name, needed in packages.lists().items():
        listed = (ROOT / "infra" / "docker" / name).read_text().split()
        assert listed == needed, f"{name} is out of date: run python infra/docker/packages.py"


@pytest.mark.parametrize("listed", sorted(path.name for path in (ROOT / "infra" / "docker").glob("*.packages")))
def test_the_lock_file_has_every_package_with_its_hashes(listed):
    names = (ROOT / "infra" / "docker" / listed).read_text().split()
    lock = (ROOT / "requirements.lock").read_text()
    picked = picking.pick(lock, names)
    assert picked.count("--hash=sha256:") >= len(names)
    heads = [line.removesuffix("\\").strip() for line in picked.splitlines() if not line.startswith(" ")]
    pinned = [Requirement(head) for head in heads]
    image = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}
    used = [canonicalize_name(pin.name) for pin in pinned if pin.marker is None or pin.marker.evaluate(image)]
    assert sorted(used) == names


def test_a_package_with_one_version_per_python_keeps_them_all():
    lock = (
        "numpy==2.2 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "numpy==2.4 ; python_full_version >= '3.12' \\\n    --hash=sha256:11\n"
    )
    assert picking.pick(lock, ["numpy"]) == lock


def test_a_package_that_the_lock_lacks_is_named():
    lock = (
        "Typing_Extensions==4.1 ; python_version < '4' \\\n    --hash=sha256:00\nzlib-ng==1 \\\n    --hash=sha256:11\n"
    )
    assert picking.pick(lock, ["typing-extensions"]) == lock[: lock.index("zlib")]
    with pytest.raises(KeyError, match="the lock file lacks absent"):
        picking.pick(lock, ["zlib-ng", "absent"])


def test_only_what_the_images_copy_reaches_the_builder():
    allowed = (ROOT / ".dockerignore").read_text().split("\n")
    assert allowed[1] == "*"
    sources = {rest.split()[0] for image in IMAGES for verb, rest in dockerfile(image) if verb == "COPY"}
    kept = {line[1:] for line in allowed if line.startswith("!")}
    for source in sources - {"--from=build"}:
        assert any(source == top or source.startswith(f"{top}/") for top in kept)


def imports(folder):
    """Every name that a member's code imports, at the top of a module or later, with the file that does."""
    for path in (ROOT / folder / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name, path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield from ((f"{node.module}.{alias.name}", path) for alias in node.names)


@pytest.mark.parametrize("member", sorted(map(str, packages.members().values())))
def test_what_a_member_imports_is_declared_or_its_image_would_lack_it(member):
    folder, names = Path(member), {path: name for name, path in packages.members().items()}
    own = {f"flywheel.{names[needed].removeprefix('flywheel-')}" for needed in packages.members_needed(folder)}
    own |= {f"flywheel_{folder.name}"}
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    optional = [Requirement(text) for group in project.get("optional-dependencies", {}).values() for text in group]
    available = {*packages.third_party(folder), *packages.closure(optional)}
    providers = importlib.metadata.packages_distributions()
    for name, path in imports(folder):
        top = name.split(".")[0]
        if top.startswith("flywheel"):
            assert ".".join(name.split(".")[: 2 if top == "flywheel" else 1]) in own, f"{path} imports {name}"
        elif top not in sys.stdlib_module_names:
            known = {canonicalize_name(provider) for provider in providers.get(top, [top])}
            assert known & available, f"{path} imports {top}, which {member}/pyproject.toml does not bring"
