"""Noise of a CT kernel has little power at the lowest frequencies; filters and interpolation leave most there."""

from __future__ import annotations

import numpy as np
import pytest

import phantoms
from medgan.ct_kernel import low_share
from medgan.restoration import denoise
from medgan.settings import EnhanceSettings
from medgan.tasks import enhance
from medgan.volume import Volume

SHAPE = (40, 96, 96)


def filtered(kind, seed=0, shape=SHAPE):
    """Noise of standard deviation 1."""
    j, i = np.meshgrid(np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2]), indexing="ij")
    within = np.hypot(j, i)
    response = {
        "white": np.ones_like(within),
        "kernel": np.sqrt(within) * (0.5 + 0.5 * np.cos(2.0 * np.pi * np.minimum(within, 0.5))),
        "sharp kernel": np.sqrt(within) * np.exp(-((within / 0.4) ** 2)),
        "smoothed": np.exp(-2.0 * (np.pi * 0.8 * within) ** 2),
        "interpolated": np.cos(np.pi * j) * np.cos(np.pi * i),
    }[kind]
    white = np.random.default_rng(seed).normal(size=shape)
    noise = np.fft.irfft2(np.fft.rfft2(white, axes=(1, 2)) * response, s=shape[1:], axes=(1, 2))
    return noise / noise.std()


@pytest.mark.parametrize("kind", ["kernel", "sharp kernel"])
@pytest.mark.parametrize("level", [15.0, 40.0])
def test_kernels_are_seen(kind, level):
    assert low_share((phantoms.ct_body(SHAPE) + level * filtered(kind)).astype(np.float32)) < 0.8


@pytest.mark.parametrize("kind", ["white", "smoothed", "interpolated"])
@pytest.mark.parametrize("level", [15.0, 40.0])
def test_filters_are_no_kernels(kind, level):
    assert low_share((phantoms.ct_body(SHAPE) + level * filtered(kind)).astype(np.float32)) > 0.92


@pytest.mark.parametrize("shape", [(3, 96, 96), (8, 12, 96), (8, 32, 32)])
def test_what_is_too_small_or_has_no_noise_tells_nothing(shape):
    assert low_share(filtered("kernel", shape=shape).astype(np.float32)) == 1.0
    assert low_share(np.zeros(SHAPE, np.float32)) == 1.0


def test_noise_of_a_kernel_is_told_as_it_is(monkeypatch):
    """Told as stronger it takes more of the brightness of thin rods along."""
    truth = phantoms.ct_body(SHAPE)
    rods = np.zeros(SHAPE, bool)
    rods[:, 40:44, 30:66:6] = True
    truth = np.where(rods, truth + 60.0, truth).astype(np.float32)
    noisy = (truth + 40.0 * filtered("kernel", 3)).astype(np.float32)

    def brightness_lost():
        outputs = enhance.run({"volume": Volume(noisy, phantoms.geometry())}, EnhanceSettings())
        return float((truth - outputs.volumes["volume"].array)[rods].mean())

    now = brightness_lost()
    monkeypatch.setattr(denoise, "KERNEL", (-2.0, -1.0))  # none is a kernel then
    assert 0.0 < now < 0.9 * brightness_lost()
