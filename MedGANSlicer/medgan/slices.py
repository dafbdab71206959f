"""Thick slices as a linear operator: what a scanner averages along one axis, and the grid that undoes it.

Coordinates along the axis are in thick slices: slice m is centred on m, and the field of view reaches from -0.5 to
N - 0.5. The fine grid divides the same field of view, so its centre and its edges stay where they are in the patient.

The volume is split as y = A x: A (coarse, fine) averages fine voxels to slices, B (fine, coarse) is a right inverse of
A. Every volume B y + (I - B A) n reproduces the measured slices exactly, whatever n is; a network that delivers n can
not contradict the scan (null-space learning: Schwab, Antholzer, Haltmeier 2019, arXiv 1806.06137).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from medgan.settings import SliceProfile

PRIOR_LENGTH = 1.5
"""Correlation length, in thick slices, of the prior that B interpolates with."""

TREND = 1e4
"""Variance of the unknown mean and slope in the prior: so large that constants and ramps come back as they are."""


@dataclass(frozen=True)
class SliceOperator:
    """From ``fine`` voxels to ``coarse`` slices along one axis. ``width``: slice thickness over slice distance."""

    coarse: int
    fine: int
    width: float = 1.0
    profile: SliceProfile = SliceProfile.BOXCAR

    @property
    def ratio(self) -> float:
        """Fine voxels for each slice."""
        return self.fine / self.coarse

    @cached_property
    def measure(self) -> np.ndarray:
        """A (coarse, fine), float64: the share of each fine voxel in each slice; rows sum to 1."""
        edges = np.arange(self.fine + 1) / self.ratio - 0.5
        reach = edges[None, :] - np.arange(self.coarse)[:, None]
        width = max(self.width, 0.5 / self.ratio)
        if self.profile is SliceProfile.BOXCAR:
            gathered = np.clip(reach, -width / 2, width / 2)
        else:
            sigma = width / math.sqrt(8.0 * math.log(2.0))
            gathered = np.vectorize(math.erf)(reach / (sigma * math.sqrt(2.0)))
        shares = np.diff(gathered, axis=1)
        shares = shares / shares.sum(axis=1, keepdims=True)
        # A voxel that a slice covers in part counts at its centre; shift the shares until ramps are measured exactly.
        away = self.centres[None, :] - (shares @ self.centres)[:, None]
        off = np.arange(self.coarse) - shares @ self.centres
        width_square = (shares * away**2).sum(axis=1)
        return shares * (1.0 + away * (off / np.maximum(width_square, 1e-12))[:, None])

    @cached_property
    def restore(self) -> np.ndarray:
        """B (fine, coarse), float64: the best linear interpolation under a smooth prior; A B is the identity."""
        place = self.centres
        distance = math.sqrt(3.0) * np.abs(place[:, None] - place[None, :]) / PRIOR_LENGTH
        ramp = (place - place.mean()) / self.coarse
        prior = (1.0 + distance) * np.exp(-distance) + TREND * (1.0 + np.outer(ramp, ramp))
        seen = prior @ self.measure.T
        system = self.measure @ seen
        return linalg.solve(system, seen.T, assume_a="pos").T

    @property
    def centres(self) -> np.ndarray:
        """(fine,) centres of the fine voxels in thick slices."""
        return (np.arange(self.fine) + 0.5) / self.ratio - 0.5


def along(matrix: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    """A matrix (n, m) applied along an axis of length m of a float32 array; the axis is then n long."""
    moved = np.moveaxis(array, axis, 0)
    result = matrix.astype(np.float32) @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.ascontiguousarray(np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis))


def interpolation_error(slices: np.ndarray, axis: int) -> float:
    """How wrong interpolation between such slices is about to be: the root mean square of what it would get wrong
    between slices twice as thick, which the given ones show. In the unit of the array; 0 for fewer than 4 slices."""
    count = slices.shape[axis] // 2 * 2
    if count < 4:
        return 0.0
    known = np.take(slices, range(count), axis=axis)
    twice = SliceOperator(count // 2, count)
    missed = known - along(twice.restore @ twice.measure, known, axis)
    return float(np.sqrt(np.mean(np.square(missed, dtype=np.float64))))


def expected_error(slices: np.ndarray, axis: int, ratio: float) -> float:
    """The level that the network is told for a ratio; as :func:`interpolation_error`, in the unit of the array.

    For a ratio of 2 the error is one halving of the slices away from what was measured; it is extrapolated by how much
    the halving before brought. That matters for smooth volumes, where each brings much. From a ratio of 4 on the
    further halvings make up for it.
    """
    level = interpolation_error(slices, axis)
    count = slices.shape[axis] // 2 * 2
    share = min(1.0, max(0.0, 2.0 - math.log2(ratio)))
    if count < 8 or share == 0.0:
        return level
    thicker = along(SliceOperator(count // 2, count).measure, np.take(slices, range(count), axis=axis), axis)
    before = interpolation_error(thicker, axis)
    return level * min(1.0, level / before) ** share if before > 0 else level


def finer_grid(ijk_to_ras: np.ndarray, axis: int, coarse: int, fine: int) -> np.ndarray:
    """The 4x4 matrix after array axis ``axis`` (0: k) was divided anew; the edges of the field of view stay."""
    column = 2 - axis
    step = coarse / fine
    matrix = np.array(ijk_to_ras, dtype=float)
    matrix[:3, 3] += matrix[:3, column] * (0.5 * step - 0.5)
    matrix[:3, column] *= step
    return matrix
