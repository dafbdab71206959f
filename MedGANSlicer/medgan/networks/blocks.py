"""What several networks are built of: sides that fit a number of halvings, and the ways down and up."""

from __future__ import annotations

import torch.nn.functional as F
from monai.networks.utils import pixelshuffle
from torch import Tensor, nn


def padded(volume: Tensor, multiple: int) -> Tensor:
    """(B, C, D, H, W) with its far sides extended to multiples, by reflection where the volume is long enough."""
    pads = [n for side in reversed(volume.shape[2:]) for n in (0, -side % multiple)]
    if not any(pads):
        return volume
    reflects = all(side > pad for side, pad in zip(reversed(volume.shape[2:]), pads[1::2], strict=True))
    return F.pad(volume, pads, mode="reflect" if reflects else "replicate")


def cropped(volume: Tensor, like: Tensor) -> Tensor:
    """The near corner of a volume, of the size that another one has."""
    depth, height, width = like.shape[2:]
    return volume[:, :, :depth, :height, :width]


def unit_length(features: Tensor) -> Tensor:
    """Each voxel's features with a mean square of 1 (Karras et al. 2018, arXiv 1710.10196): a normalisation that,
    unlike those over the volume, gives a tile what it gives the whole."""
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-4).rsqrt()


class Up(nn.Module):
    """(B, in, d, h, w) -> (B, out, 2d, 2h, 2w): each voxel is parted by a convolution into eight."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.part = nn.Conv3d(in_channels, 8 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return pixelshuffle(self.part(x), spatial_dims=3, scale_factor=2)
