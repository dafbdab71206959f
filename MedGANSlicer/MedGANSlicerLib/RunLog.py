"""What a training has written into its folder so far: curves, alarms, sample pictures, and whether it can go on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.training.alarms import series
from medgan.training.checkpoint_files import has_checkpoint
from medgan.training.curves import score_name, verdict
from medgan.training.journal import LOG

MOST_POINTS = 2000
"""Points of a curve; of a longer one the means of neighbours are drawn."""


class RunLog:
    """The log of the run in ``folder``, which need not exist yet. :meth:`update` reads only what is new."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.rows: list[dict[str, Any]] = []
        self._read = 0
        self._file: tuple = ()

    def update(self) -> bool:
        """Read what was written since the last time; whether there was anything."""
        path = self.folder / LOG
        try:
            held = path.stat()
        except OSError:
            changed, self.rows, self._read, self._file = bool(self.rows), [], 0, ()
            return changed
        file = (held.st_ino, held.st_dev)
        again = file != self._file or held.st_size < self._read  # a resumed run writes its log anew
        if again:
            self.rows, self._read, self._file = [], 0, file
        if held.st_size == self._read:
            return again
        with path.open("rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self._read += len(whole)
        before = len(self.rows)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    self.rows.append(row)
        return again or len(self.rows) > before

    @property
    def resumable(self) -> bool:
        """Whether a training can go on in this folder."""
        return has_checkpoint(self.folder)

    @property
    def step(self) -> int:
        return self.rows[-1]["step"] if self.rows else 0

    def latest(self, name: str) -> float | None:
        """The last value of that name, if there is one."""
        return next((row[name] for row in reversed(self.rows) if isinstance(row.get(name), int | float)), None)

    def losses(self) -> dict[str, tuple[list[float], list[float]]]:
        """Steps and values of the losses, by "Generator" and "Critic"; a name without values is missing."""
        found = {"Generator": self._curve("generator_loss"), "Critic": self._curve("critic_loss")}
        return {name: curve for name, curve in found.items() if curve[0]}

    def validation(self) -> tuple[str, dict[str, tuple[list[float], list[float]]]]:
        """What the score of the validations is called, and its curve by that name; "" and nothing before the first."""
        curve = self._curve("val_score")
        if not curve[0]:
            return "", {}
        name = titleOf(score_name(self.rows))
        return name, {name: curve}

    def verdict(self) -> str:
        """A plain answer to: is it done?"""
        return verdict(self.rows)

    def alarms(self) -> list[tuple[int, str, str]]:
        """Step, short name and advice of every alarm; of one that was said again the last time."""
        last = {row["alarm"]: (row["step"], row["alarm"], row.get("advice", "")) for row in self.rows if "alarm" in row}
        return sorted(last.values())

    def picture(self) -> tuple[Path, int, list[str]] | None:
        """File, step and the names from left to right of the last sample picture that is there."""
        for row in reversed(self.rows):
            if isinstance(row.get("pictures"), str) and (self.folder / row["pictures"]).is_file():
                return self.folder / row["pictures"], row["step"], list(row.get("names", ()))
        return None

    def _curve(self, name: str) -> tuple[list[float], list[float]]:
        return thinned(series(self.rows, name))


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> tuple[list[float], list[float]]:
    """x and y of the points, or of the means of neighbours where there are more than ``most``."""
    width = -(-len(points) // most) if points else 1
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    means = [[sum(values) / len(group) for values in zip(*group, strict=True)] for group in groups]
    return [x for x, _ in means], [y for _, y in means]


def titleOf(name: str) -> str:
    """A figure as people write it."""
    known = {"psnr": "PSNR", "ssim": "SSIM", "mmd": "MMD", "dice": "Dice", "score": "score"}
    return known.get(name, name.replace("_", " "))
