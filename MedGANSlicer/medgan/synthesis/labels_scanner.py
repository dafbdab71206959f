"""What a scanner adds to a made volume: an uneven field, thick slices, noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medgan.degradation import bias_field, gaussian_blur, gaussian_noise, rician_noise
from medgan.settings import SynthesizeSettings

SIGMA_OF_SLAB = 0.29
"""Standard deviation of a slice profile in shares of its thickness: that of a box."""


def as_scanned(
    array: np.ndarray, spacing_mm: Sequence[float], settings: SynthesizeSettings, seed: int, magnitude: bool
) -> np.ndarray:
    """An array [k, j, i] of 0 to about 1 with the bias, slices and noise that the settings ask for.

    ``spacing_mm`` along k, j, i. ``magnitude``: 0 is no signal, so that noise can not be negative (MR).
    """
    generator = torch.Generator().manual_seed(seed + 1)
    image = torch.from_numpy(array)
    if settings.bias > 0:
        image = image * bias_field(array.shape, settings.bias, generator)
    axis = int(np.argmax(spacing_mm))
    if settings.slice_mm > spacing_mm[axis]:
        image = in_slices(image, axis, settings.slice_mm / spacing_mm[axis])
    if settings.noise > 0:
        image = (rician_noise if magnitude else gaussian_noise)(image, settings.noise, generator)
    return image.numpy()


def in_slices(image: torch.Tensor, axis: int, ratio: float) -> torch.Tensor:
    """An image whose slices along an axis are ``ratio`` voxels thick and as far apart, interpolated to its own grid."""
    side = image.shape[axis]
    sigma = [0.0, 0.0, 0.0]
    sigma[axis] = SIGMA_OF_SLAB * ratio
    soft = gaussian_blur(image, sigma) if side > 1 else image
    count = max(1, int((side - 1) / ratio) + 1)
    first = (side - 1 - (count - 1) * ratio) / 2
    places = ((torch.arange(side) - first) / ratio).clamp(0, count - 1)  # in slices
    low = places.floor().long().clamp_max(max(count - 2, 0))
    shape = [-1 if n == axis else 1 for n in range(3)]
    share = (places - low).view(shape)
    centres = (first + ratio * torch.arange(count)).round().long().clamp(0, side - 1)
    slices = soft.index_select(axis, centres)
    return torch.lerp(slices.index_select(axis, low), slices.index_select(axis, (low + 1).clamp_max(count - 1)), share)
