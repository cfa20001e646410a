"""Ctrl-C for work that must not be left half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class CtrlC:
    """Hears the first ctrl-C while it is entered; whoever works looks at `heard` and stops between two steps.

    Raised wherever Python happens to be, as usual, it could drop the acknowledgement that was just being taken. The
    second ctrl-C is raised like that. Outside the main thread nothing is heard, as ever.
    """

    def __init__(self) -> None:
        self.heard = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.heard = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
