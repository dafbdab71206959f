"""The test cases of the super-resolution benchmark: held-out volumes whose slices are made thick along one axis.

- *original*: the central crop of a volume of ``held_out.json``, at most ``crop`` voxels a side. It is the reference;
  nothing was added to it and nothing taken away (CT is clipped as in ``cases.py``).
- *axis*: the one with the finest spacing, k before j before i when spacings are alike: the sharpest truth there is.
  The crop along it is a multiple of every ratio, so that N original voxels are exactly ``ratio`` times N / ratio.
- *input*: each thick slice is the mean of ``ratio`` original ones (boxcar profile, no gap, no noise added). Its matrix
  says where it lies: spacing times ratio, first centre moved by (ratio - 1) / 2 original voxels.
- *all three axes*: means of 2 x 2 x 2 voxels; only for volumes whose spacings are within 10 % of each other.
- Range and foreground are those of ``cases.py``, taken from the whole original volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import central_box, entries, original

from degrading import thick_geometry, thicken

AXIS_NAMES = "kji"
"""Letters of the array axes 0, 1 and 2."""

MODALITIES = ("MR", "CT")


@dataclass(frozen=True)
class SliceCase:
    """One original crop and its thick-sliced version, float32 [k, j, i] in the unit of the volume."""

    name: str
    volume: str
    modality: str
    axes: tuple[int, ...]
    ratio: int
    data_range: float
    clean: np.ndarray
    clean_ijk_to_ras: np.ndarray
    coarse: np.ndarray
    coarse_ijk_to_ras: np.ndarray
    foreground: np.ndarray

    @property
    def axis_name(self) -> str:
        return AXIS_NAMES[self.axes[0]] if len(self.axes) == 1 else "all"

    @property
    def setting(self) -> str:
        """The group that means are taken over."""
        return f"{self.modality} {'iso ' if len(self.axes) == 3 else ''}x{self.ratio}"


def slice_cases(
    data: Path, group: str, names: Sequence[str], ratios: Sequence[int], crop: int, isotropic: bool = True
) -> Iterator[SliceCase]:
    """Every case of the MR and CT volumes of a group of ``held_out.json``; ``names`` empty takes them all."""
    for entry in entries(data, group):
        if entry["modality"] not in MODALITIES or (names and entry["name"] not in names):
            continue
        array, matrix, data_range, foreground = original(data, entry)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
        sharp = int(np.argmax(spacing <= 1.001 * spacing.min()))
        common = math.lcm(*ratios)
        wanted = [min(crop, size) for size in array.shape]
        wanted[sharp] -= wanted[sharp] % common
        jobs = [((sharp,), ratio, wanted) for ratio in ratios]
        if isotropic and spacing.max() <= 1.1 * spacing.min():
            jobs.append(((0, 1, 2), 2, [side - side % 2 for side in wanted]))
        for axes, ratio, sides in jobs:
            box = central_box(array.shape, tuple(sides))
            placed = matrix.copy()
            placed[:3, 3] += matrix[:3, :3] @ [part.start for part in reversed(box)]
            clean = np.ascontiguousarray(array[box])
            kind = "iso" if len(axes) == 3 else AXIS_NAMES[axes[0]]
            yield SliceCase(
                name=f"{entry['name']}_{kind}{ratio}",
                volume=entry["name"],
                modality=entry["modality"],
                axes=axes,
                ratio=ratio,
                data_range=data_range,
                clean=clean,
                clean_ijk_to_ras=placed,
                coarse=thicken(clean, axes, ratio),
                coarse_ijk_to_ras=thick_geometry(placed, axes, ratio),
                foreground=np.ascontiguousarray(foreground[box]),
            )
