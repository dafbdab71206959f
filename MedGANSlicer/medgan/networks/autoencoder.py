"""A 3D autoencoder that can only say again what it has often seen: what it gets wrong is unusual.

A narrow code and no shortcuts around it (An and Cho 2015; Baur et al. 2021, Med Image Anal 69:101952). Fully
convolutional.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import Up, cropped, padded
from medgan.networks.denoise import ResidualPair


class AutoencoderNet(nn.Module):
    """``forward(image)``: (B, channels, D, H, W) of about 0 to 1 -> its reconstruction, of that shape; any side.

    ``code``: numbers that are left of a block of 2**len(widths) voxels along each axis.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (16, 32, 64), code: int = 16) -> None:
        super().__init__()
        self.multiple = 2 ** len(widths)
        wide = [widths[0], *widths]
        self.enter = nn.Conv3d(channels, wide[0], 3, padding=1)
        self.encode = nn.Sequential(
            *(
                nn.Sequential(nn.Conv3d(fine, coarse, 4, stride=2, padding=1), ResidualPair(coarse))
                for fine, coarse in pairwise(wide)
            )
        )
        self.narrow = nn.Conv3d(wide[-1], code, 1)
        self.widen = nn.Conv3d(code, wide[-1], 1)
        self.decode = nn.Sequential(
            *(
                nn.Sequential(ResidualPair(coarse), Up(coarse, fine))
                for coarse, fine in zip(reversed(wide[1:]), reversed(wide[:-1]), strict=True)
            )
        )
        self.leave = nn.Conv3d(wide[0], channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.leaky_relu(self.enter(padded(image, self.multiple)), 0.1)
        x = self.widen(self.narrow(self.encode(x)))
        return cropped(self.leave(F.leaky_relu(self.decode(x), 0.1)), image)
