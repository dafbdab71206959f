"""Ghosts: faint copies of the body beside it, from breath, pulse, motion or uneven lines of k-space.

A ghost is the body, moved along one axis by a part of the field of view and carried round its end. So in the air, where
nothing should be, the intensity follows that of the body moved so; the slope says how strong the ghost is. The axis and
the shift with the strongest one are searched for. Numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SIDE = 64
"""Voxels along an axis of the averaged volume that is looked at, about."""

BODY, BRIGHT_BODY = 0.15, 0.35
"""Share of the brightest above which a voxel belongs to the body. The second is for ghosts that are so strong that they
would count as body."""

NEAREST = 0.15
"""Smallest shift, as a share of the field of view; nearer copies can not be told from the body's own blurred rim."""

LEAST_AIR = 0.05
"""Share of the volume that has to be air."""

MASKED = 0.98
"""Share of the air with one and the same value from which on it was set by a mask and tells nothing."""

LEAST_SEEN = 0.04
"""Share of the air that a copy of the body has to fall on."""

COHERENT, CLEARLY = 0.45, 0.8
"""Correlation in the air below which a slope is no ghost; the second where dark tissue may count as air."""


@dataclass(frozen=True)
class Ghost:
    """The strongest ghost: ``strength`` as a share of the body's own intensity, the array axis it was moved along, and
    the shift as a share of the field of view."""

    strength: float
    axis: int
    shift: float


def strongest_ghost(array: np.ndarray) -> Ghost | None:
    """The strongest ghost of a [k, j, i] volume of magnitudes (MR); None where there is too little air to see one.

    Air of one single value, as a mask leaves it, shows nothing either.
    """
    small = _averaged(array)
    bright = float(np.percentile(small, 99.5))
    if min(sorted(small.shape)[1:]) < 16 or bright <= 0:
        return None
    found = _with_body(small, BODY * bright, COHERENT)
    strong = _with_body(small, BRIGHT_BODY * bright, CLEARLY)
    if found is None or (strong is not None and strong.strength > max(BODY, found.strength)):
        return strong if strong is not None and strong.strength > BODY else found
    return found


def _with_body(small: np.ndarray, threshold: float, coherent: float) -> Ghost | None:
    """The strongest ghost in what is darker than a threshold and outside of the body; None without such air."""
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in small > threshold])
    air = ~ndimage.binary_dilation(filled, iterations=2)
    if air.mean() < LEAST_AIR or _share_of_commonest(small[air]) > MASKED:
        return None
    body = np.where(filled, small, 0.0)
    axes = [axis for axis in range(3) if small.shape[axis] >= 16]
    return max((_along(small, body, air, axis, coherent) for axis in axes), key=lambda ghost: ghost.strength)


def _averaged(array: np.ndarray) -> np.ndarray:
    """Means of blocks, so that no axis has more than about ``SIDE`` voxels."""
    steps = [max(1, round(side / SIDE)) for side in array.shape]
    counts = [side // step for side, step in zip(array.shape, steps, strict=True)]
    array = array[tuple(slice(0, count * step) for count, step in zip(counts, steps, strict=True))]
    shape = [n for pair in zip(counts, steps, strict=True) for n in pair]
    return array.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)


def _share_of_commonest(values: np.ndarray) -> float:
    return float(np.unique(values, return_counts=True)[1].max() / values.size)


def _along(small: np.ndarray, body: np.ndarray, air: np.ndarray, axis: int, least: float) -> Ghost:
    """The strongest ghost along one axis: slope of the air's intensity on the moved body's, for every shift at once.

    ``least``: correlation from which on it counts.
    """
    count = small.shape[axis]
    seen = np.where(air, small, 0.0)
    moved, squared = (np.fft.rfft(each, axis=axis) for each in (body, body**2))
    present = np.fft.rfft((body > 0).astype(np.float32), axis=axis)

    def sums(weights: np.ndarray, what: np.ndarray) -> np.ndarray:
        """For every shift the sum of weights times the moved body."""
        product = np.fft.rfft(weights, axis=axis) * np.conj(what)
        others = tuple(other for other in range(3) if other != axis)
        return np.fft.irfft(product.sum(axis=others), count)

    mask = air.astype(np.float32)
    total = float(mask.sum())
    mean_x, mean_y = sums(mask, moved) / total, float(seen.sum()) / total
    spread_x = sums(mask, squared) / total - mean_x**2
    spread_y = max(float((seen**2).sum()) / total - mean_y**2, 1e-30)
    both = sums(seen, moved) / total - mean_x * mean_y
    shift = np.arange(count)
    far = np.minimum(shift, count - shift) >= NEAREST * count
    usable = far & (sums(mask, present) / total > LEAST_SEEN) & (spread_x > 1e-12)
    if not usable.any():
        return Ghost(0.0, axis, 0.0)
    slope = np.where(usable, both / np.maximum(spread_x, 1e-12), 0.0)
    coherent = np.where(usable, both / np.sqrt(np.maximum(spread_x, 1e-12) * spread_y), 0.0)
    slope = np.where(coherent > least, slope, 0.0)
    place = int(slope.argmax())
    return Ghost(float(slope[place]), axis, float(min(place, count - place) / count))
