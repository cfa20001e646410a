"""Ctrl-C is heard, and raised only where nothing is half done."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.prompts.ctrl_c import CtrlC


def test_the_first_is_heard_and_the_second_is_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with CtrlC() as ctrl_c:
        assert not ctrl_c.heard
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.heard
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_it_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)

    def enter() -> bool:
        with CtrlC() as ctrl_c:
            return ctrl_c.heard

    with ThreadPoolExecutor(1) as threads:
        assert not threads.submit(enter).result()
    assert signal.getsignal(signal.SIGINT) is before
