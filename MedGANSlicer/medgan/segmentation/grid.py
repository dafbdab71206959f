"""The grid that a network works on, and the way of voxels to it and back.

Arrays are [k, j, i]; a matrix maps the centre of voxel (i, j, k, 1) to RAS millimetres.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgan.segmentation.orientation import axes_of
from medgan.volume import spacing_of

SAME_SPACING = 0.05
"""A spacing that differs by less than this share from the wanted one is kept: interpolating would only blur."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Number of voxels along k, j, i, and where they lie."""

    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres, of sheared ones too."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    def box(self, box: Sequence[slice]) -> Grid:
        """The part of the grid in slices along k, j and i with explicit starts and stops."""
        matrix = self.ijk_to_ras.copy()
        matrix[:, 3] = matrix @ [box[2].start, box[1].start, box[0].start, 1.0]
        k, j, i = (part.stop - part.start for part in box)
        return Grid((k, j, i), matrix)


def box_of(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice] | None:
    """The smallest box around what is true, with a margin where there is room; None if nothing is true."""
    found = []
    for axis, side in enumerate(mask.shape):
        lines = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
        if not len(lines):
            return None
        found.append(slice(max(0, int(lines[0]) - margin), min(side, int(lines[-1]) + 1 + margin)))
    return tuple(found)  # type: ignore[return-value]


def around(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The same; everything when nothing is true."""
    k, j, i = (slice(0, side) for side in mask.shape)
    return box_of(mask, margin) or (k, j, i)


def working_grid(source: Grid, spacing_mm: Sequence[float] | None, orientation: str | None) -> Grid:
    """The grid for a network that wants this spacing (along its axes i, j, k) and this orientation.

    - neither: the source's own grid; spacing alone: along the source's axes,
    - orientation alone: the source's voxels, in the order that comes closest to it,
    - both: parallel to the axes of the patient, around all of the source.
    """
    if orientation is None and spacing_mm is None:
        return source
    if orientation is not None:
        ordered = reordered(source, axes_of(orientation))
        if spacing_mm is None:
            return ordered
        axes = axes_of(orientation)
        own = spacing_of(ordered.ijk_to_ras)
        straight = np.allclose(ordered.ijk_to_ras[:3, :3] / own, axes, atol=2e-3)
    else:
        assert spacing_mm is not None
        ordered, own = source, spacing_of(source.ijk_to_ras)
        axes, straight = source.ijk_to_ras[:3, :3] / own, True
    wanted = np.array(spacing_mm, dtype=float)
    if straight:
        near = np.abs(wanted / own - 1.0) < SAME_SPACING
        wanted = np.where(near, own, wanted)
        if near.all():
            return ordered
    return _around(ordered, axes, wanted)


def reordered(source: Grid, axes: np.ndarray) -> Grid:
    """The source's voxels with axes swapped and turned round, so that they run as nearly as possible along ``axes``."""
    directions = source.ijk_to_ras[:3, :3] / np.array(spacing_of(source.ijk_to_ras))
    likeness = axes.T @ directions  # wanted axis by own axis
    best = max(
        itertools.permutations(range(3)), key=lambda order: sum(abs(likeness[n, own]) for n, own in enumerate(order))
    )
    size = source.shape[::-1]
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for wanted, own in enumerate(best):
        forward = likeness[wanted, own] >= 0
        change[own, wanted] = 1.0 if forward else -1.0
        change[own, 3] = 0.0 if forward else size[own] - 1.0
    i, j, k = (size[own] for own in best)
    return Grid((k, j, i), source.ijk_to_ras @ change)


def _around(source: Grid, axes: np.ndarray, spacing_mm: np.ndarray) -> Grid:
    """The smallest grid with these axes and spacings that holds every voxel of the source, centred on it."""
    k, j, i = source.shape
    corners = np.array(list(itertools.product((-0.5, i - 0.5), (-0.5, j - 0.5), (-0.5, k - 0.5), (1.0,))))
    along = np.linalg.inv(axes) @ (source.ijk_to_ras @ corners.T)[:3]
    low, high = along.min(axis=1), along.max(axis=1)
    size = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-3)).astype(int)
    first = (low + high) / 2 - (size - 1) / 2 * spacing_mm
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing_mm
    matrix[:3, 3] = axes @ first
    return Grid((int(size[2]), int(size[1]), int(size[0])), matrix)


def resampled(
    array: np.ndarray, source: Grid, target: Grid, fill: float = 0.0, averaged: bool = True
) -> np.ndarray:  # fmt: skip
    """Float32 voxels on another grid: linear between voxels, averaged where the target is coarser, ``fill`` outside.
    Without ``averaged`` the value at the centre of each voxel counts alone.

    Voxels that only change their order are copied exactly.
    """
    matrix = np.linalg.inv(source.ijk_to_ras) @ target.ijk_to_ras
    turn, shift = matrix[:3, :3][::-1, ::-1], matrix[:3, 3][::-1]  # now in the order of the array's axes
    copied = _copied(array, turn, shift, target.shape, fill)
    if copied is not None:
        return copied
    soft = array.astype(np.float32, copy=False)
    for axis in range(3):
        step = float(np.linalg.norm(turn[axis]))
        if averaged and step > 1.1 and soft.shape[axis] > 1:
            soft = ndimage.gaussian_filter1d(soft, 0.42 * math.sqrt(step**2 - 1.0), axis, mode="nearest")
    if np.count_nonzero(np.abs(turn) > 1e-9) == 3 and np.allclose(turn, np.diag(np.diag(turn))):
        result = ndimage.affine_transform(soft, np.diag(turn), shift, target.shape, order=1, mode="nearest")
    else:
        result = ndimage.affine_transform(soft, turn, shift, target.shape, order=1, mode="nearest")
    for axis, side in enumerate(array.shape):
        place = shift[axis] + sum(
            turn[axis, n] * np.arange(length, dtype=np.float32).reshape([-1 if m == n else 1 for m in range(3)])
            for n, length in enumerate(target.shape)
            if abs(turn[axis, n]) > 1e-9
        )
        outside = (place < -0.501) | (place > side - 0.499)
        if outside.any():
            result[np.broadcast_to(outside, result.shape)] = fill
    return result


def _copied(
    array: np.ndarray, turn: np.ndarray, shift: np.ndarray, shape: tuple[int, int, int], fill: float
) -> np.ndarray | None:
    """The voxels when the two grids have the same centres in another order; None when they have not."""
    whole, first = np.rint(turn), np.rint(shift)
    if not (np.allclose(turn, whole, atol=1e-5) and np.allclose(shift, first, atol=1e-3)):
        return None
    if not (np.abs(whole).sum(axis=0) == 1).all() or not (np.abs(whole).sum(axis=1) == 1).all():
        return None
    order = [int(np.argmax(np.abs(whole[:, n]))) for n in range(3)]  # the source's axis of each target axis
    view = array.transpose(order)
    result = np.full(shape, fill, np.float32)
    here: list[slice] = []
    for n, own in enumerate(order):
        start = int(first[own])
        if whole[own, n] < 0:
            view = np.flip(view, n)
            start = view.shape[n] - 1 - start
        low, high = max(0, -start), min(shape[n], view.shape[n] - start)
        if high <= low:
            return result
        here.append(slice(low, high))
        view = view[tuple(slice(low + start, high + start) if m == n else slice(None) for m in range(3))]
    result[tuple(here)] = view
    return result
