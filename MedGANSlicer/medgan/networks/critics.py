"""The critics of training. They are never shipped. All return a list: features from fine to coarse, judgement last.

Where a judgement of patches is wanted, MONAI's ``PatchDiscriminator`` is taken, which answers in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn


def patch_critic(channels: int, width: int = 32, layers: int = 2, normalised: bool = True) -> nn.Module:
    """Judges overlapping patches (Isola et al. 2017, arXiv 1611.07004). ``normalised``: its features are, instance by
    instance; not wanted where its weights are bounded instead."""
    critic = PatchDiscriminator(3, width, channels, 1, num_layers_d=layers, norm=("instance", {"affine": False}))
    if not normalised:
        for module in list(critic.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.InstanceNorm3d):
                    setattr(module, name, nn.Identity())
    return critic


class VolumeCritic(nn.Module):
    """``forward(volume)``: (B, C, S, S, S) -> features and (B, 1); ``widths`` from the finest to the coarsest features,
    each half as long as the one before, until 4 voxels are left."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        wide = [channels, *widths]
        self.enter = nn.Conv3d(wide[0], wide[1], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv3d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(wide[1:])
        )
        self.judge = nn.Linear(wide[-1] * 4**3, 1)

    def forward(self, volume: Tensor) -> list[Tensor]:
        answers = [F.leaky_relu(self.enter(volume), 0.2)]
        for layer in self.down:
            answers.append(F.leaky_relu(layer(answers[-1]), 0.2))
        return [*answers, self.judge(answers[-1].flatten(1))]


class FeatureCritic(nn.Module):
    """``forward(image)``: (B, C, D, H, W) -> features at several scales, the image itself among them (no judgement)."""

    def __init__(self, channels: int, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        wide = [channels, *widths]
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(wide))

    def forward(self, image: Tensor) -> list[Tensor]:
        answers = [image]
        for layer in self.down:
            answers.append(F.leaky_relu(layer(answers[-1]), 0.2))
        return answers
