"""Blur is measured in voxels, on edges, whatever the unit, the contrast or a little noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.deconvolution import Inverse, blurred, noise_after
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
