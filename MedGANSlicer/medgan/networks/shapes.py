"""A model of how heads differ in shape: label maps of latent vectors.

A few label maps of real heads, the bases, are bent by diffeomorphisms; the folds of the cortex are put together of more
heads, each of which gives some regions. A diffeomorphism is the flow of a smooth
velocity that does not change in time (Arsigny et al. 2006, "A log-Euclidean framework for statistics on
diffeomorphisms"), so whatever is added to a velocity, nothing folds; and the velocities that carry a template to many
heads have principal components (statistical deformation models: Rueckert et al., IEEE TMI 22:1014, 2003).
Nothing of this is learned by descent at run time: :mod:`medgan.recipes.shapes` fits it.

Shapes: K components, B bases, F heads that give folds, R knots of a field of regions, (d, h, w) knots of a velocity;
axes superior, anterior, right. Velocities and displacements are in mm, in that order of axes.
"""

from __future__ import annotations

import itertools
import lzma
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.progress import Progress, part, silent

SQUARINGS = 6
"""Halvings of a velocity before its flow is put together again."""

SHORTEST = 0.3

SHARPNESS = 40.0
"""How fast one head's folds go over into another's where their regions meet: within a few mm."""

BEND, BEND_SIZE = (10, 10, 8), 0.8
"""Knots of the further random bending, superior, anterior, right, about 22 mm apart; and its size, root mean square,
for standard normal knots."""

FLUID, GREY, WHITE = 1, 2, 3
LEVELS = {24: FLUID, 3: GREY, 42: GREY, 2: WHITE, 41: WHITE}
"""What folds consist of, by code of FreeSurfer. Between fluid and white matter lies grey matter, in this order."""

LEFT, RIGHT = (24, 3, 2), (24, 42, 41)
"""Codes of the levels."""

SLAB = 16
"""Slices that are computed at a time."""

FLOW_STEP_MM = 3.0
"""Voxels of the grid on which flows are computed."""


class Shape(NamedTuple):
    """labels (D, H, W) int16; the smallest determinant of the deformation's derivative (above 0: no folding); and the
    factor by which the weights were shortened for that."""

    labels: np.ndarray
    smallest_jacobian: float
    shortened: float


class ShapeNet(nn.Module):
    """``shape(latent, step_mm)``: latent standard normal -> a label map of voxels of ``step_mm``.

    The first K numbers weigh the principal components, in standard deviations; the largest of the next B chooses the
    base. F R numbers are smooth fields: where the field of a head is the largest, the folds are its own. The rest bends
    the head further, by ``bend_mm`` (root mean square). ``packed``: sizes in bytes of the compressed bases, ``folds``
    those of the compressed folds, on the template; ``regions``: knots of a field along each axis; ``size_mm``: the box
    that all lie in, 1 mm voxels.
    """

    mean: Tensor
    modes: Tensor
    scales: Tensor
    own: Tensor
    codes: Tensor

    def __init__(
        self,
        size_mm: Sequence[int],
        knots: Sequence[int],
        components: int,
        packed: Sequence[int],
        codes: int,
        folds: Sequence[int] = (),
        regions: Sequence[int] = (2, 3, 2),
        bend_mm: float = 0.0,
    ) -> None:
        super().__init__()
        self.size_mm = tuple(size_mm)
        self.components, self.bases = components, len(packed)
        self.heads, self.regions = len(folds), tuple(regions)
        self.bend_mm = bend_mm
        self.parts = (components, self.bases, self.heads * math.prod(regions), 3 * math.prod(BEND) if bend_mm else 0)
        self.latent = sum(self.parts)
        self.register_buffer("mean", torch.zeros(3, *knots))
        self.register_buffer("modes", torch.zeros(components, 3, *knots, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(components))
        self.register_buffer("own", torch.zeros(self.bases, components))
        self.register_buffer("codes", torch.zeros(codes, dtype=torch.int16))
        for number, count in enumerate(packed):
            self.register_buffer(f"base{number}", torch.zeros(count, dtype=torch.uint8))
        for number, count in enumerate(folds):
            self.register_buffer(f"folds{number}", torch.zeros(count, dtype=torch.uint8))

    def velocity(self, weights: Tensor) -> Tensor:
        """(3, d, h, w) in mm of K weights in standard deviations."""
        return self.mean + torch.einsum("k,kcdhw->cdhw", weights * self.scales, self.modes.to(self.mean.dtype))

    def unpacked(self, name: str) -> Tensor:
        """(D, H, W) uint8, 1 mm voxels: places in ``codes`` of "base0", ..., levels of "folds0", ..."""
        held = getattr(self, name).cpu().numpy().tobytes()
        return torch.from_numpy(np.frombuffer(lzma.decompress(held), np.uint8).reshape(self.size_mm).copy())

    def chosen(self, latent: Tensor) -> int:
        """The base that a latent vector asks for."""
        return int(torch.argmax(latent.split(self.parts)[1]))

    def fields(self, latent: Tensor) -> Tensor | None:
        """(F, r, r, r) whose folds are where; None where a latent vector does not say, and the base keeps its own."""
        held = latent.split(self.parts)[2]
        return held.view(self.heads, *self.regions).float() / held.square().mean().sqrt() if held.any() else None

    def bend(self, latent: Tensor) -> Tensor:
        """(3, d, h, w) in mm, the velocity of the further bending."""
        held = latent.split(self.parts)[3].float()
        if not len(held):
            return torch.zeros_like(self.mean)
        field = F.interpolate(held.view(1, 3, *BEND), size=self.mean.shape[1:], mode="trilinear", align_corners=True)
        smooth = F.avg_pool3d(F.pad(field, [1] * 6, mode="replicate"), 3, 1)[0]
        return smooth * (self.bend_mm / BEND_SIZE)

    @torch.no_grad()
    def shape(self, latent: Tensor, step_mm: float = 1.0, progress: Progress = silent) -> Shape:
        """The label map of a latent vector; always on the CPU, so that every device gives the same."""
        number = self.chosen(latent)
        coarse = [max(8, round(side / FLOW_STEP_MM)) for side in self.size_mm]
        back = flow(-self.velocity(self.own[number]), coarse, self.size_mm)
        weights, bend, shortened = latent[: self.components].to(self.mean), self.bend(latent).to(self.mean), 1.0
        while True:
            progress(0.1, "Bending the head")
            there = flow(self.velocity(shortened * weights) + shortened * bend, coarse, self.size_mm)
            moved = composed(back, there, self.size_mm)
            least = smallest_jacobian(moved, self.size_mm)
            if least > 0 or shortened < SHORTEST:
                break
            shortened *= 0.9  # only sampling folds a flow, and only a strong one
        sides = [max(1, round(side / step_mm)) for side in self.size_mm]
        labels = self._carried(moved, number, sides, part(progress, 0.3, 0.7))
        fields = self.fields(latent)
        if fields is not None:
            self._fold(labels, there, fields, part(progress, 0.7, 1.0))
        return Shape(labels, least, shortened)

    def _carried(self, moved: Tensor, number: int, sides: Sequence[int], progress: Progress) -> np.ndarray:
        """The base where the displacement (3, d, h, w) takes it from, a few slices at a time."""
        base, table = self.unpacked(f"base{number}"), self.codes.cpu().numpy()
        result = np.zeros(sides, np.int16)
        for slab, places in slabs(sides, self.size_mm):
            flat, inside = nearest(places + sampled(moved, places, self.size_mm), self.size_mm)
            result[slab] = table[torch.where(inside, base.view(-1)[flat], 0).numpy()]
            progress(slab.start / sides[0], "Bending the head")
        return result

    def _fold(self, labels: np.ndarray, there: Tensor, fields: Tensor, progress: Progress) -> None:
        """Puts the folds of several heads into a label map [k, j, i] that was bent by a displacement (3, d, h, w)."""
        levels = torch.stack([self.unpacked(f"folds{number}") for number in range(self.heads)])
        table = torch.zeros(int(max(labels.max(), *LEVELS)) + 1, dtype=torch.uint8)
        table[list(LEVELS)] = torch.tensor(list(LEVELS.values()), dtype=torch.uint8)
        codes = torch.tensor([(0, *LEFT), (0, *RIGHT)], dtype=torch.int16)
        for slab, places in slabs(labels.shape, self.size_mm):
            progress(slab.start / len(labels), "Folding the cortex")
            own = torch.from_numpy(labels[slab])
            folded = table[own.long()] > 0
            if not folded.any():
                continue
            own, places = own[folded], places[:, folded][..., None, None]
            values, heads = sampled(fields, places, self.size_mm)[..., 0, 0].topk(min(2, self.heads), dim=0)
            first = torch.sigmoid(SHARPNESS * (values[0] - values[-1]))
            on_template = places + sampled(there, places, self.size_mm)
            one, other = (level_at(levels, head, on_template[..., 0, 0]) for head in (heads[0], heads[-1]))
            both = torch.lerp(other, one, first)
            level = torch.where(one == 0, other, torch.where(other == 0, one, both)).round().to(torch.uint8)
            level = torch.where(level == 0, table[own.long()], level)
            middle = on_template[2, :, 0, 0] > self.size_mm[2] / 2
            right = torch.where(own == LEFT[0], middle, (own == RIGHT[1]) | (own == RIGHT[2]))
            result = torch.from_numpy(labels[slab])
            result[folded] = codes[right.long(), level.long()]


def slabs(sides: Sequence[int], size_mm: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
    """A few slices of a grid over the box at a time, with the places of their voxels (3, D, H, W) in mm from the first
    voxel of 1 mm."""
    axes = [(torch.arange(n) + 0.5) * (length / n) - 0.5 for n, length in zip(sides, size_mm, strict=True)]
    for first in range(0, sides[0], SLAB):
        slab = slice(first, min(first + SLAB, sides[0]))
        yield slab, torch.stack(torch.meshgrid(axes[0][slab], axes[1], axes[2], indexing="ij"))


def level_at(levels: Tensor, heads: Tensor, places: Tensor) -> Tensor:
    """(N,) level of the folds of heads (N,) at places (3, N) in voxels, between those of the voxels around; 0 where
    most of these are none. Levels (F, D, H, W)."""
    low, size = places.floor(), levels.shape[1:]
    flat_levels = levels.reshape(len(levels), -1)
    total, weight = torch.zeros(places.shape[1]), torch.zeros(places.shape[1])
    for corner in itertools.product((0.0, 1.0), repeat=3):
        at = low + torch.tensor(corner)[:, None]
        flat, inside = nearest(at, size)
        level = flat_levels[heads, flat].float()
        share = (1.0 - (places - at).abs()).prod(dim=0) * (inside & (level > 0))
        total += share * level
        weight += share
    return torch.where(weight > 0.5, total / weight.clamp_min(0.5), 0.0)


def nearest(places_mm: Tensor, size_mm: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where the nearest voxels of 1 mm to places (3, ...) lie in a flat volume, and whether they are within it."""
    flat = torch.zeros(places_mm.shape[1:], dtype=torch.long)
    inside = torch.ones(places_mm.shape[1:], dtype=torch.bool)
    for place, side in zip(places_mm, size_mm, strict=True):
        index = place.round().long()
        inside &= (index >= 0) & (index < side)
        flat = flat * side + index.clamp(0, side - 1)
    return flat, inside


def sampled(field: Tensor, places_mm: Tensor, size_mm: Sequence[int]) -> Tensor:
    """(C, ...) values of a field (C, d, h, w) over the box, at places (3, D, H, W) in mm from its first voxel."""
    lengths = torch.tensor(size_mm, dtype=field.dtype).view(3, 1, 1, 1)
    grid = (2.0 * (places_mm + 0.5) / lengths - 1.0).flip(0).permute(1, 2, 3, 0)
    return F.grid_sample(field[None], grid[None].to(field), padding_mode="border", align_corners=False)[0]


def centres(shape: Sequence[int], size_mm: Sequence[int]) -> Tensor:
    """(3, d, h, w) places in mm of the voxels of a coarser grid over the box."""
    axes = [(torch.arange(n) + 0.5) * (length / n) - 0.5 for n, length in zip(shape, size_mm, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def flow(velocity: Tensor, shape: Sequence[int], size_mm: Sequence[int]) -> Tensor:
    """(3, d, h, w) displacement after unit time on a grid of another shape, by scaling and squaring."""
    places = centres(shape, size_mm).to(velocity)
    step = F.interpolate(velocity[None], size=tuple(shape), mode="trilinear", align_corners=False)[0]
    step = step / 2**SQUARINGS
    for _ in range(SQUARINGS):
        step = step + sampled(step, places + step, size_mm)
    return step


def composed(outer: Tensor, inner: Tensor, size_mm: Sequence[int]) -> Tensor:
    """(3, d, h, w) the displacement of ``inner`` and then, from where it led, of ``outer``."""
    places = centres(inner.shape[1:], size_mm).to(inner)
    return inner + sampled(outer, places + inner, size_mm)


def smallest_jacobian(moved: Tensor, size_mm: Sequence[int]) -> float:
    """Smallest determinant of the derivative of a deformation; above 0 where it can be undone everywhere."""
    rows = []
    for axis in range(3):
        step = size_mm[axis] / moved.shape[axis + 1]
        slope = moved.diff(dim=axis + 1) / step
        rows.append(slope[(slice(None), *(slice(0, n - 1) if a != axis else slice(None)
                                          for a, n in enumerate(moved.shape[1:])))])  # fmt: skip
    derivative = torch.stack(rows, dim=1).permute(2, 3, 4, 0, 1) + torch.eye(3)
    return float(torch.linalg.det(derivative).min())
