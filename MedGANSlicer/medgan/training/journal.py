"""What a run writes down while it trains: ``log.jsonl``, sample images as PNG, TensorBoard where it is asked for.

Every line of the log is one JSON object with a "step": losses and figures (with those of a validation also
"keeps_best", whether the model has the weights of the best one), or an alarm ({"step", "alarm", "advice"}), a
note ({"step", "note"}) or a sample image ({"step", "pictures": "samples/step_000100.png", "names": [...]}).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgan.evaluation.table import png

LOG = "log.jsonl"


class Journal:
    """The log of the run in ``folder``: what is there is read. Raises ``OSError`` when it can not be written."""

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder = folder
        self.rows = read_log(folder)
        self._board = _tensorboard(folder) if tensorboard else None
        self.told = (
            ["TensorBoard logs are not written: install the Python package 'tensorboard' to have them."]
            if tensorboard and self._board is None
            else []
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Append an object to the log, on the disk when this returns. Numbers that are not finite become null."""
        plain = {name: _plain(value) for name, value in row.items()}
        with open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(plain, ensure_ascii=False) + "\n")
        self.rows.append(plain)
        if self._board is not None:
            for name, value in plain.items():
                if isinstance(value, float) and name != "seconds":
                    self._board.add_scalar(name.replace("_", "/", 1), value, plain["step"])

    def go_back(self, step: int) -> None:
        """Forget what was logged after ``step``, because the training goes on from there."""
        kept = [row for row in self.rows if row["step"] <= step]
        if len(kept) == len(self.rows) == _lines(self.folder / LOG):
            return
        self.rows = kept
        temporary = self.folder / "log.tmp"
        temporary.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8", newline="\n"
        )
        os.replace(temporary, self.folder / LOG)

    def add_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write named 2D pictures (0..1, one height) side by side as ``samples/step_000100.png`` and log it."""
        name = f"samples/step_{step:06d}.png"
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        picture = side_by_side(list(pictures.values()))
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(png(picture))
        os.replace(temporary, path)
        if self._board is not None:
            self._board.add_image("samples", picture, step, dataformats="HW")
        self.add({"step": step, "pictures": name, "names": list(pictures)})

    def close(self) -> None:
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The objects of a run's log; a last line that was cut off is left out, and no log is an empty one."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def side_by_side(pictures: list[np.ndarray], gap: int = 2) -> np.ndarray:
    """Pictures (rows, columns) in one row with a white line between; lower ones are filled up with black."""
    height = max(picture.shape[0] for picture in pictures)
    columns: list[np.ndarray] = []
    for picture in pictures:
        if columns:
            columns.append(np.ones((height, gap)))
        columns.append(np.pad(np.asarray(picture, float), ((0, height - picture.shape[0]), (0, 0))))
    return np.concatenate(columns, axis=1)


def _lines(path: Path) -> int:
    """Lines of a file, -1 where the last one is not complete."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    return data.count(b"\n") if not data or data.endswith(b"\n") else -1


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        # The shortest number that is the same float32, which is what torch computes.
        return float(str(np.float32(value))) if math.isfinite(value) else None
    return value


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
