"""Where the structures of a head usually lie, bent onto what is seen of them: a deformable atlas.

A network that learned for an hour finds the brain in any contrast, its white matter and its ventricles, but not the
border between hippocampus and amygdala. The atlas knows that border and where it lies beside what was found. It is
bent onto the network's answer by an affine map and smooth displacements on two grids of knots; what it then says is
a prior for the brightness of the scan at hand (as in SAMSEG: Puonti et al., NeuroImage 143:235, 2016, with the
network in place of the registration of intensities, so that no contrast is unknown).

Shapes: C classes (the first is all that lies outside the brain), d h w voxels of a view with the axes S, A, R.
Places are -1 to 1 from the first to the last voxel of a view along each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KNOTS = ((7, 8, 7), (12, 14, 12))
"""Knots along the axes of a view, broad bending first."""

ROUNDS = (40, 40, 40)
"""Steps of descent for the affine map, then for the bending of each grid of knots (with all before)."""

STIFFNESS = 0.02
"""Weight of the roughness of the displacements."""

FLOOR = 0.01
"""Probability of every class anywhere, while the atlas is being bent: no voxel may veto."""

TRACE, MARGIN = 0.05, 3
"""Voxels are looked at that are so likely to lie in the brain, and so many voxels around them."""


@dataclass
class Bend:
    """Where the voxels of a view lie in another view of the same extent (mm along S, A, R)."""

    extent_mm: tuple[float, float, float]
    matrix: Tensor
    """(3, 3) added to the identity."""
    shift: Tensor
    """(3,) in units of 100 mm."""
    knots: list[Tensor] = field(default_factory=list)
    """(1, 3, n, n, n) displacements in units of 10 mm."""

    def copied(self, device: torch.device, learns: bool = True) -> Bend:
        """The same bend, its numbers apart from these."""
        parts = [self.matrix, self.shift, *self.knots]
        matrix, shift, *knots = (part.detach().to(device, copy=True).requires_grad_(learns) for part in parts)
        return Bend(self.extent_mm, matrix, shift, knots)

    def places(self, shape: Sequence[int]) -> Tensor:
        """(d, h, w, 3) places for a view of that many voxels."""
        return self.of(own_places(shape, self.matrix.device))

    def of(self, places: Tensor) -> Tensor:
        """Where places (..., 3) of the view lie in the other view."""
        device = self.matrix.device
        half = torch.tensor(self.extent_mm, device=device) / 2
        mm = (places * half) @ (torch.eye(3, device=device) + self.matrix).T + 100.0 * self.shift
        for knots in self.knots:
            mm = mm + 10.0 * at(knots[0], places).movedim(0, -1)
        return mm / half


def own_places(shape: Sequence[int], device: torch.device) -> Tensor:
    """(d, h, w, 3) places of the voxels of a view."""
    axes = [torch.linspace(-1.0, 1.0, n, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def at(view: Tensor, places: Tensor) -> Tensor:
    """(C, ...) values of a view (C, d, h, w) at places (..., 3); beyond the edge those of the edge."""
    points = places.flip(-1).reshape(1, 1, 1, -1, 3)
    found = F.grid_sample(view[None], points, align_corners=True, padding_mode="border")
    return found.reshape(len(view), *places.shape[:-1])


def bend_onto(
    moving: Tensor, fixed: Tensor, extent_mm: Sequence[float], known: Tensor | None = None,
    start: Bend | None = None, rounds: Sequence[int] = ROUNDS,
) -> Bend:  # fmt: skip
    """How probabilities (C, d, h, w) have to be bent to explain others: least cross-entropy, smooth displacements.

    known: (d, h, w), 0 where ``fixed`` says nothing. start: a bend that is nearly right, to which only the last round
    is given. Both views have the same extent. Nothing is random.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(fixed.device.type, enabled=False):
        moving, fixed = moving.detach().float().clone(), fixed.detach().float().clone()
        weight = torch.ones_like(fixed[0]) if known is None else known.float().clone()
        weight = weight / weight.sum()
        device = fixed.device
        # Far from the brain nothing is to be explained.
        close = F.max_pool3d((fixed[:1] < 1.0 - TRACE).float(), 2 * MARGIN + 1, 1, MARGIN)[0] > 0
        points, fixed, weight = own_places(fixed.shape[1:], device)[close], fixed[:, close], weight[close]
        first = start or Bend(tuple(extent_mm), torch.zeros(3, 3), torch.zeros(3))  # type: ignore[arg-type]
        bend = first.copied(device)

        def descend(optimiser: torch.optim.Optimizer, steps: int, later_rate: float = 0.0) -> None:
            for step in range(steps):
                if later_rate and step == 2 * steps // 3:
                    optimiser.param_groups[0]["lr"] = later_rate
                optimiser.zero_grad()
                found = at(moving, bend.of(points))
                loss = -((fixed * torch.log(found + FLOOR)).sum(0) * weight).sum()
                for knots in bend.knots:
                    for axis in (2, 3, 4):
                        loss = loss + STIFFNESS * (knots.diff(dim=axis) * knots.shape[axis] / 8).square().mean()
                loss.backward()
                optimiser.step()

        affine = [bend.matrix, bend.shift]
        if start is not None:
            descend(torch.optim.Adam([{"params": affine, "lr": 0.002}, {"params": bend.knots, "lr": 0.02}]), rounds[-1])
            return bend.copied(device, learns=False)
        descend(torch.optim.Adam(affine, 0.02), rounds[0], later_rate=0.005)
        for count, steps in zip(KNOTS, rounds[1:], strict=False):
            slow = [*affine, *bend.knots]
            bend.knots.append(torch.zeros(1, 3, *count, device=device, requires_grad=True))
            groups = [{"params": slow, "lr": 0.002}, {"params": bend.knots[-1:], "lr": 0.05}]
            descend(torch.optim.Adam(groups), steps)
        return bend.copied(device, learns=False)


class Atlas(nn.Module):
    """Probabilities of C classes in a view of (d, h, w) voxels of ``step_mm``; left and right look alike.

    Kept as one half (the last axis runs from left to right), in 1/255.
    """

    def __init__(self, classes: int, shape: Sequence[int], step_mm: float) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.extent_mm = tuple(n * step_mm for n in shape)
        left = torch.zeros(classes, *shape[:2], shape[2] // 2, dtype=torch.uint8)
        left[0] = 255
        self.register_buffer("left", left)

    def hold(self, probabilities: Tensor) -> None:
        """Take (C, d, h, w) probabilities; both halves count alike."""
        alike = (probabilities + probabilities.flip(3)) / 2
        self.left = (alike[..., : alike.shape[3] // 2] * 255).round().to(torch.uint8)

    def whole(self) -> Tensor:
        """(C, d, h, w) probabilities."""
        left = self.left.float() / 255
        return torch.cat([left, left.flip(3)], 3)

    def bent_onto(self, seen: Tensor, known: Tensor, start: Bend | None = None) -> tuple[Tensor, Bend]:
        """(C, d, h, w) what the atlas says of a view in which probabilities (C, d, h, w) were seen, and how it is bent.

        Looked at in voxels of twice the size. known: (d, h, w), 0 where nothing was seen. start: as in `bend_onto`.
        """
        whole = self.whole()
        # On the processor: a GPU sums the gradient of the knots in no fixed order.
        coarse = [F.avg_pool3d(each[None], 2)[0].cpu() for each in (whole, seen)]
        where = F.avg_pool3d(known[None, None].float(), 2)[0, 0].cpu()
        bend = bend_onto(coarse[0], coarse[1], self.extent_mm, where, start, ROUNDS)
        return at(whole, bend.places(self.shape).to(whole.device)), bend
