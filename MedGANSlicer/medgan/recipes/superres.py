"""Train the super-resolution generator: ``python -m medgan.recipes.superres --data DIR --out DIR --minutes 100``.

Fine patches of real and synthesised volumes are averaged to thick slices along one of their finest axes, with any
ratio from 1.2 to 8, slab or Gaussian slices and gaps between them. How it is trained: see medgan.recipes.training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.degradation import choose, pick, uniform
from medgan.networks.superres import SliceNet
from medgan.recipes.data import Pool, Source, cut
from medgan.recipes.training import parser, run
from medgan.settings import SliceProfile
from medgan.slices import SliceOperator, along, interpolation_error

USUAL_RATIOS = ((2.0, 0.55), (3.0, 0.08), (4.0, 0.15), (5.0, 0.03), (6.0, 0.09), (0.0, 0.10))
"""Ratios and how often they are drawn; 0 stands for any from 1.2 to 8."""

FINE_VOXELS = 40
"""About how many fine voxels a patch has along the axis of the slices."""

FINEST = 1.35
"""An axis counts as finely sampled up to this multiple of the smallest voxel side."""


MOST_KNOWN = 200
"""Sources whose interpolation errors are remembered."""


@dataclass
class SliceBatch:
    """clean (B, 1, F, s, s), its thick slices (B, 1, N, s, s), what interpolation is expected to get wrong (B,), the
    operator between them; names of the sources."""

    clean: Tensor
    thick: Tensor
    expected: Tensor
    operator: SliceOperator
    level: Tensor
    names: list[str]

    @property
    def before(self) -> Tensor:
        restore = torch.from_numpy(self.operator.restore).to(self.thick)
        return torch.einsum("fn,bcnhw->bcfhw", restore, self.thick)

    @property
    def inputs(self) -> tuple[Any, ...]:
        return self.thick, self.expected, self.operator


class SlicePatches:
    """Endless batches of fine patches and their thick slices, the same ones for the same generator state."""

    def __init__(self, pool: Pool, patch: int) -> None:
        self.pool, self.patch = pool, patch
        self.synthesise = pool.synthesise
        self.known: dict[int, dict[tuple[int, int], float]] = {}

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """``size`` patches of different sources and orientations that share one ratio and slice profile."""
        operator = random_operator(generator)
        sources = [self.pool.pick(generator) for _ in range(size)]
        cuts = [self._cut(source, operator, generator) for source in sources]
        clean = torch.stack([box for box, _ in cuts])[:, None]
        expected = torch.tensor([error for _, error in cuts], device=clean.device)
        names = [f"{source.kind} x{round(operator.ratio)}" for source in sources]
        return slice_batch(clean, expected, operator, names)

    def _cut(self, source: Source, operator: SliceOperator, generator: torch.Generator) -> tuple[Tensor, float]:
        """(fine, s, s): slices along one of the source's finest axes, turned and mirrored, in another contrast; and
        the error to be expected of interpolation, with the jitter of a measurement."""
        finest = min(source.spacing_mm)
        axes = [axis for axis, step in enumerate(source.spacing_mm) if step <= FINEST * finest]
        axis = axes[pick(len(axes), generator)]
        sides = [operator.fine if each == axis else self.patch for each in range(3)]
        box = turned(cut(source.array, sides, generator), axis, generator)
        scale = uniform(0.7, 1.2, generator)
        jitter = math.exp(uniform(-0.25, 0.25, generator))
        return scale * box, scale * jitter * self._expected(source, axis, round(operator.ratio))

    def _expected(self, source: Source, axis: int, ratio: int) -> float:
        """The measured error of interpolation between slices of a source that are so thick."""
        key = (axis, ratio)
        known: dict[tuple[int, int], float] = self.known.setdefault(id(source), {})
        if len(self.known) > 2 * MOST_KNOWN:
            self.known = {id(source): known}
        if key not in known:
            array = source.array.cpu().numpy()
            start = [max(0, side // 2 - 48) for side in array.shape]
            middle = array[tuple(slice(first, first + 96) for first in start)]
            count = middle.shape[axis] // ratio
            if count < 4:
                known[key] = 0.02
            else:
                fine = np.take(middle, range(count * ratio), axis=axis)
                slices = along(SliceOperator(count, count * ratio).measure, fine, axis)
                known[key] = max(1e-4, interpolation_error(slices, axis))
        return known[key]


class OwnSlices:
    """Fine patches of one volume along its sharp axes, and their thick slices: to fit a network to that volume."""

    def __init__(
        self, array: Tensor, sharp_axes: tuple[int, ...], operator: SliceOperator, expected: float, patch: int = 32
    ) -> None:
        self.array, self.axes, self.operator, self.patch = array, sharp_axes, operator, patch
        self.expected = expected

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """``size`` patches, turned and mirrored."""
        boxes = []
        for _ in range(size):
            axis = self.axes[pick(len(self.axes), generator)]
            sides = [self.operator.fine if each == axis else self.patch for each in range(3)]
            boxes.append(turned(cut(self.array, sides, generator), axis, generator))
        clean = torch.stack(boxes)[:, None]
        expected = torch.full((size,), self.expected, device=clean.device)
        return slice_batch(clean, expected, self.operator, ["own"] * size)

    def synthesise(self, count: int, keep: int, seed: int) -> None:
        """There is nothing to synthesise: the volume is all there is."""


def slice_batch(clean: Tensor, expected: Tensor, operator: SliceOperator, names: list[str]) -> SliceBatch:
    """Fine patches (B, 1, F, s, s) with their thick slices."""
    thick = torch.einsum("nf,bcfhw->bcnhw", torch.from_numpy(operator.measure).to(clean), clean)
    return SliceBatch(clean, thick, expected, operator, torch.ones(len(names), device=clean.device), names)


def turned(box: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    """A box with ``axis`` in front, the other two in either order, mirrored at random."""
    others = [each for each in range(3) if each != axis]
    if uniform(0, 1, generator) < 0.5:
        others.reverse()
    return box.permute(axis, *others).flip([each for each in range(3) if uniform(0, 1, generator) < 0.5])


def random_operator(generator: torch.Generator) -> SliceOperator:
    """Thick slices as scanners make them: mostly touching slabs, some with gaps or soft edges."""
    ratio = choose(USUAL_RATIOS, generator) or math.exp(uniform(math.log(1.2), math.log(8.0), generator))
    coarse = min(16, max(6, round(FINE_VOXELS / ratio)))
    width = 1.0 if uniform(0, 1, generator) < 0.7 else uniform(0.6, 1.0, generator)
    profile = SliceProfile.BOXCAR if uniform(0, 1, generator) < 0.75 else SliceProfile.GAUSSIAN
    return SliceOperator(coarse, round(coarse * ratio), width, profile)


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__ or "", 34, "side in pixels of a slice of a patch; 2 more than a multiple of 4").parse_args(
        arguments
    )
    run(options, SliceNet, lambda sources, maps, device: SlicePatches(Pool(sources, maps, device), options.patch))


if __name__ == "__main__":
    main()
