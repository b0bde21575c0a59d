"""Brings Apache Kafka's jars from Maven into a cache folder, once per machine and version."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from flywheel.local.errors import LocalError, RequirementMissing

JAVA_AT_LEAST: Final = 17
_ARCHIVE: Final = "classes.jsa"


@dataclass(frozen=True, slots=True)
class KafkaHome:
    """An installed Kafka: ``folder/libs`` holds its jars, ``archive`` its class data, where that could be made."""

    folder: Path
    version: str
    java: Path

    @property
    def archive(self) -> Path:
        """Classes, parsed and verified ahead: a node then starts in half the time. The file may be absent."""
        return self.folder / _ARCHIVE

    def command(self, main: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command line of a Java program in the jars; run it in ``folder`` (the archive knows the class path by
        its relative name)."""
        shared = (f"-XX:SharedArchiveFile={_ARCHIVE}",) if self.archive.is_file() else ()
        # -Xlog: an archive made by another Java is not used, without a word.
        return [
            str(self.java), *shared, "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off",
            "-Dlog4j2.configurationFile=log4j2.properties", "-Djava.awt.headless=true",
            *options, "-cp", "libs/*", main, *arguments,
        ]  # fmt: skip


def kafka_version() -> str:
    """The version that ``pom.xml`` pins."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", _resource("pom.xml"))
    assert found is not None, "pom.xml has no kafka.version"
    return found.group(1)


def cache_dir() -> Path:
    """``FLYWHEEL_CACHE``, or ``flywheel`` in the user's cache folder."""
    named = os.environ.get("FLYWHEEL_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flywheel"


def find_java() -> Path:
    """The ``java`` of ``JAVA_HOME``, or of the path.

    Raises:
        RequirementMissing: there is none, or it is older than 17.
    """
    advice = f"Apache Kafka {kafka_version()} needs Java {JAVA_AT_LEAST} or newer: install a JRE (Debian, Ubuntu: "
    advice += f"apt-get install openjdk-{JAVA_AT_LEAST}-jre-headless) or set JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME={home} has no bin/java" if home else "no `java` on PATH"
        raise RequirementMissing(f"{where}. {advice}")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    if version is None or int(version.group(1)) < JAVA_AT_LEAST:
        raise RequirementMissing(f"{found} is Java {version.group(1) if version else 'of unknown version'}. {advice}")
    return Path(found)


def kafka_home() -> KafkaHome:
    """The installed Kafka; the first call on a machine installs it (50 MB, about 20 s). Safe when several processes
    call it at once: one installs, the others wait, and a folder appears complete or not at all.

    Raises:
        RequirementMissing: Java is missing or too old, or Maven is missing and Kafka not yet installed.
        LocalError: Maven failed; the message has the end of its output.
    """
    java, version = find_java(), kafka_version()
    digest = hashlib.sha256(_resource("pom.xml").encode() + _resource("log4j2.properties").encode()).hexdigest()[:8]
    folder = cache_dir() / f"kafka-{version}-{digest}"
    home = KafkaHome(folder, version, java)
    if folder.is_dir():
        return home
    cache_dir().mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir() / f"{folder.name}.lock"):
        if not folder.is_dir():
            _install(home)
    return home


def _install(home: KafkaHome) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RequirementMissing(
            f"no `mvn` on PATH. Apache Kafka {home.version} comes from Maven Central, once: install Maven 3.6 or newer "
            f"(Debian, Ubuntu: apt-get install maven), or unpack its jars into {home.folder}/libs"
        )
    building = Path(tempfile.mkdtemp(prefix=f"{home.folder.name}.", dir=home.folder.parent))
    try:
        for name in ("pom.xml", "log4j2.properties"):
            (building / name).write_text(_resource(name))
        _copy_jars(maven, building)
        _train(KafkaHome(building, home.version, home.java))
        building.chmod(0o755)
        building.rename(home.folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _copy_jars(maven: str, building: Path) -> None:
    command = [maven, "-B", "-q", "-f", "pom.xml", "dependency:copy-dependencies"]
    ran = subprocess.run(
        [*command, f"-DoutputDirectory={building / 'libs'}", "-DincludeScope=runtime"],
        cwd=building, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if ran.returncode != 0 or not any((building / "libs").glob("kafka_2.13-*.jar")):
        said = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-15:])
        raise LocalError(f"bringing Apache Kafka's jars from Maven failed (exit {ran.returncode}):\n{said}")


def _train(home: KafkaHome) -> None:
    """Run a node once and let Java keep the classes it loaded. Only speed depends on it, so a failure is no error."""
    from flywheel.local.kafka import KafkaNode

    with (
        tempfile.TemporaryDirectory(prefix="flywheel-kafka-") as scratch,
        contextlib.suppress(LocalError, OSError),
    ):
        node = KafkaNode(Path(scratch), home=home, options=(f"-XX:ArchiveClassesAtExit={_ARCHIVE}",))
        with node:
            node.wait_ready()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resource(name: str) -> str:
    return resources.files("flywheel.local").joinpath(name).read_text(encoding="utf-8")
