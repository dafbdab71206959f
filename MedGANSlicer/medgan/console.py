"""How the command speaks: sentences to stderr, results to stdout, one JSON document when asked."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


def out() -> Console:
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line of result on stdout, as it is: no markup, no wrapping."""
    out().print(text, markup=False)


def complain(text: str) -> None:
    """One sentence on stderr."""
    err().print(text, markup=False, style="red")


def note(text: str) -> None:
    """One remark on stderr."""
    err().print(text, markup=False, style="dim")


def print_json(held: Any) -> None:
    """The one document of a script. NaN and infinity, which JSON does not know, become null."""
    sys.stdout.write(json.dumps(_clean(held), indent=2, ensure_ascii=False) + "\n")


def bar() -> Progress:
    """A progress bar on stderr; silent when nobody looks."""
    console = err()
    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def table(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns on stdout."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, _plain(value))
    out().print(grid)


def models_table(cards: list[Any]) -> None:
    grid = Table("Name", "Version", "What it does", "Task", "For", "Licence", box=None, pad_edge=False)
    for card in cards:
        grid.add_row(*map(_plain, (card.name, card.version, card.title, card.task, card.modality, card.licence)))
    Console(highlight=False).print(grid)


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
