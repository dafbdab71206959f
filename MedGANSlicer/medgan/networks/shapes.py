"""A model of how heads differ in shape: label maps of latent vectors.

A few label maps of real heads, the bases, are bent by diffeomorphisms. A diffeomorphism is the flow of a smooth
velocity that does not change in time (Arsigny et al. 2006, "A log-Euclidean framework for statistics on
diffeomorphisms"), so whatever is added to a velocity, nothing folds; and the velocities that carry a template to many
heads have principal components (statistical deformation models: Rueckert et al., IEEE TMI 22:1014, 2003).
Nothing of this is learned by descent at run time: :mod:`medgan.recipes.shapes` fits it.

Shapes: K components, B bases, (d, h, w) knots of a velocity, axes superior, anterior, right. Velocities and
displacements are in mm, in that order of axes.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.progress import Progress, part, silent

SQUARINGS = 6
"""Halvings of a velocity before its flow is put together again."""

SHORTEST = 0.3

FLOW_STEP_MM = 3.0
"""Voxels of the grid on which flows are computed."""


class Shape(NamedTuple):
    """labels (D, H, W) int16; the smallest determinant of the deformation's derivative (above 0: no folding); and the
    factor by which the weights were shortened for that."""

    labels: np.ndarray
    smallest_jacobian: float
    shortened: float


class ShapeNet(nn.Module):
    """``shape(latent, step_mm)``: latent (K + B,) standard normal -> a label map of voxels of ``step_mm``.

    The first K numbers weigh the principal components, in standard deviations; the largest of the last B chooses the
    base. ``packed``: sizes in bytes of the compressed bases; ``size_mm``: the box that all lie in, 1 mm voxels.
    """

    mean: Tensor
    modes: Tensor
    scales: Tensor
    own: Tensor
    codes: Tensor

    def __init__(
        self, size_mm: Sequence[int], knots: Sequence[int], components: int, packed: Sequence[int], codes: int
    ) -> None:
        super().__init__()
        self.size_mm = tuple(size_mm)
        self.components, self.bases = components, len(packed)
        self.latent = components + self.bases
        self.register_buffer("mean", torch.zeros(3, *knots))
        self.register_buffer("modes", torch.zeros(components, 3, *knots, dtype=torch.int8))
        self.register_buffer("scales", torch.zeros(components))
        self.register_buffer("own", torch.zeros(self.bases, components))
        self.register_buffer("codes", torch.zeros(codes, dtype=torch.int16))
        for number, count in enumerate(packed):
            self.register_buffer(f"base{number}", torch.zeros(count, dtype=torch.uint8))

    def velocity(self, weights: Tensor) -> Tensor:
        """(3, d, h, w) in mm of K weights in standard deviations."""
        return self.mean + torch.einsum("k,kcdhw->cdhw", weights * self.scales, self.modes.to(self.mean.dtype))

    def base(self, number: int) -> Tensor:
        """(D, H, W) places in ``codes``, uint8, 1 mm voxels."""
        held = getattr(self, f"base{number}").cpu().numpy().tobytes()
        return torch.from_numpy(np.frombuffer(lzma.decompress(held), np.uint8).reshape(self.size_mm).copy())

    def chosen(self, latent: Tensor) -> int:
        """The base that a latent vector asks for."""
        return int(torch.argmax(latent[self.components :]))

    @torch.no_grad()
    def shape(self, latent: Tensor, step_mm: float = 1.0, progress: Progress = silent) -> Shape:
        """The label map of a latent vector; always on the CPU, so that every device gives the same."""
        number = self.chosen(latent)
        coarse = [max(8, round(side / FLOW_STEP_MM)) for side in self.size_mm]
        back = flow(-self.velocity(self.own[number]), coarse, self.size_mm)
        weights, shortened = latent[: self.components].to(self.mean), 1.0
        while True:
            progress(0.1, "Bending the head")
            there = flow(self.velocity(shortened * weights), coarse, self.size_mm)
            moved = composed(back, there, self.size_mm)
            least = smallest_jacobian(moved, self.size_mm)
            if least > 0 or shortened < SHORTEST:
                break
            shortened *= 0.9  # only sampling folds a flow, and only a strong one
        labels = self._carried(moved, number, step_mm, part(progress, 0.3, 1.0))
        return Shape(labels, least, shortened)

    def _carried(self, moved: Tensor, number: int, step_mm: float, progress: Progress) -> np.ndarray:
        """The base where the displacement (3, d, h, w) takes it from, a few slices at a time."""
        base, table = self.base(number), self.codes.cpu().numpy()
        sides = [max(1, round(side / step_mm)) for side in self.size_mm]
        result = np.zeros(sides, np.int16)
        axes = [
            (torch.arange(n) + 0.5) * (length / n) - 0.5 for n, length in zip(sides, self.size_mm, strict=True)
        ]  # of the voxels, in those of the base
        for first in range(0, sides[0], 16):
            own = [axes[0][first : first + 16], axes[1], axes[2]]
            places = torch.stack(torch.meshgrid(*own, indexing="ij"))
            found = places + sampled(moved, places, self.size_mm)
            index, inside = [], torch.ones(places.shape[1:], dtype=torch.bool)
            for axis, side in enumerate(self.size_mm):
                place = found[axis].round().long()
                inside &= (place >= 0) & (place < side)
                index.append(place.clamp(0, side - 1))
            values = torch.where(inside, base[index[0], index[1], index[2]], 0)
            result[first : first + 16] = table[values.numpy()]
            progress(first / sides[0], "Bending the head")
        return result


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
