"""Pictures of a case for the report: its middle slice before and after, the reference, and where they differ."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from medgan.evaluation.table import Picture
from medgan.noise import intensity_range
from medgan.volume import Label, LabelMap, Volume

LARGEST_SIDE = 320
"""Pixels along the longer side of a picture at most."""

DIFFERENCE_SHARE = 0.2
"""Share of the data range at which a difference is black or white."""

AGREED, ONLY_RESULT, ONLY_REFERENCE = (0.45, 0.45, 0.45), (1.0, 0.55, 0.1), (0.25, 0.55, 1.0)


def of_images(case: str, method: str, held: Mapping[str, Volume], centre: np.ndarray | None = None) -> Picture:
    """Grey pictures of volumes on one grid: "before"?, "result", "reference"?; with a reference the difference too.

    All have the grey window of the reference, or of the result without one. ``centre`` is a mask through whose middle
    the slice goes.
    """
    leading = held.get("reference", held["result"])
    plane = Plane(leading, centre)
    low, high = intensity_range(np.nan_to_num(leading.array))
    width = max(high - low, 1e-30)
    shown = {name: (plane.slice(np.nan_to_num(volume.array)) - low) / width for name, volume in held.items()}
    images = {name: np.clip(image, 0.0, 1.0) for name, image in shown.items()}
    caption = f"{plane.name}. Grey from {low:.4g} to {high:.4g}."
    if "reference" in shown:
        difference = (shown["result"] - shown["reference"]) / (2.0 * DIFFERENCE_SHARE) + 0.5
        images["difference"] = np.clip(difference, 0.0, 1.0)
        caption += (
            f" Difference: grey is none, white {DIFFERENCE_SHARE * width:.3g} too bright, black as much too dark."
        )
    return Picture(case, method, images, caption)


def of_labels(case: str, method: str, result: LabelMap, reference: LabelMap, before: Volume | None = None) -> Picture:
    """Coloured pictures of a result and its reference on one grid, where they differ, and the volume if there."""
    plane = Plane(reference, (reference.array > 0) | (result.array > 0))
    ours, theirs = plane.slice(result.array), plane.slice(reference.array)
    images = {}
    if before is not None:
        low, high = intensity_range(np.nan_to_num(before.array))
        images["before"] = np.clip((plane.slice(np.nan_to_num(before.array)) - low) / max(high - low, 1e-30), 0.0, 1.0)
    labels = result.labels | reference.labels
    colors = {value: label.color for value, label in labels.items() if label.color != Label("").color}
    images["result"], images["reference"] = _coloured(ours, colors), _coloured(theirs, colors)
    difference = np.zeros((*ours.shape, 3))
    difference[(ours == theirs) & (ours > 0)] = AGREED
    difference[(ours != theirs) & (theirs > 0)] = ONLY_REFERENCE
    difference[(ours != theirs) & (ours > 0)] = ONLY_RESULT
    images["difference"] = difference
    caption = (
        "Difference: grey where both agree, orange where the result and blue where only the reference has a label."
    )
    return Picture(case, method, images, f"{plane.name}. {caption}")


class Plane:
    """The slice of a grid that pictures show: across its coarsest axis, or an axial one where there is none.

    It goes through the middle of the grid, or of ``centre``, a mask on it.
    """

    def __init__(self, grid: Volume | LabelMap, centre: np.ndarray | None = None) -> None:
        spacing = np.array(grid.spacing_mm[::-1])  # in the order of the array's axes
        directions = grid.ijk_to_ras[:3, 2::-1] / spacing  # columns: R, A, S parts of a step along k, j, i
        orders = itertools.permutations(range(3))  # to which of R, A, S each array axis belongs
        self._world = max(
            orders, key=lambda order: sum(abs(directions[world, axis]) for axis, world in enumerate(order))
        )
        self._signs = [np.sign(directions[world, axis]) for axis, world in enumerate(self._world)]
        coarse = spacing > 1.2 * np.sort(spacing)[1]
        self._axis = int(np.argmax(spacing)) if coarse.sum() == 1 else self._world.index(2)
        side = grid.shape[self._axis]
        self._place = side // 2
        if centre is not None and centre.any():
            others = tuple(axis for axis in range(3) if axis != self._axis)
            self._place = round(float(np.average(np.arange(side), weights=centre.sum(axis=others))))
        self._spacing = spacing
        kind = ("Sagittal", "Coronal", "Axial")[self._world[self._axis]]
        self.name = f"{kind} slice {self._place + 1} of {side}"

    def slice(self, array: np.ndarray) -> np.ndarray:
        """(rows, columns) of square pixels: left of the patient on the right, front or head above."""
        rest = [axis for axis in range(3) if axis != self._axis]
        image = np.take(array, self._place, axis=self._axis)
        for number, axis in enumerate(rest):  # towards left, back and feet
            image = np.flip(image, axis=number) if self._signs[axis] > 0 else image
        steps = self._spacing[rest]
        # Rows follow the head-feet axis where there is one, columns the left-right axis.
        if self._world[rest[0]] < self._world[rest[1]]:
            image, steps = image.T, steps[::-1]
        pixel = max(steps.min(), (steps * image.shape).max() / LARGEST_SIDE)
        if np.allclose(steps, pixel):
            return image
        factors = [max(1, round(side * step / pixel)) / side for side, step in zip(image.shape, steps, strict=True)]
        whole = image.dtype.kind in "iu"
        return ndimage.zoom(image, factors, order=0 if whole else 1, mode="nearest", grid_mode=True)


def _coloured(image: np.ndarray, colors: Mapping[int, tuple[float, float, float]]) -> np.ndarray:
    coloured = np.zeros((*image.shape, 3))
    for value in np.unique(image[image > 0]):
        # Neighbouring values get hues far apart.
        coloured[image == value] = colors.get(int(value)) or colorsys.hsv_to_rgb(int(value) * 0.618034 % 1.0, 0.65, 1.0)
    return coloured
