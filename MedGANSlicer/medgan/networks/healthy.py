"""What a slice of a head would look like without its anomalies, and how far the real one is from that.

Three parts. A generator that restores what is healthy and knows where the brain is; a critic that tells real healthy
slices from restored ones; and a judge that compares the critic's features of the slice, of its restoration and of
the other side of the head. Sources: f-AnoGAN (Schlegl et al., Med Image Anal 54:30, 2019: the critic's features measure
the distance), denoising autoencoders (Kascenas et al., MIDL 2022), DRAEM (Zavrtanik et al., ICCV 2021: a judge of slice
and restoration, taught on simulated anomalies).

Legend: B batch, H W pixels of 1.5 mm of an axial slice (along A and R). Intensities: 0 is dark, 0.5 the median of the
brain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.denoise import start_at_zero

SPACING_MM = 1.5
"""Of the voxels that the network works on, along every axis."""

CONTEXT = (-2, 0, 2)
"""Slices that the generator sees, counted from the one in question."""

BANK = (1, 2, 4)
"""How often the slice is averaged over 5 x 5 pixels for each smooth copy that a restoration may be mixed from."""

STRIDE = 16
"""Sides are padded to multiples of this."""


class Pair(nn.Module):
    """Two 3 x 3 convolutions with group norm beside a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, padding=1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, outside) for _ in range(2)])
        self.short = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norms[0](self.first(x)), 0.1)
        return F.leaky_relu(self.norms[1](self.second(y)) + self.short(x), 0.1)


def bank(slice_B1HW: Tensor) -> Tensor:
    """(B, len(BANK), H, W): smooth copies of the slice."""
    copies, smooth, done = [], slice_B1HW, 0
    for times in BANK:
        for _ in range(times - done):
            smooth = F.avg_pool2d(smooth, 5, stride=1, padding=2, count_include_pad=False)
        done = times
        copies.append(smooth)
    return torch.cat(copies, 1)


@dataclass
class Said:
    """(B, 1, H, W) each: the proposed slice, the logit of the brain, and that of the suspicion if there is one; and the
    features (B, C, H/2, W/2) that they were made from."""

    proposed: Tensor
    brain: Tensor
    suspicion: Tensor | None
    features: Tensor


class Restorer(nn.Module):
    """The generator: ``forward(seen)``, seen (B, len(CONTEXT) + 1, H, W) the slices of the context and the other side
    of the head -> the restored slice (B, 1, H, W) and the logit of the brain (B, 1, H, W).

    What is proposed for a pixel is a mixture of the slice's smooth copies and the other side, and a correction. With
    ``keeps`` a pixel is replaced only as far as the generator suspects it; what it takes for healthy stays as it is.
    """

    def __init__(self, channels: Sequence[int], keeps: bool) -> None:
        super().__init__()
        self.keeps = keeps
        seen = len(CONTEXT) + 1
        self.down = nn.ModuleList(Pair(fine, coarse) for fine, coarse in pairwise([4 * seen, *channels]))
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.up = nn.ModuleList(Pair(fine, fine) for fine in channels[:-1])
        self.mixed = len(BANK) + 1
        self.head = nn.Conv2d(channels[0], 4 * (self.mixed + 2 + keeps), 3, padding=1)
        start_at_zero(self.head)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        said = self.parts(seen)
        return self.replaced(seen, said), said.brain

    def replaced(self, seen: Tensor, said: Said) -> Tensor:
        """The slice with what is proposed where the logit of the suspicion is high; the proposal without one."""
        middle = len(CONTEXT) // 2
        own = seen[:, middle : middle + 1]
        if said.suspicion is None:
            return said.proposed
        return torch.lerp(own, said.proposed.to(own.dtype), said.suspicion.sigmoid().to(own.dtype))

    def parts(self, seen: Tensor) -> Said:
        """All that the generator has to say of the slices."""
        x, kept = F.pixel_unshuffle(seen, 2), []
        for level, pair in enumerate(self.down):
            x = pair(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            wide = F.interpolate(self.narrow[level](x), scale_factor=2, mode="bilinear", align_corners=False)
            x = self.up[level](wide + kept[level])
        said = F.pixel_shuffle(self.head(x), 2)
        middle = len(CONTEXT) // 2
        members = torch.cat([bank(seen[:, middle : middle + 1]), seen[:, -1:]], 1)
        mixture = (torch.softmax(said[:, : self.mixed], 1) * members).sum(1, keepdim=True)
        proposed = mixture + said[:, self.mixed : self.mixed + 1]
        last = self.mixed + 2
        return Said(proposed, said[:, last - 1 : last], said[:, last:] if self.keeps else None, x)


class SliceCritic(nn.Module):
    """``forward(slice)``: (B, 1, H, W) -> features at 3, 6 and 12 mm, then patches' judgement (B, 1, H/8, W/8)."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, channels[0], 3, padding=1)
        self.stages = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in channels)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 4, 2, 1) for fine, coarse in pairwise(channels))
        self.verdict = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, slice_B1HW: Tensor) -> list[Tensor]:
        x = F.leaky_relu(self.enter(F.pixel_unshuffle(slice_B1HW, 2)), 0.2)
        found: list[Tensor] = []
        for level, stage in enumerate(self.stages):
            x = F.leaky_relu(self.down[level - 1](x), 0.2) if level else x
            x = x + F.leaky_relu(stage(x), 0.2)
            found.append(x)
        return [*found, self.verdict(x)]


class Judge(nn.Module):
    """Logit of an anomaly (B, 1, H, W) from the slice, its restoration, the other side, the critic's features of the
    three, and ``shared`` of the generator's."""

    def __init__(self, channels: Sequence[int], sharp: float, shared: int = 0) -> None:
        super().__init__()
        self.sharp = sharp
        self.merge = nn.ModuleList(nn.Conv2d(3 * width, width, 1) for width in channels)
        self.up = nn.ModuleList(nn.Conv2d(fine + coarse, fine, 3, padding=1) for fine, coarse in pairwise(channels))
        self.norms = nn.ModuleList(nn.GroupNorm(8, fine) for fine in channels[:-1])
        self.first = nn.Conv2d(channels[0] + 4 * 5 + shared, channels[0], 3, padding=1)
        self.last = nn.Conv2d(channels[0], 4, 3, padding=1)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, -3.0)

    def forward(
        self, pictures: Sequence[Tensor], features: Sequence[Sequence[Tensor]], shared: Tensor | None = None
    ) -> Tensor:
        """``pictures``: slice, restoration, other side; ``features``: the critic's, of each of them; ``shared``: the
        generator's (B, shared, H/2, W/2)."""
        own, restored, other = features
        merged = [
            F.leaky_relu(merge(torch.cat([a, (a - b).abs(), (a - c).abs()], 1)), 0.1)
            for merge, a, b, c in zip(self.merge, own, restored, other, strict=False)
        ]
        x = merged[-1]
        for level in reversed(range(len(self.up))):
            wide = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(self.norms[level](self.up[level](torch.cat([merged[level], wide], 1))), 0.1)
        image, healthy, mirrored = pictures
        apart = self.sharp * (image - healthy)
        seen = [image, healthy, apart, apart.abs(), self.sharp * (image - mirrored)]
        fine = torch.cat([x, F.pixel_unshuffle(torch.cat(seen, 1), 2), *([] if shared is None else [shared])], 1)
        return F.pixel_shuffle(self.last(F.leaky_relu(self.first(fine), 0.1)), 2)


class HealthyNet(nn.Module):
    """See the module. ``forward(seen)``: (B, len(CONTEXT) + 1, H, W) with H and W multiples of ``STRIDE`` -> (B, 3, H,
    W): probability of an anomaly, the restored slice, probability of the brain.

    ``keeps``: the generator replaces only what it suspects, and the slice is sharp elsewhere. ``sharp``: what
    differences of intensities are multiplied by for the judge, who then sees them as large as features. ``shares``: the
    judge also sees the generator's last features, which know the neighbours and the whole slice.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96, 128),
        critic_channels: Sequence[int] = (32, 48, 64),
        keeps: bool = False,
        sharp: float = 6.0,
        shares: bool = False,
    ) -> None:
        super().__init__()
        self.restorer = Restorer(channels, keeps)
        self.critic = SliceCritic(critic_channels)
        self.shared = channels[0] if shares else 0
        self.judge = Judge(critic_channels, sharp, self.shared)

    def forward(self, seen: Tensor) -> Tensor:
        said = self.restorer.parts(seen)
        healthy = self.restorer.replaced(seen, said)
        logit = self.judged(seen, healthy, said.features)
        return torch.cat([torch.sigmoid(logit), healthy, torch.sigmoid(said.brain)], 1)

    def judged(self, seen: Tensor, healthy: Tensor, shared: Tensor | None = None) -> Tensor:
        """Logit of an anomaly, for a restoration and features from wherever; without features none are seen."""
        middle = len(CONTEXT) // 2
        pictures = [seen[:, middle : middle + 1], healthy, seen[:, -1:]]
        features = self.critic(torch.cat(pictures))
        apart = [[level[n * len(seen) : (n + 1) * len(seen)] for level in features[:-1]] for n in range(3)]
        if not self.shared:
            return self.judge(pictures, apart)
        count, _, height, width = seen.shape
        none = seen.new_zeros(count, self.shared, height // 2, width // 2)
        return self.judge(pictures, apart, none if shared is None else shared)
