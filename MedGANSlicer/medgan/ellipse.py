"""An ellipse of k-space: what 3D scans acquire that leave out its corners.

Told in the cosine spectrum of a volume, in rings about two or all axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from medgan.noise import BLOCK, block_coefficients, foreground_threshold, intensity_range, power_of_two_near

SHORTEST = 24
"""Voxels along an axis in which the end of what was acquired can be told."""

LITTLE = 0.05
"""Share of the noise within what was acquired below which there is next to none beyond."""

RINGS, SAMPLED = 48, 80_000
"""Rings of k-space in which an ellipse is looked for, and how many coefficients tell of them at the most."""

STEEP_RIM, STEEP_SHARE = 0.1, 0.155
"""Frequencies, and share of the radius, over which power falls at the rim of an ellipse at the most; at the end of
kernels of CT it takes 0.13 of them, in smoothed volumes a fifth of the radius."""

ROUND = 0.08
"""By how much of the radius the lower and the upper third of a ring may end apart."""

FLAT = 0.1
"""Share of the power in the middle of an ellipse (0.5 to 0.7 of its radius) that there is near its rim: with noise of
half a percent there was 0.13 and more, where there was blur at most 0.08."""

FLAT_OF_KERNEL = 0.75
"""The same in CT: reconstruction kernels of CT let noise fall to 0.2 to 0.65 before it ends,
and leave 0.9 and more where they end at once."""

MEDIAN_OF_SQUARES = 0.4549364
"""Of normal numbers with a variance of 1."""

EMPTY = 0.012
"""Share of the noise within an ellipse that there is in the corners of k-space at the most: 0.0001 to 0.007 were seen,
and 0.02 where a blur was taken for one."""

FLAT_SHARE = 0.05
"""The quantile of the blocks' energies that tells the noise within an ellipse."""


@dataclass(frozen=True)
class Ellipse:
    """What was acquired of a matrix: the cosine coefficients up to ``radius`` along two or all ``axes``, in shares of
    the frequencies that these have. ``rim``: over so much of them it ends."""

    axes: tuple[int, ...]
    radius: float
    rim: float

    def within(self, shape: Sequence[int]) -> np.ndarray:
        """For each coefficient of a matrix of that shape from 0 (not acquired) to 1, float32."""
        squared = sum(np.square(_frequencies(shape[axis], axis)) for axis in self.axes)
        share = np.clip((self.radius + 0.5 * self.rim - np.sqrt(squared)) / self.rim, 0.0, 1.0)
        return np.broadcast_to(share, shape).astype(np.float32)

    def only(self, array: np.ndarray) -> np.ndarray:
        """An array without what the ellipse does not hold of it, float32."""
        coefficients = fft.dctn(np.asarray(array, dtype=np.float32), norm="ortho", workers=-1)
        return fft.idctn(coefficients * self.within(array.shape), norm="ortho", workers=-1, overwrite_x=True)

    def completed(self, array: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
        """The array with noise of that standard deviation where the ellipse holds nothing, float32."""
        noise = np.random.default_rng(seed).standard_normal(array.shape, dtype=np.float32)
        noise *= np.float32(sigma) * np.sqrt(1.0 - self.within(array.shape))
        return np.asarray(array, dtype=np.float32) + fft.idctn(noise, norm="ortho", workers=-1, overwrite_x=True)

    def sigma(self, array: np.ndarray) -> float:
        """Standard deviation of the noise of each coefficient within, from those of the blocks near the rim and the
        blocks with least of them; 0 without any."""
        order = np.indices((BLOCK,) * 3).reshape(3, -1)
        radius = np.sqrt(np.square((order[list(self.axes)] + 0.5) / BLOCK).sum(axis=0)) / self.radius
        chosen = (radius > 0.75) & (radius < 1.0)
        for axis in set(range(3)) - set(self.axes):
            chosen &= order[axis] >= BLOCK // 2
        unit = power_of_two_near(array)
        coefficients = block_coefficients(array) * np.float32(unit)
        low, high = (end * unit for end in intensity_range(array))
        mean = coefficients[:, 0] / BLOCK**1.5 - low
        bright = mean > foreground_threshold(mean, low, high, 0.0)
        if not chosen.any() or not bright.any():
            return 0.0
        count = int(chosen.sum())
        energy = np.quantile(np.square(coefficients[bright][:, chosen]).mean(axis=1), FLAT_SHARE)
        return float(np.sqrt(energy * count / (2.0 * special.gammaincinv(count / 2.0, FLAT_SHARE)))) / unit

    def level(self, array: np.ndarray) -> float:
        """Standard deviation of the noise of a voxel of an array that holds nothing beyond."""
        return self.sigma(array) * math.sqrt(self.share)

    @property
    def share(self) -> float:
        """Of the coefficients, those within."""
        return float(self.within((64,) * 3).mean())


def corner(squares: np.ndarray) -> float:
    """Variance of the noise in the corner of k-space."""
    last = squares[tuple(slice(7 * side // 8, None) for side in squares.shape)]
    return float(np.median(last)) / MEDIAN_OF_SQUARES


def _frequencies(side: int, axis: int) -> np.ndarray:
    """Those of the cosine coefficients along an axis, from 0 to 1; of a shape that is broadcast over the others."""
    shape = [1, 1, 1]
    shape[axis] = side
    return ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)).reshape(shape)


def ellipse_in(squares: np.ndarray, kernel: bool) -> Ellipse | None:
    """The ellipse of squared coefficients beyond which there is next to nothing; None where there is none.

    ``kernel``: they may be of a CT.
    """
    low = squares[tuple(slice(side // 8, side // 4 + 1) for side in squares.shape)]
    if corner(squares) > LITTLE * float(np.median(low)) / MEDIAN_OF_SQUARES:
        return None
    found = []
    for axes in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
        if min(squares.shape[axis] for axis in axes) < SHORTEST:
            continue
        lower, upper = (_cliff(third, FLAT_OF_KERNEL if kernel else FLAT) for third in _rings(squares, axes))
        if lower is None or upper is None:
            continue
        unit = math.sqrt(len(axes)) / RINGS
        radius, rim = unit * upper[0], unit * upper[1]
        if rim <= min(STEEP_RIM, STEEP_SHARE * radius) and abs(radius - unit * lower[0]) <= ROUND:
            found.append(Ellipse(axes, radius, rim))
    return min(found, key=lambda one: one.rim, default=None)


def _rings(squares: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper third of the squared coefficients in each ring about those axes, from the middle of
    k-space to its corners."""
    step = math.ceil((squares.size / SAMPLED) ** (1 / 3))
    frequency = [_frequencies(side, axis) for axis, side in enumerate(squares.shape)]
    frequency = [each[::step, ::step, ::step] for each in frequency]
    squares = squares[::step, ::step, ::step]
    radius = np.sqrt(sum(np.square(frequency[axis]) for axis in axes) / len(axes))
    told = np.ones(squares.shape, dtype=bool)
    for axis, each in enumerate(frequency):
        told &= each > 0.06 if axis in axes else (each > 0.15) & (each < 0.6)
    ring, power = np.broadcast_to(radius, squares.shape)[told], squares[told]
    ring = np.minimum((ring * RINGS).astype(int), RINGS - 1)
    order = np.argsort(ring, kind="stable")
    bounds = np.searchsorted(ring[order], np.arange(RINGS + 1))
    parts = [power[order[start:stop]] for start, stop in itertools.pairwise(bounds)]
    known = [number for number, part in enumerate(parts) if part.size >= 8]
    every = np.arange(max(known, default=0) + 1)
    thirds = np.array([np.quantile(parts[number], (1 / 3, 2 / 3)) for number in known]).reshape(-1, 2)
    lower, upper = (np.interp(every, known, third) if known else np.zeros(1) for third in thirds.T)
    return lower, upper


def _cliff(power: np.ndarray, flat: float) -> tuple[float, int] | None:
    """The ring at which the power falls to next to nothing for good, and over how many it does; None if it does not, or
    has been falling to less than that share (``flat``) before, as blur makes it."""
    count = len(power)
    for end in range(int(0.3 * count), count - 1):
        start = int(0.7 * end)
        within = np.median(power[start : max(end - 3, start + 1)])
        if power[end:].max() < LITTLE * within:
            fall = max(1, int(np.argmax(power[end - 1 :: -1] > 0.5 * within)))
            place = end - 0.5 * fall
            before, near = (
                np.median(power[int(first * place) : max(int(last * place), int(first * place) + 1)])
                for first, last in ((0.5, 0.7), (0.8, 0.97))
            )
            return (place, fall) if near > flat * before else None
    return None
