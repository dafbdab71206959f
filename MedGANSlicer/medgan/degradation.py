"""What scanners do to anatomy: noise, point spread, thick slices, bias field, and images made from label maps.

All functions take and return torch tensors of shape (D, H, W) unless they say otherwise, on any device, and
draw their random numbers from the generator they are given. Noise levels are standard deviations in the
unit of the volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.noise import BLOCK, cosine_matrix


class NoiseKind(Enum):
    """How noise enters a volume."""

    GAUSSIAN = "gaussian"
    RICIAN = "rician"
    POISSON = "poisson"
    CORRELATED = "correlated"


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, type and device of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number, equally likely anywhere between two."""
    return low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))


def pick(count: int, generator: torch.Generator) -> int:
    """A whole number from 0 to ``count - 1``."""
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def choose(options, generator):  # type: ignore[no-untyped-def]
    """One of (value, weight) pairs."""
    place = uniform(0.0, sum(weight for _, weight in options), generator)
    for value, weight in options:
        place -= weight
        if place <= 0:
            return value
    return options[-1][0]


def kind_of(modality: str) -> str:
    """CT, PET or MR, by the name of a modality."""
    return next((kind for kind in ("PET", "CT") if modality.upper().startswith(kind)), "MR")


def gaussian_noise(volume: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Independent additive noise."""
    return volume + sigma * normal(volume, generator)


def rician_noise(volume: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Magnitude of a complex signal with independent noise in both channels (Gudbjartsson and Patz, 1995)."""
    return torch.hypot(volume + sigma * normal(volume, generator), sigma * normal(volume, generator))


def poisson_noise(volume: Tensor, sigma: float, generator: torch.Generator, share: float = 0.7) -> Tensor:
    """Counting noise in its Gaussian limit on top of Gaussian noise.

    ``sigma`` is the root mean square level over the volume, ``share`` the part of the variance that is
    proportional to the intensity above the minimum.
    """
    signal = (volume - volume.min()).clamp_min(0.0)
    proportional = signal / signal.mean().clamp_min(1e-12)
    return volume + sigma * torch.sqrt(1.0 - share + share * proportional) * normal(volume, generator)


def correlated_noise(volume: Tensor, sigma: float, kernel: Tensor, generator: torch.Generator) -> Tensor:
    """Noise filtered by an odd-sized kernel (d, h, w) and brought to standard deviation ``sigma``, as after a
    CT reconstruction filter or an interpolation."""
    kernel = kernel / kernel.square().sum().sqrt()
    pads = [side // 2 for side in kernel.shape]
    shape = [side + 2 * pad for side, pad in zip(volume.shape, pads, strict=True)]
    white = torch.randn(shape, generator=generator, device=volume.device, dtype=volume.dtype)
    return volume + sigma * F.conv3d(white[None, None], kernel[None, None])[0, 0]


def random_noise_kernel(generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """A (3, 5, 5) noise kernel: soft or sharp within the slice, a little overlap between slices."""
    place = torch.arange(-2, 3, dtype=torch.float32, device=device)
    soft = torch.exp(-0.5 * (place / uniform(0.3, 0.8, generator)) ** 2)
    plane = torch.outer(soft, soft)
    plane = plane / plane.sum()
    wide = torch.exp(-0.5 * (place / 1.5) ** 2)
    plane = plane - uniform(0.0, 0.9, generator) * torch.outer(wide, wide) / wide.sum() ** 2
    between = torch.tensor([1.0, 0.0, 1.0], device=device) * uniform(0.0, 0.4, generator)
    between[1] = 1.0
    return between.view(3, 1, 1) * plane


def kernel_spread(kernel: Tensor) -> Tensor:
    """(64,) standard deviation that filtered unit noise shows in each 4x4x4 cosine coefficient (see medgan.noise)."""
    matrix = torch.from_numpy(cosine_matrix()).to(kernel)
    basis = torch.einsum("ai,bj,ck->abcijk", matrix, matrix, matrix).reshape(-1, 1, BLOCK, BLOCK, BLOCK)
    kernel = (kernel / kernel.square().sum().sqrt()).flip(0, 1, 2)[None, None]
    pads = [side - 1 for side in kernel.shape[2:]]
    response = F.conv3d(F.pad(basis, [pads[2], pads[2], pads[1], pads[1], pads[0], pads[0]]), kernel)
    return response.square().sum(dim=(1, 2, 3, 4)).sqrt()


def gaussian_blur(volume: Tensor, sigma_voxels: Sequence[float]) -> Tensor:
    """Point spread of a Gaussian with a standard deviation in voxels along each of the three axes."""
    blurred = volume[None, None]
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.05:
            continue
        radius = min(max(1, math.ceil(3.0 * sigma)), volume.shape[axis] - 1)
        place = torch.arange(-radius, radius + 1, device=volume.device, dtype=volume.dtype)
        kernel = torch.exp(-0.5 * (place / sigma) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        pads = [0, 0, 0, 0, 0, 0]
        pads[2 * (2 - axis)] = pads[2 * (2 - axis) + 1] = radius
        blurred = F.conv3d(F.pad(blurred, pads, mode="replicate"), (kernel / kernel.sum()).view(shape))
    return blurred[0, 0]


def thick_slices(volume: Tensor, axis: int, ratio: int) -> Tensor:
    """Slices that are each the mean of ``ratio`` neighbours along an axis; a rest at the end is left out."""
    if ratio < 1 or volume.shape[axis] < ratio:
        raise ValueError(f"A slice ratio of {ratio} does not fit an axis of {volume.shape[axis]} voxels.")
    count = volume.shape[axis] // ratio
    shape = list(volume.shape)
    shape[axis : axis + 1] = [count, ratio]
    return volume.narrow(axis, 0, count * ratio).reshape(shape).mean(dim=axis + 1)


def bias_field(shape: Sequence[int], strength: float, generator: torch.Generator) -> Tensor:
    """Smooth positive multiplicative field (D, H, W) of mean about 1, log-normal with spread ``strength``."""
    coarse = torch.randn(1, 1, 4, 4, 4, generator=generator, device=generator.device) * strength
    return torch.exp(F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0])


def image_from_labels(
    labels: Tensor, generator: torch.Generator, partial_volume: tuple[float, float] = (0.3, 0.9)
) -> Tensor:
    """Noise-free random image (D, H, W) in 0..1 from an integer label map: domain randomisation.

    ``partial_volume``: least and greatest standard deviation in voxels of the blur along each axis.

    Every label gets a random mean and texture (Gaussian mixture), then partial volume, bias field and gamma
    (Billot et al., Med Image Anal 86:102789, 2023). Background (label 0) is dark in three of four images.
    """
    values, index = torch.unique(labels, return_inverse=True)
    device, count = labels.device, len(values)
    mean = 0.05 + 0.95 * torch.rand(count, generator=generator, device=device)
    if uniform(0.0, 1.0, generator) < 0.75:
        mean[values == 0] = 0.0
    grain = torch.rand(count, generator=generator, device=device) * uniform(0.0, 0.08, generator)
    grain[values == 0] = 0.0
    image = mean[index]
    texture = gaussian_blur(normal(image, generator), [uniform(0.4, 2.0, generator)] * 3)
    image = image + grain[index] * texture / texture.std().clamp_min(1e-6)
    image = gaussian_blur(image, [uniform(*partial_volume, generator) for _ in range(3)])
    image = image * bias_field(labels.shape, uniform(0.0, 0.25, generator), generator).to(device)
    image = image.clamp_min(0.0)
    image = image / image.max().clamp_min(1e-6)
    return image ** math.exp(uniform(-0.35, 0.35, generator))
