"""One connection to Postgres that comes back by itself, and whose errors are those of the project.

no connection, time-out, shutdown, too many clients, deadlock   ServiceUnavailable: try again
wrong password, no such database, no permission                 ServiceRefused: trying again will not help
tables that are not there                                       SchemaOutdated
a value or a row that the tables do not take                    UnwritableRow: the record is at fault
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg import Connection

from schemas.errors import PromptloomError, ServiceRefused, ServiceUnavailable, UnwritableRow

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0  # a statement of one batch takes milliseconds; a lock held longer than this is a fault
# A process that froze in the middle of a batch loses its transaction, and with it the locks its successor needs.
IDLE_IN_TRANSACTION_MS_MAX = 30_000
APPLICATION_NAME = "promptloom"  # as pg_stat_activity shows it


class SchemaOutdated(PromptloomError):
    """The database has not the tables this version needs."""


AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,  # it was cut between two statements, and asyncpg lost its place; a new one helps
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.LockNotAvailableError,
)
REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)
# ValueError: asyncpg could not encode a value (its own DataError is one, and an InterfaceError besides).
UNWRITABLE = (
    ValueError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class Database:
    """Opens its connection when it is first needed, and again after it was lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    @asynccontextmanager
    async def connected(self, doing: str) -> AsyncIterator[Connection]:
        """Give the connection; turn what fails inside into the project's errors, named by `doing`."""
        try:
            connection = await self._open()
            try:
                yield connection
            except UNWRITABLE as error:
                # The server's message may quote the row, and so a prompt: only its kind is told on.
                raise UnwritableRow(f"{doing}: Postgres does not take a row ({type(error).__name__})") from error
        except AWAY as error:
            self._drop()
            raise ServiceUnavailable(f"{doing}: {_told(error)}", hint="is Postgres running?") from error
        except REFUSED as error:
            raise ServiceRefused(f"{doing}: {_told(error)}", hint="check postgres.dsn and its user's rights") from error
        except MISSING as error:
            raise SchemaOutdated(f"{doing}: {_told(error)}", hint="promptloom migrate") from error

    async def close(self) -> None:
        """Close the connection; another use opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await connection.close(timeout=CONNECT_TIMEOUT_S)

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={
                    "application_name": APPLICATION_NAME,
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS_MAX),
                },
            )
        return self._connection

    def _drop(self) -> None:
        """Forget a connection in an unknown state without waiting for it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
