"""Gaussian blur and its regularised inverse, exact for a volume that is mirrored at its faces.

There the cosine transform diagonalises the blur: coefficient with frequency w is multiplied by exp(-s^2 w^2 / 2). The
inverse divides by it where the signal is stronger than the noise and fades where it is not (Wiener's filter for a
signal whose power falls with the square of the frequency).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from medgan.noise import NoiseProfile, block_coefficients

NOISE_WEIGHT = 0.006
"""How much of the noise the inverse may keep out itself; the less, the sharper and the noisier it is."""

LEAST_SIGNAL = 0.1
"""Share of the squared differences of neighbours that is signal at least."""

NOISE_FLOOR = 0.001
"""Smallest noise, as a share of the range, that the inverse is made for; below it rounding would be sharpened."""


STEEPNESS_OF_TRAINING, CHANGE_WITH_STEEPNESS = 2.73, 1.21
"""Where the power of a signal falls with this exponent of the frequency, the inverse is as in training; for one more
the regularisation is exp(this) times as strong. Fitted to 19 volumes (those of the training and the validation)."""

LEAST_CHANGE, MOST_CHANGE = 1.0 / 3.0, 10.0
"""Between these factors of it the networks were found to know what to do with another regularisation."""

BANDS = 2.0 * math.pi * np.geomspace(0.04, 0.5, 14)
"""Borders of the bands of frequencies, in radians a voxel, over which power is averaged."""

Widths = float | Sequence[float]
"""Standard deviation of a Gaussian in voxels: the same along every axis, or along k, j and i (0: no blur)."""


def blurred(array: np.ndarray, sigma_voxels: Widths) -> np.ndarray:
    """A [k, j, i] float32 array after a Gaussian blur with that standard deviation along each axis."""
    coefficients = fft.dctn(array, norm="ortho", workers=-1)
    for axis, passed in enumerate(_passed(array.shape, sigma_voxels)):
        coefficients *= passed.reshape([-1 if each == axis else 1 for each in range(3)])
    return fft.idctn(coefficients, norm="ortho", workers=-1, overwrite_x=True).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Inverse:
    """The regularised inverse of a blur for one volume: how much of each cosine coefficient it lets through."""

    sigma_voxels: Widths
    regularisation: float

    def gain(self, shape: Sequence[int]) -> np.ndarray:
        """Of the shape of an array: the factor for each of its cosine coefficients."""
        transfer = np.ones((1, 1, 1), dtype=np.float32)
        square = np.zeros((1, 1, 1), dtype=np.float32)
        for axis, (passed, side) in enumerate(zip(_passed(shape, self.sigma_voxels), shape, strict=True)):
            place = [-1 if each == axis else 1 for each in range(3)]
            transfer = transfer * passed.reshape(place)
            square = square + np.square(_frequencies(side)).reshape(place)
        return transfer / (np.square(transfer) + np.float32(self.regularisation) * square)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The array [k, j, i] as float32, deblurred."""
        coefficients = fft.dctn(np.asarray(array, dtype=np.float32), norm="ortho", workers=-1)
        coefficients *= self.gain(array.shape)
        return fft.idctn(coefficients, norm="ortho", workers=-1, overwrite_x=True).astype(np.float32, copy=False)


def inverse_for(array: np.ndarray, sigma_voxels: Widths, noise: float) -> Inverse:
    """The inverse for a blurred array of about 0 to 1 with that standard deviation of noise."""
    ratio = (max(noise, NOISE_FLOOR) / _signal(array, noise)) ** 2
    return Inverse(sigma_voxels, NOISE_WEIGHT * ratio)


def suited(inverse: Inverse, array: np.ndarray, noise: float) -> Inverse:
    """The inverse, less eager for a volume whose detail fades fast, as in interpolated scans, and more so for another.

    ``array`` and ``noise`` as for :func:`inverse_for`. What the blur has hidden can not be seen, but how the power of
    the signal falls with the frequency where it is above the noise tells what to expect beyond (Wiener, 1949).
    """
    change = math.exp(CHANGE_WITH_STEEPNESS * (steepness(array, inverse.sigma_voxels, noise) - STEEPNESS_OF_TRAINING))
    change = min(max(change, LEAST_CHANGE), MOST_CHANGE)
    return replace(inverse, regularisation=change * inverse.regularisation)


def steepness(array: np.ndarray, sigma_voxels: Widths, noise: float) -> float:
    """Exponent by which the power of the unblurred signal falls with the frequency, seen where it is above the noise.

    About 2.5 for scans of the brain, 4 for pieces of constant intensity, more for interpolated volumes;
    ``STEEPNESS_OF_TRAINING`` where too little is above the noise to tell.
    """
    coefficients = fft.dctn(np.asarray(array, dtype=np.float32), norm="ortho", workers=-1)
    squares = [np.square(_frequencies(side)) for side in array.shape]
    passed = [np.square(one) for one in _passed(array.shape, sigma_voxels)]
    plane, passed_plane = np.add.outer(squares[1], squares[2]), np.multiply.outer(passed[1], passed[2]).ravel()
    count, seen, left = (np.zeros(len(BANDS) + 1) for _ in range(3))
    for part, square, one in zip(coefficients, squares[0], passed[0], strict=True):  # a plane at a time saves memory
        band = np.digitize(square + plane, np.square(BANDS)).ravel()
        count += np.bincount(band, minlength=len(count))
        seen += np.bincount(band, np.square(part).ravel(), minlength=len(count))
        left += np.bincount(band, one * passed_plane, minlength=len(count))
    count, seen, left = count[1:-1], seen[1:-1], left[1:-1]
    level = max(noise, NOISE_FLOOR) ** 2
    clear = np.logical_and.accumulate(seen > 3.0 * level * count)  # beyond the first that is not is no signal
    if clear.sum() < 3:
        return STEEPNESS_OF_TRAINING
    middle = np.log(np.sqrt(BANDS[1:] * BANDS[:-1]))[clear]
    return -float(np.polyfit(middle, np.log((seen - level * count)[clear] / left[clear]), 1)[0])


def noise_after(inverse: Inverse, noise: NoiseProfile) -> NoiseProfile:
    """What the inverse makes of the noise of the volume: its level and its spread over the 4x4x4 cosine coefficients.

    Here the level is the root mean square over all coefficients but the mean of a block.
    """
    white = np.random.default_rng(0).standard_normal((32, 32, 32)).astype(np.float32)
    after, before = (np.std(block_coefficients(each), axis=0) for each in (inverse(white), white))
    level = max(noise.sigma, NOISE_FLOOR)
    # Coefficients of low frequency show anatomy beside the noise: no more than white noise is believed of them.
    spread = np.clip(noise.spread, 0.3 * level, level) * after / before
    return NoiseProfile(float(np.sqrt(np.mean(np.square(spread[1:])))), spread.astype(np.float32))


def _passed(shape: Sequence[int], widths: Widths) -> list[np.ndarray]:
    along = np.broadcast_to(widths, (3,))
    return [
        np.exp(-0.5 * np.square(float(sigma) * _frequencies(side))).astype(np.float32)
        for sigma, side in zip(along, shape, strict=True)
    ]


def _frequencies(side: int) -> np.ndarray:
    """Angular frequency of each cosine coefficient in radians a voxel."""
    return (math.pi * np.arange(side) / side).astype(np.float32)


def _signal(array: np.ndarray, noise: float) -> float:
    """Root mean square difference of neighbouring voxels that is not noise, over the axes; at least a part of it all,
    where noise is reckoned with that is not to be seen (what denoising may have left)."""
    squares = [float(np.mean(np.square(np.diff(array, axis=axis)))) for axis in range(3) if array.shape[axis] > 1]
    whole = float(np.mean(squares))
    return math.sqrt(max(whole - 2.0 * noise**2, LEAST_SIGNAL * whole, 1e-8))
