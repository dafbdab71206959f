"""Time and pictures for the widget tests when they run inside 3D Slicer itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Run the event loop until the condition holds. Raises ``AssertionError`` after ``timeout`` seconds."""
    end, held = time.monotonic() + timeout, []
    loop, timer = qt.QEventLoop(), qt.QTimer()

    def look() -> None:
        if condition():
            held.append(True)
        if held or time.monotonic() > end:
            loop.quit()

    timer.setInterval(5)
    timer.connect("timeout()", look)
    timer.start()
    loop.exec_()
    timer.stop()
    if not held:
        raise AssertionError(f"still not so after {timeout} s")


class Heartbeat:
    """Context manager: the longest time in seconds that the event loop stood still is ``longest_gap``."""

    def __init__(self, interval_ms: int = 5) -> None:
        self.gaps: list[float] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(interval_ms)
        self._timer.connect("timeout()", self._beat)

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
        self._beat()

    @property
    def longest_gap(self) -> float:
        return max(self.gaps, default=0.0)


def take(widget: Any, name: str, folder: Path, width: int) -> list[Path]:
    """Write ``<name>-slicer.png`` in the look that Slicer has; the width is the panel's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-slicer.png"
    if not widget.grab().save(str(path)):
        raise OSError(f"The picture could not be written to {path}")
    return [path]
