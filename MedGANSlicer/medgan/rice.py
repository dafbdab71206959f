"""Magnitudes of a signal with noise in both of its channels, as MR delivers them: the distribution of Rice.

Noise makes them brighter than what they show: the mean of a magnitude A with noise of standard deviation s is
s sqrt(pi/2) L(A/s), 1.25 s where there is nothing, and their standard deviation is smaller than s, 0.66 s there
(Gudbjartsson, Patz 1995, Magnetic Resonance in Medicine 34:910).
"""

from __future__ import annotations

import numpy as np
from scipy import special

_RATIOS = np.linspace(0.0, 12.0, 4001)
_SQUARE = _RATIOS**2 / 4.0
_MEANS = np.sqrt(np.pi / 2.0) * (
    (1.0 + 2.0 * _SQUARE) * special.ive(0, _SQUARE) + 2.0 * _SQUARE * special.ive(1, _SQUARE)
)
_DEVIATIONS = np.sqrt(2.0 + _RATIOS**2 - _MEANS**2)


def mean_of_magnitudes(truth: np.ndarray) -> np.ndarray:
    """The mean of magnitudes of what is so many times as bright as its noise (up to 12), in that unit."""
    return np.interp(truth, _RATIOS, _MEANS)


def truth_of_mean(mean: np.ndarray) -> np.ndarray:
    """The inverse of :func:`mean_of_magnitudes`; 0 for less than noise alone has."""
    return np.interp(mean, _MEANS, _RATIOS)


def noise_of_magnitudes(mean: float, deviation: float) -> float:
    """Standard deviation of the noise in each channel where magnitudes have that mean and standard deviation.

    Koay, Basser 2006, Journal of Magnetic Resonance 179:317.
    """
    ratio = np.interp(mean / deviation, _MEANS / _DEVIATIONS, _RATIOS)
    return deviation / float(np.interp(ratio, _RATIOS, _DEVIATIONS))
