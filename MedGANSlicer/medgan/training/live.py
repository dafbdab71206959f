"""The curves of a running training in a terminal, or a line now and then where nobody watches. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from medgan import console

REFRESH_S = 0.5
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*%#"
WIDTH = 44
"""Characters of a curve."""

HIDDEN = (
    "step", "seconds", "steps_a_second", "loading", "adversarial", "rates", "skipped", "val_score", "val_counts",
    "val_step",
)  # fmt: skip
MOST_ROWS = 8


class Log:
    """The rows of a run's ``log.jsonl`` as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []  # type: tuple[Path, list[dict[str, Any]]]
        self._read = 0

    def fresh(self) -> list[dict[str, Any]]:
        """The rows that came since the last look."""
        try:
            with self.path.open("rb") as file:
                file.seek(0, 2)
                if file.tell() < self._read:  # the training went back to a checkpoint
                    self._read, self.rows = 0, []
                file.seek(self._read)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        rows = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        self.rows += rows
        return rows


def sparkline(values: Sequence[float], width: int = WIDTH, plain: bool = False) -> str:
    """A curve of one line of text: each character the mean of its part of the values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    parts = min(width, len(known))
    means = []
    for part in range(parts):
        first, last = part * len(known) // parts, (part + 1) * len(known) // parts
        means.append(sum(known[first:last]) / (last - first))
    low, high = min(means), max(means)
    letters = PLAIN if plain else BLOCKS
    if high <= low:
        return letters[len(letters) // 2] * parts
    return "".join(letters[round((mean - low) / (high - low) * (len(letters) - 1))] for mean in means)


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The values of each loss and figure in the order they came; figures of validation first."""
    held: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in HIDDEN and isinstance(value, (int, float)) and not isinstance(value, bool):
                held.setdefault(name, []).append(float(value))
    return dict(sorted(held.items(), key=lambda item: (not item[0].startswith("val_"), "loss" not in item[0])))


class Watch:
    """What a person sees of a training: the progress call of the task, and what it shows."""

    def __init__(self, folder: Path, shown: Console, quiet: bool) -> None:
        self._log = Log(folder / "log.jsonl")
        self._log.fresh()  # of an earlier run: part of the curves, but no news
        self._quiet, self._plain = quiet, "utf" not in (shown.encoding or "").lower()
        self._live = shown.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=shown,
        )
        self._task = self._progress.add_task("Starting", total=1.0)
        self._looked_at = -math.inf
        self._message, self._fraction = "", 0.0
        self.live = Live(self._table(), console=shown, refresh_per_second=4, transient=True) if self._live else None

    def __call__(self, fraction: float, message: str = "") -> None:
        self._fraction, self._message = fraction, message or self._message
        if self._live:
            self._progress.update(self._task, completed=fraction, description=self._message)
        if time.monotonic() - self._looked_at < REFRESH_S:
            return
        self._looked_at = time.monotonic()
        self._tell(self._log.fresh())
        if self.live is not None:
            self.live.update(self._table())

    def _tell(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if "alarm" in row:
                self._note(f"Step {row['step']}: {row['alarm']}. {row.get('advice', '')}")
            elif not self._live and any(name.startswith("val_") for name in row):
                figures = [f"{name.removeprefix('val_')} {value:.4g}" for name, value in _figures(row)]
                self._note(f"Step {row['step']} ({self._fraction:.0%}): {', '.join(figures)}")

    def _note(self, sentence: str) -> None:
        if self.live is not None:
            self.live.console.print(sentence, markup=False, style="dim")
        elif not self._quiet:
            console.note(sentence)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, values in list(curves(self._log.rows).items())[:MOST_ROWS]:
            title = name.removeprefix("val_") + (" (validation)" if name.startswith("val_") else "")
            table.add_row(title.replace("_", " "), sparkline(values, plain=self._plain), f"{values[-1]:.4g}")
        return Group(self._progress, table)


@contextlib.contextmanager
def watched(folder: Path, quiet: bool) -> Iterator[Watch]:
    """The progress call of a training in that run folder, shown on stderr while the block runs."""
    watch = Watch(folder, console.err(), quiet)
    if watch.live is None:
        yield watch
        return
    with watch.live:
        yield watch


def _figures(row: dict[str, Any]) -> list[tuple[str, float]]:
    return [
        (name, value)
        for name, value in row.items()
        if name not in HIDDEN and isinstance(value, (int, float)) and (name.startswith("val_") or name.endswith("loss"))
    ]
