"""The database's revisions: up, down, and which one it is at.

The revisions are plain SQL (`versions/*.sql`); Alembic only orders them and remembers the last one. They are
package data, so an installed promptloom migrates without a source tree.

Rules: a released revision is never edited, every revision has a way down, and both ways are tested on a real
database. Add one with the next number, a `.py` like those beside it, and its two `.sql` files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from schemas.errors import PromptloomError, ServiceUnavailable

# Of the advisory lock held while migrating; any constant that no other user of the database takes.
LOCK_KEY = 7_076_001
CONNECT_TIMEOUT_S = 10


def upgrade(dsn: str, revision: str = "head") -> str | None:
    """Migrate up to `revision`; return the revision the database is then at."""
    return _migrate(dsn, command.upgrade, revision)


def downgrade(dsn: str, revision: str) -> str | None:
    """Migrate down to `revision` (`base` = no tables); return the revision the database is then at."""
    return _migrate(dsn, command.downgrade, revision)


def current(dsn: str) -> str | None:
    """Return the revision the database is at; None = never migrated."""
    with _config(dsn) as config:
        return _revision(config)


def head() -> str | None:
    """Return the newest revision this version of promptloom knows."""
    return ScriptDirectory(str(Path(__file__).parent)).get_current_head()


def _migrate(dsn: str, run: Callable[[Config, str], None], revision: str) -> str | None:
    with _config(dsn) as config:
        try:
            run(config, revision)
        except CommandError as error:
            raise PromptloomError(
                f"migrating the database to {revision}: {error}",
                hint="a database migrated by a newer promptloom needs that newer version",
            ) from None
        return _revision(config)


def _revision(config: Config) -> str | None:
    return MigrationContext.configure(config.attributes["connection"]).get_current_revision()


@contextmanager
def _config(dsn: str) -> Iterator[Config]:
    # psycopg reads the address itself, so every form it takes works (sockets, several hosts, service files).
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S),
        poolclass=NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            yield config
            connection.commit()
    except OperationalError as error:
        told = str(error.orig).split("\n", 1)[0]
        raise ServiceUnavailable(f"migrating the database: {told}", hint="is Postgres running?") from error
    finally:
        engine.dispose()
