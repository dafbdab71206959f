"""A 3D network that shows a scan in another contrast by giving every place its own curve of intensities.

What is bright in one contrast may be dark in the other, and which it is depends on the tissue. So the network looks at
the scan at 2 mm (a U-net on voxels folded by two) and says for each place how every intensity there is to be shown:
a curve of a few knots, laid on the scan at its own resolution (in the manner of the bilateral grid of Gharbi et al.
2017, arXiv 1707.02880). All detail of the result is thereby detail of the scan, and the network can not draw what is
not there. It starts as one fixed curve for each pair of contrasts, which is the best that intensities alone can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import Up, cropped, padded, space_to_depth
from medgan.networks.denoise import ResidualPair, start_at_zero

CONTRASTS = ("T1", "T2", "FLAIR")
"""The contrasts in the order of the network's codes."""

BRIGHTEST = 1.5
"""Intensity of the last knot, where 0.5 is the median of the foreground."""


class ContrastNet(nn.Module):
    """``forward(image, source, target)``: (B, 1, D, H, W) with the median of its foreground at 0.5, the contrast it has
    and the wanted one for each of the batch (B,) as places in ``CONTRASTS`` -> (B, 2, D, H, W): the scan in the wanted
    contrast, in the same unit, and how far it is likely to be off (mean absolute error). Any side.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64), knots: int = 10, pairs: int = 2) -> None:
        super().__init__()
        self.knots = knots
        self.multiple = 2 ** len(widths)
        self.enter = nn.Conv3d(8, widths[0], 3, padding=1)
        self.tell = nn.ModuleList(nn.Linear(2 * len(CONTRASTS), wide) for wide in widths)
        self.before = nn.ModuleList(ResidualPair(wide) for wide in widths[:-1])
        self.down = nn.ModuleList(nn.Conv3d(wide, deep, 2, stride=2) for wide, deep in pairwise(widths))
        self.deep = nn.Sequential(*(ResidualPair(widths[-1]) for _ in range(pairs)))
        self.up = nn.ModuleList(Up(deep, wide) for wide, deep in pairwise(widths))
        self.after = nn.ModuleList(ResidualPair(wide) for wide in widths[:-1])
        self.leave = nn.Conv3d(widths[0], knots + 2, 3, padding=1)
        start_at_zero(self.leave)
        line = torch.linspace(0.0, BRIGHTEST, knots).expand(len(CONTRASTS), len(CONTRASTS), knots)
        self.curves = nn.Parameter(line.clone())
        """Of each source to each target: the intensities shown for those of the knots."""

    def forward(self, image: Tensor, source: Tensor, target: Tensor) -> Tensor:
        whole = padded(image, self.multiple)
        pair = torch.cat([F.one_hot(code, len(CONTRASTS)) for code in (source, target)], dim=1).to(image.dtype)
        x, kept = self.enter(space_to_depth(whole)), []
        for tell, first, down in zip(self.tell, self.before, self.down, strict=False):
            x = first(x + tell(pair)[:, :, None, None, None])
            kept.append(x)
            x = down(x)
        x = self.deep(x + self.tell[-1](pair)[:, :, None, None, None])
        for after, up, skip in zip(reversed(self.after), reversed(self.up), reversed(kept), strict=True):
            x = after(up(x) + skip)
        told = self.leave(F.leaky_relu(x, 0.1))
        start = F.pad(self.curves[source, target], (0, 2))[:, :, None, None, None]
        told = F.interpolate(told + start, scale_factor=2, mode="trilinear", align_corners=False)
        curve, smooth, off = cropped(told, image).split((self.knots, 1, 1), dim=1)
        seen = torch.lerp(image, local_mean(image), torch.sigmoid(smooth - 2.0))
        return torch.cat([laid_on(curve, seen), 0.02 + 0.3 * torch.sigmoid(off - 2.0)], dim=1)


def local_mean(image: Tensor) -> Tensor:
    """The mean of 27 voxels; beyond the border the outermost go on."""
    return F.avg_pool3d(F.pad(image, [1] * 6, mode="replicate"), 3, stride=1)


def laid_on(curve: Tensor, image: Tensor) -> Tensor:
    """(B, 1, D, H, W) what the curves (B, knots, D, H, W) of all voxels say for the intensities there."""
    knots = curve.shape[1]
    place = (image * ((knots - 1) / BRIGHTEST)).clamp(0.0, knots - 1.0)
    low = place.detach().floor().clamp(max=knots - 2.0)
    index, share = low.long(), place - low
    return torch.lerp(curve.gather(1, index), curve.gather(1, index + 1), share)
