"""Noise that is not as strong everywhere in a volume, which no single number tells a network of.

- It may follow the place: parallel imaging, the correction of coil sensitivities and the path of the rays through the
  body make it several times as strong in some places as in others. Divided by a smooth field of its local strength,
  noise is as strong everywhere (Aja-Fernandez, Vegas-Sanchez-Ferrero 2016, "Statistical analysis of noise in MRI",
  chapter 8).
- It may follow the brightness, as that of counts does, with its square root. The root of such a volume has noise that
  is as strong everywhere (Bartlett 1936; Anscombe 1948, Biometrika 35:246).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgan.noise import (
    BLOCK,
    HIGHEST_ORDER,
    QUIET,
    block_coefficients,
    cosine_orders,
    foreground_threshold,
    intensity_range,
    level_of_energies,
    noise_profile,
)

WINDOW = 6
"""Side in blocks of the windows in which the noise is measured; they overlap by half."""

FEWEST_BLOCKS = 40
"""In a window; with fewer the foreground there does not tell its noise."""

FEWEST_IN_ALL = 300

UNEVEN = 1.35
"""Ratio of the strongest to the weakest noise (95 and 5 % of the windows) from which on it counts as uneven: chance
alone makes up to 1.1."""

LARGEST_CHANGE = 5.0
"""Largest and one over the smallest factor of the field."""


SHIFTS, ENOUGH_BLOCKS = ((2, 2, 2), (2, 0, 2), (0, 2, 0)), 3000
"""Voxels by which the grid of blocks is moved, for more of them in small volumes."""

GROUPS, FEWEST_OF_GROUP = 6, 48

COUNTS = 0.35
"""Exponent with which noise grows with the brightness, from which on it is taken for that of counts (0.5; what is
measured scatters from 0.4 to 0.7). Noise that does not follow it shows -0.3 to 0.3."""

LEAST_SPAN, LEAST_CORRELATION = 0.5, 0.8
"""The brightness has to spread over so much (of its logarithm) and the noise to follow it so well to tell."""


@dataclass(frozen=True)
class Evened:
    """A volume whose noise is as strong everywhere. ``counts``: it is the root of the volume; ``field``: and it was
    divided by that."""

    array: np.ndarray
    counts: bool = False
    field: np.ndarray | None = None

    def back(self, result: np.ndarray, sigma: float) -> np.ndarray:
        """A denoised ``array`` as the volume; ``sigma``: the noise that was taken from ``array``."""
        variance = np.float32(sigma**2)
        if self.field is not None:
            result = result * self.field
            variance = variance * np.square(self.field)
        # The mean of the roots is smaller than the root of the mean: E[x] = E[sqrt(x)]^2 + Var[sqrt(x)].
        return np.square(result) + variance if self.counts else result


def evened(array: np.ndarray, positive: bool, sigma: float, by_place: bool = True) -> Evened:
    """The [k, j, i] volume, in which 0 is the darkest that can be, with noise that is as strong everywhere.

    ``positive``: no value of it is below 0; others are no counts. ``sigma``: about the standard deviation of its noise.
    ``by_place``: also where it follows the place.
    """
    if min(array.shape) < BLOCK:
        return Evened(array)
    seen = _foreground(array, sigma)
    counts = positive and _follows_counts(array, sigma, seen)
    if counts:
        array = np.sqrt(np.maximum(array, np.float32(0.0)))
        seen = _foreground(array, noise_profile(array).sigma)
    field = _field(seen, array.shape) if by_place else None
    return Evened(array if field is None else array / field, counts, field)


@dataclass(frozen=True)
class _Blocks:
    """On the grid of the blocks: energy of the highest frequencies, mean above the darkest, and what is foreground."""

    energy: np.ndarray
    mean: np.ndarray
    inside: np.ndarray


def _foreground(array: np.ndarray, sigma: float) -> _Blocks:
    low, high = intensity_range(array)
    counts = [side // BLOCK for side in array.shape]
    highest = cosine_orders() >= HIGHEST_ORDER
    energy, mean = np.zeros(counts), np.zeros(counts)
    for number in range(counts[0]):  # a slab at a time saves memory
        coefficients = block_coefficients(array[BLOCK * number : BLOCK * (number + 1)])
        energy[number] = np.square(coefficients[:, highest]).mean(axis=1).reshape(counts[1:])
        mean[number] = (coefficients[:, 0] / BLOCK**1.5).reshape(counts[1:]) - low
    bright = mean > foreground_threshold(mean, low, high, sigma)
    # What was filled in, masked or cut off at a limit has no noise, and the blocks at its rim have but a part of it.
    quiet = bright & (energy <= (QUIET * sigma) ** 2)
    return _Blocks(energy, mean, bright & ~ndimage.binary_dilation(quiet, np.ones((3, 3, 3))))


def _follows_counts(array: np.ndarray, sigma: float, first: _Blocks) -> bool:
    """Whether the noise of a volume grows with its brightness as that of counts, as far as can be told."""
    seen = [first]
    for shift in SHIFTS if min(array.shape) >= 2 * BLOCK else ():
        if sum(int(one.inside.sum()) for one in seen) < ENOUGH_BLOCKS:
            seen.append(_foreground(array[tuple(slice(voxels, None) for voxels in shift)], sigma))
    mean = np.concatenate([blocks.mean[blocks.inside] for blocks in seen])
    energy = np.concatenate([blocks.energy[blocks.inside] for blocks in seen])
    if len(mean) < 2 * FEWEST_OF_GROUP:
        return False
    parts = np.array_split(np.argsort(mean), max(2, min(GROUPS, len(mean) // FEWEST_OF_GROUP)))
    brightness = np.log([np.median(mean[part]) for part in parts])
    noise = np.log([level_of_energies(energy[part]) for part in parts])
    if brightness[-1] - brightness[0] < LEAST_SPAN or np.corrcoef(brightness, noise)[0, 1] < LEAST_CORRELATION:
        return False
    return float(np.polyfit(brightness, noise, 1)[0]) >= COUNTS


def _field(seen: _Blocks, shape: tuple[int, ...]) -> np.ndarray | None:
    """Local standard deviation of the noise of a volume of that shape over its (geometric) mean, float32.

    None where the noise is as strong everywhere, as far as can be told, and where there is too little to measure it.
    """
    if seen.inside.sum() < FEWEST_IN_ALL:
        return None
    level, weight = _windows(seen.energy, seen.inside)
    known = weight > 0.0
    if known.sum() < 2:
        return None
    smooth = _spread_over(level, weight)
    weakest, strongest = np.percentile(smooth[known], [5, 95])
    if strongest - weakest < math.log(UNEVEN):
        return None
    centre = float(np.average(smooth[known], weights=weight[known]))
    most = math.log(LARGEST_CHANGE)
    field = np.clip(smooth - centre, -most, most).astype(np.float32)
    for axis, side in enumerate(shape):
        field = np.moveaxis(np.tensordot(_interpolation(side, field.shape[axis]), field, (1, axis)), 0, axis)
    return np.exp(field)


def _windows(energy: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the noise in each window, and the number of blocks that told it; 0 where it is not known."""
    counts = [math.ceil(side / (WINDOW / 2)) for side in energy.shape]
    level, weight = np.zeros(counts), np.zeros(counts)
    for place in np.ndindex(*counts):
        middle = [
            (number + 0.5) * side / count for number, side, count in zip(place, energy.shape, counts, strict=True)
        ]
        part = tuple(slice(max(0, int(at - WINDOW / 2)), math.ceil(at + WINDOW / 2)) for at in middle)
        chosen = energy[part][inside[part]]
        if chosen.size >= FEWEST_BLOCKS:
            level[place], weight[place] = math.log(level_of_energies(chosen)), chosen.size
    return level, weight


def _spread_over(level: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The levels smoothed over neighbouring windows, and where none are known those of the nearest."""
    total = ndimage.gaussian_filter(level * weight, 1.0, mode="constant")
    count = ndimage.gaussian_filter(weight, 1.0, mode="constant")
    unknown = count <= 1e-6
    smooth = total / np.where(unknown, 1.0, count)
    if unknown.any():
        nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
        smooth = smooth[tuple(nearest)]
    return smooth


def _interpolation(side: int, count: int) -> np.ndarray:
    """(side, count) float32: linear interpolation from the middles of ``count`` windows to ``side`` voxels."""
    at = np.clip((np.arange(side) + 0.5) / side * count - 0.5, 0.0, count - 1.0)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(count)[None])).astype(np.float32)
