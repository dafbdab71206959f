"""What several networks are built of: sides that fit a number of halvings, and the ways down and up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def depth_to_space(x: Tensor) -> Tensor:
    """(B, 8 C, D, H, W) -> (B, C, 2 D, 2 H, 2 W): the channels of a voxel become the eight voxels in its place, as in
    MONAI's ``pixelshuffle`` (whose import takes seconds)."""
    batch, channels, d, h, w = x.shape
    if x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous():  # stays in that layout
        x = x.permute(0, 2, 3, 4, 1).view(batch, d, h, w, channels // 8, 2, 2, 2).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(batch, 2 * d, 2 * h, 2 * w, channels // 8).permute(0, 4, 1, 2, 3)
    x = x.reshape(batch, channels // 8, 2, 2, 2, d, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // 8, 2 * d, 2 * h, 2 * w)


def space_to_depth(x: Tensor) -> Tensor:
    """The inverse of :func:`depth_to_space`, for even sides."""
    batch, channels, d, h, w = x.shape
    x = x.reshape(batch, channels, d // 2, 2, h // 2, 2, w // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, 8 * channels, d // 2, h // 2, w // 2)


def side_by_side(*parts: Tensor) -> Tensor:
    """The channels of one tensor (B, C, D, H, W) after those of another.

    On processors in the layout that keeps the channels of a voxel together: convolutions pass it on, and need not
    rearrange what they get and give, which takes as long as they do. ``torch.cat`` is slow in it.
    """
    if parts[0].device.type != "cpu":
        return torch.cat(parts, dim=1)
    batch, _, *sides = parts[0].shape
    channels = sum(part.shape[1] for part in parts)
    joined = torch.empty((batch, channels, *sides), dtype=parts[0].dtype, memory_format=torch.channels_last_3d)
    first = 0
    for part in parts:
        joined[:, first : first + part.shape[1]] = part
        first += part.shape[1]
    return joined


def asinh(x: Tensor) -> Tensor:
    """As ``torch.asinh``, in a quarter of the time on processors."""
    return torch.copysign(torch.log(x.abs() + torch.sqrt(x.square() + 1.0)), x)


def unit_length(features: Tensor) -> Tensor:
    """Each voxel's features with a mean square of 1 (Karras et al. 2018, arXiv 1710.10196): a normalisation that,
    unlike those over the volume, gives a tile what it gives the whole."""
    if torch.is_grad_enabled() or features.device.type != "cpu":
        return features * (features.square().mean(dim=1, keepdim=True) + 1e-4).rsqrt()
    total = torch.zeros_like(features[:, 0], dtype=torch.float32)
    for channel in features.unbind(dim=1):  # one after the other stays in the cache: a third of the time
        channel = channel.float()
        total.addcmul_(channel, channel)
    return features * (total / features.shape[1] + 1e-4).rsqrt_().to(features.dtype).unsqueeze(1)


def mean_of_8(volume: Tensor) -> Tensor:
    """(B, C, 2d, 2h, 2w) -> (B, C, d, h, w): as ``avg_pool3d(volume, 2)``, in a seventh of the time on a CPU and in any
    number format."""
    for axis in (2, 3, 4):
        first, second = volume.unflatten(axis, (-1, 2)).unbind(dim=axis + 1)
        volume = first + second
    return volume * 0.125


def mean_of_27(volume: Tensor) -> Tensor:
    """The mean of the 27 voxels around each; beyond the border the outermost go on."""
    for axis in (2, 3, 4):
        first, last = volume.narrow(axis, 0, 1), volume.narrow(axis, volume.shape[axis] - 1, 1)
        wide = torch.cat([first, volume, last], dim=axis)
        side = volume.shape[axis]
        volume = wide.narrow(axis, 0, side) + wide.narrow(axis, 1, side) + wide.narrow(axis, 2, side)
    return volume * (1.0 / 27.0)


class Up(nn.Module):
    """(B, in, d, h, w) -> (B, out, 2d, 2h, 2w): each voxel is parted by a convolution into eight."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.part = nn.Conv3d(in_channels, 8 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(self.part(x))
