"""The noise of volumes whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

import phantoms
from medgan.inference import fill_not_finite
from medgan.noise import (
    BLOCK,
    CORRELATED,
    INDEPENDENT,
    SIGNED,
    NoiseProfile,
    block_coefficients,
    cosine_matrix,
    cosine_orders,
    intensity_range,
    noise_of_means,
    noise_profile,
    padding_as_air,
)
from medgan.sharpness import estimate_blur


def a_soft_head() -> np.ndarray:
    """With the point spread that every scanner has."""
    return ndimage.gaussian_filter(phantoms.head((56, 60, 64)), 0.7)


def test_values_far_above_0_have_a_dark_end_of_their_own():
    """CT stored as unsigned numbers with an offset."""
    array = a_soft_head() + np.random.default_rng(0).normal(0, 20, (56, 60, 64))
    assert intensity_range((array + 32768).astype(np.float32))[0] > 32600
    offset, plain = (noise_profile(each.astype(np.float32)).sigma for each in (array + 32768, array + 100))
    assert offset == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("width", [0.0, 0.5, 0.8])
def test_noise_of_means_is_that_of_the_noise(width):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(50, 20, (56, 60, 64)), width).astype(np.float32)
    means = ndimage.uniform_filter(noise, 3)
    profile = NoiseProfile(20.0, block_coefficients(noise).std(axis=0))
    assert 0.6 * means.std() < noise_of_means(profile) < 1.05 * means.std()
    assert noise_of_means(profile) > 0.95 * noise.std() / np.sqrt(27)


def test_cosine_matrix_is_the_orthonormal_transform_of_scipy():
    assert np.allclose(cosine_matrix() @ cosine_matrix().T, np.eye(BLOCK), atol=1e-6)
    signal = np.array([3.0, -1.0, 2.5, 7.0])
    assert np.allclose(cosine_matrix() @ signal, fft.dct(signal, norm="ortho"), atol=1e-5)


def test_block_coefficients_agree_with_scipy_in_every_block():
    array = np.random.default_rng(0).normal(size=(9, 12, 8)).astype(np.float32)
    found = block_coefficients(array)
    assert found.shape == (2 * 3 * 2, 64)
    assert np.allclose(found[0], fft.dctn(array[:4, :4, :4], norm="ortho").ravel(), atol=1e-5)
    assert np.allclose(found[-1], fft.dctn(array[4:8, 8:12, 4:8], norm="ortho").ravel(), atol=1e-5)


def test_flat_volume_with_white_noise_has_that_sigma_in_every_coefficient():
    array = 500 + 20 * np.random.default_rng(1).standard_normal((64, 64, 64)).astype(np.float32)
    profile = noise_profile(array)
    assert profile.sigma == pytest.approx(20, rel=0.03)
    assert np.allclose(profile.spread[1:], 20, rtol=0.1)


@pytest.mark.parametrize("sigma", [10.0, 30.0, 90.0])
def test_rician_noise_over_a_dark_background_is_measured_in_the_foreground(sigma):
    noisy = phantoms.rician(a_soft_head(), sigma)
    assert noise_profile(noisy).sigma == pytest.approx(sigma, rel=0.1)


def test_noise_in_a_volume_with_air_at_minus_1000_is_measured():
    clean = a_soft_head() - 1000
    noisy = clean + 40 * np.random.default_rng(2).standard_normal(clean.shape).astype(np.float32)
    assert noise_profile(noisy).sigma == pytest.approx(40, rel=0.1)


def test_correlated_noise_shows_less_at_high_frequencies():
    white = np.random.default_rng(3).standard_normal((48, 48, 48)).astype(np.float32)
    spread = noise_profile(500 + 20 * ndimage.gaussian_filter(white, 0.7)).spread
    orders = cosine_orders()
    assert spread[orders >= 8].mean() < 0.3 * spread[orders == 1].mean()


@pytest.mark.parametrize("width", [0.0, 0.6, 0.9])
def test_level_is_the_deviation_in_a_homogeneous_region(width):
    volume = phantoms.ct_body((48, 72, 72), 30.0, width)
    found = noise_profile(volume)
    assert found.level == pytest.approx(30, rel=0.2)
    assert found.scaled_to(50.0).level == pytest.approx(50.0)
    if width == 0.0:
        assert found.correlation < INDEPENDENT
        assert found.level == found.sigma
    else:
        assert found.correlation > CORRELATED
        assert found.sigma < 15, "the highest frequencies tell little of it"
    left = noise_profile(ndimage.gaussian_filter(volume, 1.0))
    white = NoiseProfile(30.0, np.full(64, 30.0, np.float32))
    assert left.level_as(white) == left.sigma, "anatomy is not taken for what is left of independent noise"


def test_constant_volume_has_no_noise():
    assert noise_profile(np.full((16, 16, 16), 7.0, np.float32)).sigma == 0.0


def test_counting_noise_is_not_taken_for_the_quiet_of_the_darkest_blocks():
    clean = a_soft_head() / 1000
    noisy = np.random.default_rng(4).poisson(100 * clean).astype(np.float32) / 100
    inside = clean > 0.1
    assert noise_profile(noisy).sigma > 0.5 * (noisy - clean)[inside].std()


def test_profile_scales_with_the_volume():
    noisy = phantoms.rician(phantoms.head(), 40.0)
    one, thousand = noise_profile(noisy), noise_profile(1000 * noisy)
    assert thousand.sigma == pytest.approx(1000 * one.sigma, rel=1e-4)
    doubled = one.scaled_to(2 * one.sigma).spread
    assert np.allclose(doubled[1:], 2 * one.spread[1:], rtol=1e-5)
    assert doubled[0] == one.spread[0], "brightness is no noise"
    assert np.allclose(thousand.in_units_of(1000).spread, one.spread, rtol=1e-3)


@pytest.mark.parametrize("blur", [0.0, 0.8, 1.5])
def test_given_level_is_that_of_all_frequencies(blur):
    """In a smoothed scan the highest have almost none; multiplied up they told of enormous noise at the others."""
    clean = phantoms.head((40, 40, 40))
    noisy = clean + np.random.default_rng(1).normal(0, 20, clean.shape).astype(np.float32)
    noisy, clean = (ndimage.gaussian_filter(each, blur) for each in (noisy, clean))
    true = float((noisy - clean).std())
    given = noise_profile(noisy).scaled_to(true)
    whole = float(np.sqrt(np.mean(given.spread[1:] ** 2)))
    if blur == 0.0:
        assert given.sigma == pytest.approx(true, rel=0.05)  # white: the highest frequencies tell
    else:
        assert whole == pytest.approx(true, rel=0.2)
    constant = noise_profile(np.full((12, 12, 12), 7.0, np.float32)).scaled_to(2.0)
    assert constant.sigma == 2.0
    assert (constant.spread[1:] == 2.0).all()


def test_magnitudes_are_told_from_signed_volumes():
    """Their noise makes what is dark brighter, which has to be taken back."""
    clean = phantoms.head((32, 32, 32))
    signed = clean + np.random.default_rng(1).normal(0, 40, clean.shape).astype(np.float32)
    magnitudes = phantoms.rician(clean, 40.0)
    magnitudes[:2, 0, 0] = -1.0  # a few values below 0, as interpolation leaves them
    for array, is_signed in ((magnitudes, False), (signed, True), (signed - 1000, True), (signed + 5000, True)):
        profile = noise_profile(array)
        assert (profile.spread[0] == pytest.approx(SIGNED * profile.sigma)) == is_signed
        told = profile.scaled_to(3 * profile.sigma)
        assert (told.spread[0] == pytest.approx(SIGNED * told.sigma)) == is_signed


def test_range_of_magnitude_images_starts_at_zero_and_of_ct_at_air():
    assert intensity_range(phantoms.head((40, 40, 40)))[0] == 0.0
    low, high = intensity_range(phantoms.head((40, 40, 40)) - 1000)
    assert low == pytest.approx(-1000)
    assert high == pytest.approx(0, abs=5)


def test_spread_is_that_of_the_noise_not_of_the_anatomy():
    """White noise, and detail in two thirds of the volume: no coefficient is told more than the noise."""
    generator = np.random.default_rng(2)
    clean = np.full((72, 72, 96), 800.0)
    clean[:48] += 400 * ndimage.gaussian_filter(generator.standard_normal((48, 72, 96)), 1.0)
    noisy = (clean + 30 * generator.standard_normal(clean.shape)).astype(np.float32)
    over_all = np.median(np.abs(block_coefficients(noisy)[:, 1:]), axis=0) / 0.6745
    assert over_all.max() > 2 * 30  # what would be told without looking for flat places
    assert np.allclose(noise_profile(noisy).spread[1:], 30, rtol=0.15)


@pytest.mark.parametrize("exponent", [66, -99])
def test_noise_is_found_in_any_unit(exponent):
    """Squares of such values are beyond float32."""
    noisy = phantoms.rician(phantoms.head((24, 24, 24)), sigma=40.0).astype(np.float32)
    here, there = noise_profile(noisy), noise_profile(noisy * np.float32(2.0**exponent))
    assert there.sigma == here.sigma * 2.0**exponent
    assert there.sigma > 0
    np.testing.assert_array_equal(there.spread, here.spread * np.float32(2.0**exponent))
    edges = phantoms.rician(phantoms.head((64, 64, 64)), sigma=5.0).astype(np.float32)
    assert estimate_blur(edges * np.float32(2.0**exponent)) == estimate_blur(edges) > 0


def test_a_few_bright_vessels_do_not_speak_for_the_noise():
    """As in an angiogram: the range is theirs, and in their blocks there is more detail than noise."""
    generator = np.random.default_rng(4)
    clean = np.full((48, 64, 64), 50.0)
    clean[:, 20:23, :] = clean[10:13, :, 40:43] = 1000.0
    clean = ndimage.gaussian_filter(clean, 0.7)
    noisy = np.hypot(clean + generator.normal(0, 10, clean.shape), generator.normal(0, 10, clean.shape))
    assert noise_profile(noisy.astype(np.float32)).sigma == pytest.approx(10, rel=0.2)


def test_metal_far_above_bone_leaves_air_the_dark_end_of_a_ct():
    array = a_soft_head() - 1000
    array[20:24, 20:24, 20:24] = 30000.0
    assert intensity_range(array)[0] == pytest.approx(-1000, abs=1)
    magnitudes = phantoms.head((40, 40, 40))
    magnitudes[::9, 0, 0] = -60.0  # undershoot of an interpolation
    assert intensity_range(magnitudes)[0] == 0.0


def test_voxels_that_were_filled_in_do_not_speak_for_the_noise():
    noisy = phantoms.rician(a_soft_head(), 50.0).astype(np.float32)
    noisy[12:44, 16:44, 24:40] = np.nan
    assert np.isnan(noisy).mean() > 0.06
    # A little less is found: the blocks at the rim hold a part of the noise.
    assert noise_profile(fill_not_finite(noisy)[0]).sigma == pytest.approx(50, rel=0.25)


def test_smooth_padding_does_not_speak_for_the_noise():
    """As constant padding becomes where a volume is divided by a smooth field."""
    noisy = a_soft_head() + np.random.default_rng(0).normal(0, 50, (56, 60, 64)).astype(np.float32)
    noisy[:, :, 40:] = 1000.0
    ramp = np.linspace(1.0, 1.2, 64, dtype=np.float32)
    assert noise_profile(noisy / ramp).sigma == pytest.approx(45, rel=0.15)
    drawn = phantoms.head((56, 60, 64)) * ramp
    assert noise_profile(drawn).sigma < 1e-3


def test_padding_counts_as_air_and_the_darkest_voxel_of_noise_does_not():
    noisy = a_soft_head() - 1000 + np.random.default_rng(0).normal(0, 20, (56, 60, 64)).astype(np.float32)
    noisy[0, 0, 0] = noisy.min() - 100
    assert padding_as_air(noisy) is noisy
    noisy[:, :4] = -2000.0
    assert (padding_as_air(noisy)[:, :4] == -1024.0).all()
    assert np.array_equal(padding_as_air(noisy)[:, 4:], noisy[:, 4:])
