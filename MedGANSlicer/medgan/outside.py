"""The constant voxels around what was scanned, as padding, masks and cut-out circles leave them. NumPy and SciPy only.

Where they begin, intensities jump more sharply than any scanner's point spread lets them: that is no anatomy, and
nothing that a blur can be measured by or be taken away from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan.noise import intensity_range

SMOOTHING = 1.0
"""Standard deviation in voxels of the Gaussian that takes the seams out of what is filled in, which would be edges:
beside a circle around a blurred chest or brain all of the blur is measured with it, and half of it without."""

THICKNESS = 3
"""Voxels along every axis that are constant somewhere in an outside; chance does not make so many in noise."""

JUMP, SHARE = 0.1, 0.1
"""It was cut out where this share of the voxels at its rim differs from it by more than this share of the intensity
range. Anatomy that was blurred fades into its background."""

SHARE_OF_BRIGHT = 0.5
"""The same for a value at the bright end: what is clipped there fades into that, too."""


def outside(array: np.ndarray) -> np.ndarray | None:
    """Where a [k, j, i] volume is outside (bool); None where nothing was cut out of it.

    It has the commonest value at the faces; holes in a mask, which have that value too, belong to it.
    """
    faces = [array.take(place, axis).ravel() for axis in range(3) for place in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    value = values[counts.argmax()]
    constant = array == value
    if constant.all():
        return None
    mask = thick(constant)
    rim = array[ndimage.binary_dilation(mask) & ~mask]
    low, high = intensity_range(array)
    share = SHARE if value < high - JUMP * (high - low) else SHARE_OF_BRIGHT
    if not rim.size or not np.quantile(np.abs(rim - value), 1.0 - share) > JUMP * (high - low):
        return None
    # A mask has thin holes; of a value within the range single voxels of what was scanned have it, too.
    return constant if value <= low + JUMP * (high - low) else mask


def thick(mask: np.ndarray) -> np.ndarray:
    """A mask without what is thin all around: its holes, and noise that was cut off at the value outside."""
    core = ndimage.binary_erosion(mask, np.ones((THICKNESS,) * 3), border_value=1)
    # Where it is thin, as along the sides of a circle, its rim goes on for a little.
    return ndimage.binary_dilation(core, iterations=2 * THICKNESS, mask=mask)


def filled(array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The array with the intensities of the nearest voxels within, smoothed, outside; itself where nothing is."""
    if mask is None:
        return array
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return np.where(mask, ndimage.gaussian_filter(array[tuple(nearest)], SMOOTHING), array)


def nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An array or mask on a grid of that shape over the same field of view, by nearest voxel."""
    sides = zip(array.shape, shape, strict=True)
    return array[np.ix_(*((2 * np.arange(count) + 1) * side // (2 * count) for side, count in sides))]
