"""Label values at the voxels of another grid: those of the nearest voxel, 0 outside. Values are never mixed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgan.grids import corners
from medgan.labelvalues import listed
from medgan.segments import Layer, Segmentation, check_room, counted_in_steps, slabs
from medgan.steps import Steps, finished
from medgan.volume import VolumeError, checked_matrix

Points = Callable[[np.ndarray], np.ndarray]
"""From points of the target in RAS mm, shape (n, 3), to the same points in the frame of the source."""

_RIM = 1e-3  # voxels: how far a voxel must lie within what is to be covered
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
    """The segmentation on another grid; views of its voxels, without a copy, where those of both lie on one another."""
    target = checked_matrix(ijk_to_ras)
    layers = []
    for layer in segmentation.layers:
        shift = whole_shift(segmentation.ijk_to_ras, target, segmentation.shape) if points is None else None
        if shift is not None:
            k, j, i = (at + by for at, by in zip(layer.start, shift, strict=True))
            inside, place = Layer(layer.array, (k, j, i)).within(shape)
            layers.append(Layer(inside, (place[0].start, place[1].start, place[2].start)))
        else:
            layers.append(Layer(nearest(layer, segmentation.ijk_to_ras, shape, target, points)))
    return Segmentation(shape, target, layers, list(segmentation.segments))


def extended(
    shape: tuple[int, int, int], ijk_to_ras: np.ndarray, reach_mm: np.ndarray
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (k, j, i) and matrix of a grid with the same voxels and as many more as cover the box of points (n, 3)
    in RAS mm. Far points need more voxels than fit into memory: :func:`~medgan.segments.check_room`."""
    if not len(reach_mm):
        return shape, ijk_to_ras
    to_ijk = np.linalg.inv(ijk_to_ras)
    ijk = reach_mm @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    low = np.minimum(0, np.ceil(ijk.min(axis=0) + _RIM))
    high = np.maximum(np.array(shape[::-1]) - 1, np.floor(ijk.max(axis=0) - _RIM))
    i, j, k = (int(n) for n in high - low + 1)
    matrix = np.array(ijk_to_ras, float)
    matrix[:3, 3] = (ijk_to_ras @ [*low, 1.0])[:3]
    return (k, j, i), matrix


def reach_in_steps(layer: Layer, ijk_to_ras: np.ndarray, points: Points | None = None) -> Steps[np.ndarray]:
    """Points (n, 3) in RAS mm whose box holds all voxels of a layer that are not 0, moved by ``points``."""
    box = yield from _occupied_in_steps(layer.array)
    if box is None:
        return np.zeros((0, 3))
    low, high = (np.array(layer.start) + each for each in box)
    steps = 2 if points is None else 9  # what bends can bulge between the corners
    k, j, i = np.meshgrid(*np.linspace(low - 0.5, high + 0.5, steps).T, indexing="ij")
    ijk = np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1)
    places = ijk @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    return places if points is None else points(places)


def beyond_in_steps(
    layer: Layer,
    ijk_to_ras: np.ndarray,
    shape: tuple[int, int, int],
    target: np.ndarray,
    points: Points | None = None,
) -> Steps[dict[int, tuple[int, int]]]:
    """How many voxels of a label value have their centre beyond a grid, and how many it has; only those with some.

    ``points`` maps from the frame of the layer to that of the grid.
    """
    box = yield from _occupied_in_steps(layer.array)
    if box is None:
        return {}
    low, high = box
    array = layer.array[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    k, j, i = (int(at + first) for at, first in zip(layer.start, low, strict=True))
    place = np.array(ijk_to_ras, float)
    place[:3, 3] = (ijk_to_ras @ (i, j, k, 1.0))[:3]
    shift = whole_shift(place, target, array.shape) if points is None else None
    if shift is not None:
        kept = yield from counted_in_steps(Layer(array, shift).within(shape)[0])
    else:
        if points is None:
            outer = (np.linalg.inv(target) @ place @ corners(array.shape))[:3].T
            if ((outer > -0.5) & (outer < np.array(shape[::-1]) - 0.5)).all():
                return {}
        grid = Layer(np.broadcast_to(np.uint8(1), shape))
        inside = yield from nearest_in_steps(grid, target, array.shape, place, points)
        if inside.all():
            return {}
        kept = yield from counted_in_steps(array * inside)
    there = yield from counted_in_steps(array)
    return {value: (n - kept.get(value, 0), n) for value, n in there.items() if n > kept.get(value, 0)}


def beyond(segmentation: Segmentation, shape: tuple[int, int, int], target: np.ndarray) -> list[tuple[str, int, int]]:
    """The segments that a grid cuts: name, voxels beyond it, all voxels."""
    found = [finished(beyond_in_steps(each, segmentation.ijk_to_ras, shape, target)) for each in segmentation.layers]
    return of_segments(segmentation, found)


def of_segments(segmentation: Segmentation, found: list[dict[int, tuple[int, int]]]) -> list[tuple[str, int, int]]:
    """:func:`beyond` of what :func:`beyond_in_steps` found in each layer."""
    return [
        (segment.label.name, *found[segment.layer][segment.value])
        for segment in segmentation.segments
        if segment.value in found[segment.layer]
    ]


def said_of_beyond(cut: list[tuple[str, int, int]]) -> list[str]:
    """The sentence about segments that a grid cuts, if there are some."""
    shown = listed(f"'{name}' {lost} of {voxels} voxels" for name, lost, voxels in cut)
    return [f"Beyond the grid: {shown}."] if cut else []


def said_of_extension(name: str, shape: tuple[int, int, int]) -> str:
    """The sentence about a grid that was extended; ``name`` says whose it was."""
    k, j, i = shape
    return f"The grid of {name} was extended to {i} x {j} x {k} voxels, so that no segment is cut off."


def _occupied_in_steps(array: np.ndarray) -> Steps[tuple[np.ndarray, np.ndarray] | None]:
    """First and last index (k, j, i) of the voxels that are not 0; None without one."""
    there = [np.zeros(n, bool) for n in array.shape]
    for slab in slabs(array.shape) if array.size else ():
        filled = array[slab] != 0
        there[0][slab] = filled.any(axis=(1, 2))
        rows = filled.any(axis=0)
        there[1] |= rows.any(axis=1)
        there[2] |= rows.any(axis=0)
        yield filled.size
    if not there[0].any():
        return None
    found = [np.flatnonzero(each) for each in there]
    return np.array([each[0] for each in found]), np.array([each[-1] for each in found])


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
