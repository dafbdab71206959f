"""Volumes on the grids that training needs: turned to RAS axes, at one spacing, cut to the body.

Arrays are [k, j, i]; matrices map (i, j, k, 1) to millimetres in RAS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan.volume import spacing_of

BODY = 0.05
"""Intensity, as a share of the range, above which a voxel belongs to the body."""


def to_ras(array: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels with i to the right, j to the front and k to the head, as nearly as the axes allow.

    Axes are only exchanged and reversed: an oblique volume stays as oblique. Every voxel stays where it is.
    """
    directions = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    order = _nearest_axes(np.abs(directions))
    turned = np.array(matrix, dtype=float)
    turned[:3, :3] = matrix[:3, order]
    array = array.transpose([2 - order[2 - axis] for axis in range(3)])
    for column in range(3):
        if turned[column, column] < 0:
            axis = 2 - column
            turned[:3, 3] += turned[:3, column] * (array.shape[axis] - 1)
            turned[:3, column] *= -1
            array = np.flip(array, axis)
    return np.ascontiguousarray(array), turned


def _nearest_axes(strength: np.ndarray) -> list[int]:
    """For each body direction the column of a 3x3 matrix of absolute cosines that shows it best, each column once."""
    left = strength.copy()
    order = [0, 0, 0]
    for _ in range(3):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        order[int(row)] = int(column)
        left[row, :] = left[:, column] = -1.0
    return order


def resampled(
    array: np.ndarray, matrix: np.ndarray, spacing_mm: Sequence[float], labels: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The volume with this spacing along i, j, k and the same field of view.

    Images are averaged before they are thinned out, then interpolated linearly; labels take the nearest value.
    """
    old = np.array(spacing_of(matrix)[::-1])
    new = np.array(list(spacing_mm)[::-1], dtype=float)
    if np.allclose(old, new, rtol=1e-3):
        return array, matrix
    shape = np.maximum(1, np.rint(np.array(array.shape) * old / new)).astype(int)
    step = new / old
    offset = 0.5 * (step - 1.0) + 0.5 * (np.array(array.shape) - shape * step)
    if labels:
        result = ndimage.affine_transform(array, step, offset, tuple(shape), order=0, mode="nearest")
    else:
        soft = ndimage.gaussian_filter(array.astype(np.float32), [0.35 * max(0.0, s - 1.0) for s in step])
        result = ndimage.affine_transform(soft, step, offset, tuple(shape), order=1, mode="nearest")
    moved = np.array(matrix, dtype=float)
    moved[:3, 3] += matrix[:3, :3] @ offset[::-1]
    moved[:3, :3] = matrix[:3, :3] * step[::-1]
    return result, moved


def body_box(arrays: Sequence[np.ndarray], margin: int = 4) -> tuple[slice, ...]:
    """The smallest box around all voxels above ``BODY`` (images in 0..1) or above 0 (labels), and a margin."""
    first, last = np.array(arrays[0].shape), np.zeros(3, int)
    for array in arrays:
        inside = array > (BODY if array.dtype.kind == "f" else 0)
        for axis in range(3):
            where = np.nonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))[0]
            if len(where):
                first[axis] = min(first[axis], where[0])
                last[axis] = max(last[axis], where[-1] + 1)
    if (last <= first).any():
        return tuple(slice(0, side) for side in arrays[0].shape)
    return tuple(
        slice(max(0, int(low) - margin), min(side, int(high) + margin))
        for low, high, side in zip(first, last, arrays[0].shape, strict=True)
    )


def joined(one: Sequence[slice], other: Sequence[slice]) -> tuple[slice, ...]:
    """The smallest box that holds two boxes."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def moved_origin(matrix: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """The matrix of a volume that was cut to a box."""
    moved = np.array(matrix, dtype=float)
    moved[:3, 3] += matrix[:3, :3] @ np.array([part.start for part in reversed(box)], dtype=float)
    return moved
