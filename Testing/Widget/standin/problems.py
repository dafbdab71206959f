"""What went wrong where no caller could see it: slots, observers, overridden events, and refusals.

Slicer prints such exceptions and goes on. Here they are printed too, and kept, so that the test fails.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import vtk


class Refused(AssertionError):
    """The code under test did what Slicer refuses, does silently wrong, or what this project forbids."""


class VtkError(RuntimeError):
    """What VTK or MRML printed as an error."""


@dataclass(frozen=True)
class Problem:
    where: str
    error: BaseException

    def __str__(self) -> str:
        lines = traceback.format_exception(type(self.error), self.error, self.error.__traceback__)
        return f"{self.where}: {''.join(lines)}"

    def matches(self, pattern: str) -> bool:
        return re.search(pattern, f"{type(self.error).__name__}: {self.error}") is not None


class Problems:
    """The list of them. One for the process, because Qt and VTK call back without saying for whom."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def clear(self) -> None:
        self._found.clear()

    def add(self, where: str, error: BaseException) -> None:
        """Keep and print an error, once, however many layers report it."""
        if not any(problem.error is error for problem in self._found):
            problem = Problem(where, error)
            self._found.append(problem)
            print(f"standin: {problem}", file=sys.stderr)

    def check(self) -> None:
        """Raise ``AssertionError`` that tells all of them, if there are any; the list is empty afterwards."""
        found, self._found = self._found, []
        if found:
            raise AssertionError("\n".join(["Slicer would have printed this and gone on:", *map(str, found)]))

    @contextlib.contextmanager
    def expected(self, pattern: str) -> Iterator[None]:
        """Inside, at least one problem that matches the regular expression must occur; those are forgotten.

        A matching :class:`Refused` that reaches the end of the block is swallowed as well.
        """
        before = len(self._found)
        try:
            yield
        except Refused as refusal:
            if not Problem("", refusal).matches(pattern):
                raise
        new = self._found[before:]
        matching = [problem for problem in new if problem.matches(pattern)]
        self._found[before:] = [problem for problem in new if problem not in matching]
        assert matching, f"expected a problem that matches {pattern!r}, got: {[str(problem.error) for problem in new]}"

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Keep also what observers hand to ``sys.excepthook``, and the errors that VTK and MRML only print."""

        @vtk.calldata_type(vtk.VTK_STRING)
        def printed(caller: object, event: str, text: str) -> None:
            self.add("VTK", VtkError(text))

        previous, window = sys.excepthook, vtk.vtkOutputWindow.GetInstance()
        sys.excepthook = lambda kind, error, trace: self.add("callback", error)
        tag = window.AddObserver("ErrorEvent", printed)
        try:
            yield
        finally:
            sys.excepthook = previous
            window.RemoveObserver(tag)


problems = Problems()


def refuse(message: str) -> None:
    """Raise :class:`Refused`, and keep it, so that a broad ``except`` in the module can not hide it."""
    refusal = Refused(message)
    problems.add("refused", refusal)
    raise refusal
