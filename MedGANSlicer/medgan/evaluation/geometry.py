"""Whether two volumes lie on one grid, what differs if not, and how one is brought onto the grid of the other."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy import ndimage

from medgan.evaluation.labels import Layers, layered
from medgan.grids import TOLERANCE, farthest
from medgan.volume import LabelMap, Volume, VolumeError

Either = TypeVar("Either", Volume, LabelMap)


def differences(first: Volume | LabelMap, second: Volume | LabelMap) -> list[str]:
    """What differs between two grids, in numbers of both; empty when they are the same."""
    found = []
    if first.shape != second.shape:
        found.append(f"size {_listed(first.shape[::-1])} and {_listed(second.shape[::-1])} voxels")
    elif farthest(first.shape, first.ijk_to_ras, second.ijk_to_ras) <= TOLERANCE:
        return []
    steps = np.array(first.spacing_mm), np.array(second.spacing_mm)
    if np.abs(steps[0] / steps[1] - 1.0).max() * max(first.shape) > TOLERANCE:
        found.append(f"spacing {_listed(steps[0])} and {_listed(steps[1])} mm")
    turned = [matrix.ijk_to_ras[:3, :3] / step for matrix, step in zip((first, second), steps, strict=True)]
    angles = np.degrees(np.arccos(np.clip((turned[0] * turned[1]).sum(axis=0), -1.0, 1.0)))
    if np.radians(angles.max()) * max(first.shape) > TOLERANCE:
        found.append(f"direction of the axes i, j, k by {_listed(angles)} degrees")
    origins = first.ijk_to_ras[:3, 3], second.ijk_to_ras[:3, 3]
    if np.abs(origins[0] - origins[1]).max() > TOLERANCE * min(*steps[0], *steps[1]):
        found.append(f"origin {_listed(origins[0])} and {_listed(origins[1])} mm (RAS)")
    if not found:
        found.append(
            f"place of the corners by up to {farthest(first.shape, first.ijk_to_ras, second.ijk_to_ras):.3g} voxels"
        )
    return found


def mismatch(what: str, other: str, found: list[str]) -> str:
    """The sentence about two volumes whose grids differ."""
    return f"The {what} lies on another grid than the {other}: {'; '.join(found)}. Resample it, or allow resampling."


def on_grid_of(
    volume: Either, grid: Volume | LabelMap, what: str, other: str, resample: bool
) -> tuple[Either, np.ndarray | None, str]:
    """The volume on that grid, where the grid lies within the volume (None: everywhere), and a message ('': none).

    Raises :class:`VolumeError` that says what differs, unless resampling is allowed or there is nothing to do.
    """
    found = differences(volume, grid)
    if not found:
        return volume, None, ""
    if not resample:
        raise VolumeError(mismatch(what, other, found))
    moved, within = resampled(volume, grid)
    if not within.any():
        raise VolumeError(f"The {what} and the {other} do not overlap: {'; '.join(found)}.")
    how = "nearest neighbour" if isinstance(volume, LabelMap) else "linear interpolation"
    message = f"The {what} was resampled onto the grid of the {other} ({how}): {'; '.join(found)}."
    if not within.all():
        lost = "counts as background" if isinstance(volume, LabelMap) else "is left out"
        message += f" {100 * (1 - within.mean()):.3g} % of that grid lies outside of it and {lost}."
    if isinstance(volume, LabelMap):
        beyond = int(np.count_nonzero((volume.array != 0) & ~_covered(volume, grid)))
        if beyond:
            amount = beyond * abs(np.linalg.det(volume.ijk_to_ras[:3, :3])) / 1000.0
            message += f" {beyond} of its labelled voxels ({amount:.3g} ml) lie outside of that grid and do not count."
    return moved, None if within.all() else within, message


def resampled(volume: Either, grid: Volume | LabelMap) -> tuple[Either, np.ndarray]:
    """The volume at the voxel centres of a grid, and whether each of them lies within the volume's voxels.

    Images are interpolated linearly, label maps by the nearest neighbour. Sheared grids are fine. Outside, images hold
    their nearest value and label maps 0.
    """
    if isinstance(volume, Layers):
        moved = [resampled(layer, grid) for layer in volume.layers]
        return layered([layer for layer, _ in moved]), moved[0][1]  # type: ignore[return-value]
    matrix = _between(grid, volume)
    labels = isinstance(volume, LabelMap)
    array = ndimage.affine_transform(
        volume.array, matrix[:3, :3], matrix[:3, 3], grid.shape, order=0 if labels else 1, mode="nearest"
    )
    within = _covered(grid, volume)
    if isinstance(volume, LabelMap):
        return LabelMap(np.where(within, array, 0), grid.ijk_to_ras, volume.labels), within  # type: ignore[return-value]
    return Volume(array, grid.ijk_to_ras, dict(volume.meta), volume.voxel_type), within


def _between(first: Volume | LabelMap, second: Volume | LabelMap) -> np.ndarray:
    """4 x 4 matrix from places in the array of the first to those in the array of the second."""
    flip = np.eye(4)[[2, 1, 0, 3]]  # between i, j, k and the order of the array's axes
    matrix = flip @ np.linalg.inv(second.ijk_to_ras) @ first.ijk_to_ras @ flip
    return np.where(np.abs(matrix - np.rint(matrix)) < 1e-6, np.rint(matrix), matrix)


def _covered(first: Volume | LabelMap, second: Volume | LabelMap) -> np.ndarray:
    """Whether the middle of each voxel of the first lies within the voxels of the second."""
    matrix = _between(first, second)
    covered = np.ones(first.shape, dtype=bool)
    places = np.ogrid[tuple(slice(0, side) for side in first.shape)]
    for axis, side in enumerate(second.shape):
        place = sum(matrix[axis, other] * places[other] for other in range(3)) + matrix[axis, 3]
        covered &= (place >= -0.5 - 1e-6) & (place <= side - 0.5 + 1e-6)
    return covered


def _listed(numbers: object) -> str:
    return " x ".join(f"{number:.6g}" for number in np.asarray(numbers).tolist())
