"""How blurred a volume is along each axis, beyond what a sharp scan of its grid shows.

An edge that is blurred once more weakens the less, the more blurred it was (Zhuo and Sim, Pattern Recognition 44:1852,
2011); but thin anatomy weakens, too. Blur takes the high frequencies away; but anatomy has few of them by nature. Small
networks weigh what both show, and the noise. They were trained on volumes that had been blurred by known widths
(:mod:`medgan.recipes.blur`). NumPy and SciPy only.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft, ndimage

from medgan.acquired import cut_off
from medgan.noise import intensity_range
from medgan.outside import filled, outside
from medgan.sharpness import NATIVE, WIDEST, estimate_blur, middle

WEIGHTS = Path(__file__).with_suffix(".npz")
"""Plain arrays: ``mean`` and ``scale`` (F,) of the features; of the networks ``weight0``, ``bias0`` and so on, with the
networks as the first axis."""

SCALES = (0.6, 0.9, 1.3, 1.9, 2.7, 3.8)
"""Standard deviations in voxels of the Gaussians whose slopes are compared."""

EDGES_AT = 3
"""Place in ``SCALES`` of the slope that says where the edges are."""

STRONGEST, STRONG = 0.02, 0.1
"""Shares of the local maxima of the slope that count as edges."""

BANDS = 10
"""Equal parts of the frequencies along an axis; the lowest is left out."""

SHORTEST_SIDE = 16
"""Voxels that an axis needs to be measured along."""

LARGEST_SIDE = 96
"""A larger volume is measured in its middle."""

FLOOR = 0.0005
"""Noise, as a share of the intensity range, that a volume is given at least: the networks have seen none without."""

FEWEST_EDGES = 30

ALIKE, ALIKE_SIDES, NEAR = 0.75, 0.5, 0.25
"""Axes with this share of the largest width (the second where voxels are about as long along them as along the finest),
or less than it by so many voxels, count as blurred alike: the measurement errs by a fifth, and more where there is
little blur or little to see along an axis."""

EQUAL = 1.3
"""Sides of a voxel up to this multiple of the shortest count as about as long."""

LEAST_SHARE, LEAST_SHARE_ACROSS = 0.3, 0.4
"""Shares below which an axis counts as sharp: within slices, and across thick ones. Measured on six brains, where
within the slices 0.6 to 1.8 voxels are found: across at most 0.24 of that when the slices alone are blurred, at least
0.6 when all axes are."""

FAINT = 0.3
"""Width in voxels below which no axis is told from the others."""

THICK = 1.5
"""Voxels that are so many times as long along an axis as along the finest are slices there."""

SURE_SIDE = 56
"""Voxels a side below which thin shapes of a sharp volume are taken for blurred: there the strongest edges, which tell
too little rather than too much, have to agree."""

TINY = 1e-6


def blur_along(array: np.ndarray) -> np.ndarray:
    """(3,) standard deviations in voxels of the blur along k, j and i of a volume [k, j, i], 0 to 3.

    NaN along axes that are too short, or where there are no edges. Not finite voxels are taken as the median. The rim
    of padding and masks is no edge.
    """
    array = middle(np.asarray(array, dtype=np.float32), LARGEST_SIDE)
    finite = np.isfinite(array)
    if not finite.all():
        array = np.where(finite, array, np.float32(np.median(array[finite])) if finite.any() else np.float32(0.0))
    array = filled(array, outside(array))
    found = np.full(3, np.nan)
    low, high = intensity_range(array)
    if not high > low or array.min() == array.max():
        return found
    grain = np.random.default_rng(0).standard_normal(array.shape, dtype=np.float32)
    array = (array - np.float32(low)) / np.float32(high - low) + np.float32(FLOOR) * grain
    for axis in range(3):
        seen = features(array, axis)
        if seen is not None:
            found[axis] = np.sqrt(max(np.exp(2.0 * _answer(seen)) - NATIVE**2, 0.0))
    return np.minimum(found, WIDEST)


@dataclass(frozen=True)
class Blur:
    """What was measured of the blur of a volume, in voxels beyond what a sharp scan shows.

    ``along``: (3,) standard deviations along k, j and i, NaN where it can not be measured. ``width``: that of the axes
    within slices that are blurred; NaN if none can be measured. ``spacing``: the sides of a voxel along k, j and i.
    ``cut``: the axes along which a part of k-space was left out, which looks like blur, and counts as none.
    """

    along: np.ndarray
    width: float
    spacing: tuple[float, ...]
    cut: tuple[int, ...] = ()

    @property
    def within(self) -> tuple[int, ...]:
        """The axes that do not lead across thick slices."""
        return _shorter(self.spacing, THICK)

    def shares(self) -> tuple[float, ...]:
        """Which part of the width each axis has: 1 where it is about the same, 0 where there is hardly any.

        A scanner whose blur is the same in mm has half of it in voxels that are twice as long. Where an axis can not be
        measured it is taken for one like the others, but not across thick slices, which seldom are blurred into each
        other. An axis along which a part of k-space was left out has none.
        """
        measured, reference = np.isfinite(self.along), _reference(self.along, self.spacing)
        equal = _shorter(self.spacing, EQUAL)
        unknown = tuple(float(axis in self.within and axis not in self.cut) for axis in range(3))
        if math.isnan(reference) or reference < FAINT:
            return unknown
        shares = []
        for axis in range(3):
            share = float(self.along[axis]) / reference if measured[axis] else unknown[axis]
            least = LEAST_SHARE if axis in self.within else LEAST_SHARE_ACROSS
            alike = _alike(share * reference, reference, axis in equal)
            shares.append(1.0 if alike else 0.0 if share < least else share)
        return tuple(shares)


def measure_blur(array: np.ndarray, spacing: Sequence[float]) -> Blur:
    """The blur of a volume [k, j, i]. ``spacing`` along k, j and i."""
    spacing = tuple(float(side) for side in spacing)
    along = blur_along(array)
    blurry = np.flatnonzero(along > FAINT)
    cut = tuple(axis for axis in cut_off(array) if axis in blurry) if len(blurry) else ()
    along[list(cut)] = 0.0
    width, within = _reference(along, spacing), _shorter(spacing, THICK)
    if not math.isnan(width) and min(array.shape[axis] for axis in within) < SURE_SIDE:
        edges = estimate_blur(filled(array, outside(array)), within)
        width = min(width, math.sqrt(max(edges**2 - NATIVE**2, 0.0))) if not math.isnan(edges) else math.nan
    return Blur(along, width, spacing, cut)


def _shorter(spacing: Sequence[float], multiple: float) -> tuple[int, ...]:
    """The axes along which voxels are shorter than so many times their shortest side."""
    return tuple(axis for axis in range(3) if spacing[axis] < multiple * min(spacing))


def _alike(width: float, most: float, equal: bool) -> bool:
    """Whether an axis counts as blurred like the most blurred one; ``equal``: its voxels are about as long as any."""
    return width >= (ALIKE_SIDES if equal else ALIKE) * most or width > most - NEAR


def _reference(along: np.ndarray, spacing: Sequence[float]) -> float:
    """The geometric mean of the whole widths (that of a sharp scan with them) of those axes within slices that are
    about as blurred as the most blurred one, less that of a sharp scan; NaN when none is known."""
    known = [axis for axis in _shorter(spacing, THICK) if np.isfinite(along[axis])]
    if not known:
        return math.nan
    most, equal = max(along[axis] for axis in known), _shorter(spacing, EQUAL)
    alike = [along[axis] for axis in known if _alike(along[axis], most, axis in equal)]
    return math.sqrt(max(float(np.exp(np.log(np.hypot(alike, NATIVE)).mean())) ** 2 - NATIVE**2, 0.0))


def features(array: np.ndarray, axis: int) -> np.ndarray | None:
    """(F,) what the edges, the spectrum and the noise of a finite float32 array show along an axis; None without edges.

    All are logarithms of ratios, so that unit and offset of the volume do not matter.
    """
    if array.shape[axis] < SHORTEST_SIDE or min(array.shape) < 3:
        return None
    array = np.moveaxis(array, axis, 0)
    edges = _edges(array)
    if edges is None:
        return None
    ratios, strength = edges
    bands = _spectrum(array)
    high, middle, low = _corner(array)
    noise = [
        np.log(high / (strength + 1e-12) + TINY),
        bands[-1] - 2.0 * np.log(high + 1e-20),
        bands[0] - 2.0 * np.log(strength + 1e-20),
        np.log(middle / (high + 1e-12) + TINY),
        np.log(low / (middle + 1e-12) + TINY),
    ]
    found = np.array([*ratios, *(bands[:-1] - bands[1:]), *noise], dtype=np.float32)
    return found if np.isfinite(found).all() else None


def _edges(array: np.ndarray) -> tuple[list[float], float] | None:
    """How the slope along the first axis falls from scale to scale at the strongest edges, and how strong they are."""
    across = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(array, 1.0, axis=1), 1.0, axis=2)
    slopes = [np.abs(ndimage.gaussian_filter1d(across, scale, axis=0, order=1)) for scale in SCALES]
    at = slopes[EDGES_AT]
    inner = (slice(3, -3), slice(1, -1), slice(1, -1))
    peak = (at >= np.maximum(np.roll(at, 1, 0), np.roll(at, -1, 0)))[inner]
    slopes = [slope[inner] for slope in slopes]
    at = slopes[EDGES_AT]
    peaks = at[peak]
    if peaks.size < FEWEST_EDGES or peaks.max() <= TINY * np.abs(array).max():
        return None
    ratios: list[float] = []
    for share in (STRONGEST, STRONG):
        edge = peak & (at >= np.quantile(peaks, 1.0 - share))
        strong = [slope[edge] for slope in slopes]
        for one, wider in itertools.pairwise(strong):
            ratio = np.log(one / (wider + 1e-12) + TINY)
            ratios.append(float(ratio.mean()))
            if share == STRONGEST:
                ratios += [float(value) for value in np.quantile(ratio, (0.15, 0.85))]
    return ratios, float(np.quantile(peaks, 1.0 - STRONGEST))


def _spectrum(array: np.ndarray) -> np.ndarray:
    """(BANDS - 1,) logarithms of the mean power along the first axis, from low to high frequencies."""
    coefficients = fft.dctn(array - array.mean(), axes=(0,), norm="ortho")
    power = np.square(coefficients).mean(axis=(1, 2))
    place = np.arange(len(power)) * BANDS // len(power)
    return np.array([np.log(power[place == band].mean() + 1e-20) for band in range(1, BANDS)])


def _corner(array: np.ndarray) -> tuple[float, float, float]:
    """Root mean squares of the highest frequencies along all axes, which are noise for the most part, and of middle and
    low ones along the first axis (low along the others)."""
    sides = [side // 4 * 4 for side in array.shape]
    coefficients = fft.dctn(array[tuple(slice(side) for side in sides)], norm="ortho")
    last, half = [3 * side // 4 for side in sides], [side // 2 for side in sides]

    def size(first: slice, others: tuple[slice, slice]) -> float:
        return float(np.sqrt(np.square(coefficients[(first, *others)]).mean()))

    low = (slice(half[1]), slice(half[2]))
    high = (slice(last[1], None), slice(last[2], None))
    return (
        size(slice(last[0], None), high),
        size(slice(half[0], last[0]), low),
        size(slice(half[0] // 2, half[0]), low),
    )


def _answer(seen: np.ndarray) -> float:
    """The mean answer of the networks: the logarithm of the whole width in voxels, that of a sharp scan with it."""
    held = _weights()
    value = np.clip((seen - held["mean"]) / held["scale"], -4.0, 4.0)
    layers = list(_layers(held))
    values = np.broadcast_to(value, (len(layers[0][0]), len(value)))
    for number, (weight, bias) in enumerate(layers):
        values = np.einsum("noi,ni->no", weight, values) + bias
        if number + 1 < len(layers):
            values = np.tanh(values)
    return float(values.mean())


def _layers(held: dict[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    number = 0
    while f"weight{number}" in held:
        yield held[f"weight{number}"], held[f"bias{number}"]
        number += 1


@functools.cache
def _weights() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
