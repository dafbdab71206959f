"""Texture by its power spectrum: how much of the variance lies in each octave, and noise of such a spectrum.

Octaves count from the finest (0.5 cycles a voxel, and finer along diagonals) to the coarsest, which holds all below
0.03 cycles a voxel. Frequencies are those of the voxel grid, not of millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

OCTAVES = 5


def octave_shares(residual: np.ndarray) -> np.ndarray:
    """(OCTAVES,) share of the variance of an array [k, j, i] in each octave, summing to 1; equal where it has none.

    The mean of the whole does not count. Voxels that are not to count are 0.
    """
    spectrum = fft.rfftn(residual.astype(np.float32, copy=False))
    power = spectrum.real**2 + spectrum.imag**2
    power[0, 0, 0] = 0.0
    power[..., 1 : (residual.shape[-1] + 1) // 2] *= 2.0  # the half of the spectrum that rfftn leaves out
    places = _octave(residual.shape)
    shares = np.array([float((power * _part(places, octave)).sum(dtype=np.float64)) for octave in range(OCTAVES)])
    total = shares.sum()
    return shares / total if total > 0 else np.full(OCTAVES, 1.0 / OCTAVES)


def coloured_noise(shape: Sequence[int], shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Float32 Gaussian noise [k, j, i] of mean about 0 and standard deviation 1 with these shares of the octaves.

    An octave whose waves are longer than the volume is left out.
    """
    size = [fft.next_fast_len(int(side), real=True) for side in shape]
    white = rng.standard_normal(size, dtype=np.float32)
    spectrum = fft.rfftn(white)
    places = _octave(size)
    gain = np.zeros(places.shape, np.float32)
    for octave, share in enumerate(shares):
        part = _part(places, octave)
        if octave == OCTAVES - 1:
            part[0, 0, 0] = 0.0
        modes = float(part.sum(dtype=np.float64))
        if modes > 0:
            gain += np.float32(max(share, 0.0) / modes) * part
    spectrum *= np.sqrt(gain)
    made = fft.irfftn(spectrum, s=size)[tuple(slice(0, side) for side in shape)]
    spread = float(made.std())
    if not spread > 0:  # a single voxel, or no octave that fits
        return white[tuple(slice(0, side) for side in shape)].copy()
    made /= np.float32(spread)
    return np.ascontiguousarray(made, np.float32)


def _octave(shape: Sequence[int]) -> np.ndarray:
    """Octave of every place of the half spectrum, 0 to OCTAVES - 1, with fractions."""
    k, j, i = (
        (fft.rfftfreq(side) if axis == 2 else fft.fftfreq(side)).astype(np.float32) for axis, side in enumerate(shape)
    )
    squared = k[:, None, None] ** 2 + j[None, :, None] ** 2 + i[None, None, :] ** 2
    places: np.ndarray = np.clip(-0.5 * np.log2(np.maximum(4.0 * squared, 1e-12)), 0.0, OCTAVES - 1.0)
    return places


def _part(places: np.ndarray, octave: int) -> np.ndarray:
    """Weight of an octave at each place; the weights of all octaves sum to 1."""
    part: np.ndarray = np.clip(1.0 - np.abs(places - np.float32(octave)), 0.0, None)
    return part
