"""How a training learns that it should stop, at places where nothing is half done.

A person cancels through progress; Ctrl-C and the end of a cluster job come as signals. In one process the next look
raises at once. Several processes have to stop at the same step, so there the first one only remembers it, and all
learn of it at the start of the next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, TypeVar

from medgan.progress import Cancelled, Progress
from medgan.training.parallel import World

Item = TypeVar("Item")


class Interrupts:
    """The person's progress, looked at often. In the main thread it also takes Ctrl-C and SIGTERM while it is open."""

    def __init__(self, progress: Progress, world: World) -> None:
        self._progress, self._world = progress, world
        self._reason: type[BaseException] | None = None
        self._before: dict[int, Any] = {}
        self.may_save = True
        """False once the person has pressed Ctrl-C twice: what was going on may be half done."""

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._reason is KeyboardInterrupt:
            self.may_save = False
            raise KeyboardInterrupt
        self._reason = KeyboardInterrupt

    @property
    def asked(self) -> bool:
        """Whether somebody wants the training to stop."""
        return self._reason is not None

    def check(self, fraction: float, message: str = "") -> None:
        """Say where the training is; raises in one process if it should stop."""
        if self._world.main:
            try:
                self._progress(min(max(fraction, 0.0), 1.0), message)
            except Cancelled:
                self._reason = Cancelled
        if self.asked and self._world.size == 1:
            self.obey(True)

    def obey(self, asked: bool) -> None:
        """Raise if ``asked``, in every process: what the first one was asked, Cancelled in the others."""
        if asked:
            raise (self._reason or Cancelled)


class Watched(Sequence[Item]):
    """A sequence that looks for interrupts whenever one goes through it."""

    def __init__(self, items: Sequence[Item], look: Callable[[], None]) -> None:
        self._items, self._look = items, look

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: Any) -> Any:
        self._look()
        return self._items[place]

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self._look()
            yield item
