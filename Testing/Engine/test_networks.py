"""The denoising network's guarantees, before any training."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.utils import pixelshuffle

import phantoms
from medgan.networks import NETWORKS, denoise
from medgan.networks.blocks import asinh, depth_to_space, side_by_side, space_to_depth
from medgan.networks.denoise import DenoiseNet
from medgan.noise import noise_profile


@pytest.fixture
def a_network() -> DenoiseNet:
    torch.manual_seed(0)
    return DenoiseNet(channels=8, deep_channels=8).eval()


def answer(network: DenoiseNet, array: np.ndarray, sigma: float, spread: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        image = torch.from_numpy(array)[None, None]
        return network(image, torch.tensor([sigma]), torch.from_numpy(spread)[None])[0, 0].numpy()


def test_every_size_keeps_its_size(a_network):
    for shape in ((4, 4, 4), (5, 6, 7), (8, 33, 10), phantoms.ODD_SHAPE):
        array = phantoms.rician(phantoms.head(shape), 40.0) / 1000
        assert answer(a_network, array, 0.04, np.full(64, 0.04, np.float32)).shape == shape


def test_vanishing_noise_returns_the_input(a_network):
    array = phantoms.rician(phantoms.head((20, 22, 24)), 40.0) / 1000
    result = answer(a_network, array, 1e-7, np.full(64, 1e-7, np.float32))
    assert np.abs(result - array).max() < 1e-4


def test_scaling_volume_and_noise_scales_the_result(a_network):
    array = phantoms.rician(phantoms.head((20, 22, 24)), 40.0)
    profile = noise_profile(array)
    one = answer(a_network, array, profile.sigma, profile.spread)
    ten = answer(a_network, 10 * array, 10 * profile.sigma, 10 * profile.spread)
    assert np.allclose(ten, 10 * one, rtol=1e-3, atol=0.5)


def test_untrained_network_is_already_a_threshold_denoiser(a_network):
    clean = phantoms.head((32, 32, 32)) + 500
    noisy = clean + 50 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    result = answer(a_network, noisy, 50.0, np.full(64, 50.0, np.float32))
    assert np.square(result - clean).mean() < 0.4 * np.square(noisy - clean).mean()


def test_constant_volume_stays_constant(a_network):
    result = answer(a_network, np.full((12, 12, 12), 0.7, np.float32), 0.05, np.full(64, 0.05, np.float32))
    assert np.abs(result - result.mean()).max() < 1e-3


def test_blocks_are_summed_as_by_a_transposed_convolution(a_network):
    kept = torch.randn(2, 64, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    one = F.conv_transpose3d(kept, a_network.basis, stride=2)
    other = depth_to_space(F.conv3d(kept, denoise._overlapping(a_network.basis), padding=1))
    torch.testing.assert_close(other, one)


def test_bands_are_averages_over_boxes_within_the_volume():
    means = torch.randn(1, 1, 7, 12, 5, generator=torch.Generator().manual_seed(1))
    bands, rest = denoise._bands(means)
    torch.testing.assert_close(bands.sum(1, keepdim=True) + rest, means)
    box = means[0, 0, 0:3, 4:7, 0:2]  # around (1, 5, 0), at the edge of the last axis
    torch.testing.assert_close(means[0, 0, 1, 5, 0] - bands[0, 0, 1, 5, 0], box.mean())


def test_mixed_precision_costs_far_less_than_the_noise(a_network):
    """As on a GPU: a bright volume with little noise, where rounding the volume would be worse than the noise."""
    for parameter in a_network.leave.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    array = (phantoms.rician(phantoms.head((24, 24, 24)), 5.0) + 500) / 1500
    profile = noise_profile(array)
    full = answer(a_network, array, profile.sigma, profile.spread)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = answer(a_network, array, profile.sigma, profile.spread)
    assert not np.array_equal(mixed, full)
    assert np.sqrt(np.square(mixed - full).mean()) < 0.02 * profile.sigma


def test_networks_are_modules_by_name():
    assert isinstance(NETWORKS["medgan.DenoiseNet"](), torch.nn.Module)


def test_voxels_are_parted_and_gathered_as_monai_does():
    x = torch.randn(2, 16, 3, 4, 5)
    parted = depth_to_space(x)
    assert torch.equal(parted, pixelshuffle(x, 3, 2))
    together = depth_to_space(x.contiguous(memory_format=torch.channels_last_3d))
    assert torch.equal(together, parted)
    assert together.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(space_to_depth(parted), x)


def test_tasks_start_without_the_libraries_that_take_seconds_to_import():
    names = ("anomaly", "enhance", "recognise", "segment", "synthesize")
    code = "\n".join(f"import medgan.tasks.{name}" for name in names) + "\nimport sys\nprint('monai' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip() == "False"


def test_channels_side_by_side_are_those_of_torch_and_can_be_learned_through():
    parts = [torch.rand(2, channels, 3, 4, 5, requires_grad=True) for channels in (3, 2)]
    joined = side_by_side(*parts)
    assert torch.equal(joined, torch.cat(parts, dim=1))
    assert joined.is_contiguous(memory_format=torch.channels_last_3d)
    (joined * torch.arange(5.0).view(1, 5, 1, 1, 1)).sum().backward()
    assert [part.grad.unique().tolist() for part in parts] == [[0.0, 1.0, 2.0], [3.0, 4.0]]


def test_asinh_is_that_of_torch_for_small_and_large_numbers_and_its_slope_too():
    x = torch.cat([torch.zeros(1), torch.logspace(-6, 8, 200)])
    x = torch.cat([-x, x]).requires_grad_()
    torch.testing.assert_close(asinh(x), torch.asinh(x.double()).float(), rtol=1e-5, atol=3e-7)
    (slope,) = torch.autograd.grad(asinh(x).sum(), x)
    torch.testing.assert_close(slope[x != 0], (1.0 / torch.sqrt(x.detach().double() ** 2 + 1)).float()[x != 0])
