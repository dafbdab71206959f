"""A small 3D network that says which of several classes a whole volume belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import padded

GROUPS = 8


class ClassNet(nn.Module):
    """(B, channels, D, H, W) in 0..1 to logits (B, classes). ``maps`` is the layer to ask why (Grad-CAM)."""

    def __init__(self, classes: int, channels: int = 1, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        steps = [2] * (len(widths) - 1) + [1]  # the last maps stay fine enough to say where something was seen
        between = zip(itertools.pairwise([channels, *widths]), steps, strict=True)
        self.stages = nn.Sequential(*(_Stage(before, after, step) for (before, after), step in between))
        self.maps = nn.Identity()
        self.drop = nn.Dropout(0.2)
        self.answer = nn.Linear(2 * widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.maps(self.stages(padded(image, self.multiple)))
        seen = torch.cat([maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))], dim=1)
        return self.answer(self.drop(seen))


class _Stage(nn.Module):
    """A convolution, in steps of ``step`` voxels, then one whose result is added."""

    def __init__(self, before: int, after: int, step: int) -> None:
        super().__init__()
        self.down = nn.Conv3d(before, after, 3, stride=step, padding=1)
        self.even, self.even_more = (nn.GroupNorm(min(GROUPS, after), after) for _ in range(2))
        self.refine = nn.Conv3d(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.even(self.down(x)))
        return x + F.silu(self.even_more(self.refine(x)))
