"""Long work on the thread of a window, a little at a time: generators that yield how many voxels a step has done.

A caller in a hurry takes :func:`finished`; a panel takes a step whenever it is called.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")

Steps = Generator[int, None, Result]
"""Yields voxels, returns the result."""


def finished(steps: Steps[Result]) -> Result:
    """All steps at once; what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
