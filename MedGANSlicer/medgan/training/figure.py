"""The curves of a training as a picture. Drawn with numpy alone: 3D Slicer has no plotting package for Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 22, 26
COLORS = ((31, 119, 180), (214, 94, 0), (0, 138, 90), (160, 60, 160), (110, 110, 110))

NOT_CURVES = (
    "step", "seconds", "steps_a_second", "loading", "adversarial", "skipped", "val_score", "val_counts", "val_step",
)  # fmt: skip

# Three columns by five rows a letter, a row after the other, each as one octal digit.
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-.+_%/ "
_ROWS = """
25755 65656 34443 65556 74647 74644 34553 55755 72227 11152 55655 44447 57755 65555 25552 65644 25563 65655 34216 72222
55557 55552 55775 55255 55222 71247 75557 26227 71747 71717 55711 74717 74757 71222 75757 75717 00700 00002 02720 00007
51245 11244 00000
"""
_FONT = dict(zip(_LETTERS, _ROWS.split(), strict=True))


def curves_picture(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The losses above and the validation figures below, (rows, columns, 3) uint8; a blank sheet without any."""
    held = curves(rows)
    losses = {name: points for name, points in held.items() if not name.startswith("val_")}
    figures = {name.removeprefix("val_"): points for name, points in held.items() if name.startswith("val_")}
    # Figures of very different size, such as PSNR and SSIM, each get a chart of their own.
    charts = [losses] if losses else []
    charts += [{name: points} for name, points in list(figures.items())[:3]]
    return np.concatenate([_chart(chart) for chart in charts]) if charts else np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every loss and validation figure in the rows of ``log.jsonl``; five losses at most, and of the
    figures of single labels none."""
    held: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name in NOT_CURVES or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if math.isfinite(value) and not (name.startswith("val_") and name[-1].isdigit()):
                held.setdefault(name, []).append((int(row["step"]), float(value)))
    losses = sorted((name for name in held if not name.startswith("val_")), key=lambda name: "loss" not in name)
    kept = set(losses[: len(COLORS)])
    return {name: points for name, points in held.items() if name in kept or name.startswith("val_")}


def _chart(held: Mapping[str, Sequence[tuple[int, float]]]) -> np.ndarray:
    sheet = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    last = max(1, max(step for points in held.values() for step, _ in points))
    values = np.array([value for points in held.values() for _, value in points])
    low, high = float(values.min()), float(np.percentile(values, 98))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for share in (0.0, 0.5, 1.0):
        row = round(bottom - share * (bottom - TOP))
        sheet[row, LEFT:right] = 225
        write(sheet, row - 5, LEFT - 6, f"{low + share * (high - low):.3g}", (60, 60, 60), from_right=True)
        column = round(LEFT + share * (right - LEFT - 1))
        write(sheet, bottom + 8, column, f"{round(share * last)}", (60, 60, 60), from_right=share == 1.0)
    place = LEFT
    for (name, points), color in zip(held.items(), COLORS, strict=False):
        steps, heights = np.array(points).T
        columns = LEFT + steps / last * (right - LEFT - 1)
        rows = bottom - np.clip((heights - low) / (high - low), 0.0, 1.0) * (bottom - TOP)
        for first in range(max(1, len(columns) - 1)):
            _line(sheet, columns[first : first + 2], rows[first : first + 2], color)
        place = write(sheet, 6, place, name, color) + 14
    return sheet


def _line(sheet: np.ndarray, columns: np.ndarray, rows: np.ndarray, color: tuple[int, int, int]) -> None:
    count = int(max(np.ptp(columns), np.ptp(rows))) + 2
    across = np.rint(np.linspace(columns[0], columns[-1], count)).astype(int)
    down = np.rint(np.linspace(rows[0], rows[-1], count)).astype(int)
    sheet[down, across] = color
    sheet[np.minimum(down + 1, HEIGHT - 1), across] = color


def write(
    sheet: np.ndarray, row: int, column: int, text: str, color: tuple[int, int, int], from_right: bool = False
) -> int:
    """Write a text of 10 pixels' height; the column after it."""
    if from_right:
        column -= 8 * len(text)
    for letter in text.lower():
        rows = [[(int(line) >> bit) & 1 for bit in (2, 1, 0)] for line in _FONT.get(letter, "00000")]
        ink = np.kron(np.array(rows, dtype=bool), np.ones((2, 2), bool))
        part = sheet[row : row + 10, column : column + 6]
        part[ink[: part.shape[0], : part.shape[1]]] = color
        column += 8
    return column
