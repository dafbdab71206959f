"""A 3D generator that turns one contrast into another: a residual U-net without normalisation over the volume.

Without it a tile is translated as it would be within the whole volume, and intensities keep their meaning (instance
normalisation, usual in Isola et al. 2017, arXiv 1611.07004, and Zhu et al. 2017, 1703.10593, takes both away). It
starts as the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medgan.networks.blocks import Up, cropped, padded
from medgan.networks.denoise import ResidualPair, start_at_zero


class TranslateNet(nn.Module):
    """``forward(image)``: (B, in_channels, D, H, W) of about 0 to 1 -> (B, out_channels, D, H, W); any side."""

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, widths: Sequence[int] = (16, 48, 96), deep_pairs: int = 3
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        steps = list(pairwise(widths))
        self.enter = nn.Conv3d(in_channels, widths[0], 3, padding=1)
        self.before = nn.ModuleList(ResidualPair(wide) for wide, _ in steps)
        self.down = nn.ModuleList(nn.Conv3d(wide, deeper, 2, stride=2) for wide, deeper in steps)
        self.deep = nn.Sequential(*(ResidualPair(widths[-1]) for _ in range(deep_pairs)))
        self.up = nn.ModuleList(Up(deeper, wide) for wide, deeper in steps)
        self.after = nn.ModuleList(ResidualPair(wide) for wide, _ in steps)
        self.leave = nn.Conv3d(widths[0], out_channels, 3, padding=1)
        start_at_zero(self.leave)
        self.through = nn.Conv3d(in_channels, out_channels, 1)
        nn.init.zeros_(self.through.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.through.weight, 1.0 / in_channels)

    def forward(self, image: Tensor) -> Tensor:
        whole = padded(image, self.multiple)
        x, kept = self.enter(whole), []
        for pair, down in zip(self.before, self.down, strict=True):
            x = pair(x)
            kept.append(x)
            x = down(x)
        x = self.deep(x)
        for pair, up, skip in zip(reversed(self.after), reversed(self.up), reversed(kept), strict=True):
            x = pair(up(x) + skip)
        return cropped(self.leave(torch.nn.functional.leaky_relu(x, 0.1)) + self.through(whole), image)
