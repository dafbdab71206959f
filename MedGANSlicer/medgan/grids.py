"""Whether two volumes lie on one grid, and what differs if not. Matrices map (i, j, k, 1) to millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgan.volume import spacing_of

TOLERANCE = 0.05
"""Voxels that a corner may be off: headers round."""

HALF = 0.5
"""The same where voxels are only to belong together: a spacing rounded to three digits adds up to this."""


def same_grid(shape: Sequence[int], matrix: np.ndarray, other_shape: Sequence[int], other_matrix: np.ndarray) -> bool:
    """Whether all voxels lie on those of the other grid, of which there are as many; shapes are (k, j, i)."""
    return tuple(shape) == tuple(other_shape) and farthest(shape, matrix, other_matrix) <= TOLERANCE


def farthest(shape: Sequence[int], matrix: np.ndarray, other_matrix: np.ndarray) -> float:
    """Largest distance of a corner of one grid from that of the other, in voxels of the finer, axis by axis."""
    own, moved = corners(shape), np.linalg.inv(other_matrix) @ matrix
    return float(max(np.abs(each @ own - own).max() for each in (moved, np.linalg.inv(moved))))


def grid_difference(
    shape: Sequence[int], matrix: np.ndarray, other_shape: Sequence[int], other_matrix: np.ndarray
) -> str:
    """What differs between two grids, as in "120 x 120 x 40 voxels and 240 x 240 x 40", or '' where each voxel lies
    within half a voxel of its other."""
    if tuple(shape) != tuple(other_shape):
        one, other = (" x ".join(str(n) for n in reversed(s)) for s in (shape, other_shape))
        return f"{one} voxels and {other}"
    if farthest(shape, matrix, other_matrix) <= HALF:
        return ""
    spacing, other_spacing = spacing_of(matrix), spacing_of(other_matrix)
    if not np.allclose(spacing, other_spacing, rtol=1e-3, atol=0.0):
        one, other = (" x ".join(f"{step:.4g}" for step in s) for s in (spacing, other_spacing))
        return f"voxels of {one} mm and of {other} mm"
    apart = np.linalg.norm(((matrix - other_matrix) @ corners(shape))[:3], axis=0).max()
    return f"their corners lie {apart:.3g} mm apart"


def corners(shape: Sequence[int]) -> np.ndarray:
    """(4, 8) outer corners of the first and last voxels: the centres of a single slice do not tell how thick it is."""
    sides = np.array(shape[::-1])
    return np.array([[*(sides * [n & 1, n >> 1 & 1, n >> 2] - 0.5), 1] for n in range(8)]).T
