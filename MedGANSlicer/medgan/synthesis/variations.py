"""Variations of one volume: what is coarse stays, what is fine is put together anew from the volume's own patches.

First the volume is moved by a random smooth map that can be undone, by less than what is coarse. Then a generative
model of a single volume, in the manner of GPNN (Granot et al. 2022, arXiv 2103.15545), which makes better variations of
one image than a generator that is trained on it (SinGAN, Shaham et al. 2019, 1905.01164), in seconds instead of an
hour: from coarse to fine, every place of the growing volume looks for the patch of the real one that fits best what is
there already, and takes its fine detail. The search is PatchMatch (Barnes et al. 2009): offsets found by neighbours,
and random ones near by. The place itself and its nearest surroundings are no candidates, and the guess is disturbed at
random, so that each seed finds other patches.

Arrays are [k, j, i]; centres of patches lie on every second voxel; C centres; offsets (C, 3) lead from a centre to the
middle of the patch that was found for it, in voxels of the scale.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.grids import grid_difference
from medgan.inference import fill_not_finite, robust_normalisation
from medgan.noise import padding_as_air
from medgan.progress import Progress, part
from medgan.settings import SynthesizeSettings
from medgan.synthesis.labels_shape import Deformation, moved, random_deformation
from medgan.synthesis.scan import Run
from medgan.volume import LabelMap, Volume

STRIDE = 2
"""Voxels between centres, and between the voxels of a patch that are compared: the guess holds nothing finer."""

REACH = 2
"""Voxels from the middle of a patch to its side."""

ROUNDS = 4
JUMPS = (4, 1)
RANDOM = 2
"""Rounds of the search at each scale. In each: what centres so far away along each axis have found, and random
candidates about what was found and in all of the reach."""

NEAR = 3
"""Offsets shorter than this in voxels are no candidates: the volume would only be copied."""

FARTHEST = 24
"""How far away a patch may come from at first, in voxels of the volume; later ones are nearer to what was found."""

DISTURBED = 0.5
"""Noise on the guess, in local standard deviations of the detail that is missing there."""

MOVED = 0.75
"""How far the volume is moved (root mean square), as a share of what is coarse, unless the settings say."""

MOST_GAIN = 2.0

SHORTEST_SIDE = 16
SLAB = 16
CHUNK = 100_000
"""Centres that are looked at together, for the memory."""


class Clock:
    """Whether the time for one volume is up; never, where none was given."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60.0 * minutes if minutes else math.inf
        self.stopped = False

    def up(self) -> bool:
        self.stopped = self.stopped or time.monotonic() > self.end
        return self.stopped


def varied(
    inputs: Mapping[str, Volume | LabelMap], settings: SynthesizeSettings, seed: int, run: Run, progress: Progress
) -> tuple[Volume, LabelMap | None, dict[str, Any]]:
    """A variation of ``inputs["volume"]`` on its grid and in its unit; its labels, if ``inputs["labels"]`` holds some
    (moved with the volume; patches keep to what is coarse there); and what is to be said of it.

    The same seed gives the same voxels, unless time ran out (``settings.minutes``). Raises ``ValueError``.
    """
    volume, labels = inputs.get("volume"), inputs.get("labels")
    if not isinstance(volume, Volume):
        raise ValueError("Variations need a scalar volume, given as 'volume'.")
    if min(volume.shape) < SHORTEST_SIDE:
        shape = " x ".join(str(n) for n in reversed(volume.shape))
        raise ValueError(f"Variations need {SHORTEST_SIDE} voxels along every axis; this volume has {shape}.")
    if isinstance(labels, LabelMap):
        differs = grid_difference(labels.shape, labels.ijk_to_ras, volume.shape, volume.ijk_to_ras)
        if differs:
            raise ValueError(f"Volume and label map lie on two grids ({differs}); resample one of them onto the other.")
    if max(settings.coarse_mm / step for step in volume.spacing_mm) <= 1.0:
        raise ValueError(
            f"Nothing in this volume is finer than {settings.coarse_mm:g} mm; set 'coarse_mm' to more than "
            f"{min(volume.spacing_mm):.3g}, the side of its voxels."
        )
    filled, broken = fill_not_finite(volume.array)
    filled = padding_as_air(filled)  # what is moved and made anew fits no circle that a scanner saw
    if not float(np.ptp(filled)) > 0:
        raise ValueError("The volume is the same everywhere; there is nothing to vary.")
    normal = robust_normalisation(filled)
    real = torch.from_numpy(normal.apply(filled))
    clock = Clock(settings.minutes)
    spacing = volume.spacing_mm[::-1]
    shapes = scales(volume.shape, spacing, settings.coarse_mm)
    amount = settings.deformation_mm or MOVED * settings.coarse_mm
    deformation = random_deformation(volume.shape, spacing, amount, np.random.default_rng([seed, 1]))
    bent = sampled_at(real, deformation, spacing)
    made = _grown(bent, shapes, seed, clock, progress)
    result = np.clip(normal.invert(made.numpy()), filled.min(), filled.max())
    result = np.where(broken, volume.array, result).astype(np.float32)
    if broken.any():
        run.told.append(f"{int(broken.sum())} voxels of the input are NaN or infinite; they stay so.")
    if clock.stopped:
        run.told.append(
            "The time was up before the search had ended, so the same seed may give other voxels the next time; "
            "0 minutes let it take all the time it needs."
        )
    bent_labels = None
    if isinstance(labels, LabelMap):
        bent_labels = moved(labels, deformation)
    said = {"intensity_unit": "that of the input", "folding": deformation.report(), **likeness(made, bent, shapes)}
    return volume.like(result), bent_labels, said


def scales(shape: Sequence[int], spacing_mm: Sequence[float], coarse_mm: float) -> list[list[int]]:
    """Shapes of the grids from the coarsest, of ``coarse_mm``, to that of the volume; each twice as fine."""
    found, step = [list(shape)], min(spacing_mm)
    while step < 0.75 * coarse_mm:
        step *= 2.0
        wide = min(step, coarse_mm) if 2.0 * step > coarse_mm else step
        found.append(
            [max(SHORTEST_SIDE // 2, min(n, round(n * own / wide))) for n, own in zip(shape, spacing_mm, strict=True)]
        )
    return found[::-1]


def likeness(made: Tensor, real: Tensor, shapes: list[list[int]]) -> dict[str, float]:
    """Correlation of the variation with the moved volume: of what is coarse, and of the rest."""
    coarse = [resized(each, shapes[0]) for each in (made, real)]
    fine = [each - resized(low, shapes[-1]) for each, low in zip((made, real), coarse, strict=True)]
    return {"coarse_correlation": _correlation(*coarse), "fine_correlation": _correlation(*fine)}


def _correlation(one: Tensor, other: Tensor) -> float:
    return round(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]), 4)


def resized(array: Tensor, shape: Sequence[int]) -> Tensor:
    """An array on a grid of another shape over the same box: averaged where it is coarser, else interpolated."""
    if list(array.shape) == list(shape):
        return array
    k, j, i = (min(own, new) for own, new in zip(array.shape, shape, strict=True))
    low = F.adaptive_avg_pool3d(array[None, None], (k, j, i))
    return F.interpolate(low, size=tuple(shape), mode="trilinear", align_corners=False)[0, 0]


def sampled_at(real: Tensor, deformation: Deformation, spacing_mm: Sequence[float]) -> Tensor:
    """A volume (D, H, W) where a deformation takes it from, linear between voxels; at its edge the outermost go on."""
    result, shape = torch.empty_like(real), real.shape
    field = torch.from_numpy(deformation.field_mm)[None]
    wide = F.interpolate(field, size=tuple(shape), mode="trilinear", align_corners=True)[0]
    for first in range(0, shape[0], SLAB):
        last = min(shape[0], first + SLAB)
        axes = torch.meshgrid(torch.arange(first, last), *(torch.arange(n) for n in shape[1:]), indexing="ij")
        places = [
            (2.0 * (at + wide[axis, first:last] / spacing_mm[axis]) / max(shape[axis] - 1, 1) - 1.0)
            for axis, at in enumerate(axes)
        ]
        grid = torch.stack(places[::-1], dim=-1)[None]
        result[first:last] = F.grid_sample(real[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    return result


def _grown(real: Tensor, shapes: list[list[int]], seed: int, clock: Clock, progress: Progress) -> Tensor:
    """The variation (D, H, W) of a volume."""
    rng = torch.Generator().manual_seed(seed)
    coarsest = resized(real, shapes[0])
    made = coarsest
    sizes = np.array([math.prod(shape) for shape in shapes[1:]], float)
    ends = [0.0, *np.cumsum(sizes / sizes.sum())]
    for number, (coarser, shape) in enumerate(pairwise(shapes)):
        target = resized(real, shape)
        known = resized(resized(real, coarser), shape)
        guess = resized(made, shape)
        missing = target - known
        local = resized(missing.square(), coarser).clamp_min(0.0).sqrt()
        disturbance = resized(DISTURBED * local * torch.randn(local.shape, generator=rng), shape)
        reach = max(NEAR + 1, round(FARTHEST / 2 ** (len(shapes) - 2 - number)))
        share = part(progress, ends[number], ends[number + 1])
        offsets = found_offsets(guess + disturbance, known, reach, rng, clock, share)
        detail, power = carried(missing, offsets), carried(missing.square(), offsets)
        made = guess + detail * _gain(detail, power, coarser)
        made = made + resized(coarsest - resized(made, shapes[0]), shape)
    return made


def _gain(detail: Tensor, power: Tensor, coarser: Sequence[int]) -> Tensor:
    """What gives detail the local power back that blending patches took from it."""
    left = resized(resized(detail.square(), coarser), detail.shape)
    meant = resized(resized(power, coarser), detail.shape)
    return (meant / left.clamp_min(1e-12)).sqrt().clamp(1.0, MOST_GAIN)


def found_offsets(
    guess: Tensor, known: Tensor, reach: int, rng: torch.Generator, clock: Clock, progress: Progress
) -> Tensor:
    """(a, b, c, 3) for each centre in ``guess`` the offset of a patch in ``known`` that fits it."""
    shape = guess.shape
    centres = torch.stack(torch.meshgrid(*(middles(n) for n in shape), indexing="ij"), dim=-1)
    grid = centres.shape[:3]
    steps = torch.tensor([-REACH, 0, REACH])
    within = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).view(-1, 3)
    strides = torch.tensor([shape[1] * shape[2], shape[2], 1])
    inside = (within * strides).sum(dim=1)
    wanted = guess.reshape(-1)[(centres.view(-1, 3) * strides).sum(dim=1)[:, None] + inside]
    limits = torch.tensor([[min(REACH, n // 2), max(n - 1 - REACH, n // 2)] for n in shape])
    flat = known.reshape(-1)

    def cost(offsets: Tensor) -> tuple[Tensor, Tensor]:
        """What offsets (C, 3) cost, and what they are within the volume."""
        at = (centres.view(-1, 3) + offsets).clamp(limits[:, 0], limits[:, 1])
        offsets = at - centres.view(-1, 3)
        first = (at * strides).sum(dim=1)
        costs = torch.cat([
            (flat[start[:, None] + inside] - own).square().mean(dim=1)
            for start, own in zip(first.split(CHUNK), wanted.split(CHUNK), strict=True)
        ])  # fmt: skip
        costs[offsets.abs().amax(dim=1) < NEAR] = math.inf
        return costs, offsets

    def some(width: int) -> Tensor:
        return torch.randint(-width, width + 1, (len(wanted), 3), generator=rng)

    costs, best = cost(some(reach))
    for number in range(ROUNDS):
        progress(number / ROUNDS, "Looking for patches that fit")
        width = max(NEAR, reach >> number)
        jumps = [(way * step, axis) for step in JUMPS for axis in range(3) for way in (1, -1)]
        for way, axis in jumps + [(0, 0)] * RANDOM + [(0, 1)] * RANDOM:
            if way:
                proposed = best.view(*grid, 3).roll(way, axis).reshape(-1, 3)
            else:
                proposed = some(reach) if axis else best + some(width)
            if clock.up():
                return best.view(*grid, 3)
            new, offsets = cost(proposed)
            better = new < costs
            costs = torch.where(better, new, costs)
            best = torch.where(better[:, None], offsets, best)
    return best.view(*grid, 3)


def middles(count: int) -> Tensor:
    """The centres along an axis: one for every two voxels, so far inside that a patch fits."""
    first, last = min(REACH, count // 2), max(count - 1 - REACH, count // 2)
    return (torch.arange((count + 1) // STRIDE) * STRIDE).clamp(first, last)


def carried(detail: Tensor, offsets: Tensor) -> Tensor:
    """(D, H, W) the detail that the patches bring along: at each voxel of the nearest centre along each axis 3/4, and
    1/4 of the next one. (More overlap would average the noise away.)"""
    shape, result = detail.shape, torch.zeros_like(detail)
    owns, nexts, places = [], [], []
    for axis, count in enumerate(shape):
        at = torch.arange(count)
        own = at // STRIDE
        owns.append(own)
        nexts.append((own + 2 * (at % STRIDE) - 1).clamp(0, offsets.shape[axis] - 1))
        places.append(at.view([-1 if a == axis else 1 for a in range(3)]))
    flat = detail.reshape(-1)
    for which in np.ndindex(2, 2, 2):
        index = [(nexts if other else owns)[axis] for axis, other in enumerate(which)]
        shift = offsets[index[0][:, None, None], index[1][None, :, None], index[2][None, None, :]]
        source = torch.zeros(tuple(shape), dtype=torch.int64)
        for axis, count in enumerate(shape):
            source = source * count + (places[axis] + shift[..., axis]).clamp(0, count - 1)
        result += 0.75 ** (3 - sum(which)) * 0.25 ** sum(which) * flat[source]
    return result
