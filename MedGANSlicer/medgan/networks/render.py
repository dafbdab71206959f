"""A 3D generator that turns the statistics of labels into the texture of a scan, whatever the labels are called.

It starts as the rendering by a Gaussian mixture: each voxel has the mean of its label plus noise of the label's spread
and of a given spectrum, with partial volume at the borders (Billot et al., Med Image Anal 86:102789, 2023). What is
learned is added to that, in units of the local contrast: the last layer starts at zero. Statistics modulate the
features (spatially adaptive normalisation, Park et al. 2019, arXiv 1903.07291). It works at half and quarter of the
resolution, so that a volume of 256 voxels a side takes seconds, and is fully convolutional.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import (
    Up,
    cropped,
    depth_to_space,
    mean_of_8,
    mean_of_27,
    padded,
    space_to_depth,
    unit_length,
)
from medgan.networks.denoise import start_at_zero

LEAST_UNIT = 0.003
"""Unit of what is added where a label is constant and far from any border."""

PARTIAL_VOLUME = 0.32
"""Share of the mean of the 27 nearest voxels in the mixture's rendering: a point spread of
about half a voxel."""

STYLE = 8
"""Shares of the five octaves of texture, and the spacing along the three axes (see :func:`style_of`)."""

MULTIPLE = 4
"""Sides become multiples of this inside."""


class Told(nn.Module):
    """Features plus a convolution of them, normalised voxel by voxel, after what is told of each voxel and of the whole
    has scaled and shifted them."""

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.place = nn.Conv3d(told, 2 * channels, 1)
        self.style = nn.Linear(STYLE, 2 * channels)
        self.convolve = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor, style: Tensor) -> Tensor:
        both = torch.cat([torch.ones_like(x[:, :, 0, 0, 0]), torch.zeros_like(x[:, :, 0, 0, 0])], dim=1)
        scale, shift = pointwise(self.place, told, self.style(style) + both).chunk(2, dim=1)
        changed = torch.addcmul(shift, unit_length(x), scale)
        return self.convolve(F.leaky_relu_(changed, 0.2)).add_(x)


class RenderNet(nn.Module):
    """``forward(condition, texture, style)``: condition (B, 2, D, H, W) mean and standard deviation of each voxel's
    label, in the unit of the result (about 0 to 1); texture (B, 1, D, H, W) noise of standard deviation 1 and the
    wanted spectrum; style (B, STYLE); returns (B, 1, D, H, W). Any side.
    """

    def __init__(self, width: int = 32, deep: int = 64, blocks: int = 3, deep_blocks: int = 2, told: int = 24) -> None:
        super().__init__()
        self.tell = nn.Conv3d(8 * 5, told, 1)
        self.enter = nn.Conv3d(8 * 5, width, 3, padding=1)
        self.down = nn.Conv3d(width, deep, 1)
        self.deep = nn.ModuleList(Told(deep, told) for _ in range(deep_blocks))
        self.up = Up(deep, width)
        self.blocks = nn.ModuleList(Told(width, told) for _ in range(blocks))
        self.leave = nn.Conv3d(width, 8, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, condition: Tensor, texture: Tensor, style: Tensor) -> Tensor:
        whole = padded(torch.cat([condition, texture], dim=1), MULTIPLE)
        mean, spread, texture = whole.split(1, dim=1)
        rendered, unit = mixture(whole[:, :2], texture)
        parts = [mean, (mean - rendered) / unit, spread / unit, torch.log(unit), texture]
        if torch.is_autocast_enabled(mean.device.type):
            parts = [each.to(torch.get_autocast_dtype(mean.device.type)) for each in parts]
        seen = space_to_depth(torch.cat(parts, dim=1))
        told = F.leaky_relu(pointwise(self.tell, seen), 0.2)
        x = self.enter(seen)
        del seen
        far, told_far = pointwise(self.down, mean_of_8(x)), mean_of_8(told)
        for block in self.deep:
            far = block(far, told_far, style)
        x = x + self.up(far)
        for block in self.blocks:
            x = block(x, told, style)
        added = depth_to_space(self.leave(F.leaky_relu(x, 0.2)))
        return cropped(torch.addcmul(rendered, unit, added), condition)


def pointwise(layer: nn.Conv3d, x: Tensor, more: Tensor | None = None) -> Tensor:
    """A convolution of one voxel as a product of matrices, which is faster on a CPU; ``more`` (B, C) is added."""
    assert layer.bias is not None
    bias = layer.bias[None] if more is None else layer.bias + more
    weight = layer.weight.flatten(1)[None].expand(len(x), -1, -1)
    return torch.baddbmm(bias[..., None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


def mixture(condition: Tensor, texture: Tensor) -> tuple[Tensor, Tensor]:
    """The rendering by a Gaussian mixture, and the unit of the local contrast; both (B, 1, D, H, W)."""
    near = mean_of_27(condition)
    mean, spread = torch.lerp(condition, near, PARTIAL_VOLUME).split(1, dim=1)
    border = (condition[:, :1] - near[:, :1]).abs()
    return torch.addcmul(mean, spread, texture), spread + border + LEAST_UNIT


def style_of(shares: Tensor, spacing_mm: Tensor) -> Tensor:
    """(STYLE,) what the network is told of the whole scan: the shares of the octaves (5,) and the distance of voxels
    along k, j and i (3,) in octaves of millimetres."""
    return torch.cat([torch.log(shares.clamp_min(1e-3)) / 3.0 + 0.7, torch.log2(spacing_mm.clamp(0.1, 10.0))]).float()
