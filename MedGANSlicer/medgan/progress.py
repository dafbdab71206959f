"""How long work says where it is and learns that it should stop."""

from __future__ import annotations

from typing import Protocol


class Cancelled(Exception):
    """Raised inside a task by the progress call once the person has asked to stop."""


class Progress(Protocol):
    """What every task calls at each tile or step.

    ``fraction`` is the share done, 0 to 1; ``message`` is one short line for the person.
    The call raises :class:`Cancelled` when the work should stop.
    """

    def __call__(self, fraction: float, message: str = "") -> None: ...


def silent(fraction: float, message: str = "") -> None:
    """The progress of somebody who does not look."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress whose 0..1 is the ``start``..``stop`` share of another one."""

    def inner(fraction: float, message: str = "") -> None:
        progress(start + (stop - start) * min(max(fraction, 0.0), 1.0), message)

    return inner


def lasted(seconds: float) -> str:
    """How long something took, in words."""
    return f"{seconds / 60.0:.1f} minutes" if seconds >= 120.0 else f"{seconds:.3g} seconds"
