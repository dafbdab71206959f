"""Texture by its power spectrum: how much of the variance lies in each octave, and noise of such a spectrum.

Octaves count from the finest (0.5 cycles a voxel, and finer along diagonals) to the coarsest, which holds all below
0.03 cycles a voxel. Frequencies are those of the voxel grid, not of millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

OCTAVES = 5

STEPS = 65_536
"""Squared frequencies that are told apart in making noise."""


def octave_shares(residual: np.ndarray) -> np.ndarray:
    """(OCTAVES,) share of the variance of an array [k, j, i] in each octave, summing to 1; equal where it has none.

    The mean of the whole does not count. Voxels that are not to count are 0.
    """
    spectrum = fft.rfftn(residual.astype(np.float32, copy=False))
    power = spectrum.real**2 + spectrum.imag**2
    power[0, 0, 0] = 0.0
    power[..., 1 : (residual.shape[-1] + 1) // 2] *= 2.0  # the half of the spectrum that rfftn leaves out
    places = _octave_of(_squared(residual.shape))
    shares = np.array([float((power * _part(places, octave)).sum(dtype=np.float64)) for octave in range(OCTAVES)])
    total = shares.sum()
    return shares / total if total > 0 else np.full(OCTAVES, 1.0 / OCTAVES)


def coloured_noise(shape: Sequence[int], shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Float32 Gaussian noise [k, j, i] of mean about 0 and standard deviation 1 with these shares of the octaves.

    An octave whose waves are longer than the volume is left out.
    """
    size = [fft.next_fast_len(int(side), real=True) for side in shape]
    # White noise has a white spectrum, so the spectrum is drawn instead of the noise. Of the first and the last plane
    # of the half spectrum the inverse keeps the even half only.
    half = size[2] // 2 + 1
    spectrum = rng.standard_normal((size[0], size[1], 2 * half), dtype=np.float32).view(np.complex64)
    spectrum[..., 0] *= np.float32(2**0.5)
    if size[2] % 2 == 0:
        spectrum[..., -1] *= np.float32(2**0.5)
    places = (_squared(size) * np.float32(STEPS / 0.75)).astype(np.int32)
    many = np.bincount(places.ravel(), minlength=STEPS + 1).astype(np.float64)
    octaves = _octave_of((np.arange(STEPS + 1) + 0.5) * (0.75 / STEPS))
    gain = np.zeros(STEPS + 1)
    for octave, share in enumerate(shares):
        weight = _part(octaves, octave)
        modes = float((many * weight).sum()) - float(weight[0])  # less the mean of the whole
        if modes > 0.5:
            gain += max(share, 0.0) / modes * weight
    factor = np.sqrt(gain).astype(np.float32)[places]
    factor[0, 0, 0] = 0.0
    spectrum *= factor
    made = fft.irfftn(spectrum, s=size, overwrite_x=True)[tuple(slice(0, side) for side in shape)]
    spread = float(made.std())
    if not spread > 0:  # a single voxel, or no octave that fits
        return rng.standard_normal(tuple(shape), dtype=np.float32)
    made /= np.float32(spread)
    return np.ascontiguousarray(made, np.float32)


def _squared(shape: Sequence[int]) -> np.ndarray:
    """Squared frequency of every place of the half spectrum, in cycles a voxel, up to 0.75."""
    k, j, i = (
        (fft.rfftfreq(side) if axis == 2 else fft.fftfreq(side)).astype(np.float32) for axis, side in enumerate(shape)
    )
    squared: np.ndarray = k[:, None, None] ** 2 + j[None, :, None] ** 2 + i[None, None, :] ** 2
    return squared


def _octave_of(squared: np.ndarray) -> np.ndarray:
    """Octave of a squared frequency, 0 to OCTAVES - 1, with fractions."""
    places: np.ndarray = np.clip(-0.5 * np.log2(np.maximum(4.0 * squared, 1e-12)), 0.0, OCTAVES - 1.0)
    return places


def _part(places: np.ndarray, octave: int) -> np.ndarray:
    """Weight of an octave at each place; the weights of all octaves sum to 1."""
    part: np.ndarray = np.clip(1.0 - np.abs(places - octave), 0.0, None)
    return part
