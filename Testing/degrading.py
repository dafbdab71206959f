"""What tests and benchmarks take away from a volume [k, j, i]: thin slices, sharpness and the outer part of k-space.

Independent of the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def zero_filled(array: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """The complex volume of so many of the lowest frequencies along each axis, with zeros for the others."""
    k_space = np.fft.fftshift(np.fft.fftn(array))
    for axis, (side, few) in enumerate(zip(array.shape, matrix, strict=True)):
        np.moveaxis(k_space, axis, 0)[np.abs(np.arange(side) - side // 2) > (few - 1) / 2] = 0.0
    return np.fft.ifftn(np.fft.ifftshift(k_space))
