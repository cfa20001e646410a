"""Bring the Kafka broker's jars onto this machine, and use none that is not exactly the one that was tested.

`kafka.lock` lists every jar with its size and SHA-256; where jars come from is jgo's business, so the lock
holds no address and a mirror set up for jgo is used. Before each start every jar is compared with the lock:
a missing one is downloaded, a wrong one (truncated, tampered with) is thrown away and downloaded once more,
and if that is wrong too, nothing starts.

    python -m infra.embedded.jars VERSION   resolves another Kafka version and rewrites the lock
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from infra.embedded import extras
from schemas.errors import EmbeddedServiceFailed

LOCK = Path(__file__).with_name("kafka.lock")
BROKER = "org.apache.kafka:kafka_2.13"
# Brings the broker's log lines from slf4j to log4j. The broker's archive ships it, its dependencies leave it out.
# Fetched alone: resolved together with the broker it would lend the broker its own versions of other jars.
LOG_BRIDGE = "org.apache.logging.log4j:log4j-slf4j-impl"
LOG_CORE_ARTIFACT = "log4j-core"
DOWNLOADS_AT_ONCE = 8
TIMEOUT_S = (10, 60)  # to connect, to wait for the next bytes
NEED = "downloading the Kafka broker"
HASH_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    size_bytes: int
    sha256: str

    def path(self, folder: Path) -> Path:
        """Return where the jar lies below `folder`, in the layout of a Maven repository."""
        file_name = f"{self.artifact}-{self.version}.jar"
        return folder.joinpath(*self.group.split("."), self.artifact, self.version, file_name)

    def intact(self, folder: Path) -> bool:
        path = self.path(folder)
        return path.is_file() and path.stat().st_size == self.size_bytes and _sha256(path) == self.sha256


def ensure(cache_dir: Path, *, lock: Path = LOCK, repositories: dict[str, str] | None = None) -> list[Path]:
    """Return the broker's class path, every jar of it checked.

    Args:
        cache_dir: Jars are kept below it and shared by every data folder.
        repositories: Name to address; None means those jgo is configured with.

    Raises:
        EmbeddedServiceFailed: no network, no space, or a jar that stays wrong.
    """
    jars = read_lock(lock)
    folder = cache_dir / "kafka" / "jars"
    if any(not jar.intact(folder) for jar in jars):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / ".lock").open("w") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                # Another process may have filled the cache while this one waited.
                _download([jar for jar in jars if not jar.intact(folder)], folder, repositories)
        except OSError as error:
            raise EmbeddedServiceFailed(
                f"downloading the Kafka broker into {folder} failed: {error}",
                hint="the folder must be writable and have 60 MB free; set PROMPTLOOM_CACHE_DIR to use another",
            ) from error
    return [jar.path(folder) for jar in jars]


def read_lock(lock: Path = LOCK) -> list[Jar]:
    lines = [line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    jars = []
    for name, size, digest in lines:
        group, artifact, version = name.split(":")
        jars.append(Jar(group, artifact, version, int(size), digest))
    return jars


def kafka_version(lock: Path = LOCK) -> str:
    return next(jar.version for jar in read_lock(lock) if jar.artifact == "kafka_2.13")


def _download(jars: Sequence[Jar], folder: Path, repositories: dict[str, str] | None) -> None:
    if not jars:
        return
    total_bytes = sum(jar.size_bytes for jar in jars)
    with _progress(f"Kafka {kafka_version()}: {len(jars)} jars", total_bytes) as advance:
        context = _context(folder, repositories, advance)
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            try:
                for download in [pool.submit(_download_one, jar, folder, context) for jar in jars]:
                    download.result()
            except BaseException:
                # Without a network each of them would wait for its own time-out.
                pool.shutdown(cancel_futures=True)
                raise


def _download_one(jar: Jar, folder: Path, context: Any) -> None:
    path = jar.path(folder)
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    transport_errors = extras.require("requests", NEED).RequestException
    for _ in range(2):
        path.unlink(missing_ok=True)
        try:
            context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (RuntimeError, transport_errors) as error:
            path.unlink(missing_ok=True)
            raise EmbeddedServiceFailed(
                f"downloading {name} for the Kafka broker failed: {type(error).__name__}: {str(error)[:200]}",
                hint="the first start needs the network once (47 MB); behind a mirror, name it under [repositories] "
                "in ~/.config/jgo.conf; or set PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS to a broker you have",
            ) from error
        if jar.intact(folder):
            return
    path.unlink(missing_ok=True)
    raise EmbeddedServiceFailed(
        f"{name} was downloaded twice and is not the file that infra/embedded/kafka.lock names",
        hint="a proxy or mirror alters or truncates downloads; nothing was started",
    )


def _context(folder: Path, repositories: dict[str, str] | None, advance: Callable[[int], None]) -> Any:
    maven = extras.require("jgo.maven", NEED)
    configured = extras.require("jgo.config", NEED).GlobalSettings.load()

    @contextmanager
    def follow(_file_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield advance

    return maven.MavenContext(
        resolver=maven.PythonResolver(progress_callback=follow),
        repo_cache=folder,
        remote_repos=repositories or configured.repositories or None,
        timeout=TIMEOUT_S,
    )


@contextmanager
def _progress(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total_bytes)
        yield lambda count: progress.advance(task, count)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(version: str, cache_dir: Path, lock: Path = LOCK) -> None:
    """Resolve `version` with everything it needs and write the lock."""
    context = _context(cache_dir / "kafka" / "jars", None, lambda _count: None)
    inputs, transitive = context.resolver.resolve([context.create_dependency(f"{BROKER}:{version}")])
    log_version = next(each.version for each in transitive if each.artifactId == LOG_CORE_ARTIFACT)
    bridge = context.create_dependency(f"{LOG_BRIDGE}:{log_version}")
    lines = []
    for dependency in [*inputs, *transitive, bridge]:
        path = dependency.artifact.resolve()
        name = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
        lines.append(f"{name} {path.stat().st_size} {_sha256(path)}")
    head = (
        "# The embedded Kafka broker: group:artifact:version, size in bytes, SHA-256. Written by infra.embedded.jars.\n"
    )
    lock.write_text(head + "\n".join(sorted(lines)) + "\n")


if __name__ == "__main__":
    write_lock(sys.argv[1], Path.home() / ".cache" / "promptloom")
