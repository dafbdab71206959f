"""From probabilities on the working grid to labels, uncertainty and measures on the grid of the input."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan.progress import Progress, silent
from medgan.segmentation.description import Part
from medgan.segmentation.grid import Grid, box_of, resampled
from medgan.segments import fitting
from medgan.volume import Label, Volume

NEGLIGIBLE = 0.02
"""Probability below which a label is not carried over to the input's grid: it could not win there."""


def indices_on(probabilities: np.ndarray, working: Grid, target: Grid, progress: Progress = silent) -> np.ndarray:
    """The most likely label (uint8 or uint16 index, 0 background) of every voxel of another grid.

    ``probabilities`` (L, D, H, W) are interpolated linearly label by label, each in the box where it occurs; outside
    of the working grid is background. Where the target is coarser, as with thick slices, the answer at the centres of
    its voxels counts alone: what the network saw between them was interpolated. Never holds more than three volumes
    of the target's size.
    """
    count = len(probabilities)
    labels = np.zeros(target.shape, np.uint8 if count < 256 else np.uint16)
    best = np.zeros(target.shape, np.float32)
    background = np.ones(target.shape, np.float32)
    for index in range(1, count):
        progress(index / count, "Putting the labels on the grid of the volume")
        box = box_of(probabilities[index] > NEGLIGIBLE, 1)
        if box is None:
            continue
        where = _box_on(working.box(box), target)
        if where is None:
            continue
        found = resampled(probabilities[index][box], working.box(box), target.box(where), averaged=False)
        background[where] -= found
        better = found > best[where]
        best[where][better] = found[better]
        labels[where][better] = index
    labels[background > best] = 0
    return labels


def _box_on(part: Grid, target: Grid) -> tuple[slice, slice, slice] | None:
    """The box of the target's voxels that a grid reaches; None if it reaches none."""
    k, j, i = part.shape
    corners = np.array(list(itertools.product((-0.5, i - 0.5), (-0.5, j - 0.5), (-0.5, k - 0.5), (1.0,))))
    places = (np.linalg.inv(target.ijk_to_ras) @ part.ijk_to_ras @ corners.T)[:3][::-1]
    box = []
    for axis, side in enumerate(target.shape):
        low = max(0, int(np.floor(places[axis].min())))
        high = min(side, int(np.ceil(places[axis].max())) + 1)
        if high <= low:
            return None
        box.append(slice(low, high))
    return tuple(box)  # type: ignore[return-value]


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """(D, H, W) entropy of the probabilities (L, D, H, W): 0 where one label is certain, 1 where all are alike."""
    total = np.zeros(probabilities.shape[1:], np.float32)
    for one in probabilities:
        total -= one * np.log(np.maximum(one, 1e-12))
    return np.clip(total / np.log(len(probabilities)), 0.0, 1.0)


def values_of(indices: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """Label values in the smallest type that 3D Slicer shows as a label map, from indices into ``parts`` plus 1."""
    values = np.array([0, *(part.value for part in parts)])
    return values.astype(fitting(int(values.max())))[indices]


def measures(
    labels: np.ndarray, volume: Volume, table: Mapping[int, Label], unsure: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One row a label, also for those that were not found: value, name, voxels, volume_ml, mean and sd of the volume.

    Mean and standard deviation are in the unit of the volume, of its finite voxels, None where there are none; with
    an uncertainty map its mean comes along.
    """
    voxel_ml = Grid(volume.shape, volume.ijk_to_ras).voxel_ml
    top = max([*table, int(labels.max())]) + 1
    voxels, valid, total, square, doubt = np.zeros((5, top))
    for number, (part, values) in enumerate(zip(labels, volume.array, strict=True)):  # a slice at a time saves memory
        finite = np.isfinite(values)
        voxels += np.bincount(part.ravel(), minlength=top)
        valid += np.bincount(part[finite], minlength=top)
        total += np.bincount(part[finite], values[finite], minlength=top)
        if unsure is not None:
            doubt += np.bincount(part.ravel(), unsure[number].ravel(), minlength=top)
    mean = total / np.maximum(valid, 1)
    for part, values in zip(labels, volume.array, strict=True):
        finite = np.isfinite(values)
        inside = part[finite]
        square += np.bincount(inside, (values[finite] - mean[inside]) ** 2, minlength=top)
    sd = np.sqrt(square / np.maximum(valid, 1))
    rows = []
    for value, label in table.items():
        row: dict[str, Any] = {
            "value": value,
            "name": label.name,
            "voxels": int(voxels[value]),
            "volume_ml": float(voxels[value]) * voxel_ml,
            "mean": float(mean[value]) if valid[value] else None,
            "sd": float(sd[value]) if valid[value] else None,
        }
        if unsure is not None:
            row["uncertainty"] = float(doubt[value] / voxels[value]) if voxels[value] else None
        rows.append(row)
    return rows
