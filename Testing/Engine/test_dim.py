"""Dim places of magnitudes: the mean of what is there is told by many voxels, and becomes no darker."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan import dim, rice
from medgan.noise import noise_profile
from medgan.samples import sample_path
from medgan.settings import EnhanceSettings
from medgan.tasks import enhance
from medgan.volume import Volume, read_volume

SIGMA = 12.0


def magnitudes(truth, seed=0):
    return phantoms.rician(np.asarray(truth, np.float32), SIGMA, seed)


def test_mean_of_magnitudes_is_that_of_rice():
    for times in (0.0, 0.5, 1.0, 2.0, 5.0, 11.0):
        drawn = magnitudes(np.full((60, 60, 60), times * SIGMA)) / SIGMA
        mean = float(rice.mean_of_magnitudes(np.float64(times)))
        assert mean == pytest.approx(float(drawn.mean()), abs=0.01)
        assert float(rice.truth_of_mean(np.float64(mean))) == pytest.approx(times, abs=0.01)
        assert rice.noise_of_magnitudes(float(drawn.mean()), float(drawn.std())) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("dark", [0.0, 8.0])
def test_what_became_too_dark_is_as_bright_as_it_was(dark):
    shape = (2 * dim.SLAB + 7, 24, 24)
    kept = dim.not_darkened(np.full(shape, dark, np.float32), magnitudes(np.full(shape, 20.0)), SIGMA)
    assert kept.mean() == pytest.approx(20.0, abs=0.3)
    assert kept.std() < 0.05 * SIGMA


def test_slabs_leave_no_seam(monkeypatch):
    truth = np.linspace(0.0, 60.0, 60, dtype=np.float32)[:, None, None] + np.zeros((60, 20, 20), np.float32)
    noisy = magnitudes(truth)
    cut = dim.not_darkened(0.5 * truth, noisy, SIGMA)
    monkeypatch.setattr(dim, "SLAB", 1000)
    np.testing.assert_allclose(cut, dim.not_darkened(0.5 * truth, noisy, SIGMA), atol=1e-4)


def test_nothing_but_noise_does_not_come_back_and_nothing_gets_darker():
    truth = np.zeros((40, 40, 40), np.float32)
    for level in (SIGMA, 0.9 * SIGMA, 1.5 * SIGMA):
        assert dim.not_darkened(truth, magnitudes(truth), level).max() == 0.0
    bright = truth + 30.0
    assert np.array_equal(dim.not_darkened(bright, magnitudes(truth), SIGMA), bright)


def test_what_is_not_dim_stays_and_so_does_what_was_masked():
    truth = np.where(np.arange(48)[:, None, None] < 24, 100.0, 0.0) + np.zeros((48, 24, 24))
    result = np.where(truth > 0.0, 90.0, 0.0).astype(np.float32)
    noisy = np.where(truth > 0.0, magnitudes(truth), 0.0).astype(np.float32)
    assert np.array_equal(dim.not_darkened(result, noisy, SIGMA), result)


def with_vessels(around, smooth, seed=5):
    """Bright vessels on an even background."""
    random, vessels = np.random.default_rng(5), np.zeros((48, 48, 48))
    for _ in range(8):
        place, course = random.uniform(8, 40, 3), random.normal(size=3)
        while ((place > 2) & (place < 45)).all():
            course += 0.25 * random.normal(size=3)
            course /= np.linalg.norm(course)
            place = place + 0.6 * course
            vessels[tuple(np.round(place).astype(int))] = 1.0
    vessels = ndimage.gaussian_filter(vessels, smooth) if smooth else vessels
    return np.maximum(vessels * 300.0 / vessels.max(), around)


@pytest.mark.parametrize("smooth", [0.0, 0.8])
@pytest.mark.parametrize("around", [0.0, 18.0, 24.0, 36.0])
def test_noise_around_few_bright_vessels_is_not_their_edges(around, smooth):
    """Of what the vessels show alone 1.3 to 2.1 times the noise is told."""
    profile = noise_profile(magnitudes(with_vessels(around, smooth)))
    assert profile.sigma == pytest.approx(SIGMA, rel=0.1)
    assert profile.spread[1:].max() < 1.3 * SIGMA


@pytest.fixture(scope="module")
def small_body():
    """Half of a brain, coarsened, in a field of view of which it fills little."""
    brain = read_volume(sample_path()).array[:, :, :70].astype(np.float32)
    brain = ndimage.zoom(ndimage.gaussian_filter(brain, 1.0), 0.5, order=1)
    body = np.zeros((96, 120, 96), np.float32)
    body[tuple(slice(20, 20 + side) for side in brain.shape)] = brain
    return body / body.max()


@pytest.mark.parametrize("noise_of_air", [1.0, 0.6, 0.3])
def test_noise_of_a_small_body_is_its_own(small_body, noise_of_air):
    """Not that of the air, which parallel imaging and filters of scanners make another."""
    inside = ndimage.binary_dilation(small_body > 0.05, iterations=2)
    sigma = np.where(inside, 50.0, 50.0 * noise_of_air)
    drawn = np.random.default_rng(1).normal(size=(2, *sigma.shape)) * sigma
    profile = noise_profile(np.hypot(1000.0 * small_body + drawn[0], drawn[1]).astype(np.float32))
    assert not profile.around
    assert profile.sigma == pytest.approx(50.0, rel=0.1)


def test_counts_of_a_small_body_are_counts(small_body):
    truth = 3.0 + 30.0 * small_body
    counts = np.random.default_rng(2).poisson(truth).astype(np.float32)
    assert not noise_profile(counts).around
    outputs = enhance.run({"volume": Volume(counts, phantoms.geometry())}, EnhanceSettings())
    result = outputs.volumes["volume"].array
    assert result[:12].mean() == pytest.approx(3.0, rel=0.1)
    assert np.sqrt(np.mean((result - truth) ** 2)) < 0.4 * np.sqrt(np.mean((counts - truth) ** 2))


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_tissue_between_bright_vessels_keeps_its_brightness(smooth):
    """The network alone takes most of it for the background of magnitudes: 5 to 8 of 20 are left."""
    truth = with_vessels(20.0, smooth)
    noisy = magnitudes(truth)
    outputs = enhance.run({"volume": Volume(noisy, phantoms.geometry())}, EnhanceSettings())
    result = outputs.volumes["volume"].array
    assert result[truth == 20.0].mean() == pytest.approx(20.0, abs=1.5)
    assert np.sqrt(np.mean((result - truth) ** 2)) < 0.35 * SIGMA
    assert 0.85 < outputs.report["consistency"]["residual_sigmas"] < 1.1
