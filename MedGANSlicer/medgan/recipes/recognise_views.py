"""Random views of scans as stacks of slices: what recognition is trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import bias_field, choose, gaussian_blur, normal, pick, uniform
from medgan.networks.recognise import SIDE
from medgan.recipes.recognise_scans import HEADS, Example, answer
from medgan.recognition.slices import brightness, cues, fitted

SLICES = 6


@dataclass
class View:
    """One training example: slices (S, SIDE, SIDE), cues (CUES,), the probabilities of the answers by head for the
    volume and for each slice, and (S,) how much each slice counts."""

    slices: Tensor
    cues: Tensor
    volume: dict[str, Tensor]
    each: dict[str, Tensor]
    weight: Tensor


def view_of(example: Example, generator: torch.Generator, plain: bool = False) -> View:
    """A stack of slices of an example. ``plain``: as inference looks at it, with random slices and directions alone."""
    rand = lambda low, high: uniform(low, high, generator)  # noqa: E731
    axis = choose([(0, 0.5), (1, 0.25), (2, 0.25)], generator)
    ranges = _range(example, axis, plain, generator)
    start, stop = ranges[axis].start, ranges[axis].stop
    edges = np.sort([rand(0, 0.12), rand(0.88, 1.0)]) * (stop - start)
    offsets = np.linspace(edges[0], max(edges[1] - 1, edges[0]), SLICES)
    chosen = np.clip(start + np.round(offsets + [rand(-0.4, 0.4) for _ in range(SLICES)]), start, stop - 1).astype(int)
    rows, columns = (part for n, part in enumerate(ranges) if n != axis)
    moved = example.array.movedim(axis, 0)[:, rows, columns]
    slices = moved[torch.from_numpy(chosen)]
    if not (plain or example.labels) and rand(0, 1) < 0.25:  # thick slices
        thick = 1 + pick(max(1, min(6, (stop - start) // SLICES + 1)), generator)
        slices = torch.stack([moved[max(0, n - thick // 2) : n - thick // 2 + thick].mean(dim=0) for n in chosen])
    slices, told = _in_some_unit(slices, example, plain, generator)
    steps = [step for n, step in enumerate(example.spacing_mm) if n != axis]
    if not plain:
        steps = [steps[0] * math.exp(rand(-0.12, 0.12)), steps[1]]
    looks = fitted(brightness(slices), steps)
    weight = ((looks > 0.04).float().mean(dim=(1, 2)) > 0.02).float()
    if not plain:
        looks = _worse(looks, example.labels, generator)
    looks = _turned(looks, plain, generator)
    region = example.region[ranges[0]] if axis else example.region[torch.from_numpy(chosen)]
    each = {
        "kind": example.kind.expand(SLICES, -1),
        "region": region.mean(dim=0).expand(SLICES, -1) if axis else region,
    }
    plane = answer("plane", HEADS["plane"][axis] if example.plane else "")
    each["plane"] = plane.expand(SLICES, -1)
    if rand(0, 1) < 0.5:
        looks, weight, each["region"] = looks.flip(0), weight.flip(0), each["region"].flip(0)
    volume = {"kind": example.kind, "region": each["region"].mean(dim=0), "plane": plane}
    untold = not plain and rand(0, 1) < 0.25
    return View(looks.clamp(0, 1), torch.zeros(4) if untold else torch.tensor(told), volume, each, weight)


def _range(example: Example, axis: int, plain: bool, generator: torch.Generator) -> list[slice]:
    """The part of the example that is looked at: around the body or all of it, or a random part of that."""
    whole = tuple(slice(0, side) for side in example.array.shape)
    ranges = list(example.box if plain or uniform(0, 1, generator) < 0.65 else whole)
    if plain or uniform(0, 1, generator) < 0.6:
        return ranges
    for n, part in enumerate(ranges):
        length = part.stop - part.start
        kept = max(min(length, 6), round(length * uniform(0.35 if n == axis else 0.65, 1.0, generator)))
        first = part.start + pick(length - kept + 1, generator)
        ranges[n] = slice(first, first + kept)
    return ranges


def _in_some_unit(
    slices: Tensor, example: Example, plain: bool, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """The slices as a file may hold them (windowed CT, values exchanged, another unit) and the cues of that."""
    flat = example.flat if plain else min(1.0, example.flat * math.exp(uniform(-0.15, 0.15, generator)))
    use = 1.0 if plain else uniform(0, 1, generator)
    if example.hounsfield:
        if use < 0.4:
            middle, width = uniform(-150, 120, generator), uniform(250, 2200, generator)
            slices = slices.clamp(middle - width / 2, middle + width / 2)
            if use < 0.2:  # saved as a picture
                slices = slices - slices.min()
        elif use < 0.55:
            slices = slices + 1024.0
        else:
            slices = slices.clamp(-1024.0, uniform(1200, 3071, generator))
    elif example.labels and use < 0.5:
        values, index = torch.unique(slices, return_inverse=True)
        fresh = torch.rand(len(values), generator=generator)
        fresh[0] = 0.0
        slices = (fresh if use < 0.4 else (fresh > 0.6).float())[index]
    elif use < 0.12:  # far from its own unit
        spread = slices.std().clamp_min(1e-6)
        slices = (slices - slices.mean()) / spread * choose([(1.0, 1.0), (300.0, 1.0)], generator)
    return slices, cues(slices.numpy(), flat)


def _worse(looks: Tensor, labels: bool, generator: torch.Generator) -> Tensor:
    """The same slices from another scanner: contrast curve, brightness field, blur, coarse pixels, noise."""
    rand = lambda low, high: uniform(low, high, generator)  # noqa: E731
    looks = looks ** math.exp(rand(-0.3, 0.3))
    if labels:
        return looks
    if rand(0, 1) < 0.3:
        looks = looks * bias_field(looks.shape, rand(0.05, 0.35), generator)
    if rand(0, 1) < 0.25:
        looks = gaussian_blur(looks, [0.0, rand(0.3, 1.6), rand(0.3, 1.6)])
    if rand(0, 1) < 0.12:
        few = int(rand(20, 48))
        looks = F.interpolate(F.interpolate(looks[:, None], size=(few, few), mode="area"), size=(SIDE, SIDE),
                              mode="bilinear", align_corners=False)[:, 0]  # fmt: skip
    if rand(0, 1) < 0.45:
        sigma = math.exp(rand(math.log(0.004), math.log(0.12)))
        noise = normal(looks, generator)
        if rand(0, 1) < 0.3:
            noise = gaussian_blur(noise, [0.0, 0.8, 0.8]) * 2.0
        looks = (looks + sigma * noise).abs()
    return looks / looks.flatten()[::7].quantile(0.995).clamp_min(0.05) if rand(0, 1) < 0.5 else looks


def _turned(looks: Tensor, plain: bool, generator: torch.Generator) -> Tensor:
    """Turned by right angles and a little, mirrored, larger or smaller, moved."""
    rand = lambda low, high: uniform(low, high, generator)  # noqa: E731
    if rand(0, 1) < 0.2:
        looks = looks.rot90(pick(4, generator), (1, 2))
        looks = looks.flip(2) if rand(0, 1) < 0.5 else looks
    elif rand(0, 1) < 0.5:
        looks = looks.flip(2)
    if plain:
        return looks
    angle = math.radians(rand(-15, 15)) if rand(0, 1) < 0.5 else 0.0
    size = rand(0.85, 1.2)
    cos, sin = math.cos(angle) * size, math.sin(angle) * size
    matrix = torch.tensor([[cos, -sin, rand(-0.1, 0.1)], [sin, cos, rand(-0.1, 0.1)]])
    grid = F.affine_grid(matrix[None], [1, 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(looks[None], grid, align_corners=False)[0]
