"""A 3D generator that makes a volume of a label map, whatever the labels are called.

It never sees label values: at each voxel it is told the mean and the spread of the intensities that the label there
has in the wanted contrast. Condition and style modulate the features at each scale (spatially adaptive normalisation,
Park et al. 2019, arXiv 1903.07291), and the answer is what has to be added to the means, in units of the spread. So
it knows neither contrast nor vocabulary: it learns edges, texture and noise. It is fully convolutional.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import Up, cropped, padded, unit_length
from medgan.networks.denoise import start_at_zero

LEAST_SPREAD = 0.02
"""Unit of what is added to a label of constant intensity; partial volume needs room."""


class Modulated(nn.Module):
    """Features normalised voxel by voxel, then scaled and shifted by condition and style, then convolved."""

    def __init__(self, channels: int, told: int, style: int) -> None:
        super().__init__()
        self.place = nn.Conv3d(told, 2 * channels, 1)
        self.style = nn.Linear(style, 2 * channels)
        self.convolve = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor, style: Tensor) -> Tensor:
        scale, shift = (self.place(told) + self.style(style)[:, :, None, None, None]).chunk(2, dim=1)
        return self.convolve(F.leaky_relu(unit_length(x) * (1.0 + scale) + shift, 0.2))


class LabelNet(nn.Module):
    """``forward(condition, noise, style)``: condition (B, 2, D, H, W) mean and standard deviation of each voxel's
    label, in the unit of the result (about 0 to 1); noise (B, 1, D, H, W) and style (B, style) standard normal; returns
    (B, 1, D, H, W). Any side.
    """

    def __init__(self, widths: Sequence[int] = (16, 48, 96), told: int = 16, style: int = 8) -> None:
        super().__init__()
        self.style_length = style
        self.multiple = 2 ** (len(widths) - 1)
        self.tell = nn.ModuleList(nn.Conv3d(3, told, 3, padding=1) for _ in widths)
        self.enter = nn.Conv3d(3, widths[-1], 3, padding=1)
        self.first = nn.ModuleList(Modulated(wide, told, style) for wide in widths)
        self.second = nn.ModuleList(Modulated(wide, told, style) for wide in widths)
        self.up = nn.ModuleList(Up(deep, wide) for wide, deep in pairwise(widths))
        self.leave = nn.Conv3d(widths[0], 1, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, condition: Tensor, noise: Tensor, style: Tensor) -> Tensor:
        whole = padded(torch.cat([condition, noise], dim=1), self.multiple)
        scales = [whole]
        for _ in self.up:
            means, noise = F.avg_pool3d(scales[-1], 2).split((2, 1), dim=1)
            scales.append(torch.cat([means, noise * 8**0.5], dim=1))  # averaged noise of standard deviation 1 again
        x = self.enter(scales[-1])
        for level in reversed(range(len(scales))):
            told = F.leaky_relu(self.tell[level](scales[level]), 0.2)
            x = x + self.first[level](x, told, style)
            x = x + self.second[level](x, told, style)
            if level:
                x = self.up[level - 1](x)
        mean, spread = cropped(whole, condition).split((1, 1, 1), dim=1)[:2]
        added = cropped(self.leave(F.leaky_relu(unit_length(x), 0.2)), condition)
        return mean + (spread + LEAST_SPREAD) * added


def label_statistics(image: Tensor, labels: Tensor) -> Tensor:
    """(2, D, H, W) mean and standard deviation of an image (D, H, W) over all voxels that share a label (D, H, W)."""
    _, index = torch.unique(labels, return_inverse=True)
    flat, count = index.reshape(-1), int(index.max()) + 1
    size = torch.zeros(count, device=image.device).index_add_(0, flat, torch.ones_like(flat, dtype=torch.float32))
    values = image.reshape(-1).float()
    mean = torch.zeros(count, device=image.device).index_add_(0, flat, values) / size
    square = torch.zeros(count, device=image.device).index_add_(0, flat, (values - mean[flat]).square()) / size
    return torch.stack([mean[index], square.sqrt()[index]])
