"""One picture of slices: a line a volume, first what each method made of it, then what each gets wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHOWN_WRONG = 0.15
"""Errors are shown from minus to plus this share of the range: blue is too dark, red too bright."""


@dataclass(frozen=True)
class Line:
    """Volumes [k, j, i] by their titles, cut in the middle of axis ``across``."""

    name: str
    shown: dict[str, np.ndarray]
    wrong: dict[str, np.ndarray]
    across: int
    data_range: float
    modality: str


def write(lines: list[Line], file: Path) -> None:
    """Draw the lines into a PNG file; none makes no file."""
    if not lines:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = max(len(line.shown) + len(line.wrong) for line in lines)
    figure, axes = pyplot.subplots(
        len(lines), columns, figsize=(2.1 * columns, 2.3 * len(lines)), squeeze=False, layout="constrained"
    )
    for place, line in zip(axes, lines, strict=True):
        for one in place:
            one.set_axis_off()
        low, high = (-200.0, 300.0) if line.modality == "CT" else (0.0, 0.9 * line.data_range)
        for one, (title, volume) in zip(place, line.shown.items(), strict=False):
            one.imshow(_cut(volume, line.across), cmap="gray", vmin=low, vmax=high, origin="lower")
            one.set_title(title if one is not place[0] else f"{line.name}: {title}", fontsize=7)
        limit = SHOWN_WRONG * line.data_range
        for one, (title, volume) in zip(place[len(line.shown) :], line.wrong.items(), strict=False):
            one.imshow(_cut(volume, line.across), cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower")
            one.set_title(title, fontsize=7)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
    print(f"Written: {file}")


def _cut(volume: np.ndarray, across: int) -> np.ndarray:
    return np.take(volume, volume.shape[across] // 2, axis=across)
