"""No jar is used that is not exactly the one the lock names; jars come from a local repository here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from infra.embedded import jars
from infra.embedded.extras import require
from infra.embedded.ports import HOST, choose
from schemas.errors import EmbeddedServiceFailed

GOOD = {"one": b"the first jar" * 100, "kafka_2.13": b"the second jar" * 100}


class Repository:
    """A repository that counts requests for jars and answers what `body_of` returns."""

    def __init__(self) -> None:
        self.body_of: Callable[[str, int], bytes] = lambda name, _count: GOOD[name]
        self.requests: list[str] = []
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.split("/")[-3]
                if not self.path.endswith(".jar"):  # jgo asks for checksum files too
                    self.send_error(404)
                    return
                repository.requests.append(name)
                body = repository.body_of(name, repository.requests.count(name))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.addresses = {"local": f"http://{HOST}:{self.server.server_port}"}


@pytest.fixture
def repository() -> Iterator[Repository]:
    repository = Repository()
    thread = Thread(target=repository.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield repository
    repository.server.shutdown()
    thread.join()
    repository.server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    lock = tmp_path / "test.lock"
    lines = [f"org.test:{name}:1.0 {len(body)} {hashlib.sha256(body).hexdigest()}" for name, body in GOOD.items()]
    lock.write_text("# a comment\n" + "\n".join(lines) + "\n")
    return lock


def test_missing_jars_are_downloaded_once(tmp_path: Path, lock: Path, repository: Repository) -> None:
    paths = jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    assert [path.read_bytes() for path in paths] == list(GOOD.values())
    assert jars.ensure(tmp_path, lock=lock, repositories=repository.addresses) == paths
    assert sorted(repository.requests) == sorted(GOOD)


@pytest.mark.parametrize("damage", [b"", b"the first", b"THE first jar" * 100, b"the first jar" * 101])
def test_a_truncated_or_altered_jar_is_replaced(
    tmp_path: Path, lock: Path, repository: Repository, damage: bytes
) -> None:
    paths = jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    paths[0].write_bytes(damage)
    jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    assert paths[0].read_bytes() == GOOD["one"]
    assert repository.requests.count("one") == 2
    assert repository.requests.count("kafka_2.13") == 1


def test_a_download_that_is_wrong_once_is_repeated(tmp_path: Path, lock: Path, repository: Repository) -> None:
    repository.body_of = lambda name, count: b"an error page" if (name, count) == ("one", 1) else GOOD[name]
    paths = jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    assert paths[0].read_bytes() == GOOD["one"]


def test_a_jar_that_stays_wrong_starts_nothing_and_is_not_kept(
    tmp_path: Path, lock: Path, repository: Repository
) -> None:
    repository.body_of = lambda name, _count: b"an error page" if name == "one" else GOOD[name]
    with pytest.raises(EmbeddedServiceFailed, match=r"org\.test:one:1\.0 was downloaded twice") as caught:
        jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    assert "proxy" in caught.value.hint
    assert repository.requests.count("one") == 2
    assert not list(tmp_path.rglob("one-1.0.jar"))


def test_without_a_network_the_first_start_says_so(tmp_path: Path, lock: Path) -> None:
    (closed,) = choose(1, (), tmp_path)
    with pytest.raises(EmbeddedServiceFailed, match=r"downloading org\.test:.* failed") as caught:
        jars.ensure(tmp_path, lock=lock, repositories={"closed": f"http://{HOST}:{closed}"})
    assert "network" in caught.value.hint


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServiceFailed, match="file/cache") as caught:
        jars.ensure(tmp_path / "file" / "cache", lock=lock)
    assert "PROMPTLOOM_CACHE_DIR" in caught.value.hint


def test_a_complete_cache_needs_neither_network_nor_writing(tmp_path: Path, lock: Path, repository: Repository) -> None:
    paths = jars.ensure(tmp_path, lock=lock, repositories=repository.addresses)
    (tmp_path / "kafka" / "jars" / ".lock").unlink()
    assert jars.ensure(tmp_path, lock=lock, repositories={}) == paths
    assert not (tmp_path / "kafka" / "jars" / ".lock").exists()


def test_the_committed_lock_names_a_whole_broker_and_no_address() -> None:
    locked = jars.read_lock()
    names = [jar.artifact for jar in locked]
    assert len(names) == len(set(names))
    assert {"kafka_2.13", "kafka-clients", "scala-library", "log4j-core", "log4j-slf4j-impl"} <= set(names)
    assert {jar.version for jar in locked if jar.group == "org.apache.kafka"} == {jars.kafka_version()}
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size_bytes > 0 for jar in locked)
    assert "/" not in jars.LOCK.read_text()


def test_a_missing_extra_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(EmbeddedServiceFailed, match="not_installed_anywhere") as caught:
        require("not_installed_anywhere.inner", "the broker")
    assert "pip install 'promptloom[embedded]'" in caught.value.hint
