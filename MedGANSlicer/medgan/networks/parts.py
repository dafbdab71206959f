"""A network that names the structures of a head: a rough answer, an atlas bent onto it, then sharp edges.

Shapes: B batch, D H W voxels of 1 mm along S, A, R; S structures (background first).

The scan is looked at as a whole first, then the view that the network was trained on is centred on the brain found.
The network sees the head at 4 mm (2 mm voxels, gathered by eights) and answers for voxels of 2 mm. A deformable atlas
(see medgan.networks.atlas) is bent onto that answer, and says where the structures end that the network knows badly.
What a Gaussian mixture makes of the atlas and the brightness of the scan at 1 mm (see medgan.networks.mixture) is the
answer. The network answers for structures without regard to the side, and once for the side: a mirrored head then
teaches as much as another head, and a structure can not be left at one voxel and right at the next. It is trained by
domain randomisation (see medgan.generation), as SynthSeg is (Billot et al., Med Image Anal 86:102789, 2023).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.generation import robust_range
from medgan.networks.atlas import Atlas
from medgan.networks.blocks import depth_to_space, space_to_depth
from medgan.networks.mixture import Mixture, fitted, for_voxels_of_half, likely

STRIDE = 32
"""Sides are padded to a multiple of this, and to two of them at least: the coarsest level needs several voxels."""

SLAB = 64
"""Voxels along the first axis whose brightness is weighed at a time."""


VIEW = (80, 96, 80)
"""Voxels of 2 mm that the rough part learns on, with the brain in the middle; it knows no larger scan."""

LOOKS = 2
"""How often the view is centred on the brain that was found."""

BENDS = 3
"""How often the atlas is bent: onto the network's answer, then onto what came of that."""

LEAST_BRAIN_ML = 100.0
"""With less brain than this in view the atlas is not asked: it might be bent onto anything."""


class Answer(NamedTuple):
    """Logits of the structures (B, S, D, H, W) and of the right side (B, 1, D, H, W)."""

    structures: Tensor
    side: Tensor


class Pair(nn.Module):
    """Two 3x3x3 convolutions with instance norm, beside a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inside, outside, 3, padding=1)
        self.second = nn.Conv3d(outside, outside, 3, padding=1)
        self.norms = nn.ModuleList([nn.InstanceNorm3d(outside, affine=True) for _ in range(2)])
        self.short = nn.Conv3d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norms[0](self.first(x)), 0.1)
        return F.leaky_relu(self.norms[1](self.second(y)) + self.short(x), 0.1)


class RoughNet(nn.Module):
    """A small U-Net on voxels of 2 mm, which it gathers by eights."""

    def __init__(self, channels: Sequence[int], answers: int) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        inside = 8
        for count in channels:
            self.down.append(Pair(inside, count))
            inside = count
        self.narrow = nn.ModuleList([nn.Conv3d(below, here, 1) for here, below in itertools.pairwise(channels)])
        self.up = nn.ModuleList([Pair(here, here) for here in channels[:-1]])
        self.head = nn.Conv3d(channels[0], 8 * answers, 1)

    def forward(self, image_2mm: Tensor) -> Tensor:
        """(B, 1, d, h, w) at 2 mm -> (B, S + 1, d, h, w)."""
        x, kept = space_to_depth(image_2mm), []
        for level, pair in enumerate(self.down):
            x = pair(F.max_pool3d(x, 2) if level else x)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            wide = F.interpolate(self.narrow[level](x), scale_factor=2, mode="trilinear", align_corners=False)
            x = self.up[level](wide + kept[level])
        return depth_to_space(self.head(x))


class PartsNet(nn.Module):
    """See the module. ``lateral``: for every structure whether it has a left and a right one; background is the first,
    the last three (CSF, skull, other tissue) lie around the brain. ``alike``: groups of structures (by their place in
    ``lateral``) that are the same tissue, equally bright in any scan.

    Called on one scan (1, 1, D, H, W) of 1 mm in 0..1 with the axes S, A, R, it returns the logarithm of the
    probability of every label (1, L, D, H, W): background, then each structure, the left before the right one.
    """

    def __init__(
        self,
        lateral: Sequence[bool],
        channels: Sequence[int] = (24, 48, 96, 128),
        alike: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        self.lateral = tuple(bool(each) for each in lateral)
        self.alike = tuple(tuple(int(index) for index in group) for group in alike)
        self.rough = RoughNet(channels, len(self.lateral) + 1)
        self.atlas = Atlas(len(self.lateral) - 3, VIEW, 2.0)

    def forward(self, image: Tensor) -> Tensor:
        # In full precision: sums of squares and small probabilities decide, which bfloat16 can not hold.
        with torch.autocast(image.device.type, enabled=False):
            return self._answer(image.float())

    def _answer(self, image: Tensor) -> Tensor:
        sides = image.shape[2:]
        pads = [n for side in reversed(sides) for n in (0, max(2 * STRIDE, side + -side % STRIDE) - side)]
        padded = F.pad(image, pads)
        half = F.avg_pool3d(padded, 2)
        rough = self.rough(half)
        answer = self._far_away(rough)
        box = [slice(0, side) for side in half.shape[2:]]
        for _ in range(LOOKS):
            box = self._brain(rough, box, half.shape[2:])
            low, high = robust_range(part_of(half, box))
            near = ((part_of(half, box) - low) / (high - low)).clamp(0.0, 1.0)
            rough = self.rough(near)
        rough = self._by_the_atlas(near, rough)
        box = [slice(2 * each.start, 2 * each.stop) for each in box]
        seen = ((part_of(padded, box) - low) / (high - low)).clamp(0.0, 1.0)
        brain = torch.softmax(rough[:, :-1], 1)[:, 1:-3].sum(1, keepdim=True) > 0.5
        mixture = for_voxels_of_half(self.mixture(near, rough), seen, near, brain)
        wide = F.interpolate(rough, scale_factor=2, mode="trilinear", align_corners=False)
        for start in range(0, seen.shape[2], SLAB):
            slab = slice(start, min(seen.shape[2], start + SLAB))
            here = mixture._replace(field=mixture.field[:, :, slab])
            bright = likely(seen[:, :, slab], torch.softmax(wide[:, :-1, slab], 1), here)
            there = slice(box[0].start + slab.start, box[0].start + slab.stop)
            part_of(answer, [there, *box[1:]])[...] = self.labels(Answer(bright, wide[:, -1:, slab]))
        return answer[:, :, : sides[0], : sides[1], : sides[2]]

    def _by_the_atlas(self, near: Tensor, rough: Tensor) -> Tensor:
        """The rough answer for a view (1, 1, d, h, w) of 2 mm, with the atlas in place of the structures of the brain.

        Around the brain, where heads differ most, the network's own shares of what lies there are kept."""
        prior = torch.softmax(rough[:, :-1], 1)
        around = [0, *range(len(self.lateral) - 3, len(self.lateral))]
        inside = list(range(1, len(self.lateral) - 3))
        brain_ml = float(prior[:, inside].sum()) * 2.0**3 / 1000.0
        if not bool(self.atlas.left[1:].any()) or brain_ml < LEAST_BRAIN_ML:
            return rough
        shares = prior[:, around] + 1e-4
        shares = shares / shares.sum(1, keepdim=True)
        missing = [full - here for full, here in zip(VIEW, near.shape[2:], strict=True)]
        pads = [n for each in reversed(missing) for n in (each // 2, each - each // 2)]
        known = F.pad(torch.ones_like(near), pads)[0, 0]
        box = [slice(each // 2, each // 2 + here) for each, here in zip(missing, near.shape[2:], strict=True)]
        bend = None
        for _ in range(BENDS):
            found = likely(near, prior, fitted(near, prior, self.alike)).exp()
            seen = F.pad(torch.cat([found[:, around].sum(1, keepdim=True), found[:, inside]], 1), pads)
            whole, bend = self.atlas.bent_onto(seen[0], known, bend)
            bent = part_of(whole[None], box)
            prior = torch.empty_like(prior)
            prior[:, around], prior[:, inside] = bent[:, :1] * shares, bent[:, 1:]
        return torch.cat([torch.log(prior.clamp_min(1e-5)), rough[:, -1:]], 1)

    def _far_away(self, rough: Tensor) -> Tensor:
        """Log probabilities of the labels at 1 mm for what lies away from the brain: background or one of the last two
        structures, which are those outside the brain."""
        outside = rough.clone()
        outside[:, 1:-3] -= 20.0
        likely_2mm = self.labels(split(outside)).exp_()
        wide = F.interpolate(likely_2mm, scale_factor=2, mode="trilinear", align_corners=False)
        return wide.clamp_(min=1e-9).log_()

    def _brain(self, rough: Tensor, box: Sequence[slice], shape: Sequence[int]) -> list[slice]:
        """What the network was trained to look at, in voxels of 2 mm: VIEW around the middle of the structures that
        have two sides, or as much of it as there is. ``rough`` is the answer for ``box`` of a scan of that shape."""
        probabilities = torch.softmax(rough[0, :-1], 0)
        brain = (probabilities[[index for index, lateral in enumerate(self.lateral) if lateral]].sum(0) > 0.5).float()
        found = []
        for axis in range(3):
            along = brain.sum([other for other in range(3) if other != axis])
            place = torch.arange(len(along), device=along.device, dtype=along.dtype)
            middle = float((along * place).sum() / along.sum()) if float(along.sum()) else (len(along) - 1) / 2
            length = min(VIEW[axis], shape[axis])
            start = round(box[axis].start + middle - (length - 1) / 2)
            start = min(max(0, start), shape[axis] - length)
            found.append(slice(start, start + length))
        return found

    def mixture(self, half: Tensor, rough: Tensor) -> Mixture:
        """How bright every structure is in a scan (1, 1, d, h, w) of 2 mm, given the rough answer."""
        return fitted(half, torch.softmax(rough[:, :-1], 1), self.alike)

    def labels(self, answer: Answer) -> Tensor:
        """Logarithm of the probability of every label, from the answers for structures and side."""
        structures = F.log_softmax(answer.structures, 1)
        right, left = F.logsigmoid(answer.side), F.logsigmoid(-answer.side)
        held = []
        for index, lateral in enumerate(self.lateral):
            one = structures[:, index : index + 1]
            held += [one + left, one + right] if lateral else [one]
        return torch.cat(held, 1)


def split(answers: Tensor) -> Answer:
    """The channels of the rough or fine part as structures and side."""
    return Answer(answers[:, :-1], answers[:, -1:])


def part_of(x: Tensor, box: Sequence[slice]) -> Tensor:
    """A view of a box of (B, C, D, H, W)."""
    return x[:, :, box[0], box[1], box[2]]
