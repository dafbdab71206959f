"""Whether the noise of a volume is that of a reconstruction kernel of CT.

Filtered back-projection leaves noise whose power grows with the frequency within a slice before the kernel cuts it off
(Riederer, Pelc, Chesler 1978, Physics in Medicine and Biology 23:446). Filters and interpolation leave the most at the
lowest frequencies.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

KERNEL = (0.8, 0.92)
"""Up to the first of :func:`low_share` noise is that of a kernel, from the second on it is not."""

SIDE = 16
"""Of the squares within slices, in voxels."""

FEWEST = 200
"""Squares."""

_THIRD_DIFFERENCE = tuple(np.array([1.0, -3.0, 3.0, -1.0], np.float32) / np.float32(np.sqrt(20.0)))
"""Along k, where anatomy leaves little of it."""

_CHI_SQUARE_MEDIAN = 0.455
"""With one degree of freedom."""


def low_share(array: np.ndarray) -> float:
    """Power of the noise at the lowest frequencies within the slices (along k) of a volume, over that where it is
    strongest: 0.94 to 1.07 in CT but for the noise of a kernel, which has 0.1 to 0.8; 1 where it can not be told.

    Where anatomy changes much from slice to slice a kernel is not seen.
    """
    count = (array.shape[0] - 4) // 2 + 1 if array.shape[0] >= 4 else 0
    rows, columns = (side // SIDE for side in array.shape[1:])
    if count * rows * columns < FEWEST:
        return 1.0
    cut = array[:, : rows * SIDE, : columns * SIDE]
    change = sum(weight * cut[place : place + 2 * count : 2] for place, weight in enumerate(_THIRD_DIFFERENCE))
    squares = (
        np.asarray(change).reshape(count, rows, SIDE, columns, SIDE).transpose(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE)
    )
    power = np.square(fft.dctn(squares, axes=(1, 2), norm="ortho"))
    order = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    energy = power[:, order >= 4].sum(axis=1)
    power = power[energy > 0.0][np.argsort(energy[energy > 0.0])[: max(FEWEST, len(energy) // 2)]]
    if len(power) < FEWEST:
        return 1.0
    spectrum = np.median(power, axis=0) / _CHI_SQUARE_MEDIAN
    frequency = np.hypot.outer(np.arange(SIDE), np.arange(SIDE))
    by_frequency = [spectrum[np.abs(frequency - ring) <= 0.5].mean() for ring in range(SIDE)]
    strongest = np.convolve(by_frequency, np.ones(3) / 3.0, "valid").max()
    return float(spectrum[frequency < 1.5].mean() / strongest) if strongest > 0.0 else 1.0
