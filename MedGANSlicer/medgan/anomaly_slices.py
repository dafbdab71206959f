"""The unit of the slices that the network of anomalies looks at, and slices by number. Imports without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgan.noise import intensity_range

MEDIAN = 0.5
"""What the median of the brain becomes; 0 is the darkest."""

TOP = 2.0
"""Brighter voxels are cut off."""


@dataclass(frozen=True)
class Scale:
    """``low`` of the scan's unit becomes 0, ``middle`` becomes ``MEDIAN``."""

    low: float
    middle: float

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Float32 array from 0 to ``TOP``."""
        factor = MEDIAN / (self.middle - self.low)
        return np.clip((array - np.float32(self.low)) * np.float32(factor), 0.0, TOP).astype(np.float32)

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Float32 array back in the unit of the scan."""
        return (array * np.float32((self.middle - self.low) / MEDIAN) + np.float32(self.low)).astype(np.float32)


def scale_of(array: np.ndarray, inside: np.ndarray | None = None) -> Scale:
    """The scale by the median of what is inside (bool), or of the foreground; never an empty one."""
    low, high = intensity_range(array)
    if inside is None or int(inside.sum()) < 100:
        inside = array > low + 0.15 * (high - low)
    middle = float(np.median(array[inside])) if inside.any() else high
    return Scale(low, middle if middle - low > 1e-6 * max(abs(low), abs(high), 1e-30) else low + 1.0)


def standardised(array: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """The array in that unit."""
    return scale_of(array, inside).apply(array)


def at(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Slices of an array at these numbers; the nearest there is for those outside."""
    return array[np.clip(places, 0, len(array) - 1)]
