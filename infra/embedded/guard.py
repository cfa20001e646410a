"""Stand between a process and the service it started, so that neither outlives its purpose.

Run as a script, by path, with one JSON argument; imports the standard library alone, so it starts in
milliseconds. Three modes:

    run       become the command (as another user, if asked)
    detached  start the command in a session of its own, say its pid, leave
    guarded   start the command, say its pid, and end it when the starter is gone

How a guarded service learns that its starter died: the guard holds the reading end of a pipe whose
writing end only the starter has, and the kernel closes that end however the starter dies, kill -9
included. A starter that forks may leave the end open in a child, so the parent's pid is watched too.
Should the guard itself be killed, the kernel signals the service (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

PARENT_CHECK_INTERVAL_S = 0.5
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def main(spec: dict[str, Any]) -> int:
    """Do what `spec` asks; its keys are the arguments of `processes.spawn`."""
    user: list[int] | None = spec["user"]
    command: list[str] = spec["command"]
    if spec["mode"] == "run":
        become(user)
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    guarded = spec["mode"] == "guarded"
    guard = os.getpid()

    def prepare() -> None:
        become(user)
        if guarded:
            # After the change of user, which would clear it.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, spec["death_signal"], 0, 0, 0)
            if os.getppid() != guard:
                os._exit(1)

    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    wake_reading, wake_writing = os.pipe()
    os.set_blocking(wake_writing, False)
    signal.set_wakeup_fd(wake_writing)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # This process has one thread, so that code between fork and exec is safe here.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=spec["folder"],
        preexec_fn=prepare,  # noqa: PLW1509  see above
        start_new_session=not guarded,
    )
    os.write(1, b"%d\n" % child.pid)
    os.close(1)
    if not guarded:
        os._exit(0)
    return watch(child, wake_reading, spec["parent"], spec["stop_signal"], spec["grace_s"])


def watch(child: subprocess.Popen[bytes], wake: int, parent: int, stop_signal: int, grace_s: float) -> int:
    """Wait for the child to end; end it when the starter goes away or asks."""
    while child.poll() is None:
        readable, _, _ = select.select([0, wake], [], [], PARENT_CHECK_INTERVAL_S)
        asked = wake in readable and set(os.read(wake, 64)) - {signal.SIGCHLD}
        if 0 in readable or asked or os.getppid() != parent:
            child.send_signal(stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
            child.kill()
            child.wait()
    return child.returncode


def become(user: list[int] | None) -> None:
    """Take on another user's id, keeping only the right to pass folders closed to it.

    PostgreSQL refuses to run as root. Run by root as another user it may find the way to its own files
    closed (a home folder is), and opening that for everybody would be worse than one kept capability.
    """
    if user is None:
        return
    uid, gid = user
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    kept = 1 << CAP_DAC_OVERRIDE
    # effective, permitted, inheritable of capabilities 0..31, then of 32..63
    libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0))
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
