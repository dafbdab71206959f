"""The matrix that a scanner acquired, where it delivered a finer one.

MR scanners fill the outer part of k-space with zeros: the volume has more voxels than were acquired, and its noise is
correlated. It is as strong at all cosine coefficients of the acquired matrix, so that on a grid with as many voxels it
is white, which is what networks take away best. The coefficients beyond hold next to nothing and stay as they are.

The corners of that matrix may not have been acquired either: 3D scans often leave out what lies beyond an ellipse of
k-space. With noise of the same strength put there for the network, and taken out again, noise is white there, too.

The cosine transform (DCT-II) stands for the Fourier transform: it does not take the faces of a volume for edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from medgan.ct_kernel import KERNEL, low_share
from medgan.ellipse import EMPTY, LITTLE, SHORTEST, Ellipse, corner, ellipse_in
from medgan.noise import (
    NoiseProfile,
    in_hounsfield_units,
    intensity_range,
    noise_profile,
    noise_sigma,
    of_magnitudes,
    padding_as_air,
    sampled_blocks,
)
from medgan.outside import filled, nearest, outside

LONGEST = 96
"""Voxels along each axis, in the middle of what is bright, in which the band is measured."""

BRIGHT = 0.3
"""Share of the range of a smoothed volume from which on it is bright."""

SAMPLES = 1_000_000
"""Voxels, about, from which the middle is found."""

STEEP = 0.088
"""Share of the frequencies over which it falls from a half to that. Scanners that let k-space fade towards its end
take 0.08 at most, interpolation to twice the voxels and blur 0.09 and more."""

LEVEL, LEVEL_AT_LAST = 0.2, 0.5
"""Share of the noise in the middle of the band (0.5 to 0.7) that there is towards its end: such scanners leave a
quarter and more, interpolation a tenth; and where the band ends at ``LAST`` or later, as repeated voxels fade there."""

LAST = 0.85

WIDEST = 0.98
"""A band that holds a larger share of the coefficients is left as it is."""

NARROWEST = 0.35
"""No band is looked for below this share."""

STEP = 0.72
"""How far, in octaves, power falls on a step, beyond twice what it falls before and after. Half of k-space left out
beyond a frequency (partial Fourier) makes 0.8 to 1.8; scans, blurred or not, at most 0.6."""

STEP_SIDE, STEP_GAP = 5, 2
"""Frequencies of which the mean is taken on each side of a step, and those at the step that are left out."""

SHORTEST_FOR_STEP, LEAST_FOR_STEP = 48, 3e-4
"""Voxels along an axis in which a step can be told, and noise, as a share of the brightest, by which it is."""


@dataclass(frozen=True)
class Matrix:
    """What a scanner acquired of a volume: so many voxels along each axis, and an ``ellipse`` of their coefficients
    where it left out the corners."""

    shape: tuple[int, ...]
    ellipse: Ellipse | None = None

    def noise(self, coarse: np.ndarray) -> NoiseProfile:
        """The noise of an array of that shape, as if all had been acquired."""
        if self.ellipse is None:
            return noise_profile(coarse)
        return noise_profile(self.ellipse.completed(coarse, self.ellipse.sigma(coarse)))

    def level(self, coarse: np.ndarray) -> float:
        """Standard deviation of the noise of a voxel of an array of that shape."""
        return noise_profile(coarse).level if self.ellipse is None else self.ellipse.level(coarse)


def _may_have_a_kernel(array: np.ndarray) -> bool:
    """Whether it may be a CT, whose reconstruction kernel lets the noise fade."""
    return in_hounsfield_units(padding_as_air(array)) or low_share(array) < KERNEL[0]


def acquired_matrix(array: np.ndarray) -> Matrix | None:
    """What the scanner acquired of a [k, j, i] array; None where that is all of it, or can not be told."""
    kernel = not of_magnitudes(array, intensity_range(array)[0]) and _may_have_a_kernel(array)
    part = np.asarray(array[_middle(array)], dtype=np.float32)
    cut = outside(part)
    part = _scaled(part, cut)
    squares = _squares(part, cut)
    shares = _shares(squares)
    fewer = tuple(round(share * side) for share, side in zip(shares, part.shape, strict=True))
    if fewer != part.shape:
        part, cut = reduced(part, fewer, not (part < 0).any()), None if cut is None else nearest(cut, fewer)
        squares = _squares(part, cut)
    ellipse = ellipse_in(squares, kernel)
    if ellipse is not None and corner(squares) > EMPTY * ellipse.sigma(part) ** 2:  # noise reaches the corners, too
        ellipse = None
    if ellipse is not None and ellipse.radius < WIDEST:
        smaller = min(1.0, ellipse.radius + ellipse.rim)
        shares = [share * smaller if axis in ellipse.axes else share for axis, share in enumerate(shares)]
        ellipse = Ellipse(ellipse.axes, ellipse.radius / smaller, ellipse.rim / smaller)
    shape = tuple(round(share * side) for share, side in zip(shares, array.shape, strict=True))
    return None if shape == array.shape and ellipse is None else Matrix(shape, ellipse)


def _shares(squares: np.ndarray) -> list[float]:
    """As far as noise reaches along each axis of squared coefficients, as a share of its frequencies.

    1 along axes where it reaches all, or where it can not be told.
    """
    # Of the other axes first what is certainly acquired, anatomy among it, then what is mostly noise.
    shares = [_edge(_power(squares, axis, (0.125, NARROWEST), (1.0,) * 3)) for axis in range(3)]
    return [_end(_power(squares, axis, (0.5, 0.95), shares), share) for axis, share in enumerate(shares)]


def cut_off(array: np.ndarray) -> tuple[int, ...]:
    """The axes of a [k, j, i] array along which a part of k-space was left out beyond a frequency, as in partial
    Fourier acquisitions that were filled up with zeros: the noise falls there on a step, and anatomy with it."""
    part = np.asarray(array[_middle(array)], dtype=np.float32)
    finite = np.isfinite(part)
    if not finite.all():
        part = np.where(finite, part, np.median(part[finite]) if finite.any() else np.float32(0.0))
    cut = outside(part)
    part = _scaled(part, cut)
    if noise_profile(part).sigma < LEAST_FOR_STEP:
        return ()
    squares = _squares(part, cut)
    ring, shares = (0.5, 0.95), (1.0,) * 3
    return tuple(
        axis
        for axis, side in enumerate(part.shape)
        if side >= SHORTEST_FOR_STEP and _largest_step(_power(squares, axis, ring, shares)) > STEP
    )


def _largest_step(power: np.ndarray) -> float:
    """In octaves, see ``STEP``."""
    octaves = np.log2(np.maximum(power, 1e-30))
    means = np.convolve(octaves, np.ones(STEP_SIDE) / STEP_SIDE, "valid")  # of those from each frequency on
    at = np.arange(len(power) // 5, len(power) - STEP_GAP - 2 * STEP_SIDE)
    before, after = at - STEP_GAP - STEP_SIDE, at + STEP_GAP
    earlier = np.maximum(before - STEP_SIDE, 0)
    slopes = np.maximum(np.abs(means[earlier] - means[before]), np.abs(means[after] - means[after + STEP_SIDE]))
    return float((means[before] - means[after] - 2.0 * slopes).max())


def _scaled(part: np.ndarray, cut: np.ndarray | None) -> np.ndarray:
    """An array with what is outside filled in, at most 1: squares of very large or small numbers do not fit float32."""
    part = filled(part, cut)
    return part / max(float(np.abs(part).max()), 1e-30)


def _squares(part: np.ndarray, cut: np.ndarray | None) -> np.ndarray:
    """Squared cosine coefficients of what is bright in an array, in a mean the variance of noise."""
    window = _window(part, cut)
    squares = np.square(fft.dctn((part - part.mean()) * window, norm="ortho", workers=-1))
    return squares / max(float(np.square(window).mean()), 1e-30)


def acquired_middle(array: np.ndarray) -> tuple[np.ndarray, tuple[float, ...], Matrix] | None:
    """The middle of a [k, j, i] array on the matrix that was acquired, float32, how many voxels of the array one is
    long there along each axis, and that matrix; None where the array has no other."""
    part = np.asarray(array[_middle(array)], dtype=np.float32)
    finite = np.isfinite(part)
    if not finite.any():
        return None
    if not finite.all():
        part = np.where(finite, part, np.median(part[finite]))
    matrix = acquired_matrix(part)
    if matrix is None:
        return None
    coarse = on_matrix(part, matrix.shape, not (part < 0).any(), outside(part))
    return coarse, tuple(side / few for side, few in zip(part.shape, matrix.shape, strict=True)), matrix


def acquired_sigma(array: np.ndarray) -> float | None:
    """The noise of a [k, j, i] array on the matrix that was acquired; None where that is the array's own."""
    coarse = acquired_middle(array)
    return None if coarse is None else coarse[2].level(coarse[0])


def noise_level(array: np.ndarray, most: int = 0) -> float | None:
    """The noise of a [k, j, i] array of finite numbers, on the matrix that was acquired where it has another one.

    ``most``: blocks of the array in which it is measured (0: all). None where the array is too small.
    """
    return acquired_sigma(array) or noise_sigma(sampled_blocks(array, most) if most else array)


def _middle(array: np.ndarray) -> tuple[slice, ...]:
    """A box of at most ``LONGEST`` voxels a side around the middle of what is brighter than the darkest."""
    box = []
    step = max(1, round((array.size / SAMPLES) ** (1 / 3)))
    sample = array[::step, ::step, ::step]
    finite = np.isfinite(sample)
    low = float(sample[finite].min()) if finite.any() else 0.0
    sample = sample if finite.all() else np.where(finite, sample, low)
    for axis, side in enumerate(array.shape):
        others = tuple(each for each in range(3) if each != axis)
        weight = sample.mean(axis=others, dtype=np.float64) - low
        middle = step * float(np.average(np.arange(len(weight)), weights=weight)) if weight.any() else side / 2
        start = min(max(0, round(middle - LONGEST / 2)), max(0, side - LONGEST))
        box.append(slice(start, start + LONGEST))
    return tuple(box)


def _window(part: np.ndarray, cut: np.ndarray | None) -> np.ndarray:
    """From 0 in the dark, and outside, to 1 in the bright, without edges: magnitudes of noise in air hold all
    frequencies."""
    smooth = ndimage.gaussian_filter(part, 3.0)
    dark, bright = np.percentile(smooth, (1.0, 95.0))
    inside = smooth > dark + BRIGHT * (bright - dark)
    if cut is not None:
        inside &= ~cut
    window = ndimage.gaussian_filter(inside.astype(np.float32), 6.0)
    return np.clip(2.0 * window - 1.0, 0.0, 1.0)


def _power(squares: np.ndarray, axis: int, ring: tuple[float, float], shares: Sequence[float]) -> np.ndarray:
    """The median of squared coefficients for each frequency along an axis, over a ring of those of the other axes: from
    and to a part of the share of each that is believed to be acquired."""
    among = tuple(
        slice(None) if each == axis else slice(int(ring[0] * share * side), max(1, math.ceil(ring[1] * share * side)))
        for each, (side, share) in enumerate(zip(squares.shape, shares, strict=True))
    )
    return np.median(np.moveaxis(squares[among], axis, 0).reshape(squares.shape[axis], -1), axis=1)


def _end(power: np.ndarray, share: float) -> float:
    """The share of the frequencies at which noise ends near that ``share``; 1 unless there is next to none beyond, and
    up to there as much as before."""
    count = len(power)
    if share > WIDEST:
        return 1.0
    edge = share * count
    within, before, near = (
        float(np.median(power[int(first * edge) : int(last * edge)]))
        for first, last in ((0.5, 0.95), (0.5, 0.7), (0.8, 0.97))
    )
    furthest = min(count, math.ceil(edge + 0.05 * count))
    end = max(edge, furthest - int(np.argmax(power[furthest - 1 :: -1] > 0.5 * within)))
    beyond = float(power[min(count - 1, round(end + 0.03 * count)) :].mean())
    level = LEVEL if share < LAST else LEVEL_AT_LAST
    return end / count if beyond < LITTLE * within and near > level * before else 1.0


def _edge(power: np.ndarray) -> float:
    """The share of ``power`` (one value a frequency) after which it falls off a cliff; 1 where there is none."""
    count = len(power)
    if count < SHORTEST:
        return 1.0
    width = max(1, count // 40)
    smooth = np.convolve(np.pad(power, width, mode="edge"), np.ones(2 * width + 1) / (2 * width + 1), "valid")
    for end in range(int(NARROWEST * count), count - 2):
        within = np.median(power[int(0.7 * end) : end - 2 * width])
        beyond = min(smooth[end:].max(), power[end:].mean()) if end > count - 2 * width else smooth[end:].max()
        if beyond < LITTLE * within:
            edge = end - int(np.argmax(power[end - 1 :: -1] > 0.5 * within))
            if end - edge <= max(4.0, STEEP * count):
                return edge / count
    return 1.0


def on_matrix(
    array: np.ndarray, shape: Sequence[int], positive: bool, cut: np.ndarray | None, fill: bool = False
) -> np.ndarray:
    """The array on a matrix of that shape over the same field of view. What is outside (``cut``, see medgan.outside) is
    so there, too, unless it is to be filled in; its rim does not ring."""
    coarse = reduced(filled(array, cut), shape, positive)
    if cut is None or fill:
        return coarse
    return np.where(nearest(cut, shape), nearest(array, shape), coarse)


def reduced(array: np.ndarray, shape: Sequence[int], positive: bool = False) -> np.ndarray:
    """The array on a grid of that shape over the same field of view: float32, of its first cosine coefficients.

    ``positive``: no value of it is below 0, and none is to become so.
    """
    coefficients = fft.dctn(np.asarray(array, dtype=np.float32), norm="ortho", workers=-1)
    kept = coefficients[tuple(slice(side) for side in shape)] * np.float32(np.sqrt(np.prod(shape) / array.size))
    result = fft.idctn(kept, norm="ortho", workers=-1, overwrite_x=True)
    return np.maximum(result, 0.0, out=result) if positive else result


def enlarged(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The same on a finer grid: the inverse of :func:`reduced` for what has no other coefficients."""
    finer = np.zeros(shape, np.float32)
    coefficients = fft.dctn(np.asarray(array, dtype=np.float32), norm="ortho", workers=-1)
    finer[tuple(slice(side) for side in array.shape)] = coefficients * np.float32(np.sqrt(finer.size / array.size))
    return fft.idctn(finer, norm="ortho", workers=-1, overwrite_x=True)


def acquired_grid(ijk_to_ras: np.ndarray, shape: Sequence[int], fewer: Sequence[int]) -> np.ndarray:
    """The 4x4 ijk-to-RAS of the grid of so many voxels [k, j, i] over the field of view of one of that shape."""
    grid = ijk_to_ras.copy()
    for axis, (side, few) in enumerate(zip(shape, fewer, strict=True)):
        column = ijk_to_ras[:3, 2 - axis]
        grid[:3, 2 - axis] = column * (side / few)
        grid[:3, 3] += column * (side / few - 1.0) / 2.0
    return grid
