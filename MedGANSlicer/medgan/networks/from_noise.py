"""A 3D generator that makes volumes of latent vectors, in the manner of DCGAN (Radford et al. 2016, arXiv 1511.06434).

Each doubling is nearest-neighbour interpolation and a convolution, which leaves no checkerboard (Odena et al. 2016),
and features are normalised voxel by voxel instead of over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import unit_length

START = 4
"""Side of the first, coarsest features."""


def widths_for(side: int, first: int = 128, last: int = 16) -> list[int]:
    """Channels from the coarsest to the finest features, halving from ``first`` down to ``last``. Raises ``ValueError``
    for a side that is no power of two, or out of reach."""
    levels = side.bit_length() - START.bit_length() + 1
    if side != START * 2 ** (levels - 1) or not 8 <= side <= 128:
        raise ValueError(f"Volumes from noise have 16, 32, 64 or 128 voxels along each side, not {side}.")
    return [min(first, last * 2 ** (levels - 1 - level)) for level in range(levels)]


class NoiseNet(nn.Module):
    """``forward(latent)``: (B, latent) standard normal -> (B, channels, S, S, S) of about 0 to 1."""

    def __init__(self, latent: int = 128, widths: Sequence[int] = (128, 128, 64, 32, 16), channels: int = 1) -> None:
        super().__init__()
        self.latent, self.side = latent, START * 2 ** (len(widths) - 1)
        self.enter = nn.Linear(latent, widths[0] * START**3)
        self.first = nn.ModuleList(nn.Conv3d(wide, finer, 3, padding=1) for wide, finer in pairwise(widths))
        self.second = nn.ModuleList(nn.Conv3d(finer, finer, 3, padding=1) for finer in widths[1:])
        self.leave = nn.Conv3d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = F.leaky_relu(self.enter(latent).view(len(latent), -1, START, START, START), 0.2)
        for first, second in zip(self.first, self.second, strict=True):
            x = F.interpolate(unit_length(x), scale_factor=2, mode="nearest")
            x = F.leaky_relu(second(F.leaky_relu(first(x), 0.2)), 0.2)
        return self.leave(unit_length(x))
