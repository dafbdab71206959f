"""What tests and benchmarks take away from a volume [k, j, i]: thin slices and sharpness. Independent of the engine."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter


def thicken(array: np.ndarray, axes: Iterable[int], ratio: int) -> np.ndarray:
    """Means of ``ratio`` neighbours along each of the axes, whose sides must be multiples of the ratio."""
    for axis in axes:
        shape = list(array.shape)
        if shape[axis] % ratio:
            raise ValueError(f"{shape[axis]} voxels can not be parted into slices of {ratio}.")
        shape[axis : axis + 1] = [shape[axis] // ratio, ratio]
        array = array.reshape(shape).mean(axis=axis + 1, dtype=np.float64)
    return array.astype(np.float32)


def thick_geometry(ijk_to_ras: np.ndarray, axes: Iterable[int], ratio: int) -> np.ndarray:
    """The matrix of what :func:`thicken` makes of a volume with this one."""
    thick = ijk_to_ras.copy()
    for axis in axes:
        column = ijk_to_ras[:3, 2 - axis]
        thick[:3, 2 - axis] = ratio * column
        thick[:3, 3] += (ratio - 1) / 2 * column
    return thick


def blurred_by(array: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of ``sigma`` voxels along each axis (cut off at 4 sigma, mirrored at the edges)."""
    return gaussian_filter(np.asarray(array, np.float32), sigma, mode="reflect")
