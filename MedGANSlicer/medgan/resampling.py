"""Label values at the voxels of another grid: those of the nearest voxel, 0 outside. Values are never mixed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgan.segments import Layer, Segmentation, check_room
from medgan.steps import Steps, finished
from medgan.volume import VolumeError, checked_matrix

Points = Callable[[np.ndarray], np.ndarray]
"""From points of the target in RAS mm, shape (n, 3), to the same points in the frame of the source."""

_TIE = 1e-6  # half-way points go to the voxel with the higher index, whatever rounding did to them before


def whole_shift(one: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Where (k, j, i) on the grid of ``other`` the first voxel of ``one`` lies, if all its voxels lie on voxels."""
    step = np.linalg.inv(other) @ one
    shift = np.rint(step[:3, 3])
    corner = np.array([shape[2], shape[1], shape[0]], float)
    off = np.abs(step[:3, :3] - np.eye(3)) @ corner + np.abs(step[:3, 3] - shift)
    if off.max() > 1e-3:
        return None
    i, j, k = (int(part) for part in shift)
    return k, j, i


def nearest(
    layer: Layer,
    ijk_to_ras: np.ndarray,
    shape: tuple[int, int, int],
    target: np.ndarray,
    points: Points | None = None,
) -> np.ndarray:
    """The layer's values on a grid of ``shape`` placed by ``target``; ``points`` maps between their frames.

    ``ijk_to_ras`` places the grid that ``layer.start`` counts on. An affine map is done a slice at a time without
    making points; any other is asked for the points of a slice.
    """
    return finished(nearest_in_steps(layer, ijk_to_ras, shape, target, points))


def nearest_in_steps(
    layer: Layer,
    ijk_to_ras: np.ndarray,
    shape: tuple[int, int, int],
    target: np.ndarray,
    points: Points | None = None,
) -> Steps[np.ndarray]:
    """:func:`nearest`, a slice at a time."""
    array = layer.array
    check_room(shape, array.dtype.itemsize)
    result = np.zeros(shape, array.dtype)
    if array.size == 0:
        return result
    to_ijk = np.linalg.inv(ijk_to_ras)
    offset = np.array(layer.start[::-1], float)
    rows, columns = np.arange(shape[1], dtype=float)[:, None], np.arange(shape[2], dtype=float)[None, :]
    for k in range(shape[0]):
        if points is None:
            matrix = to_ijk @ target
            ijk = [
                matrix[axis, 0] * columns + matrix[axis, 1] * rows + matrix[axis, 2] * k + matrix[axis, 3]
                for axis in range(3)
            ]
        else:
            place = [
                (target[axis, 0] * columns + target[axis, 1] * rows + target[axis, 2] * k + target[axis, 3]).ravel()
                for axis in range(3)
            ]
            moved = points(np.stack(place, axis=1))
            found = moved @ to_ijk[:3, :3].T + to_ijk[:3, 3]
            ijk = [found[:, axis].reshape(shape[1:]) for axis in range(3)]
        i, j, kk = (np.floor(part - offset[axis] + (0.5 + _TIE)).astype(np.int64) for axis, part in enumerate(ijk))
        limits = array.shape
        inside = (i >= 0) & (i < limits[2]) & (j >= 0) & (j < limits[1]) & (kk >= 0) & (kk < limits[0])
        if inside.any():
            result[k][inside] = array[kk[inside], j[inside], i[inside]]
        yield result[k].size
    return result


def onto(
    segmentation: Segmentation, shape: tuple[int, int, int], ijk_to_ras: np.ndarray, points: Points | None = None
) -> Segmentation:
    """The segmentation on another grid; as it is, without a copy, where the voxels of both lie on one another."""
    target = checked_matrix(ijk_to_ras)
    layers = []
    for layer in segmentation.layers:
        shift = whole_shift(segmentation.ijk_to_ras, target, segmentation.shape) if points is None else None
        if shift is not None:
            k, j, i = (at + by for at, by in zip(layer.start, shift, strict=True))
            layers.append(Layer(layer.array, (k, j, i)))
        else:
            layers.append(Layer(nearest(layer, segmentation.ijk_to_ras, shape, target, points)))
    return Segmentation(shape, target, layers, list(segmentation.segments))


def grid_of_spacing(
    shape: tuple[int, int, int], ijk_to_ras: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (k, j, i) and matrix of a grid with the same axes and extent and other spacing (i, j, k) in mm."""
    if not np.isfinite(spacing_mm).all() or min(spacing_mm) <= 0:
        shown = " x ".join(f"{step:g}" for step in spacing_mm)
        raise VolumeError(f"A grid of {shown} mm is not possible; every spacing must be above zero.")
    own = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    counts = np.array(shape[::-1])
    new_counts = np.maximum(1, np.ceil(np.round(counts * own / spacing_mm, 6))).astype(int)
    matrix = np.array(ijk_to_ras, float)
    matrix[:3, :3] *= np.array(spacing_mm) / own
    center = ijk_to_ras @ np.append((counts - 1) / 2, 1)
    matrix[:3, 3] = center[:3] - matrix[:3, :3] @ ((new_counts - 1) / 2)
    i, j, k = (int(n) for n in new_counts)
    return (k, j, i), matrix
