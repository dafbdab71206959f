"""What is dim in a volume of magnitudes becomes no darker.

Each voxel of a dim place tells next to nothing of how bright that truly is, and a network may guess wrongly (what is
left between the vessels of an angiogram); the mean over many voxels tells it well (see :mod:`medgan.rice`).

Nothing is made darker: that would hang on the noise level alone.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medgan.rice import mean_of_magnitudes, truth_of_mean

WIDTH = 3.0
"""Standard deviation of the Gaussian over which means are taken, in voxels: of noise about 1 % is left."""

DIM = (2.5, 3.5)
"""Up to the first, times the noise, a voxel is dim, from the second on it is not."""

ABOVE_AIR = (1.5, 1.8)
"""A mean up to the first, times the noise, may be that of nothing but noise whose level was found too small: nothing is
made brighter there. From the second on it is."""

FEW = (0.2, 0.5)
"""Share of the surroundings that is dim: up to the first it tells too little, from the second on enough."""

SLAB = 48
"""Slices taken at a time, to save memory."""


def not_darkened(result: np.ndarray, array: np.ndarray, sigma: float) -> np.ndarray:
    """A denoised volume of magnitudes [k, j, i], its dim places on the mean at least as bright as those of ``array``.

    ``sigma``: standard deviation of the noise of ``array``, in whose unit 0 is no signal.
    """
    kept = result
    reach = round(3.0 * WIDTH)
    for first in range(0, len(array), SLAB):
        around = slice(max(first - reach, 0), first + SLAB + reach)
        change = _change(result[around] / np.float32(sigma), array[around] / np.float32(sigma))
        if change is not None:
            if kept is result:
                kept = result.copy()
            inner = change[first - around.start :][:SLAB] * np.float32(sigma)
            kept[first : first + SLAB] += inner
    return kept


def _change(result: np.ndarray, array: np.ndarray) -> np.ndarray | None:
    """What a part of the result lacks, both in units of the noise; None where nothing is dim."""
    # What a mask or a scanner set to 0 has no noise.
    dim = (result < DIM[1]) & (ndimage.maximum_filter(array, 3) > 0.0)
    if not dim.any():
        return None
    there = result[dim]
    expected = np.zeros_like(array)
    expected[dim] = mean_of_magnitudes(there)
    share = _smooth(dim.astype(np.float32))[dim]
    measured = _smooth(np.where(dim, array, np.float32(0.0)))[dim] / share
    lacks = truth_of_mean(measured) - truth_of_mean(_smooth(expected)[dim] / share)
    change = np.zeros_like(array)
    sure = _rising(measured, ABOVE_AIR) * (1.0 - _rising(there, DIM)) * _rising(share, FEW)
    change[dim] = sure * np.maximum(lacks, 0.0)
    return change


def _smooth(array: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(array, WIDTH, truncate=3.0)


def _rising(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """0 up to the first end, 1 from the second on."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
