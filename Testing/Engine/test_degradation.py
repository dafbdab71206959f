"""What the degradations do to volumes whose statistics are known."""

from __future__ import annotations

import math

import pytest
import torch

from medgan.degradation import (
    bias_field,
    correlated_noise,
    gaussian_blur,
    gaussian_noise,
    image_from_labels,
    kernel_spread,
    poisson_noise,
    random_noise_kernel,
    rician_noise,
    thick_slices,
)
from medgan.noise import block_coefficients


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_the_level_asked_for_and_no_bias():
    noisy = gaussian_noise(torch.full((60, 60, 60), 3.0), 0.2, seeded())
    assert float(noisy.std()) == pytest.approx(0.2, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(3.0, abs=0.005)


def test_rician_noise_of_nothing_has_the_mean_of_the_rayleigh_distribution():
    noisy = rician_noise(torch.zeros(60, 60, 60), 1.0, seeded())
    assert float(noisy.mean()) == pytest.approx(math.sqrt(math.pi / 2), rel=0.01)
    assert float(noisy.std()) == pytest.approx(math.sqrt(2 - math.pi / 2), rel=0.01)
    assert float(noisy.min()) >= 0


def test_poisson_noise_grows_with_the_intensity_and_keeps_its_mean_level():
    volume = torch.cat([torch.full((40, 40, 40), 0.0), torch.full((40, 40, 40), 2.0)])
    noise = poisson_noise(volume, 0.1, seeded(), share=0.75) - volume
    assert float(noise.square().mean().sqrt()) == pytest.approx(0.1, rel=0.02)
    dark, bright = noise[:40].std(), noise[40:].std()
    assert float(bright / dark) == pytest.approx(math.sqrt((0.25 + 0.75 * 2) / 0.25), rel=0.03)


def test_correlated_noise_has_its_level_and_the_spectrum_that_is_foretold():
    kernel = random_noise_kernel(seeded(3))
    noise = correlated_noise(torch.zeros(96, 96, 96), 0.5, kernel, seeded(4))
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    seen = block_coefficients(noise.numpy()).std(axis=0)
    assert torch.allclose(torch.from_numpy(seen), 0.5 * kernel_spread(kernel), rtol=0.1, atol=0.01)


def test_blur_of_a_point_is_a_gaussian_of_that_width_and_keeps_the_sum():
    point = torch.zeros(31, 31, 31)
    point[15, 15, 15] = 1.0
    blurred = gaussian_blur(point, (0.0, 1.0, 2.0))
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-4)
    place = torch.arange(31) - 15.0
    for axis, sigma in ((1, 1.0), (2, 2.0)):
        profile = blurred.sum(dim=[a for a in range(3) if a != axis])
        assert float((profile * place**2).sum()) == pytest.approx(sigma**2, rel=0.05)
    assert float(blurred[14].abs().max()) == 0.0


def test_thick_slices_are_means_of_neighbours():
    volume = torch.arange(7.0).view(7, 1, 1).expand(7, 2, 3)
    assert thick_slices(volume, 0, 3)[:, 0, 0].tolist() == [1.0, 4.0]
    with pytest.raises(ValueError, match="slice ratio of 9"):
        thick_slices(volume, 0, 9)


def test_bias_field_is_positive_smooth_and_centred():
    field = bias_field((40, 48, 56), 0.2, seeded())
    assert field.shape == (40, 48, 56)
    assert float(field.min()) > 0
    assert float((field[1:] - field[:-1]).abs().max()) < 0.1
    assert float(bias_field((8, 8, 8), 0.0, seeded()).sub(1).abs().max()) == 0.0


def test_image_from_labels_follows_the_labels_and_the_seed():
    labels = torch.zeros(24, 24, 24, dtype=torch.long)
    labels[4:20, 4:20, 4:20] = 17
    labels[9:15, 9:15, 9:15] = 530
    image = image_from_labels(labels, seeded(5))
    assert torch.equal(image, image_from_labels(labels, seeded(5)))
    assert not torch.equal(image, image_from_labels(labels, seeded(6)))
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
    inside = [float(image[labels == value].std()) for value in (17, 530)]
    apart = float((image[labels == 17].mean() - image[labels == 530].mean()).abs())
    assert apart > max(inside)
