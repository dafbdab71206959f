"""How the command speaks: sentences to stderr, results to stdout, one JSON document when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from medgan.quiet import TERMINAL
from medgan.settings import Settings

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes; 0 is done."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
"""The option that all commands have."""


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that command a terminal, all but the tab and the end of a line."""


NARROWEST = 40
"""Columns in which a table is shown at least, however narrow the terminal says to be."""


class OutputError(Exception):
    """What is said does not get to where it was sent, such as to a full disk."""


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Raises :class:`OutputError` for what goes wrong, but lets it through that a reader has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"The output can not be written: {error.strerror}.") from error


class _Terminal(Console):
    """Shows what models, files and tables say without letting it command the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.width < NARROWEST:  # there a table would show nothing
            self.width = NARROWEST

    def print(self, *objects: Any, **options: Any) -> None:
        with printing():
            super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text), **options)


def out() -> Console:
    return _Terminal(highlight=False, soft_wrap=True)


def err() -> Console:
    return _Terminal(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line of result on stdout, as it is: no markup, no wrapping."""
    above_bar = _bars[-1].console if _bars and sys.stdout.isatty() else None
    (above_bar or out()).print(text, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """One sentence on stderr."""
    _print_on_stderr(text, "red")


def note(text: str) -> None:
    """One remark on stderr."""
    _print_on_stderr(text, "dim")


def _print_on_stderr(text: str, style: str) -> None:
    with TERMINAL:  # another thread may just be keeping a library from printing there
        (_bars[-1].console if _bars else err()).print(text, markup=False, style=style, soft_wrap=True)


def failed(sentence: str, code: int) -> typer.Exit:
    """Complain, and the exception that ends the command with this exit code."""
    complain(sentence)
    return typer.Exit(code)


def with_options(sentence: str, settings: type[Settings], options: Mapping[str, str]) -> str:
    """The same sentence with the options of the command line in place of the names of settings.

    ``options`` holds, without dashes, those that are called otherwise than their settings.
    """
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        option = "--" + options.get(field.name, field.name.replace("_", "-"))
        sentence = sentence.replace(f"Setting '{field.name}'", option).replace(f"set '{field.name}'", f"set {option}")
    return sentence


def failures(results: Sequence[Any], said: Callable[[str], str], debug: bool, what: str = "files") -> int:
    """Say which of the results of a run failed, in the words of ``said``; how many did."""
    failed = [result for result in results if result.error]
    if len(results) > 1 and failed:
        complain(f"{len(failed)} of {len(results)} {what} failed:")
    for result in failed:
        sentence = said(result.error)
        complain(f"  {result.item.source}: {sentence}" if len(results) > 1 else sentence)
        if debug and result.details:
            note(result.details)
    return len(failed)


def print_json(held: Any) -> None:
    """The one document of a script. NaN and infinity, which JSON does not know, become null."""
    has_all_letters = "utf" in (sys.stdout.encoding or "utf-8").lower()
    with printing():
        sys.stdout.write(json.dumps(_clean(held), indent=2, ensure_ascii=not has_all_letters) + "\n")


@contextlib.contextmanager
def interruptible(sentence: str = "Interrupted; nothing was written.") -> Iterator[None]:
    """Ctrl-C ends the command with a sentence and the code that shells expect; jobs clean up on the way."""
    try:
        yield
    except KeyboardInterrupt:
        raise failed(sentence, INTERRUPTED) from None


_bars: list[Progress] = []
"""The progress bar that is shown, if any; what goes to the same terminal is printed above it."""


@contextlib.contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar on stderr; silent when nobody looks."""
    console = err()
    shown = Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with shown:
        if console.is_terminal:
            _bars.append(shown)
        try:
            yield shown
        finally:
            _bars.clear()


def table(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns on stdout."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, _plain(value))
    out().print(grid)


def models_table(cards: list[Any]) -> None:
    grid = Table(box=None, pad_edge=False)
    widths: dict[str, tuple[int | None, int | None]] = {"What it does": (13, None), "For": (None, 9)}
    for heading in ("Name", "Version", "What it does", "Task", "For", "Licence"):
        # In 80 columns all names are whole: one that is cut off can not be typed.
        least, most = widths.get(heading, (None, None))
        grid.add_column(heading, no_wrap=heading in ("Name", "Task", "Licence"), min_width=least, max_width=most)
    for card in cards:
        grid.add_row(*map(_plain, (card.name, card.version, card.title, card.task, card.modality, card.licence)))
    _Terminal(highlight=False).print(grid)


def _plain(value: Any) -> str:
    return str(value).replace("[", r"\[")


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return _clean(value.item())
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def shown_path(path: Path | str) -> str:
    """The path relative to where the person is, when it lies below."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
