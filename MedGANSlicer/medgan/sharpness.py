"""How blurred a volume is, from how fast its strongest edges weaken when it is blurred once more.

An ideal edge blurred with standard deviation s has a greatest slope proportional to 1/s; blurred again with a known
width, the ratio of both slopes tells s (Zhuo and Sim, Pattern Recognition 44:1852, 2011). Numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan.noise import power_of_two_near

FIRST, SECOND = 0.8, 1.6
"""Standard deviations in voxels of the two known blurs."""

NATIVE = 0.45
"""What a sharp scan measures: blur up to here belongs to its voxels."""

STRONGEST = 0.004
"""Share of the voxels that count as edges."""

LARGEST_SIDE = 160
"""A larger volume is measured in its middle."""

SHORTEST_SIDE = 8
"""Voxels that an axis needs to be measured along."""

WIDEST = 3.0
"""Blur beyond which an edge can not be told from a slope."""

QUANTILE = 0.1
"""Of the ratios of the edges; far below the median, because thin structures weaken faster than the edges meant here."""


def estimate_blur(array: np.ndarray, along: Sequence[int] = (0, 1, 2)) -> float:
    """Standard deviation in voxels of the blur of a [k, j, i] volume, 0 to 3; about 0.5 in a sharp one.

    Voxels need not be isotropic: the answer is a mean over the axes of ``along`` with 8 voxels and more. NaN for
    volumes without edges, or with too few to tell. Not finite voxels are taken as the median.
    """
    array = middle(np.asarray(array, dtype=np.float32), LARGEST_SIDE)
    axes = [axis for axis, side in enumerate(array.shape) if side >= SHORTEST_SIDE and axis in along]
    if not axes:
        return math.nan
    finite = np.isfinite(array)
    if not finite.all():
        array = np.where(finite, array, np.float32(np.median(array[finite])) if finite.any() else np.float32(0.0))
    array = array * power_of_two_near(array)
    once, twice = (_slope(array, sigma, axes) for sigma in (FIRST, SECOND))
    inner = tuple(slice(3, -3) if axis in axes else slice(None) for axis in range(3))
    thin = once == ndimage.maximum_filter(once, size=[3 if axis in axes else 1 for axis in range(3)])
    once, twice, thin = once[inner], twice[inner], thin[inner]
    strong = thin & (twice >= np.quantile(twice, 1.0 - STRONGEST))
    if twice.max() <= 1e-6 * max(1e-12, float(np.abs(array).max())) or strong.sum() < 8:
        return math.nan
    ratio = float(np.quantile(once[strong] / twice[strong], QUANTILE)) ** 2
    if ratio <= 1.0:
        return WIDEST
    variance = (SECOND**2 - ratio * FIRST**2) / (ratio - 1.0)
    return float(np.clip(np.sqrt(max(variance, 0.0)), 0.0, WIDEST))


def middle(array: np.ndarray, longest: int) -> np.ndarray:
    """A view of the middle, at most ``longest`` voxels along each axis."""
    start = [max(0, (side - longest) // 2) for side in array.shape]
    return array[tuple(slice(first, first + longest) for first in start)]


def _slope(array: np.ndarray, sigma: float, axes: list[int]) -> np.ndarray:
    """Magnitude of the gradient along the axes, after a Gaussian blur along them."""
    total = np.zeros_like(array)
    blur = [sigma if axis in axes else 0.0 for axis in range(3)]
    for axis in axes:
        order = [1 if each == axis else 0 for each in range(3)]
        total += ndimage.gaussian_filter(array, blur, order=order) ** 2
    return np.sqrt(total)
