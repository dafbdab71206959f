"""A 3D generator that removes noise by learned shrinkage of cosine coefficients.

Shapes: B batch, D H W voxels, d h w = blocks on a grid of 2 voxels, K = 64 coefficients of a 4x4x4 block.

Overlapping 4x4x4 blocks (every second voxel along each axis) are taken to the orthonormal 3D cosine
transform, as in sliding-window DCT denoising (Yaroslavsky et al., 2001; Manjon et al., Med Image Anal 16:18,
2012). There every coefficient, in units of the noise, is multiplied by a gate between 0 and 1 and a residual is
added; a convolutional network decides both from the surroundings. The block means, which hold the low
frequencies, are parted into bands by box filters of growing size and shrunk in the same way. Before training
the gates are those of a plain threshold, so that learning starts from a good classical method. All quantities
are relative to the noise level: scaling the volume and its noise together scales the result (the network knows
no absolute intensity).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.blocks import asinh, cropped, depth_to_space, padded, side_by_side
from medgan.noise import BLOCK, cosine_matrix

STRIDE = 2
COEFFICIENTS = BLOCK**3
GATES = COEFFICIENTS + 3
"""The cosine coefficients and the bands of the block means."""

BAND_SIDES = (3, 5, 9)
"""Sides, in blocks, of the boxes over which block means are averaged to part them into bands."""

BAND_NOISE = (0.76, 0.31, 0.14)
"""Standard deviation that unit white noise gives to each band of the block means."""

MARGIN = STRIDE
"""Voxels by which the volume is extended by reflection on each side."""


def start_at_zero(layer: nn.Module) -> None:
    """Let a layer answer 0 until it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualPair(nn.Module):
    """Two 3x3x3 convolutions whose sum with the input goes on; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.1)), 0.1))


class Deepest(nn.Module):
    """What is seen at half of the resolution of (B, channels, d, h, w), brought back to it; starts with 0."""

    def __init__(self, channels: int, deepest_channels: int, pairs: int) -> None:
        super().__init__()
        self.down = nn.Conv3d(channels, deepest_channels, 2, stride=2)
        self.pairs = nn.Sequential(*(ResidualPair(deepest_channels) for _ in range(pairs)))
        self.up = nn.Conv3d(deepest_channels, channels * 8, 1)
        start_at_zero(self.up)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(depth_to_space(self.up(self.pairs(self.down(padded(x, 2))))), x)


class DenoiseNet(nn.Module):
    """Denoised volume from a noisy one and its noise profile.

    ``forward(image, sigma, spread)``: image (B, 1, D, H, W) with 0 as the darkest physical intensity,
    sigma (B,) in the unit of the image and above 0, spread (B, 64) of :func:`medgan.noise.noise_profile`;
    returns (B, 1, D, H, W) in the unit of the image.
    """

    basis: Tensor

    def __init__(
        self,
        channels: int = 32,
        deep_channels: int = 64,
        pairs: int = 1,
        deep_pairs: int = 3,
        deepest_channels: int = 0,
        deepest_pairs: int = 0,
    ) -> None:
        super().__init__()
        matrix = torch.from_numpy(cosine_matrix())
        basis = torch.einsum("ai,bj,ck->abcijk", matrix, matrix, matrix)
        self.register_buffer("basis", basis.reshape(COEFFICIENTS, 1, BLOCK, BLOCK, BLOCK), persistent=False)
        start = [2.2] * COEFFICIENTS + list(BAND_NOISE)
        self.threshold = nn.Parameter(torch.tensor([math.log(value) for value in start]))
        self.slope = nn.Parameter(torch.full((GATES,), 4.0))
        self.profile = nn.Sequential(nn.Linear(COEFFICIENTS, 64), nn.LeakyReLU(0.1), nn.Linear(64, channels))
        self.enter = nn.Conv3d(GATES, channels, 3, padding=1)
        self.before = nn.Sequential(*(ResidualPair(channels) for _ in range(pairs)))
        self.down = nn.Conv3d(channels, deep_channels, 2, stride=2)
        self.deep = nn.Sequential(*(ResidualPair(deep_channels) for _ in range(deep_pairs)))
        if deepest_pairs:
            self.deepest = Deepest(deep_channels, deepest_channels, deepest_pairs)
        self.up = nn.Conv3d(deep_channels, channels * 8, 1)
        self.after = nn.Sequential(*(ResidualPair(channels) for _ in range(pairs)))
        self.leave = nn.Conv3d(channels, GATES + COEFFICIENTS + 1, 1)
        start_at_zero(self.leave)

    def forward(
        self, image: Tensor, sigma: Tensor, spread: Tensor, more: Callable[[int], Tensor] | None = None
    ) -> Tensor:
        size = image.shape[2:]
        with torch.autocast(image.device.type, enabled=False):
            x = _extend(image.float())
            sigma = sigma.to(x).view(-1, 1, 1, 1, 1)
            spread = spread.to(x) / sigma.view(-1, 1)
            relative = F.conv3d(x / sigma, self.basis, stride=STRIDE)
            bands, rest = _bands(relative[:, :1].contiguous())
            relative = side_by_side(relative, bands)
        features = self._body(relative, spread, more)
        # In full precision: a mean of a hundred times the noise may not be rounded to less than the noise.
        with torch.autocast(image.device.type, enabled=False):
            result = self._assembled(relative, rest, features.float()) * sigma
        return result[:, :, MARGIN : MARGIN + size[0], MARGIN : MARGIN + size[1], MARGIN : MARGIN + size[2]]

    def _assembled(self, relative: Tensor, rest: Tensor, features: Tensor) -> Tensor:
        """The volume (B, 1, 2d + 2, ...), in units of the noise, of its coefficients and what is to be done to them."""
        gate_shift, residual, weight = features.split((GATES, COEFFICIENTS, 1), dim=1)
        shape = (1, -1, 1, 1, 1)
        distance = torch.add(-self.threshold.view(shape), torch.log(relative.square().add_(1e-4)), alpha=0.5)
        kept = torch.sigmoid(torch.addcmul(gate_shift, self.slope.view(shape), distance)) * relative
        # The mean of a block is never shrunk towards zero, which would darken the volume, only to its surroundings.
        mean = rest + kept[:, COEFFICIENTS:].sum(dim=1, keepdim=True) + 8.0 * residual[:, :1]
        kept = kept[:, :COEFFICIENTS] + residual
        kept[:, :1] = mean
        weight = torch.exp(weight.clamp(-6.0, 6.0)).contiguous()
        total = F.conv3d(kept * weight, _overlapping(self.basis), padding=1)
        count = F.conv3d(weight, torch.ones_like(self.basis[:1, :, :2, :2, :2]), padding=1)
        return depth_to_space(total / count)

    def _body(self, relative: Tensor, spread: Tensor, more: Callable[[int], Tensor] | None) -> Tensor:
        """``more``: what a network built on this one tells it, (1 or B, C, d or 1, 1, 1) for d blocks along D."""
        told = self.profile(torch.log(spread.clamp(1e-3, 1e3)))
        x = self.enter(asinh(relative)) + told.view(*told.shape, 1, 1, 1)
        if more is not None:
            x = x + more(x.shape[2])
        x = self.before(x)
        deep = self.down(x)
        if hasattr(self, "deepest"):
            deep = deep + self.deepest(deep)
        deep = self.up(self.deep(deep))
        x = self.after(x + depth_to_space(deep))
        return self.leave(F.leaky_relu(x, 0.1))


def shift_averaged(answer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """The mean of an answer of the size of the volume (B, C, D, H, W) on the network's block grid and on the grid a
    voxel further, for twice the work.

    Cycle spinning, Coifman and Donoho 1995: errors that depend on where the blocks lie average out.
    """
    mode = "reflect" if min(image.shape[2:]) > 1 else "replicate"
    moved = answer(F.pad(image, (1, 0, 1, 0, 1, 0), mode=mode))
    return 0.5 * (answer(image) + moved[:, :, 1:, 1:, 1:])


def _bands(means: Tensor) -> tuple[Tensor, Tensor]:
    """Block means (B, 1, d, h, w) as bands (B, 3, d, h, w), fine to coarse, and what is left: together the input."""
    bands = []
    for side in BAND_SIDES:
        box = [min(side, length - 1 + length % 2) for length in means.shape[2:]]  # odd, and no longer than the axis
        padding = [length // 2 for length in box]
        smooth = means
        for axis in range(3):  # one axis after the other: 27 sums in place of 729 for the widest box
            sides, pads = [1, 1, 1], [0, 0, 0]
            sides[axis], pads[axis] = box[axis], padding[axis]
            smooth = F.avg_pool3d(smooth, sides, stride=1, padding=pads, count_include_pad=False)
        bands.append(means - smooth)
        means = smooth
    return torch.cat(bands, dim=1), means


def _extend(image: Tensor) -> Tensor:
    """Reflected margins, and as much more at the far side as makes the block grid even along every axis."""
    pads: list[int] = []
    for side in reversed(image.shape[2:]):
        # blocks = (side + before + after - 4) / 2 + 1 must be a whole, even number
        after = MARGIN + (-(side + 2 * MARGIN - BLOCK + STRIDE)) % (2 * STRIDE)
        pads += [MARGIN, after]
    if all(side > pad for side, pad in zip(reversed(image.shape[2:]), pads[1::2], strict=True)):
        return F.pad(image, pads, mode="reflect")
    return F.pad(image, pads, mode="replicate")


def _overlapping(basis: Tensor) -> Tensor:
    """(8, 64, 2, 2, 2): the kernel by which a convolution over blocks (64 coefficients each) sums those that overlap.

    With padding 1 and :func:`depth_to_space` the same as a transposed convolution with the basis (64, 1, 4, 4, 4) and
    a stride of 2, which is many times slower on processors.
    """
    halves = basis.view(COEFFICIENTS, 2, 2, 2, 2, 2, 2)  # coefficient, then block and place in it, for each axis
    return halves.permute(2, 4, 6, 0, 1, 3, 5).flip(4, 5, 6).reshape(8, COEFFICIENTS, 2, 2, 2).contiguous()
