"""The plain methods that deblurring is measured against. All are told the width of the blur.

They also are told what no person with a real scan knows; each result is the best that its method can do:

- ``tikhonov``: H / (H^2 + lambda R^2), with R = 1 or the gradient; R and lambda by the lowest error to the original.
- ``richardson_lucy``: up to 200 iterations, the number by the lowest error to the original. CT is lifted above zero.
- ``wiener``: H S / (H^2 S + N) with the true noise power N and the power S of the original, averaged over shells.

Convolutions are mirrored at the edges: Tikhonov and Wiener divide in the cosine transform, where a symmetric blur is a
product, so that no border rings around. All take the blurred array [k, j, i] and give float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
from blurring import BlurCase
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter1d

from degrading import blurred_by

LAMBDAS = tuple(float(value) for value in np.logspace(-4.0, 1.0, 21))
ITERATIONS = 200
SHELLS = 48


def tikhonov(case: BlurCase) -> tuple[np.ndarray, dict[str, Any]]:
    """Best over both regularisers and ``LAMBDAS``."""
    transfer, frequency = _transfer(case), _frequency(case.blurred.shape)
    spectrum = _forward(case.blurred)
    tried = (
        (_backward(spectrum * transfer / (transfer**2 + weight * roughness)), {"regulariser": name, "lambda": weight})
        for name, roughness in (("identity", 1.0), ("gradient", frequency**2))
        for weight in LAMBDAS
    )
    return _best(case, tried)


def richardson_lucy(case: BlurCase) -> tuple[np.ndarray, dict[str, Any]]:
    """Best over the number of iterations."""
    lift = max(0.0, -float(case.clean.min()))
    given = np.maximum(case.blurred + lift, 0.0)
    best, chosen, least = given, 0, float("inf")
    for count, estimate in enumerate(richardson_lucy_steps(given, case.blur_sigma, ITERATIONS), 1):
        error = _error(case, estimate - lift)
        if error < least:
            best, chosen, least = estimate, count, error
        elif count > chosen + 5:  # the error falls, then rises: noise has begun to grow faster than sharpness
            break
    return (best - lift).astype(np.float32), {"iterations": chosen}


def richardson_lucy_steps(given: np.ndarray, sigma: float, iterations: int) -> Iterator[np.ndarray]:
    """The estimates after each iteration (Richardson 1972, Lucy 1974), from the non-negative array itself."""
    estimate, tiny = given, 1e-6 * float(given.max())
    for _ in range(iterations):
        estimate = estimate * blurred_by(given / np.maximum(blurred_by(estimate, sigma), tiny), sigma)
        yield estimate


def wiener(case: BlurCase) -> tuple[np.ndarray, dict[str, Any]]:
    """The best linear filter that treats all directions alike."""
    transfer, frequency = _transfer(case), _frequency(case.blurred.shape)
    shell = np.minimum((frequency / (np.pi * np.sqrt(3.0)) * SHELLS).astype(int), SHELLS - 1)
    power = np.bincount(shell.ravel(), (_forward(case.clean) ** 2).ravel(), SHELLS)
    signal = (power / np.maximum(np.bincount(shell.ravel(), minlength=SHELLS), 1))[shell]
    signal[0, 0, 0] = np.inf  # the mean is kept
    gain = transfer / (transfer**2 + case.noise_sigma**2 / np.maximum(signal, 1e-12))
    return _backward(_forward(case.blurred) * gain), {}


METHODS = {
    "tikhonov": ("Tikhonov", "blur; oracle", tikhonov),
    "richardson_lucy": ("Richardson-Lucy", "blur; oracle", richardson_lucy),
    "wiener": ("Wiener", "blur, noise, spectrum of the original", wiener),
}
"""Title, what the method is told, and the function."""


def _best(case: BlurCase, tried: Iterator[tuple[np.ndarray, dict[str, Any]]]) -> tuple[np.ndarray, dict[str, Any]]:
    """The result with the lowest squared error in the foreground."""
    _, result, parameters = min(((_error(case, one[0]), *one) for one in tried), key=lambda one: one[0])
    return result.astype(np.float32), parameters


def _error(case: BlurCase, result: np.ndarray) -> float:
    return float(np.mean(np.square(result[case.foreground] - case.clean[case.foreground], dtype=np.float64)))


def _transfer(case: BlurCase) -> np.ndarray:
    """What the blur leaves of each coefficient of the cosine transform (from the kernel that was used)."""
    size = 65
    impulse = np.zeros(size)
    impulse[size // 2] = 1.0
    kernel = gaussian_filter1d(impulse, case.blur_sigma)
    offset = np.arange(size) - size // 2
    lines = [np.cos(np.outer(np.pi * np.arange(side) / side, offset)) @ kernel for side in case.blurred.shape]
    return reduce(np.multiply.outer, lines)


def _frequency(shape: tuple[int, ...]) -> np.ndarray:
    """Length of each coefficient's frequency, in radians a voxel."""
    squares = [np.square(np.pi * np.arange(side) / side) for side in shape]
    return np.sqrt(reduce(np.add.outer, squares))


def _forward(array: np.ndarray) -> np.ndarray:
    return dctn(array.astype(np.float64), norm="ortho")


def _backward(spectrum: np.ndarray) -> np.ndarray:
    return idctn(spectrum, norm="ortho")
