"""What tests share: a real broker and a real database, started once a run when a test asks for them.

`PROMPTLOOM_TEST_BOOTSTRAP` and `PROMPTLOOM_TEST_DSN` point the tests at services that already run.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from infra.embedded import Addresses, start
from streams.settings import load

# How long an example takes says nothing about the code on a machine that does other things as well.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """Return the addresses of a broker and a database for the whole run."""
    bootstrap_servers = os.environ.get("PROMPTLOOM_TEST_BOOTSTRAP", "")
    dsn = os.environ.get("PROMPTLOOM_TEST_DSN", "")
    if bootstrap_servers and dsn:
        yield Addresses(bootstrap_servers, dsn)
        return
    with start(
        tmp_path_factory.mktemp("services"), load().cache_dir, kafka=not bootstrap_servers, postgres=not dsn
    ) as embedded:
        found = embedded.addresses
        yield Addresses(bootstrap_servers or found.bootstrap_servers, dsn or found.postgres_dsn)


@pytest.fixture(scope="session")
def bootstrap(services: Addresses) -> str:
    """Return host:port of the broker; tests share it, so they name topics, groups and app ids uniquely."""
    return services.bootstrap_servers


@pytest.fixture
def postgres_dsn(services: Addresses) -> Iterator[str]:
    """Return the address of an empty database of the test's own."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(services.postgres_dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(services.postgres_dsn)._replace(path=f"/{name}").geturl()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
