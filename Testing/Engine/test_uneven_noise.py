"""Noise that follows the place or the brightness is found, evened, and taken away better for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.inference import fill_not_finite
from medgan.noise import noise_profile
from medgan.settings import EnhanceSettings
from medgan.tasks import enhance
from medgan.uneven_noise import Evened, evened
from medgan.volume import Volume

SHAPE = (48, 64, 72)


def a_soft_head() -> np.ndarray:
    return np.maximum(ndimage.gaussian_filter(phantoms.head(SHAPE), 0.7), 0.0)


def stronger_to_one_side() -> np.ndarray:
    """From 1 at one face to 4 at the other, of the shape of the head."""
    return np.broadcast_to(np.geomspace(1.0, 4.0, SHAPE[2]), SHAPE)


def counts(clean: np.ndarray, brightest: float) -> np.ndarray:
    """As many counts in the brightest voxel, brought to the unit of the volume."""
    gain = brightest / clean.max()
    return (np.random.default_rng(2).poisson(clean * gain) / gain).astype(np.float32)


def uneven(clean: np.ndarray, sigma: float) -> np.ndarray:
    """Rician noise of ``sigma`` at the face where it is weakest."""
    first, second = np.random.default_rng(1).normal(size=(2, *SHAPE)) * sigma * stronger_to_one_side()
    return np.hypot(clean + first, second).astype(np.float32)


def made_even(array: np.ndarray, positive: bool = True) -> Evened:
    return evened(array, positive, noise_profile(array).sigma)


def error(array: np.ndarray, clean: np.ndarray) -> float:
    inside = clean > 100
    return float(np.sqrt(np.square(array[inside] - clean[inside]).mean()))


def test_field_is_that_of_the_noise():
    field = made_even(uneven(a_soft_head(), 10.0)).field
    assert field.shape == SHAPE
    assert field.dtype == np.float32
    inside = a_soft_head() > 100
    ratio = (field / stronger_to_one_side())[inside]
    assert np.percentile(ratio, 95) / np.percentile(ratio, 5) < 1.75
    assert np.corrcoef(np.log(field[inside]), np.log(stronger_to_one_side()[inside]))[0, 1] > 0.9


@pytest.mark.parametrize("sigma", [5.0, 30.0, 80.0])
def test_even_noise_is_left_as_it_is(sigma):
    for noisy in (
        phantoms.rician(a_soft_head(), sigma).astype(np.float32),
        (a_soft_head() - 1000 + np.random.default_rng(3).normal(0, sigma, SHAPE)).astype(np.float32),
    ):
        assert made_even(noisy, bool(noisy.min() >= 0)).array is noisy


def with_a_hole(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[14:34, 20:44, 20:44] = np.nan
    return fill_not_finite(array)[0]


def in_a_circle(array: np.ndarray, outside: float) -> np.ndarray:
    """With a constant outside of a circle within the slices."""
    j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[1:]), indexing="ij")
    return np.where(j**2 + i**2 > 0.9, np.float32(outside), array)


def test_regions_that_hold_no_noise_do_not_make_it_uneven():
    """Filled in, or padded with what is not the darkest."""
    hounsfield = (a_soft_head() - 1000 + np.random.default_rng(3).normal(0, 30, SHAPE)).astype(np.float32)
    for noisy in (
        with_a_hole(phantoms.rician(a_soft_head(), 30.0).astype(np.float32)),
        in_a_circle(hounsfield, 0.0),
        in_a_circle(-hounsfield, 1000.0),
    ):
        assert made_even(noisy, bool(noisy.min() >= 0)).array is noisy


def test_too_little_to_measure_is_left_as_it_is():
    for array in (np.zeros((4, 4, 4)), np.ones((12, 12, 12)), np.random.default_rng(0).random((4, 40, 40))):
        array = array.astype(np.float32)
        assert made_even(array).array is array


def test_counts_are_told_and_evened_and_come_back():
    clean = a_soft_head()
    noisy = counts(clean, 60.0)
    even = made_even(noisy)
    assert even.counts
    assert not made_even(noisy, positive=False).counts
    sigma = noise_profile(even.array).sigma
    assert sigma == pytest.approx(0.5 * np.sqrt(clean.max() / 60.0), rel=0.1)
    np.testing.assert_allclose(even.back(even.array, 0.0), noisy, rtol=1e-4, atol=1e-3)
    assert (even.back(even.array, 0.1) - even.back(even.array, 0.0)).max() == pytest.approx(0.01, rel=0.01)


def denoised(array: np.ndarray, **chosen) -> tuple[np.ndarray, list[str]]:
    outputs = enhance.run({"volume": Volume(array, phantoms.geometry())}, EnhanceSettings(character=0.0, **chosen))
    return outputs.volumes["volume"].array, outputs.report["messages"]


def test_uneven_noise_is_taken_away_as_well_as_even_noise_and_said():
    clean = a_soft_head()
    noisy = uneven(clean, 12.0)
    result, said = denoised(noisy)
    assert any("varies over the volume" in sentence for sentence in said)
    even = phantoms.rician(clean, error(noisy, clean)).astype(np.float32)
    assert error(result, clean) < 1.15 * error(denoised(even)[0], clean)


def test_uneven_noise_around_padding_is_taken_away():
    """Divided by the field the padding is a gentle ramp, which is no noise either."""
    clean = in_a_circle(a_soft_head() - 1000, 0.0)
    noise = np.random.default_rng(3).normal(0, 12, SHAPE) * stronger_to_one_side()
    noisy = in_a_circle((a_soft_head() - 1000 + noise).astype(np.float32), 0.0)
    result, said = denoised(noisy)
    assert any("varies over the volume" in sentence for sentence in said)
    inside = in_a_circle(a_soft_head(), 0.0) > 100
    assert np.square(result - clean)[inside].mean() < 0.3 * np.square(noisy - clean)[inside].mean()


def test_counts_are_denoised_and_keep_their_mean():
    clean = a_soft_head()
    noisy = counts(clean, 60.0)
    result, said = denoised(noisy)
    assert any("as that of counts does" in sentence for sentence in said)
    assert error(result, clean) < 0.4 * error(noisy, clean)
    inside = clean > 100
    assert result[inside].mean() == pytest.approx(clean[inside].mean(), rel=0.01)


def test_level_that_is_told_scales_what_is_found():
    noisy = uneven(a_soft_head(), 12.0)
    found = noise_profile(noisy).sigma
    as_found, more = (np.abs(denoised(noisy, noise_sigma=times * found)[0] - noisy).mean() for times in (1.0, 1.5))
    alone = np.abs(denoised(noisy)[0] - noisy).mean()
    assert as_found == pytest.approx(alone, rel=0.05)
    assert more > 1.02 * as_found


def test_doubled_voxels_are_not_ruined():
    """Some cosine coefficients of them hold nothing at all."""
    small = a_soft_head()[:, ::2, ::2] + np.random.default_rng(5).normal(0, 8, (48, 32, 36))
    doubled = np.repeat(np.repeat(small, 2, axis=1), 2, axis=2).astype(np.float32)
    result, _ = denoised(doubled)
    assert np.sqrt(np.mean(np.square(result - doubled))) < 16
