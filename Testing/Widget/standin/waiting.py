"""Letting Qt's event loop run in a test, as it does in Slicer between two clicks, and measuring it."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6 import QtCore

from .problems import problems

_POLL_MS = 5


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Run the event loop until the condition holds.

    ``timeout`` in seconds. Raises ``AssertionError`` when it is over, and at once when a slot raises meanwhile.
    """
    end = time.monotonic() + timeout
    before = len(problems)
    loop, timer = QtCore.QEventLoop(), QtCore.QTimer()
    held = False

    def look() -> None:
        nonlocal held
        held = bool(condition())
        if held or time.monotonic() > end or len(problems) > before:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(_POLL_MS)
    loop.exec()
    timer.stop()
    if not held:
        problems.check()
        raise AssertionError(f"still not so after {timeout} s")


def run_for(duration_s: float) -> None:
    """Run the event loop, as code of Slicer does that waits for a process."""
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(round(1000 * duration_s), loop.quit)
    loop.exec()


class Heartbeat:
    """Context manager: the longest time in seconds that the event loop stood still is ``longest_gap``."""

    def __init__(self, interval_ms: int = 5) -> None:
        self.gaps: list[float] = []
        self._timer = QtCore.QTimer()
        self._timer.setInterval(interval_ms)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        self.gaps.append(now - self._last)
        self._last = now

    def __enter__(self) -> Heartbeat:
        self._last = time.monotonic()
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.stop()
        self.gaps.append(time.monotonic() - self._last)

    @property
    def longest_gap(self) -> float:
        return max(self.gaps, default=0.0)
