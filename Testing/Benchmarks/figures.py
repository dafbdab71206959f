"""The figures of the denoising benchmark: error, structure and texture of a result against the original volume.

All take float arrays [k, j, i], a foreground mask of the same shape and the data range that ``cases.py`` states.

- ``psnr``: 10 log10(range^2 / mean squared error), dB, in the foreground. Higher is better.
- ``ssim``: scikit-image, Gaussian window of sigma 1.5 voxels (11 x 11 x 11), K1 0.01, K2 0.03, population covariance;
  the local values averaged over the foreground. Higher is better.
- ``patch_mmd``: *the perceptual score*. Squared maximum mean discrepancy between 5 x 5 x 5 patches of the result and
  patches of the original **at other places**, unbiased, times 1000. It compares distributions, so it asks whether the
  texture is right, not whether each voxel is. Lower is better; ``texture_floor`` is original against original.
- ``gmsd``: gradient magnitude similarity deviation (Xue et al. 2014) in 3D: Sobel gradients, constant 0.0026 for range
  1, standard deviation over the foreground. Lower is better.
- ``spectrum``: noise-power-spectrum distance: root mean square difference, in dB, of the radially averaged power
  spectra of the foreground of result and original, 0.1 to 0.5 cycles a voxel, Hann window. Lower is better.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, sobel

PATCH = 5
PATCHES = 2000
MMD_KERNELS = 4
"""Gaussian kernels of the MMD: as wide as the median distance between patches of the original, 1/2, 1/4, 1/8 of it."""


def all_figures(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> dict[str, float]:
    """Every figure by its name."""
    return {
        "psnr": psnr(result, clean, foreground, data_range),
        "ssim": ssim(result, clean, foreground, data_range),
        "patch_mmd": patch_mmd(result, clean, foreground, data_range),
        "gmsd": gmsd(result, clean, foreground, data_range),
        "spectrum": spectrum_distance(result, clean, foreground),
    }


def psnr(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB over the foreground; infinite for an identical result."""
    difference = result[foreground].astype(np.float64) - clean[foreground]
    error = float(np.mean(difference**2))
    return float("inf") if error == 0.0 else float(10.0 * np.log10(data_range**2 / error))


def ssim(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """Structural similarity (Wang et al. 2004) averaged over the foreground."""
    from skimage.metrics import structural_similarity

    _, local = structural_similarity(
        clean.astype(np.float64),
        result.astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(local[foreground].mean())


def gmsd(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """Standard deviation over the foreground of the local similarity of gradient magnitudes."""
    first, second = (_gradient_magnitude(volume / data_range) for volume in (result, clean))
    constant = 0.0026
    similarity = (2.0 * first * second + constant) / (first**2 + second**2 + constant)
    return float(similarity[foreground].std())


def _gradient_magnitude(volume: np.ndarray) -> np.ndarray:
    # A slope of 1 a voxel gives 32 with the 3D Sobel kernel; dividing leaves the gradient per voxel.
    parts = [sobel(volume.astype(np.float64), axis=axis) / 32.0 for axis in range(3)]
    return np.sqrt(sum(part**2 for part in parts))


def patch_mmd(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """1000 times the squared MMD between patches of the result and patches of the original elsewhere."""
    first, second = _patch_places(foreground)
    return _mmd(_patches(result, first, data_range), _patches(clean, second, data_range))


def texture_floor(clean: np.ndarray, foreground: np.ndarray, data_range: float) -> float:
    """``patch_mmd`` of the original itself: what a perfect texture would read, sampling noise included."""
    return patch_mmd(clean, clean, foreground, data_range)


def _patch_places(foreground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of two disjoint random sets of patches that lie wholly in the foreground."""
    inside = binary_erosion(foreground, np.ones((PATCH,) * 3))
    places = np.argwhere(inside)
    if len(places) < 200:
        raise ValueError(f"The foreground holds only {len(places)} whole patches; at least 200 are needed.")
    chosen = np.random.default_rng(0).permutation(len(places))[: 2 * PATCHES]
    half = len(chosen) // 2
    return places[chosen[:half]], places[chosen[half:]]


def _patches(volume: np.ndarray, centres: np.ndarray, data_range: float) -> np.ndarray:
    """Patches as rows, without their mean, in percent of the range: brightness is not texture."""
    windows = np.lib.stride_tricks.sliding_window_view(volume, (PATCH,) * 3)
    k, j, i = (centres - PATCH // 2).T
    rows = windows[k, j, i].reshape(len(centres), -1).astype(np.float64) * (100.0 / data_range)
    return rows - rows.mean(axis=1, keepdims=True)


def _mmd(first: np.ndarray, second: np.ndarray) -> float:
    within = _squared_distances(second, second)
    median = float(np.median(within))
    n, m = len(first), len(second)
    same_first = _kernel(_squared_distances(first, first), median)
    same_second = _kernel(within, median)
    across = _kernel(_squared_distances(first, second), median)
    first_term = (same_first.sum() - np.trace(same_first)) / (n * (n - 1))
    second_term = (same_second.sum() - np.trace(same_second)) / (m * (m - 1))
    return 1000.0 * float(first_term + second_term - 2.0 * across.mean())


def _kernel(squared_distances: np.ndarray, median: float) -> np.ndarray:
    """Mean of the Gaussian kernels; each is half as wide as the one before, which is its fourth power."""
    kernel = np.exp(-squared_distances / (2.0 * median))
    total = kernel.copy()
    for _ in range(MMD_KERNELS - 1):
        kernel = np.square(np.square(kernel))
        total += kernel
    return total / MMD_KERNELS


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :]
    return np.maximum(squares - 2.0 * first @ second.T, 0.0)


def spectrum_distance(result: np.ndarray, clean: np.ndarray, foreground: np.ndarray) -> float:
    """Root mean square difference in dB between the radial power spectra of result and original."""
    first, second = _radial_power(np.where(foreground, result, 0.0)), _radial_power(np.where(foreground, clean, 0.0))
    return float(np.sqrt(np.mean((10.0 * np.log10(first / second)) ** 2)))


def _radial_power(volume: np.ndarray) -> np.ndarray:
    """Mean power in 16 shells from 0.1 to 0.5 cycles a voxel."""
    window = np.ones(volume.shape)
    for axis, size in enumerate(volume.shape):
        window *= np.hanning(size + 2)[1:-1].reshape([-1 if other == axis else 1 for other in range(3)])
    power = np.abs(np.fft.fftn(volume * window)) ** 2
    frequency = np.sqrt(sum(part**2 for part in np.meshgrid(*map(np.fft.fftfreq, volume.shape), indexing="ij")))
    edges = np.linspace(0.1, 0.5, 17)
    shell = np.digitize(frequency.ravel(), edges)
    totals = np.bincount(shell, power.ravel(), 18)[1:17]
    return totals / np.maximum(np.bincount(shell, minlength=18)[1:17], 1) + 1e-12
