"""Whether slices were drawn thinner than they were taken: how fast detail ends along one axis, beside the others.

Slices of r voxels average over them (sinc), and the interpolation between them takes away what is left above their own
frequency but for its echoes (sinc squared). So the spectrum along the other axes tells what that along this one would
be for every r, and the r that fits best is the answer. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgan.sharpness import middle

LARGEST_SIDE = 128
"""A larger volume is measured in its middle."""

SHORTEST_SIDE = 32
"""Voxels along an axis below which its spectrum says nothing."""

CANDIDATES = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)
"""Slice thickness in voxels."""

DEEPEST = 2.5
"""Decades below the other axes beyond which power counts as nothing: kernels differ there."""

LOWEST = 0.06
"""Cycles for each voxel from which on spectra are compared; below it they tell of anatomy."""

OFFSET = 0.6
"""Decades by which the whole upper part of a spectrum may lie off: lines of anatomy are not independent."""

BETTER = 0.1
"""Decades by which a thickness has to fit better than none: axes of sharp scans differ a little, too."""


def drawn_thickness(array: np.ndarray) -> tuple[int, float]:
    """The array axis across which the slices of a finite [k, j, i] volume are thickest, and how many voxels they are.

    1 where they are as thin as they look, and for what is too small to tell. Voxels should be about isotropic.
    """
    if min(array.shape) < SHORTEST_SIDE:
        return 0, 1.0
    array = middle(array, LARGEST_SIDE).astype(np.float32)
    frequency = np.arange(1, 257) / 512.0
    spectra = [_log_power(array, axis, frequency) for axis in range(3)]
    if not all(np.isfinite(spectrum).all() for spectrum in spectra):
        return 0, 1.0
    found = []
    for axis in range(3):
        usual = np.mean([spectra[other] for other in range(3) if other != axis], axis=0)
        found.append((axis, _thickness(spectra[axis], usual, frequency)))
    return max(found, key=lambda each: each[1])


def _thickness(seen: np.ndarray, usual: np.ndarray, frequency: np.ndarray) -> float:
    """In voxels, from the spectrum along an axis and that along the others."""
    low = frequency < LOWEST
    seen = seen - seen[low].mean() + usual[low].mean()
    misfits: dict[float, float] = {}
    for thickness in CANDIDATES:
        for kernel in (_linear, _cubic):
            told = _told(usual, frequency, thickness, kernel)
            told = told - told[low].mean() + usual[low].mean()
            apart = np.clip(seen - usual, -DEEPEST, DEEPEST) - np.clip(told - usual, -DEEPEST, DEEPEST)
            apart = apart[~low] - np.clip(np.median(apart[~low]), -OFFSET, OFFSET)
            misfits[thickness] = min(float(np.abs(apart).mean()), misfits.get(thickness, np.inf))
    best = min(misfits, key=lambda thickness: misfits[thickness])
    return best if misfits[best] < misfits[1.0] - BETTER else 1.0


def _log_power(array: np.ndarray, axis: int, frequency: np.ndarray) -> np.ndarray:
    """Decimal logarithm of the mean power of the lines along an axis, at frequencies in cycles for each voxel."""
    lines = np.moveaxis(array, axis, -1)[::2]
    count = lines.shape[-1]
    lines = (lines - lines.mean(axis=-1, keepdims=True)) * np.hanning(count).astype(np.float32)
    power = (np.abs(np.fft.rfft(lines, axis=-1)) ** 2).reshape(-1, count // 2 + 1).mean(axis=0)
    with np.errstate(divide="ignore"):
        held = np.log10(power[1:])
    return np.interp(frequency, np.fft.rfftfreq(count)[1:], held)


def _linear(x: np.ndarray) -> np.ndarray:
    """Power of linear interpolation at x cycles for each slice."""
    return np.sinc(x) ** 4


def _cubic(x: np.ndarray) -> np.ndarray:
    """Power of interpolation by cubic B-splines."""
    return (np.sinc(x) ** 4 / ((2.0 + np.cos(2.0 * np.pi * x)) / 3.0)) ** 2


def _told(
    usual: np.ndarray, frequency: np.ndarray, thickness: float, kernel: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What the spectrum would be for slices of that thickness, interpolated by a kernel."""
    if thickness == 1.0:
        return usual
    power = np.zeros_like(usual)
    for echo in range(-int(thickness), int(thickness) + 1):
        source = frequency - echo / thickness
        within = np.abs(source) <= 0.5
        held = 10.0 ** np.interp(np.abs(source), frequency, usual)
        power += np.where(within, held * np.sinc(thickness * source) ** 2, 0.0)
    return np.log10(np.maximum(power * kernel(thickness * frequency), 1e-30))
