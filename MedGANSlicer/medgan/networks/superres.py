"""A 3D generator that fills in between thick slices what they do not determine, and nothing else.

Shapes: B batch, N thick slices, F fine slices, H W pixels of a slice, C channels.

The slices are interpolated to the fine grid (see medgan.slices) and given to the network that denoises: what
interpolation got wrong is to it a noise of known level, which it is told together with the ratio, the slice profile and
where, between two thick slices, each fine one lies. From its answer everything is taken out that the measured
slices determine: averaged to slices again, the result is the input. So one network serves any ratio.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medgan.networks.denoise import MARGIN, STRIDE, DenoiseNet, start_at_zero
from medgan.noise import BLOCK
from medgan.settings import SliceProfile
from medgan.slices import SliceOperator

TOLD = 7
"""Numbers that tell where a fine slice lies and what the slices are."""


class SliceNet(nn.Module):
    """Fine slices from thick ones.

    ``forward(image, level, operator)``: image (B, 1, N, H, W) of about 0 to 1, level (B,) of
    :func:`medgan.slices.expected_error`, ``operator`` the :class:`medgan.slices.SliceOperator` of N thick to F
    fine slices; returns (B, 1, F, H, W) in the unit of the image.
    """

    def __init__(self, channels: int = 32, **size: int) -> None:
        super().__init__()
        self.core = DenoiseNet(channels, **size)
        self.place = nn.Sequential(nn.Linear(TOLD, 32), nn.LeakyReLU(0.1), nn.Linear(32, channels))
        start_at_zero(self.place[2])

    def forward(self, image: Tensor, level: Tensor, operator: SliceOperator) -> Tensor:
        image = image.float()  # under autocast it may come rounded
        measure = torch.from_numpy(operator.measure).to(image)
        restore = torch.from_numpy(operator.restore).to(image)
        with torch.autocast(image.device.type, enabled=False):
            start = torch.einsum("fn,bcnhw->bcfhw", restore, image)
        level = level.to(image)
        spread = level.view(-1, 1).expand(-1, BLOCK**3)

        def more(blocks: int) -> Tensor:
            return self.place(_places(operator, blocks, image)).t().view(1, -1, blocks, 1, 1)

        answer = self.core(start, level, spread, more).float()
        # B y + (I - B A) n = n + B (y - A n), in full precision, so that the slices come back exactly.
        with torch.autocast(image.device.type, enabled=False):
            missing = image - torch.einsum("nf,bcfhw->bcnhw", measure, answer)
            return answer + torch.einsum("fn,bcnhw->bcfhw", restore, missing)


def _places(operator: SliceOperator, blocks: int, like: Tensor) -> Tensor:
    """(blocks, TOLD): the phase of the middle of each block of the network's grid in a thick slice, and the slices."""
    middle = STRIDE * torch.arange(blocks, dtype=like.dtype, device=like.device) - MARGIN + (BLOCK - 1) / 2
    phase = 2.0 * math.pi * ((middle + 0.5) / operator.ratio - 0.5)
    waves = [torch.sin(phase), torch.cos(phase), torch.sin(2 * phase), torch.cos(2 * phase)]
    gaussian = float(operator.profile is SliceProfile.GAUSSIAN)
    slices = torch.tensor([math.log2(operator.ratio), operator.width - 1.0, gaussian], dtype=like.dtype)
    return torch.cat([torch.stack(waves, dim=1), slices.to(like.device).expand(blocks, -1)], dim=1)
