"""Choose TCP ports on the loopback interface.

A folder's ports derive from its path: the same folder gets the same ports even when nothing is remembered,
and two folders rarely meet. They lie below the range the kernel hands out to clients, so that no outgoing
connection sits on a service's port while it restarts.
"""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from schemas.errors import EmbeddedServiceFailed

HOST = "127.0.0.1"
PORT_FIRST, PORT_LAST = 20_000, 29_999


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the services do: a port in TIME_WAIT after a restart counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(count: int, remembered: tuple[int, ...], folder: Path) -> tuple[int, ...]:
    """Return `count` free ports: the remembered ones where still free, else those next to the folder's own."""
    kept = [port for port in remembered if is_free(port)] if len(remembered) == count else []
    if len(kept) == count:
        return tuple(kept)
    size = PORT_LAST - PORT_FIRST + 1
    start = zlib.crc32(str(folder).encode())
    candidates = (PORT_FIRST + (start + step) % size for step in range(size))
    chosen: list[int] = []
    for port in candidates:
        if port not in remembered and is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return tuple(chosen)
    raise EmbeddedServiceFailed(f"no free port between {PORT_FIRST} and {PORT_LAST} on {HOST}")
