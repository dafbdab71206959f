"""A small network whose 128 numbers say what a crop of a volume shows and how good the image is.

Legend for tensor names: B batch, C channels, D H W voxels (k, j, i).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 128
"""Length of a feature vector."""

FINE = 48
"""How many of them come from fine detail alone."""

STEPS = (1, 2, 4)
"""Distances in voxels over which second differences are taken."""


def second_difference(image_BCDHW: Tensor, axis: int, step: int) -> Tensor:
    """Half of what a voxel lies above the mean of its two neighbours at a distance; shorter by twice the step."""
    length = image_BCDHW.shape[axis] - 2 * step
    before, here, after = (image_BCDHW.narrow(axis, first, length) for first in (0, step, 2 * step))
    return 0.5 * (here - 0.5 * (before + after))


def log_spread(image_BCDHW: Tensor) -> Tensor:
    """(B, C) logarithm of the standard deviation over the voxels, which ends at that of 0.002."""
    mean = image_BCDHW.mean(dim=(2, 3, 4), keepdim=True)
    return torch.log((image_BCDHW - mean).square().mean(dim=(2, 3, 4)).add(1e-8).sqrt() + 2e-3)


def fine_detail(image_BCDHW: Tensor) -> Tensor:
    """(B, 36) strength of second differences: two measures, three distances, by axis and by size."""
    found = []
    for step in STEPS:
        changes = [second_difference(image_BCDHW, axis, step) for axis in (2, 3, 4)]
        spread = torch.cat([log_spread(change) for change in changes], dim=1)
        mean = torch.cat([torch.log(change.abs().mean(dim=(2, 3, 4)) + 1e-3) for change in changes], dim=1)
        found += [spread, spread.sort(dim=1).values, mean, mean.sort(dim=1).values]
    return torch.cat(found, dim=1)


class FeatureNet(nn.Module):
    """Crops (B, 1, D, H, W) in 0..1 with at least 16 voxels a side to features (B, 128), each about -3 to 3.

    The first 48 come from second differences along each axis, which tell of noise, blur and slices.
    The other 80 come from four convolutions with stride 2, which tell of form: the mean and the logarithm of the
    spread of every channel. There is no normalisation of a single image: it would take away how strong the noise is.
    ``shift`` and ``scale`` bring each feature to mean 0 and standard deviation 1 over the crops of training.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv3d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise([4, *channels])
        )
        self.refine = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for width in channels[1:])
        fine, form = 2 * 6 * len(STEPS), 2 * sum(channels)
        self.even_fine, self.even_form = (nn.BatchNorm1d(n, momentum=0.02, affine=False) for n in (fine, form))
        self.mix_fine = nn.Sequential(nn.Linear(fine, 160), nn.GELU(), nn.Linear(160, FINE))
        self.mix_form = nn.Sequential(nn.Linear(form, 160), nn.GELU(), nn.Linear(160, FEATURES - FINE))
        self.register_buffer("shift", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        for layer in [*self.stages, *self.refine]:
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            nn.init.zeros_(layer.bias)

    def forward(self, image_BCDHW: Tensor) -> Tensor:
        fine = self.mix_fine(self.even_fine(fine_detail(image_BCDHW)))
        form = self.mix_form(self.even_form(self._form(image_BCDHW)))
        return (torch.cat([fine, form], dim=1) - self.shift) / self.scale

    def _form(self, image_BCDHW: Tensor) -> Tensor:
        """(B, 2 x all channels): mean and logarithm of the spread of each."""
        shown, pooled = image_BCDHW, []
        for axis in (2, 3, 4):
            fine = F.pad(second_difference(image_BCDHW, axis, 1), [1 if a == axis else 0 for a in (4, 4, 3, 3, 2, 2)])
            shown = torch.cat([shown, torch.tanh(5.0 * fine)], dim=1)
        plain = len(self.stages) - len(self.refine)
        for number, stage in enumerate(self.stages):
            shown = F.leaky_relu(stage(shown), 0.1)
            if number >= plain:
                shown = shown + F.leaky_relu(self.refine[number - plain](shown), 0.1)
            pooled += [shown.mean(dim=(2, 3, 4)), log_spread(shown)]
        return torch.cat(pooled, dim=1)
