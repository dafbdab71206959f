"""What can be said of a volume without a reference: noise, blur, and signal and contrast in segments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medgan.acquired import noise_level
from medgan.noise import intensity_range, padding_as_air
from medgan.sharpness import estimate_blur


@dataclass(eq=False)
class Whole:
    """One volume [k, j, i] of finite numbers, in which the padding of CT becomes air."""

    array: np.ndarray

    def __post_init__(self) -> None:
        self.array = padding_as_air(self.array)

    @cached_property
    def sigma(self) -> float | None:
        return noise_level(self.array)


def noise_sigma(whole: Whole) -> float | None:
    """Level of the noise, from 4 x 4 x 4 blocks (:attr:`medgan.noise.NoiseProfile.level`).

    Of fewer than four slices from blocks within them; not defined below 4 x 16 voxels.
    """
    return whole.sigma


def noise_percent(whole: Whole) -> float | None:
    """Standard deviation of the noise, in percent of the robust range of the volume."""
    low, high = intensity_range(whole.array)
    return 100.0 * whole.sigma / (high - low) if whole.sigma is not None and high > low else None


def blur(whole: Whole) -> float | None:
    """Standard deviation of the blur, from the strongest edges; about 0.5 in a sharp volume. None without edges."""
    found = estimate_blur(whole.array)
    return None if math.isnan(found) else found


@dataclass(eq=False)
class Segment:
    """The voxels of a segment, and those of the one that its contrast is taken to (None for that one itself)."""

    voxels: np.ndarray
    other: np.ndarray | None = None


def mean(segment: Segment) -> float:
    """Mean intensity of the segment."""
    return float(segment.voxels.mean(dtype=np.float64))


def deviation(segment: Segment) -> float | None:
    """Standard deviation of the intensities in the segment."""
    return float(segment.voxels.std(dtype=np.float64, ddof=1)) if segment.voxels.size > 1 else None


def snr(segment: Segment) -> float | None:
    """Mean over standard deviation in the segment, anatomy included."""
    spread = deviation(segment)
    return mean(segment) / spread if spread else None


def cnr(segment: Segment) -> float | None:
    """Difference of the means of this segment and another, over the root of their mean variance.

    The other one is the setting contrast_to, or the first; for that one itself it is not defined.
    """
    if segment.other is None:
        return None
    other = Segment(segment.other)
    spreads = deviation(segment), deviation(other)
    if None in spreads or not any(spreads):
        return None
    return abs(mean(segment) - mean(other)) / float(np.sqrt(np.mean(np.square(np.array(spreads, dtype=float)))))
