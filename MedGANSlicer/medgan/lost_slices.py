"""Slices that are not what they should be: empty ones, exact repetitions, and gaps where one or more are missing.

A gap shows as a step to the next slice that is far larger than those around it. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

AROUND = 4
"""Steps before and after one that it is compared with."""

GAP = 1.45
"""Ratio to the steps around from which a step is a gap; slices of sharp scans stay below."""

CHANCE = 3.0
"""Standard errors of the noise by which a step may be larger or smaller by chance."""

NOISE_ERROR = 0.05
"""How far off the square of the estimated noise may be, as a part of it."""

LONGEST_LINE = 160
"""Voxels along each side of a slice that are looked at, about."""

LEAST_PART = 0.1
"""Voxels that a step is taken from, at least, as a part of those of the step with most: fewer say little."""

LONGEST_FILLED = 3
"""Empty slices in a row, at most, that stand for what was lost: between two legs or kidneys there are more."""

FEWEST = 6
"""Slices below which nothing can be said of gaps."""


@dataclass
class LostSlices:
    """What was found along one array axis, as slice numbers from 0; ``gaps`` lie between a slice and the next."""

    axis: int = 0
    empty: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.empty) + len(self.repeated) + len(self.gaps)


def lost_slices(array: np.ndarray, axes: tuple[int, ...], noise: float = 0.0) -> LostSlices:
    """What is wrong with the slices of a finite [k, j, i] volume across the axis of ``axes`` that has most of it.

    ``noise``: standard deviation of the noise, which adds to every step. Empty slices at the ends do not count.
    """
    return max((_across(array, axis, noise) for axis in axes), key=lambda found: found.count)


def filled_between(array: np.ndarray, found: LostSlices) -> tuple[np.ndarray, list[int]]:
    """The array with its empty slices interpolated linearly between those before and after, float32, and their numbers;
    the array itself where there are none, or so many in a row that they are part of what was scanned."""
    slices = np.moveaxis(array, found.axis, 0)
    # The search looked at a part of the voxels only.
    empty = [number for number in found.empty if slices[number].min() == slices[number].max()]
    filled: list[int] = []
    result = array
    for row in np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1):
        if not 0 < len(row) <= LONGEST_FILLED:
            continue
        if not filled:
            result = array.astype(np.float32)
            slices = np.moveaxis(result, found.axis, 0)
        before, after = slices[row[0] - 1], slices[row[-1] + 1]
        for place, number in enumerate(row.tolist(), 1):
            slices[number] = before + np.float32(place / (len(row) + 1)) * (after - before)
            filled.append(number)
    return result, filled


def _across(array: np.ndarray, axis: int, noise: float) -> LostSlices:
    slices = np.moveaxis(array, axis, 0)
    found = LostSlices(axis)
    if len(slices) < 3:
        return found
    step = [max(1, side // LONGEST_LINE) for side in slices.shape[1:]]
    slices = slices[:, :: step[0], :: step[1]].reshape(len(slices), -1)
    filled = np.flatnonzero(np.ptp(slices, axis=1) > 0)
    if len(filled) < 3:
        return found
    low, high = float(slices.min()), float(slices.max())
    dark = low + 0.1 * (high - low)
    filled = filled[(slices[filled] > dark).any(axis=1)]
    if len(filled) < 3:
        return found
    first, last = int(filled[0]), int(filled[-1])
    found.empty = [number for number in range(first, last) if np.ptp(slices[number]) == 0]
    squares, counts = np.full((2, len(slices) - 1), np.nan)
    for number in range(first, last):
        one, other = slices[number], slices[number + 1]
        if number in found.empty or number + 1 in found.empty:
            continue
        if np.array_equal(one, other):
            found.repeated.append(number + 1)
            continue
        if number in found.repeated:  # the step after a repetition is that of two slices
            continue
        # The rim of a round field of view moves from slice to slice, farthest where it is narrow: padding is no step.
        inside = (np.maximum(one, other) > dark) & (np.minimum(one, other) > low)
        counts[number] = inside.sum()
        if counts[number] >= 32:
            squares[number] = ((one - other)[inside].astype(np.float64) ** 2).mean()
    if np.isfinite(squares).any():
        squares[counts < LEAST_PART * np.nanmax(counts)] = np.nan
    found.gaps = _gaps(squares, counts, noise)
    return found


def _gaps(squares: np.ndarray, counts: np.ndarray, noise: float) -> list[int]:
    """Steps that are far larger than those around them, whatever the noise: it adds to the mean ``squares`` of steps
    over so many voxels by as much as is known, and by chance."""
    gaps: list[int] = []
    of_noise = 2.0 * noise**2
    doubt = of_noise * (CHANCE * np.sqrt(2.0 / np.maximum(counts, 1)) + NOISE_ERROR)
    least = np.sqrt(np.maximum(squares - of_noise - doubt, 0.0))
    steps = np.sqrt(np.maximum(squares - of_noise, doubt))
    if np.isfinite(steps).sum() < FEWEST:
        return gaps
    for number in np.flatnonzero(np.isfinite(steps))[1:-1].tolist():  # what ends there is no gap
        near = steps[max(0, number - AROUND) : number + AROUND + 1].copy()
        near[min(number, AROUND)] = np.nan
        known = near[np.isfinite(near)]
        # The largest of its neighbours, not their median: a change of anatomy is no gap.
        if len(known) >= AROUND and least[number] > GAP * np.max(known) > 0:
            gaps.append(number)
    return gaps
