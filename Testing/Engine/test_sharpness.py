"""Blur is measured in voxels, on edges, whatever the unit, the contrast or a little noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.deconvolution import (
    LEAST_CHANGE,
    MOST_CHANGE,
    STEEPNESS_OF_TRAINING,
    Inverse,
    blurred,
    inverse_for,
    noise_after,
    steepness,
    suited,
)
from medgan.noise import NoiseProfile, block_coefficients
from medgan.sharpness import estimate_blur


@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
def test_known_blur_of_a_phantom_is_found(sigma):
    k, j, i = np.meshgrid(*[np.arange(64.0)] * 3, indexing="ij")
    ball = np.where((k - 31) ** 2 + (j - 33) ** 2 + (i - 32) ** 2 < 22**2, 700.0, 100.0)
    blurry = ndimage.gaussian_filter(ball, sigma)
    noisy = blurry + np.random.default_rng(0).normal(0, 10, blurry.shape)
    assert estimate_blur(noisy) == pytest.approx(sigma, rel=0.2)
    assert estimate_blur(-3 * noisy + 1000) == pytest.approx(estimate_blur(noisy), rel=1e-3)


def test_volumes_without_edges_have_no_blur():
    assert math.isnan(estimate_blur(np.full((16, 16, 16), 3.0)))
    assert math.isnan(estimate_blur(np.zeros((4, 4, 4))))
    assert math.isnan(estimate_blur(np.full((16, 16, 16), np.nan)))


def test_blur_is_that_of_a_mirrored_gaussian():
    array = phantoms.head((20, 22, 24))
    assert np.allclose(blurred(array, 1.3), ndimage.gaussian_filter(array, 1.3, truncate=8), atol=0.5)


def test_inverse_brings_a_blurred_phantom_nearer_to_itself():
    clean = ndimage.gaussian_filter(phantoms.head((40, 40, 40)), 0.6) / 1000
    seen = blurred(clean, 1.2) + np.random.default_rng(0).normal(0, 0.01, clean.shape).astype(np.float32)
    restored = Inverse(1.2, 0.03)(seen)
    assert np.square(restored - clean).mean() < 0.6 * np.square(seen - clean).mean()


def test_noise_after_the_inverse_is_what_is_found_there():
    noise = np.random.default_rng(1).normal(0, 0.02, (48, 48, 48)).astype(np.float32)
    inverse = Inverse(1.0, 0.001)
    told = noise_after(inverse, NoiseProfile(0.02, np.full(64, 0.02, np.float32)))
    found = block_coefficients(inverse(noise)).std(axis=0)
    assert np.abs(told.spread / found - 1).max() < 0.15


def fading(exponent: float, shape=(40, 48, 44)) -> np.ndarray:
    """A random texture of a standard deviation of 0.2 whose power falls with this exponent of the frequency."""
    white = np.random.default_rng(3).normal(size=shape)
    frequency = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    texture = np.fft.ifftn(np.fft.fftn(white) * np.maximum(frequency, 0.02) ** (-exponent / 2)).real
    return (0.5 + 0.2 * texture / texture.std()).astype(np.float32)


@pytest.mark.parametrize("width", [0.7, 1.2, (0.0, 1.8, 1.8)])
@pytest.mark.parametrize("exponent", [2.5, 4.0])
def test_steepness_is_told_through_blur_and_noise(exponent, width):
    clean = fading(exponent)
    noise = np.random.default_rng(4).normal(0, 0.002, clean.shape).astype(np.float32)
    assert steepness(blurred(clean, width) + noise, width, 0.002) == pytest.approx(exponent, abs=0.3)


def test_inverse_is_less_eager_where_detail_fades_fast_and_within_bounds():
    def change(array: np.ndarray, noise: float) -> float:
        plain = inverse_for(array, 1.2, noise)
        return suited(plain, array, noise).regularisation / plain.regularisation

    changes = [
        change(blurred(fading(exponent), 1.2), 0.002) for exponent in (0.5, 2.0, STEEPNESS_OF_TRAINING, 4.0, 7.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] == pytest.approx(LEAST_CHANGE)
    assert changes[2] == pytest.approx(1.0, rel=0.3)
    assert changes[-1] == pytest.approx(MOST_CHANGE)
    noise = np.random.default_rng(5).normal(0, 0.1, (32, 32, 32)).astype(np.float32)
    assert change(noise, 0.1) == 1.0
    assert change(np.full((20, 20, 20), 0.5, np.float32), 0.0) == 1.0


def test_noise_that_is_not_to_be_seen_does_not_make_the_inverse_a_blur():
    """After denoising more noise may be reckoned with than the neighbours of voxels differ."""
    clean = blurred(fading(4.0), 1.2)
    inverse = inverse_for(clean, 1.2, 0.05)
    assert inverse(clean).std() > 0.95 * clean.std()
